"""Puts two evaluations of the same pages side by side: figures, paired interval, pages that flipped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from ocrsmith.datasets import open_dataset
from ocrsmith.errors import DataError, OcrsmithError
from ocrsmith.evaluation import store
from ocrsmith.evaluation.evaluate import find_images
from ocrsmith.evaluation.metrics.cer import PageScore
from ocrsmith.evaluation.report import render_comparison
from ocrsmith.evaluation.statistics import Interval, Metrics, paired_interval, summarize
from ocrsmith.evaluation.store import Evaluation, PageResult, load
from ocrsmith.records import SPLITS
from ocrsmith.settings.files import write_text

Verdict = Literal["better", "worse", "unclear"]

FIGURES = (
    "cer.mean",
    "cer.micro",
    "cer.median",
    "cer.std",
    "cer.max",
    "cer.p90",
    "cer.p95",
    "exact_match",
    "loops",
    "truncated",
    "failed",
    "seconds",
)
HIGHER_IS_BETTER = ("exact_match",)
_NAMED = 5  # how many ids a message names


FEWEST_DOCUMENTS = 5
"""Below this a bootstrap over documents hardly varies: its interval is too narrow to decide on."""


@dataclass(frozen=True, slots=True)
class Change:
    """One figure in A and in B."""

    name: str
    a: float
    b: float

    @property
    def absolute(self) -> float:
        """B - A."""
        return self.b - self.a

    @property
    def relative(self) -> float | None:
        """(B - A) / A; None where A is 0."""
        return None if self.a == 0 else (self.b - self.a) / self.a

    @property
    def verdict(self) -> Literal["better", "worse", "same"]:
        """Which way the figure went, by its sign alone."""
        if self.a == self.b:
            return "same"
        return "better" if (self.b > self.a) == (self.name in HIGHER_IS_BETTER) else "worse"


@dataclass(frozen=True, slots=True)
class PagePair:
    """One page in both evaluations."""

    a: PageResult
    b: PageResult
    score_a: PageScore
    score_b: PageScore

    @property
    def change(self) -> float:
        """CER of B minus CER of A: below 0 is better."""
        return self.score_b.cer - self.score_a.cer


@dataclass(frozen=True)
class Comparison:
    """Two evaluations of the same pages.

    Attributes:
        metrics_a, metrics_b: figures over the compared pages.
        provenance_a, provenance_b: where each comes from.
        changes: one for each of `FIGURES`.
        interval: mean CER of B minus mean CER of A, paired bootstrap by document.
        pairs: all compared pages, in the dataset's order.
        left_out: pages that only one of them has, or whose references differ (with `intersect`).
    """

    metrics_a: Metrics
    metrics_b: Metrics
    provenance_a: Mapping[str, Any]
    provenance_b: Mapping[str, Any]
    changes: tuple[Change, ...]
    interval: Interval
    pairs: tuple[PagePair, ...]
    left_out: int

    @property
    def documents(self) -> int:
        """Documents among the compared pages; a page without a document counts as one."""
        groups = [pair.a.group for pair in self.pairs]
        return len({group for group in groups if group}) + groups.count("")

    @property
    def verdict(self) -> Verdict:
        """By mean CER: better or worse only where the whole interval lies on one side of zero, and where there
        are enough documents for an interval to mean something."""
        if self.documents < FEWEST_DOCUMENTS:
            return "unclear"
        if self.interval.high < 0:
            return "better"
        return "worse" if self.interval.low > 0 else "unclear"

    @property
    def reason(self) -> str:
        """Why the verdict is what it is, in a few words."""
        if self.documents < FEWEST_DOCUMENTS:
            noun = "document is" if self.documents == 1 else "documents are"
            return f"{self.documents} {noun} too few to tell (at least {FEWEST_DOCUMENTS})"
        sides = {"better": "is below zero", "worse": "is above zero", "unclear": "includes zero"}
        return f"the {'' if self.verdict == 'unclear' else 'whole '}interval {sides[self.verdict]}"

    @property
    def improved(self) -> list[PagePair]:
        """Pages with a lower CER in B, most improved first."""
        return sorted(
            (pair for pair in self.pairs if pair.change < 0), key=lambda pair: (pair.change, pair.a.id)
        )

    @property
    def worsened(self) -> list[PagePair]:
        """Pages with a higher CER in B, most worsened first."""
        return sorted(
            (pair for pair in self.pairs if pair.change > 0), key=lambda pair: (-pair.change, pair.a.id)
        )

    @property
    def became_exact(self) -> list[PagePair]:
        """Pages that only B read without an error, largest change first."""
        return [pair for pair in self.improved if pair.score_b.exact and not pair.score_a.exact]

    @property
    def lost_exact(self) -> list[PagePair]:
        """Pages that only A read without an error, largest change first."""
        return [pair for pair in self.worsened if pair.score_a.exact and not pair.score_b.exact]

    def to_json(self) -> dict[str, Any]:
        """The comparison as a JSON object."""
        return {
            "n": len(self.pairs),
            "left_out": self.left_out,
            "verdict": self.verdict,
            "reason": self.reason,
            "documents": self.documents,
            "cer_mean_difference": asdict(self.interval),
            "figures": {
                change.name: {
                    "a": change.a,
                    "b": change.b,
                    "change": change.absolute,
                    "relative": change.relative,
                    "verdict": change.verdict,
                }
                for change in self.changes
            },
            "became_exact": [_brief(pair) for pair in self.became_exact],
            "lost_exact": [_brief(pair) for pair in self.lost_exact],
            "improved": [_brief(pair) for pair in self.improved],
            "worsened": [_brief(pair) for pair in self.worsened],
            "a": {**self.metrics_a.to_json(), "provenance": dict(self.provenance_a)},
            "b": {**self.metrics_b.to_json(), "provenance": dict(self.provenance_b)},
        }


def compare(a: Path, b: Path, *, intersect: bool = False) -> Comparison:
    """Compares two evaluation folders page by page.

    Args:
        a: the evaluation before.
        b: the evaluation after.
        intersect: compare the pages that both have (same id and reference), whatever else differs.

    Raises:
        DataError: a folder holds no finished evaluation, or the two are not of the same pages.
    """
    before, after = load(a), load(b)
    if not intersect:
        _check_same(before, after, f"{a} and {b}")
    pairs, left_out = _pair(before, after)
    if not pairs:
        raise DataError(
            "The two evaluations have no page in common.",
            place=f"{a} and {b}",
            mend="Evaluate both on the same dataset and split.",
        )
    return compare_pairs(pairs, left_out, before.provenance, after.provenance)


def compare_pairs(
    pairs: Sequence[PagePair], left_out: int, provenance_a: Mapping[str, Any], provenance_b: Mapping[str, Any]
) -> Comparison:
    """The comparison of pages that are already put together; at least one."""
    groups = [pair.a.group for pair in pairs]
    metrics_a = _metrics([pair.a for pair in pairs], [pair.score_a for pair in pairs], groups)
    metrics_b = _metrics([pair.b for pair in pairs], [pair.score_b for pair in pairs], groups)
    interval = paired_interval([p.score_a.cer for p in pairs], [p.score_b.cer for p in pairs], groups)
    changes = tuple(Change(name, _figure(metrics_a, name), _figure(metrics_b, name)) for name in FIGURES)
    return Comparison(
        metrics_a, metrics_b, provenance_a, provenance_b, changes, interval, tuple(pairs), left_out
    )


def save_comparison(comparison: Comparison, out: Path, *, names: tuple[str, str]) -> None:
    """Writes comparison.json and comparison.html.

    Args:
        comparison: as `compare` gives it.
        out: the folder, made if missing.
        names: how A and B are called in the report.

    Raises:
        OutputError: `out` cannot be written to.
    """
    store.prepare_folder(out)
    page = render_comparison(comparison, names, lambda ids: _images(comparison.provenance_a, ids))
    store.write_json(out / store.COMPARISON, comparison.to_json())
    write_text(out / store.COMPARISON_REPORT, page)


def _images(provenance: Mapping[str, Any], ids: Sequence[str]) -> dict[str, bytes]:
    """Images from the evaluated dataset if it is still there unchanged; the report says which it lacks."""
    data = provenance.get("dataset") or {}
    if not data.get("path") or data.get("split") not in SPLITS:
        return {}
    try:
        dataset = open_dataset(data["path"])
        if dataset.content_hash != data.get("content_hash"):
            return {}
        return find_images(dataset, data["split"], ids)
    except OcrsmithError:
        return {}


def _check_same(before: Evaluation, after: Evaluation, place: str) -> None:
    """Refuses evaluations that are not of the same pages, and says which differ."""
    hashes = [_dataset(evaluation, "content_hash") for evaluation in (before, after)]
    splits = [_dataset(evaluation, "split") for evaluation in (before, after)]
    first = {result.id: result.reference for result in before.results}
    second = {result.id: result.reference for result in after.results}
    reasons = []
    if hashes[0] != hashes[1]:
        reasons.append(f"the datasets differ (content hash {hashes[0]} and {hashes[1]})")
    if splits[0] != splits[1]:
        reasons.append(f"the splits differ ({splits[0]} and {splits[1]})")
    for here, there, text in ((first, second, "only in A"), (second, first, "only in B")):
        missing = [name for name in here if name not in there]
        if missing:
            reasons.append(f"{_pages(len(missing))} {text}: {_names(missing)}")
    other = [name for name, text in first.items() if name in second and second[name] != text]
    if other:
        reasons.append(f"{_pages(len(other))} with another reference: {_names(other)}")
    if reasons:
        raise DataError(
            f"The two evaluations are not of the same pages: {'; '.join(reasons)}.",
            place=place,
            mend="Evaluate both on the same dataset and split, or compare the shared pages with --intersect.",
        )


def _pair(before: Evaluation, after: Evaluation) -> tuple[list[PagePair], int]:
    """Pages in common, in A's order, and how many are not."""
    later = {result.id: (result, score) for result, score in zip(after.results, after.scores, strict=True)}
    pairs = []
    for result, score in zip(before.results, before.scores, strict=True):
        other = later.get(result.id)
        if other is not None and other[0].reference == result.reference:
            pairs.append(PagePair(result, other[0], score, other[1]))
    ids = {result.id for result in before.results} | set(later)
    return pairs, len(ids) - len(pairs)


def _metrics(results: Sequence[PageResult], scores: Sequence[PageScore], groups: Sequence[str]) -> Metrics:
    reasons = [result.finish_reason for result in results]
    return summarize(scores, reasons, groups, seconds=sum(result.seconds for result in results))


def _figure(metrics: Metrics, name: str) -> float:
    if name.startswith("cer."):
        return float(getattr(metrics.cer, name.removeprefix("cer.")))
    return float(getattr(metrics, name))


def _dataset(evaluation: Evaluation, key: str) -> object:
    return (evaluation.provenance.get("dataset") or {}).get(key)


def _brief(pair: PagePair) -> dict[str, Any]:
    return {"id": pair.a.id, "cer_a": pair.score_a.cer, "cer_b": pair.score_b.cer, "change": pair.change}


def _pages(number: int) -> str:
    return "1 page" if number == 1 else f"{number:,} pages"


def _names(ids: Sequence[str]) -> str:
    shown = ", ".join(repr(name) for name in ids[:_NAMED])
    return f"{shown}, …" if len(ids) > _NAMED else shown
