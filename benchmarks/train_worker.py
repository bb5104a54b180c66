"""Trains one engine for the training benchmark, as `train.py` tells it; see `worker.py`."""

from __future__ import annotations

import gc
import importlib.util
import itertools
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

from benchmarks.clock import Clock, peak_gib, reset_peak
from benchmarks.peers import Peer, make_peer
from benchmarks.worker import Message, serve
from benchmarks.workloads import (
    WORKLOADS,
    balance_routers,
    make_batches,
    make_model,
    make_processor,
    routing_balance,
    to_device,
)
from ocrsmith.errors import SettingsError
from ocrsmith.model.ocr_model import OcrModel

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


class TrainingBench:
    """An engine with its data and optimiser; every call of `step` is one optimiser step."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = settings
        self.device = torch.device(settings["device"])
        self.dtype = DTYPES[settings["dtype"]]
        self.clock = Clock(self.device)
        self.workload = WORKLOADS[settings["workload"]]
        start = self.clock.now()
        model = make_model(settings["size"], dtype=self.dtype, device=self.device)
        self.routing = self._balance(model)
        self.batches = self._batches(model)
        self.peer: Peer = make_peer(settings["engine"], model, checkpointing=settings["checkpointing"])
        del model
        gc.collect()
        reset_peak(self.device)
        self.peer.model.train()
        self.trained = [p for p in self.peer.model.parameters() if p.requires_grad]
        self.optimizer, self.optimizer_name = self._optimizer()
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.dtype == torch.float16)
        self.setup_seconds = self.clock.now() - start

    # --- data -------------------------------------------------------------------------------------------------

    def _batches(self, model: OcrModel) -> Iterator[dict[str, Any]]:
        settings = self.settings
        if settings["cache"] and settings["engine"] != "ours":
            raise SettingsError("A feature cache is ours alone.", place="--cache", mend="use --engines ours")
        if settings["data"] == "folder":
            return self._from_folder(model)
        count = max(1, settings["samples"] // settings["batch"])
        ready = make_batches(settings["size"], self.workload, settings["batch"], count)
        ready = [to_device(batch, self.device) for batch in ready]
        if settings["cache"]:
            for batch in ready:
                with torch.no_grad(), self._autocast():
                    features = model.encode_images(batch.pop("views"), batch.pop("image_layouts"))
                batch["image_features"] = features.to(self.dtype)
        return itertools.cycle(ready)

    def _from_folder(self, model: OcrModel) -> Iterator[dict[str, Any]]:
        """Images decoded from the dataset by ocrsmith's own loader, in worker processes, ahead of the step."""
        from ocrsmith.datasets import open_dataset
        from ocrsmith.training.collate import Collator, TrainingSamples
        from ocrsmith.training.feature_cache import FeatureCache

        table = open_dataset(Path(self.settings["folder"])).table("train")
        processor = make_processor(self.settings["size"], self.workload)
        samples = TrainingSamples(table, processor, range(len(table)))
        workers = self.settings["workers"]
        if self.settings["cache"]:
            low = None if self.dtype == torch.float32 else self.dtype
            samples.cache = FeatureCache.build(model, samples, batch_size=16, workers=workers, autocast=low)
            workers = 0
        collate: Any = (
            Collator(processor, samples.cache) if self.settings["engine"] == "ours" else _WithMask(processor)
        )
        loader: Any = DataLoader(
            samples,
            batch_size=self.settings["batch"],
            shuffle=True,
            drop_last=True,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=self.device.type == "cuda",
            collate_fn=collate,
        )
        return itertools.chain.from_iterable(itertools.repeat(loader))

    def _balance(self, model: OcrModel) -> dict[str, float]:
        (batch,) = make_batches(self.settings["size"], self.workload, self.settings["batch"], 1)
        batch = to_device(batch, self.device)
        low = None if self.dtype == torch.float32 else self.dtype
        balance_routers(model, batch, low)
        return routing_balance(model, batch, low)

    # --- the step ---------------------------------------------------------------------------------------------

    def step(self) -> tuple[float, float, dict[str, float]]:
        """One optimiser step: (seconds, loss, seconds by part)."""
        start = self.clock.now()
        self.clock.mark("start")
        accumulation = self.settings["accumulation"]
        losses, waited = [], 0.0
        for _ in range(accumulation):
            asked = time.perf_counter()
            batch = to_device(next(self.batches), self.device)
            waited += time.perf_counter() - asked
            self.clock.mark("load")
            with self._autocast():
                features = self.peer.encode(batch)
                self.clock.mark("encode")
                loss = self.peer.loss(batch, features) / accumulation
            self.clock.mark("forward")
            self.scaler.scale(loss).backward()
            self.clock.mark("backward")
            losses.append(loss.detach())
        self.scaler.unscale_(self.optimizer)
        torch.nn.utils.clip_grad_norm_(self.trained, 1.0)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self.clock.mark("optimizer")
        seconds = self.clock.now() - start
        return seconds, float(torch.stack(losses).sum()), {**self.clock.parts(), "host_waits_for_data": waited}

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, dtype=self.dtype, enabled=self.dtype != torch.float32)

    def _optimizer(self) -> tuple[torch.optim.Optimizer, str]:
        wanted = self.settings["optimizer"]
        has_8bit = self.device.type == "cuda" and importlib.util.find_spec("bitsandbytes") is not None
        if wanted == "adamw_8bit" and not has_8bit:
            raise SettingsError(
                "8-bit AdamW needs a GPU and bitsandbytes.", place="--optimizer", mend="use adamw"
            )
        options: dict[str, Any] = {"lr": 2e-4, "weight_decay": 0.001}
        if has_8bit and wanted != "adamw":
            from bitsandbytes.optim import AdamW8bit

            return AdamW8bit(self.trained, **options), "adamw_8bit"
        return torch.optim.AdamW(self.trained, fused=True, **options), "adamw_fused"

    # --- as the other side sees it ----------------------------------------------------------------------------

    def describe(self) -> dict[str, Any]:
        """After the first step: what was set up, and how long that took."""
        seconds, loss, _ = self.step()
        return {
            "setup_seconds": self.setup_seconds,
            "first_step_seconds": seconds,
            "first_loss": loss,
            "optimizer": self.optimizer_name,
            "trainable": sum(p.numel() for p in self.trained),
            "trainable_tensors": len(self.trained),
            "routing": self.routing,
        }

    def respond(self, request: dict[str, Any]) -> dict[str, Any]:
        """Up to `steps` steps, at least one, no new one after `seconds`; or a profile of one."""
        if request.get("profile"):
            return self._profile()
        begun = time.perf_counter()
        times: list[float] = []
        losses: list[float] = []
        parts: list[dict[str, float]] = []
        while len(times) < request["steps"] and (not times or time.perf_counter() - begun < request["seconds"]):
            seconds, loss, by_part = self.step()
            times.append(seconds)
            losses.append(loss)
            parts.append(by_part)
        return {"seconds": times, "loss": losses, "parts": parts, "peak_gib": peak_gib(self.device)}

    def _profile(self) -> dict[str, Any]:
        """The dearest kernels (operators on a CPU) of one step, and how many there are."""
        activities = [torch.profiler.ProfilerActivity.CPU]
        on_gpu = self.device.type == "cuda"
        if on_gpu:
            activities.append(torch.profiler.ProfilerActivity.CUDA)
        with torch.profiler.profile(activities=activities) as profile:
            self.step()
        found = profile.key_averages()
        launches = [item.count for item in found if on_gpu is (item.device_type.name == "CUDA")]
        order = "self_device_time_total" if on_gpu else "self_cpu_time_total"
        text = found.table(sort_by=order, row_limit=40, max_name_column_width=70)
        return {"calls": sum(launches), "table": text}


class _WithMask:
    """Collates for the peers, which take an attention mask."""

    def __init__(self, processor: Any) -> None:
        self.processor = processor

    def __call__(self, items: list[Any]) -> dict[str, Any]:
        batch: dict[str, Any] = self.processor.collate([item.encoded for item in items])
        return batch


def start(settings: Message) -> tuple[Message, Callable[[Message], Message]]:
    """Sets the engine up and takes its first step."""
    bench = TrainingBench(settings)
    return bench.describe(), bench.respond


if __name__ == "__main__":
    serve(start)
