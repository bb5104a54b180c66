"""vLLM as a process of ours: started, watched, ended; its last words kept."""

from __future__ import annotations

import asyncio
import re
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

KEPT_LINES = 200
SHOWN_LINES = 20
GRACE = 10.0
CLOSE_SECONDS = 20.0
"""Longest wait for the keeper, which kills what does not end, before it is killed itself."""
_KEEPER = "ocrsmith.serving.vllm.keeper"
_ESCAPES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_MEMORY = re.compile(
    r"out of memory|OutOfMemoryError|Cannot allocate memory|No available memory for the cache"
    r"|Free memory on device|larger than the (?:available|maximum number of tokens)|kv cache memory",
    re.IGNORECASE,
)
_ERROR = re.compile(r"(?:^|\s)((?:\w+\.)*\w*(?:Error|Exception)): (.+)")


class VllmProcess:
    """One run of a command, by way of a keeper: it ends when this process ends, however that ends.

    All methods are called on one event loop.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        environment: Mapping[str, str] | None = None,
        on_line: Callable[[str], None] | None = None,
        on_exit: Callable[[int], None] | None = None,
        grace: float = GRACE,
    ) -> None:
        """
        Args:
            command: the program and its arguments.
            environment: None: this process's.
            on_line: gets each line that it writes.
            on_exit: gets its exit code when it ends without having been closed.
            grace: seconds that it has to end by itself before it is killed.
        """
        self._command, self._environment = list(command), environment
        self._on_line, self._on_exit = on_line, on_exit
        self._grace = grace
        self._lines: deque[str] = deque(maxlen=KEPT_LINES)
        self._keeper: asyncio.subprocess.Process | None = None
        self._watching: asyncio.Task[None] | None = None
        self._closed = False
        self.code: int | None = None
        """Its exit code once it has ended; 128 + n after signal n."""

    async def start(self) -> None:
        """Starts the command. Raises OSError where the system refuses a new process."""
        self._keeper = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            _KEEPER,
            str(self._grace),
            *self._command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C in a terminal is for us: requests under way may end first
            env=None if self._environment is None else dict(self._environment),
        )
        self._watching = asyncio.create_task(self._watch(self._keeper))

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._keeper is not None and self.code is None

    @property
    def last_lines(self) -> list[str]:
        """What it wrote last."""
        return list(self._lines)[-SHOWN_LINES:]

    async def close(self) -> None:
        """Ends it and all its helpers: asked first, killed after a while."""
        self._closed = True
        keeper, watching = self._keeper, self._watching
        if keeper is None or watching is None:
            return
        if keeper.stdin is not None:
            keeper.stdin.close()
        try:
            await asyncio.wait_for(asyncio.shield(watching), CLOSE_SECONDS)
        except TimeoutError:
            with suppress(ProcessLookupError):
                keeper.kill()
            await watching

    def why(self) -> tuple[str, str]:
        """Why it ended, and what to do about it: a sentence each, made of its last lines."""
        if any(_MEMORY.search(line) for line in self._lines):
            return (
                "vLLM ran out of memory",
                "Give it more of the GPU with --gpu-memory-utilization, or lower --batch-size; other programs "
                "may hold memory (nvidia-smi).",
            )
        if self.code == 137:  # SIGKILL
            return (
                "vLLM was killed, most likely since main memory ran out",
                "Free memory, or add some.",
            )
        errors = [match for line in self._lines if (match := _ERROR.search(line))]
        told = next((match for match in errors if match[1] != "RuntimeError"), errors[-1] if errors else None)
        reason = f"{told[1]}: {told[2].strip()[:300]}" if told else f"exit code {self.code}"
        if told and told[1] in ("ImportError", "ModuleNotFoundError"):
            return f"vLLM cannot be loaded ({reason})", "Mend the installation: pip install 'ocrsmith[vllm]'"
        return (
            f"vLLM ended ({reason})",
            "Its last lines are above; --print shows its command.",
        )

    async def _watch(self, keeper: asyncio.subprocess.Process) -> None:
        """Takes its lines until it ends."""
        rest = b""
        while keeper.stdout is not None and (data := await keeper.stdout.read(65536)):
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                self._take(line)
            if len(rest) > 65536:
                self._take(rest)
                rest = b""
        self._take(rest)
        self.code = await keeper.wait()
        if not self._closed and self._on_exit is not None:
            self._on_exit(self.code)

    def _take(self, line: bytes) -> None:
        text = _ESCAPES.sub("", line.decode("utf-8", "replace")).rstrip()
        if text:
            self._lines.append(text)
            if self._on_line is not None:
                self._on_line(text)
