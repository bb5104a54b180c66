"""Risk-coverage curve: how bad the accepted pages are, the more of them are accepted. Pure; numpy only."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ocrsmith.evaluation.confidence.observations import Floats

MAX_POINTS = 101


@dataclass(frozen=True, slots=True)
class CoveragePoint:
    """Accepting all pages of at least a confidence.

    Attributes:
        coverage: share of all pages that are accepted.
        threshold: the lowest confidence among them.
        cer: their mean CER, a page's CER above 1 taken as 1.
    """

    coverage: float
    threshold: float
    cer: float

    def to_json(self) -> dict[str, Any]:
        """Its fields."""
        return asdict(self)


@dataclass(frozen=True)
class RiskCoverage:
    """The curve and the area under it.

    Attributes:
        points: at most `MAX_POINTS`, from the surest pages alone to all; of more, one for each hundredth.
        aurc: mean over pages of the CER of those accepted with it: El-Yaniv and Wiener 2010, Geifman et al.
            2019. The best order of the pages gives the lowest, a confidence that says nothing the mean CER.
    """

    points: tuple[CoveragePoint, ...]
    aurc: float

    def to_json(self) -> dict[str, Any]:
        """{"risk_coverage": […], "aurc": …}"""
        return {"risk_coverage": [point.to_json() for point in self.points], "aurc": self.aurc}


def risk_coverage(confidence: Floats, rates: Floats) -> RiskCoverage:
    """Accepts pages from the surest down; pages of equal confidence together, for no threshold parts them.

    Args:
        confidence: (n,) n ≥ 1.
        rates: (n,) CER of each page, at most 1.
    """
    values, inverse = np.unique(-confidence, return_inverse=True)
    counts = np.bincount(inverse).astype(np.float64)
    accepted = np.cumsum(counts)
    risk = np.cumsum(np.bincount(inverse, rates)) / accepted
    coverage = accepted / len(confidence)
    chosen = np.arange(len(values))
    if len(values) > MAX_POINTS:
        marks = np.linspace(0.0, 1.0, MAX_POINTS) - 1e-12
        chosen = np.unique(np.searchsorted(coverage, marks))
    points = tuple(
        CoveragePoint(float(coverage[place]), float(-values[place]), float(risk[place]))
        for place in chosen.tolist()
    )
    return RiskCoverage(points, float(counts @ risk / len(confidence)))
