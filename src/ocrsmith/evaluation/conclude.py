"""From the pages that were read to what is said of them: metrics.json and report.html.

Reading takes hours and concluding seconds; so an evaluation may be concluded again with another calibration,
another target or another base, without a page being read anew.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ocrsmith.engines.confidence import CALIBRATION, Calibration
from ocrsmith.errors import DataError
from ocrsmith.evaluation import store
from ocrsmith.evaluation.analysis import Analysis
from ocrsmith.evaluation.confidence.acceptance import check_target
from ocrsmith.evaluation.confidence.figures import confidence_of
from ocrsmith.evaluation.confidence.origin import warnings_of
from ocrsmith.evaluation.report import render_evaluation
from ocrsmith.evaluation.retries import Retries
from ocrsmith.evaluation.store import Evaluation
from ocrsmith.settings.files import write_text
from ocrsmith.settings.provenance import file_sha256

ImageSource = Callable[[Sequence[str]], Mapping[str, bytes]]
"""Gives the image files of samples by id; what it does not have is left out."""


@dataclass(frozen=True)
class Conclusions:
    """What an evaluation is held against."""

    calibration: Path | None = None
    """calibration.json, or an evaluation folder with one: makes confidences come true."""
    accept_cer: float | None = None
    """The CER that pages accepted unseen must keep below."""
    base: Path | None = None
    """An earlier evaluation of the same pages, for before and after in the report."""

    def to_json(self) -> dict[str, Any]:
        """For the provenance: what was asked, with the calibration's and the base's content."""
        asked = {
            "calibration": _named(self.calibration, CALIBRATION),
            "accept_cer": self.accept_cer,
            "base": _named(self.base, store.METRICS),
        }
        return {key: value for key, value in asked.items() if value is not None}

    def check(self) -> None:
        """Finds what would stop it before pages are read.

        Raises:
            SettingsError: an impossible CER to accept.
            DataError: the calibration or the base cannot be read.
        """
        if self.accept_cer is not None:
            check_target(self.accept_cer)
        if self.calibration is not None:
            Calibration.load(self.calibration)
        if self.base is not None:
            store.load_metrics(self.base)


def conclude(evaluation: Evaluation, out: Path, conclusions: Conclusions) -> list[str]:
    """Writes predictions.parquet and metrics.json.

    Returns:
        Warnings: what speaks against the calibration that was asked for; a sentence each.

    Raises:
        DataError: the calibration cannot be read.
        SettingsError: an impossible CER to accept.
        OutputError: the folder cannot be written to.
    """
    calibration = Calibration.load(conclusions.calibration) if conclusions.calibration else None
    confidence = confidence_of(
        evaluation.results, evaluation.scores, calibration=calibration, accept_cer=conclusions.accept_cer
    )
    figures = Analysis.of(evaluation.results, evaluation.scores).to_json()
    figures["retries"] = Retries.of(evaluation.results).to_json()
    if confidence is not None:
        figures["confidence"] = confidence.to_json()
    store.save(evaluation, out, figures)
    (out / store.REPORT).unlink(missing_ok=True)
    warnings = [] if calibration is None else warnings_of(calibration, evaluation.provenance)
    if confidence is None and (calibration is not None or conclusions.accept_cer is not None):
        warnings.append(
            "The engine told no probabilities: there is no confidence to calibrate or to accept by."
        )
    return warnings


def report(evaluation: Evaluation, out: Path, images: ImageSource, *, base: Path | None = None) -> None:
    """Writes report.html from metrics.json.

    Args:
        evaluation: of the folder `out`.
        images: gives the images of the pages shown.
        base: an earlier evaluation of the same pages.

    Raises:
        DataError: the base cannot be read, or shares no page with this evaluation.
        OutputError: the report cannot be written.
    """
    before = None
    if base is not None:
        earlier = store.load(base)
        known = {result.id for result in earlier.results}
        if not any(result.id in known for result in evaluation.results):
            raise DataError(
                "The base has no page in common with this evaluation.",
                place=str(base),
                mend="Give an evaluation of the same dataset and split with --base.",
            )
        before = (earlier, store.load_figures(base))
    write_text(out / store.REPORT, render_evaluation(evaluation, store.load_figures(out), images, base=before))


def _named(path: Path | None, inside: str) -> dict[str, str] | None:
    """A file, or the file `inside` a folder, by path and content."""
    if path is None:
        return None
    file = path / inside if path.is_dir() else path
    return {"path": str(path), **({"sha256": file_sha256(file)} if file.is_file() else {})}
