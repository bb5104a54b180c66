"""The distribution plot: how many pages fall into each range of CER. Plain numbers; the template draws them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

EDGES = (0.0, 0.02, 0.05, 0.10, 0.20, 0.30, 0.50, 0.75, 1.0)
"""Upper edges of the ranges, included; the first range is "exactly 0", a last one takes all above 100 %."""

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
    """A bar chart of one or two evaluations: counts by range of CER."""

    width: int
    height: int
    base: float
    bars: tuple[Bar, ...]
    ticks: tuple[tuple[float, str], ...]
    """(y, label) of the horizontal lines."""
    ranges: tuple[tuple[float, str], ...]
    """(x of the middle, label) of each range."""


def histogram(rates: Sequence[float]) -> list[int]:
    """Pages in each range of `LABELS`. `rates`: CER as fractions."""
    counts = [0] * len(LABELS)
    for rate in rates:
        counts[next((place for place, edge in enumerate(EDGES) if rate <= edge), len(EDGES))] += 1
    return counts


def chart(series: Sequence[Sequence[float]], *, width: int = 960, height: int = 300) -> Chart:
    """Lays out the bars of one or two evaluations.

    Args:
        series: for each evaluation the CER of all its pages; not empty.
        width, height: of the drawing.
    """
    left, right, top, bottom = 44, 8, 26, 44
    base = height - bottom
    counts = [histogram(rates) for rates in series]
    totals = [max(1, len(rates)) for rates in series]
    step = _step(max(max(row) for row in counts))
    highest = step * math.ceil(max(1, max(max(row) for row in counts)) / step)
    scale = (base - top) / highest
    slot = (width - left - right) / len(LABELS)
    thickness = slot * (0.72 if len(series) == 1 else 0.40)
    gap = 3.0
    bars = []
    for place, label in enumerate(LABELS):
        start = left + slot * place + (slot - thickness * len(series) - gap * (len(series) - 1)) / 2
        for number, row in enumerate(counts):
            size = row[place] * scale
            x = start + number * (thickness + gap)
            share = row[place] / totals[number]
            bars.append(Bar(x, base - size, thickness, size, row[place], share, label, number))
    ticks = tuple((base - value * scale, f"{value:,}") for value in range(0, highest + 1, step))
    ranges = tuple((left + slot * (place + 0.5), label) for place, label in enumerate(LABELS))
    return Chart(width, height, base, tuple(bars), ticks, ranges)


def _step(highest: int) -> int:
    """A round distance of grid lines that gives about four of them."""
    rough = max(1.0, highest / 4)
    power = 10 ** math.floor(math.log10(rough))
    return int(next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough))
