"""From aligned rows to a table's cells: lines of one cell together, headings over several columns as spans."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from ocrsmith.datasets.pdf.aligned import Column, Row, is_number, place
from ocrsmith.datasets.pdf.hyphens import join_lines
from ocrsmith.datasets.pdf.page import Rule
from ocrsmith.datasets.pdf.words import Word, make_lines

_HEADER_ROWS = 5


@dataclass(slots=True, eq=False)
class Cell:
    """A cell: rows and columns from 0."""

    row: int
    column: int
    rowspan: int
    colspan: int
    words: list[Word]

    def text(self, *, rtl: bool = False) -> str:
        """Its lines as one."""
        text = ""
        for line in make_lines(self.words):
            text = join_lines(text, line.text(rtl=rtl))
        return text


@dataclass(slots=True, eq=False)
class Table:
    """A table and its place on the page."""

    cells: list[Cell]
    rows: int
    columns: int
    x0: float
    top: float
    x1: float
    bottom: float


def assemble(rows: Sequence[Row], columns: Sequence[Column], rules: Sequence[Rule] = ()) -> Table:
    """A table of rows.

    Args:
        rows: from top to bottom.
        columns: from left to right.
        rules: of the page; short ones under headings show how far these span.
    """
    cells = [_row_cells(row, columns) for row in rows]
    groups = _one_row(rows, cells, len(columns))
    table: list[Cell] = []
    header = _header_rows(groups, cells)
    for number, group in enumerate(groups):
        here: dict[int, Cell] = {}
        for source in group:
            for first, last, words in cells[source]:
                if first in here and here[first].colspan == last - first + 1:
                    here[first].words.extend(words)
                elif not any(c.column <= last and first < c.column + c.colspan for c in here.values()):
                    here[first] = Cell(number, first, 1, last - first + 1, list(words))
                else:
                    nearest = max(c for c in here if c <= last)
                    here[nearest].words.extend(words)
        if number < header:
            below = rows[groups[number + 1][0]].top if number + 1 < len(groups) else rows[-1].bottom
            _widen(here, columns, rules, below)
        if len(here) == 1 and len(columns) > 2:
            _across(next(iter(here.values())), columns)
        table.extend(here[column] for column in sorted(here))
    return Table(
        cells=table,
        rows=len(groups),
        columns=len(columns),
        x0=min(row.fragments[0].x0 for row in rows),
        top=min(row.top for row in rows),
        x1=max(row.fragments[-1].x1 for row in rows),
        bottom=max(row.bottom for row in rows),
    )


_Placed = tuple[int, int, list[Word]]
"""First and last column, words."""


def _row_cells(row: Row, columns: Sequence[Column]) -> list[_Placed]:
    placed: list[_Placed] = []
    for fragment in row.fragments:
        over = place(fragment, columns)
        first, last = over[0], over[-1]
        if placed and placed[-1][1] >= first:  # two fragments of one cell
            placed[-1] = (placed[-1][0], max(last, placed[-1][1]), placed[-1][2] + fragment.words)
        else:
            placed.append((first, last, list(fragment.words)))
    return placed


def _one_row(rows: Sequence[Row], cells: Sequence[list[_Placed]], columns: int) -> list[list[int]]:
    """Which lines make one row of the table: a sparse line close to a full one goes on with its cells."""
    least = max(2, 0.5 * columns)
    full = [len(placed) >= least for placed in cells]
    bases = [row.base for row, is_full in zip(rows, full, strict=True) if is_full]
    pitch = statistics.median([low - high for high, low in pairwise(bases)] or [0.0])
    height = statistics.median(row.bottom - row.top for row in rows)
    gaps = [low.base - high.base for high, low in pairwise(rows)]
    group = list(range(len(rows)))
    for upper in sorted(range(len(gaps)), key=gaps.__getitem__):
        above = [n for n in range(len(rows)) if group[n] == group[upper]]
        below = [n for n in range(len(rows)) if group[n] == group[upper + 1]]
        if any(full[n] for n in above) and any(full[n] for n in below):
            continue
        close = gaps[upper] < min(0.85 * pitch, 1.6 * height) and _may_join(above, below, full, cells)
        same = gaps[upper] < 0.7 * height and not _columns_in(above, cells) & _columns_in(below, cells)
        goes_on = gaps[upper] < 1.1 * pitch and len(below) == 1 and _continues(cells[below[0]], cells[above[0]])
        if close or same or goes_on:
            for number in below:
                group[number] = group[upper]
    groups: dict[int, list[int]] = defaultdict(list)
    for number in range(len(rows)):
        groups[group[number]].append(number)
    return list(groups.values())


def _columns_in(lines: Sequence[int], cells: Sequence[list[_Placed]]) -> set[int]:
    return {n for line in lines for first, last, _ in cells[line] for n in range(first, last + 1)}


def _may_join(
    above: Sequence[int], below: Sequence[int], full: Sequence[bool], cells: Sequence[list[_Placed]]
) -> bool:
    """Not where one spans columns, as titles of sections do, nor a line on top of a row that has its cell."""
    if any(first != last for line in (*above, *below) if not full[line] for first, last, _ in cells[line]):
        return False
    return not _columns_in(above, cells) & _columns_in([line for line in below if full[line]], cells)


def _continues(placed: Sequence[_Placed], above: Sequence[_Placed]) -> bool:
    """Whether a line without a first cell, and with words only, goes on with the cells above it."""
    if any(first == 0 or first != last for first, last, _ in placed):
        return False
    over = {first: words for first, _, words in above}
    return 0 in over and all(
        first in over and not is_number(" ".join(word.text for word in words)) for first, _, words in placed
    )


def _header_rows(groups: Sequence[Sequence[int]], cells: Sequence[list[_Placed]]) -> int:
    """How many rows stand above the first one with numbers."""
    for number, group in enumerate(groups[:_HEADER_ROWS]):
        texts = [
            " ".join(word.text for word in words) for line in group for first, _, words in cells[line] if first
        ]
        if texts and 2 * sum(map(is_number, texts)) >= len(texts) and not all(map(_is_year, texts)):
            return number
    return 1


def _is_year(text: str) -> bool:
    return text.isdigit() and len(text) == 4 and text[:2] in ("18", "19", "20", "21")


def _across(cell: Cell, columns: Sequence[Column]) -> None:
    """Gives a lone cell in the middle of the table all of its columns, as titles of sections have."""
    x0, x1 = columns[0].x0, columns[-1].x1
    middle = (min(word.x0 for word in cell.words) + max(word.x1 for word in cell.words)) / 2
    if abs(middle - (x0 + x1) / 2) < 0.03 * (x1 - x0) and cell.column > 0:
        cell.column, cell.colspan = 0, len(columns)


def _widen(cells: dict[int, Cell], columns: Sequence[Column], rules: Sequence[Rule], below: float) -> None:
    """Gives headings the columns they stand over: as far as a rule under them goes, or around their middle."""
    free = set(range(len(columns))) - {c + i for c, cell in cells.items() for i in range(cell.colspan)}
    for cell in sorted(cells.values(), key=lambda cell: cell.column):
        x0, x1 = min(word.x0 for word in cell.words), max(word.x1 for word in cell.words)
        bottom = max(word.bottom for word in cell.words)
        under = [
            rule
            for rule in rules
            if rule.horizontal
            and bottom - 3 < rule.top < below + 3
            and rule.x0 - 2 <= x0
            and x1 <= rule.x1 + 2
            and rule.length < 0.9 * (columns[-1].x1 - columns[0].x0)
        ]
        if under:
            rule = min(under, key=lambda rule: rule.top)
            over = [n for n, c in enumerate(columns) if rule.x0 - 2 < (c.x0 + c.x1) / 2 < rule.x1 + 2]
        else:
            over = _around(cell, (x0 + x1) / 2, columns, cells, free)
        own = range(cell.column, cell.column + cell.colspan)
        over = [number for number in over if number in free or number in own]
        if len(over) > cell.colspan and over == list(range(over[0], over[-1] + 1)):
            cell.column, cell.colspan = over[0], len(over)
            free -= set(over)


def _around(
    cell: Cell, middle: float, columns: Sequence[Column], cells: dict[int, Cell], free: set[int]
) -> list[int]:
    """Empty columns left and right of a heading that is centred over them and itself."""
    if len(cells) < 2:
        return []
    left, right = cell.column, cell.column + cell.colspan - 1
    best: list[int] = []
    while left - 1 in free or right + 1 in free:
        here = (columns[left].x0 + columns[right].x1) / 2
        if here >= middle and left - 1 in free and left > 1:
            left -= 1
        elif here <= middle and right + 1 in free:
            right += 1
        else:
            break
        width = columns[right].x1 - columns[left].x0
        if abs((columns[left].x0 + columns[right].x1) / 2 - middle) < 0.06 * width:
            best = list(range(left, right + 1))
    return best
