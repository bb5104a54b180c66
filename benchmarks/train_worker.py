"""Trains one engine for the training benchmark, as `train.py` tells it; see `worker.py`."""

from __future__ import annotations

import atexit
import gc
import importlib.util
import itertools
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from benchmarks.clock import Clock, peak_gib, reserved_gib, reset_peak
from benchmarks.gpu_activity import begin_watching, watch
from benchmarks.peers import OursPeer, Peer, make_peer
from benchmarks.train_data import FileSteps, peer_batches, ready_steps
from benchmarks.train_steps import OurSteps, PeerSteps, Steps
from benchmarks.worker import Message, serve
from benchmarks.workloads import (
    WORKLOADS,
    balance_routers,
    make_batches,
    make_model,
    routing_balance,
    to_device,
)
from ocrsmith.errors import SettingsError
from ocrsmith.model import kernels
from ocrsmith.model.ocr_model import OcrModel

CAPTURED_AFTER = 3
"""Steps after which a pass is replayed as a CUDA graph: one without, one that captures, one more."""
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


class TrainingBench:
    """An engine with its data and optimiser; every call of `step` is one optimiser step."""

    def __init__(self, settings: dict[str, Any]) -> None:
        """`settings`: those of the command for this engine; see `train.engine_settings`."""
        self.settings = settings
        self.device = torch.device(settings["device"])
        self.dtype = DTYPES[settings["dtype"]]
        self.clock = Clock(self.device)
        begun = self.clock.now()
        _refuse(settings)
        model, self.routing = balanced_model(settings, self.device, self.dtype)
        kernels.choose(experts=settings["experts"], compiled=settings["compiled"])
        torch.manual_seed(settings["seed"])
        self.peer: Peer = make_peer(settings["engine"], model, checkpointing=settings["checkpointing"])
        del model
        gc.collect()
        self.peer.model.train()
        self.files: FileSteps | None = None
        self.steps = self._steps()
        reset_peak(self.device)
        self.trained = [p for p in self.peer.model.parameters() if p.requires_grad]
        self.optimizer, self.optimizer_name = make_optimizer(settings["optimizer"], self.trained)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.dtype == torch.float16)
        gc.freeze()  # as `ocrsmith train` does: a collection walks through all modules
        atexit.register(gc.unfreeze)
        self.setup_seconds = self.clock.now() - begun

    def _steps(self) -> Steps:
        settings, workload = self.settings, WORKLOADS[self.settings["workload"]]
        if not isinstance(self.peer, OursPeer):
            autocast = torch.autocast(self.device.type, dtype=self.dtype, enabled=self.dtype != torch.float32)
            return PeerSteps(
                self.peer,
                peer_batches(settings, workload, self.device),
                self.clock,
                accumulation=settings["accumulation"],
                autocast=autocast,
            )
        bare = self.peer.bare
        if settings["data"] == "folder":
            self.files = FileSteps(settings, workload, self.device, bare)
            atexit.register(self.files.close)
            batches = iter(self.files)
        else:
            encoder = bare if settings["cache"] else None
            batches = itertools.cycle(ready_steps(settings, workload, self.device, encoder))
        return OurSteps(self.peer, batches, self.clock, micro=settings["micro"], graphs=settings["graphs"])

    def step(self) -> torch.Tensor:
        """One optimiser step; its loss, on the device. Nothing in it waits for the device."""
        loss = self.steps(self.scaler)
        self.scaler.unscale_(self.optimizer)
        torch.nn.utils.clip_grad_norm_(self.trained, 1.0)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.clock.mark("optimizer")
        self.clock.end_step()
        return loss

    def take(self, steps: int, seconds: float = float("inf")) -> dict[str, Any]:
        """Up to so many steps, at least one, no new one after `seconds`; each with loss, time and parts."""
        begun = time.perf_counter()
        losses: list[torch.Tensor] = []
        waited: list[float] = []
        self.clock.start()
        while len(losses) < steps and (not losses or time.perf_counter() - begun < seconds):
            losses.append(self.step())
            waited.append(self.steps.waited)
        parts = self.clock.steps()
        return {
            "seconds": [sum(step.values()) for step in parts],
            "loss": torch.stack(losses).tolist(),
            "parts": parts,
            "waited": waited,
        }

    # --- as the other side sees it ----------------------------------------------------------------------------

    def describe(self) -> dict[str, Any]:
        """What was set up, and how long that took."""
        return {
            "setup_seconds": self.setup_seconds,
            "optimizer": self.optimizer_name,
            "trainable": sum(p.numel() for p in self.trained),
            "trainable_tensors": len(self.trained),
            "routing": self.routing,
            "data_processes": self.files.workers if self.files else None,
        }

    def respond(self, request: dict[str, Any]) -> dict[str, Any]:
        """Steps, a profile of one, or what the GPU does meanwhile."""
        if request.get("profile"):
            return self._profile()
        if steps := request.get("activity"):
            return self._activity(steps)
        before: list[float] = []
        if request.get("measured") and self.files is not None and self.files.held_ready:
            before = self.take(self.files.held_ready, request["seconds"])["loss"]
        told = self.take(request["steps"], request["seconds"])
        peaks = {"peak_gib": peak_gib(self.device), "reserved_gib": reserved_gib(self.device)}
        if self.device.type == "cuda" and not request.get("measured"):
            torch.cuda.empty_cache()  # what passes took before they were captured: other processes need it
        if isinstance(self.steps, OurSteps):
            told |= {"micro_batch": self.steps.learner.largest, "out_of_memory": self.steps.learner.retries}
        return {**told, **peaks, "before": before}

    def _activity(self, steps: int) -> dict[str, Any]:
        """The GPU's busy time in a step, beside the time of steps taken just before, without a profiler."""
        ready = self.files.held_ready if self.files else 0
        self.take(max(steps, ready))
        plain = self.take(steps)
        if isinstance(self.steps, OurSteps):
            begin_watching()
            self.steps.micro_step.release()
        self.take(CAPTURED_AFTER + ready)
        seen = watch(partial(self.take, steps))
        wall = sum(plain["seconds"]) / steps
        busy = seen.busy / steps
        return {
            "steps": steps,
            "step_seconds": wall,
            "busy_seconds": busy,
            "idle": max(0.0, 1 - busy / wall),
            "idle_in_trace": 1 - seen.busy / seen.window if seen.window else None,
            "long_gaps_in_trace": seen.waited / seen.window if seen.window else None,
            "kernels": seen.kernels / steps,
            "loss": plain["loss"],
        }

    def _profile(self) -> dict[str, Any]:
        """The dearest kernels (operators on a CPU) of one step, and how many there are."""
        activities = [torch.profiler.ProfilerActivity.CPU]
        on_gpu = self.device.type == "cuda"
        if on_gpu:
            activities.append(torch.profiler.ProfilerActivity.CUDA)
        with torch.profiler.profile(activities=activities) as profile:
            self.take(1)
        found = profile.key_averages()
        launches = [item.count for item in found if on_gpu is (item.device_type.name == "CUDA")]
        order = "self_device_time_total" if on_gpu else "self_cpu_time_total"
        text = found.table(sort_by=order, row_limit=40, max_name_column_width=70)
        return {"calls": sum(launches), "table": text}


def _refuse(settings: dict[str, Any]) -> None:
    """
    Raises:
        SettingsError: a reference is asked for what only ours has.
    """
    if settings["engine"] == "ours":
        return
    if settings["cache"]:
        raise SettingsError("A feature cache is ours alone.", place="--cache", mend="use --engines ours")
    if settings["quantization"] != "none":
        raise SettingsError(
            "The references train on 16-bit weights only.", place="--quantization", mend="use --engines ours"
        )


def balanced_model(
    settings: dict[str, Any], device: torch.device, dtype: torch.dtype
) -> tuple[OcrModel, dict[str, float]]:
    """The model with routers that spread the workload's tokens, and how evenly they do.

    Whatever the format and the kernels that training takes, the weights are the same (but for rounding), and no
    kernel of training is compiled here: that belongs to the first step.
    """
    made = torch.float32 if dtype == torch.float32 else torch.bfloat16
    model = make_model(settings["size"], dtype=made, device=device)
    (batch,) = make_batches(settings["size"], WORKLOADS[settings["workload"]], settings["batch"], 1)
    batch = to_device(batch, device)
    low = None if made == torch.float32 else made
    with kernels.using(experts="loop", attention="plain", triton=False, compiled=False):
        balance_routers(model, batch, low)
        routing = routing_balance(model, batch, low)
    if dtype != made:
        torch.nn.Module.to(model, dtype)
        model.config.dtype = dtype
    if settings["quantization"] == "nf4":
        from ocrsmith.model.quantized import quantize_model

        model = quantize_model(model)
    return model, routing


def has_8bit_optimizer(device: torch.device) -> bool:
    """Whether AdamW with 8-bit moments can be had."""
    return device.type == "cuda" and importlib.util.find_spec("bitsandbytes") is not None


def make_optimizer(wanted: str, trained: list[torch.nn.Parameter]) -> tuple[torch.optim.Optimizer, str]:
    """AdamW with the recipe's rates, and its name; `auto` takes 8-bit moments where they can be had.

    Raises:
        SettingsError: 8-bit moments were asked for and cannot be had.
    """
    has_8bit = has_8bit_optimizer(trained[0].device)
    if wanted == "adamw_8bit" and not has_8bit:
        raise SettingsError("8-bit AdamW needs a GPU and bitsandbytes.", place="--optimizer", mend="use adamw")
    options: dict[str, Any] = {"lr": 2e-4, "weight_decay": 0.001}
    if has_8bit and wanted != "adamw":
        from bitsandbytes.optim import AdamW8bit

        return AdamW8bit(trained, **options), "adamw_8bit"
    return torch.optim.AdamW(trained, fused=True, **options), "adamw_fused"


def start(settings: Message) -> tuple[Message, Callable[[Message], Message]]:
    """Sets the engine up; its first step is the first that is asked for."""
    bench = TrainingBench(settings)
    return bench.describe(), bench.respond


if __name__ == "__main__":
    serve(start)
