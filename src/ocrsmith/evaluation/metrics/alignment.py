"""Sets two sequences of texts side by side, in order and one to one."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

MAX_PAIRS = 1_000_000
"""Pairs of lines that are looked at. Of longer sequences, lines of the same number are set side by side."""


def align(reference: Sequence[Counter[str]], prediction: Sequence[Counter[str]]) -> dict[int, int]:
    """The alignment with the most texts in common; among such, the one that pairs the most lines.

    Args:
        reference: for each line (a row, say), its texts and how often it has them.
        prediction: likewise.

    Returns:
        The line of the reference for each line of the prediction that has one.
    """
    if len(reference) * len(prediction) > MAX_PAIRS:
        return {number: number for number in range(min(len(reference), len(prediction)))}
    # A text in common is worth more than all pairs without one.
    worth = _in_common(reference, prediction) * (min(len(reference), len(prediction)) + 1) + 1
    best = _best_sums(worth)
    pairs: dict[int, int] = {}
    i, j = len(reference), len(prediction)
    while i and j:
        if best[i, j] == best[i - 1, j - 1] + worth[i - 1, j - 1]:
            i, j = i - 1, j - 1
            pairs[j] = i
        elif best[i, j] == best[i - 1, j]:
            i -= 1
        else:
            j -= 1
    return pairs


def _best_sums(worth: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """For every two beginnings, the most that pairs in order are worth."""
    best = np.zeros((worth.shape[0] + 1, worth.shape[1] + 1), np.int64)
    for i, line in enumerate(worth, 1):
        best[i, 1:] = np.maximum(best[i - 1, 1:], best[i - 1, :-1] + line)
        np.maximum.accumulate(best[i], out=best[i])
    return best


def _in_common(reference: Sequence[Counter[str]], prediction: Sequence[Counter[str]]) -> npt.NDArray[np.int64]:
    common = np.zeros((len(reference), len(prediction)), np.int64)
    where: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)
    for j, line in enumerate(prediction):
        for text, count in line.items():
            where[text].append((j, count))
    for i, line in enumerate(reference):
        for text, count in line.items():
            for j, other in where.get(text, ()):
                common[i, j] += min(count, other)
    return common
