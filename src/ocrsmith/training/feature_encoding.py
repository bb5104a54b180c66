"""Runs the frozen encoder over samples in batches: images prepared ahead, features copied out behind."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ocrsmith.model.device_views import RawImages
from ocrsmith.model.ocr_model import OcrModel
from ocrsmith.model.processing import OcrProcessor
from ocrsmith.training.collate import TrainingItem, TrainingSamples


class _Pictures(Dataset[TrainingItem]):
    """Some of the samples, with their images."""

    def __init__(self, samples: TrainingSamples, numbers: Sequence[int]) -> None:
        self.samples = samples
        self.numbers = numbers

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, place: int) -> TrainingItem:
        return TrainingItem(self.numbers[place], self.samples.encode(self.numbers[place]))


class _CollateViews:
    """Numbers and image tokens of the samples, and the encoder's input."""

    def __init__(self, processor: OcrProcessor) -> None:
        self.processor = processor

    def __call__(self, items: Sequence[TrainingItem]) -> tuple[list[int], list[int], dict[str, Any]]:
        batch = self.processor.collate([item.encoded for item in items])
        return (
            [item.index for item in items],
            [item.encoded.num_image_tokens for item in items],
            {name: batch[name] for name in ("views", "image_layouts")},
        )


@dataclass(slots=True)
class _Landing:
    """Features on their way to the host, while the encoder is at the next batch."""

    numbers: list[int]
    tokens: list[int]
    rows: Tensor
    arrived: torch.cuda.Event | None

    @classmethod
    def start(cls, numbers: list[int], tokens: list[int], rows: Tensor, dtype: torch.dtype) -> _Landing:
        rows = rows.to(dtype)
        if not rows.is_cuda:
            return cls(numbers, tokens, rows.cpu(), None)
        host = torch.empty(rows.shape, dtype=dtype, pin_memory=True)
        host.copy_(rows, non_blocking=True)
        event = torch.cuda.Event()
        event.record()
        return cls(numbers, tokens, host, event)

    def finish(self) -> Iterator[tuple[int, Tensor]]:
        """(number, (image tokens, H)) of every sample, in memory of its own."""
        if self.arrived is not None:
            self.arrived.synchronize()
        for number, part in zip(self.numbers, self.rows.split(self.tokens), strict=True):
            yield number, part.clone()


def encode_samples(
    model: OcrModel,
    samples: TrainingSamples,
    numbers: Sequence[int],
    *,
    batch_size: int,
    workers: int,
    autocast: torch.dtype | None,
) -> Iterator[tuple[int, Tensor]]:
    """(number, (image tokens, H) in host memory) of these samples, in order.

    The model is in eval mode meanwhile. See `FeatureCache.build` for the arguments.
    """
    if not numbers:
        return
    device, dtype = model.device, model.model.image_newline.dtype
    loader = DataLoader(
        _Pictures(samples, numbers),
        batch_size=batch_size,
        num_workers=min(workers, len(numbers)),
        collate_fn=_CollateViews(samples.processor),
        pin_memory=device.type == "cuda",
        worker_init_fn=_leave_interrupts_to_the_parent,
    )
    before: _Landing | None = None
    was_training = model.training
    model.eval()
    try:
        for indices, tokens, inputs in loader:
            views = inputs["views"]
            if isinstance(views, RawImages):
                views = views.views(device)
            else:
                views = {side: batch.to(device, non_blocking=True) for side, batch in views.items()}
            with torch.no_grad(), torch.autocast(device.type, dtype=autocast, enabled=autocast is not None):
                rows = model.encode_images(views, inputs["image_layouts"])
            after = _Landing.start(indices, tokens, rows, dtype)
            if before is not None:
                yield from before.finish()
            before = after
        if before is not None:
            yield from before.finish()
    finally:
        model.train(was_training)


def _leave_interrupts_to_the_parent(_: int) -> None:
    """Ctrl-C reaches all processes of a terminal; the parent writes what is encoded, and ends these."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
