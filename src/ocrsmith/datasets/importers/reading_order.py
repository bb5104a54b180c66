"""The order in which the boxes of a page are read, where the source gives none.

1. Vertical writing (most texts stand in tall boxes) is read as horizontal writing on a page turned by a
   quarter: columns from right to left.
2. Columns: a gutter that few boxes cross and that has running text on both sides. What crosses it (headings,
   footers) divides the page into bands; in each band one column is read after the other. Short entries beside
   each other, as on receipts and forms, are no columns: they are read row by row.
3. Rows: boxes beside each other whose heights overlap by half, neighbour by neighbour, so that a skewed row
   stays together. Left to right, or right to left where most letters are of such a script.
"""

from __future__ import annotations

import unicodedata
from collections import deque
from collections.abc import Sequence
from math import inf
from statistics import median

import numpy as np

Bounds = tuple[float, float, float, float]
"""left, top, right, bottom"""

MAX_BOXES = 2000
"""Far more than a page has lines; the time grows with the square."""

_MAX_SPLITS = 20
_MAX_EDGES = 500  # places that are tried for a gutter
_TALL = 1.5  # height / width of a box that holds vertical writing; the rule of PaddleOCR
_MAX_CROSSING = 0.2  # share of boxes that may cross a gutter: headings, footers, pictures' captions
_MIN_COLUMN_LINES = 3
_RUNNING_TEXT = 6.0  # width / height of a line that is no mere entry: some ten letters
_OVERLAP = 0.5  # of the lower of two boxes
_OPEN_ROWS = 8  # rows that a box is compared with; those before are finished


def reading_rows(boxes: Sequence[Bounds], texts: Sequence[str]) -> list[list[int]]:
    """Rows in reading order, each with the indices of its boxes in reading order.

    Args:
        boxes: in pixels, y downwards. More than `MAX_BOXES` stay in the order in which they come.
        texts: of the same length; they say in which direction rows are read.
    """
    if len(boxes) > MAX_BOXES:
        return [[index] for index in range(len(boxes))]
    if _is_vertical(boxes, texts):
        # Lines run down and follow each other leftwards: (x, y) becomes (y, −x).
        boxes = [(top, -right, bottom, -left) for left, top, right, bottom in boxes]
        backwards = False
    else:
        backwards = is_right_to_left(texts)
    return _columns(boxes, list(range(len(boxes))), backwards, _MAX_SPLITS)


def is_right_to_left(texts: Sequence[str]) -> bool:
    """Whether most letters of the texts are of a script that is written from right to left."""
    balance = 0
    for text in texts:
        for character in text:
            if character.isalpha():
                balance += 1 if unicodedata.bidirectional(character) in ("R", "AL") else -1
    return balance > 0


def _is_vertical(boxes: Sequence[Bounds], texts: Sequence[str]) -> bool:
    """Whether most boxes with two characters or more are tall."""
    long = [box for box, text in zip(boxes, texts, strict=True) if len(text.strip()) > 1]
    tall = sum(bottom - top >= _TALL * (right - left) for left, top, right, bottom in long)
    return tall * 2 > len(long)


def _columns(boxes: Sequence[Bounds], chosen: list[int], backwards: bool, splits: int) -> list[list[int]]:
    """Rows of the chosen boxes, column after column where there are columns.

    Args:
        splits: how often a column may be divided into columns again.
    """
    gutter = _find_gutter(boxes, chosen) if splits else None
    if gutter is None:
        return _rows(boxes, chosen, backwards)
    bars = [index for index in chosen if boxes[index][0] < gutter < boxes[index][2]]
    crossing = set(bars)
    rest = deque(
        sorted((index for index in chosen if index not in crossing), key=lambda index: _middle(boxes[index]))
    )
    rows: list[list[int]] = []
    for bar in [*_rows(boxes, bars, backwards), []]:
        end = _middle(boxes[bar[0]]) if bar else inf
        sides: tuple[list[int], list[int]] = ([], [])
        while rest and _middle(boxes[rest[0]]) < end:
            index = rest.popleft()
            sides[boxes[index][2] > gutter].append(index)
        for side in reversed(sides) if backwards else sides:
            rows += _columns(boxes, side, backwards, splits - 1) if side else []
        rows += [bar] if bar else []
    return rows


def _find_gutter(boxes: Sequence[Bounds], chosen: list[int]) -> float | None:
    """x of the gutter that the fewest boxes cross, the widest of such; None if the boxes are in one column."""
    if len(chosen) < 2 * _MIN_COLUMN_LINES:
        return None
    part = np.array([boxes[index] for index in chosen], dtype=np.float64)
    lefts, rights = part[:, 0], part[:, 2]
    height = float(np.median(part[:, 3] - part[:, 1]))
    edges = np.unique(rights)
    best: tuple[int, float, float] | None = None
    for right in edges[:: len(edges) // _MAX_EDGES + 1]:
        left_side, right_side = rights <= right, lefts >= right
        if min(left_side.sum(), right_side.sum()) < _MIN_COLUMN_LINES:
            continue
        gap = float(lefts[right_side].min() - right)
        middle = float(right) + gap / 2
        crossing = int(((lefts < middle) & (rights > middle)).sum())
        if gap < height / 2 or crossing > _MAX_CROSSING * len(chosen):
            continue
        if not (_is_running(part[left_side]) and _is_running(part[right_side])):
            continue
        if best is None or (crossing, -gap) < best[:2]:
            best = (crossing, -gap, middle)
    return None if best is None else best[2]


def _is_running(lines: np.ndarray) -> bool:
    widths, heights = lines[:, 2] - lines[:, 0], lines[:, 3] - lines[:, 1]
    return bool(np.median(widths) >= _RUNNING_TEXT * np.median(heights))


def _rows(boxes: Sequence[Bounds], chosen: list[int], backwards: bool) -> list[list[int]]:
    """Boxes beside each other, from the top; the order within a row is that of the script."""
    rows: list[list[int]] = []
    for index in sorted(chosen, key=lambda index: (_middle(boxes[index]), boxes[index][0])):
        # The nearest neighbour decides: in a skewed row, a far box of the next row may be as high.
        neighbours = [(boxes[_nearest(boxes, row, index)], row) for row in rows[-_OPEN_ROWS:]]
        beside = [(_gap(boxes[index], box), row) for box, row in neighbours if _is_beside(boxes[index], box)]
        if beside:
            min(beside, key=lambda found: found[0])[1].append(index)
        else:
            rows.append([index])
    rows.sort(key=lambda row: median(_middle(boxes[index]) for index in row))
    for row in rows:
        row.sort(key=lambda index: -boxes[index][2] if backwards else boxes[index][0])
    return rows


def _nearest(boxes: Sequence[Bounds], row: list[int], index: int) -> int:
    """The box of the row that is horizontally nearest."""
    return min(row, key=lambda other: _gap(boxes[index], boxes[other]))


def _gap(box: Bounds, other: Bounds) -> float:
    """Horizontal distance; negative where they overlap."""
    return max(other[0] - box[2], box[0] - other[2])


def _is_beside(box: Bounds, other: Bounds) -> bool:
    """Whether two boxes share half of their height and at most a quarter of the narrower one's width."""
    height = min(box[3], other[3]) - max(box[1], other[1])
    width = min(box[2], other[2]) - max(box[0], other[0])
    lower = min(box[3] - box[1], other[3] - other[1])
    narrower = min(box[2] - box[0], other[2] - other[0])
    return height >= _OVERLAP * lower and width <= narrower / 4


def _middle(box: Bounds) -> float:
    return (box[1] + box[3]) / 2
