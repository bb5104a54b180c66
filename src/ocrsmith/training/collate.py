"""From page samples to batches: the same processor as inference, samples prepared in worker processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch.utils.data import Dataset, Sampler

from ocrsmith.errors import DataError, OcrsmithError
from ocrsmith.model.processing import Encoded, OcrProcessor
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
