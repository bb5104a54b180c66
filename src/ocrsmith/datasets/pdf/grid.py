"""Tables drawn with rules: crossing lines to cells, missing lines to cells that span."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ocrsmith.datasets.pdf.page import Rule

NEAR = 3.0
"""Points within which two rules are one, or touch."""
_MOST_RULES = 6000
"""Pages with more are drawings."""


@dataclass(frozen=True, slots=True)
class Slot:
    """A cell of a grid: rows and columns from 0, and its place on the page."""

    row: int
    column: int
    rowspan: int
    colspan: int
    x0: float
    top: float
    x1: float
    bottom: float


@dataclass(frozen=True, slots=True)
class Grid:
    """The cells that rules make, from top left to bottom right."""

    xs: tuple[float, ...]
    """Where its lines from top to bottom stand, from left to right."""
    ys: tuple[float, ...]
    slots: tuple[Slot, ...]

    @property
    def rows(self) -> int:
        return len(self.ys) - 1

    @property
    def columns(self) -> int:
        return len(self.xs) - 1

    @property
    def box(self) -> tuple[float, float, float, float]:
        """(x0, top, x1, bottom)"""
        return self.xs[0], self.ys[0], self.xs[-1], self.ys[-1]

    def fields(self) -> dict[tuple[int, int], int]:
        """(row, column) → number of the slot that covers it."""
        return {
            (slot.row + i, slot.column + j): number
            for number, slot in enumerate(self.slots)
            for i in range(slot.rowspan)
            for j in range(slot.colspan)
        }

    def field_at(self, x: float, y: float) -> tuple[int, int]:
        """(row, column) of a place; the nearest one where it lies outside."""
        row = min(max(bisect(self.ys, y) - 1, 0), self.rows - 1)
        return row, min(max(bisect(self.xs, x) - 1, 0), self.columns - 1)


def find_grids(rules: Sequence[Rule]) -> list[Grid]:
    """Grids of at least two rows and two columns, from top to bottom."""
    if len(rules) > _MOST_RULES:
        return []
    across = _joined([(r.x0, r.x1, (r.top + r.bottom) / 2) for r in rules if r.horizontal])
    down = _joined([(r.top, r.bottom, (r.x0 + r.x1) / 2) for r in rules if not r.horizontal])
    grids = [grid for group in _crossing(across, down) if (grid := _grid(*group)) is not None]
    return sorted(grids, key=lambda grid: (grid.box[1], grid.box[0]))


def whole_rules(rules: Sequence[Rule]) -> list[Rule]:
    """Rules across the page, pieces of one line joined, from top to bottom."""
    pieces = [(rule.x0, rule.x1, (rule.top + rule.bottom) / 2) for rule in rules if rule.horizontal]
    return [Rule(x0, y, x1, y) for x0, x1, y in _joined(pieces)] if len(rules) <= _MOST_RULES else []


_Segment = tuple[float, float, float]
"""Start and end along its direction, and where it lies across."""


def _joined(segments: Iterable[_Segment]) -> list[_Segment]:
    """Pieces of one line, and lines drawn twice or as two edges of a thin box, as one."""
    joined: list[list[float]] = []
    for start, end, place in sorted(segments, key=lambda segment: (segment[2], segment[0])):
        met = None
        for other in reversed(joined):
            if place - other[2] > NEAR or met is not None:
                break
            met = other if start <= other[1] + NEAR and end >= other[0] - NEAR else None
        if met is None:
            joined.append([start, end, place])
        else:
            met[0], met[1] = min(met[0], start), max(met[1], end)
    return [(start, end, place) for start, end, place in joined if end - start > 2 * NEAR]


def _crossing(across: list[_Segment], down: list[_Segment]) -> list[tuple[list[_Segment], list[_Segment]]]:
    """Groups of lines that hang together by crossings."""
    parent = list(range(len(across) + len(down)))

    def root(item: int) -> int:
        while parent[item] != item:
            parent[item] = parent[parent[item]]
            item = parent[item]
        return item

    for i, (x0, x1, y) in enumerate(across):
        for j, (y0, y1, x) in enumerate(down):
            if x0 - NEAR <= x <= x1 + NEAR and y0 - NEAR <= y <= y1 + NEAR:
                parent[root(i)] = root(len(across) + j)
    groups: dict[int, tuple[list[_Segment], list[_Segment]]] = {}
    for i, segment in enumerate(across):
        groups.setdefault(root(i), ([], []))[0].append(segment)
    for j, segment in enumerate(down):
        groups.setdefault(root(len(across) + j), ([], []))[1].append(segment)
    return list(groups.values())


def _grid(across: list[_Segment], down: list[_Segment]) -> Grid | None:
    if not across or not down:
        return None
    across, down = _closed(across, down)
    xs, ys = _places(segment[2] for segment in down), _places(segment[2] for segment in across)
    rows, columns = len(ys) - 1, len(xs) - 1
    if rows < 2 or columns < 2 or rows * columns > 20_000:
        return None
    slots = _slots(xs, ys, across, down)
    if len({slot.row for slot in slots}) < 2 or len({slot.column for slot in slots}) < 2:
        return None
    return Grid(tuple(xs), tuple(ys), tuple(slots))


def _closed(across: list[_Segment], down: list[_Segment]) -> tuple[list[_Segment], list[_Segment]]:
    """Adds the outer lines that a table open at its sides, or above and below, does without."""
    left, right = min(s[0] for s in across), max(s[1] for s in across)
    top, bottom = min(s[0] for s in down), max(s[1] for s in down)
    sides = [(top, bottom, x) for x in (left, right) if all(abs(x - s[2]) > 2 * NEAR for s in down)]
    ends = [(left, right, y) for y in (top, bottom) if all(abs(y - s[2]) > 2 * NEAR for s in across)]
    return across + ends, down + sides


def _places(values: Iterable[float]) -> list[float]:
    """Values in order, those close together once."""
    kept: list[float] = []
    for value in sorted(values):
        if not kept or value - kept[-1] > NEAR:
            kept.append(value)
    return kept


def _slots(xs: list[float], ys: list[float], across: list[_Segment], down: list[_Segment]) -> list[Slot]:
    """Cells from top left to bottom right; fields without a line between are one, if a rectangle."""
    rows, columns = len(ys) - 1, len(xs) - 1
    below = [[_drawn(across, ys[r + 1], xs[c], xs[c + 1]) for c in range(columns)] for r in range(rows)]
    beside = [[_drawn(down, xs[c + 1], ys[r], ys[r + 1]) for c in range(columns)] for r in range(rows)]
    taken: set[tuple[int, int]] = set()
    slots = []
    for row in range(rows):
        for column in range(columns):
            if (row, column) in taken:
                continue
            wide, high = 1, 1
            while column + wide < columns and not beside[row][column + wide - 1]:
                if (row, column + wide) in taken:
                    break
                wide += 1
            while row + high < rows and all(
                not below[row + high - 1][c] and (c == column + wide - 1 or not beside[row + high][c])
                for c in range(column, column + wide)
            ):
                high += 1
            taken.update((r, c) for r in range(row, row + high) for c in range(column, column + wide))
            slots.append(Slot(row, column, high, wide, xs[column], ys[row], xs[column + wide], ys[row + high]))
    return slots


def _drawn(lines: list[_Segment], place: float, start: float, end: float) -> bool:
    """Whether a line runs at a place over most of the way from start to end."""
    way = sum(
        max(0.0, min(segment[1], end) - max(segment[0], start))
        for segment in lines
        if abs(segment[2] - place) <= NEAR
    )
    return way >= 0.6 * (end - start)
