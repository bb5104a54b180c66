"""Forward and backward pass of a packed micro-batch; on a GPU, as one replayed CUDA graph.

A micro-batch of text lines keeps a GPU busy for less time than a host takes to launch its 3,000 kernels, one of
pages for hardly more. So the pass is captured once for each shape, and replayed. Rows are filled up to a few
sizes, so that few shapes come.

Letters: T tokens, R labels, S samples, H hidden.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from ocrsmith.model.attention import PackedAttention, runs_flash
from ocrsmith.model.kernels import expert_path
from ocrsmith.model.loss import chunked_cross_entropy
from ocrsmith.model.ocr_model import OcrModel

LONGEST_ROW = {False: 4096, True: 32768}
"""Tokens above which a row is not captured, on small and on large cards: a graph keeps the memory it needs."""
LARGE_CARD = 40 * 2**30
MOST_GRAPHS = 32
TOKENS, LABELS, SAMPLES, LONGEST = 256, 128, 8, 512
"""Rows are filled up to multiples of these at least. What fills is a sample of its own."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What a graph is captured for: sizes that the micro-batch is filled up to."""

    tokens: int
    labels: int
    samples: int
    longest: int

    @classmethod
    def of(cls, lengths: Sequence[int], labels: int) -> Shape:
        total = sum(lengths)
        tokens = _round_up(total, max(TOKENS, _power_below(total // 16)))
        return cls(
            tokens,
            _round_up(labels, max(LABELS, _power_below(labels // 4))),
            _round_up(len(lengths) + 1, SAMPLES),
            _round_up(max(*lengths, tokens - total), LONGEST),
        )


class MicroStep:
    """Adds a micro-batch's gradients to those of its optimiser step."""

    def __init__(self, model: OcrModel, *, graphs: bool = True) -> None:
        """
        Args:
            model: the base model with its adapter in place, in training mode.
            graphs: replay short rows as CUDA graphs where the device and the model allow it.
        """
        self.model = model
        self.device = model.device
        self.trained = [p for p in model.parameters() if p.requires_grad]
        self._learns_to_see = any(p.requires_grad for p in _encoder_parameters(model))
        self.graphs = graphs and _can_capture(model)
        self._longest_row = LONGEST_ROW[False]
        if self.graphs:
            memory = torch.cuda.get_device_properties(model.device).total_memory
            self._longest_row = LONGEST_ROW[memory >= LARGE_CARD]
        self._captured: OrderedDict[Shape, _Captured | None] = OrderedDict()
        self._pool: Any = None
        self._gradients: list[Tensor] = []

    def begin(self) -> None:
        """Starts an optimiser step: gradients are zero, in the tensors that the graphs add to."""
        if not self.graphs:
            for parameter in self.trained:
                parameter.grad = None
            return
        if not self._gradients:
            self._gradients = [torch.zeros_like(p) for p in self.trained]
        for parameter, gradient in zip(self.trained, self._gradients, strict=True):
            parameter.grad = gradient
        torch._foreach_zero_(self._gradients)

    def learn(self, inputs: dict[str, Any], items: int | Tensor, scale: Tensor | None = None) -> Tensor:
        """Encodes a micro-batch's images, where they are not yet, and learns from it.

        Args:
            inputs: `collate_packed`'s, on the model's device, or with `image_features` in place of views.
            items: labels of the whole optimiser step.
            scale: of the loss, as fp16 needs it.
        Returns:
            scalar: the micro-batch's share of the step's mean loss, not scaled.
        """
        batch = dict(inputs)
        features = batch.pop("image_features", None)
        if features is None and not self._learns_to_see:
            with torch.no_grad():
                features = self.model.encode_images(batch["views"], batch["image_layouts"])
        factor = torch.ones((), device=self.device) if scale is None else scale
        loss = self(batch, features, factor / items)
        return loss if scale is None else loss / scale

    def __call__(self, batch: dict[str, Any], features: Tensor | None, factor: Tensor) -> Tensor:
        """
        Args:
            batch: `OcrProcessor.collate_packed`'s, on the model's device; views are not needed with features.
            features: (I, H) image features; None: `batch` has the views, and the encoder may learn.
            factor: scalar on the device, by which the sum over labels is multiplied: one over the labels of the
                step, times the loss scale.
        Returns:
            scalar: the sum over the micro-batch's labels times `factor`, without a graph.
        """
        shape = self._shape(batch, features)
        if shape is None or features is None:
            return self._eager(batch, features, factor)
        captured = self._captured.get(shape)
        if captured is not None:
            self._captured.move_to_end(shape)
            return captured(batch, features, factor)
        static = _Static(shape, self.model)
        static.fill(batch, features, factor)
        if shape not in self._captured:  # once without: it loads kernels, and many shapes never come again
            self._captured[shape] = None
            return static.run(self.model)
        self._forget()
        if self._pool is None:
            self._pool = torch.cuda.graph_pool_handle()
        captured = self._captured[shape] = _Captured(static, self.model, self._pool)
        return captured.replay()

    def release(self) -> None:
        """Frees all graphs, as when memory is short."""
        self._captured.clear()
        self._pool = None

    def _shape(self, batch: dict[str, Any], features: Tensor | None) -> Shape | None:
        if not self.graphs or features is None or features.requires_grad:
            return None
        shape = Shape.of(batch["sequence_lengths"], batch["label_rows"].numel())
        return shape if shape.tokens <= self._longest_row else None

    def _forget(self) -> None:
        while sum(graph is not None for graph in self._captured.values()) >= MOST_GRAPHS:
            oldest = next(shape for shape, graph in self._captured.items() if graph is not None)
            del self._captured[oldest]

    def _eager(self, batch: dict[str, Any], features: Tensor | None, factor: Tensor) -> Tensor:
        inputs = dict(batch)
        if features is not None:
            inputs.pop("views", None)
            inputs.pop("image_layouts", None)
        output = self.model(**inputs, image_features=features, use_cache=False, num_items_in_batch=1)
        loss: Tensor = output.loss * factor
        loss.backward()
        return loss.detach()


class _Static:
    """The tensors that a graph reads."""

    def __init__(self, shape: Shape, model: OcrModel) -> None:
        sizes, device = model.config.decoder_sizes, model.device
        self.shape = shape
        self.pad = int(model.config.pad_token_id or 0)
        self.ids = torch.zeros(1, shape.tokens, dtype=torch.int64, device=device)
        self.features = torch.zeros(shape.tokens, sizes.hidden_size, dtype=model.dtype, device=device)
        self.starts = torch.zeros(shape.samples + 1, dtype=torch.int32, device=device)
        self.rows = torch.zeros(shape.labels, dtype=torch.int64, device=device)
        self.targets = torch.zeros(shape.labels, dtype=torch.int64, device=device)
        self.factor = torch.zeros((), dtype=torch.float32, device=device)

    def fill(self, batch: dict[str, Any], features: Tensor, factor: Tensor) -> None:
        """Copies a micro-batch in; what is over is another sample, and labels that do not count."""
        lengths, rows = batch["sequence_lengths"], batch["label_rows"]
        ids, labels = batch["input_ids"], batch["labels"][0]
        total, learned = ids.shape[1], rows.numel()
        ends = list(accumulate(lengths))
        ends += [self.shape.tokens] * (self.shape.samples - len(ends))
        self.starts.copy_(torch.tensor([0, *ends], dtype=torch.int32), non_blocking=True)
        self.ids[:, :total] = ids
        self.ids[:, total:] = self.pad
        self.features[: features.shape[0]] = features
        self.rows[:learned] = rows
        self.rows[learned:] = 0
        self.targets[:learned] = labels[rows + 1]
        self.targets[learned:] = -100
        self.factor.copy_(factor)

    def run(self, model: OcrModel) -> Tensor:
        """Forward and backward of what was filled in."""
        packed = PackedAttention((), model.device, starts=self.starts, longest=self.shape.longest)
        embeds = model.embed(self.ids, self.features)
        hidden = model.decode(embeds, packed.positions(self.shape.tokens), packed, rows=self.rows)  # (1, R, H)
        loss = chunked_cross_entropy(hidden[0], model.lm_head.weight, self.targets) * self.factor
        loss.backward()
        return loss.detach()


class _Captured:
    """A graph and what it reads."""

    def __init__(self, static: _Static, model: OcrModel, pool: Any) -> None:
        self.static = static
        self.graph = torch.cuda.CUDAGraph()
        # Other threads pin memory for the loader meanwhile, which is none of the capture's business.
        with torch.cuda.graph(self.graph, pool=pool, capture_error_mode="thread_local"):
            self.loss = static.run(model)

    def __call__(self, batch: dict[str, Any], features: Tensor, factor: Tensor) -> Tensor:
        self.static.fill(batch, features, factor)
        return self.replay()

    def replay(self) -> Tensor:
        self.graph.replay()
        return self.loss.clone()


def _can_capture(model: OcrModel) -> bool:
    """Whether nothing in the pass waits for the host: flash attention and grouped GEMM, no dropout."""
    weight = model.lm_head.weight
    if not weight.is_cuda or weight.requires_grad or model.config.router_aux_loss_alpha:
        return False
    if any(isinstance(module, torch.nn.Dropout) and module.p > 0 for module in model.modules()):
        return False
    return runs_flash(weight) and expert_path(weight) != "loop"


def _power_below(number: int) -> int:
    """The largest power of two up to `number`; 0 for 0."""
    return 1 << (number.bit_length() - 1) if number else 0


def _encoder_parameters(model: OcrModel) -> Iterator[torch.nn.Parameter]:
    parts = (model.model.sam_model, model.model.vision_model, model.model.projector)
    yield from (parameter for part in parts for parameter in part.parameters())
    yield from (model.model.image_newline, model.model.view_seperator)


def _round_up(number: int, unit: int) -> int:
    return -(-number // unit) * unit
