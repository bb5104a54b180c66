"""Seconds and bytes, on a GPU and on a CPU."""

from __future__ import annotations

import resource
import time
from pathlib import Path
from typing import Any

import torch


class Clock:
    """Times the parts of a step. On a GPU by events, so that nothing waits within the step."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._marks: list[tuple[str, Any]] = []
        self._ends: list[int] = []

    def start(self) -> None:
        """Begins a row of steps, once the device has finished what came before."""
        self.now()
        self._marks, self._ends = [], []
        self.mark("start")

    def now(self) -> float:
        """Host seconds, after the device has finished."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def mark(self, part: str) -> None:
        """The time since the last mark belonged to `part`."""
        if self.device.type == "cuda":
            event = torch.cuda.Event(enable_timing=True)
            event.record()
            self._marks.append((part, event))
        else:
            self._marks.append((part, time.perf_counter()))

    def end_step(self) -> None:
        """What was marked since the last step ended is a step."""
        self._ends.append(len(self._marks))

    def steps(self) -> list[dict[str, float]]:
        """Seconds by part of each step since `start`; nothing waited for the device until now.

        A step lasts from the end of the one before to its own end, on the device's clock.
        """
        self.now()
        told, first = [], 1
        for end in self._ends:
            sums: dict[str, float] = {}
            for number in range(first, end):
                part, after = self._marks[number]
                before = self._marks[number - 1][1]
                seconds = after - before if isinstance(after, float) else before.elapsed_time(after) / 1000
                sums[part] = sums.get(part, 0.0) + seconds
            told.append(sums)
            first = end
        return told


def reset_peak(device: torch.device) -> None:
    """Forgets the peak so far: of the GPU, or of the process where Linux can."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        return
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def reserved_gib(device: torch.device) -> float | None:
    """Most GiB that torch's allocator held since `reset_peak`; None on a CPU."""
    return float(torch.cuda.max_memory_reserved(device)) / 2**30 if device.type == "cuda" else None


def peak_gib(device: torch.device) -> float:
    """Most GiB in use since `reset_peak`: allocated on the GPU, or resident of the process."""
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device)) / 2**30
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 2**20
    except OSError:
        pass
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
