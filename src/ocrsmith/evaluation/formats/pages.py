"""A row for each page, as JSON beside the figures or as CSV."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from typing import Any

from ocrsmith.evaluation.metrics import ned, score_words
from ocrsmith.evaluation.metrics.cer import PageScore
from ocrsmith.evaluation.store import Evaluation, PageResult

TEXT_COLUMNS = (
    *("id", "group", "source", "image_path", "finish_reason", "mode"),
    *("error", "reference", "prediction"),
)
"""Columns whose content comes from elsewhere: in CSV a spreadsheet must not take it for a formula."""


def page_rows(evaluation: Evaluation) -> list[dict[str, Any]]:
    """A flat object for each page, in the dataset's order. Rates are fractions; a failed page is all wrong."""
    return [_row(result, score) for result, score in zip(evaluation.results, evaluation.scores, strict=True)]


def to_json(evaluation: Evaluation, figures: Mapping[str, Any]) -> str:
    """The figures as metrics.json has them, and under `pages` a row for each page.

    Args:
        evaluation: the pages and where they come from.
        figures: what metrics.json holds of it, without provenance.
    """
    content = {**figures, "provenance": dict(evaluation.provenance), "pages": page_rows(evaluation)}
    return json.dumps(content, ensure_ascii=False, indent=2, allow_nan=False) + "\n"


def to_csv(evaluation: Evaluation) -> str:
    """A header and a line for each page, quoted where needed (RFC 4180).

    A text that a spreadsheet would take for a formula gets an apostrophe before it: see `harmless`.
    """
    target = io.StringIO()
    rows = page_rows(evaluation)
    writer = csv.writer(target)  # its CR LF also makes it quote texts with either of them
    writer.writerow(rows[0])
    for row in rows:
        writer.writerow(harmless(value) if name in TEXT_COLUMNS else value for name, value in row.items())
    return target.getvalue()


def harmless(text: str | None) -> str:
    """A text that no spreadsheet runs: an apostrophe before one that begins with = + - @ (or their full-width
    forms), white space before them or not, or with a tab or a carriage return."""
    if not text:
        return ""
    begins = text[0] in "\t\r" or text.lstrip()[:1] in ("=", "+", "-", "@", "＝", "＋", "－", "＠")
    return f"'{text}" if begins else text


def _row(result: PageResult, score: PageScore) -> dict[str, Any]:
    failed = result.finish_reason == "error"
    return {
        "id": result.id,
        "group": result.group,
        "source": result.source,
        "image_path": result.image_path,
        "cer": score.cer,
        "wer": 1.0 if failed else score_words(result.reference, result.prediction).wer,
        "ned": 1.0 if failed else ned(result.reference, result.prediction),
        "edits": score.edits,
        "length": score.length,
        "exact": score.exact,
        "finish_reason": result.finish_reason,
        "mode": result.mode,
        "attempts": result.attempts,
        "tokens": result.tokens,
        "seconds": result.seconds,
        "confidence": result.confidence,
        "error": result.error,
        "reference": result.reference,
        "prediction": result.prediction,
    }
