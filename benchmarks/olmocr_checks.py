"""The checks of olmOCR's benchmark, written anew from what they are documented to mean.

A check names a page and something that its text must or must not have: words (`present`, `absent`), an order
of two passages (`order`), a cell of a table with its neighbours and headings (`table`), a formula (`math`), or
plain soundness (`baseline`). Both sides are compared without differences of white space, emphasis, quotes and
dashes; `max_diffs` letters may differ.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

from rapidfuzz import fuzz

Grid = list[list[str]]
"""Rows of a table; a cell that spans stands in every field it covers."""
Check = dict[str, Any]

_SAME = str.maketrans(
    {**dict.fromkeys("‘’‚‛´`", "'"), **dict.fromkeys("“”„‟", '"'), **dict.fromkeys("‐‑‒–—―−", "-"), "…": "..."}
)
_FORMULA = re.compile(r"\$\$(.+?)\$\$|\$(.+?)\$|\\\((.+?)\\\)|\\\[(.+?)\\\]", re.DOTALL)
_LOOP = 30
"""Repeats of a short passage at the end of a text that make it an endless one."""


def normalise(text: str) -> str:
    """Text in the form that is compared."""
    text = re.sub(r"<br\s*/?>", " ", unicodedata.normalize("NFC", text))
    text = re.sub(r"\*\*|__|(?<!\w)[*_]|[*_](?!\w)", "", text)
    return re.sub(r"\s+", " ", text.translate(_SAME)).strip()


def passes(check: Check, text: str) -> bool:
    """Whether a page's text passes a check.

    Raises:
        ValueError: a kind of check that is not known.
    """
    kinds = {
        "present": _present,
        "absent": lambda check, text: not _present(check, text),
        "order": _in_order,
        "table": _in_table,
        "math": _has_formula,
        "baseline": _is_sound,
    }
    if check["type"] not in kinds:
        raise ValueError(f"unknown type of check: {check['type']!r}")
    return kinds[check["type"]](check, text)


def _least(check: Check, wanted: str) -> float:
    """Share of letters that must agree, in per cent."""
    return 100 * (1 - check.get("max_diffs", 0) / max(len(wanted), 1)) - 1e-6


def _present(check: Check, text: str) -> bool:
    wanted, found = normalise(check["text"]), normalise(text)
    if not check.get("case_sensitive", True):
        wanted, found = wanted.lower(), found.lower()
    first, last = check.get("first_n"), check.get("last_n")
    if first or last:
        found = (found[:first] if first else "") + (found[-last:] if last else "")
    return _partial(wanted, found) >= _least(check, wanted)


def _partial(wanted: str, found: str) -> float:
    """How well the best part of a text agrees, in per cent."""
    if wanted in found:
        return 100.0
    if len(found) < len(wanted):
        return fuzz.ratio(wanted, found)
    return fuzz.partial_ratio(wanted, found)


def _in_order(check: Check, text: str) -> bool:
    """Whether one passage stands somewhere before the other."""
    found = normalise(text)
    before, after = normalise(check["before"]), normalise(check["after"])
    first = min(_places(before, found, _least(check, before)), default=None)
    last = max(_places(after, found, _least(check, after)), default=None)
    return first is not None and last is not None and first < last


def _places(wanted: str, found: str, least: float) -> Iterator[int]:
    """Where a passage begins: first and last of its exact places, or those that agree best, from both ends."""
    if wanted in found:
        yield from (found.find(wanted), found.rfind(wanted))
        return
    if least > 99.9:
        return
    start, end = 0, len(found)
    best = fuzz.partial_ratio_alignment(wanted, found, score_cutoff=least)
    first = last = best
    while best is not None:
        first, end = best, best.dest_start
        best = (
            fuzz.partial_ratio_alignment(wanted, found[:end], score_cutoff=least)
            if end >= len(wanted)
            else None
        )
    if first is None or last is None:
        return
    yield first.dest_start
    start = last.dest_end
    while start < len(found) - len(wanted):
        again = fuzz.partial_ratio_alignment(wanted, found[start:], score_cutoff=least)
        if again is None:
            break
        yield start + again.dest_start
        start += again.dest_end
    yield last.dest_start


def _has_formula(check: Check, text: str) -> bool:
    """Whether one of the text's formulas is written as the wanted one; white space and braces do not count."""
    wanted = _plain_formula(check["math"])
    return any(
        _plain_formula("".join(filter(None, match.groups()))) == wanted for match in _FORMULA.finditer(text)
    )


def _plain_formula(formula: str) -> str:
    return re.sub(r"[\s{}]|\\(?:left|right|,|;|quad)(?![a-zA-Z])", "", formula)


def _is_sound(check: Check, text: str) -> bool:
    """Whether a page is as short as it must be, or else has any letters and no endless end."""
    if (most := check.get("max_length")) is not None:
        return len("".join(text.split())) <= most
    letters = any(map(str.isalnum, text))
    return letters and re.search(rf"(.{{1,40}}?)\1{{{_LOOP},}}\s*$", text, re.DOTALL) is None


def _in_table(check: Check, text: str) -> bool:
    """Whether a table has a cell with the wanted text and neighbours.

    Headings are looked for in all cells above it in its column, or left of it in its row.
    """
    return any(
        _agrees(check, "cell", grid[row][column]) and _has_neighbours(check, grid, row, column)
        for grid in tables_of(text)
        for row in range(len(grid))
        for column in range(len(grid[row]))
    )


def _has_neighbours(check: Check, grid: Grid, row: int, column: int) -> bool:
    beside = {"up": (-1, 0), "down": (1, 0), "left": (0, -1), "right": (0, 1)}
    for name, (down, right) in beside.items():
        if check.get(name):
            r, c = row + down, column + right
            if not (0 <= r < len(grid) and 0 <= c < len(grid[r]) and _agrees(check, name, grid[r][c])):
                return False
    above = [grid[r][column] for r in range(row) if column < len(grid[r])]
    if check.get("top_heading") and not any(_agrees(check, "top_heading", cell) for cell in above):
        return False
    return not check.get("left_heading") or any(
        _agrees(check, "left_heading", cell) for cell in grid[row][:column]
    )


def _agrees(check: Check, name: str, cell: str) -> bool:
    wanted = normalise(check[name])
    return fuzz.ratio(wanted, normalise(cell)) >= max(50.0, _least(check, wanted))


def tables_of(text: str) -> list[Grid]:
    """The HTML and Markdown tables of a text."""
    reader = _TableReader()
    reader.feed(text)
    return reader.tables + _markdown_tables(text)


def _markdown_tables(text: str) -> list[Grid]:
    tables: list[Grid] = []
    rows: Grid = []
    for line in [*text.splitlines(), ""]:
        if line.count("|") > 1 or (rows and "|" in line):
            cells = re.split(r"(?<!\\)\|", line.strip().strip("|"))
            if not all(re.fullmatch(r"\s*:?-+:?\s*", cell) for cell in cells):
                rows.append([cell.strip() for cell in cells])
        elif rows:
            tables.append(rows)
            rows = []
    return tables


class _TableReader(HTMLParser):
    """Collects HTML tables, spans filled."""

    def __init__(self) -> None:
        super().__init__()
        self.tables: list[Grid] = []
        self._fields: dict[tuple[int, int], str] = {}
        self._row = -1
        self._span = (1, 1)
        self._cell: list[str] | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "table":
            self._fields, self._row = {}, -1
        elif tag == "tr":
            self._row += 1
        elif tag in ("td", "th"):
            found = dict(attrs)
            self._span = (_count(found.get("rowspan")), _count(found.get("colspan")))
            self._cell = []
        elif tag == "br" and self._cell is not None:
            self._cell.append(" ")

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th") and self._cell is not None:
            column = 0
            while (self._row, column) in self._fields:
                column += 1
            text = " ".join("".join(self._cell).split())
            for down in range(self._span[0]):
                for right in range(self._span[1]):
                    self._fields[self._row + down, column + right] = text
            self._cell = None
        elif tag == "table" and self._fields:
            high, wide = (max(place[axis] for place in self._fields) + 1 for axis in (0, 1))
            self.tables.append([[self._fields.get((r, c), "") for c in range(wide)] for r in range(high)])
            self._fields = {}

    def handle_data(self, data: str) -> None:
        if self._cell is not None:
            self._cell.append(data)


def _count(value: str | None) -> int:
    return max(1, min(int(value), 1000)) if value and value.isdigit() else 1
