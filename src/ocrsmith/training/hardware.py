"""What to train on: device, number format, optimiser, and how much memory there is."""

from __future__ import annotations

import importlib.util
import os
import resource
import sys
from dataclasses import dataclass
from pathlib import Path

import torch

from ocrsmith.errors import SettingsError
from ocrsmith.model.kernels import triton_works
from ocrsmith.training.settings import TrainSettings


@dataclass(frozen=True, slots=True)
class Hardware:
    """Device and number formats of a run."""

    device: torch.device
    precision: str
    """bf16, fp16 or fp32: of the base's weights and of the arithmetic; adapters are always float32."""
    optimizer: str
    """The name that the Trainer knows it by."""

    @property
    def dtype(self) -> torch.dtype:
        """Of the base's weights."""
        return {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}[self.precision]

    @property
    def on_gpu(self) -> bool:
        return self.device.type == "cuda"


def choose_hardware(settings: TrainSettings) -> Hardware:
    """Resolves the `auto` of device, precision and optimizer.

    Raises:
        SettingsError: what was asked for is not there.
    """
    has_gpu = torch.cuda.is_available()
    if settings.device == "cuda" and not has_gpu:
        raise SettingsError(
            "device = 'cuda': no GPU that torch can use was found.",
            mend="use device auto or cpu; `ocrsmith doctor` says what is there",
        )
    gpu = settings.device != "cpu" and has_gpu
    precision = settings.precision
    if precision == "auto":
        precision = (
            ("bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16") if gpu else "fp32"
        )
    if precision == "fp16" and not gpu:
        raise SettingsError("precision = 'fp16': a CPU trains in fp32 or bf16 only.", mend="use auto")
    return Hardware(torch.device("cuda" if gpu else "cpu"), precision, _optimizer(settings, gpu))


def _optimizer(settings: TrainSettings, gpu: bool) -> str:
    has_8bit = gpu and importlib.util.find_spec("bitsandbytes") is not None
    if settings.optimizer == "adamw_8bit" and not has_8bit:
        raise SettingsError(
            "optimizer = 'adamw_8bit': it needs a GPU and the package bitsandbytes.",
            mend="pip install 'ocrsmith[quant]', or use optimizer auto",
        )
    return "adamw_8bit" if settings.optimizer == "adamw_8bit" else "adamw_torch_fused"


def available_memory() -> int:
    """Bytes of host memory that can be had without swapping."""
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


def free_memory(device: torch.device) -> int:
    """Bytes that tensors can still take: of the GPU with what its allocator holds unused, else of the host."""
    if device.type != "cuda":
        return available_memory()
    free, _ = torch.cuda.mem_get_info(device)
    return int(free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device))


def total_memory(device: torch.device) -> int:
    """Bytes that the GPU has, or the host."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def compiles(settings: TrainSettings, on_gpu: bool, steps: int) -> bool:
    """Whether kernels are compiled: where that is asked for, or pays in a run of so many steps.

    Raises:
        SettingsError: asked for where it cannot be had.
    """
    possible = on_gpu and triton_works()
    if settings.compiled == "on" and not possible:
        raise SettingsError(
            "compiled = 'on': it needs a GPU, the package triton and a C compiler.",
            mend="use compiled auto or off",
        )
    wanted = {"on": True, "off": False, "auto": steps >= WORTH_COMPILING}[settings.compiled]
    return possible and wanted


def loader_processes(asked: int | None, step_bytes: int, on_gpu: bool) -> tuple[int, int]:
    """Processes that prepare steps, and how many steps each prepares in advance.

    Steps on their way lie in shared memory, of which containers often have little: at most half of it is used.

    Args:
        asked: by the settings; None: by the machine (none on a CPU, whose cores have enough to do).
        step_bytes: of a step's images.
        on_gpu: where the steps are taken.
    """
    if asked is None:
        asked = min(12, max(1, (os.cpu_count() or 1) - 1)) if on_gpu else 0
    room = max(1, shared_memory() // 2 // max(1, step_bytes))
    if asked * 2 <= room:
        return asked, 2
    return min(asked, room), 1


def shared_memory() -> int:
    """Bytes free for what processes hand to one another."""
    try:
        about = os.statvfs("/dev/shm")
    except OSError:  # no such place: the system's temporary files are used
        return available_memory()
    return about.f_bavail * about.f_frsize


WORTH_COMPILING = 30
"""Steps from which on compiling is worth its wait, with `compiled auto`."""


def used_memory(device: torch.device) -> int:
    """Bytes used now: by tensors on the GPU where there is one, else by this process."""
    if device.type == "cuda":
        return int(torch.cuda.memory_allocated(device))
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return peak_memory(device)


def peak_memory(device: torch.device) -> int:
    """Most bytes used so far: of the GPU where there is one, else of this process."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
