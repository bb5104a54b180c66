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

    def parts(self) -> dict[str, float]:
        """Seconds by part since the last call; the first mark is the start."""
        self.now()
        sums: dict[str, float] = {}
        for (_, before), (part, after) in zip(self._marks, self._marks[1:], strict=False):
            if part != "start":
                seconds = after - before if isinstance(after, float) else before.elapsed_time(after) / 1000
                sums[part] = sums.get(part, 0.0) + seconds
        self._marks = []
        return sums


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
