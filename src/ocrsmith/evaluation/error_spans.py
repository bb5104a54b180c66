"""The wrong spans of a page, and the edits of its alignment while they get their kinds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from typing import Literal

from ocrsmith.evaluation.alignment import Edit, hull

ErrorKind = Literal[
    "loop",
    "truncation",
    "structure",
    "hallucination",
    "normalisation",
    "substitution",
    "confusion",
    "insertion",
    "omission",
]
KINDS: tuple[ErrorKind, ...] = (
    *("loop", "truncation", "structure", "hallucination", "normalisation", "substitution"),
    *("confusion", "insertion", "omission"),
)
"""All kinds, in the order in which they are tried."""

Normalise = Callable[[str], str]
"""Puts aside what does not count."""


@dataclass(frozen=True, slots=True)
class ErrorSpan:
    """A wrong span: reference[ref_start:ref_end] was read as prediction[pred_start:pred_end]. Characters that
    agree by chance may stand inside."""

    kind: ErrorKind
    ref_start: int
    ref_end: int
    pred_start: int
    pred_end: int
    edits: int
    """Edits of the alignment that lie in it, as CER counts them; at least 1."""


@dataclass(frozen=True, slots=True)
class PageErrors:
    """The wrong spans of a page, in order, without overlap.

    Attributes:
        spans: their edits sum to `edits`.
        edits: the page's edits as `metrics.score_page` counts them, if `exact`.
        exact: False for a page of megabytes, whose alignment is not the shortest (see `alignment.MAX_CELLS`);
            `edits` is then above the Levenshtein distance, or equal.
        failed: the page gave no result.
        note: why substitutions were not looked for; empty if they were.
    """

    id: str
    reference: str
    prediction: str
    spans: tuple[ErrorSpan, ...]
    edits: int
    exact: bool = True
    failed: bool = False
    note: str = ""


class LabelledEdits:
    """The edits of a page while they get their kinds."""

    def __init__(self, reference: str, prediction: str, edits: Sequence[Edit], normalise: Normalise) -> None:
        self.reference = reference
        self.prediction = prediction
        self.normalise = lru_cache(maxsize=4096)(normalise)
        self.edits = list(edits)
        self.kinds: list[ErrorKind | None] = [None] * len(self.edits)
        self.causes = [0] * len(self.edits)  # edits of one cause make a span
        self._cause = 0

    def label(self, indices: Iterable[int], kind: ErrorKind) -> None:
        """Gives edits a kind and one cause; those that have a kind keep it."""
        self._cause += 1
        for index in indices:
            if self.kinds[index] is None:
                self.kinds[index], self.causes[index] = kind, self._cause

    def spans(self) -> tuple[ErrorSpan, ...]:
        """Neighbours of one cause as one span."""
        found = []
        for _, group in groupby(range(len(self.edits)), key=self.causes.__getitem__):
            indices = list(group)
            edits = [self.edits[index] for index in indices]
            kind = self.kinds[indices[0]]
            assert kind is not None
            found.append(ErrorSpan(kind, *hull(edits), sum(edit.cost for edit in edits)))
        return tuple(found)

    def cut(self, place: int, *, least: int = 1) -> None:
        """Cuts the edit that has this place of the prediction inside, if it can be cut there and at
        least so many characters lie behind."""

        def pieces(edit: Edit) -> list[Edit]:
            length = edit.ref_end - edit.ref_start
            inside = edit.pred_start < place <= edit.pred_end - least
            if not inside or length not in (0, edit.pred_end - edit.pred_start):
                return [edit]
            middle = edit.ref_start + min(length, place - edit.pred_start)
            return [
                Edit(edit.ref_start, middle, edit.pred_start, place),
                Edit(middle, edit.ref_end, place, edit.pred_end),
            ]

        self.split(pieces)

    def split(self, pieces: Callable[[Edit], Sequence[Edit]]) -> None:
        """Puts pieces in the place of each edit that has no kind yet."""
        edits, kinds, causes = self.edits, self.kinds, self.causes
        self.edits, self.kinds, self.causes = [], [], []
        for edit, kind, cause in zip(edits, kinds, causes, strict=True):
            parts = pieces(edit) if kind is None else [edit]
            self.edits += parts
            self.kinds += [kind] * len(parts)
            self.causes += [cause] * len(parts)

    def open(self) -> list[int]:
        """Edits without a kind."""
        return [index for index, kind in enumerate(self.kinds) if kind is None]

    def groups(self, group: Callable[[Sequence[Edit]], list[list[int]]]) -> list[list[int]]:
        """Clusters or zones of the edits without a kind."""
        indices = self.open()
        return [[indices[at] for at in found] for found in group([self.edits[index] for index in indices])]

    def sides(self, indices: Sequence[int]) -> tuple[str, str]:
        """The stretch of the reference and of the prediction from the first of these edits to the last."""
        place = hull([self.edits[index] for index in indices])
        return (
            self.reference[place.ref_start : place.ref_end],
            self.prediction[place.pred_start : place.pred_end],
        )
