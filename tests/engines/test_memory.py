"""The memory that reading takes: each stretch has its own peak, and how it was found is said."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch

from ocrsmith.engines.native.memory import CudaMemory, ProcessMemory, memory_gauge

MIB = 2**20
HAS_PROC = Path("/proc/self/status").is_file()


def peak_of(gauge: ProcessMemory, mebibytes: int) -> int:
    """The peak of a stretch that takes so much memory and gives it back."""
    gauge.start()
    block = b"1" * (mebibytes * MIB)
    time.sleep(0.1)
    del block
    peak = gauge.stop()
    assert peak is not None
    return peak


@pytest.mark.skipif(not HAS_PROC, reason="only Linux has /proc")
@pytest.mark.parametrize("by_kernel", [True, False], ids=["kernel", "looks"])
def test_a_small_stretch_after_a_large_one_has_a_small_peak(by_kernel: bool, tmp_path: Path) -> None:
    gauge = ProcessMemory() if by_kernel else ProcessMemory(clear=tmp_path / "none" / "clear_refs")
    large, small = peak_of(gauge, 100), peak_of(gauge, 10)
    assert large - small == pytest.approx(90 * MIB, abs=40 * MIB)


def test_how_it_was_measured_is_said(tmp_path: Path) -> None:
    nowhere = tmp_path / "none" / "file"
    assert "not measured" in ProcessMemory(status=nowhere, clear=nowhere).how
    status = tmp_path / "status"
    status.write_text("VmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\n", encoding="ascii")
    assert "every 20 ms" in ProcessMemory(status=status, clear=nowhere).how
    kernel = ProcessMemory(status=status, clear=tmp_path / "clear_refs")
    assert "high-water mark" in kernel.how
    kernel.start()
    assert kernel.stop() == 2 * MIB


def test_without_proc_nothing_is_claimed(tmp_path: Path) -> None:
    gauge = ProcessMemory(status=tmp_path / "none", clear=tmp_path / "none" / "file")
    gauge.start()
    assert gauge.stop() is None


def test_the_device_decides_what_is_measured() -> None:
    assert isinstance(memory_gauge(torch.device("cpu")), ProcessMemory)
    assert isinstance(memory_gauge(torch.device("cuda")), CudaMemory)
