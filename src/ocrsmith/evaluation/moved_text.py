"""Finds text that was read right, but in another place: lines and columns in the wrong order."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence

from ocrsmith.evaluation.lexicon import is_han

PASSAGE = 10
"""Characters that both texts must have in common, and"""
HAN_PASSAGE = 5
"""the same where the text is Chinese: shorter ones (`of the`, `公司`) are in many places."""
MIN_LETTERS = 4
"""Letters and digits among them: table marks and rules look alike everywhere."""
MAX_LENGTH = 200_000
"""Wrong characters of a page beyond which moved text is not looked for, so that memory stays bounded."""
_MAX_PLACES = 8


class Ranges:
    """Stretches of a text that were found; asks how much of a stretch they cover."""

    def __init__(self, pairs: Sequence[tuple[int, int]]) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []
        self._before: list[int] = []  # characters in all ranges before this one
        total = 0
        for start, end in sorted(pairs):
            start = max(start, self._ends[-1]) if self._ends else start
            if end > start:
                self._starts.append(start)
                self._ends.append(end)
                self._before.append(total)
                total += end - start

    def __bool__(self) -> bool:
        return bool(self._starts)

    def covered(self, start: int, end: int) -> int:
        """Characters of [start, end) that lie in the ranges."""
        return self._up_to(end) - self._up_to(start)

    def _up_to(self, place: int) -> int:
        index = bisect_right(self._starts, place) - 1
        if index < 0:
            return 0
        return self._before[index] + min(place, self._ends[index]) - self._starts[index]


def moved_text(
    reference: str,
    prediction: str,
    ref_wrong: Sequence[tuple[int, int]],
    pred_wrong: Sequence[tuple[int, int]],
) -> tuple[Ranges, Ranges]:
    """Passages of the reference's wrong stretches that stand in the prediction's wrong stretches.

    Args:
        reference, prediction: the texts.
        ref_wrong, pred_wrong: starts and ends of the stretches that are not aligned with each other. Passages
            that both share in one stretch stand crosswise there, or the alignment would have joined them.

    Returns:
        Where they stand in the reference, and where in the prediction.
    """
    amount = sum(end - start for start, end in (*ref_wrong, *pred_wrong))
    if amount > MAX_LENGTH:
        return Ranges([]), Ranges([])
    wrong = "".join(reference[start:end] for start, end in ref_wrong)
    size = HAN_PASSAGE if 3 * sum(map(is_han, wrong)) > len(wrong) else PASSAGE
    places: dict[str, list[tuple[int, int]]] = {}
    for start, end in ref_wrong:
        for place in range(start, end - size + 1):
            known = places.setdefault(reference[place : place + size], [])
            if len(known) < _MAX_PLACES:
                known.append((place, end))
    found = list(_matches(reference, prediction, places, pred_wrong, size))
    return (
        Ranges([(ref, ref + length) for ref, _, length in found]),
        Ranges([(pred, pred + length) for _, pred, length in found]),
    )


def _matches(
    reference: str,
    prediction: str,
    places: dict[str, list[tuple[int, int]]],
    pred_wrong: Sequence[tuple[int, int]],
    size: int,
) -> Iterator[tuple[int, int, int]]:
    """Start in the reference, start in the prediction, length: the longest at each place, left to right."""
    for start, end in pred_wrong:
        place = start
        while place + size <= end:
            passage = prediction[place : place + size]
            known = places.get(passage)
            if not known or sum(map(str.isalnum, passage)) < MIN_LETTERS:
                place += 1
                continue
            lengths = [
                (_common(reference, prediction, ref, ref_end, place, end), -ref) for ref, ref_end in known
            ]
            length, ref = max(lengths)
            yield -ref, place, length
            place += length


def _common(reference: str, prediction: str, ref: int, ref_end: int, pred: int, pred_end: int) -> int:
    """Length of what both texts have in common from these places on."""
    longest = min(ref_end - ref, pred_end - pred)
    length = 0
    while length < longest and reference[ref + length] == prediction[pred + length]:
        length += 1
    return length
