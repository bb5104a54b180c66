"""Reading order: cuts a page along the white gutters between its columns.

A gutter is a white strip that persists over lines, with text on both sides. Where one is found, what stands
above it (a heading over both columns), the columns, and what stands below are ordered apart, and each is cut
again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

import numpy as np

from ocrsmith.datasets.pdf.words import Word

MARKER = re.compile(
    r"[•◦▪■□●○‣⁃∙·–—\-*\uf0b7§✓➢►]|[(\[]?(?:\d{1,3}|[a-zA-Z]|[ivxlc]{1,5}|[IVXLC]{1,5})[.):\]]+|\d{1,3}"
)
"""What a list item begins with, alone in a word."""
_EFFORT = 100_000
"""Words of a page times cuts: pages with very many words are maps, whose order matters little."""
_NUMBER = re.compile(r"\(?(\d{1,3})[.):]")


class Item(Protocol):
    """Something with a place: a word, a table."""

    x0: float
    top: float
    x1: float
    bottom: float


@dataclass(frozen=True, slots=True)
class Gutter:
    """A white strip between columns."""

    x0: float
    x1: float
    top: float
    bottom: float
    lines: float
    """How much text stands beside it on its emptier side, in type sizes from top to bottom."""


def in_reading_order(
    items: Sequence[Any], em: float, *, rtl: bool = False, table_at: Callable[..., Any] | None = None
) -> list[list[Any]]:
    """Items of a page as pieces of one column each, in reading order.

    Args:
        items: words and tables.
        em: usual type size, points.
        rtl: columns follow from right to left.
        table_at: items → (items before, table, items behind), or None where there is no table.
    """
    return list(_Cutter(em, rtl, table_at, cuts=_EFFORT // max(len(items), 1)).cut(list(items)))


@dataclass(slots=True)
class _Cutter:
    """Cuts regions until there is nothing to cut, or the effort is spent."""

    em: float
    rtl: bool
    table_at: Callable[..., Any] | None
    cuts: int

    def cut(self, items: list[Any]) -> Iterator[list[Any]]:
        """Pieces of a region in reading order."""
        if not items:
            return
        self.cuts -= 1
        gutter = find_gutter(items, self.em, rtl=self.rtl) if self.cuts >= 0 else None
        if gutter is None:
            yield from _apart(sorted(items, key=lambda item: item.top))
            return
        if self.table_at is not None and (parts := self.table_at(items)) is not None:
            before, table, behind = parts
            yield from self.cut(before)
            yield [table]
            yield from self.cut(behind)
            return
        band = [item for item in items if gutter.top <= _middle(item) <= gutter.bottom]
        yield from self.cut([item for item in items if _middle(item) < gutter.top])
        for piece in _columns(band, gutter, self.em, self.rtl):
            yield from self.cut(piece)
        yield from self.cut([item for item in items if _middle(item) > gutter.bottom])


def _apart(items: list[Any]) -> Iterator[list[Any]]:
    """What stands between tables, and the tables, from top to bottom."""
    piece: list[Any] = []
    for item in items:
        if not isinstance(item, Word):
            if piece:
                yield piece
            yield [item]
            piece = []
        else:
            piece.append(item)
    if piece:
        yield piece


def _columns(band: list[Any], gutter: Gutter, em: float, rtl: bool) -> list[list[Any]]:
    """Left and right of a gutter; or row by row, where numbers say that cards are to be read so."""
    left = [item for item in band if item.x1 <= gutter.x0 + 0.5]
    right = [item for item in band if item.x1 > gutter.x0 + 0.5]
    rows = [] if rtl else _card_rows(left, right, em)
    return rows or ([right, left] if rtl else [left, right])


def _card_rows(left: list[Any], right: list[Any], em: float) -> list[list[Any]]:
    """Cards numbered row by row (1 2 / 3 4): the cards in that order; nothing where no numbers say so."""
    levels = _common_gaps(left + right, 1.5 * em)
    if not levels:
        return []
    edges = [float("-inf"), *levels, float("inf")]
    rows = [
        [[item for item in side if low < _middle(item) < high] for side in (left, right)]
        for low, high in pairwise(edges)
    ]
    cards = [card for row in rows for card in row]
    numbers = [_first_number(card) for card in cards]
    by_column = numbers[0::2] + numbers[1::2]
    found = [number for number in numbers if number is not None]
    if len(found) < 3 or found != sorted(set(found)):
        return []
    if [number for number in by_column if number is not None] == found:
        return []
    return _joined(cards, numbers)


def _joined(cards: list[list[Any]], numbers: list[int | None]) -> list[list[Any]]:
    """Cards without a number belong to the numbered one above them in their column."""
    kept: list[list[Any]] = []
    column_of: dict[int, list[Any]] = {}
    for place, (card, number) in enumerate(zip(cards, numbers, strict=True)):
        if number is None and place % 2 in column_of:
            column_of[place % 2].extend(card)
        elif card:
            kept.append(list(card))
            column_of[place % 2] = kept[-1]
    return kept


def _first_number(card: Sequence[Any]) -> int | None:
    first = min(card, key=lambda item: (round(item.top / 4), item.x0), default=None)
    match = _NUMBER.match(getattr(first, "text", "")) if first is not None else None
    return int(match[1]) if match else None


def _common_gaps(items: Sequence[Any], least: float) -> list[float]:
    """Middles of the white gaps, at least so high, that go through all items."""
    gaps = []
    reached = float("inf")
    for item in sorted(items, key=lambda item: item.top):
        if item.top - reached >= least:
            gaps.append((item.top + reached) / 2)
        reached = item.bottom if reached == float("inf") else max(reached, item.bottom)
    return gaps


def find_gutter(items: Sequence[Any], em: float, *, rtl: bool = False) -> Gutter | None:
    """The white strip with the most text beside it; None where the items form one column."""
    strips = [
        (strip, lines)
        for width, lines in ((0.8 * em, 4), (1.6 * em, 3), (3.5 * em, 2))
        for strip in _strips(items, em, width, lines, rtl)
    ]
    strips.sort(key=lambda found: _weight(found[0], em), reverse=True)
    for strip, lines in strips:
        inside = [item for item in items if strip.top <= _middle(item) <= strip.bottom]
        left = [item for item in inside if item.x1 <= strip.x0 + 0.5]
        right = [item for item in inside if item.x1 > strip.x0 + 0.5]
        enough = min(len(_bases(left, em)), len(_bases(right, em))) >= lines
        sure = strip.x1 - strip.x0 >= 1.6 * em or _is_edge(left, right, strip, em)
        if enough and sure and not _marks_only(inside, strip.x0, em):
            return strip
    return None


def _weight(strip: Gutter, em: float) -> float:
    return strip.lines * (1 + 0.25 * min((strip.x1 - strip.x0) / em, 4.0))


def _bases(items: Sequence[Any], em: float) -> list[float]:
    """Heights of the lines that items stand on."""
    bases: list[float] = []
    for item in sorted(items, key=lambda item: item.bottom):
        if not bases or item.bottom - bases[-1] > 0.6 * em:
            bases.append(item.bottom)
    return bases


def _is_edge(left: Sequence[Any], right: Sequence[Any], strip: Gutter, em: float) -> bool:
    """Whether lines end or begin at a strip, as columns do; words that leave a gap by chance do not."""
    ends = [item for item in left if item.x1 > strip.x0 - 0.4 * em]
    starts = [item for item in right if item.x0 < strip.x1 + 0.4 * em]
    return len(_bases(ends, em)) >= 0.75 * len(_bases(left, em)) or (
        len(_bases(starts, em)) >= 0.75 * len(_bases(right, em))
    )


def _strips(items: Sequence[Any], em: float, width: float, least_lines: float, rtl: bool) -> Iterator[Gutter]:
    """White strips of at least a width with at least so many lines of text on both sides."""
    step = em / 3
    least = 0.5 * least_lines * em / step
    top = min(item.top for item in items)
    height = int((max(item.bottom for item in items) - top) / step) + 2
    first, last = np.full(height, np.inf), np.full(height, -np.inf)
    boxes = np.array([(item.x0, item.top, item.x1, item.bottom) for item in items])
    shrink = np.minimum(0.2 * (boxes[:, 3] - boxes[:, 1]), 0.25 * em)  # lines set close must not look like one
    begins = ((boxes[:, 1] + shrink - top) / step).astype(int)
    ends = np.maximum(((boxes[:, 3] - shrink - top) / step).astype(int), begins) + 1
    for (x0, _, x1, _), begin, end in zip(boxes, begins, ends, strict=True):
        first[begin:end] = np.minimum(first[begin:end], x0)
        last[begin:end] = np.maximum(last[begin:end], x1)
    reach = np.array([getattr(item, "reach", item.x1) for item in items])
    fine = 0.1 * em
    for edge in np.unique(np.ceil(boxes[:, 2] / fine)) * fine:
        crossing = (boxes[:, 0] < edge + width) & (reach > edge + 0.5)
        change = np.zeros(height + 1, dtype=int)
        np.add.at(change, begins[crossing], 1)
        np.add.at(change, ends[crossing], -1)
        left, right = first < edge, last > edge + width
        for begin, end in _runs(np.cumsum(change[:-1]) == 0, least):
            if min(left[begin:end].sum(), right[begin:end].sum()) < least:
                continue
            sides = (right, left) if rtl else (left, right)
            begin, end = _trim(*sides, begin, end, em / step)
            beside = min(left[begin:end].sum(), right[begin:end].sum())
            if beside < least:
                continue
            free = boxes[(begins < end) & (ends > begin) & (boxes[:, 0] > edge), 0].min()
            yield Gutter(
                float(edge), float(free), top + begin * step, top + end * step, float(beside * step / em)
            )


def _runs(free: np.ndarray, least: float = 0.0) -> list[tuple[int, int]]:
    """Where an array is true, at least so far in a row."""
    edges = np.flatnonzero(np.diff(np.concatenate(([0], free.astype(np.int8), [0])))).reshape(-1, 2)
    return [(int(begin), int(end)) for begin, end in edges[edges[:, 1] - edges[:, 0] >= least]]


def _trim(first: np.ndarray, later: np.ndarray, begin: int, end: int, em: float) -> tuple[int, int]:
    """Cuts off, at both ends, white space and what stands on one side only beyond a high white gap.

    At the top, a lower gap will do where it is the side read later: a line set in the middle over all columns.
    """
    pieces = _runs((first | later)[begin:end])
    joined: list[list[int]] = []
    for low, high in pieces:
        only_later = bool(joined) and not first[begin + joined[-1][0] : begin + joined[-1][1]].any()
        if joined and low - joined[-1][1] < (0.9 if only_later else 2.2) * em:
            joined[-1][1] = high
        else:
            joined.append([low, high])
    both = [
        (low, high)
        for low, high in joined
        if first[begin + low : begin + high].any() and later[begin + low : begin + high].any()
    ]
    return (begin + both[0][0], begin + both[-1][1]) if both else (begin, begin)


def _marks_only(items: Sequence[Any], edge: float, em: float) -> bool:
    """Whether nothing but marks of list items stands just left of a strip: then it is a list's indentation."""
    near = [item for item in items if edge - 2.5 * em < item.x1 <= edge + 0.5]
    marks = [
        item
        for item in near
        if MARKER.fullmatch(getattr(item, "text", ""))
        and not any(
            o is not item and o.x1 <= item.x0 and item.x0 - o.x1 < em and _beside(o, item) for o in near
        )
    ]
    return bool(near) and len(marks) >= 0.8 * len(near)


def _beside(one: Any, other: Any) -> bool:
    return bool(one.top < _middle(other) < one.bottom)


def _middle(item: Any) -> float:
    return float(item.top + item.bottom) / 2
