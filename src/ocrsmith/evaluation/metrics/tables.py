"""Finds the tables in a text, HTML and Markdown, and scores them cell by cell.

What a model wrote may be damaged in any way, or hostile. So the reader of HTML is a scanner of its own, linear
in the text, which never fails: a cell or row that was not closed ends where the next one begins, cells without
a row or table open one, unknown tags are dropped, a table within a cell is that cell's text, and spans are cut
to what the limits below allow. What is cut off says so: `Table.cut`.
"""

from __future__ import annotations

import html
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from ocrsmith.evaluation.metrics.alignment import align

MAX_CELLS = 20_000
"""Cells of a table; what follows is left out."""
MAX_TEXT = 200_000
"""Characters in the cells of a table, inline tags as one each; what follows is left out."""
MAX_AREA = 200_000
"""Places of a table's grid. Spans that would take more count as 1."""
_MAX_SPAN = 1000

INLINE_TAGS = ("b", "i", "u", "s", "em", "strong", "sup", "sub", "del", "ins", "code", "overline", "underline")
"""Tags within cells that TEDS counts as one character each."""
_SECTIONS = ("thead", "tbody", "tfoot")
_MAX_SECTIONS = 100
_SPACING = ("br", "p", "div", "li", "ul", "ol", "hr")
"""Tags that part words."""
_MARKS = {
    (name, closing): chr(0x10F000 + 2 * place + closing)
    for place, name in enumerate(INLINE_TAGS)
    for closing in (False, True)
}
"""Inline tags within `Cell.content`: characters for private use, which no text has."""
_UNMARK = re.compile("[\U0010f000-\U0010f0ff]")

_TAG = re.compile(
    r"<(?P<close>/?)(?P<name>[A-Za-z][A-Za-z0-9]{0,30})(?![A-Za-z0-9])"
    r"""(?P<rest>(?:[^<>"']|"[^"<]{0,500}"|'[^'<]{0,500}')*(?=>)|[^<>]*)>"""
)
_COMMENT = re.compile(r"<!--(?:[^-]|-(?!->))*(?:-->|\Z)")
_SPAN = re.compile(r"""\b(colspan|rowspan)\s{0,20}=\s{0,20}["']?\s{0,20}(\d{1,6})""", re.IGNORECASE)
_TABLE_TAG = re.compile(r"<(/?)table\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell in its place of the grid."""

    row: int
    """First row, from 0."""
    column: int
    """First column, from 0."""
    row_span: int
    column_span: int
    text: str
    """What it says, runs of white space as one space, without tags."""
    content: str
    """`text` with a character for private use in the place of each inline tag: what TEDS compares."""
    header: bool


@dataclass(frozen=True, slots=True)
class Table:
    """A table as a grid, and its rows as they were written."""

    cells: tuple[Cell, ...]
    """In reading order."""
    rows: int
    columns: int
    sections: tuple[tuple[str, int, int], ...] = ()
    """`thead`, `tbody` and `tfoot` as written: name, first row, row after the last."""
    cut: bool = False
    """A limit was met: the table goes on, or its spans were wider."""

    @property
    def text(self) -> str:
        """All cells, by tab within a row, rows by line."""
        lines: list[list[str]] = [[] for _ in range(self.rows)]
        for cell in self.cells:
            lines[cell.row].append(cell.text)
        return "\n".join("\t".join(line) for line in lines)


@dataclass(frozen=True, slots=True)
class CellScore:
    """How many cells were read right: text, spans and place."""

    right: int
    reference: int
    """Cells of the reference."""
    prediction: int
    """Cells that were read."""

    @property
    def precision(self) -> float:
        """Share of the cells read that are right; 1 where there are no cells at all."""
        return self.right / self.prediction if self.prediction else float(not self.reference)

    @property
    def recall(self) -> float:
        """Share of the reference's cells that were read right; 1 where there are no cells at all."""
        return self.right / self.reference if self.reference else float(not self.prediction)

    @property
    def f1(self) -> float:
        """2 · right / (cells of the reference + cells read); 1 where there are none."""
        both = self.reference + self.prediction
        return 2 * self.right / both if both else 1.0

    def __add__(self, other: CellScore) -> CellScore:
        """Of both together (micro)."""
        return CellScore(
            self.right + other.right, self.reference + other.reference, self.prediction + other.prediction
        )


def score_cells(reference: Table | None, prediction: Table | None) -> CellScore:
    """Cell-level score of a table; None is a table that is missing, or one that was made up.

    Rows are aligned first, then columns, each in order and one to one: the alignment with the most texts in
    common between rows set side by side (cells that begin in the row; the same text counts as often as both
    have it; empty ones do not count), and among such alignments the one that pairs the most rows. A cell is
    right if a cell of the reference with the same text and the same spans begins in the row and the column that
    its own are aligned with.
    """
    if reference is None or prediction is None:
        return CellScore(
            0, len(reference.cells) if reference else 0, len(prediction.cells) if prediction else 0
        )
    rows = align(_texts_by(reference, "row"), _texts_by(prediction, "row"))
    columns = align(_texts_by(reference, "column"), _texts_by(prediction, "column"))
    places = {(cell.row, cell.column): cell for cell in reference.cells}
    right = 0
    for cell in prediction.cells:
        true = places.get((rows.get(cell.row, -1), columns.get(cell.column, -1)))
        right += true is not None and (true.text, true.row_span, true.column_span) == (
            cell.text,
            cell.row_span,
            cell.column_span,
        )
    return CellScore(right, len(reference.cells), len(prediction.cells))


def score_cells_all(references: Sequence[Table | None], predictions: Sequence[Table | None]) -> list[CellScore]:
    """`score_cells` of each pair. Raises ValueError on unequal numbers."""
    return [score_cells(true, read) for true, read in zip(references, predictions, strict=True)]


def _texts_by(table: Table, axis: str) -> list[Counter[str]]:
    lines: list[Counter[str]] = [Counter() for _ in range(table.rows if axis == "row" else table.columns)]
    for cell in table.cells:
        if cell.text:
            lines[cell.row if axis == "row" else cell.column][cell.text] += 1
    return lines


def elements_within(content: str) -> int:
    """Inline elements of a cell's content."""
    return sum(content.count(mark) for (_, closing), mark in _MARKS.items() if not closing)


# --- HTML -----------------------------------------------------------------------------------------------------


def parse_html_tables(text: str) -> list[Table]:
    """The tables of a text in HTML, in order; cells and rows outside a table make one. Text outside cells does
    not count, and a table without cells is none. Never raises."""
    tables = []
    builder = _Builder()
    text = _COMMENT.sub("", text)
    position = 0
    for tag in _TAG.finditer(text):
        builder.write(html.unescape(text[position : tag.start()]))
        name, closing = tag["name"].lower(), bool(tag["close"])
        if name == "table" and builder.cell is None:
            tables.append(builder.finish())
            builder = _Builder()
        else:
            builder.tag(name, closing, tag["rest"])
        position = tag.end()
    builder.write(html.unescape(text[position:]))
    return [table for table in [*tables, builder.finish()] if table.cells]


@dataclass(slots=True)
class _Draft:
    """A cell before it has a place."""

    row_span: int
    column_span: int
    header: bool
    parts: list[str] = field(default_factory=list)


class _Builder:
    """Gathers rows of cells while tags go by."""

    def __init__(self) -> None:
        self.rows: list[list[_Draft]] = []
        self.sections: list[tuple[str, int, int]] = []
        self.section: tuple[str, int] | None = None
        self.cell: _Draft | None = None
        self.in_row = False
        self.nested = 0
        self.cells = self.size = 0
        self.cut = False

    def write(self, text: str) -> None:
        """Text between tags."""
        if self.cell is None or not text:
            return
        kept = _UNMARK.sub("", text[: MAX_TEXT - self.size])
        self.cut |= self.size + len(text) > MAX_TEXT
        self.size += len(kept)
        self.cell.parts.append(kept)

    def tag(self, name: str, closing: bool, rest: str) -> None:
        """A tag; one of a table can only be one within a cell."""
        if name == "table":
            self.nested += -1 if closing else 1
        if name == "table" and self.nested < 0:
            self.nested = 0
            self._close_row()  # the table's own end, in a cell that was not closed
        elif self.nested or name == "table" or name in _SPACING:
            self.write(" ")
        elif name in ("td", "th"):
            self.cell = None
            if not closing:
                self._open_cell(name, rest)
        elif name == "tr":
            self._close_row()
            if not closing:
                self._open_row()
        elif name in _SECTIONS:
            self._close_section()
            if not closing:
                self.section = (name, len(self.rows))
        elif (name, closing) in _MARKS and self.cell is not None and self.size < MAX_TEXT:
            self.size += 1
            self.cell.parts.append(_MARKS[name, closing])

    def _open_row(self) -> None:
        self.cut |= len(self.rows) == MAX_CELLS
        if len(self.rows) < MAX_CELLS:
            self.rows.append([])
        self.in_row = True

    def _open_cell(self, name: str, rest: str) -> None:
        if not self.in_row:
            self._open_row()
        if self.cells == MAX_CELLS:
            self.cut = True
            return
        self.cells += 1
        spans = {key.lower(): min(max(int(value), 1), _MAX_SPAN) for key, value in _SPAN.findall(rest)}
        self.cell = _Draft(spans.get("rowspan", 1), spans.get("colspan", 1), name == "th")
        self.rows[-1].append(self.cell)

    def _close_row(self) -> None:
        self.cell = None
        self.in_row = False

    def _close_section(self) -> None:
        self._close_row()
        if self.section is not None:
            self.cut |= len(self.sections) == _MAX_SECTIONS
            if len(self.sections) < _MAX_SECTIONS:
                self.sections.append((*self.section, len(self.rows)))
            self.section = None

    def finish(self) -> Table:
        """The table."""
        self._close_section()
        cells, columns, narrowed = _place(self.rows)
        return Table(tuple(cells), len(self.rows), columns, tuple(self.sections), self.cut or narrowed)


def _place(rows: list[list[_Draft]]) -> tuple[list[Cell], int, bool]:
    """Puts cells into the grid as browsers do: each at the first free place of its row."""
    cells: list[Cell] = []
    taken: dict[int, int] = {}  # column → first row in which it is free again
    area = width = 0
    narrowed = False
    for number, row in enumerate(rows):
        column = 0
        for draft in row:
            while taken.get(column, 0) > number:
                column += 1
            height, breadth = min(draft.row_span, len(rows) - number), draft.column_span
            if area + height * breadth > MAX_AREA:
                height = breadth = 1
                narrowed = True
            area += height * breadth
            for place in range(column, column + breadth):
                taken[place] = number + height
            content = " ".join("".join(draft.parts).split())
            text = " ".join(_UNMARK.sub("", content).split())
            cells.append(Cell(number, column, height, breadth, text, content, draft.header))
            column += breadth
            width = max(width, column)
    return cells, width, narrowed


# --- Markdown -------------------------------------------------------------------------------------------------

_RULE = re.compile(r":?-+:?")
_BAR = re.compile(r"(?<!\\)\|")


def parse_markdown_tables(text: str) -> list[Table]:
    """The pipe tables of a Markdown text, in order: a row of heads, a row of rules (`|---|`), further rows.
    Never raises."""
    return [parse_markdown_table(block) for block in markdown_table_lines(text.split("\n"))]


def markdown_table_lines(lines: Sequence[str]) -> Iterator[list[str]]:
    """The lines of each pipe table."""
    place = 0
    while place < len(lines) - 1:
        if begins_markdown_table(lines, place):
            end = end_of_markdown_table(lines, place)
            yield list(lines[place:end])
            place = end
        else:
            place += 1


def begins_markdown_table(lines: Sequence[str], place: int) -> bool:
    """Whether a pipe table begins in that line."""
    if place + 1 >= len(lines) or "|" not in lines[place]:
        return False
    rule = lines[place + 1]
    return "|" in rule and "-" in rule and all(_RULE.fullmatch(cell) for cell in _split(rule))


def end_of_markdown_table(lines: Sequence[str], place: int) -> int:
    """The line after the pipe table that begins in line `place`."""
    end = place + 2
    while end < len(lines) and "|" in lines[end] and lines[end].strip():
        end += 1
    return end


def parse_markdown_table(lines: Sequence[str]) -> Table:
    """A pipe table from its lines, the second of which is the rule. Rows have as many cells as the head: more
    are left out, missing ones are empty. Tags are dropped; sections are `thead` and `tbody`."""
    builder = _Builder()
    width = len(_split(lines[0]))
    builder.tag("thead", False, "")
    for number, line in enumerate([lines[0], *lines[2:]]):
        if number == 1:
            builder.tag("tbody", False, "")
        builder.tag("tr", False, "")
        texts = _split(line)[:width]
        for text in [*texts, *[""] * (width - len(texts))]:
            builder.tag("td" if number else "th", False, "")
            builder.write(html.unescape(_TAG.sub(" ", text)))
    return builder.finish()


def _split(line: str) -> list[str]:
    line = line.strip()
    line = line.removeprefix("|")
    if line.endswith("|") and not line.endswith("\\|"):
        line = line[:-1]
    return [cell.strip().replace("\\|", "|") for cell in _BAR.split(line)]
