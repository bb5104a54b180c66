"""Figures by stratum: the pages of one source, language, length, mode, value of a meta column, or CER band."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ocrsmith.evaluation.metrics.cer import PageScore
from ocrsmith.evaluation.statistics import cer_column, count_documents, figures_over
from ocrsmith.evaluation.store import PageResult
from ocrsmith.text.language import guess_language

MAX_LABELS = 30
"""Labels of a dimension that stay apart, the most frequent ones; the others are `OTHER`."""
MAX_VALUES = 20
"""Different values of a meta column that make it a dimension."""
MAX_COLUMNS = 40
"""Meta columns that become dimensions: those that most pages have."""
MAX_CHARACTERS = 80
"""Of a meta column's name and values; longer ones are texts, not labels."""

OTHER = "other"
UNKNOWN = "unknown"
"""The label of pages of which a dimension says nothing."""
META = "meta."
CER_BAND = "cer_band"

_LENGTHS = (1, 10, 30, 100, 300, 1000)
LENGTH_BANDS = ("0", "1-9", "10-29", "30-99", "100-299", "300-999", "1000+")
"""Characters of the reference."""
_RATES = (0.0, 0.01, 0.05, 0.10, 0.30, 1.0)
CER_BANDS = ("0", "0-1%", "1-5%", "5-10%", "10-30%", "30-100%", ">100%")
"""The upper end belongs to the band: 1-5% is above 1 % and at most 5 %."""
_BANDS = {"length": LENGTH_BANDS, CER_BAND: CER_BANDS}

Labels = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Stratum:
    """The figures of the pages with one label; CER as in `statistics`."""

    n: int
    documents: int
    mean: float
    mean_ci95: tuple[float, float]
    micro: float
    p90: float
    exact_match: float
    share_of_edits: float
    """Of the edits of all pages, 0 to 1; 0 where there are none."""
    labels: int = 1
    """Labels in it: more than one only of `OTHER`."""

    def to_json(self) -> dict[str, Any]:
        """{"n", "documents", "cer.mean", "cer.mean_ci95", "cer.micro", "cer.p90", "exact_match",
        "share_of_edits"}, and "labels" where there are several."""
        figures = {
            "n": self.n,
            "documents": self.documents,
            "cer.mean": self.mean,
            "cer.mean_ci95": list(self.mean_ci95),
            "cer.micro": self.micro,
            "cer.p90": self.p90,
            "exact_match": self.exact_match,
            "share_of_edits": self.share_of_edits,
        }
        return figures | ({"labels": self.labels} if self.labels > 1 else {})


@dataclass(frozen=True)
class Strata:
    """Strata by dimension and label, in the order in which they are to be shown (see `in_order`)."""

    by_dimension: Mapping[str, Mapping[str, Stratum]]

    def to_json(self) -> dict[str, Any]:
        """{dimension: {label: figures of `Stratum.to_json`}}"""
        return {
            dimension: {label: stratum.to_json() for label, stratum in strata.items()}
            for dimension, strata in self.by_dimension.items()
        }


def assign(results: Sequence[PageResult]) -> Mapping[str, Labels]:
    """The label of each page in every dimension: source, language, length, mode, meta.NAME.

    A meta column is a dimension if all its values are strings, numbers or truth values, at most `MAX_VALUES`
    different ones. The CER band is not among them: it belongs to one evaluation, not to the pages.
    """
    return {dimension: _fold(labels) for dimension, labels in _labels(results).items()}


def strata_of(results: Sequence[PageResult], scores: Sequence[PageScore]) -> Strata:
    """Figures of every stratum. Dimensions in which all pages have the same label are left out.

    Args:
        results: at least one.
        scores: of these pages, in the same order.
    """
    labels = {**_labels(results), CER_BAND: tuple(_cer_band(score.cer) for score in scores)}
    edits = sum(score.edits for score in scores)
    found = {}
    for dimension, whole in labels.items():
        folded = _fold(whole)
        rare = len({label for label, kept in zip(whole, folded, strict=True) if kept != label or kept == OTHER})
        if len(set(folded)) > 1:
            found[dimension] = {
                label: _stratum(results, scores, pages, edits, max(1, rare) if label == OTHER else 1)
                for label, pages in _pages_by_label(dimension, folded).items()
            }
    return Strata(found)


def in_order(dimension: str, labels: Sequence[str]) -> list[str]:
    """The different labels as they are to be shown: bands from low to high, others the most frequent first,
    `OTHER` last."""
    if bands := _BANDS.get(dimension):
        return [band for band in bands if band in set(labels)]
    counts = Counter(labels)
    return sorted(counts, key=lambda label: (label == OTHER, -counts[label], label))


def _stratum(
    results: Sequence[PageResult], scores: Sequence[PageScore], pages: list[int], edits: int, labels: int
) -> Stratum:
    own = [scores[page] for page in pages]
    groups = [results[page].group for page in pages]
    column = cer_column(own)
    cer = figures_over([column], groups)[column.name]
    assert cer.micro is not None  # the column has parts
    return Stratum(
        n=len(own),
        documents=count_documents(groups),
        mean=cer.mean,
        mean_ci95=cer.mean_ci95,
        micro=cer.micro,
        p90=cer.p90,
        exact_match=sum(score.exact for score in own) / len(own),
        share_of_edits=sum(score.edits for score in own) / edits if edits else 0.0,
        labels=labels,
    )


def _pages_by_label(dimension: str, labels: Labels) -> dict[str, list[int]]:
    pages: dict[str, list[int]] = {label: [] for label in in_order(dimension, labels)}
    for page, label in enumerate(labels):
        pages[label].append(page)
    return pages


# --- labels ------------------------------------------------------------------------------------------------


def _labels(results: Sequence[PageResult]) -> dict[str, Labels]:
    """As `assign`, however many labels there are."""
    return {
        "source": tuple(result.source or UNKNOWN for result in results),
        "language": tuple(guess_language(result.reference) for result in results),
        "length": tuple(_length_band(len(result.reference)) for result in results),
        "mode": tuple(result.mode or UNKNOWN for result in results),
        **_meta_labels(results),
    }


def _meta_labels(results: Sequence[PageResult]) -> dict[str, Labels]:
    values: dict[str, set[str | None]] = {}
    times: Counter[str] = Counter()
    for result in results:
        for name, value in result.meta.items():
            known = values.setdefault(name, set())
            if len(known) <= MAX_VALUES and None not in known:  # else it is no dimension any more
                known.add(_label(value))
            times[name] += value is not None
    good = [
        name
        for name, known in values.items()
        if None not in known and len(known) <= MAX_VALUES and times[name] and 0 < len(name) <= MAX_CHARACTERS
    ]
    chosen = sorted(sorted(good, key=lambda name: (-times[name], name))[:MAX_COLUMNS])
    return {
        META + name: tuple(_label(result.meta.get(name)) or UNKNOWN for result in results) for name in chosen
    }


def _label(value: Any) -> str | None:
    """A meta value as a label; None if it cannot be one."""
    if value is None or value == "":
        return UNKNOWN
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, str | int | float):
        return None
    label = " ".join(str(value).split())
    return label or UNKNOWN if len(label) <= MAX_CHARACTERS else None


def _fold(labels: Labels) -> Labels:
    counts = Counter(labels)
    if len(counts) <= MAX_LABELS:
        return labels
    kept = set(sorted(counts, key=lambda label: (-counts[label], label))[:MAX_LABELS])
    return tuple(label if label in kept else OTHER for label in labels)


def _length_band(characters: int) -> str:
    return LENGTH_BANDS[bisect_right(_LENGTHS, characters)]


def _cer_band(rate: float) -> str:
    return CER_BANDS[bisect_left(_RATES, rate)]
