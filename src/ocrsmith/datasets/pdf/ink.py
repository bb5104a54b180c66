"""What is drawn where on a page: compares two pictures of it, one with its text objects and one without."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from PIL import Image

DPI = 108
"""Of the two pictures: enough to see a full stop, and quick."""
MAX_SIDE = 2400

_CHANGED = 24
"""Grey levels by which a pixel of text differs from the page without it."""
_EDGE = 40
"""Grey levels between neighbours that make an edge."""
_LINE = 18.0
"""Straight edges of so many points are those of lines and boxes, not of letters."""
_CELL = 12
"""Points: a picture is busy where its cells of this size have edges."""
_MOST_RUNS = 60_000


class Boxed(Protocol):
    """Has a place on the page, in points from its top left corner."""

    @property
    def x0(self) -> float: ...
    @property
    def top(self) -> float: ...
    @property
    def x1(self) -> float: ...
    @property
    def bottom(self) -> float: ...


@dataclass(frozen=True, slots=True)
class Ink:
    """The two pictures of a page as arrays of equal shape (H, W)."""

    scale: float
    """Pixels for a point."""
    text: np.ndarray
    """bool: a text object shows here."""
    edges: np.ndarray
    """bool: something else than text has an edge here."""

    @classmethod
    def compare(cls, rendered: Image.Image, bare: Image.Image, width: float) -> Ink:
        """Args:
        rendered: the page.
        bare: the same without its text objects, of equal size.
        width: of the page in points.
        """
        with_text = np.asarray(rendered, dtype=np.int16)
        without = np.asarray(bare, dtype=np.int16)
        text = (np.abs(with_text - without) > _CHANGED).any(axis=2)
        return cls(
            rendered.width / max(width, 1.0), text, _edges(np.asarray(bare.convert("L"), dtype=np.int16))
        )

    def mask(self, boxes: Iterable[Boxed], margin: float = 0.0) -> np.ndarray:
        """(H, W) bool: the pixels of boxes, each widened by `margin` points."""
        found = np.zeros(self.text.shape, dtype=bool)
        for box in boxes:
            rows, columns = self._pixels(box, margin)
            found[rows, columns] = True
        return found

    def shows(self, box: Boxed) -> bool:
        """Whether a text object shows anywhere in the box."""
        rows, columns = self._pixels(box, 0.5)
        return bool(self.text[rows, columns].any())

    def busy(self, box: Boxed) -> float:
        """Share of the box's cells that have an edge."""
        rows, columns = self._pixels(box, 0.0)
        part = self.edges[rows, columns]
        cell = max(1, int(_CELL * self.scale))
        height, width = part.shape[0] // cell, part.shape[1] // cell
        if not height or not width:
            return 0.0
        cells = part[: height * cell, : width * cell].reshape(height, cell, width, cell)
        return float(cells.any(axis=(1, 3)).mean())

    def letter_shapes(self, known: np.ndarray) -> int:
        """Counts drawn shapes of the size of letters.

        Args:
            known: (H, W) bool, where nothing is counted: pictures and rules.
        """
        length = max(2, int(_LINE * self.scale))
        lines = _long_runs(self.edges, length) | _long_runs(self.edges.T, length).T
        low, high = 2.5 * self.scale, 40 * self.scale
        shapes = _components(self.edges & ~known & ~lines)
        return sum(low <= bottom - top <= high and right - left <= high for left, top, right, bottom in shapes)

    def _pixels(self, box: Boxed, margin: float) -> tuple[slice, slice]:
        height, width = self.text.shape
        return (
            _span(box.top - margin, box.bottom + margin, self.scale, height),
            _span(box.x0 - margin, box.x1 + margin, self.scale, width),
        )


def _span(start: float, stop: float, scale: float, size: int) -> slice:
    # Clipped before it becomes an integer: coordinates of hostile files may be anything.
    first = int(min(max(start * scale, 0), size))
    last = int(np.ceil(min(max(stop * scale, 0), size)))
    return slice(first, last)


def _edges(grey: np.ndarray) -> np.ndarray:
    found = np.zeros(grey.shape, dtype=bool)
    found[:, 1:] |= np.abs(np.diff(grey, axis=1)) > _EDGE
    found[1:] |= np.abs(np.diff(grey, axis=0)) > _EDGE
    return found


def _long_runs(mask: np.ndarray, length: int) -> np.ndarray:
    """(H, W) bool: the pixels of horizontal runs of at least `length`."""
    if mask.shape[1] < length:
        return np.zeros_like(mask)
    sums = np.pad(np.cumsum(mask, axis=1, dtype=np.int32), ((0, 0), (1, 0)))
    starts = (sums[:, length:] - sums[:, :-length]) == length
    # A pixel belongs to a run if one of the `length` windows that hold it is full.
    padded = np.pad(starts, ((0, 0), (length - 1, length - 1)))
    reach = np.pad(np.cumsum(padded, axis=1, dtype=np.int32), ((0, 0), (1, 0)))
    return (reach[:, length:] - reach[:, :-length]) > 0


def _components(mask: np.ndarray) -> list[tuple[int, int, int, int]]:
    """Boxes (left, top, right, bottom; ends excluded) of connected pixels, corners connect; of the first
    `_MOST_RUNS` horizontal runs from the top."""
    parents: list[int] = []
    boxes: list[list[int]] = []
    above: Sequence[tuple[int, int, int]] = ()
    before = -2
    for row in np.flatnonzero(mask.any(axis=1)).tolist():
        edges = np.flatnonzero(np.diff(mask[row], prepend=False, append=False))
        above = above if row == before + 1 else ()
        before = row
        current = []
        at = 0
        for left, right in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
            label = len(parents)
            parents.append(label)
            boxes.append([left, row, right, row + 1])
            while at < len(above) and above[at][1] < left:
                at += 1
            reach = at
            while reach < len(above) and above[reach][0] <= right:
                _join(parents, boxes, above[reach][2], label)
                reach += 1
            current.append((left, right, label))
        above = current
        if len(parents) > _MOST_RUNS:
            break
    return [
        (box[0], box[1], box[2], box[3]) for label, box in enumerate(boxes) if _root(parents, label) == label
    ]


def _root(parents: list[int], label: int) -> int:
    while parents[label] != label:
        parents[label] = parents[parents[label]]
        label = parents[label]
    return label


def _join(parents: list[int], boxes: list[list[int]], first: int, second: int) -> None:
    first, second = _root(parents, first), _root(parents, second)
    if first == second:
        return
    parents[second] = first
    one, other = boxes[first], boxes[second]
    boxes[first] = [min(one[0], other[0]), min(one[1], other[1]), max(one[2], other[2]), max(one[3], other[3])]
