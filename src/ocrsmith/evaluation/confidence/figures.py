"""The figures of an evaluation's confidences: the key `confidence` of metrics.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ocrsmith.engines.confidence import Calibration, Curve, has_probabilities
from ocrsmith.evaluation.confidence.acceptance import Acceptance, accept, apply_rule
from ocrsmith.evaluation.confidence.observations import (
    Observations,
    capped,
    documents_of,
    fingerprint,
    folds_of,
    of_characters,
    of_pages,
    raw_confidences,
)
from ocrsmith.evaluation.confidence.reliability import Bin, expected_calibration_error, reliability
from ocrsmith.evaluation.confidence.selective import RiskCoverage, risk_coverage
from ocrsmith.evaluation.metrics.cer import PageScore
from ocrsmith.evaluation.store import PageResult


@dataclass(frozen=True)
class Reliability:
    """Whether confidences of one sort come true.

    Attributes:
        n: observations.
        before: ECE of what the model says; None without observations.
        after: ECE with the calibration. None without one, and where it was fitted to these very pages: there it
            would praise itself.
        bins: with the calibration if there is one.
    """

    n: int
    before: float | None
    after: float | None
    bins: tuple[Bin, ...]


@dataclass(frozen=True)
class ConfidenceFigures:
    """What an evaluation's confidences are worth.

    Attributes:
        pages_with: pages for which the engine told probabilities.
        characters, pages: of what was read to its end.
        calibration: the one that was applied, or None.
        same_pages: it was fitted to these very pages.
        curve: over all pages; one without a confidence counts as 0.
        accept: None if no CER was asked for.
    """

    pages_with: int
    characters: Reliability
    pages: Reliability
    calibration: Calibration | None
    same_pages: bool
    curve: RiskCoverage
    accept: Acceptance | None

    def to_json(self) -> dict[str, Any]:
        """{"pages_with", "ece", "calibration", "reliability", "reliability_pages", "risk_coverage", "aurc",
        "accept"}"""
        used = self.calibration
        return {
            "pages_with": self.pages_with,
            "ece": {
                name: {"before": side.before, "after": side.after, "n": side.n}
                for name, side in (("characters", self.characters), ("pages", self.pages))
            },
            "calibration": None
            if used is None
            else {"method": used.method, "fitted_on": _plain(used.fitted_on), "same_pages": self.same_pages},
            "reliability": [item.to_json() for item in self.characters.bins],
            "reliability_pages": [item.to_json() for item in self.pages.bins],
            **self.curve.to_json(),
            "accept": None if self.accept is None else self.accept.to_json(),
        }


def confidence_of(
    results: Sequence[PageResult],
    scores: Sequence[PageScore],
    *,
    calibration: Calibration | None = None,
    accept_cer: float | None = None,
) -> ConfidenceFigures | None:
    """Judges the confidences of an evaluation.

    Args:
        results, scores: all pages and their scores, same order.
        calibration: fitted elsewhere (see `fitting.fit`).
        accept_cer: the CER that accepted pages must keep below. If the calibration has a threshold for it, that
            is held against these pages, else one is chosen on them. None takes the calibration's, if any.

    Returns:
        None where the engine told no probabilities.

    Raises:
        SettingsError: an impossible CER.
    """
    pages_with = sum(has_probabilities(result) for result in results)
    if not pages_with:
        return None
    folds = folds_of(documents_of(results))
    same = calibration is not None and calibration.fitted_on.get("pages_hash") == fingerprint(results)
    return ConfidenceFigures(
        pages_with=pages_with,
        characters=_judge(of_characters(results, folds), calibration.characters if calibration else None, same),
        pages=_judge(of_pages(results, scores, folds), calibration.pages if calibration else None, same),
        calibration=calibration,
        same_pages=same,
        curve=risk_coverage(raw_confidences(results), capped(scores)),
        accept=_accept(results, scores, calibration, accept_cer, same),
    )


def _judge(data: Observations, curve: Curve | None, same: bool) -> Reliability:
    values = data.confidence if curve is None else curve(data.confidence)
    after = None
    if curve is not None and not same:
        after = expected_calibration_error(values, data.truth, data.weight)
    return Reliability(
        n=data.count,
        before=expected_calibration_error(data.confidence, data.truth, data.weight),
        after=after,
        bins=reliability(values, data.truth, data.weight),
    )


def _accept(
    results: Sequence[PageResult],
    scores: Sequence[PageScore],
    calibration: Calibration | None,
    target: float | None,
    same: bool,
) -> Acceptance | None:
    rule = calibration.accept if calibration else None
    if rule is not None and not same and target in (None, rule.cer):
        return apply_rule(results, scores, rule)
    if target is None:
        target = rule.cer if rule else None
    return None if target is None else accept(results, scores, target=target)


def _plain(fitted_on: Mapping[str, Any]) -> dict[str, Any]:
    """Without the details of the fit, which stay in calibration.json."""
    return {key: value for key, value in fitted_on.items() if key != "fits"}
