"""Scores many short texts at a time: every figure of a line, as columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from rapidfuzz.distance import Levenshtein

from ocrsmith.evaluation.metrics.chrf import chrf_statistics, chrf_values
from ocrsmith.evaluation.metrics.wer import words

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class LineScores:
    """A value for each pair, in the order of the pairs."""

    edits: Ints
    """Insertions, deletions and substitutions of code points."""
    length: Ints
    """Code points of the reference."""
    cer: Floats
    """As `cer.cer`."""
    word_edits: Ints
    words: Ints
    """Words of the reference."""
    wer: Floats
    """As `wer.wer`."""
    ned: Floats
    """As `wer.ned`."""
    exact: npt.NDArray[np.bool_]
    """The prediction is the reference."""
    chrf: Floats
    """As `overlap.sentence_chrf`."""


def score_lines(references: Sequence[str], predictions: Sequence[str]) -> LineScores:
    """CER, WER, normalised edit distance, exact match and chrF of each pair.

    Raises:
        ValueError: there are not as many references as predictions.
    """
    n = len(references)
    if n != len(predictions):
        raise ValueError(f"{n} references, but {len(predictions)} predictions")
    edits = np.fromiter(map(Levenshtein.distance, references, predictions), np.int64, n)
    length = np.fromiter(map(len, references), np.int64, n)
    longest = np.maximum(length, np.fromiter(map(len, predictions), np.int64, n))
    word_edits, count = _word_edits(references, predictions, edits)
    return LineScores(
        edits=edits,
        length=length,
        cer=_rate(edits, length),
        word_edits=word_edits,
        words=count,
        wer=_rate(word_edits, count),
        ned=edits / np.maximum(longest, 1),
        exact=edits == 0,
        chrf=chrf_values(chrf_statistics(references, predictions)),
    )


def _word_edits(references: Sequence[str], predictions: Sequence[str], edits: Ints) -> tuple[Ints, Ints]:
    """Word edits and words of the reference; texts that are equal are cut into words once."""
    found, count = np.zeros(len(edits), np.int64), np.zeros(len(edits), np.int64)
    for place, (reference, prediction, wrong) in enumerate(
        zip(references, predictions, edits.tolist(), strict=True)
    ):
        true = words(reference)
        count[place] = len(true)
        if wrong:
            found[place] = Levenshtein.distance(true, words(prediction))
    return found, count


def _rate(edits: Ints, length: Ints) -> Floats:
    """Of an empty reference 0 if nothing was read, else 1."""
    return np.where(length > 0, edits / np.maximum(length, 1), edits > 0)
