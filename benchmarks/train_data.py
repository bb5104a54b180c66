"""What the training benchmark's engines are fed with: tensors made ready before, or files decoded on the way.

All engines see the same samples in the same order where tensors are ready: those of a step of ours are those of
the batches that a reference takes for a step.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch.utils.data import DataLoader

from benchmarks.workloads import Workload, draw, make_batches, make_processor, text_of, to_device
from ocrsmith.errors import SettingsError
from ocrsmith.model.ocr_model import OcrModel
from ocrsmith.training.collate import StepBatch, StepCollator, TrainingItem, TrainingSamples
from ocrsmith.training.micro_batches import PIXELS_OF_TOKEN

SEED = 3407
"""Of the order of files."""
KEPT = 4 * 2**30
"""Most bytes of cached features that stay on the GPU."""


def step_samples(settings: dict[str, Any]) -> int:
    """Samples of an optimiser step."""
    return int(settings["batch"] * settings["accumulation"])


# --- ours -----------------------------------------------------------------------------------------------------


def ready_steps(
    settings: dict[str, Any], workload: Workload, device: torch.device, encoder: OcrModel | None = None
) -> list[StepBatch]:
    """Whole steps on the device; `encoder` makes image features in place of views."""
    processor = make_processor(settings["size"], workload)
    batch, per_step = settings["batch"], step_samples(settings)
    different = max(1, settings["samples"] // batch) * batch
    order = [n % different for n in range(math.lcm(different, per_step))]
    encoded = [processor.encode([draw(workload, n)], text=text_of(workload, n)) for n in range(different)]
    steps = []
    for start in range(0, len(order), per_step):
        items = [TrainingItem(n, encoded[n]) for n in order[start : start + per_step]]
        step = StepCollator(processor)(items).to(device)
        if encoder is not None:
            with torch.no_grad():
                inputs = step.part(0, len(step))
                features = encoder.encode_images(inputs["views"], inputs["image_layouts"])
            counts = [item.encoded.num_image_tokens for item in items]
            step = replace(step, views={}, feature_counts=counts, image_features=features)
        steps.append(step)
    return steps


class FileSteps:
    """Steps from a dataset folder, as `ocrsmith train` reads it: worker processes decode, a thread copies."""

    def __init__(
        self, settings: dict[str, Any], workload: Workload, device: torch.device, model: OcrModel
    ) -> None:
        """With a cache the features are made here, ahead of all steps, and kept in memory."""
        from ocrsmith.training.feature_cache import FeatureCache
        from ocrsmith.training.hardware import loader_processes
        from ocrsmith.training.step_stream import READY, StepOrder, StepStream

        per_step, on_gpu = step_samples(settings), device.type == "cuda"
        samples = _samples_of(settings, workload)
        samples.processor.resize = _resize(settings["resize"], on_gpu)
        if len(samples) % per_step:
            raise SettingsError(
                f"{len(samples)} samples do not make whole steps of {per_step}.",
                place="--samples",
                mend=f"give a multiple of {per_step}",
            )
        workers, ahead = loader_processes(settings["workers"], per_step * _view_bytes(samples), on_gpu)
        if settings["cache"]:
            samples.cache = FeatureCache.build(model, samples, batch_size=16, workers=workers)
            workers = 0  # there are no images to prepare
            if on_gpu:
                samples.cache.keep_on(device, KEPT)
        self.workers = workers
        self.held_ready = workers * ahead + (READY if on_gpu else 0)
        """Steps that may lie ready: so many are taken before a measurement, which else would find them done."""
        order = StepOrder(len(samples), per_step, SEED, last=10**9)
        self._stream = StepStream(samples, order, device, workers=workers, ahead=ahead)

    def __iter__(self) -> Iterator[StepBatch]:
        return iter(self._stream)

    def close(self) -> None:
        """Ends thread and workers."""
        self._stream.close()


def _resize(asked: str, on_gpu: bool) -> Literal["host", "device"]:
    """Where views are made of images; `auto` as `ocrsmith train` does it."""
    from ocrsmith.model.device_views import can_resize

    on_device = asked == "device" or (asked == "auto" and on_gpu and can_resize())
    return "device" if on_device else "host"


def _samples_of(settings: dict[str, Any], workload: Workload) -> TrainingSamples:
    from ocrsmith.datasets import open_dataset

    table = open_dataset(Path(settings["folder"])).table("train")
    return TrainingSamples(table, make_processor(settings["size"], workload), range(len(table)))


def _view_bytes(samples: TrainingSamples) -> int:
    """Of a sample's views, about."""
    return samples[0].encoded.num_image_tokens * PIXELS_OF_TOKEN * 3


# --- the references -------------------------------------------------------------------------------------------


def peer_batches(
    settings: dict[str, Any], workload: Workload, device: torch.device
) -> Iterator[dict[str, Any]]:
    """Batches of `--batch` samples, padded, with a mask."""
    if settings["data"] == "folder":
        return _peer_files(settings, workload, device)
    count = max(1, settings["samples"] // settings["batch"])
    ready = make_batches(settings["size"], workload, settings["batch"], count)
    return itertools.cycle([to_device(batch, device) for batch in ready])


def _peer_files(settings: dict[str, Any], workload: Workload, device: torch.device) -> Iterator[dict[str, Any]]:
    """From the same folder through torch's loader, with the same number of processes."""
    from ocrsmith.training.hardware import loader_processes

    samples = _samples_of(settings, workload)
    batch_bytes = settings["batch"] * _view_bytes(samples)
    workers, _ = loader_processes(settings["workers"], batch_bytes, device.type == "cuda")
    loader: Any = DataLoader(
        samples,
        batch_size=settings["batch"],
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=device.type == "cuda",
        collate_fn=_WithMask(samples.processor),
    )
    batches = itertools.chain.from_iterable(itertools.repeat(loader))
    return (to_device(batch, device) for batch in batches)


class _WithMask:
    """Collates for the references, which take an attention mask."""

    def __init__(self, processor: Any) -> None:
        self.processor = processor

    def __call__(self, items: list[Any]) -> dict[str, Any]:
        batch: dict[str, Any] = self.processor.collate([item.encoded for item in items])
        return batch
