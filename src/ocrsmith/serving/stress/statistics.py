"""Statistics of a stress run: spread, drift from beginning to end, and a slope that outliers cannot bend.

Sources: H. Theil, A rank-invariant method of linear and polynomial regression analysis (1950); P. K. Sen,
Estimates of the regression coefficient based on Kendall's tau (1968), with his interval; R. A. Fisher, The
Design of Experiments (1935), §21, on permutations.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Course = Literal["steady", "slower", "faster", "unknown"]

WINDOW = 100
"""Requests at the beginning and at the end that are compared; of fewer than 1,000, a tenth."""
MIN_WINDOW = 20
"""Fewer requests say nothing about drift."""
BLOCKS = 10
"""Stretches that a window is cut into: neighbours wait in one queue, so they are shuffled together."""
BINS = 40
"""Stretches of a run that a slope is laid through, so that neighbours do not count as so many proofs."""
NOTICEABLE = 0.05
"""Drift below this share is not worth a word, however sure."""
LEVEL = 0.99
"""Of the band within which chance keeps a change: one run in two hundred is called slower for nothing."""
SHUFFLES = 4_999
OFTEN = 5
"""Answers of each page that it takes to know how long that page takes."""
SEED = 3407


@dataclass(frozen=True, slots=True)
class Spread:
    """How values are spread; seconds."""

    min: float
    mean: float
    p50: float
    p90: float
    p95: float
    p99: float
    max: float

    @classmethod
    def of(cls, values: Floats) -> Spread | None:
        """Of all values that are numbers; None if there are none. Percentiles are interpolated (type 7)."""
        known = values[~np.isnan(values)]
        if not len(known):
            return None
        p50, p90, p95, p99 = np.percentile(known, (50, 90, 95, 99)).tolist()
        return cls(float(known.min()), float(known.mean()), p50, p90, p95, p99, float(known.max()))


@dataclass(frozen=True, slots=True)
class Slope:
    """A slope with its interval (95 %)."""

    estimate: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Drift:
    """Whether answers took longer at the end than at the beginning."""

    window: int
    """Requests on either side."""
    first: float
    """Mean of the first window in seconds; pages that take longer than others are allowed for."""
    last: float
    change: float
    """last / first - 1."""
    noise: float | None
    """What chance alone makes it slower by, or faster in the same ratio; None: too few requests to tell."""
    slope: Slope | None
    """Seconds that each request adds, over the whole run; None: too few requests to tell."""
    verdict: Course

    def to_json(self) -> dict[str, Any]:
        """All of it."""
        return asdict(self)


def window_of(requests: int) -> int:
    """How many requests are the first, and the last, of so many."""
    return min(WINDOW, max(1, requests // 10))


def drift(seconds: Floats, pages: Integers, window: int, *, seed: int = SEED) -> Drift | None:
    """Compares the first requests with the last.

    A change counts if it is more than `NOTICEABLE`, if chance does not explain it, and if the run as a whole
    goes that way (`robust_slope`), so that a busy moment at one end is not called drift. Chance is judged by a
    permutation test: both windows are cut into stretches of neighbours, which are dealt out anew.

    Args:
        seconds: (n,) of the answers in the order in which they were asked for, under an even load.
        pages: (n,) which page each was.
        window: requests on either side.

    Returns:
        None without answers.
    """
    if not len(seconds):
        return None
    even = _without_pages(seconds, pages)
    first, last = even[:window], even[-window:]
    start, end = float(first.mean()), float(last.mean())
    change = end / start - 1 if start > 0 else 0.0
    if window < MIN_WINDOW or len(seconds) < 2 * window or min(even) <= 0:
        return Drift(window, start, end, change, None, None, "unknown")
    noise = _chance(np.concatenate([_means(first, BLOCKS), _means(last, BLOCKS)]), seed)
    slope = robust_slope(_means(np.arange(len(even), dtype=np.float64), BINS), _means(even, BINS), level=LEVEL)
    verdict: Course = "steady"
    clear = abs(math.log1p(change)) > math.log1p(max(noise, NOTICEABLE))
    if clear and slope.low * slope.high > 0 and change * slope.estimate > 0:
        verdict = "slower" if change > 0 else "faster"
    return Drift(window, start, end, change, noise, slope, verdict)


def _without_pages(seconds: Floats, pages: Integers) -> Floats:
    """The seconds as if all pages took equally long, where each was read often enough to know."""
    counts = np.bincount(pages)
    if counts[counts > 0].min() < OFTEN:
        return seconds
    means = np.bincount(pages, weights=seconds) / np.maximum(counts, 1)
    even: Floats = seconds / np.where(means > 0, means, 1)[pages] * seconds.mean()
    return even


def _means(values: Floats, parts: int) -> Floats:
    """The means of so many stretches of neighbours."""
    return np.array([part.mean() for part in np.array_split(values, parts)])


def _chance(blocks: Floats, seed: int) -> float:
    """Up to where the change stays in `LEVEL` of all ways to deal out the blocks; as far down, in ratios."""
    half = len(blocks) // 2
    generator = np.random.default_rng(seed)
    dealt = generator.permuted(np.tile(blocks, (SHUFFLES, 1)), axis=1)
    ratios = np.log(dealt[:, half:].mean(axis=1) / dealt[:, :half].mean(axis=1))
    return float(np.expm1(np.quantile(np.abs(ratios), LEVEL, method="higher")))


def robust_slope(x: Floats, y: Floats, *, level: float = 0.95) -> Slope:
    """The median of the slopes between all pairs of points (Theil–Sen), with Sen's interval.

    Args:
        x, y: (n,) at least two different x; memory grows with n².
        level: of the interval.
    """
    first, second = np.triu_indices(len(x), 1)
    across = x[second] - x[first]
    apart = across != 0
    slopes = np.sort((y[second] - y[first])[apart] / across[apart])
    spread = NormalDist().inv_cdf((1 + level) / 2) * np.sqrt(max(0.0, _kendall_variance(x, y)))
    low = max(0, round((len(slopes) - spread) / 2) - 1)
    high = min(len(slopes) - 1, round((len(slopes) + spread) / 2))
    return Slope(float(np.median(slopes)), float(slopes[low]), float(slopes[high]))


def _kendall_variance(x: Floats, y: Floats) -> float:
    """The variance of the number of rising minus falling pairs, were there no slope."""
    whole = _triples(np.array([len(x)]))
    ties = sum(_triples(np.unique(values, return_counts=True)[1]) for values in (x, y))
    return float(whole - ties) / 18


def _triples(counts: NDArray[Any]) -> int:
    return int((counts * (counts - 1) * (2 * counts + 5)).sum())
