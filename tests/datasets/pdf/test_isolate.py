"""Processes that hang, crash, eat memory or lie: each costs its own request, and none outlives the pool."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ocrsmith.datasets.pdf.isolate import Bounds, Failure, IsolatedPool, Reply
from ocrsmith.errors import OcrsmithError

PLANTED = """
import os, sys, time
from ocrsmith.datasets.pdf.isolate import serve
from ocrsmith.errors import ImageError

def handle(request):
    what = request["do"]
    if what == "sleep":
        time.sleep(1000)
    if what == "spin":
        while True:
            pass
    if what == "abort":
        os.abort()
    if what == "segv":
        import ctypes
        ctypes.string_at(0)
    if what == "exit":
        os._exit(3)
    if what == "grow":
        kept = []
        while True:
            kept.append(bytearray(1 << 20))
    if what == "leap":
        bytearray(1 << 40)
    if what == "keep":
        global held
        held = bytearray(request["size"])
    if what == "raise":
        raise RuntimeError("a page made for no parser")
    if what == "refuse":
        raise ImageError("It cannot be read.", reason="encrypted", mend="Give its password.")
    if what == "print":
        print("noise", flush=True)
        os.write(1, b"more noise")
        sys.stderr.write("and more")
    return {"pid": os.getpid()}, b"x" * request.get("bytes", 0)

if __name__ == "__main__":
    serve(handle)
"""

PoolMaker = Callable[..., IsolatedPool]


@pytest.fixture
def pool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PoolMaker]:
    (tmp_path / "planted.py").write_text(PLANTED)
    monkeypatch.syspath_prepend(tmp_path)
    opened = []

    def make(workers: int = 1, seconds: float = 30, memory: int = 256 << 20) -> IsolatedPool:
        opened.append(IsolatedPool("planted", workers=workers, bounds=Bounds(seconds, memory)))
        return opened[-1]

    yield make
    for one in opened:
        one.close()


def ask(pool: IsolatedPool, what: str, **more: Any) -> Reply | Failure:
    return pool.submit({"do": what, **more}).result(timeout=100)


def process_of(pool: IsolatedPool) -> int:
    found = ask(pool, "answer")
    assert isinstance(found, Reply)
    return int(found.answer["pid"])


def is_alive(process: int) -> bool:
    """A zombie counts as alive: it has not been taken off the system's list."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def test_requests_are_answered_by_one_process_after_the_other(pool: PoolMaker) -> None:
    one = pool()
    found = ask(one, "answer", bytes=5_000_000)
    assert isinstance(found, Reply)
    assert found.data == b"x" * 5_000_000
    assert found.answer["pid"] == process_of(one) != os.getpid()


@pytest.mark.parametrize("what", ["sleep", "spin"])
def test_a_hang_costs_its_own_request(pool: PoolMaker, what: str) -> None:
    one = pool(seconds=1)
    before = process_of(one)
    found = ask(one, what)
    assert found == Failure("timed_out", "It took more than 1 seconds and was given up.")
    assert process_of(one) != before
    assert not is_alive(before)


@pytest.mark.parametrize(
    ("what", "words"),
    [("abort", "SIGABRT"), ("segv", "SIGSEGV"), ("exit", "ended without an answer (exit code 3)")],
)
def test_a_crash_costs_its_own_request(pool: PoolMaker, what: str, words: str) -> None:
    one = pool()
    before = process_of(one)
    found = ask(one, what)
    assert isinstance(found, Failure)
    assert found.reason == "crashed"
    assert words in found.detail
    assert process_of(one) != before
    assert not is_alive(before)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no bound on memory")
@pytest.mark.parametrize("what", ["grow", "leap"])
def test_too_much_memory_costs_its_own_request(pool: PoolMaker, what: str) -> None:
    one = pool(memory=128 << 20)
    found = ask(one, what)
    assert found == Failure("out_of_memory", "It took more than 128 MiB of memory and was given up.")
    assert isinstance(ask(one, "answer"), Reply)


def test_what_parsers_keep_does_not_count_against_the_next_page(pool: PoolMaker) -> None:
    one = pool(memory=128 << 20)
    processes = set()
    for _ in range(3):
        found = ask(one, "keep", size=80 << 20)
        assert isinstance(found, Reply)
        processes.add(found.answer["pid"])
    assert len(processes) == 3  # each was retired after it had kept too much


def test_what_the_handler_raises_becomes_a_reason(pool: PoolMaker) -> None:
    one = pool()
    before = process_of(one)
    assert ask(one, "raise") == Failure(
        "unreadable", "It cannot be parsed: RuntimeError: a page made for no parser."
    )
    assert ask(one, "refuse") == Failure("encrypted", "It cannot be read. Give its password.")
    assert process_of(one) == before


def test_what_libraries_print_does_not_spoil_the_answers(pool: PoolMaker) -> None:
    one = pool()
    assert isinstance(ask(one, "print"), Reply)
    assert isinstance(ask(one, "print"), Reply)


def test_the_good_ones_among_the_bad_are_all_answered(pool: PoolMaker) -> None:
    one = pool(workers=2, seconds=1)
    jobs = ["answer", "sleep", "answer", "abort", "answer", "raise", "answer", "exit", "answer"]
    futures = [one.submit({"do": job}) for job in jobs]
    found = [future.result(timeout=100) for future in futures]
    assert [isinstance(item, Reply) for item in found] == [job == "answer" for job in jobs]


def test_closing_kills_what_is_at_work(pool: PoolMaker) -> None:
    one = pool(workers=2)
    before = process_of(one)
    futures = [one.submit({"do": "sleep"}) for _ in range(5)]
    time.sleep(0.1)
    start = time.monotonic()
    one.close()
    assert time.monotonic() - start < 20  # far less than the 30 seconds a request may take
    assert not is_alive(before)
    assert all(future.cancelled() or isinstance(future.result(), Failure) for future in futures)


def test_a_process_that_lies_is_killed_and_believed_nothing(tmp_path: Path, pool: PoolMaker) -> None:
    """What a taken-over process may send: garbage, huge lengths, pickles."""
    for number, bytes_sent in enumerate((b"\xff" * 64, b"\0" * 16, b"\x80\x04cos\nsystem\n(S'touch x'\ntR.")):
        (tmp_path / f"liar{number}.py").write_text(
            textwrap.dedent(f"""
            import os, sys, time
            head = b'{{"ready": true}}'
            os.write(1, len(head).to_bytes(8, "big") + bytes(8) + head)
            sys.stdin.buffer.read(20)
            os.write(1, {bytes_sent!r})
            """)
        )
        with IsolatedPool(f"liar{number}", workers=1, bounds=Bounds(5, 1 << 30)) as one:
            found = ask(one, "answer")
        assert isinstance(found, Failure)
        assert found.reason == "crashed"


def test_a_module_that_does_not_start_is_named(tmp_path: Path, pool: PoolMaker) -> None:
    (tmp_path / "broken.py").write_text("raise SystemExit(9)")
    with (
        IsolatedPool("broken", workers=1, bounds=Bounds()) as one,
        pytest.raises(OcrsmithError, match="ended as it began") as caught,
    ):
        ask(one, "answer")
    assert "-m broken" in str(caught.value)


def test_a_foreign_file_in_the_current_folder_is_not_imported(
    tmp_path: Path, pool: PoolMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "json.py").write_text("raise SystemExit('a foreign json.py ran')")
    monkeypatch.chdir(tmp_path / "here")
    assert isinstance(ask(pool(), "answer"), Reply)


PARENT = """
import sys, time
sys.path.insert(0, sys.argv[1])
from ocrsmith.datasets.pdf.isolate import Bounds, IsolatedPool
with IsolatedPool("planted", workers=2, bounds=Bounds(seconds=600)) as pool:
    pid = pool.submit({"do": "answer"}).result().answer["pid"]
    if sys.argv[2] == "at work":
        pool.submit({"do": "sleep"}), pool.submit({"do": "sleep"})
        time.sleep(1)
    print(pid, flush=True)
    time.sleep(600)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize("what", ["idle", "at work"])
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_no_process_outlives_its_parent(
    tmp_path: Path, pool: PoolMaker, how: signal.Signals, what: str
) -> None:
    words = [sys.executable, "-c", PARENT, str(tmp_path), what]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        parent.send_signal(how)
        parent.wait(timeout=60)
    until = time.monotonic() + 60
    # SIGKILL leaves the parent no time to kill anybody: its processes see that it is gone, and end.
    while is_alive(child) and time.monotonic() < until and not is_zombie(child):
        time.sleep(0.05)
    assert not is_alive(child) or is_zombie(child)


def is_zombie(process: int) -> bool:
    """Ended, and waiting for the system's first process, which adopted it."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return False
