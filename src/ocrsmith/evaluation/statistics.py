"""From pages to figures: mean, percentiles, counts and bootstrap intervals. Pure; numpy only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ocrsmith.evaluation.metrics.cer import PageScore
from ocrsmith.records import FinishReason

RESAMPLES = 2000
SEED = 3407
LEVEL = 0.95

METHODS = {
    "cer": "Levenshtein edits on code points / reference length; no normalisation; a failed page counts as 1; "
    "empty reference: 0 if the prediction is empty, else 1",
    "cer.mean": "mean over pages (macro)",
    "cer.micro": "all edits / all reference characters",
    "cer.std": "population standard deviation over pages (divided by n)",
    "cer.percentiles": "linear interpolation between the closest ranks (Hyndman-Fan type 7)",
    "cer.mean_ci95": f"percentile bootstrap over documents (groups), {RESAMPLES} resamples, seed {SEED}",
    "exact_match": "share of pages read without any error",
}
"""How each figure is computed; saved beside the figures."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class CerFigures:
    """Character error rate over pages, as fractions (0.05 is 5 %). See `METHODS`."""

    mean: float
    micro: float
    median: float
    std: float
    max: float
    p90: float
    p95: float
    mean_ci95: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Metrics:
    """The figures of one evaluation.

    Attributes:
        n: pages, failed ones included.
        cer: character error rates.
        exact_match: share of pages read without any error, 0 to 1.
        loops: pages whose decoding fell into endless repetition.
        truncated: pages cut off by the token limit (loops not counted again).
        failed: pages without a result; each counts as CER 1.
        seconds: engine time over all pages, resumed stretches included.
    """

    n: int
    cer: CerFigures
    exact_match: float
    loops: int
    truncated: int
    failed: int
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """The figures as a JSON object: {"n": …, "cer.mean": …, …, "cer": {"mean": …, …}, …}.

        Each CER figure stands there twice: under the one name that options, tables and rules use (`cer.mean`),
        and grouped, for those who walk the object.
        """
        figures = asdict(self)
        figures["cer"]["mean_ci95"] = list(self.cer.mean_ci95)
        named = {f"cer.{name}": value for name, value in figures["cer"].items()}
        return {"n": self.n, **named, **figures}

    @classmethod
    def from_json(cls, figures: Mapping[str, Any]) -> Metrics:
        """Reads what `to_json` wrote; further keys are left alone.

        Raises:
            KeyError, TypeError, ValueError: a figure is missing or is no number.
        """
        rates = figures["cer"]
        low, high = rates["mean_ci95"]
        names = ("mean", "micro", "median", "std", "max", "p90", "p95")
        return cls(
            n=int(figures["n"]),
            cer=CerFigures(**{name: float(rates[name]) for name in names}, mean_ci95=(float(low), float(high))),
            exact_match=float(figures["exact_match"]),
            loops=int(figures["loops"]),
            truncated=int(figures["truncated"]),
            failed=int(figures["failed"]),
            seconds=float(figures["seconds"]),
        )


@dataclass(frozen=True, slots=True)
class Interval:
    """A difference of two means with its bootstrap interval (95 %)."""

    estimate: float
    low: float
    high: float
    share_below_zero: float
    """Share of resamples in which the difference is below zero (for CER: the second one is better)."""


def summarize(
    scores: Sequence[PageScore],
    finish_reasons: Sequence[FinishReason],
    groups: Sequence[str],
    *,
    seconds: float,
) -> Metrics:
    """Figures over all pages.

    Args:
        scores: one for each page; at least one.
        finish_reasons: likewise.
        groups: the document of each page; an empty name is a document of its own.
        seconds: engine time over all pages.

    Raises:
        ValueError: no pages, or the sequences differ in length.
    """
    if not scores:
        raise ValueError("no pages to summarize")
    if not len(scores) == len(finish_reasons) == len(groups):
        raise ValueError("scores, finish_reasons and groups differ in length")
    rates = np.array([score.cer for score in scores], dtype=np.float64)
    p50, p90, p95 = (float(value) for value in np.percentile(rates, (50, 90, 95), method="linear"))
    return Metrics(
        n=len(scores),
        cer=CerFigures(
            mean=float(rates.mean()),
            micro=micro_cer(scores),
            median=p50,
            std=float(rates.std()),
            max=float(rates.max()),
            p90=p90,
            p95=p95,
            mean_ci95=_mean_interval(rates, groups),
        ),
        exact_match=sum(score.exact for score in scores) / len(scores),
        loops=finish_reasons.count("loop"),
        truncated=finish_reasons.count("length"),
        failed=finish_reasons.count("error"),
        seconds=seconds,
    )


def paired_interval(first: Sequence[float], second: Sequence[float], groups: Sequence[str]) -> Interval:
    """Paired bootstrap of mean(second) - mean(first), resampling whole documents.

    Pages of one document are alike (same font, same scanner), so they are drawn together; drawing single pages
    would make the interval too narrow.

    Args:
        first, second: one value for each page, same order.
        groups: the document of each page; an empty name is a document of its own.
    """
    difference = np.asarray(second, dtype=np.float64) - np.asarray(first, dtype=np.float64)
    means = bootstrap_means(difference, groups)
    low, high = _bounds(means)
    return Interval(float(difference.mean()), low, high, float((means < 0).mean()))


def bootstrap_means(
    values: Floats, groups: Sequence[str], *, resamples: int = RESAMPLES, seed: int = SEED
) -> Floats:
    """Means of resampled data: documents drawn with replacement, each with all its pages.

    Args:
        values: (n,) one for each page.
        groups: (n,) names; an empty name is a document of its own.

    Returns:
        (resamples,) means.
    """
    sums, counts = _by_group(values, groups)
    documents = len(sums)
    generator = np.random.default_rng(seed)
    means = np.empty(resamples, dtype=np.float64)
    step = max(1, 4_000_000 // documents)  # bounds memory: a table of draws of at most 32 MB
    for start in range(0, resamples, step):
        rows = min(step, resamples - start)
        drawn = generator.integers(0, documents, size=(rows, documents))
        means[start : start + rows] = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    return means


def _by_group(values: Floats, groups: Sequence[str]) -> tuple[Floats, Floats]:
    """Sum of values and number of pages of each document."""
    numbers: dict[object, int] = {}
    keys: Iterable[object] = (name or ("alone", index) for index, name in enumerate(groups))
    index = np.fromiter(
        (numbers.setdefault(key, len(numbers)) for key in keys), dtype=np.int64, count=len(groups)
    )
    counts: Floats = np.bincount(index).astype(np.float64)
    sums: Floats = np.bincount(index, weights=values).astype(np.float64)
    return sums, counts


def _mean_interval(rates: Floats, groups: Sequence[str]) -> tuple[float, float]:
    return _bounds(bootstrap_means(rates, groups))


def _bounds(means: Floats) -> tuple[float, float]:
    tail = (1 - LEVEL) / 2 * 100
    low, high = np.percentile(means, (tail, 100 - tail), method="linear")
    return float(low), float(high)


def micro_cer(scores: Sequence[PageScore]) -> float:
    """All edits over all characters; references that are all empty follow the rule of a single page."""
    edits = sum(score.edits for score in scores)
    characters = sum(score.length for score in scores)
    if characters == 0:
        return 1.0 if edits else 0.0
    return edits / characters
