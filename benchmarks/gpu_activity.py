"""How much of the time a GPU computes: from a trace of its kernels, as torch's profiler takes it."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

LONG_GAP = 50e-6
"""Seconds without a kernel above which the GPU waits for something, and not just for its next kernel."""


@dataclass(frozen=True, slots=True)
class Activity:
    """Of a stretch of time, in seconds."""

    window: float
    """From the first kernel's start to the last one's end."""
    busy: float
    """In which at least one kernel ran."""
    waited: float
    """In gaps of more than `LONG_GAP`."""
    kernels: int


def activity_of(intervals: Iterable[tuple[float, float]]) -> Activity:
    """Sums up (start, end) of kernels, which may overlap and come in any order."""
    ordered = sorted(intervals)
    if not ordered:
        return Activity(0.0, 0.0, 0.0, 0)
    first, end = ordered[0][0], ordered[0][0]
    busy = waited = 0.0
    for start, stop in ordered:
        gap = max(0.0, start - end)
        waited += gap if gap > LONG_GAP else 0.0
        busy += max(0.0, stop - max(start, end))
        end = max(end, stop)
    return Activity(end - first, busy, waited, len(ordered))


def intervals_of(trace: dict[str, Any]) -> list[tuple[float, float]]:
    """Kernels of a Chrome trace, and memory that is set or moved within the GPU: (start, end) in seconds.

    Copies from and to the host are left out: they go on beside the kernels and compute nothing.
    """
    found = []
    for event in trace["traceEvents"]:
        kind, name = str(event.get("cat", "")).lower(), str(event.get("name", ""))
        inside = kind == "kernel" or kind == "gpu_memset" or (kind == "gpu_memcpy" and "DtoD" in name)
        if inside and event.get("ph") == "X":
            found.append((1e-6 * event["ts"], 1e-6 * (event["ts"] + event["dur"])))
    return found


def begin_watching() -> None:
    """Starts what the profiler needs. A CUDA graph that is captured before may hide its kernels from it."""
    os.environ.setdefault("DISABLE_CUPTI_LAZY_REINIT", "1")  # else it may fail at graphs that are there already
    os.environ.setdefault("TEARDOWN_CUPTI", "0")
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]):
        torch.cuda.synchronize()


def watch(run: Callable[[], object]) -> Activity:
    """What the GPU did while `run` ran; it has finished when this returns."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        run()
        torch.cuda.synchronize()
    with tempfile.TemporaryDirectory(prefix="benchmark-") as scratch:
        path = Path(scratch) / "trace.json"
        profile.export_chrome_trace(str(path))
        return activity_of(intervals_of(json.loads(path.read_text())))
