"""How the splits share out languages, sources and lengths."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ocrsmith.datasets.groups import Groups
from ocrsmith.datasets.split import SplitPlan
from ocrsmith.records import SPLITS, SplitName

Trait = Literal["language", "source", "length"]

LENGTH_BANDS = (1, 21, 61, 201, 1001)
"""Characters from which each band of length begins."""
_ENOUGH = 30
"""Documents from which a split without any is worth a note."""


@dataclass(frozen=True, slots=True)
class StratumRow:
    """The samples that have one trait in common."""

    trait: Trait
    value: str
    """The language tag, the source, or the band of characters such as `21–60`."""
    samples: dict[SplitName, int]
    groups: dict[SplitName, int]
    """Documents that have any such sample, joined ones as one."""

    def share(self, split: SplitName) -> float:
        """The part of the samples that is in a split."""
        return self.samples[split] / max(1, sum(self.samples.values()))

    def to_json(self) -> dict[str, Any]:
        """For the manifest."""
        shares = {split: round(self.share(split), 4) for split in SPLITS}
        return {
            "trait": self.trait,
            "value": self.value,
            "samples": self.samples,
            "groups": self.groups,
            "shares": shares,
        }


def stratum_table(groups: Groups, of_group: np.ndarray) -> list[StratumRow]:
    """A row for each language, source and band of length, the largest first within each trait.

    Args:
        of_group: (G,) positions in `SPLITS`, from `assign`.
    """
    table = groups.table
    bands = np.searchsorted(LENGTH_BANDS, np.maximum(table.lengths, 1), side="right") - 1
    return [
        *_rows("language", table.languages, table.language_names, groups, of_group),
        *_rows("source", groups.of_source, groups.sources, groups, of_group),
        *_rows("length", bands, _band_names(), groups, of_group),
    ]


def stratum_notes(rows: Sequence[StratumRow], plan: SplitPlan) -> Iterator[str]:
    """A sentence for each part of the dataset that has many documents, but none in a split that is wanted."""
    for row in rows:
        documents = sum(row.groups.values())
        missing = [name for name in SPLITS if plan.wants(name) and not row.groups[name]]
        if documents >= _ENOUGH and missing:
            yield (
                f"{' and '.join(missing)} has nothing of {row.trait} {row.value} ({documents} documents): what "
                "is measured there says nothing about it; another --seed may share it out."
            )


def _rows(
    trait: Trait, values: np.ndarray, names: Sequence[str], groups: Groups, of_group: np.ndarray
) -> list[StratumRow]:
    splits = of_group[groups.of_sample].astype(np.int64)
    samples = np.zeros((len(names), len(SPLITS)), dtype=np.int64)
    np.add.at(samples, (values, splits), 1)
    documents = np.zeros_like(samples)
    pairs = np.unique(np.stack([values, groups.of_sample], axis=1), axis=0)
    np.add.at(documents, (pairs[:, 0], of_group[pairs[:, 1]]), 1)
    order = np.argsort(-samples.sum(axis=1), kind="stable")
    return [
        StratumRow(trait, names[index], _by_split(samples[index]), _by_split(documents[index]))
        for index in order
        if samples[index].any()
    ]


def _by_split(counts: np.ndarray) -> dict[SplitName, int]:
    return {name: int(count) for name, count in zip(SPLITS, counts, strict=True)}


def _band_names() -> list[str]:
    ends = [f"–{start - 1}" for start in LENGTH_BANDS[1:]] + [" and more"]
    return [f"{start}{end}" for start, end in zip(LENGTH_BANDS, ends, strict=True)]
