"""The most memory that reading takes: tensors on a graphics card, or this process in main memory."""

from __future__ import annotations

import ctypes
import gc
import re
import threading
from collections.abc import Callable
from pathlib import Path

import torch

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")
_FORGET_PEAK = "5"
"""Written to `clear_refs`, it sets the kernel's high-water mark back to what is resident now (proc(5))."""
_SECONDS_BETWEEN_LOOKS = 0.02


class CudaMemory:
    """Tensors on one card, weights included; what the allocator keeps in reserve does not count."""

    how = "most memory of the card taken by tensors, weights included (torch.cuda.max_memory_allocated)"

    def __init__(self, device: torch.device) -> None:
        """`device`: a CUDA device."""
        self._device = device

    def start(self) -> None:
        """Forgets what was. What nobody uses any more is given back first."""
        gc.collect()
        torch.cuda.synchronize(self._device)
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(self._device)

    def stop(self) -> int | None:
        """The peak since `start`, in bytes."""
        torch.cuda.synchronize(self._device)
        return int(torch.cuda.max_memory_allocated(self._device))


class ProcessMemory:
    """Resident memory of this process, weights included.

    A process's own peak never falls, so each stretch needs its own: the kernel's, set back to what is resident
    now; where that is not allowed, one that a thread takes from looks now and then; None without /proc.
    """

    def __init__(self, *, status: Path = _STATUS, clear: Path = _CLEAR) -> None:
        """`status`, `clear`: the kernel's files about this process."""
        self._status, self._clear = status, clear
        self._looks: _Looks | None = None
        self._by_kernel = self._forget_peak()

    @property
    def how(self) -> str:
        """How the peak is found, for people."""
        if self._resident("VmRSS") is None:
            return "not measured: this system does not tell a process its resident memory"
        way = (
            "the kernel's high-water mark, set back before each mode"
            if self._by_kernel
            else f"looked at every {_SECONDS_BETWEEN_LOOKS * 1000:.0f} ms, so short peaks may be missed"
        )
        return f"most resident memory of the whole process, weights included ({way})"

    def start(self) -> None:
        """Forgets what was. What nobody uses any more is given back first."""
        gc.collect()
        _trim()
        if self._by_kernel:
            self._forget_peak()
        elif self._resident("VmRSS") is not None:
            self._looks = _Looks(lambda: self._resident("VmRSS") or 0)
            self._looks.start()

    def stop(self) -> int | None:
        """The peak since `start`, in bytes; None where the system does not tell."""
        if self._by_kernel:
            return self._resident("VmHWM")
        looks, self._looks = self._looks, None
        return looks.end() if looks else None

    def _forget_peak(self) -> bool:
        try:
            self._clear.write_text(_FORGET_PEAK, encoding="ascii")
        except OSError:
            return False
        return self._resident("VmHWM") is not None

    def _resident(self, name: str) -> int | None:
        """A figure of the kernel's file, in bytes."""
        try:
            found = re.search(rf"^{name}:\s+(\d+) kB", self._status.read_text(encoding="ascii"), re.MULTILINE)
        except OSError:
            return None
        return int(found[1]) * 1024 if found else None


class _Looks(threading.Thread):
    """Keeps the largest of many looks."""

    def __init__(self, look: Callable[[], int]) -> None:
        super().__init__(name="memory", daemon=True)
        self._look = look
        self._over = threading.Event()
        self._most = look()

    def run(self) -> None:
        while not self._over.wait(_SECONDS_BETWEEN_LOOKS):
            self._most = max(self._most, self._look())

    def end(self) -> int:
        """Ends the thread; the largest value seen."""
        self._over.set()
        self.join()
        return max(self._most, self._look())


def memory_gauge(device: torch.device) -> CudaMemory | ProcessMemory:
    """What measures the memory that a model on `device` takes."""
    return CudaMemory(device) if device.type == "cuda" else ProcessMemory()


def _trim() -> None:
    """Gives freed memory back to the system, so that one mode does not pay for the one before it."""
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):  # not glibc
        return
    trim.argtypes, trim.restype = (ctypes.c_size_t,), ctypes.c_int
    trim(0)
