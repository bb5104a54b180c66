"""TEDS: likeness of tables by the edit distance between their trees, as PubTabNet defines it.

Definition (Zhong, ShafieiBavani and Jimeno Yepes, 2020): a table is a tree `table` → `thead`/`tbody` → `tr` →
`td`. Inserting or deleting a node costs 1. Renaming costs 1 if tags, colspans or rowspans differ; between cells
with the same spans it costs the normalised edit distance of their content, in which an inline tag (`<b>`) is
one character. TEDS = 1 - distance / elements below `table` in the larger table, not below 0; inline elements
count among the elements, as in PubTabNet's own programme. TEDS-structure takes every cell for empty.

Where this differs from that programme: `th` counts as `td`, since models mix the two; runs of white space in a
cell are one space, none at its ends (there, `<td> </td>` is not `<td></td>`); structure does not count inline
elements. Sections count as they were written, and `sections=False` leaves them out on both sides, for models
that never write them. A Markdown table has a `thead` and a `tbody`.

Above `MAX_NODES` nodes, the first so many nodes of each tree are compared and the rest counts as wrong, so the
figure is at most the true one; a table that is wholly right still scores 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from rapidfuzz import process
from rapidfuzz.distance import Levenshtein

from ocrsmith.evaluation.metrics.tables import Cell, Table, elements_within

MAX_NODES = 2000
"""Nodes of a tree that are compared: memory and time grow with the square, to some 200 MB and seconds."""

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Teds:
    """Likeness of two tables, 0 to 1."""

    teds: float
    """With what the cells say."""
    structure: float
    """Rows, cells and spans alone."""


def score_teds(reference: Table | None, prediction: Table | None, *, sections: bool = True) -> Teds:
    """TEDS and TEDS-structure of a table.

    Args:
        reference: the true table; None for one that was made up.
        prediction: what was read; None for a table that is missing.
        sections: whether `thead`, `tbody` and `tfoot` count.
    """
    if reference == prediction:
        return Teds(1.0, 1.0)
    if reference is None or prediction is None:
        return Teds(0.0, 0.0)
    true, read = _Tree.of(reference, sections), _Tree.of(prediction, sections)
    return Teds(_likeness(true, read), _likeness(true.emptied(), read.emptied()))


def score_teds_all(
    references: Sequence[Table | None], predictions: Sequence[Table | None], *, sections: bool = True
) -> list[Teds]:
    """`score_teds` of each pair. Raises ValueError on unequal numbers."""
    pairs = zip(references, predictions, strict=True)
    return [score_teds(true, read, sections=sections) for true, read in pairs]


@dataclass(frozen=True, slots=True)
class _Tree:
    """A table's tree, its nodes in postorder: children before their parent."""

    labels: tuple[tuple[str, int, int], ...]
    """Tag, colspan, rowspan."""
    contents: tuple[str, ...]
    leftmost: tuple[int, ...]
    """Of each node, the first node of its subtree."""
    depths: tuple[int, ...]
    left_out: int
    """Nodes beyond `MAX_NODES`."""
    inline: int
    """Inline elements, those in nodes left out among them."""

    @classmethod
    def of(cls, table: Table, sections: bool) -> _Tree:
        by_row: list[list[Cell]] = [[] for _ in range(table.rows)]
        for cell in table.cells:
            by_row[cell.row].append(cell)
        written = table.sections if sections else ()
        rows = _beginning(by_row, MAX_NODES - 1 - len(written))
        nodes = _Nodes()
        done = 0
        for name, start, end in written:
            nodes.add_rows(rows[done:start], depth=1)
            first = nodes.count
            nodes.add_rows(rows[start:end], depth=2)
            nodes.add((name, 1, 1), "", first, 1)
            done = end
        nodes.add_rows(rows[done:], depth=1)
        nodes.add(("table", 1, 1), "", 0, 0)
        left_out = 1 + len(written) + table.rows + len(table.cells) - nodes.count
        inline = sum(elements_within(cell.content) for cell in table.cells)
        return cls(
            labels=tuple(nodes.labels),
            contents=tuple(nodes.contents),
            leftmost=tuple(nodes.leftmost),
            depths=tuple(nodes.depths),
            left_out=left_out,
            inline=inline,
        )

    @property
    def elements(self) -> int:
        """Elements below `table`."""
        return len(self.labels) - 1 + self.left_out + self.inline

    def emptied(self) -> _Tree:
        """With nothing in the cells."""
        return replace(self, contents=("",) * len(self.contents), inline=0)


def _beginning(rows: list[list[Cell]], nodes: int) -> list[list[Cell]]:
    """The first rows, the last one of them perhaps in part, with so many rows and cells together."""
    kept = []
    for row in rows:
        if nodes <= 0:
            break
        kept.append(row[: nodes - 1])
        nodes -= 1 + len(kept[-1])
    return kept


class _Nodes:
    """Nodes in the making."""

    def __init__(self) -> None:
        self.labels: list[tuple[str, int, int]] = []
        self.contents: list[str] = []
        self.leftmost: list[int] = []
        self.depths: list[int] = []

    @property
    def count(self) -> int:
        return len(self.labels)

    def add(self, label: tuple[str, int, int], content: str, first: int, depth: int) -> None:
        self.leftmost.append(first)
        self.labels.append(label)
        self.contents.append(content)
        self.depths.append(depth)

    def add_rows(self, rows: list[list[Cell]], depth: int) -> None:
        for row in rows:
            first = self.count
            for cell in row:
                label = ("td", cell.column_span, cell.row_span)
                self.add(label, cell.content, self.count, depth + 1)
            self.add(("tr", 1, 1), "", first, depth)


def _likeness(true: _Tree, read: _Tree) -> float:
    if true == read and not true.left_out:
        return 1.0
    distance = tree_distance(true, read) + true.left_out + read.left_out
    return max(0.0, 1 - distance / max(true.elements, read.elements, 1))


# --- the distance ---------------------------------------------------------------------------------------------


def tree_distance(true: _Tree, read: _Tree) -> float:
    """Least cost of the edits that turn one tree into the other.

    After Zhang and Shasha (1989): for every two keyroots (nodes with a sibling to their left, and the root),
    the distances of all beginnings of their forests. Here a row of the first tree is compared with all
    keyroots of the second that lie equally deep, at a time: their subtrees do not overlap.
    """
    renaming = _renaming(true, read)
    trees = np.zeros_like(renaming)  # between the subtrees of every two nodes
    levels = [_Level.of(read, depth) for depth in sorted(set(read.depths), reverse=True)]
    left = true.leftmost
    for root in _keyroots(true):
        first = left[root]
        rows = [np.empty((root - first + 2, level.size)) for level in levels]
        for forest, level in zip(rows, levels, strict=True):
            forest[0] = level.place
        for node in range(first, root + 1):
            row = node - first + 1
            whole = left[node] == first  # the forest before this node's subtree is empty
            for forest, level in zip(rows, levels, strict=True):
                level.fill(forest, row, left[node] - first, trees[node], renaming[node] if whole else None)
    return float(trees[-1, -1])


@dataclass(frozen=True, slots=True)
class _Level:
    """The keyroots of a tree that lie equally deep, their subtrees one after the other, each after an empty
    place that stands for the empty forest."""

    size: int
    place: Floats
    """Of each place, its number within its subtree: what inserting all nodes up to it costs."""
    slope: Floats
    """`place`, and for each subtree so much more that a least value up to a place never comes from before."""
    filled: Ints
    """The places of nodes."""
    nodes: Ints
    """Their nodes."""
    before: Ints
    """The places of the forests before the nodes' subtrees."""
    whole: npt.NDArray[np.bool_]
    """Whether that forest is empty."""

    @classmethod
    def of(cls, tree: _Tree, depth: int) -> _Level:
        steep = 2.0 * MAX_NODES + 4
        place: list[int] = []
        slope, filled, nodes, before = [], [], [], []
        for number, root in enumerate(key for key in _keyroots(tree) if tree.depths[key] == depth):
            start, first = len(place), tree.leftmost[root]
            for step in range(root - first + 2):
                place.append(step)
                slope.append(step + steep * number)
            for node in range(first, root + 1):
                filled.append(start + node - first + 1)
                nodes.append(node)
                before.append(start + tree.leftmost[node] - first)
        return cls(
            size=len(place),
            place=np.array(place, np.float64),
            slope=np.array(slope, np.float64),
            filled=np.array(filled, np.int64),
            nodes=np.array(nodes, np.int64),
            before=np.array(before, np.int64),
            whole=np.array([place[spot] == 0 for spot in before], np.bool_),
        )

    def fill(self, forest: Floats, row: int, before: int, trees: Floats, renaming: Floats | None) -> None:
        """Row `row` of the forest distances; where both forests are one tree, `trees` gets their distance.

        `renaming`: of the node, where its forest is one tree; else None. `before`: the row without its subtree.
        """
        above = forest[row - 1]
        values = above + 1
        replaced = forest[before][self.before] + trees[self.nodes]
        if renaming is not None:
            renamed = above[self.filled - 1] + renaming[self.nodes]
            replaced = np.where(self.whole, renamed, replaced)
        values[self.filled] = np.minimum(values[self.filled], replaced)
        forest[row] = np.minimum.accumulate(values - self.slope) + self.slope
        if renaming is not None:
            trees[self.nodes[self.whole]] = forest[row][self.filled[self.whole]]


def _keyroots(tree: _Tree) -> list[int]:
    """The last node of each leftmost leaf, ascending."""
    return sorted({leaf: node for node, leaf in enumerate(tree.leftmost)}.values())


def _renaming(true: _Tree, read: _Tree) -> Floats:
    """What renaming each node into each costs."""
    numbers = {label: number for number, label in enumerate({*true.labels, *read.labels})}
    first, second = (np.array([numbers[label] for label in tree.labels]) for tree in (true, read))
    cost = (first[:, None] != second[None, :]).astype(np.float64)
    cells = [np.flatnonzero([label[0] == "td" for label in tree.labels]) for tree in (true, read)]
    if not (any(true.contents) or any(read.contents)) or not (len(cells[0]) and len(cells[1])):
        return cost
    known, places = [], []
    for tree, own in zip((true, read), cells, strict=True):
        texts = {text: number for number, text in enumerate(dict.fromkeys(tree.contents[n] for n in own))}
        known.append(list(texts))
        places.append([texts[tree.contents[node]] for node in own])
    content = process.cdist(*known, scorer=Levenshtein.normalized_distance, dtype=np.float64)
    block = np.ix_(cells[0], cells[1])
    cost[block] = np.maximum(cost[block], content[np.ix_(*places)])
    return cost
