"""Tables: their text is HTML in one line, `<table><tr><td>…`, with `colspan` and `rowspan`."""

from __future__ import annotations

import random
from dataclasses import dataclass
from html import escape

from ocrsmith.datasets.synth.kinds.content import Kind
from ocrsmith.datasets.synth.locales import Locale
from ocrsmith.datasets.synth.shaping import is_rtl
from ocrsmith.datasets.synth.sheet import Setter, Sheet
from ocrsmith.datasets.synth.writer import Cut, Writer

_STYLES = ("grid", "grid", "rows", "head", "head")
_NUMBERS = ("number", "amount")


@dataclass(frozen=True)
class Cell:
    """A cell, and how many rows and columns it spans."""

    text: str
    row: int
    column: int
    rows: int = 1
    columns: int = 1

    @property
    def html(self) -> str:
        """The cell as HTML."""
        spans = f' rowspan="{self.rows}"' if self.rows > 1 else ""
        spans += f' colspan="{self.columns}"' if self.columns > 1 else ""
        return f"<td{spans}>{escape(self.text, quote=False)}</td>"


@dataclass(frozen=True)
class Table:
    """The content of a table."""

    cells: list[Cell]
    """By row, then by column."""
    rows: int
    columns: int
    numeric: frozenset[int]
    """Columns of numbers, which are set at the far side."""
    cuts: list[Cut]
    rtl: bool
    vertical: bool = False

    @property
    def text(self) -> str:
        """HTML."""
        rows = ("".join(cell.html for cell in self.cells if cell.row == row) for row in range(self.rows))
        return "<table>" + "".join(f"<tr>{row}</tr>" for row in rows) + "</table>"

    @property
    def strings(self) -> list[str]:
        """The cells' texts."""
        return [cell.text for cell in self.cells if cell.text]

    def draw(self, setter: Setter, rng: random.Random) -> Sheet:
        """With a full grid, lines between rows, or a line under the head only."""
        size = setter.size
        pad = rng.uniform(0.4, 0.9) * size
        widths = self._widths(setter, pad)
        step = rng.uniform(1.6, 2.3) * size
        margin = rng.uniform(0.6, 1.8) * size
        spans = any(cell.rows > 1 or cell.columns > 1 for cell in self.cells)
        style = rng.choice(_STYLES if not spans else _STYLES[:3])  # without lines one could not see a span
        centred = rng.random() < 0.4
        sheet = Sheet(round(sum(widths) + 2 * margin) + 2, round(self.rows * step + 2 * margin) + 2)
        for cell in self.cells:
            left = margin + sum(widths[: cell.column])
            width = sum(widths[cell.column : cell.column + cell.columns])
            top, height = margin + cell.row * step, cell.rows * step
            if self.rtl:
                left = sheet.ink.shape[1] - left - width
            self._rules(sheet, style, cell, left, top, width, height)
            if cell.text:
                run = setter.run(cell.text, is_rtl(cell.text) or self.rtl)
                room = width - 2 * pad - setter.width(cell.text)
                far = cell.column in self.numeric and cell.columns == 1
                share = 0.5 if centred or cell.columns > 1 else float(far != self.rtl)
                sheet.put(run, left + pad + share * room, top + height / 2 + 0.36 * size)
        return sheet

    def _widths(self, setter: Setter, pad: float) -> list[float]:
        """Of the columns; those under a wide spanning cell are widened alike."""
        widths = [2.0 * setter.size] * self.columns
        for cell in sorted(self.cells, key=lambda cell: cell.columns):
            missing = setter.width(cell.text) + 2 * pad - sum(widths[cell.column : cell.column + cell.columns])
            if missing > 0:
                for column in range(cell.column, cell.column + cell.columns):
                    widths[column] += missing / cell.columns
        return widths

    def _rules(
        self, sheet: Sheet, style: str, cell: Cell, left: float, top: float, width: float, height: float
    ) -> None:
        right, bottom = left + width, top + height
        if style == "grid":
            sheet.box(left, top, right, bottom)
        elif style == "rows" or (style == "head" and cell.row + cell.rows in (1, self.rows)):
            sheet.line(left, bottom, right, bottom, 2 if cell.row == 0 else 1)
        if style != "grid" and cell.row == 0:
            sheet.line(left, top, right, top, 2)


def write_table(writer: Writer, rng: random.Random, vertical: bool) -> Table:
    """A head, two to eight rows, two to five columns; one of three has spanning cells."""
    first = writer.line(rng, 14)
    locale = writer.locale(first.text)
    columns, rows = rng.randint(2, 5), rng.randint(3, 9)
    kinds = ["text", *rng.choices(("text", "number", "amount", "date", "name", "serial"), k=columns - 1)]
    cuts = [first]
    taken: dict[tuple[int, int], Cell] = {}
    cells: list[Cell] = []
    spans = rng.random() < 0.35
    for row in range(rows):
        for column in range(columns):
            if (row, column) in taken:
                continue
            text = _head(kinds[column], locale, rng) if row == 0 else _value(
                kinds[column], writer, locale, cuts, rng
            )  # fmt: skip
            tall, wide = _span(row, column, rows, columns, taken, rng) if spans else (1, 1)
            cell = Cell(text, row, column, tall, wide)
            cells.append(cell)
            taken |= {(row + i, column + j): cell for i in range(tall) for j in range(wide)}
    numeric = frozenset(i for i, kind in enumerate(kinds) if kind in _NUMBERS)
    return Table(cells, rows, columns, numeric, cuts, is_rtl(locale.titles[0]))


def _head(kind: str, locale: Locale, rng: random.Random) -> str:
    return rng.choice(locale.headings if kind == "text" else locale.fields[kind])


def _value(kind: str, writer: Writer, locale: Locale, cuts: list[Cut], rng: random.Random) -> str:
    if kind != "text":
        return "" if rng.random() < 0.06 else locale.value(kind, rng)
    cut = writer.like(cuts[0], rng, 14)
    cuts.append(cut)
    return cut.text


def _span(
    row: int, column: int, rows: int, columns: int, taken: dict[tuple[int, int], Cell], rng: random.Random
) -> tuple[int, int]:
    """How many rows and columns a cell gets: in the head two columns, in the first column several rows."""
    if row == 0 and column + 1 < columns and rng.random() < 0.35:
        return 1, 2
    if row > 0 and column == 0 and rng.random() < 0.4:
        return min(rows - row, rng.randint(2, 3)), 1
    if row > 0 and column + 1 < columns and (row, column + 1) not in taken and rng.random() < 0.06:
        return 1, 2
    return 1, 1


TABLES = Kind("tables", "a table, as HTML", (18, 28), write_table)
