"""How the samples of an optimiser step are divided into micro-batches, and learned from, one after another.

A loss that is a sum over labels, divided by the labels of the whole step, gives the same gradients however the
step is divided; so the division follows memory alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ocrsmith.training.collate import StepBatch
from ocrsmith.training.micro_step import MicroStep

Part = tuple[int, int]
"""Samples from the first up to, not with, the second."""


@dataclass(frozen=True, slots=True)
class Load:
    """What a micro-batch asks for."""

    samples: int
    tokens: int
    """Of all samples, images included."""
    labels: int
    image_tokens: int
    pixels: int
    """Of all views that the encoder sees; 0 where features are cached."""

    def __add__(self, other: Load) -> Load:
        return Load(
            self.samples + other.samples,
            self.tokens + other.tokens,
            self.labels + other.labels,
            self.image_tokens + other.image_tokens,
            self.pixels + other.pixels,
        )


NOTHING = Load(0, 0, 0, 0, 0)
PIXELS_OF_TOKEN = 64 * 64
"""The encoder makes one token of 4 × 4 patches of 16 × 16 pixels."""


def loads_of(batch: StepBatch) -> list[Load]:
    """What each sample asks for."""
    loads, image = [], 0
    for number, (tokens, labels, images) in enumerate(
        zip(batch.lengths, batch.label_counts, batch.image_counts, strict=True)
    ):
        pixels = sum(
            view * view + columns * rows * tile * tile
            for view, tile, columns, rows in batch.layouts[image : image + images]
        )
        image += images
        cached = batch.feature_counts is not None
        image_tokens = batch.feature_counts[number] if cached else pixels // PIXELS_OF_TOKEN  # type: ignore[index]
        loads.append(Load(1, tokens, labels, image_tokens, 0 if cached else pixels))
    return loads


class Division:
    """Divides steps into micro-batches: at most so many samples, or as many as the memory model says fit."""

    def __init__(
        self,
        most: int | None = None,
        *,
        cost: Callable[[Load], float] | None = None,
        budget: float | None = None,
    ) -> None:
        """
        Args:
            most: samples of a micro-batch; None: no limit.
            cost: bytes that a micro-batch takes for its time.
            budget: most bytes for it; None: no limit.
        """
        self.most = most
        self.cost = cost
        self.budget = budget

    def __call__(self, loads: Sequence[Load]) -> list[Part]:
        """Neighbours that go through the model together, in order; evenly filled where memory is the limit."""
        parts, start, sum_ = [], 0, NOTHING
        for number, load in enumerate(loads):
            if number > start and not self._fits(sum_ + load):
                parts.append((start, number))
                start, sum_ = number, NOTHING
            sum_ = sum_ + load
        parts.append((start, len(loads)))
        if self.budget is not None and len(parts) > 1:
            even = _evenly(loads, len(parts))
            if all(self._fits(_total(loads, part)) or part[1] - part[0] == 1 for part in even):
                return even
        return parts

    def halve(self, loads: Sequence[Load], part: Part) -> None:
        """Makes micro-batches at most as large as a half of that one, from here on."""
        if self.budget is not None and self.cost is not None:
            middle = (part[0] + part[1]) // 2
            halves = ((part[0], middle), (middle, part[1]))
            self.budget = max(self.cost(_total(loads, half)) for half in halves)
        else:
            self.most = max(1, (part[1] - part[0]) // 2)

    def _fits(self, load: Load) -> bool:
        if self.most is not None and load.samples > self.most:
            return False
        return self.budget is None or self.cost is None or self.cost(load) <= self.budget


def _total(loads: Sequence[Load], part: Part) -> Load:
    return sum(loads[part[0] : part[1]], NOTHING)


def _evenly(loads: Sequence[Load], count: int) -> list[Part]:
    """`count` parts of about as many tokens each."""
    total, seen = sum(load.tokens for load in loads), 0
    cuts = [0]
    for number, load in enumerate(loads):
        rest = count - len(cuts)  # parts still to be begun
        if rest and number > cuts[-1]:
            reached = seen + load.tokens / 2 >= total * len(cuts) / count
            if reached or len(loads) - number == rest:
                cuts.append(number)
        seen += load.tokens
    return list(zip(cuts, [*cuts[1:], len(loads)], strict=True))


class StepLearner:
    """Forward and backward of whole steps, micro-batch by micro-batch."""

    def __init__(
        self,
        division: Division,
        trained: Sequence[nn.Parameter],
        *,
        pad: int | None = None,
        micro: MicroStep | None = None,
        say: Callable[[str], None] | None = None,
    ) -> None:
        """
        Args:
            division: of steps into micro-batches.
            trained: parameters that get gradients.
            pad: id of the padding token, to pad samples to one length; None packs them into one row.
            micro: takes packed micro-batches on a GPU, in place of the model as it is; in a single process.
            say: is told when memory ran out and a step is tried again.
        """
        self.division = division
        self.trained = list(trained)
        self.pad = pad
        self.micro = micro
        self.say = say
        self.scaler: torch.amp.GradScaler | None = None
        self.processes = 1
        self.largest = 0
        """Samples of the largest micro-batch of the last step."""
        self.retries = 0
        """Times that memory ran out."""

    def __call__(self, model: nn.Module, batch: StepBatch, items: int | Tensor) -> Tensor:
        """Leaves the step's gradients in the parameters, and returns its loss.

        Args:
            model: takes what `StepBatch.part` gives, and returns a mapping with a `loss`.
            batch: the step, on the model's device.
            items: labels that the loss is averaged over: those of the whole step, of all processes.

        Raises:
            torch.OutOfMemoryError: not even one sample fits.
        """
        loads = loads_of(batch)
        while True:
            parts = self.division(loads)
            loss, failed = self._learn(model, batch, parts, items)
            if failed is None:
                assert loss is not None
                self.largest = max(stop - start for start, stop in parts)
                return loss
            self._give_way(loads, failed, batch.input_ids.device)

    def _learn(
        self, model: nn.Module, batch: StepBatch, parts: Sequence[Part], items: int | Tensor
    ) -> tuple[Tensor | None, Part | None]:
        """The loss; or the part that memory ran out in. Only one sample alone raises."""
        loss: Tensor | None = None
        if self.micro is not None:
            self.micro.begin()
        for part in parts:
            try:
                with self._synced(model, part is parts[-1]):
                    one = self._part(model, batch, part, items)
            except torch.OutOfMemoryError:
                if part[1] - part[0] == 1 or self.processes > 1:  # the others would wait for this one for ever
                    raise
                return None, part
            loss = one if loss is None else loss + one
        return loss, None

    def _part(self, model: nn.Module, batch: StepBatch, part: Part, items: int | Tensor) -> Tensor:
        if self.micro is not None and self.pad is None and self.processes == 1:
            scale = None if self.scaler is None else self.scaler.scale(torch.ones((), device=self.micro.device))
            return self.micro.learn(batch.part(*part), items, scale)
        inputs = batch.part(*part) if self.pad is None else batch.padded_part(*part, self.pad)
        loss: Tensor = model(**inputs, num_items_in_batch=items)["loss"]
        if self.processes > 1:
            loss = loss * self.processes  # gradients are averaged over processes, and `items` are of all
        (loss if self.scaler is None else self.scaler.scale(loss)).backward()
        return loss.detach()

    def _synced(self, model: nn.Module, last: bool) -> AbstractContextManager[Any]:
        wait = getattr(model, "no_sync", None) if self.processes > 1 and not last else None
        return nullcontext() if wait is None else wait()

    def _give_way(self, loads: Sequence[Load], failed: Part, device: torch.device) -> None:
        """After memory ran out: no gradients, no cached blocks, smaller micro-batches."""
        for parameter in self.trained:
            parameter.grad = None
        if self.micro is not None:
            self.micro.release()
        if device.type == "cuda":
            torch.cuda.empty_cache()
        self.division.halve(loads, failed)
        self.retries += 1
        if self.say is not None:
            count = failed[1] - failed[0]
            now = max(stop - start for start, stop in self.division(loads))
            self.say(
                f"{count} samples at once did not fit into the GPU's memory: the step is done again with {now}."
            )
