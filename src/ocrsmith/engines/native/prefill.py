"""From encoded pages to what decoding starts with: image features, keys and values of prompts, first scores.

Prompts are packed into one row. On a GPU all of it is put on a stream of its own, beside the decoding of other
pages.

Letters: n pages, T tokens of all prompts, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from ocrsmith.engines.base import PageRequest
from ocrsmith.engines.native.stepping import to_device
from ocrsmith.model.attention import PackedAttention
from ocrsmith.model.device_views import RawImages
from ocrsmith.model.processing import Encoded, OcrProcessor
from ocrsmith.model.static_cache import KeptPrompt
from ocrsmith.records import FinishReason


@dataclass(slots=True, eq=False)
class Page:
    """A request on its way through the model."""

    request: PageRequest
    encoded: Encoded
    limit: int
    """Tokens that may be generated; the page's own, so that its answer does not depend on others."""
    seconds: float
    """Spent on it so far: its share where several pages are worked on together."""
    tokens: list[int] = field(default_factory=list)
    """Generated so far, as far as the host knows."""
    logprobs: list[float] = field(default_factory=list)
    finish: FinishReason | None = None
    row: int = -1
    """Where it sits while it is decoded."""
    steps: int = 0
    """Tokens that it may have by now, known or not."""

    @property
    def prompt(self) -> int:
        """Tokens of the prompt."""
        return self.encoded.num_tokens

    def begin_anew(self) -> None:
        """Forgets what was decoded."""
        self.tokens, self.logprobs, self.row, self.steps = [], [], -1, 0


@dataclass(slots=True)
class Group:
    """Pages whose prompts go through the model together."""

    pages: list[Page]
    batch: dict[str, Any] | None = None
    """Of `collate`, perhaps in pinned memory; None: still to be made."""


@dataclass(slots=True)
class Staged:
    """A group that is ready to be decoded, or will be when `ready` has passed."""

    waiting: list[tuple[Page, int, int]]
    """Pages without a seat: page, its place in the group, its first token in the packed row."""
    prompt: KeptPrompt
    logits: Tensor
    """(n, V)"""
    ready: torch.cuda.Event | None

    @property
    def is_ready(self) -> bool:
        """Whether it can be used without waiting."""
        return self.ready is None or self.ready.query()

    def hand_over(self) -> None:
        """Lets the current stream use it, once it is ready."""
        if self.ready is not None:
            stream = torch.cuda.current_stream()
            stream.wait_event(self.ready)
            self.prompt.record_stream(stream)
            self.logits.record_stream(stream)


class Prefiller:
    """Runs the encoder and the prompts of groups."""

    def __init__(self, model: Any, processor: OcrProcessor, features: PageFeatures | None = None) -> None:
        """
        Args:
            model: an `OcrModel`, perhaps with an adapter in it.
            processor: makes batches.
            features: keeps image features; None: nothing does.
        """
        self.model, self.processor, self.features = model, processor, features
        self.device: torch.device = next(model.parameters()).device
        self.stream = torch.cuda.Stream(self.device) if self.device.type == "cuda" else None

    def collate(self, pages: Sequence[Page]) -> dict[str, Any]:
        """The pages' prompts and views; on the way to a GPU in pinned memory. May run in a thread."""
        encoded = [page.encoded for page in pages]
        batch = self.processor.collate(encoded)
        ids = torch.tensor([number for sample in encoded for number in sample.input_ids])[None]
        views = batch["views"]
        if self.device.type == "cuda":
            ids = ids.pin_memory()
            raw = isinstance(views, RawImages)
            views = views.pin_memory() if raw else {side: view.pin_memory() for side, view in views.items()}
        return {"input_ids": ids, "views": views, "image_layouts": batch["image_layouts"]}

    @torch.inference_mode()
    def __call__(self, group: Group) -> Staged:
        """Starts a group; on a GPU it may still be under way when this returns."""
        batch = group.batch or self.collate(group.pages)
        lengths = [page.prompt for page in group.pages]
        with torch.cuda.stream(self.stream) if self.stream is not None else nullcontext():
            features = self._features(group.pages, batch)
            ids = batch["input_ids"].to(self.device, non_blocking=True)
            packed = PackedAttention(lengths, self.device)
            prompt = KeptPrompt(packed)
            last = to_device(torch.tensor(list(accumulate(lengths))) - 1, self.device)  # (n,)
            embeds = self.model.embed(ids, features)  # (1, T, H)
            hidden = self.model.decode(embeds, packed.positions(), prompt, rows=last)  # (1, n, H)
            logits = self.model.lm_head(hidden[0])
            ready = None
            if self.stream is not None:
                ready = torch.cuda.Event()
                ready.record()
        starts = [0, *accumulate(lengths)][:-1]
        waiting = [
            (page, place, start) for place, (page, start) in enumerate(zip(group.pages, starts, strict=True))
        ]
        return Staged(waiting, prompt, logits, ready)

    def _features(self, pages: Sequence[Page], batch: dict[str, Any]) -> Tensor | None:
        """Of all images of a group; None where it has none."""
        if not batch["image_layouts"]:
            return None

        def encode() -> Tensor:
            views = batch["views"]
            if not isinstance(views, RawImages):
                views = {side: view.to(self.device, non_blocking=True) for side, view in views.items()}
            features: Tensor = self.model.encode_images(views, batch["image_layouts"])
            return features

        if self.features is None:
            return encode()
        known = self.features.of([(page.request.id, page.encoded.num_image_tokens) for page in pages], encode)
        return known.to(self.device, non_blocking=True)


class PageFeatures:
    """Image features by page id, in host memory up to a limit."""

    def __init__(self, limit_bytes: int) -> None:
        self.room = limit_bytes
        """Bytes that may still be used."""
        self._kept: dict[str, Tensor] = {}

    def of(self, pages: Sequence[tuple[str, int]], encode: Callable[[], Tensor]) -> Tensor:
        """Features (I, H) of a batch.

        Args:
            pages: id and number of image tokens of each page.
            encode: makes the features of the whole batch; called where those of a page are not known.
        """
        if all(name in self._kept for name, _ in pages):
            return torch.cat([self._kept[name] for name, _ in pages])
        rows: Tensor = encode()
        for (name, _), part in zip(pages, rows.split([count for _, count in pages]), strict=True):
            if name not in self._kept and part.nbytes <= self.room:
                self._kept[name] = part.to("cpu", copy=True)
                self.room -= part.nbytes
        return rows
