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
            mend="pip install bitsandbytes, or use optimizer auto or adamw",
        )
    if has_8bit and settings.optimizer != "adamw":
        return "adamw_8bit"
    return "adamw_torch_fused"


def available_memory() -> int:
    """Bytes of host memory that can be had without swapping."""
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


def peak_memory(device: torch.device) -> int:
    """Most bytes used so far: of the GPU where there is one, else of this process."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
