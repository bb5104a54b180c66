"""A process of ours: its last words, why it ended, and that nothing of it outlives us."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ocrsmith.serving.vllm.process import KEPT_LINES, SHOWN_LINES, VllmProcess

SECONDS = 60.0
FAMILY = """
import os, signal, subprocess, sys, time
if "stubborn" in sys.argv:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(os.getpid(), child.pid, flush=True)
time.sleep(600)
"""
"""Has a helper in its process group, as vLLM has its engine."""
PARENT = """
import asyncio, sys
from ocrsmith.serving.vllm.process import VllmProcess
async def main():
    process = VllmProcess(sys.argv[1:], on_line=lambda line: print(line, flush=True))
    await process.start()
    await asyncio.sleep(600)
asyncio.run(main())
"""


def lives(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def until_gone(pids: list[int]) -> None:
    deadline = time.monotonic() + SECONDS
    while any(map(lives, pids)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not any(map(lives, pids))


async def ended(process: VllmProcess) -> None:
    async with asyncio.timeout(SECONDS):
        while process.running:
            await asyncio.sleep(0.02)


def test_it_keeps_its_last_lines_and_its_exit_code() -> None:
    program = (
        "import sys; [print(f'\\x1b[31mline {n}\\x1b[0m') for n in range(999)]; "
        "sys.stderr.write('last'); sys.exit(4)"
    )
    told: list[int] = []
    lines: list[str] = []

    async def play() -> None:
        process = VllmProcess([sys.executable, "-c", program], on_line=lines.append, on_exit=told.append)
        assert not process.running
        await process.start()
        await ended(process)
        assert (process.code, told) == (4, [4])
        assert process.last_lines[-2:] == ["line 998", "last"]
        assert (len(process.last_lines), len(lines)) == (SHOWN_LINES, 1000)
        assert len(lines) > KEPT_LINES
        await process.close()

    asyncio.run(play())


@pytest.mark.parametrize("manner", ["obedient", "stubborn"])
def test_closing_ends_it_and_its_helpers(manner: str) -> None:
    pids: list[int] = []
    told: list[int] = []

    async def play() -> None:
        process = VllmProcess(
            [sys.executable, "-c", FAMILY, manner],
            on_line=lambda line: pids.extend(map(int, line.split())),
            on_exit=told.append,
            grace=0.2,
        )
        await process.start()
        async with asyncio.timeout(SECONDS):
            while len(pids) < 2:
                await asyncio.sleep(0.02)
        assert all(map(lives, pids))
        await process.close()
        assert not process.running
        assert process.code in (128 + signal.SIGTERM, 128 + signal.SIGKILL)

    asyncio.run(play())
    until_gone(pids)
    assert told == [], "it was closed, it did not end by itself"


def test_helpers_that_a_crash_leaves_behind_are_ended() -> None:
    program = FAMILY.replace("time.sleep(600)\n", "os._exit(1)\n")
    pids: list[int] = []

    async def play() -> None:
        process = VllmProcess(
            [sys.executable, "-c", program], on_line=lambda line: pids.extend(map(int, line.split()))
        )
        await process.start()
        await ended(process)
        assert process.code == 1
        await process.close()

    asyncio.run(play())
    assert len(pids) == 2
    until_gone(pids)


def test_nothing_outlives_a_parent_that_was_killed() -> None:
    command = [sys.executable, "-c", PARENT, sys.executable, "-c", FAMILY]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pids = [int(word) for word in parent.stdout.readline().split()]
        assert len(pids) == 2
        os.kill(parent.pid, signal.SIGKILL)
    until_gone(pids)


def test_closing_what_was_never_started_does_nothing() -> None:
    asyncio.run(VllmProcess(["false"]).close())


@pytest.mark.parametrize(
    ("lines", "code", "problem", "mend"),
    [
        (["torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB"], 1, "memory", "--batch-size"),
        (
            ["ValueError: Free memory on device (3/80 GiB) on startup is less than desired GPU memory", "bye"],
            1,
            "memory",
            "--gpu-memory-utilization",
        ),
        ([], 137, "killed", "Free memory"),
        (["ModuleNotFoundError: No module named 'vllm'"], 1, "cannot be loaded (ModuleNotFound", "pip install"),
        (
            [
                "(APIServer pid=1) ValueError: No such config",
                "RuntimeError: Engine core initialization failed.",
            ],
            1,
            "vLLM ended (ValueError: No such config)",
            "--print",
        ),
        (["hello"], 9, "vLLM ended (exit code 9)", "--print"),
    ],
)
def test_why_it_ended_is_told_from_what_it_said(lines: list[str], code: int, problem: str, mend: str) -> None:
    program = f"import os; [print(line, flush=True) for line in {lines!r}]; os._exit({code})"

    async def play() -> None:
        process = VllmProcess([sys.executable, "-c", program])
        await process.start()
        await ended(process)
        told, advice = process.why()
        assert problem in told
        assert mend in advice
        await process.close()

    asyncio.run(play())
