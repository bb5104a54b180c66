"""From pages to figures: mean, percentiles, counts and bootstrap intervals. Pure; numpy only."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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
    "cer.percentiles": "linear interpolation between the closest ranks (Hyndman-Fan type 7); intervals as of "
    "the mean",
    "cer.mean_ci95": f"percentile bootstrap over documents (groups), {RESAMPLES} resamples, seed {SEED}",
    "cer.micro_ci95": "the same of all edits / all reference characters",
    "exact_match": "share of pages read without any error",
    "figures": "wer, ned, exact, chrf, rouge_l, bleu, tables, fields, order, boxes: mean, percentiles and "
    "intervals as those of cer, over the pages that a figure applies to; a failed page counts as the worst",
    "strata": "the same figures over the pages of one label; its documents are drawn apart from all others",
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
    min: float | None = None
    """None, as all below, in evaluations that were saved before there was such a figure."""
    p99: float | None = None
    micro_ci95: tuple[float, float] | None = None
    median_ci95: tuple[float, float] | None = None
    p90_ci95: tuple[float, float] | None = None
    p95_ci95: tuple[float, float] | None = None
    p99_ci95: tuple[float, float] | None = None


_LATER_INTERVALS = ("micro_ci95", "median_ci95", "p90_ci95", "p95_ci95", "p99_ci95")


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
        figures["cer"] = {name: _listed(value) for name, value in figures["cer"].items()}
        named = {f"cer.{name}": value for name, value in figures["cer"].items()}
        return {"n": self.n, **named, **figures}

    @classmethod
    def from_json(cls, figures: Mapping[str, Any]) -> Metrics:
        """Reads what `to_json` wrote; further keys are left alone.

        Raises:
            KeyError, TypeError, ValueError: a figure is missing or is no number.
        """
        rates = figures["cer"]
        names = ("mean", "micro", "median", "std", "max", "p90", "p95")
        plain: dict[str, Any] = {name: float(rates[name]) for name in names}
        lowest, p99 = rates.get("min"), rates.get("p99")
        later: dict[str, Any] = {
            name: _pair(rates[name]) for name in _LATER_INTERVALS if rates.get(name) is not None
        }
        return cls(
            n=int(figures["n"]),
            cer=CerFigures(
                **plain,
                mean_ci95=_pair(rates["mean_ci95"]),
                min=None if lowest is None else float(lowest),
                p99=None if p99 is None else float(p99),
                **later,
            ),
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
    rate = cer_column(scores)
    cer = figures_over([rate], groups)[rate.name]
    assert cer.micro is not None  # the column has parts
    median_ci95, *tails_ci95 = percentile_intervals(rate.values, groups, (50, 90, 95, 99))
    return Metrics(
        n=len(scores),
        cer=CerFigures(
            mean=cer.mean,
            micro=cer.micro,
            median=cer.median,
            std=cer.std,
            max=cer.max,
            p90=cer.p90,
            p95=cer.p95,
            mean_ci95=cer.mean_ci95,
            min=cer.min,
            p99=cer.p99,
            micro_ci95=cer.micro_ci95,
            median_ci95=median_ci95,
            p90_ci95=tails_ci95[0],
            p95_ci95=tails_ci95[1],
            p99_ci95=tails_ci95[2],
        ),
        exact_match=sum(score.exact for score in scores) / len(scores),
        loops=finish_reasons.count("loop"),
        truncated=finish_reasons.count("length"),
        failed=finish_reasons.count("error"),
        seconds=seconds,
    )


# --- any figure --------------------------------------------------------------------------------------------


def ratio(sums: Floats) -> Floats:
    """First column / second; where the second is 0: 1 if there is anything in the first, else 0.

    Args:
        sums: (rows, 2), say edits and characters.
    """
    above, below = sums[:, 0], sums[:, 1]
    return np.where(below > 0, above / np.where(below > 0, below, 1), above > 0)


@dataclass(frozen=True, slots=True, eq=False)
class Column:
    """What a figure is on each page."""

    name: str
    values: Floats
    """(pages,); NaN where the figure does not apply to the page."""
    parts: Floats | None = None
    """(pages, k) what the micro figure is made of: counts that are summed over pages. None: it has none."""
    micro: Callable[[Floats], Floats] = ratio
    """From sums, (rows, k), to the micro figure of each row."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure over the pages it applies to."""

    n: int
    """Pages it applies to; at least one."""
    mean: float
    micro: float | None
    """From counts summed over all pages, so that long pages count more; None where that has no meaning."""
    median: float
    std: float
    min: float
    max: float
    p90: float
    p95: float
    p99: float
    mean_ci95: tuple[float, float]
    micro_ci95: tuple[float, float] | None

    def to_json(self) -> dict[str, Any]:
        """{"n": …, "mean": …, …, "p50": the median again, "mean_ci95": [low, high]}, without what is None."""
        figures = {**asdict(self), "p50": self.median}
        return {name: _listed(value) for name, value in figures.items() if value is not None}


def figures_over(columns: Sequence[Column], groups: Sequence[str]) -> dict[str, Figure]:
    """The figure of each column, by its name; columns that apply to no page are left out.

    Figures that apply to the same pages share their resamples, so many cost little more than one.

    Args:
        columns: of all pages.
        groups: the document of each page; an empty name is a document of its own.
    """
    alike: dict[bytes, list[Column]] = {}
    for column in columns:
        alike.setdefault(np.isnan(column.values).tobytes(), []).append(column)
    found: dict[str, Figure] = {}
    for own in alike.values():
        pages = np.flatnonzero(~np.isnan(own[0].values))
        if len(pages):
            found |= _figures_of(own, pages, [groups[page] for page in pages.tolist()])
    return {column.name: found[column.name] for column in columns if column.name in found}


def _figures_of(columns: Sequence[Column], pages: NDArray[np.int64], groups: list[str]) -> dict[str, Figure]:
    counted = [np.ones((len(pages), 1))]
    for column in columns:
        counted.append(column.values[pages, None])
        if column.parts is not None:
            counted.append(column.parts[pages])
    drawn = bootstrap_sums(np.concatenate(counted, axis=1), groups)
    found: dict[str, Figure] = {}
    place = 1
    for column in columns:
        width = 0 if column.parts is None else column.parts.shape[1]
        sums = drawn[:, place + 1 : place + 1 + width]
        found[column.name] = _figure_of(column, pages, drawn[:, place] / drawn[:, 0], sums)
        place += 1 + width
    return found


def _figure_of(column: Column, pages: NDArray[np.int64], means: Floats, sums: Floats) -> Figure:
    """One figure from its pages, and from the means and sums of the resamples."""
    values = column.values[pages]
    micro = micro_ci95 = None
    if column.parts is not None:
        micro = float(column.micro(column.parts[pages].sum(axis=0, keepdims=True))[0])
        micro_ci95 = _bounds(column.micro(sums))
    p50, p90, p95, p99 = np.percentile(values, (50, 90, 95, 99), method="linear").tolist()
    return Figure(
        n=len(values),
        mean=float(values.mean()),
        micro=micro,
        median=p50,
        std=float(values.std()),
        min=float(values.min()),
        max=float(values.max()),
        p90=p90,
        p95=p95,
        p99=p99,
        mean_ci95=_bounds(means),
        micro_ci95=micro_ci95,
    )


def cer_column(scores: Sequence[PageScore]) -> Column:
    """The character error rate of each page."""
    rates = np.array([score.cer for score in scores], dtype=np.float64)
    parts = np.array([(score.edits, score.length) for score in scores], dtype=np.float64)
    return Column("cer", rates, parts)


# --- the bootstrap -----------------------------------------------------------------------------------------


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
    sums = bootstrap_sums(
        np.stack([values, np.ones(len(values))], axis=1), groups, resamples=resamples, seed=seed
    )
    means: Floats = sums[:, 0] / sums[:, 1]
    return means


def bootstrap_sums(
    columns: Floats, groups: Sequence[str], *, resamples: int = RESAMPLES, seed: int = SEED
) -> Floats:
    """Sums over resampled data: documents drawn with replacement, each with all its pages.

    The draws depend on the number of documents and the seed alone.

    Args:
        columns: (n, k) values for each page.
        groups: (n,) names; an empty name is a document of its own.

    Returns:
        (resamples, k) sums.
    """
    index = _documents(groups)
    sums = np.stack([np.bincount(index, weights=column) for column in columns.T], axis=1)
    drawn = np.empty((resamples, columns.shape[1]), dtype=np.float64)
    first = 0
    for times in _draws(len(sums), resamples, seed, at_a_time=100_000):
        np.matmul(times, sums, out=drawn[first : first + len(times)])
        first += len(times)
    return drawn


def percentile_intervals(
    values: Floats, groups: Sequence[str], percentiles: Sequence[float], *, resamples: int = RESAMPLES
) -> list[tuple[float, float]]:
    """Intervals of percentiles: documents drawn with replacement, each with all its pages; the same draws as of
    means. Percentiles of a resample are interpolated as `numpy.percentile` does (Hyndman-Fan type 7).

    Args:
        values: (n,) one for each page; at least one.
        groups: (n,) names; an empty name is a document of its own.
        percentiles: from 0 to 100.

    Returns:
        The lowest and highest value for each percentile.
    """
    order = np.argsort(values, kind="stable")
    ordered, index = values[order], _documents(groups)
    place = index[order]
    found: list[Floats] = []
    at_a_time = max(100_000, 4_000_000 * (int(index.max()) + 1) // len(values))
    for times in _draws(int(index.max()) + 1, resamples, SEED, at_a_time=at_a_time):
        upto = np.cumsum(times[:, place], axis=1)  # (rows, n): pages of the resample up to each value
        at = (upto[:, -1:] - 1) * np.asarray(percentiles) / 100  # (rows, percentiles), places counted from 0
        low, high = (ordered[_first_beyond(upto, edge)] for edge in (np.floor(at), np.ceil(at)))
        found.append(low + (at - np.floor(at)) * (high - low))
    drawn = np.concatenate(found)
    return [_bounds(drawn[:, column]) for column in range(len(percentiles))]


def _first_beyond(upto: Floats, places: Floats) -> NDArray[np.int64]:
    """(rows, k): the first column of each row whose count is above a place."""
    rows = [np.searchsorted(row, wanted, side="right") for row, wanted in zip(upto, places, strict=True)]
    return np.stack(rows)


def _draws(documents: int, resamples: int, seed: int, *, at_a_time: int) -> Iterator[Floats]:
    """How often each document was drawn: (rows, documents) at a time, `resamples` rows in all.

    Args:
        at_a_time: numbers that are drawn at once; few enough to stay in the processor's cache.
    """
    generator = np.random.default_rng(seed)
    step = max(1, at_a_time // documents)
    starts = np.arange(step)[:, None] * documents  # each row counts in a stretch of its own
    for first in range(0, resamples, step):
        rows = min(step, resamples - first)
        draws = generator.integers(0, documents, size=(rows, documents)) + starts[:rows]
        counts = np.bincount(draws.ravel(), minlength=rows * documents).reshape(rows, documents)
        yield counts.astype(np.float64)


def count_documents(groups: Sequence[str]) -> int:
    """Different documents; pages without a group are one each."""
    return int(_documents(groups).max(initial=-1)) + 1


def _documents(groups: Sequence[str]) -> NDArray[np.int64]:
    """The number of each page's document."""
    numbers: dict[object, int] = {}
    keys: Iterable[object] = (name or ("alone", index) for index, name in enumerate(groups))
    return np.fromiter(
        (numbers.setdefault(key, len(numbers)) for key in keys), dtype=np.int64, count=len(groups)
    )


def _bounds(values: Floats) -> tuple[float, float]:
    tail = (1 - LEVEL) / 2 * 100
    low, high = np.percentile(values, (tail, 100 - tail), method="linear")
    return float(low), float(high)


def _pair(values: Any) -> tuple[float, float]:
    low, high = values
    return float(low), float(high)


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
