"""Reliability diagram and expected calibration error. Pure; numpy only."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ocrsmith.evaluation.confidence.observations import Floats

BINS = 15


@dataclass(frozen=True, slots=True)
class Bin:
    """Observations of about the same confidence.

    Attributes:
        low, high: the lowest and highest confidence in it.
        n: how many.
        confidence, accuracy: what was promised, and what came true; means.
    """

    low: float
    high: float
    n: int
    confidence: float
    accuracy: float

    def to_json(self) -> dict[str, Any]:
        """Its fields."""
        return asdict(self)


def reliability(confidence: Floats, truth: Floats, weight: Floats, *, bins: int = BINS) -> tuple[Bin, ...]:
    """Bins of equal mass, from the lowest confidence to the highest.

    Equal confidences stay in one bin, since a border between them would depend on their order; so there may be
    fewer bins than asked for, and they may differ in mass.

    Args:
        confidence, truth, weight: (n,) each, see `Observations`.
        bins: how many at most.
    """
    if not len(confidence):
        return ()
    values, inverse = np.unique(confidence, return_inverse=True)
    mass = np.bincount(inverse, weight)
    hits = np.bincount(inverse, weight * truth)
    # The bin in which the middle of each value's mass lies.
    middle = np.cumsum(mass) - mass / 2
    place = np.minimum((middle / mass.sum() * bins).astype(np.int64), bins - 1)
    found = []
    for number in np.unique(place):
        inside = place == number
        n = mass[inside].sum()
        found.append(
            Bin(
                low=float(values[inside][0]),
                high=float(values[inside][-1]),
                n=round(float(n)),
                confidence=float(values[inside] @ mass[inside] / n),
                accuracy=float(hits[inside].sum() / n),
            )
        )
    return tuple(found)


def expected_calibration_error(
    confidence: Floats, truth: Floats, weight: Floats, *, bins: int = BINS
) -> float | None:
    """ECE: the mean distance between confidence and accuracy over the bins of `reliability`, by their mass.

    sum over bins of n_bin / n · |accuracy - confidence|, Naeini et al. 2015 and Guo et al. 2017, with bins of
    equal mass instead of equal width, since most confidences are near 1. Chance alone makes it larger than 0,
    the more so the fewer observations there are. None without observations.
    """
    found = reliability(confidence, truth, weight, bins=bins)
    total = sum(item.n for item in found)
    if not total:
        return None
    return sum(item.n * abs(item.accuracy - item.confidence) for item in found) / total
