"""Finds the tables in a page's text, HTML and Markdown, with the place of each of their rows.

The text is a model's and may be damaged in any way: the scanner is linear and never fails. A row or cell that
was not closed ends where the next begins; a table within a table is no table here.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

_TABLE = re.compile(r"<(/?)table\b[^<>]{0,500}>", re.IGNORECASE)
_PART = re.compile(r"<(/?)(tr|td|th|thead|tbody|tfoot)\b([^<>]{0,500})>", re.IGNORECASE)
_SPAN = re.compile(r"""\b(colspan|rowspan)\s{0,9}=\s{0,9}["']?\s{0,9}(\d{1,6})""", re.IGNORECASE)
_TAG = re.compile(r"</?[A-Za-z][^<>]{0,500}>")
_MAX_SPAN = 1000
_BAR = re.compile(r"(?<!\\)\|")
_RULE = re.compile(r"\s*:?-+:?\s*")


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a table."""

    start: int
    end: int
    """It is `text[start:end]`."""
    cells: tuple[str, ...]
    """What they say: without tags, runs of white space as one space."""
    columns: int
    """That it fills, those that a cell of a row above reaches into included."""
    header: bool
    open: bool
    """A cell reaches into rows below it."""


@dataclass(frozen=True, slots=True)
class Table:
    """A table in a text."""

    kind: Literal["html", "markdown"]
    start: int
    end: int
    """It is `text[start:end]`."""
    rows: tuple[Row, ...]
    """Without Markdown's row of rules."""
    more_at: int
    """Where further rows go."""
    plain: bool
    """It holds nothing but rows: no caption, nothing between cells."""

    @property
    def columns(self) -> int:
        """Spans counted."""
        rows = self.rows[:1] if self.kind == "markdown" else self.rows
        return max((row.columns for row in rows), default=0)


def find_tables(text: str) -> list[Table]:
    """All tables of a text, in order."""
    found = list(_html_tables(text))
    found += [
        table
        for table in _markdown_tables(text)
        if not any(other.start < table.end and table.start < other.end for other in found)
    ]
    return sorted(found, key=lambda table: table.start)


def _html_tables(text: str) -> Iterator[Table]:
    depth, nested = 0, False
    opened: re.Match[str] | None = None
    for tag in _TABLE.finditer(text):
        if not tag[1]:
            depth += 1
            nested = nested or depth > 1
            opened = opened or tag
        elif opened is not None:
            depth -= 1
            if not depth:
                if not nested:
                    yield _html_table(text, opened, tag)
                opened, nested = None, False


def _html_table(text: str, opened: re.Match[str], closed: re.Match[str]) -> Table:
    scan = _Scan(text)
    at = opened.end()
    for tag in _PART.finditer(text, opened.end(), closed.start()):
        scan.between(at, tag.start())
        scan.tag(tag)
        at = tag.end()
    scan.between(at, closed.start())
    scan.end_row(closed.start())
    return Table("html", opened.start(), closed.end(), tuple(scan.rows), closed.start(), scan.plain)


class _Scan:
    """The tags of a table, one after another, become its rows."""

    def __init__(self, text: str) -> None:
        self.rows: list[Row] = []
        self.plain = True
        self._text = text
        self._row: int | None = None
        self._cell: int | None = None
        self._cells: list[str] = []
        self._header, self._head_section = True, False
        self._columns = 0
        self._below: list[tuple[int, int]] = []
        """Cells that reach into rows below: how many rows yet, how many columns."""
        self._spans: list[tuple[int, int]] = []

    def between(self, start: int, end: int) -> None:
        """What stands between two tags belongs to a cell, or the table is not a plain one."""
        if self._cell is None and not self._text[start:end].isspace() and start < end:
            self.plain = False

    def tag(self, tag: re.Match[str]) -> None:
        closing, name = bool(tag[1]), tag[2].lower()
        if name in ("td", "th"):
            self._end_cell(tag.start())
            if not closing:
                self._begin_cell(tag, name)
            return
        self.end_row(tag.end() if closing and name == "tr" else tag.start())
        if name == "tr" and not closing:
            self._begin_row(tag.start())
        elif name != "tr":
            self._head_section = name == "thead" and not closing

    def _begin_row(self, start: int) -> None:
        self._row, self._cells, self._header, self._spans = start, [], True, []
        self._columns = sum(width for _, width in self._below)

    def _begin_cell(self, tag: re.Match[str], name: str) -> None:
        if self._row is None:
            self._begin_row(tag.start())
        spans = {key.lower(): min(max(int(value), 1), _MAX_SPAN) for key, value in _SPAN.findall(tag[3])}
        width, height = spans.get("colspan", 1), spans.get("rowspan", 1)
        self._cell = tag.end()
        self._columns += width
        self._header = self._header and (name == "th" or self._head_section)
        if height > 1:
            self._spans.append((height, width))

    def _end_cell(self, end: int) -> None:
        if self._cell is not None:
            self._cells.append(" ".join(html.unescape(_TAG.sub(" ", self._text[self._cell : end])).split()))
            self._cell = None

    def end_row(self, end: int) -> None:
        """Ends the row that is open, if one is."""
        if self._row is None:
            return
        self._end_cell(end)
        self._below = [(rows - 1, width) for rows, width in [*self._below, *self._spans] if rows > 1]
        header = self._header and bool(self._cells)
        self.rows.append(Row(self._row, end, tuple(self._cells), self._columns, header, open=bool(self._below)))
        self._row = None


def _markdown_tables(text: str) -> Iterator[Table]:
    lines = list(_lines(text))
    at = 1
    while at < len(lines):
        head, rule = _cells(text, *lines[at - 1]), _cells(text, *lines[at])
        if not head or len(head) != len(rule) or not all(map(_RULE.fullmatch, rule)):
            at += 1
            continue
        rows = [_row(lines[at - 1], head, header=True)]
        at += 1
        while at < len(lines) and (cells := _cells(text, *lines[at])):
            rows.append(_row(lines[at], cells, header=False))
            at += 1
        end = lines[at - 1][1]
        yield Table("markdown", rows[0].start, end, tuple(rows), end, plain=True)
        at += 1


def _lines(text: str) -> Iterator[tuple[int, int]]:
    start = 0
    for line in text.split("\n"):
        yield start, start + len(line)
        start += len(line) + 1


def _cells(text: str, start: int, end: int) -> list[str]:
    """Of a line; none if it has no bars."""
    cells = _BAR.split(text[start:end].strip())
    if len(cells) == 1:
        return []
    cells = cells if cells[0].strip() else cells[1:]
    return cells[:-1] if len(cells) > 1 and not cells[-1].strip() else cells


def _row(line: tuple[int, int], cells: list[str], *, header: bool) -> Row:
    said = tuple(" ".join(cell.replace("\\|", "|").split()) for cell in cells)
    return Row(*line, said, len(cells), header, open=False)
