"""What came of a build: counts, figures, and what a user should know."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ocrsmith.datasets.groups import GroupIndex
from ocrsmith.datasets.importers import Source
from ocrsmith.datasets.settings import BuildSettings, Layout
from ocrsmith.datasets.split import SplitPlan
from ocrsmith.records import SPLITS, Excluded, PageSample, SplitName


@dataclass(frozen=True)
class Distribution:
    """Least, median, mean, 95th percentile and largest of a figure."""

    min: float
    median: float
    mean: float
    p95: float
    max: float

    @classmethod
    def of(cls, values: array[int]) -> Distribution:
        """Of at least one value."""
        data = np.frombuffer(values, dtype=np.int64)
        median, p95 = np.percentile(data, [50, 95])
        return cls(
            float(data.min()), float(median), round(float(data.mean()), 2), float(p95), float(data.max())
        )


@dataclass(frozen=True)
class BuildSummary:
    """What came of a build."""

    folder: Path
    layout: Layout
    counts: dict[SplitName, int]
    groups: dict[SplitName, int]
    """Documents in each split; a sample without a document counts as one."""
    excluded: dict[str, int]
    """Left-out items by reason."""
    content_hash: str
    text_length: Distribution
    """Characters."""
    image_width: Distribution
    image_height: Distribution
    """Pixels."""
    length_check: str
    """How too long samples were found."""
    notes: tuple[str, ...]
    """What a user should know."""
    first_excluded: tuple[Excluded, ...]
    example: PageSample = field(repr=False)
    """The first sample."""

    @property
    def samples(self) -> int:
        """Samples in all splits."""
        return sum(self.counts.values())


def find_notes(
    settings: BuildSettings,
    sources: Sequence[Source],
    groups: GroupIndex,
    repeated_ids: int,
    counts: dict[SplitName, int],
    documents: int,
) -> Iterator[str]:
    """What a user should know, a sentence each.

    Args:
        repeated_ids: samples that got a suffix.
        counts: samples in each split.
        documents: groups in all, those of single samples included.
    """
    for source in sources:
        yield from source.notes
    yield from _notes_on_splits(SplitPlan.parse(settings.splits), counts, documents)
    if groups.copies:
        yield (
            f"{groups.copies} samples are exact copies of another (same image, same text); copies are kept "
            "together in one split."
        )
    if groups.contradictions:
        yield f"{groups.contradictions} samples have the image of an earlier sample but another text."
    if repeated_ids:
        yield f"{repeated_ids} ids were there already and got a suffix (#2, #3 …)."
    if settings.group_by and not groups.named:
        yield f"--group-by {settings.group_by} found no documents."


def _notes_on_splits(plan: SplitPlan, counts: dict[SplitName, int], documents: int) -> Iterator[str]:
    total = sum(counts.values())
    targets = plan.targets(total)
    empty = [name for name in SPLITS if not counts[name] and plan.wants(name)]
    if empty:
        why = f"{total} samples" if documents == total else f"{documents} documents for {total} samples"
        yield f"{' and '.join(empty)} {'is' if len(empty) == 1 else 'are'} empty: there are only {why}."
    elif any(abs(counts[name] - targets[name]) > max(1, 0.02 * total) for name in SPLITS):
        asked = "/".join(str(targets[name]) for name in SPLITS)
        yield f"The splits are not nearer to {asked} samples, since whole documents are kept together."
    if plan.counts is not None and plan.counts[0] is not None and plan.counts[0] != targets["train"]:
        yield f"train takes the rest, {targets['train']} samples, not {plan.counts[0]}."
