"""Takes the training steps whose memory is measured, as `memory.py` tells it; see `worker.py`."""

from __future__ import annotations

import gc
import itertools
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, cast

import torch

from benchmarks.clock import Clock, peak_gib, reserved_gib, reset_peak
from benchmarks.peers import OursPeer
from benchmarks.train_data import ready_steps
from benchmarks.train_steps import OurSteps
from benchmarks.train_worker import balanced_model, has_8bit_optimizer, make_optimizer
from benchmarks.worker import Message, serve
from benchmarks.workloads import WORKLOADS
from ocrsmith.errors import OcrsmithError
from ocrsmith.model import kernels
from ocrsmith.model.config import OcrConfig
from ocrsmith.training.collate import StepBatch
from ocrsmith.training.micro_batches import NOTHING, Division, loads_of


class MemoryBench:
    """One model that is trained under one setting after another."""

    def __init__(self, settings: dict[str, Any]) -> None:
        """`settings`: those of the command."""
        self.settings = settings
        self.device = torch.device(settings["device"])
        made = {**settings, "workload": "L", "quantization": "none"}
        self.base = "bf16"
        self.model, _ = balanced_model(made, self.device, torch.bfloat16)
        kernels.choose(compiled=settings["compiled"])
        self.peer = OursPeer(self.model)
        self.batch: tuple[str, StepBatch] | None = None

    def respond(self, request: dict[str, Any]) -> dict[str, Any]:
        """Measures a setting; what goes wrong in it does not end the others."""
        try:
            return self._measure(request)
        except (OcrsmithError, torch.OutOfMemoryError) as error:
            return {"failed": str(error).splitlines()[0]}

    def _measure(self, request: dict[str, Any]) -> dict[str, Any]:
        self._take(request["base"])
        batch = self._batch(request["workload"])
        model, peer = self.model, self.peer
        model.set_checkpointing(request["checkpointing"])
        peer.model.train()
        trained = [p for p in peer.model.parameters() if p.requires_grad]
        for parameter in trained:
            parameter.grad = None
        gc.collect()
        reset_peak(self.device)
        before = self._now_gib()
        optimizer, _ = make_optimizer(request["optimizer"], trained)
        clock = Clock(self.device)
        steps = OurSteps(
            peer,
            itertools.repeat(batch),
            clock,
            micro=self.settings["batch"],
            graphs=self.settings["graphs"],
        )
        scaler = torch.amp.GradScaler(self.device.type, enabled=False)
        begun = time.perf_counter()
        for _ in range(request["steps"]):
            reset_peak(self.device)
            loss = steps(scaler)
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
        told = {
            "loss": float(loss),
            "seconds": time.perf_counter() - begun,
            "peak_gib": peak_gib(self.device),
            "reserved_gib": reserved_gib(self.device),
            "before_gib": before,
            "predicted": self._predict(request, batch, sum(p.numel() for p in trained)),
        }
        steps.close()
        return told

    def _take(self, base: str) -> None:
        """Makes the base what is asked for; from NF4 there is no way back."""
        if base == self.base:
            return
        if base != "nf4":
            raise ValueError("the 16-bit weights are gone")
        from ocrsmith.model.quantized import quantize_model

        self.model = quantize_model(self.peer.model.unload())
        self.peer = OursPeer(self.model)
        self.base = base

    def _batch(self, workload: str) -> StepBatch:
        if self.batch is None or self.batch[0] != workload:
            self.batch = None  # the old one's memory is free before the new one takes some
            samples = self.settings["batch"] * self.settings["accumulation"]
            made = {**self.settings, "samples": samples}
            self.batch = workload, ready_steps(made, WORKLOADS[workload], self.device)[0]
        return self.batch[1]

    def _now_gib(self) -> float | None:
        return torch.cuda.memory_allocated(self.device) / 2**30 if self.device.type == "cuda" else None

    def _predict(self, request: dict[str, Any], batch: StepBatch, trainable: int) -> dict[str, float] | None:
        """GiB by part, as `ocrsmith estimate` would say."""
        try:
            from ocrsmith.training.memory_model import MemoryModel, Plan
        except ImportError:
            return None
        samples = loads_of(batch)
        parts = Division(self.settings["batch"])(samples)
        loads = [sum(samples[start:stop], NOTHING) for start, stop in parts]
        plan = Plan(
            dtype=torch.bfloat16,
            quantized=request["base"] == "nf4",
            optimizer=request["optimizer"],
            checkpointing=request["checkpointing"],
            compiled=self.settings["compiled"],
        )
        memory = MemoryModel(cast(OcrConfig, self.model.config), plan, trainable=trainable)
        peak = memory.peak(max(loads, key=lambda load: load.tokens), len(parts))
        return {part: size / 2**30 for part, size in asdict(peak).items()}


def start(settings: Message) -> tuple[Message, Callable[[Message], Message]]:
    """Makes the model; says which optimisers there are."""
    bench = MemoryBench(settings)
    optimizers = ["adamw", "adamw_8bit"] if has_8bit_optimizer(bench.device) else ["adamw"]
    return {"optimizers": optimizers}, bench.respond


if __name__ == "__main__":
    serve(start)
