"""Finds what a dataset should not have on two sides: documents, copies, near copies and long texts.

One pass over the samples; what is kept of each are `Traits`, and its place for the examples. Samples that hang
together by a chain of copies count as copies of each other.
"""

from __future__ import annotations

import os
from array import array
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from ocrsmith.datasets.reader import Dataset
from ocrsmith.datasets.similar import KINDS, TraitTable, components, find_similar, without_repeated
from ocrsmith.datasets.split import hash_key
from ocrsmith.datasets.traits import Traits, traits_of
from ocrsmith.errors import ImageError
from ocrsmith.images import open_image
from ocrsmith.records import SPLITS, PageSample, SplitName

LEAK_KINDS: tuple[str, ...] = ("document", *KINDS)
TITLES = {
    "document": "the same document",
    "bytes": "the same image file",
    "pixels": "the same pixels",
    "near": "a near copy",
    "text": "the same long text",
}
"""What each kind of leak means, for people."""

_EXAMPLES = 3
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Leak:
    """What two sides have in common in one way."""

    kind: str
    """One of `LEAK_KINDS`. A sample counts for the first one that applies, and besides for `document`."""
    known: str
    """The side that a model may have learnt from."""
    tested: str
    """The side that is to test it."""
    count: int
    """Samples of `tested` concerned."""
    share: float
    """Of all its samples."""
    examples: tuple[tuple[str, str], ...]
    """(id in `known`, id in `tested`) of the first few."""


@dataclass(frozen=True, slots=True)
class LeakReport:
    """What was found, and over how much."""

    dataset: str
    against: str | None
    """The other dataset, if there was one."""
    sides: dict[str, int]
    """Samples of each side: train, val and test; with the other dataset's, named by its path."""
    leaks: tuple[Leak, ...]
    affected: dict[str, int]
    """Samples of each side that may test, known in any way to a side before it, each counted once."""
    repeated: dict[str, int]
    """Samples of each side that recur in so many documents (letterheads …) that they count as no leak."""
    unreadable: int
    """Samples whose image cannot be decoded; they were compared by their bytes and texts alone."""

    @property
    def found(self) -> bool:
        """Whether there is any leak."""
        return bool(self.leaks)

    def to_json(self) -> dict[str, Any]:
        """Everything, for machines."""
        return {
            "dataset": self.dataset,
            "against": self.against,
            "found": self.found,
            "sides": self.sides,
            "affected": {
                side: {"samples": count, "share": round(count / max(1, self.sides[side]), 6)}
                for side, count in self.affected.items()
            },
            "leaks": [
                {
                    "kind": leak.kind,
                    "known": leak.known,
                    "tested": leak.tested,
                    "count": leak.count,
                    "share": round(leak.share, 6),
                    "examples": [list(example) for example in leak.examples],
                }
                for leak in self.leaks
            ],
            "repeated": self.repeated,
            "unreadable": self.unreadable,
        }

    def report_lines(self) -> list[str]:
        """The report for people, line by line."""
        lines = [
            f"No leak: no two of {', '.join(self.sides)} have a document, an image or a long text in common."
        ]
        if self.leaks:
            lines = ["Leaks:"]
        for leak in self.leaks:
            lines.append(
                f"  {leak.count} samples of {leak.tested} ({leak.share:.1%}) have {TITLES[leak.kind]} as "
                f"samples of {leak.known}, e.g."
            )
            lines += [f"    {tested}  ←  {known}" for known, tested in leak.examples]
        if self.leaks:
            lines += [
                f"In all, {count} of {self.sides[side]} samples of {side} ({count / self.sides[side]:.1%})."
                for side, count in self.affected.items()
                if count
            ]
        for side, count in self.repeated.items():
            lines.append(
                f"Not counted: {count} samples of {side} that recur in many documents, as letterheads do."
            )
        if self.unreadable:
            lines.append(
                f"{self.unreadable} images cannot be decoded; only their bytes and texts were compared."
            )
        return lines


class LeakIndex:
    """Takes in the samples of all sides, then says what they have in common."""

    def __init__(self) -> None:
        self._table = TraitTable()
        self._sides: dict[tuple[int, str], int] = {}
        self._of_sample, self._places = array("B"), array("q")
        self._documents, self._origins = array("q"), array("q")
        self._counts: dict[int, int] = {}
        self.unreadable = 0

    def add(self, split: str, traits: Traits, *, group: str, source: str, dataset: int = 0) -> None:
        """Takes the next sample of a split, in the order of that split.

        Args:
            group: its document, empty if it has none.
            dataset: 0, or 1 for the dataset that is compared with. Documents of two datasets are the same if
                they have the same source too.
        """
        side = self._sides.setdefault((dataset, split), len(self._sides))
        self._of_sample.append(side)
        self._places.append(self._counts.get(side, 0))
        self._counts[side] = self._counts.get(side, 0) + 1
        self._documents.append(hash_key(0, "group", group) if group else -1)
        self._origins.append(hash_key(0, source, group) if group else -1)
        self._table.add(traits)

    def report(
        self, name: str, against: str | None = None, id_of: Callable[[int, str, int], str] | None = None
    ) -> LeakReport:
        """What the sides have in common.

        Args:
            name, against: what the datasets are called.
            id_of: (dataset, split, position in it) → id, for the examples; None names the positions.
        """
        search = _Search(self, name, against, id_of or (lambda _, split, place: f"{split} {place}"))
        leaks = tuple(search.leaks())
        return LeakReport(
            name, against, search.totals, leaks, search.affected(), search.repeated(), self.unreadable
        )


class _Search:
    """One report on its way."""

    def __init__(
        self, index: LeakIndex, name: str, against: str | None, id_of: Callable[[int, str, int], str]
    ) -> None:
        self._index, self._id_of = index, id_of
        self._side = np.array(index._of_sample, dtype=np.int64)
        documents = np.array(index._documents, dtype=np.int64)
        single = -2 - np.arange(len(documents), dtype=np.int64)
        _, numbers = np.unique(np.where(documents >= 0, documents, single), return_inverse=True)
        self._pairs, self._repeated = without_repeated(find_similar(index._table), numbers)
        order = sorted(index._sides, key=lambda side: (-side[0], SPLITS.index(_split(side[1]))))
        self._titles = {side: side[1] if side[0] == 0 else f"{against}: {side[1]}" for side in order}
        self._order = order
        self.totals = {self._titles[side]: index._counts[index._sides[side]] for side in order}
        self._affected = np.zeros(len(documents), dtype=bool)

    def leaks(self) -> Iterator[Leak]:
        """Every kind between every two sides, of which one is the dataset's own."""
        clusters = {}
        for level, name in enumerate(KINDS):
            chosen = self._pairs.where(self._pairs.kind <= level)
            clusters[str(name)] = components(len(self._side), chosen.first, chosen.second)
        for known, tested in combinations(self._order, 2):
            if tested[0] == 1:  # both belong to the other dataset
                continue
            names = self._index._documents if known[0] == tested[0] else self._index._origins
            clusters["document"] = np.array(names, dtype=np.int64)
            told = np.zeros(len(self._side), dtype=bool)
            for kind in LEAK_KINDS:
                hit = self._hits(clusters[kind], known, tested)
                self._affected |= hit
                if kind != "document":
                    hit, told = hit & ~told, told | hit
                if hit.any():
                    yield self._leak(kind, known, tested, hit, clusters[kind])

    def affected(self) -> dict[str, int]:
        """After `leaks`: samples concerned on each side that may test."""
        return {
            self._titles[side]: int((self._affected & (self._side == self._index._sides[side])).sum())
            for side in self._order[1:]
            if side[0] == 0
        }

    def repeated(self) -> dict[str, int]:
        """Sides that hold recurring parts, with the number of their samples that are such."""
        counts = np.bincount(self._side[self._repeated], minlength=len(self._order))
        return {
            self._titles[side]: int(counts[self._index._sides[side]])
            for side in self._order
            if counts[self._index._sides[side]]
        }

    def _hits(self, cluster: np.ndarray, known: tuple[int, str], tested: tuple[int, str]) -> np.ndarray:
        """(N,) samples of `tested` whose cluster has a sample of `known`; cluster -1 is none."""
        usable = cluster >= 0
        there = np.unique(cluster[usable & (self._side == self._index._sides[known])])
        return usable & (self._side == self._index._sides[tested]) & np.isin(cluster, there)

    def _leak(
        self, kind: str, known: tuple[int, str], tested: tuple[int, str], hit: np.ndarray, cluster: np.ndarray
    ) -> Leak:
        examples = []
        is_known = self._side == self._index._sides[known]
        for sample in np.flatnonzero(hit)[:_EXAMPLES]:
            partner = int(np.argmax(is_known & (cluster == cluster[sample])))
            examples.append((self._name(known, partner), self._name(tested, int(sample))))
        count, title = int(hit.sum()), self._titles[tested]
        return Leak(kind, self._titles[known], title, count, count / self.totals[title], tuple(examples))

    def _name(self, side: tuple[int, str], sample: int) -> str:
        return self._id_of(side[0], side[1], self._index._places[sample])


def find_leaks(
    dataset: Dataset, against: Dataset | None = None, *, progress: Progress | None = None
) -> LeakReport:
    """What the splits of a dataset have in common with each other, and with another dataset.

    Against another dataset, everything in common counts, whatever the splits: who asks wants the two apart.

    Args:
        progress: told how many samples are done, and how many there are.

    Raises:
        DataError: the files are damaged.
    """
    datasets = [dataset] if against is None else [dataset, against]
    total = sum(item.count(split) for item in datasets for split in SPLITS)
    index, done = LeakIndex(), 0
    for number, item in enumerate(datasets):
        for split in SPLITS:
            for sample, traits, readable in _examined(item, split):
                index.add(split, traits, group=sample.group, source=sample.source, dataset=number)
                index.unreadable += not readable
                done += 1
                if progress is not None:
                    progress(done, total)

    def id_of(number: int, split: str, place: int) -> str:
        return datasets[number].table(_split(split))[place].id

    return index.report(str(dataset.path), None if against is None else str(against.path), id_of)


def _examined(dataset: Dataset, split: SplitName) -> Iterator[tuple[PageSample, Traits, bool]]:
    """The samples of a split with their traits, from several threads (decoding leaves Python's lock)."""
    count = min(8, os.cpu_count() or 1)
    waiting: deque[Future[tuple[PageSample, Traits, bool]]] = deque()
    with ThreadPoolExecutor(count, thread_name_prefix="traits") as pool:
        try:
            for sample in dataset.iter_samples(split):
                waiting.append(pool.submit(_examine, sample))
                if len(waiting) >= 4 * count:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _examine(sample: PageSample) -> tuple[PageSample, Traits, bool]:
    try:
        return sample, traits_of(sample.image, open_image(sample.image), sample.text), True
    except ImageError:
        return sample, traits_of(sample.image, None, sample.text), False


def _split(name: str) -> SplitName:
    return next(split for split in SPLITS if split == name)
