"""What would likely pass, where there are too few documents to show it: a bootstrap, not a guarantee.

The bootstrap knows only errors like those it has seen. A document in a thousand that is ruined, and read with
great confidence, is not among a hundred; `acceptance` reckons with it, this does not.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ocrsmith.evaluation.confidence.observations import SEED, Floats, Whole

FEWEST = 20
"""Documents with accepted pages, below which resampling them says nothing."""
RESAMPLES = 1000
CELLS = 4_000_000


@dataclass(frozen=True, slots=True)
class Likely:
    """A threshold whose accepted pages keep the target in 95 of 100 resamples of the documents.

    Attributes:
        threshold: lowest page confidence, before calibration.
        coverage, pages: share and number of these pages from there on.
        cer: their mean CER, a page's CER above 1 taken as 1.
        cer_upper: the bootstrap's upper bound on it; approximate.
    """

    threshold: float
    coverage: float
    pages: int
    cer: float
    cer_upper: float

    def to_json(self) -> dict[str, Any]:
        """Its fields, and the method."""
        return {**asdict(self), "method": f"bootstrap over documents, {RESAMPLES} resamples; approximate"}


def likely_threshold(
    confidence: Floats, rates: Floats, documents: Whole, grid: Floats, target: float, level: float
) -> Likely | None:
    """The loosest threshold of a grid whose bootstrap bound is at most the target, or None.

    Args:
        confidence, rates, documents: (n,) see `acceptance.choose_threshold`.
        grid: (thresholds,)
    """
    shape = (int(documents.max()) + 1, len(grid))
    errors, pages = np.zeros(shape), np.zeros(shape)
    for column, threshold in enumerate(grid.tolist()):
        taken = confidence >= threshold
        errors[:, column] = np.bincount(documents[taken], rates[taken], minlength=shape[0])
        pages[:, column] = np.bincount(documents[taken], minlength=shape[0])
    enough = (pages > 0).sum(axis=0) >= FEWEST
    bounds = np.where(enough, _upper(errors, pages, level), np.inf)
    passing = np.flatnonzero(bounds <= target)
    if not len(passing):
        return None
    best = passing[np.argmin(grid[passing])]
    count = int(pages[:, best].sum())
    return Likely(
        threshold=float(grid[best]),
        coverage=count / len(confidence),
        pages=count,
        cer=float(errors[:, best].sum() / count),
        cer_upper=float(bounds[best]),
    )


def _upper(errors: Floats, pages: Floats, level: float) -> Floats:
    """(thresholds,) the `level` quantile of the mean CER over resampled documents; no pages: 1."""
    count = len(errors)
    generator = np.random.default_rng(SEED)
    rows = max(1, CELLS // count)
    means = []
    for start in range(0, RESAMPLES, rows):
        times = generator.multinomial(count, np.full(count, 1 / count), size=min(rows, RESAMPLES - start))
        drawn = times @ pages
        means.append(np.where(drawn > 0, times @ errors / np.maximum(drawn, 1.0), 1.0))
    return np.quantile(np.concatenate(means), level, axis=0)
