"""Runs a command in a process of its own: seconds, and the most memory that it and its children held."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

_PAGE = os.sysconf("SC_PAGE_SIZE")
_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class Run:
    """What a command took."""

    seconds: float
    """Of wall-clock time, from the start of the process to its end."""
    peak_bytes: int
    """Resident memory: the most that the process and its children held at one moment."""
    code: int
    """As `subprocess` gives it; negative: the signal that ended it."""
    errors: str


def run(command: Sequence[str], *, cwd: Path, log: Path, stop: Callable[[], bool] | None = None) -> Run:
    """Runs a command to its end, or kills it (`kill -9`) as soon as `stop` says so.

    Args:
        log: a file for what it prints.
    """
    begun = time.perf_counter()
    peak = 0
    with log.open("wb") as file:
        process = subprocess.Popen(command, cwd=cwd, stdout=file, stderr=subprocess.STDOUT)
        while (code := process.poll()) is None:
            peak = max(peak, _high_water(process.pid), sum(map(_resident, _family(process.pid))))
            if stop is not None and stop():
                process.kill()
            time.sleep(_SECONDS)
    seconds = time.perf_counter() - begun
    return Run(seconds, peak, code, log.read_text(errors="replace")[-2000:] if code else "")


def _high_water(process: int) -> int:
    """The most that the process alone has held so far: a moment between two looks is not missed."""
    try:
        status = Path(f"/proc/{process}/status").read_text().split()
    except OSError:
        return 0
    return int(status[status.index("VmHWM:") + 1]) * 1024 if "VmHWM:" in status else 0


def _resident(process: int) -> int:
    try:
        return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * _PAGE
    except (OSError, IndexError):
        return 0


def _family(process: int) -> list[int]:
    """The process and all its descendants."""
    found = [process]
    for member in found:
        for task in Path(f"/proc/{member}/task").glob("*/children"):
            try:
                found += [int(child) for child in task.read_text().split()]
            except OSError:
                continue
    return found
