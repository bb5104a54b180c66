"""Chooses pages that stand for all hard pages: each next one is the page that covers most of what is not yet.

Facility location: a chosen page covers another as far as the two are alike, and a set covers each page as far
as its likest member does. What is covered is weighted by the pages' need. The greedy choice has at least
1 - 1/e of the best possible cover (Nemhauser, Wolsey and Fisher 1978); taking the pages from a heap with gains
that are only computed anew at its top (Minoux 1978) chooses the same ones.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import ceil

import numpy as np
from numpy.typing import NDArray

DOCUMENT_SHARE = 0.05
"""Of the queue, the pages of one document may be this share (but two), as long as other documents have any."""


@dataclass
class Choice:
    """What was chosen, in order."""

    indices: list[int] = field(default_factory=list)
    gains: list[float] = field(default_factory=list)
    """What each covers that those before it do not, as a share of all need."""
    over_cap: int = 0
    """Pages that came in although their document had its share: there was nothing else left."""

    @property
    def covered(self) -> float:
        """The share of all need that is covered."""
        return min(1.0, sum(self.gains))


def document_cap(count: int) -> int:
    """How many pages of one document a queue of `count` has at first."""
    return max(2, ceil(DOCUMENT_SHARE * count))


def choose(
    features: NDArray[np.float32], needs: Sequence[float], documents: Sequence[str], count: int
) -> Choice:
    """Chooses at most `count` pages.

    Args:
        features: (pages, width), non-negative, rows of length 1.
        needs: (pages,) weights, at least 0.
        documents: (pages,) names; an empty one is a document of its own.
    """
    search = _Search(features, np.asarray(needs, dtype=np.float64))
    choice, cap = Choice(), document_cap(count)
    taken: Counter[str] = Counter()
    waiting: list[int] = []
    while len(choice.indices) < count and (best := search.next()) is not None:
        index, gain = best
        document = documents[index]
        if document and taken[document] >= cap:
            waiting.append(index)
            continue
        taken[document] += 1
        search.take(index)
        choice.indices.append(index)
        choice.gains.append(gain)
    search.put_back(waiting)
    while len(choice.indices) < count and (best := search.next()) is not None:
        search.take(best[0])
        choice.indices.append(best[0])
        choice.gains.append(best[1])
        choice.over_cap += 1
    return choice


class _Search:
    """Pages by what they would add, the most first."""

    def __init__(self, features: NDArray[np.float32], needs: NDArray[np.float64]) -> None:
        self.needs = needs
        self.total = float(needs.sum()) or 1.0
        # Rounded, so that two computers with other ways to add floats choose the same pages.
        self.likeness = np.clip(np.round(features @ features.T, 4), 0, 1)
        self.covered = np.zeros(len(needs), dtype=np.float32)
        self.round = 0
        self.heap = [self._entry(index) for index in range(len(needs))]
        heapq.heapify(self.heap)

    def _entry(self, index: int) -> tuple[float, float, int, int]:
        """Greater gain, then greater need, then the earlier page; and in which round that was so."""
        added = np.maximum(self.likeness[index] - self.covered, 0)
        gain = float(added @ self.needs) / self.total
        return -round(gain, 6), -float(self.needs[index]), index, self.round

    def next(self) -> tuple[int, float] | None:
        """The page that adds most, and what it adds as a share of all need; it is off the heap."""
        while self.heap:
            gain, _, index, when = heapq.heappop(self.heap)
            if when == self.round:
                return index, -gain
            heapq.heappush(self.heap, self._entry(index))
        return None

    def take(self, index: int) -> None:
        """Counts a page as chosen."""
        self.covered = np.maximum(self.covered, self.likeness[index])
        self.round += 1

    def put_back(self, indices: Sequence[int]) -> None:
        """Brings pages back that were passed over."""
        for index in indices:
            heapq.heappush(self.heap, self._entry(index))
