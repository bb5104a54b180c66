"""Finds endless repetition in a text: where it begins, where it ends, how long its unit is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MIN_LENGTH = 64
"""Characters that a repetition has at least. Shorter rules, leaders and empty table rows are usual on pages."""
MIN_REPEATS = 3
"""Times that its unit stands there at least. Both as in `engines.decoding.is_looping`."""
TOLERANCE = 0.1
"""Share of the repetition that may differ from the unit before it: counters, and tokens that loop control
forced in."""
MAX_FOUND = 8
"""Repetitions that are looked for in one text: loop control may break one into several."""
_GRAM = 8
_CANDIDATES = 8
_BASE = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True, slots=True)
class Repetition:
    """A stretch text[start:end] that repeats a unit of `period` characters."""

    start: int
    end: int
    period: int


def find_repetitions(text: str, *, min_length: int = MIN_LENGTH) -> list[Repetition]:
    """Repetitions in the order of the text, without overlap. Time n log n; some 100 bytes a character."""
    values = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    found: list[Repetition] = []
    todo = [(0, len(values))]
    while todo and len(found) < MAX_FOUND:
        start, end = todo.pop(0)
        best = _longest(values[start:end], min_length)
        if best is not None:
            found.append(Repetition(start + best.start, start + best.end, best.period))
            todo += [(start, start + best.start), (start + best.end, end)]
    return sorted(found, key=lambda item: item.start)


def _longest(values: NDArray[np.uint32], min_length: int) -> Repetition | None:
    best: Repetition | None = None
    if len(values) < min_length:
        return None
    for period in _periods(values):
        # +1 where a character equals the one a unit before, a penalty where not: the stretch with the highest
        # sum has at most the tolerated share of differences.
        gains = np.where(values[period:] == values[:-period], 1, -int(1 / TOLERANCE - 1))
        sums = np.concatenate(([0], np.cumsum(gains)))
        lowest = np.minimum.accumulate(sums)
        end = int(np.argmax(sums - lowest))
        start = int(np.argmax(sums[: end + 1] == lowest[end])) if end else 0
        found = Repetition(start, end + period, period)
        length = found.end - found.start
        long_enough = length >= max(min_length, MIN_REPEATS * period) and end > start
        if long_enough and (best is None or length > best.end - best.start + period):
            best = found
    return best


def _periods(values: NDArray[np.uint32]) -> list[int]:
    """The commonest distances between equal passages of 8 characters, shortest first."""
    count = len(values) - _GRAM + 1
    if count < 2:
        return []
    hashes = np.zeros(count, np.uint64)
    for step in range(_GRAM):
        hashes = hashes * _BASE + values[step : step + count] + np.uint64(1)
    order = np.argsort(hashes, kind="stable")
    same = hashes[order[1:]] == hashes[order[:-1]]
    distances = (order[1:] - order[:-1])[same]
    distances = distances[distances <= len(values) // MIN_REPEATS]
    if not len(distances):
        return []
    counts = np.bincount(distances)
    top = np.argsort(-counts, kind="stable")[:_CANDIDATES]
    return sorted(int(period) for period in top if counts[period] >= _GRAM)
