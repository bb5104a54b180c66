"""Plots of one rate against another: CER and coverage, confidence and accuracy. A template draws them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ocrsmith.evaluation.report.wording import percent


@dataclass(frozen=True, slots=True)
class Dot:
    """A point that can be pointed at; `y` grows downwards."""

    x: float
    y: float
    radius: float
    title: str


@dataclass(frozen=True, slots=True)
class Curve:
    """A line through points, in the drawing's units."""

    width: int
    height: int
    left: int
    right: int
    base: int
    name: str
    line: str
    """The points of the polyline."""
    ideal: str
    """The line it would lie on if all were well; empty where there is none."""
    dots: tuple[Dot, ...]
    across: tuple[tuple[float, str], ...]
    """(x, label) of the ticks below."""
    up: tuple[tuple[float, str], ...]
    """(y, label) of the horizontal lines."""
    axis: str
    axis_up: str


Place = Callable[[float, float], tuple[float, float]]
_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 460, 300, 52, 26, 30, 46


def risk_coverage(points: Sequence[Mapping[str, Any]], accept: Mapping[str, Any] | None = None) -> Curve | None:
    """CER of the pages that are kept when only the most confident are; None for fewer than two points.

    Args:
        points: {"coverage": share of pages kept, "threshold": least confidence, "cer": of those pages}.
        accept: the threshold that was chosen; marked in the plot.
    """
    known = [p for p in points if _number(p.get("coverage")) and _number(p.get("cer"))]
    if len(known) < 2:
        return None
    top = _round_up(max(p["cer"] for p in known))
    place = _placing(top)
    dots = []
    if accept and _number(accept.get("coverage")):
        near = min(known, key=lambda p: abs(p["coverage"] - accept["coverage"]))
        text = f"{percent(near['coverage'], 0)} of the pages, CER {percent(near['cer'])}"
        x, y = place(near["coverage"], near["cer"])
        dots.append(Dot(x, y, 6, text))
    return _curve(
        "CER against the share of pages that are kept",
        [place(p["coverage"], p["cer"]) for p in known],
        dots,
        place,
        top,
        ("Share of pages kept, most confident first", "CER of those pages"),
    )


def reliability(bins: Sequence[Mapping[str, Any]]) -> Curve | None:
    """What share of characters is right among those of a confidence; None where no bin holds any.

    Args:
        bins: {"n": characters or pages, "confidence": their mean, "accuracy": the share that is right}.
    """
    known = [b for b in bins if b.get("n") and _number(b.get("confidence")) and _number(b.get("accuracy"))]
    if not known:
        return None
    place = _placing(1.0)
    most = max(b["n"] for b in known)
    spots = [place(b["confidence"], b["accuracy"]) for b in known]
    dots = [
        Dot(
            x,
            y,
            2.5 + 3.5 * math.sqrt(b["n"] / most),
            f"confidence {percent(b['confidence'], 1)}, right {percent(b['accuracy'], 1)} (n = {b['n']:,})",
        )
        for (x, y), b in zip(spots, known, strict=True)
    ]
    return _curve(
        "Share that is right against confidence",
        spots,
        dots,
        place,
        1.0,
        ("Confidence", "Share that is right"),
        ideal=[place(0, 0), place(1, 1)],
    )


def _curve(
    name: str,
    line: Iterable[tuple[float, float]],
    dots: Sequence[Dot],
    place: Place,
    top: float,
    axes: tuple[str, str],
    ideal: Iterable[tuple[float, float]] = (),
) -> Curve:
    quarters = (0, 0.25, 0.5, 0.75, 1)
    step = 25 * top  # per cent
    digits = next((digits for digits in (0, 1) if math.isclose(round(step, digits), step)), 2)
    return Curve(
        _WIDTH,
        _HEIGHT,
        _LEFT,
        _WIDTH - _RIGHT,
        _HEIGHT - _BOTTOM,
        name,
        _points(line),
        _points(ideal),
        tuple(dots),
        tuple((place(q, 0)[0], percent(q, 0)) for q in quarters),
        tuple((place(0, q * top)[1], percent(q * top, digits)) for q in quarters),
        *axes,
    )


def _placing(top: float) -> Place:
    """Gives where a pair of rates lies in the drawing; `top`: the highest of the axis that goes up."""

    def place(across: float, up: float) -> tuple[float, float]:
        x = _LEFT + across * (_WIDTH - _LEFT - _RIGHT)
        return x, _HEIGHT - _BOTTOM - min(1.0, up / top) * (_HEIGHT - _BOTTOM - _TOP)

    return place


def _points(pairs: Iterable[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in pairs)


def _round_up(value: float) -> float:
    """The next round value that four equal steps divide well."""
    if value <= 0:
        return 0.01
    power = 10.0 ** math.floor(math.log10(value))
    return next((power * factor for factor in (1, 2, 4, 8, 10) if power * factor >= value), power * 10)


def _number(value: object) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)
