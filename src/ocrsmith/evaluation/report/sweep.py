"""The page of a resolution study: accuracy against cost, one point a mode. No figures are computed here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ocrsmith.evaluation.report.layout import environment
from ocrsmith.evaluation.report.wording import count, data_name, flat, model_name
from ocrsmith.evaluation.store import REPORT

if TYPE_CHECKING:
    from ocrsmith.evaluation.sweep import Sweep
    from ocrsmith.evaluation.sweep_choice import Choices

WIDTH, HEIGHT = 720, 280
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 48, 34, 52
_LABEL = (64, 15)
"""Room that a mode's name takes, in the drawing's units."""


@dataclass(frozen=True, slots=True)
class Point:
    """A mode in a plot, in the drawing's units; y grows downwards."""

    x: float
    y: float
    low: float
    high: float
    """Ends of the interval of its CER; `high` is the upper end, so the smaller number."""
    label: str
    label_y: float
    chosen: bool
    title: str


@dataclass(frozen=True, slots=True)
class Plot:
    """Mean CER of each mode against what it costs."""

    points: tuple[Point, ...]
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    band: tuple[float, float]
    """(y, height) of what lies within the bound of the best mode."""
    caption: str
    width: int = WIDTH
    height: int = HEIGHT
    left: int = _LEFT
    right: int = WIDTH - _RIGHT
    base: int = HEIGHT - _BOTTOM


def render_sweep(sweep: Sweep) -> str:
    """The page of a resolution study, as HTML; links lead to the modes' reports in the folders beside it."""
    choices = sweep.choices
    readings = choices.readings
    plots = [plot(choices, [item.seconds_per_page for item in readings], "Seconds a page")]
    image_tokens = [item.image_tokens for item in readings if item.image_tokens is not None]
    if len(image_tokens) == len(readings):
        plots.append(plot(choices, image_tokens, "Image tokens a page"))
    return (
        environment()
        .get_template("sweep.html")
        .render(
            title=f"{model_name(sweep.provenance)} on {data_name(sweep.provenance)}: resolution modes",
            choices=choices,
            choice=choices.choice,
            pages=count(readings[0].metrics.n, "page"),
            documents=count(choices.documents, "document"),
            rows=list(zip(readings, choices.losses, strict=True)),
            report=REPORT,
            plots=plots,
            notes=sweep.notes,
            memory=sweep.provenance.get("memory", ""),
            warm_up=count(int(sweep.provenance.get("warm_up_pages", 0)), "page"),
            provenance=flat(sweep.provenance),
            created=sweep.provenance.get("created", ""),
            seconds=seconds,
            bytes=size,
            number=number,
        )
    )


def plot(choices: Choices, costs: Sequence[float], caption: str) -> Plot:
    """Lays out one plot.

    Args:
        choices: the modes with their CER.
        costs: of each mode, at least 0: where it stands from left to right.
        caption: what they are.
    """
    figures = [reading.metrics.cer for reading in choices.readings]
    best = min(figure.mean for figure in figures)
    x_ticks = ticks(0.0, max(costs))
    lowest = min(best, *(figure.mean_ci95[0] for figure in figures))
    highest = max(best + choices.within, *(figure.mean_ci95[1] for figure in figures))
    y_ticks = ticks(lowest * 100, highest * 100)
    floor, ceiling = y_ticks[0] / 100, y_ticks[-1] / 100
    base = HEIGHT - _BOTTOM

    def x(cost: float) -> float:
        return _LEFT + cost / x_ticks[-1] * (WIDTH - _LEFT - _RIGHT)

    def y(rate: float) -> float:
        return base - (rate - floor) / (ceiling - floor) * (base - _TOP)

    points: list[Point] = []
    chosen = choices.choice.mode if choices.choice else None
    for reading, figure, cost in sorted(
        zip(choices.readings, figures, costs, strict=True), key=lambda item: item[2]
    ):
        low, high = figure.mean_ci95
        place = _free_place(points, x(cost), y(high) - 9)
        title = f"{reading.mode}: {figure.mean * 100:.2f} % ({low * 100:.2f}–{high * 100:.2f} %)"
        points.append(
            Point(x(cost), y(figure.mean), y(low), y(high), reading.mode, place, reading.mode == chosen, title)
        )
    top = y(best + choices.within)
    return Plot(
        tuple(points),
        tuple((x(value), text) for value, text in zip(x_ticks, _numbers(x_ticks), strict=True)),
        tuple((y(value / 100), text) for value, text in zip(y_ticks, _numbers(y_ticks), strict=True)),
        (top, y(best) - top),
        caption,
    )


def _free_place(points: Sequence[Point], x: float, y: float) -> float:
    """Moves a label up until it covers no other."""
    for point in sorted(points, key=lambda point: -point.label_y):
        if abs(point.x - x) < _LABEL[0] and abs(point.label_y - y) < _LABEL[1]:
            y = point.label_y - _LABEL[1]
    return y


def ticks(low: float, high: float) -> list[float]:
    """Round numbers, some four steps apart, the first at or below `low` and the last at or above `high`."""
    rough = max((high - low) / 4, 1e-9) if high > low else max(abs(high) / 4, 1e-3)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * (1 - 1e-9))
    first = math.floor(low / step + 1e-9)
    last = max(math.ceil(high / step - 1e-9), first + 1)
    return [round(place * step, 12) for place in range(first, last + 1)]


def _numbers(values: Sequence[float]) -> list[str]:
    """Written with as many decimals as the steps between them need."""
    step = values[1] - values[0]
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    return [f"{value:,.{decimals}f}" for value in values]


def seconds(value: float) -> str:
    """A time for one page: 0.0482 → `0.048 s`, 12.3 → `12 s`."""
    decimals = 3 if value < 0.1 else 2 if value < 1 else 1 if value < 10 else 0
    return f"{value:,.{decimals}f}\u00a0s"


def size(value: int | None) -> str:
    """Bytes of memory: `612 MiB`, `7.3 GiB`."""
    if value is None:
        return "–"
    return f"{value / 2**30:,.1f}\u00a0GiB" if value >= 2**30 else f"{value / 2**20:,.0f}\u00a0MiB"


def number(value: float | None) -> str:
    """A mean count: one decimal below 1,000."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if value >= 1000 or value == int(value) else f"{value:,.1f}"
