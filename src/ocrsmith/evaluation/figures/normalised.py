"""Figures of the texts once more, with references and predictions normalised alike.

What a policy takes away was a matter of spelling.
"""

from __future__ import annotations

from dataclasses import fields

import numpy as np
from numpy.typing import NDArray

from ocrsmith.evaluation.figures.section import Texts
from ocrsmith.evaluation.figures.text import score_texts
from ocrsmith.evaluation.metrics.lines import LineScores
from ocrsmith.evaluation.statistics import ratio
from ocrsmith.text.normalise import Policy, parse_policy

POLICIES = ("nfkc", "zh", "fa", "whitespace", "casefold", "nfkc+zh+fa+whitespace+casefold")
"""Each on its own, and all together: what is left is no matter of spelling."""


def normalised_figures(texts: Texts, lines: LineScores) -> dict[str, dict[str, float]]:
    """Under each of `POLICIES`: {"cer.mean", "cer.micro", "wer.mean", "wer.micro", "ned.mean", "exact_match",
    "chrf.mean"}.

    Args:
        texts: of all pages.
        lines: `score_texts` of them as they are; pages that a policy leaves as they are keep these scores.
    """
    return {name: _under(parse_policy(name), texts, lines) for name in POLICIES}


def _under(policy: Policy, texts: Texts, lines: LineScores) -> dict[str, float]:
    own = texts.normalised(policy)
    sides = ((texts.references, own.references), (texts.predictions, own.predictions))
    changed = [np.array([a != b for a, b in zip(*side, strict=True)], np.bool_) for side in sides]
    pages = np.flatnonzero(changed[0] | changed[1])
    scores = _replaced(lines, pages, score_texts(own.at(pages.tolist())))
    return {
        "cer.mean": float(scores.cer.mean()),
        "cer.micro": _micro(scores.edits, scores.length),
        "wer.mean": float(scores.wer.mean()),
        "wer.micro": _micro(scores.word_edits, scores.words),
        "ned.mean": float(scores.ned.mean()),
        "exact_match": float(scores.exact.mean()),
        "chrf.mean": float(scores.chrf.mean()),
    }


def _replaced(scores: LineScores, pages: NDArray[np.int64], others: LineScores) -> LineScores:
    """Scores in which those of some pages are replaced."""
    columns = {}
    for field in fields(scores):
        column = getattr(scores, field.name).copy()
        column[pages] = getattr(others, field.name)
        columns[field.name] = column
    return LineScores(**columns)


def _micro(edits: NDArray[np.int64], length: NDArray[np.int64]) -> float:
    return float(ratio(np.array([[edits.sum(), length.sum()]], np.float64))[0])
