"""The figures of a comparison: each in A and in B; for those that pages have, the effect with its interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ocrsmith.evaluation.compare.effects import Effect, measure
from ocrsmith.evaluation.compare.pages import PagePair
from ocrsmith.evaluation.figures import Texts, score_texts
from ocrsmith.evaluation.report.wording import FIGURES, figure_value
from ocrsmith.evaluation.statistics import Floats, Metrics
from ocrsmith.evaluation.store import PageResult

STORED = ("rouge_l", "bleu", "tables", "fields", "order", "boxes")
"""Groups of metrics.json that are taken as they stand there: they are not scored again, page by page."""

_RISES = ("exact_match", "chrf", "rouge_l", "bleu", "tables", "fields", "boxes")
"""A name that begins with one of these is better the higher it is."""


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
        return "better" if (self.b > self.a) == rises(self.name) else "worse"

    def to_json(self) -> dict[str, Any]:
        """The figure as a JSON object."""
        return {
            "a": self.a,
            "b": self.b,
            "change": self.absolute,
            "relative": self.relative,
            "verdict": self.verdict,
        }


def rises(name: str) -> bool:
    """Whether a figure is better the higher it is."""
    return name.split(".")[0] in _RISES


def changes_of(a: Metrics, b: Metrics) -> list[Change]:
    """The figures of every evaluation, in the order of the tables."""
    return [Change(key, figure_value(a, key), figure_value(b, key)) for key, _, _ in FIGURES]


def stored_changes(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[Change]:
    """Means of `STORED` figures that both have.

    Args:
        a, b: metrics.json of evaluations of the same pages.
    """
    first, second = _means(a), _means(b)
    return [Change(name, value, second[name]) for name, value in first.items() if name in second]


def line_effects(pairs: Sequence[PagePair]) -> dict[str, Effect]:
    """Effects on word error rate, normalised edit distance and chrF, from the texts of the pages."""
    first, second = (_line_scores([getattr(pair, side) for pair in pairs]) for side in ("a", "b"))
    groups = [pair.a.group for pair in pairs]
    return {
        name: measure(first[name].tolist(), second[name].tolist(), groups, higher_is_better=rises(name))
        for name in first
    }


def _line_scores(results: Sequence[PageResult]) -> dict[str, Floats]:
    scores = score_texts(Texts.of(results))
    return {"wer.mean": scores.wer, "ned.mean": scores.ned, "chrf.mean": scores.chrf}


def _means(figures: Mapping[str, Any]) -> dict[str, float]:
    found: dict[str, float] = {}
    for group in STORED:
        if isinstance(figures.get(group), Mapping):
            _collect(group, figures[group], found)
    return found


def _collect(name: str, value: Mapping[str, Any], found: dict[str, float]) -> None:
    """Adds `name.mean` of a figure, or those of the figures below it."""
    mean = value.get("mean")
    if isinstance(mean, int | float):
        found[f"{name}.mean"] = float(mean)
        return
    for key, item in value.items():
        if isinstance(item, Mapping):
            _collect(f"{name}.{key}", item, found)
