"""Sizes, lengths and kinds of what went through, by split, in little memory.

Values are counted by their first three digits, so a tally of any number of samples has a few thousand entries
at most and its quantiles are right to half a percent. Least, largest and mean are exact.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from ocrsmith.datasets.check.findings import PARTS, Part

_BARS = 20
_WIDE = 25
"""Ratio of the 99th to the 1st percentile from which a histogram goes by ratios instead of differences."""


@dataclass(frozen=True, slots=True)
class Bar:
    """One range of a histogram."""

    low: float
    high: float
    count: int


class Tally:
    """The distribution of a figure."""

    def __init__(self) -> None:
        self._counts: Counter[float] = Counter()
        self._sum = 0.0
        self._low, self._high = math.inf, -math.inf
        self._sorted: list[tuple[float, int]] | None = None
        self.n = 0

    def add(self, value: float) -> None:
        """Counts a value."""
        self.n += 1
        self._sum += value
        self._low, self._high = min(self._low, value), max(self._high, value)
        self._counts[_short(value)] += 1
        self._sorted = None

    @property
    def mean(self) -> float:
        """The mean; 0 of nothing."""
        return self._sum / self.n if self.n else 0.0

    def quantile(self, share: float) -> float:
        """The value that `share` of all do not exceed; 0 of nothing."""
        if self.n and share in (0, 1):
            return self._high if share else self._low
        below = 0
        for value, count in self._in_order():
            below += count
            if below >= share * self.n:
                return min(max(value, self._low), self._high)
        return 0.0

    def share_from(self, least: float) -> float:
        """Share of values of at least `least`."""
        return sum(count for value, count in self._counts.items() if value >= least) / max(1, self.n)

    def histogram(self) -> list[Bar]:
        """About twenty bars; the outermost take what lies beyond the 1st and 99th percentile."""
        if not self.n:
            return []
        low, high = self.quantile(0.01), self.quantile(0.99)
        if low == high:
            return [Bar(low, high, self.n)]
        edges = _ratio_edges(low, high) if low > 0 and high / low > _WIDE else _even_edges(low, high)
        counts = [0] * (len(edges) - 1)
        for value, count in self._counts.items():
            place = sum(value >= edge for edge in edges[1:-1])
            counts[place] += count
        return [Bar(*bar) for bar in zip(edges[:-1], edges[1:], counts, strict=True)]

    def to_json(self) -> dict[str, Any]:
        """Quantiles and bars; `{"n": 0}` of nothing."""
        if not self.n:
            return {"n": 0}
        quantiles = {
            name: self.quantile(share) for name, share in (("median", 0.5), ("p95", 0.95), ("p99", 0.99))
        }
        bars = [[_short(bar.low), _short(bar.high), bar.count] for bar in self.histogram()]
        ends = {"n": self.n, "min": self._low, "mean": round(self.mean, 3)}
        return {**ends, **quantiles, "max": self._high, "histogram": bars}

    def _in_order(self) -> list[tuple[float, int]]:
        if self._sorted is None:
            self._sorted = sorted(self._counts.items())
        return self._sorted


def _even_edges(low: float, high: float) -> list[float]:
    whole = low == int(low) and high == int(high)
    step = (high - low) / _BARS
    if whole:  # bars of equal numbers of whole values, or comb-like gaps would appear
        step = max(1, math.ceil((high - low + 1) / _BARS))
        return [low + step * number for number in range(math.ceil((high - low + 1) / step) + 1)]
    return [low + step * number for number in range(_BARS + 1)]


def _ratio_edges(low: float, high: float) -> list[float]:
    return [low * (high / low) ** (number / _BARS) for number in range(_BARS + 1)]


@lru_cache(maxsize=1 << 14)
def _short(value: float) -> float:
    return float(f"{value:.3g}")


FIGURES = {
    "width": "Width, px",
    "height": "Height, px",
    "aspect": "Width ÷ height",
    "bytes": "File size, kB",
    "characters": "Characters of text",
    "lines": "Lines of text",
    "tokens": "Tokens of the whole sequence",
    "letter_height": "Letter height, px",
}
"""Key and label of each figure."""
KINDS = {"format": "File format", "colour": "Colour mode", "language": "Language"}
"""Key and label of what is counted by kind."""
ALL = "all"


class Figures:
    """All tallies, by split and together."""

    def __init__(self) -> None:
        self.samples: Counter[str] = Counter()
        self.tallies: dict[str, dict[str, Tally]] = {}
        self.kinds: dict[str, dict[str, Counter[str]]] = {}

    def add(self, split: Part, values: dict[str, float], kinds: dict[str, str]) -> None:
        """Takes the figures of a sample; what could not be measured is left away."""
        for part in (ALL, split) if split else (ALL,):
            self.samples[part] += 1
            tallies = self.tallies.setdefault(part, {})
            for name, value in values.items():
                tallies.setdefault(name, Tally()).add(value)
            counters = self.kinds.setdefault(part, {})
            for name, kind in kinds.items():
                counters.setdefault(name, Counter())[kind] += 1

    @property
    def parts(self) -> list[str]:
        """`all`, and the splits that have samples, unless there is only one part."""
        splits = [part for part in PARTS if part and self.samples[part]]
        return [ALL, *splits]

    def tally(self, name: str, part: str = ALL) -> Tally:
        """One distribution, empty if nothing was measured."""
        return self.tallies.get(part, {}).get(name) or Tally()

    def to_json(self) -> dict[str, Any]:
        """By split, then by figure."""
        return {
            part: {
                "samples": self.samples[part],
                **{name: self.tally(name, part).to_json() for name in FIGURES},
                **{name: dict(self.kinds.get(part, {}).get(name, Counter()).most_common()) for name in KINDS},
            }
            for part in self.parts
        }
