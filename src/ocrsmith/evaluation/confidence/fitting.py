"""Fits a calibration to an evaluation, and measures what it brings to documents it was not fitted to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ocrsmith.engines.confidence import AcceptRule, Calibration, Curve, has_probabilities
from ocrsmith.errors import DataError, SettingsError
from ocrsmith.evaluation.confidence.acceptance import Acceptance, accept
from ocrsmith.evaluation.confidence.curves import METHODS, fit_curve, log_loss
from ocrsmith.evaluation.confidence.observations import (
    Floats,
    Observations,
    Whole,
    capped,
    documents_of,
    fingerprint,
    folds_of,
    of_characters,
    of_pages,
    raw_confidences,
)
from ocrsmith.evaluation.confidence.origin import origin_of
from ocrsmith.evaluation.confidence.reliability import expected_calibration_error
from ocrsmith.evaluation.confidence.selective import RiskCoverage, risk_coverage
from ocrsmith.evaluation.metrics.cer import PageScore
from ocrsmith.evaluation.store import PageResult

Method = Literal["auto", "isotonic", "temperature"]


@dataclass(frozen=True)
class Fit:
    """A curve, and how well it does on documents it was not fitted to.

    Attributes:
        curve: fitted to all observations.
        n: observations.
        ece_before, ece_after: expected calibration error without the curve, and with one; "after" is
            cross-validated by document, so that no page is judged by a curve that has seen its document.
        log_losses: method → cross-validated log loss, and "none" → without a curve; what "auto" chose by.
    """

    curve: Curve
    n: int
    ece_before: float
    ece_after: float
    log_losses: Mapping[str, float]

    def to_json(self) -> dict[str, Any]:
        """Its figures, without the curve."""
        return {
            "method": self.curve.method,
            "n": self.n,
            "ece": {"before": self.ece_before, "after": self.ece_after},
            "log_loss": dict(self.log_losses),
        }


@dataclass(frozen=True)
class Fitted:
    """A calibration with what is known about its worth.

    Attributes:
        calibration: to be saved.
        characters: None where the engine gave no tokens.
        pages: of the pages that ended by themselves.
        acceptance: what `calibration.accept` comes from, if a CER was asked for.
        curve: over all pages; does not depend on the calibration.
    """

    calibration: Calibration
    characters: Fit | None
    pages: Fit
    acceptance: Acceptance | None
    curve: RiskCoverage

    def to_json(self) -> dict[str, Any]:
        """{"method", "characters", "pages", "risk_coverage", "aurc", "accept", "fitted_on"}"""
        fitted_on = {key: value for key, value in self.calibration.fitted_on.items() if key != "fits"}
        return {
            "method": self.calibration.method,
            "characters": None if self.characters is None else self.characters.to_json(),
            "pages": self.pages.to_json(),
            **self.curve.to_json(),
            "accept": None if self.acceptance is None else self.acceptance.to_json(),
            "fitted_on": fitted_on,
        }


def fit(
    results: Sequence[PageResult],
    scores: Sequence[PageScore],
    provenance: Mapping[str, Any],
    *,
    method: Method = "auto",
    accept_cer: float | None = None,
) -> Fitted:
    """Fits a calibration to the pages of an evaluation, best one of the validation split.

    Args:
        results, scores: the pages and their scores, same order.
        provenance: the evaluation's; goes into `Calibration.fitted_on`.
        method: "auto" takes, for characters and pages apart, the one with the lower cross-validated log loss.
        accept_cer: also chooses the threshold whose accepted pages keep this CER (see `acceptance.accept`).

    Raises:
        DataError: no token probabilities, or fewer than two documents that were read to their end.
        SettingsError: no such method, or an impossible CER.
    """
    if method not in ("auto", *METHODS):
        raise SettingsError(
            f"There is no method {method!r}.", place="--method", mend=f"Use auto, {' or '.join(METHODS)}."
        )
    documents = documents_of(results)
    _check(results, documents, provenance)
    folds = folds_of(documents)
    found = of_characters(results, folds)
    characters = _fit(found, method) if len(np.unique(found.fold)) > 1 else None
    pages = _fit(of_pages(results, scores, folds), method)
    acceptance = None if accept_cer is None else accept(results, scores, target=accept_cer)
    calibration = Calibration(
        characters=None if characters is None else characters.curve,
        pages=pages.curve,
        accept=None if acceptance is None else _rule(acceptance),
        fitted_on={
            **origin_of(provenance),
            "pages": len(results),
            "documents": int(documents.max()) + 1,
            "pages_hash": fingerprint(results),
            "asked_method": method,
            "fits": {
                "characters": None if characters is None else characters.to_json(),
                "pages": pages.to_json(),
            },
        },
    )
    curve = risk_coverage(raw_confidences(results), capped(scores))
    return Fitted(calibration, characters, pages, acceptance, curve)


def cross_validated(data: Observations, method: str) -> Floats:
    """(n,) each observation's calibrated confidence, by a curve fitted to the other folds."""
    predicted = np.empty(len(data))
    for fold in np.unique(data.fold):
        inside = data.fold == fold
        predicted[inside] = fit_curve(method, data.where(~inside))(data.confidence[inside])
    return predicted


def _fit(data: Observations, method: str) -> Fit:
    predicted = {name: cross_validated(data, name) for name in METHODS}
    losses = {name: log_loss(values, data) for name, values in predicted.items()}
    # Of equals the one with two numbers: it says less than it has seen.
    best = min(reversed(METHODS), key=losses.__getitem__) if method == "auto" else method
    before = expected_calibration_error(data.confidence, data.truth, data.weight)
    after = expected_calibration_error(predicted[best], data.truth, data.weight)
    assert before is not None
    assert after is not None
    return Fit(
        fit_curve(best, data), data.count, before, after, {"none": log_loss(data.confidence, data), **losses}
    )


def _rule(acceptance: Acceptance) -> AcceptRule:
    figures = acceptance.to_json()
    rest = {key: value for key, value in figures.items() if key not in ("cer", "level", "threshold")}
    return AcceptRule(acceptance.target, acceptance.level, acceptance.threshold, rest)


def _check(results: Sequence[PageResult], documents: Whole, provenance: Mapping[str, Any]) -> None:
    engine = (provenance.get("engine") or {}).get("name") or "unknown"
    if not any(has_probabilities(result) for result in results):
        raise DataError(
            f"This evaluation has no token probabilities: its engine ({engine}) tells none.",
            place="predictions.parquet",
            mend="Evaluate with an engine that does: `ocrsmith eval --engine native`, or a server that sends "
            "log-probabilities.",
        )
    usable = {
        int(document)
        for result, document in zip(results, documents.tolist(), strict=True)
        if result.finish_reason == "stop" and has_probabilities(result)
    }
    if len(usable) < 2:
        raise DataError(
            f"A calibration needs two documents at least, and this evaluation has {len(usable)} whose pages "
            "were read to their end with token probabilities.",
            place="predictions.parquet",
            mend="Evaluate more documents; a hundred are better than ten.",
        )
