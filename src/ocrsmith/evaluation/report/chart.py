"""The distribution plot: how many pages fall into each range. Plain numbers; the template draws them."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace

EDGES = (0.0, 0.02, 0.05, 0.10, 0.20, 0.30, 0.50, 0.75, 1.0)
"""Upper edges of the ranges, included; the first range is "exactly 0", a last one takes all above 100 %."""

CONFIDENCE_EDGES = (0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99)
CONFIDENCE_LABELS = ("≤ 30", "30–50", "50–60", "60–70", "70–80", "80–90", "90–95", "95–98", "98–99", "> 99")

LABELS = ("exact", "≤ 2", "2–5", "5–10", "10–20", "20–30", "30–50", "50–75", "75–100", "> 100")


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar, in the drawing's units; `y` grows downwards."""

    x: float
    y: float
    width: float
    height: float
    count: int
    share: float
    label: str
    series: int


@dataclass(frozen=True, slots=True)
class Chart:
    """A bar chart of one or two evaluations: counts by range."""

    width: int
    height: int
    base: float
    bars: tuple[Bar, ...]
    ticks: tuple[tuple[float, str], ...]
    """(y, label) of the horizontal lines."""
    ranges: tuple[tuple[float, str], ...]
    """(x of the middle, label) of each range."""
    axis: str = "CER of a page, %"


def histogram(rates: Sequence[float], edges: Sequence[float] = EDGES) -> list[int]:
    """Pages in each range; there is one more than edges. `rates`: CER, or another rate, as fractions."""
    counts = [0] * (len(edges) + 1)
    for rate in rates:
        counts[bisect_left(edges, rate)] += 1
    return counts


def confidence_chart(values: Sequence[float]) -> Chart:
    """Pages by confidence. `values`: 0 to 1; not empty."""
    drawn = chart([values], edges=CONFIDENCE_EDGES, labels=CONFIDENCE_LABELS)
    return replace(drawn, axis="Confidence of a page, %")


def chart(
    series: Sequence[Sequence[float]],
    *,
    width: int = 960,
    height: int = 300,
    edges: Sequence[float] = EDGES,
    labels: Sequence[str] = LABELS,
) -> Chart:
    """Lays out the bars of one or two evaluations.

    Args:
        series: for each evaluation the CER of all its pages; not empty.
        width, height: of the drawing.
        edges, labels: the ranges.
    """
    left, right, top, bottom = 44, 8, 26, 44
    base = height - bottom
    counts = [histogram(rates, edges) for rates in series]
    totals = [max(1, len(rates)) for rates in series]
    step = _step(max(max(row) for row in counts))
    highest = step * math.ceil(max(1, max(max(row) for row in counts)) / step)
    scale = (base - top) / highest
    slot = (width - left - right) / len(labels)
    thickness = slot * (0.72 if len(series) == 1 else 0.40)
    gap = 3.0
    bars = []
    for place, label in enumerate(labels):
        start = left + slot * place + (slot - thickness * len(series) - gap * (len(series) - 1)) / 2
        for number, row in enumerate(counts):
            size = row[place] * scale
            x = start + number * (thickness + gap)
            share = row[place] / totals[number]
            bars.append(Bar(x, base - size, thickness, size, row[place], share, label, number))
    ticks = tuple((base - value * scale, f"{value:,}") for value in range(0, highest + 1, step))
    ranges = tuple((left + slot * (place + 0.5), label) for place, label in enumerate(labels))
    return Chart(width, height, base, tuple(bars), ticks, ranges)


def _step(highest: int) -> int:
    """A round distance of grid lines that gives about four of them."""
    rough = max(1.0, highest / 4)
    power = 10 ** math.floor(math.log10(rough))
    return int(next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough))
