"""From page samples to batches: the same processor as inference, samples prepared in worker processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Protocol, Self

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset, Sampler

from ocrsmith.errors import DataError, OcrsmithError
from ocrsmith.model.device_views import RawImages
from ocrsmith.model.ocr_model import ImageLayout
from ocrsmith.model.processing import IGNORE, Encoded, OcrProcessor
from ocrsmith.records import PageSample

if TYPE_CHECKING:
    from ocrsmith.training.feature_cache import FeatureCache


class Samples(Protocol):
    """Page samples by number; `ocrsmith.datasets.SampleTable` is one, so is a list."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> PageSample: ...


@dataclass(slots=True)
class TrainingItem:
    """One encoded sample and its number in the training data."""

    index: int
    encoded: Encoded


class TrainingSamples(Dataset[TrainingItem]):
    """The samples that are trained on, encoded when asked for.

    With a feature cache the images are left out: `FeatureCache` has their features and their token ids.
    """

    def __init__(self, samples: Samples, processor: OcrProcessor, kept: Sequence[int]) -> None:
        """`kept`: numbers of the samples that are trained on; the others are over the length limit."""
        self.samples = samples
        self.processor = processor
        self.kept = list(kept)
        self.cache: FeatureCache | None = None

    def __len__(self) -> int:
        return len(self.kept)

    def __getitem__(self, index: int) -> TrainingItem:
        if self.cache is not None:
            return TrainingItem(index, self.cache.encoded[index])
        return TrainingItem(index, self.encode(index))

    def encode(self, index: int) -> Encoded:
        """Decodes and prepares one sample.

        Raises:
            DataError: it cannot be prepared; names the sample.
        """
        sample = self.samples[self.kept[index]]
        try:
            return self.processor.encode([sample.image], sample.prompt, sample.text)
        except OcrsmithError as error:
            raise cannot_prepare(sample, error) from error


class Collator:
    """Encoded samples → what the model's forward takes, right-padded.

    The attention mask is left out: with causal attention no token sees the padding after it.
    """

    def __init__(self, processor: OcrProcessor, features: Callable[[int], torch.Tensor] | None = None) -> None:
        """`features`: cached image features of a sample by its number, in place of views."""
        self.processor = processor
        self.features = features

    def __call__(self, items: Sequence[TrainingItem]) -> dict[str, Any]:
        batch = self.processor.collate([item.encoded for item in items], padding_side="right")
        del batch["attention_mask"]
        if self.features is not None:
            del batch["views"], batch["image_layouts"]
            batch["image_features"] = torch.cat([self.features(item.index) for item in items])
        return batch


@dataclass(slots=True)
class StepBatch:
    """All samples of one optimiser step, laid end to end; micro-batches are slices of it.

    Letters: T tokens, R rows with a label, I image tokens of the whole step; N_S views of side S.
    """

    indices: list[int]
    """Numbers of the samples in the training data."""
    input_ids: Tensor
    """(1, T) int64."""
    labels: Tensor
    """(1, T) int64."""
    label_rows: Tensor
    """(R,) int64, positions in the row whose next token is learned."""
    lengths: list[int]
    """Tokens of each sample."""
    label_counts: list[int]
    """Learned tokens of each sample."""
    image_counts: list[int]
    """Images of each sample."""
    layouts: list[ImageLayout]
    """Of each image."""
    views: dict[int, Tensor] | RawImages
    """Side S → (N_S, S, S, 3) uint8; empty where features are cached. Raw images until `resized`."""
    feature_counts: list[int] | None = None
    """Image tokens of each sample, where features are cached."""
    image_features: Tensor | None = None
    """(I, H), likewise."""

    def __len__(self) -> int:
        """Samples."""
        return len(self.lengths)

    @property
    def num_tokens(self) -> int:
        return self.input_ids.shape[1]

    @property
    def num_labels(self) -> int:
        return self.label_rows.shape[0]

    def to(self, device: torch.device | str, non_blocking: bool = False, **_: Any) -> Self:
        """The same on another device."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self, *_: Any) -> Self:
        """The same in memory that a GPU can copy from by itself."""
        return self._map(lambda tensor: tensor.pin_memory())

    def record_stream(self, stream: torch.cuda.Stream) -> None:
        """Keeps the tensors' memory until that stream is done with them."""
        self._map(lambda tensor: tensor.record_stream(stream) or tensor)  # type: ignore[func-returns-value]

    def _map(self, change: Callable[[Tensor], Tensor]) -> Self:
        changed: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Tensor):
                changed[field.name] = change(value)
            elif isinstance(value, RawImages):
                changed[field.name] = value.map(change)
            elif isinstance(value, dict):
                changed[field.name] = {side: change(views) for side, views in value.items()}
        return replace(self, **changed)

    def resized(self) -> Self:
        """The same with views made of raw images, on the device where they are."""
        return replace(self, views=self.views.views()) if isinstance(self.views, RawImages) else self

    def part(self, start: int, stop: int) -> dict[str, Any]:
        """What the model's forward takes for samples `start` to `stop`, packed into one row."""
        first, end = sum(self.lengths[:start]), sum(self.lengths[:stop])
        first_row, end_row = sum(self.label_counts[:start]), sum(self.label_counts[:stop])
        rows = self.label_rows[first_row:end_row]
        return {
            "input_ids": self.input_ids[:, first:end],
            "labels": self.labels[:, first:end],
            "label_rows": rows - first if first else rows,
            "sequence_lengths": self.lengths[start:stop],
            **self._images(start, stop),
        }

    def padded_part(self, start: int, stop: int, pad: int) -> dict[str, Any]:
        """The same samples as rows of a batch, padded on the right: the plain path, without packing."""
        lengths = self.lengths[start:stop]
        first, longest = sum(self.lengths[:start]), max(lengths)
        end = first + sum(lengths)
        ids, labels = self.input_ids[0, first:end].split(lengths), self.labels[0, first:end].split(lengths)
        first_row = sum(self.label_counts[:start])
        rows, begin = [], first
        for row, (length, count) in enumerate(zip(lengths, self.label_counts[start:stop], strict=True)):
            rows.append(self.label_rows[first_row : first_row + count] + (row * longest - begin))
            first_row, begin = first_row + count, begin + length
        return {
            "input_ids": pad_sequence(ids, batch_first=True, padding_value=pad),  # (B, T)
            "labels": pad_sequence(labels, batch_first=True, padding_value=IGNORE),  # (B, T)
            "label_rows": torch.cat(rows),
            **self._images(start, stop),
        }

    def _images(self, start: int, stop: int) -> dict[str, Any]:
        if self.feature_counts is not None:
            assert self.image_features is not None
            first = sum(self.feature_counts[:start])
            count = sum(self.feature_counts[start:stop])
            return {"image_features": self.image_features[first : first + count]}
        first, end = sum(self.image_counts[:start]), sum(self.image_counts[:stop])
        if isinstance(self.views, RawImages):
            return {"views": self.views[first:end], "image_layouts": self.layouts[first:end]}
        views = self.views
        before, taken = _count_views(self.layouts[:first]), _count_views(self.layouts[first:end])
        return {
            "views": {
                side: views[side][before.get(side, 0) : before.get(side, 0) + count]
                for side, count in taken.items()
            },
            "image_layouts": self.layouts[first:end],
        }


class StepCollator:
    """Encoded samples → the whole optimiser step in one `StepBatch`; runs where the images are decoded."""

    def __init__(self, processor: OcrProcessor, *, cached: bool = False) -> None:
        """`cached`: image features take the place of views; who has them sets `image_features`."""
        self.processor = processor
        self.cached = cached

    def __call__(self, items: Sequence[TrainingItem]) -> StepBatch:
        packed = self.processor.collate_packed([item.encoded for item in items])
        lengths, rows = packed["sequence_lengths"], packed["label_rows"]
        ends = np.searchsorted(rows.numpy(), np.cumsum(lengths))  # learned rows up to each sample's end
        image = self.processor.tokens.image
        return StepBatch(
            indices=[item.index for item in items],
            input_ids=packed["input_ids"],
            labels=packed["labels"],
            label_rows=rows,
            lengths=lengths,
            label_counts=np.diff(ends, prepend=0).tolist(),
            image_counts=[len(item.encoded.views) for item in items],
            layouts=packed["image_layouts"],
            views={} if self.cached else packed["views"],
            feature_counts=[item.encoded.input_ids.count(image) for item in items] if self.cached else None,
        )


def _count_views(layouts: Sequence[ImageLayout]) -> dict[int, int]:
    """Side → number of views."""
    counts: dict[int, int] = {}
    for view, tile, columns, rows in layouts:
        counts[view] = counts.get(view, 0) + 1
        if columns * rows:
            counts[tile] = counts.get(tile, 0) + columns * rows
    return counts


def cannot_prepare(sample: PageSample, error: OcrsmithError) -> DataError:
    """The same error with the sample's name in it."""
    return DataError(
        f"The sample {sample.id!r} cannot be prepared: {error.problem}",
        place=sample.image_path or sample.source or None,
        mend="build the dataset again: `ocrsmith data build` leaves such samples out and lists them",
    )


def without_images(encoded: Encoded) -> Encoded:
    """Token ids and labels alone, for samples whose features are cached."""
    return replace(encoded, views=[])


class LengthGroups(Sampler[int]):
    """A random order in which neighbours have like lengths: shuffled, then sorted within large groups.

    The order depends on seed and epoch alone, so that a stopped run goes on with the same batches.
    """

    GROUP = 32
    """Batches of a group: within it samples are sorted."""

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int) -> None:
        self.lengths = list(lengths)
        self.batch_size = batch_size
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed + 7919 * self.epoch)
        order = torch.randperm(len(self.lengths), generator=generator).tolist()
        size = self.batch_size * self.GROUP
        batches = []
        for start in range(0, len(order), size):
            group = sorted(order[start : start + size], key=lambda index: -self.lengths[index])
            batches += [group[n : n + self.batch_size] for n in range(0, len(group), self.batch_size)]
        full = [batch for batch in batches if len(batch) == self.batch_size]
        rest = [batch for batch in batches if len(batch) < self.batch_size]
        for place in torch.randperm(len(full), generator=generator).tolist():
            yield from full[place]
        for batch in rest:
            yield from batch
