"""Work on hostile files in processes of their own, each item with a bound on time and memory.

`IsolatedPool` starts modules that end in `serve(handle)` as separate Python programs and sends them requests,
one at a time. A request that hangs, crashes its process or takes too much memory costs itself alone: the
process is killed and replaced. Requests and replies are JSON and bytes over pipes, never pickles: a process
that a file has taken over can say nothing that harms the one that listens.

Bounds on memory: resident memory is watched in the process itself (Linux, macOS), and on Linux the address
space is bounded too, so that no single allocation can outrun the watch. Windows has no bound on memory.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from ocrsmith.errors import ImageError, OcrsmithError

Handle = Callable[[dict[str, Any]], tuple[dict[str, Any], bytes]]
"""Request → answer and bytes. What it raises becomes a `Failure`; an `ImageError` keeps its reason."""

_SIZES = struct.Struct(">QQ")
_MOST_JSON, _MOST_BYTES = 64 << 20, 1 << 30
_OUT_OF_MEMORY_CODE = 77
_START_SECONDS = 120
_GRACE_SECONDS = 5
_WATCH_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class Reply:
    """What a process answered."""

    answer: dict[str, Any]
    data: bytes


@dataclass(frozen=True, slots=True)
class Failure:
    """Why there is no answer."""

    reason: str
    """`timed_out`, `crashed`, `out_of_memory`, or what the process itself found, such as `unreadable`."""
    detail: str


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one request may take."""

    seconds: float = 60.0
    memory: int = 2 << 30
    """Bytes of resident memory, beyond what the process has when it begins."""


class IsolatedPool:
    """Processes that answer requests. Close it, or use it in a `with` block: that kills them.

    Args:
        module: run with `python -m`; it ends in `serve(handle)`.
        workers: how many processes.
        bounds: on each request.
    """

    def __init__(self, module: str, *, workers: int, bounds: Bounds) -> None:
        self._workers = [_Worker(module, bounds) for _ in range(workers)]
        self._free: queue.LifoQueue[_Worker] = queue.LifoQueue()  # the warm one first
        for worker in self._workers:
            self._free.put(worker)
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="isolated")

    def submit(self, request: dict[str, Any]) -> Future[Reply | Failure]:
        """Hands in a request; processes are started when they are first needed."""
        return self._threads.submit(self._run, request)

    def close(self) -> None:
        """Kills the processes; requests under way end as `crashed`."""
        for worker in self._workers:
            worker.stop()
        self._threads.shutdown(wait=True, cancel_futures=True)

    def __enter__(self) -> IsolatedPool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self, request: dict[str, Any]) -> Reply | Failure:
        worker = self._free.get()
        try:
            return worker.run(request)
        finally:
            self._free.put(worker)


class _Worker:
    """One process, replaced when it has died."""

    def __init__(self, module: str, bounds: Bounds) -> None:
        self._module, self._bounds = module, bounds
        self._process: subprocess.Popen[bytes] | None = None
        self._stopped = False
        self._lock = threading.Lock()

    def run(self, request: dict[str, Any]) -> Reply | Failure:
        """Sends a request and waits for the answer, the end of the process, or the end of its time."""
        if self._process is None:
            self._start()
        process = self._process
        if process is None:
            return Failure("crashed", "The work was stopped.")
        late = _Alarm(self._bounds.seconds, process)
        try:
            with late:
                _send(process.stdin, request, b"")
                message, data = _receive(process.stdout)
            result = _result(message, data)
        except (OSError, ValueError, EOFError):
            return self._why(self._end(), late.rang)
        if late.rang or message.get("retire"):
            self._end()
        return result

    def stop(self) -> None:
        """Kills the process for good; may be called while another thread waits in `run`."""
        with self._lock:
            self._stopped = True
            process = self._process
        if process is not None:
            with suppress(OSError):
                process.kill()
            process.wait()

    def _start(self) -> None:
        words = [sys.executable, "-P", "-m", self._module, str(self._bounds.seconds), str(self._bounds.memory)]
        # As the parent sees it, but never the current folder: a foreign `json.py` may lie there.
        paths = os.pathsep.join(path for path in sys.path if path)
        with self._lock:
            if self._stopped:
                return
            self._process = process = subprocess.Popen(
                words,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
                start_new_session=True,  # Ctrl-C reaches the parent alone, which then kills its workers
            )
        try:
            with _Alarm(_START_SECONDS, process):
                _receive(process.stdout)
        except (OSError, ValueError, EOFError) as error:
            code = self._end()
            if self._stopped:
                return
            raise OcrsmithError(
                f"A worker process ended as it began (exit code {code}).",
                place=self._module,
                mend=f"See what it says: {' '.join(words)}",
            ) from error

    def _end(self) -> int:
        """Kills the process if it still runs, takes it off the system's list, and gives its exit code."""
        process, self._process = self._process, None
        assert process is not None
        for stream in (process.stdin, process.stdout):
            with suppress(OSError):
                stream and stream.close()
        try:
            return process.wait(timeout=_GRACE_SECONDS)  # its input is closed: it ends by itself
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()

    def _why(self, code: int, late: bool) -> Failure:
        bounds = self._bounds
        if late or (hasattr(signal, "SIGALRM") and code == -signal.SIGALRM):
            return Failure("timed_out", f"It took more than {bounds.seconds:g} seconds and was given up.")
        if code == _OUT_OF_MEMORY_CODE:
            return Failure("out_of_memory", _too_much(bounds.memory))
        if code < 0:
            try:
                name = signal.Signals(-code).name
            except ValueError:
                name = "unknown"
            hint = "; often for want of memory" if name == "SIGKILL" else ""
            return Failure("crashed", f"The process that read it crashed (signal {-code}, {name}{hint}).")
        return Failure("crashed", f"The process that read it ended without an answer (exit code {code}).")


class _Alarm:
    """Kills a process that is still at work after some seconds."""

    def __init__(self, seconds: float, process: subprocess.Popen[bytes]) -> None:
        self.rang = False
        self._process = process
        self._timer = threading.Timer(seconds, self._ring)
        self._timer.daemon = True

    def _ring(self) -> None:
        self.rang = True
        with suppress(OSError):
            self._process.kill()

    def __enter__(self) -> None:
        self._timer.start()

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        self._timer.join()  # from here on it cannot ring


def _result(message: dict[str, Any], data: bytes) -> Reply | Failure:
    """Raises `ValueError` for what is neither an answer nor a failure."""
    answer, failure = message.get("answer"), message.get("failure")
    if isinstance(answer, dict):
        return Reply(answer, data)
    if isinstance(failure, list) and len(failure) == 2:
        return Failure(str(failure[0]), str(failure[1]))
    raise ValueError("a message is neither an answer nor a failure")


def _too_much(memory: int) -> str:
    return f"It took more than {memory / (1 << 20):,.0f} MiB of memory and was given up."


# The other side: what runs in the process.


def serve(handle: Handle) -> None:
    """Answers requests until there are no more. The end of a worker's module calls this.

    Reads its bounds from the command line. Whatever the libraries print goes nowhere: the pipes carry answers.
    """
    seconds, memory = float(sys.argv[1]), int(sys.argv[2])
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 0)
    os.dup2(nowhere, 1)
    begun = _resident()
    _bound_memory(begun, memory)
    _send(replies, {"ready": True}, b"")
    while True:
        try:
            request, _ = _receive(requests)
        except EOFError:
            break
        _set_alarm(seconds + _GRACE_SECONDS)
        try:
            answer, data = handle(request)
            reply: dict[str, Any] = {"answer": answer}
        except Exception as error:  # parsers raise whatever the damage causes
            reply, data = {"failure": _describe(error, memory)}, b""
        _set_alarm(0)
        # What parsers keep from page to page must not count against the pages to come.
        reply["retire"] = _resident() - begun > memory // 2
        _send(replies, reply, data)
    os._exit(0)  # at once: nothing here is worth tidying up, and a library may hang in it


def _describe(error: Exception, memory: int) -> tuple[str, str]:
    if isinstance(error, MemoryError):
        return "out_of_memory", _too_much(memory)
    if isinstance(error, OcrsmithError):
        reason = error.reason if isinstance(error, ImageError) else "unreadable"
        return reason, error.problem if error.mend is None else f"{error.problem} {error.mend}"
    text = " ".join(str(error).split())[:200]
    return "unreadable", f"It cannot be parsed: {type(error).__name__}" + (f": {text}." if text else ".")


def _set_alarm(seconds: float) -> None:
    """Has the system end this process, should the parent be gone and the work hang. 0 takes it back."""
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, seconds)


def _bound_memory(begun: int, memory: int) -> None:
    try:
        import resource
    except ImportError:  # Windows
        return
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    statm = Path("/proc/self/statm")
    if statm.exists():
        virtual = int(statm.read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (virtual + 2 * memory, virtual + 2 * memory))
    threading.Thread(target=_watch, args=(begun + memory, os.getppid()), daemon=True).start()


def _watch(limit: int, parent: int) -> None:
    """Ends this process when it has grown too large, or when its parent was killed and nobody waits for it."""
    while _resident() <= limit:
        if os.getppid() != parent:
            os._exit(0)
        time.sleep(_WATCH_SECONDS)
    os._exit(_OUT_OF_MEMORY_CODE)


def _resident() -> int:
    """Bytes of resident memory: now on Linux, at most so far elsewhere, 0 on Windows."""
    try:
        import resource
    except ImportError:
        return 0
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * resource.getpagesize()
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


def _send(stream: IO[bytes] | None, message: dict[str, Any], data: bytes) -> None:
    assert stream is not None
    head = json.dumps(message).encode()
    stream.write(_SIZES.pack(len(head), len(data)) + head)
    stream.write(data)
    stream.flush()


def _receive(stream: IO[bytes] | None) -> tuple[dict[str, Any], bytes]:
    """The next message.

    Raises:
        EOFError: there is none, or not all of it.
        ValueError: it is not one of ours.
    """
    assert stream is not None
    head_size, data_size = _SIZES.unpack(_read(stream, _SIZES.size))
    if head_size > _MOST_JSON or data_size > _MOST_BYTES:
        raise ValueError("a message is too long")
    message = json.loads(_read(stream, head_size))
    if not isinstance(message, dict):
        raise ValueError("a message is no object")
    return message, _read(stream, data_size)


def _read(stream: IO[bytes], size: int) -> bytes:
    data = stream.read(size)
    if len(data) < size:
        raise EOFError
    return data
