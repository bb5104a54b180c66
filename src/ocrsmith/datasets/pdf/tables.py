"""Tables of a page: found by rules, by rules above and below, or by alignment; written as HTML or Markdown."""

from __future__ import annotations

import html
import statistics
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any, Literal

from ocrsmith.datasets.pdf.aligned import (
    Column,
    Row,
    columns_of,
    divided,
    grow,
    has_prose,
    is_number,
    is_table,
    place,
    rows_of,
    stretches_of,
)
from ocrsmith.datasets.pdf.cells import Cell, Table, assemble
from ocrsmith.datasets.pdf.grid import Grid, find_grids, whole_rules
from ocrsmith.datasets.pdf.page import Char, Rule
from ocrsmith.datasets.pdf.words import Word, make_lines

TableForm = Literal["html", "markdown", "text"]
_LEAST_FILLED = 0.3
"""Share of a grid's cells with text, below which it is the background of a diagram."""


def ruled_tables(words: Sequence[Word], rules: Sequence[Rule]) -> tuple[list[Table], list[Word]]:
    """Tables that rules show, and the words outside of them."""
    tables = []
    rest = list(words)
    across = whole_rules(rules)
    for grid in find_grids(rules):
        inside = [word for word in rest if _within(word, *grid.box)]
        table = _from_grid(grid, inside)
        if table is not None:
            tables.append(table)
            taken = set(map(id, inside))
            rest = [word for word in rest if id(word) not in taken]
    for group in _stacks([rule for rule in across if not _in_any(rule, tables)]):
        found, rest = _between_rules(group, rest, across)
        tables.extend(found)
    return tables, rest


def table_finder(rules: Sequence[Rule]) -> Callable[[Sequence[Any]], Any]:
    """What finds a table without rules before a region is cut into columns; see `columns.in_reading_order`."""

    across = whole_rules(rules)

    def table_at(items: Sequence[Any]) -> tuple[list[Any], Table, list[Any]] | None:
        words = [item for item in items if isinstance(item, Word)]
        rows = rows_of(words)
        stretches = (
            (first, last, columns)
            for first, last in stretches_of(rows)
            if is_table(rows[first : last + 1], columns := columns_of(rows[first : last + 1]))
        )
        first, last, columns = next(stretches, (0, 0, []))
        if not columns:
            return None
        rows = [divided(row, columns) for row in rows]
        first, last = grow(rows, first, last, columns)
        first = _up_to_rule(rows, first, columns, across)
        columns = columns_of(rows[first : last + 1])
        table = assemble(rows[first : last + 1], columns, across)
        inside = {
            id(word) for row in rows[first : last + 1] for fragment in row.fragments for word in fragment.words
        }
        others = [item for item in items if id(item) not in inside]
        if any(_overlap(item, table) for item in others):
            return None
        before = [item for item in others if item.bottom <= (table.top + table.bottom) / 2]
        return before, table, [item for item in others if item.bottom > (table.top + table.bottom) / 2]

    return table_at


def _up_to_rule(rows: Sequence[Row], first: int, columns: Sequence[Column], rules: Sequence[Rule]) -> int:
    """The first row under a rule as wide as the table, if only few lines of its head lie between."""
    x0, x1 = columns[0].x0, columns[-1].x1
    wide = [r.bottom for r in rules if r.horizontal and min(r.x1, x1) - max(r.x0, x0) > 0.8 * (x1 - x0)]
    for number in range(first - 1, max(first - 5, -1), -1):
        row = rows[number]
        if any(row.bottom < edge < rows[number + 1].top for edge in wide):
            return first
        if max(fragment.x1 - fragment.x0 for fragment in row.fragments) > 0.6 * (x1 - x0):
            return first
        if any((rows[number - 1].bottom if number else 0) - 2 < edge < row.top + 2 for edge in wide):
            return number
    return first


def _overlap(item: Any, table: Table) -> bool:
    """Whether something stands beside a table or in it: then the rows were not whole."""
    return bool(table.top < (item.top + item.bottom) / 2 < table.bottom)


def _within(item: Any, x0: float, top: float, x1: float, bottom: float) -> bool:
    return bool(x0 <= (item.x0 + item.x1) / 2 <= x1 and top <= (item.top + item.bottom) / 2 <= bottom)


def _in_any(rule: Rule, tables: Sequence[Table]) -> bool:
    return any(_within(rule, t.x0 - 2, t.top - 2, t.x1 + 2, t.bottom + 2) for t in tables)


def _from_grid(grid: Grid, words: Sequence[Word]) -> Table | None:
    """The table that a grid makes of words; None where it is no table but a frame or a diagram."""
    inside: dict[int, list[Word]] = defaultdict(list)
    fields = grid.fields()
    for word in words:
        parts: dict[int, list[Char]] = defaultdict(list)  # characters of Chinese cells may touch over a rule
        for glyph in word.glyphs:
            middle = (glyph.x0 + glyph.x1) / 2
            parts[fields[grid.field_at(middle, (word.top + word.bottom) / 2)]].append(glyph)
        for number, glyphs in parts.items():
            inside[number].append(word if len(parts) == 1 else Word(glyphs))
    cells = [
        Cell(slot.row, slot.column, slot.rowspan, slot.colspan, inside[number])
        for number, slot in enumerate(grid.slots)
    ]
    filled = [cell for cell in cells if cell.words]
    if len({cell.row for cell in filled}) < 2 or len({cell.column for cell in filled}) < 2:
        return None
    if len(filled) < _LEAST_FILLED * len(cells):
        return None
    return _trimmed(_with_rows_apart(Table(cells, grid.rows, grid.columns, *grid.box)))


def _with_rows_apart(table: Table) -> Table:
    """Divides rows that no rule divides but whose cells list values line by line."""
    cells: list[Cell] = []
    added = 0
    for row in range(table.rows):
        here = [cell for cell in table.cells if cell.row == row]
        lines = {id(cell): make_lines(cell.words) for cell in here}
        counts = [len(lines[id(cell)]) for cell in here if cell.words]
        most = max(counts, default=0)
        lists = [cell for cell in here if len(lines[id(cell)]) == most]
        values = [cell for cell in lists if all(is_number(line.text()) for line in lines[id(cell)])]
        divide = most >= 2 and len(lists) >= 2 and values and all(cell.rowspan == 1 for cell in here)
        if not divide:
            cells.extend(Cell(c.row + added, c.column, c.rowspan, c.colspan, c.words) for c in here)
            continue
        bases = [line.base for line in lines[id(values[0])]]
        for cell in here:
            parts: list[list[Word]] = [[] for _ in bases]
            for line in lines[id(cell)]:
                parts[min(range(most), key=lambda i: abs(bases[i] - line.base))].extend(line.words)
            cells.extend(
                Cell(row + added + i, cell.column, 1, cell.colspan, part) for i, part in enumerate(parts)
            )
        added += most - 1
    return Table(cells, table.rows + added, table.columns, table.x0, table.top, table.x1, table.bottom)


def _trimmed(table: Table) -> Table:
    """Without rows and columns that hold nothing, as double rules and thick borders make them."""
    rows = [
        n for n in range(table.rows) if any(c.row <= n < c.row + c.rowspan and c.words for c in table.cells)
    ]
    columns = [
        n
        for n in range(table.columns)
        if any(c.column <= n < c.column + c.colspan and c.words for c in table.cells)
    ]
    cells = []
    for cell in table.cells:
        high = [rows.index(n) for n in rows if cell.row <= n < cell.row + cell.rowspan]
        wide = [columns.index(n) for n in columns if cell.column <= n < cell.column + cell.colspan]
        if high and wide:
            cells.append(Cell(high[0], wide[0], len(high), len(wide), cell.words))
    return Table(cells, len(rows), len(columns), table.x0, table.top, table.x1, table.bottom)


def _stacks(rules: Sequence[Rule]) -> list[list[Rule]]:
    """Rules of the same extent above one another, from top to bottom."""
    stacks: list[list[Rule]] = []
    for rule in sorted(rules, key=lambda rule: rule.top):
        for stack in stacks:
            if abs(stack[0].x0 - rule.x0) < 4 and abs(stack[0].x1 - rule.x1) < 4 and rule.length > 40:
                stack.append(rule)
                break
        else:
            stacks.append([rule])
    return [stack for stack in stacks if len(stack) > 1]


def _between_rules(
    stack: Sequence[Rule], words: list[Word], rules: Sequence[Rule]
) -> tuple[list[Table], list[Word]]:
    """Tables between rules of one extent; paragraphs between two of them divide."""
    tables = []
    start = 0
    while start < len(stack) - 1:
        end = start
        while end + 1 < len(stack) and _is_tabular(_inside(words, stack[end], stack[end + 1])):
            end += 1
        inside = _inside(words, stack[start], stack[end])
        headed = end > start + 1 and len(rows_of(_inside(words, stack[start], stack[start + 1]))) <= 2
        table = _rows_table(inside, rules, headed=headed) if end > start else None
        if table is not None:
            table.top, table.bottom = stack[start].top, stack[end].bottom
            tables.append(table)
            taken = set(map(id, inside))
            words = [word for word in words if id(word) not in taken]
        start = max(end, start + 1)
    return tables, words


def _inside(words: Sequence[Word], upper: Rule, lower: Rule) -> list[Word]:
    return [word for word in words if _within(word, upper.x0 - 6, upper.top, upper.x1 + 6, lower.bottom)]


def _is_tabular(words: Sequence[Word]) -> bool:
    """Whether what stands between two rules may be rows of a table: nothing, or cells, not lines of prose."""
    rows = rows_of(words)
    if len(rows) <= 1:
        return True
    return 2 * sum(len(row.fragments) > 1 for row in rows) >= len(rows)


def _rows_table(words: Sequence[Word], rules: Sequence[Rule], *, headed: bool) -> Table | None:
    """The table between rules; `headed`: a rule runs under its first rows, so that cells may be prose."""
    rows = rows_of(words)
    columns = columns_of(rows)
    if len(columns) < 2 or len(rows) < 2:
        return None
    together = sum(len({place(f, columns)[0] for f in row.fragments}) >= 2 for row in rows)
    prose = sum(_is_running(column) for column in columns)
    spanning = sum(len(place(fragment, columns)) > 1 for row in rows for fragment in row.fragments)
    loose = 3 * spanning > sum(len(row.fragments) for row in rows)  # words on lined paper
    running = prose == len(columns) or (has_prose(rows, columns) and not headed)
    if together < 2 or 2 * together < len(rows) or running or loose:
        return None
    return assemble(rows, columns, rules)


def _is_running(column: Column) -> bool:
    words = [len(fragment.words) for fragment in column.fragments]
    return len(words) >= 4 and statistics.median(words) >= 5


def write_table(table: Table, form: TableForm, *, rtl: bool = False) -> str:
    """A table as text.

    Args:
        table: to write.
        form: `html`; `markdown`, which is HTML where cells span; `text`: rows as lines, cells between tabs.
        rtl: columns follow from right to left.
    """
    spans = any(cell.rowspan > 1 or cell.colspan > 1 for cell in table.cells)
    if form == "html" or (form == "markdown" and spans):
        return _html(table, rtl)
    rows = [["" for _ in range(table.columns)] for _ in range(table.rows)]
    for cell in table.cells:
        rows[cell.row][cell.column] = cell.text(rtl=rtl)
    if rtl:
        rows = [row[::-1] for row in rows]
    if form == "text":
        return "\n".join("\t".join(row).rstrip() for row in rows)
    lines = ["| " + " | ".join(text.replace("|", "\\|") for text in row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + " --- |" * table.columns, *lines[1:]])


def _html(table: Table, rtl: bool) -> str:
    covered = {
        (cell.row + i, cell.column + j): cell
        for cell in table.cells
        for i in range(cell.rowspan)
        for j in range(cell.colspan)
    }
    lines = ["<table>"]
    for row in range(table.rows):
        parts = []
        numbers = range(table.columns)
        for column in reversed(numbers) if rtl else numbers:
            cell = covered.get((row, column))
            if cell is None:
                parts.append("<td></td>")
            elif cell.row == row and column == (cell.column + cell.colspan - 1 if rtl else cell.column):
                high = f' rowspan="{cell.rowspan}"' if cell.rowspan > 1 else ""
                wide = f' colspan="{cell.colspan}"' if cell.colspan > 1 else ""
                parts.append(f"<td{high}{wide}>{html.escape(cell.text(rtl=rtl), quote=False)}</td>")
        lines.append("<tr>" + "".join(parts) + "</tr>")
    return "\n".join([*lines, "</table>"])
