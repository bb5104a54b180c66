"""Aligns a reference and a prediction character by character: the edits, where they are, and which go together.

Three sizes: an **edit** is one step of the alignment (characters replaced, left out or added); a **cluster** is
edits with no right character between them; a **zone** is clusters between which only a few characters agree,
fewer than are wrong on either side: unrelated texts agree in such specks by chance.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from rapidfuzz.distance import Levenshtein

MAX_CELLS = 10_000_000_000
"""Largest product of both lengths that is aligned as a whole: about a second, and some 10 MB. Longer texts are
cut at passages that occur once in each, and where there are none, in the middle."""
ANCHOR = 32
"""Characters of such a passage: long enough not to be there twice by chance."""
MAX_SLIDE = 200
"""Steps that an edit is moved in search of a border; a loop could slide through the whole page."""
MAX_SPECK = 8
"""Longest agreement that may be chance: longer ones are words that were read."""

Place = tuple[int, int, int, int]
"""Start and end in the reference, start and end in the prediction."""


class Edit(NamedTuple):
    """A stretch of the reference that became a stretch of the prediction; one side may be empty."""

    ref_start: int
    ref_end: int
    pred_start: int
    pred_end: int

    @property
    def cost(self) -> int:
        """Levenshtein edits: sides of a replacement are equally long, else one side is empty."""
        return max(self.ref_end - self.ref_start, self.pred_end - self.pred_start)


@dataclass(frozen=True, slots=True)
class Alignment:
    """How a reference became a prediction.

    Attributes:
        edits: in the order of both texts, without overlap; what lies between is equal.
        exact: the costs sum to the Levenshtein distance. False only for texts beyond `MAX_CELLS`, where the sum
            may be above it.
    """

    edits: tuple[Edit, ...]
    exact: bool


def align(reference: str, prediction: str) -> Alignment:
    """Aligns two texts with the fewest edits, borders put where words, tags and lines begin."""
    exact = len(reference) * len(prediction) <= MAX_CELLS
    whole = (0, len(reference), 0, len(prediction))
    edits: list[Edit] = []
    for piece in [whole] if exact else _cut(reference, prediction):
        edits += _align_piece(reference, prediction, piece)
    return Alignment(tuple(_slide(edits, reference, prediction)), exact)


def clusters(edits: Sequence[Edit]) -> list[list[int]]:
    """Indices of edits that touch each other on both sides."""
    found: list[list[int]] = []
    for index, edit in enumerate(edits):
        last = edits[found[-1][-1]] if found else None
        if last and edit.ref_start == last.ref_end and edit.pred_start == last.pred_end:
            found[-1].append(index)
        else:
            found.append([index])
    return found


def zones(edits: Sequence[Edit]) -> list[list[int]]:
    """Indices of edits that belong to one wrong zone.

    Clusters grow together while the agreement between them is at most `MAX_SPECK` long, and no longer than the
    wrong text on its left and on its right.
    """
    groups = clusters(edits)
    while True:
        merged: list[list[int]] = []
        costs: list[int] = []
        for group in groups:
            cost = sum(edits[index].cost for index in group)
            if merged:
                before, after = edits[merged[-1][-1]], edits[group[0]]
                # unequal where an edit that is not asked about lies between
                gap = max(after.ref_start - before.ref_end, after.pred_start - before.pred_end)
                if gap <= min(MAX_SPECK, cost, costs[-1]):
                    merged[-1].extend(group)
                    costs[-1] += cost
                    continue
            merged.append(list(group))
            costs.append(cost)
        if len(merged) == len(groups):
            return merged
        groups = merged


def hull(edits: Sequence[Edit]) -> Edit:
    """From the first edit's start to the last one's end. `cost` means nothing here."""
    return Edit(edits[0].ref_start, edits[-1].ref_end, edits[0].pred_start, edits[-1].pred_end)


# --- aligning ----------------------------------------------------------------------------------------------


def _align_piece(reference: str, prediction: str, piece: Place) -> Iterator[Edit]:
    ref_start, ref_end, pred_start, pred_end = piece
    if (ref_end - ref_start) * (pred_end - pred_start) > MAX_CELLS:
        ref_middle, pred_middle = (ref_start + ref_end) // 2, (pred_start + pred_end) // 2
        yield from _align_piece(reference, prediction, (ref_start, ref_middle, pred_start, pred_middle))
        yield from _align_piece(reference, prediction, (ref_middle, ref_end, pred_middle, pred_end))
        return
    steps = Levenshtein.opcodes(reference[ref_start:ref_end], prediction[pred_start:pred_end])
    for step in steps:
        if step.tag != "equal":
            yield Edit(
                ref_start + step.src_start,
                ref_start + step.src_end,
                pred_start + step.dest_start,
                pred_start + step.dest_end,
            )


def _cut(reference: str, prediction: str) -> Iterator[Place]:
    """Cuts both texts at passages that occur once in each, in the same order."""
    places = _once(reference, step=ANCHOR)
    pairs = sorted((places[text], place) for text, place in _once(prediction, step=1, among=places).items())
    ref_at = pred_at = 0
    for ref_next, pred_next in _rising(pairs):
        if ref_next >= ref_at and pred_next >= pred_at:
            yield ref_at, ref_next, pred_at, pred_next
            ref_at, pred_at = ref_next, pred_next
    yield ref_at, len(reference), pred_at, len(prediction)


def _once(text: str, *, step: int, among: dict[str, int] | None = None) -> dict[str, int]:
    """Passages of `ANCHOR` characters, every `step`, that were met once; with `among`, only those."""
    found: dict[str, int] = {}
    twice: set[str] = set()
    for start in range(0, len(text) - ANCHOR + 1, step):
        passage = text[start : start + ANCHOR]
        if among is not None and passage not in among:
            continue
        if passage in found:
            twice.add(passage)
        found[passage] = start
    return {passage: start for passage, start in found.items() if passage not in twice}


def _rising(pairs: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """The longest selection of pairs that rises in both numbers; `pairs` sorted by the first."""
    ends: list[int] = []  # smallest second number that a selection of each length ends with
    at: list[int] = []
    before: list[int] = []
    for index, (_, second) in enumerate(pairs):
        place = bisect_left(ends, second)
        before.append(at[place - 1] if place else -1)
        ends[place : place + 1] = [second]
        at[place : place + 1] = [index]
    chosen: list[tuple[int, int]] = []
    index = at[-1] if at else -1
    while index >= 0:
        chosen.append(pairs[index])
        index = before[index]
    return chosen[::-1]


# --- borders -----------------------------------------------------------------------------------------------


def _slide(edits: Sequence[Edit], reference: str, prediction: str) -> Iterator[Edit]:
    """Moves what was left out or added to the best border: "[he c]at … t" and "t[he c]…" cost the same."""
    ref_free = pred_free = 0  # where the edit before ends
    for index, edit in enumerate(edits):
        one_sided = edit.ref_start == edit.ref_end or edit.pred_start == edit.pred_end
        if one_sided:
            after = edits[index + 1].ref_start if index + 1 < len(edits) else len(reference)
            left = min(edit.ref_start - ref_free, edit.pred_start - pred_free)
            edit = _best_place(edit, reference, prediction, left, after - edit.ref_end)
        yield edit
        ref_free, pred_free = edit.ref_end, edit.pred_end


def _best_place(edit: Edit, reference: str, prediction: str, left: int, right: int) -> Edit:
    """The place of a one-sided edit among those of equal cost; `left`, `right`: equal characters beside it."""
    if edit.ref_start == edit.ref_end:
        text, start, end = prediction, edit.pred_start, edit.pred_end
    else:
        text, start, end = reference, edit.ref_start, edit.ref_end
    lowest = highest = 0
    while -lowest < min(left, MAX_SLIDE) and text[start + lowest - 1] == text[end + lowest - 1]:
        lowest -= 1
    while highest < min(right, MAX_SLIDE) and text[start + highest] == text[end + highest]:
        highest += 1
    if lowest == highest:
        return edit
    best = max(
        range(lowest, highest + 1),
        key=lambda shift: (_border(text, start + shift) + _border(text, end + shift), -abs(shift)),
    )
    return Edit(*(number + best for number in edit))


def _border(text: str, place: int) -> int:
    """How good a cut before this character is: 4 a line's or between tags, 3 a tag's, 2 a word's, 1 a sign's, 0
    within a word."""
    if place <= 0 or place >= len(text) or text[place - 1] == "\n":
        return 4
    before, after = text[place - 1], text[place]
    if before == ">" or after == "<":
        return 4 if before == ">" and after == "<" else 3
    if before.isspace() and not after.isspace():
        return 2
    return 0 if before.isalnum() and after.isalnum() else 1
