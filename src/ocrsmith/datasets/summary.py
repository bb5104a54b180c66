"""What came of a build: counts, figures, and what a user should know."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ocrsmith.datasets.groups import Groups
from ocrsmith.datasets.importers import Source
from ocrsmith.datasets.resume import UNSTABLE
from ocrsmith.datasets.settings import BuildSettings, Layout
from ocrsmith.datasets.split import Assignment, SplitPlan
from ocrsmith.datasets.strata import StratumRow, stratum_notes
from ocrsmith.records import Excluded, PageSample, SplitName


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
        data = np.frombuffer(values, dtype=values.typecode)
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
    strata: tuple[StratumRow, ...]
    """How the splits share out languages, sources and lengths."""
    length_check: str
    """How too long samples were found."""
    notes: tuple[str, ...]
    """What a user should know."""
    first_excluded: tuple[Excluded, ...]
    example: PageSample = field(repr=False)
    """The first sample."""
    resumed: int = 0
    """Samples that an interrupted build had read already."""

    @property
    def samples(self) -> int:
        """Samples in all splits."""
        return sum(self.counts.values())


def find_notes(
    settings: BuildSettings,
    sources: Sequence[Source],
    groups: Groups,
    repeated_ids: int,
    assignment: Assignment,
    strata: Sequence[StratumRow],
) -> Iterator[str]:
    """What a user should know, a sentence each.

    Args:
        repeated_ids: samples that got a suffix.
    """
    for source in sources:
        yield from source.notes
        if source.kind in UNSTABLE:
            yield f"{source.path}: its rows may come in another order next time, so no build of it can go on."
    yield from assignment.notes
    yield from stratum_notes(strata, SplitPlan.parse(settings.splits))
    yield from groups.notes()
    if repeated_ids:
        yield f"{repeated_ids} ids were there already and got a suffix (#2, #3 …)."
    if settings.group_by not in (None, "auto", "none") and not groups.named:
        yield f"--group-by {settings.group_by} found no documents."
