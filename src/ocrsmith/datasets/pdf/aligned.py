"""Tables without rules between their columns, known by cells that stand in line; or rows of a ruled-off region.

Whether rows are a table is judged strictly: a false table is worse than a missed one. Two columns of prose are
none, however well their lines align.
"""

from __future__ import annotations

import re
import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from ocrsmith.datasets.pdf.columns import MARKER
from ocrsmith.datasets.pdf.words import Line, Word, make_lines

CELL_GAP = 0.75
"""Gap between words, in type sizes, from which they are two cells."""
_UNIT_BEFORE = re.compile(r"[$€£¥₹]|US\$|RMB|(?:NT|HK|A|C)\$")
_UNIT_BEHIND = re.compile(r"[%)°‰*†‡]+")
_NUMBER = re.compile(r"[(+\-−–±~<>≈$€£¥]*\d[\d\s.,:/()%+\-−–±×x^eE*†‡KMBT]*|[-–—]+|n/?a|N/?A")


@dataclass(slots=True)
class Fragment:
    """Words of a row that stand together."""

    words: list[Word]
    x0: float
    x1: float

    @property
    def text(self) -> str:
        return " ".join(word.text for word in self.words)


@dataclass(slots=True)
class Row:
    """A line over the whole width, in fragments from left to right."""

    fragments: list[Fragment]
    base: float
    top: float
    bottom: float


@dataclass(slots=True)
class Column:
    """Where fragments of many rows stand above one another."""

    x0: float
    x1: float
    fragments: list[Fragment] = field(default_factory=list)


def rows_of(words: Sequence[Word], gap: float = CELL_GAP) -> list[Row]:
    """Rows from top to bottom.

    Args:
        words: of a region.
        gap: in type sizes, from which words are apart.
    """
    return [_row(line, gap) for line in make_lines(words)]


def _row(line: Line, gap: float) -> Row:
    pieces = [[line.words[0]]]
    reached = line.words[0].x1
    for word in line.words[1:]:
        if word.x0 - reached > gap * min(line.size, word.size * 1.3):
            pieces.append([word])
        else:
            pieces[-1].append(word)
        reached = max(reached, word.x1)
    fragments = [Fragment(piece, piece[0].x0, max(word.x1 for word in piece)) for piece in pieces]
    return Row(fragments, line.base, line.top, line.bottom)


def columns_of(rows: Sequence[Row]) -> list[Column]:
    """Columns from left to right: narrow fragments make them, wide ones over several are left out."""
    columns: list[Column] = []
    for fragment in sorted((f for row in rows for f in row.fragments), key=lambda f: f.x1 - f.x0):
        met = [column for column in columns if min(column.x1, fragment.x1) - max(column.x0, fragment.x0) > 0.5]
        if not met:
            columns.append(Column(fragment.x0, fragment.x1, [fragment]))
        elif len(met) == 1:
            met[0].x0, met[0].x1 = min(met[0].x0, fragment.x0), max(met[0].x1, fragment.x1)
            met[0].fragments.append(fragment)
    columns.sort(key=lambda column: column.x0)
    return _with_units(_supported(columns, len(rows)))


def _supported(columns: list[Column], rows: int) -> list[Column]:
    """Joins a column that one fragment alone makes, of many rows, to its nearest neighbour."""
    kept = [column for column in columns if len(column.fragments) > 1 or rows <= 3]
    return kept or columns


def _with_units(columns: list[Column]) -> list[Column]:
    """Joins columns of nothing but currency or per cent signs to the numbers beside them."""
    joined: list[Column] = []
    prefix: Column | None = None
    for column in columns:
        texts = [fragment.text for fragment in column.fragments]
        if prefix is not None:
            column = Column(prefix.x0, column.x1, [*prefix.fragments, *column.fragments])
            prefix = None
        if all(map(_UNIT_BEFORE.fullmatch, texts)) and column is not columns[-1]:
            prefix = column
        elif joined and all(map(_UNIT_BEHIND.fullmatch, texts)):
            joined[-1] = Column(joined[-1].x0, column.x1, [*joined[-1].fragments, *column.fragments])
        else:
            joined.append(column)
    return joined


def place(fragment: Fragment, columns: Sequence[Column]) -> list[int]:
    """Columns that a fragment lies over; the nearest one where it lies between."""
    over = [
        number
        for number, column in enumerate(columns)
        if min(column.x1, fragment.x1) - max(column.x0, fragment.x0) > 0.5
    ]
    if over:
        return over
    middle = (fragment.x0 + fragment.x1) / 2
    return [min(range(len(columns)), key=lambda i: abs((columns[i].x0 + columns[i].x1) / 2 - middle))]


def divided(row: Row, columns: Sequence[Column]) -> Row:
    """A row with fragments in two where narrow gaps between columns left them one.

    Each part must begin or end where its column does, and more than a space must lie between.
    """
    fragments: list[Fragment] = []
    for fragment in row.fragments:
        parts: dict[int, list[Word]] = defaultdict(list)
        for word in fragment.words:
            parts[place(Fragment([word], word.x0, word.x1), columns)[0]].append(word)
        pieces = {n: Fragment(words, words[0].x0, max(w.x1 for w in words)) for n, words in parts.items()}
        apart = [pieces[n] for n in sorted(pieces)]
        em = fragment.words[0].size
        divide = (
            len(apart) > 1
            and all(right.x0 - left.x1 > 0.4 * em for left, right in pairwise(apart))
            and all(
                min(abs(piece.x0 - columns[n].x0), abs(piece.x1 - columns[n].x1)) < 0.35 * em
                for n, piece in pieces.items()
            )
        )
        fragments.extend(apart if divide else [fragment])
    return Row(fragments, row.base, row.top, row.bottom)


def is_number(text: str) -> bool:
    """Whether a cell holds a number, a dash for none, a currency, or the like."""
    return bool(_NUMBER.fullmatch(text.strip()) or _UNIT_BEFORE.fullmatch(text.strip()))


def is_table(rows: Sequence[Row], columns: Sequence[Column]) -> bool:
    """Whether rows that were found by their alignment alone are those of a table."""
    if len(columns) < 2 or len(rows) < 3:
        return False
    filled = [{number for fragment in row.fragments for number in place(fragment, columns)} for row in rows]
    together = sum(len(numbers) >= 2 for numbers in filled)
    prose = [number for number, column in enumerate(columns) if _is_prose(column)]
    if len(prose) >= 2 or together < 3 or _is_list(columns) or has_prose(rows, columns):
        return False
    others = [numbers - set(prose) for numbers in filled]
    if prose and (len(columns) < 3 or sum(len(numbers) >= 2 for numbers in others) < 3):
        return False
    if prose and _runs_on(rows, filled, columns, prose[0]):
        return False
    whole = max(len(rows) - sum(_is_rest(row, columns) for row in rows), 1)
    share = together / whole
    cells = [fragment.text for column in columns[1:] for fragment in column.fragments]
    numeric = sum(map(is_number, cells)) / len(cells)
    if len(columns) == 2:
        short = statistics.fmean(len(fragment.words) for column in columns for fragment in column.fragments)
        return share >= 0.8 and ((numeric >= 0.7) or (together >= 4 and short <= 4 and _is_ragged(columns[0])))
    full = sum(len(numbers) >= 0.6 * len(columns) for numbers in filled) / whole
    words = statistics.median(len(text.split()) for text in cells)
    return share >= 0.6 and full >= 0.4 and (numeric >= 0.3 or words <= 3)


def _is_rest(row: Row, columns: Sequence[Column]) -> bool:
    """Whether a row may be the rest of a cell: one fragment in one column."""
    return len(row.fragments) == 1 and len(place(row.fragments[0], columns)) == 1


def stretches_of(rows: Sequence[Row]) -> list[tuple[int, int]]:
    """First and last of rows in fragments that follow one another, the longest stretch first; up to two short
    lines may stand between."""
    found: list[tuple[int, int]] = []
    for number, row in enumerate(rows):
        if len(row.fragments) < 2:
            continue
        if found:
            first, last = found[-1]
            between = rows[last + 1 : number]
            near = row.base - rows[last].base < 6 * (row.bottom - row.top)
            if near and len(between) <= 2 and all(len(r.fragments[0].words) < 8 for r in between):
                found[-1] = (first, number)
                continue
        found.append((number, number))
    long = [stretch for stretch in found if stretch[1] - stretch[0] >= 2]
    return sorted(long, key=lambda stretch: stretch[0] - stretch[1])


def has_prose(rows: Sequence[Row], columns: Sequence[Column]) -> bool:
    """Whether running text makes much of the rows, over several columns or more than one of them."""
    letters = over = 0
    touched: set[int] = set()
    for fragment in (fragment for row in rows for fragment in row.fragments):
        length = len(fragment.text)
        letters += length
        if len(fragment.words) >= 5:
            over += length
            touched.update(place(fragment, columns))
    return over > 0.3 * letters and len(touched) > 1


def _is_prose(column: Column) -> bool:
    """Whether a column is set in lines of running text: several words that fill its width."""
    if len(column.fragments) < 3:
        return False
    words = statistics.median(len(fragment.words) for fragment in column.fragments)
    filled = statistics.median(fragment.x1 - fragment.x0 for fragment in column.fragments)
    return words >= 4 and filled >= 0.75 * (column.x1 - column.x0)


def _runs_on(rows: Sequence[Row], filled: Sequence[set[int]], columns: Sequence[Column], prose: int) -> bool:
    """Whether a column's text does not end where the next row's begins: then it only stands beside a table."""
    entries = full = 0
    for number, row in enumerate(rows):
        last = number + 1 == len(rows) or bool(filled[number + 1] - {prose})
        text = [f for f in row.fragments if place(f, columns) == [prose]]
        if last and text:
            entries += 1
            full += text[-1].x1 - text[0].x0 > 0.9 * (columns[prose].x1 - columns[prose].x0)
    return full >= 0.7 * entries


def _is_ragged(column: Column) -> bool:
    """Whether the fragments of a column end at different places, as names do and lines of text do not."""
    widths = [fragment.x1 - fragment.x0 for fragment in column.fragments]
    return statistics.median(widths) < 0.8 * max(widths)


def _is_list(columns: Sequence[Column]) -> bool:
    """Whether the first of two columns holds nothing but the marks of list items."""
    marks = [bool(MARKER.fullmatch(fragment.text)) for fragment in columns[0].fragments]
    return len(columns) == 2 and sum(marks) >= 0.8 * len(marks)


def grow(rows: Sequence[Row], first: int, last: int, columns: Sequence[Column]) -> tuple[int, int]:
    """Takes rows above and below into a table: those that fit its columns, and what spans them between such.

    Args:
        rows: of the region.
        first: the table's first row.
        last: its last one.
        columns: of the table.

    Returns:
        (first, last) of the larger table.
    """
    pitch = statistics.median(
        b.base - a.base for a, b in zip(rows[first:last], rows[first + 1 : last + 1], strict=True)
    )
    reach = 2.2 * max(pitch, rows[first].bottom - rows[first].top)

    def grown(edge: int, step: int) -> int:
        here = edge
        while 0 <= here + step < len(rows) and abs(rows[here + step].base - rows[here].base) < reach:
            here += step
            if _fits(rows[here], columns):
                edge = here
            elif abs(here - edge) > 2:
                break
        return edge

    first, last = grown(first, -1), grown(last, 1)
    while (
        first > 0 and rows[first].base - rows[first - 1].base < reach and _is_heading(rows[first - 1], columns)
    ):
        first -= 1
    return first, last


def _fits(row: Row, columns: Sequence[Column]) -> bool:
    """Whether a row has a cell in several columns, and none over two."""
    places = [place(fragment, columns) for fragment in row.fragments]
    inside = columns[0].x0 - 3 < row.fragments[0].x0 and row.fragments[-1].x1 < columns[-1].x1 + 3
    return (
        inside and len({numbers[0] for numbers in places}) >= 2 and all(len(numbers) == 1 for numbers in places)
    )


def _is_heading(row: Row, columns: Sequence[Column]) -> bool:
    """Whether a row stands over columns but not over the first, as headings of several columns do."""
    start, end = row.fragments[0].x0, row.fragments[-1].x1
    return start > columns[0].x1 - 1 and end < columns[-1].x1 + 3
