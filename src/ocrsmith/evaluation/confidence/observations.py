"""What a calibration is fitted to and judged by: confidences, and whether they came true."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ocrsmith.engines.confidence import MAX_LOGIT, character_confidence, logit, page_confidence
from ocrsmith.evaluation.alignment import align
from ocrsmith.evaluation.metrics.cer import PageScore
from ocrsmith.evaluation.store import PageResult

Floats = NDArray[np.float64]
Whole = NDArray[np.int64]

SEED = 3407
FOLDS = 5
LEVELS = 4096
"""Steps of the log-odds into which characters are counted: finer than 1 % of the odds, and memory stays small
however many characters there are."""


@dataclass(frozen=True)
class Observations:
    """Confidences with how right they were; equal ones of a fold may stand together with a weight.

    Attributes:
        confidence: (n,) 0 to 1.
        truth: (n,) how right, 0 to 1: share of right characters, or a page's 1 - CER (0 where CER is above 1).
        weight: (n,) how many observations each stands for.
        fold: (n,) which fold of a cross-validation each is in; a document is in one.
        unknown: characters that no token accounts for, left out.
    """

    confidence: Floats
    truth: Floats
    weight: Floats
    fold: Whole
    unknown: int = 0

    def __len__(self) -> int:
        return len(self.confidence)

    @property
    def count(self) -> int:
        """Observations, each as often as it was made."""
        return round(float(self.weight.sum()))

    def where(self, mask: NDArray[np.bool_]) -> Observations:
        """Those for which `mask` is true."""
        return Observations(self.confidence[mask], self.truth[mask], self.weight[mask], self.fold[mask])


def documents_of(results: Sequence[PageResult]) -> Whole:
    """The number of each page's document, from 0 in the order of appearance; no group: one of its own."""
    numbers: dict[object, int] = {}
    keys = (result.group or ("alone", place) for place, result in enumerate(results))
    return np.fromiter((numbers.setdefault(key, len(numbers)) for key in keys), np.int64, len(results))


def folds_of(documents: Whole, *, folds: int = FOLDS, seed: int = SEED) -> Whole:
    """A fold for each page: whole documents, in random order dealt out evenly."""
    count = int(documents.max()) + 1 if len(documents) else 0
    deal = np.empty(count, dtype=np.int64)
    deal[np.random.default_rng(seed).permutation(count)] = np.arange(count) % min(folds, max(1, count))
    return deal[documents]


def is_right(reference: str, prediction: str) -> NDArray[np.bool_]:
    """Whether each character was read right: an alignment with the fewest edits has it in the reference.

    Added and replaced characters are wrong; left-out ones leave no trace here.

    Returns:
        (len(prediction),)
    """
    right = np.ones(len(prediction), dtype=bool)
    for edit in align(reference, prediction).edits:
        right[edit.pred_start : edit.pred_end] = False
    return right


def of_characters(results: Sequence[PageResult], folds: Whole) -> Observations:
    """Characters of the pages that ended by themselves, counted by log-odds and fold."""
    count, hits, total = (np.zeros((FOLDS, LEVELS + 1)) for _ in range(3))
    unknown = 0
    for result, fold in zip(results, folds.tolist(), strict=True):
        if result.finish_reason != "stop" or not result.token_ends:
            continue
        values = character_confidence(result.prediction, result.token_ends, result.token_logprobs)
        known = ~np.isnan(values)
        unknown += int((~known).sum())
        values, right = values[known], is_right(result.reference, result.prediction)[known]
        level = np.rint((logit(values) + MAX_LOGIT) * (LEVELS / (2 * MAX_LOGIT))).astype(np.int64)
        for table, weights in ((count, None), (hits, right.astype(np.float64)), (total, values)):
            table[fold] += np.bincount(level, weights, minlength=LEVELS + 1)
    fold_of, level = np.nonzero(count)
    weight = count[fold_of, level]
    return Observations(
        confidence=total[fold_of, level] / weight,
        truth=hits[fold_of, level] / weight,
        weight=weight,
        fold=fold_of,
        unknown=unknown,
    )


def of_pages(results: Sequence[PageResult], scores: Sequence[PageScore], folds: Whole) -> Observations:
    """Pages that ended by themselves, with a known confidence. The others' is 0 by rule: nothing to fit."""
    confidences = [page_confidence(item) if item.finish_reason == "stop" else None for item in results]
    known = np.array([value is not None for value in confidences], dtype=bool)
    truth = 1.0 - capped(scores)
    return Observations(
        confidence=np.array([value for value in confidences if value is not None], dtype=np.float64),
        truth=truth[known],
        weight=np.ones(int(known.sum())),
        fold=folds[known],
    )


def raw_confidences(results: Sequence[PageResult]) -> Floats:
    """(n,) each page's confidence before calibration; 0 where it is unknown."""
    return np.array([page_confidence(result) or 0.0 for result in results], dtype=np.float64)


def capped(scores: Sequence[PageScore]) -> Floats:
    """(n,) each page's CER, at most 1: beyond that a page is simply lost."""
    return np.minimum([score.cer for score in scores], 1.0).astype(np.float64)


def fingerprint(results: Sequence[PageResult]) -> str:
    """A hash of the pages and their references, in whatever order: the same for the same data."""
    pages = sorted(f"{result.id}\0{result.reference}" for result in results)
    return f"sha256:{hashlib.sha256(chr(1).join(pages).encode('utf-8', 'surrogatepass')).hexdigest()}"
