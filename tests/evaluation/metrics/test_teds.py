"""TEDS against the package apted on random trees, by hand, and by its laws."""

from __future__ import annotations

from typing import Any

import pytest
from apted import APTED, Config
from hypothesis import given, settings
from hypothesis import strategies as st
from rapidfuzz.distance import Levenshtein

from ocrsmith.evaluation.metrics.tables import Table, elements_within, parse_html_tables, parse_markdown_tables
from ocrsmith.evaluation.metrics.teds import MAX_NODES, Teds, score_teds, score_teds_all

CELL = st.builds(
    lambda tag, spans, text: f"<{tag}{spans}>{text}</{tag}>",
    st.sampled_from(["td", "td", "th"]),
    st.sampled_from(["", "", " colspan=2", " rowspan=2"]),
    st.sampled_from(["", "a", "ab", "12", "中文", "<b>a</b>", "سلام", "👩‍💻", "x<sup>2</sup>"]),
)
ROW = st.lists(CELL, max_size=4).map(lambda cells: "<tr>" + "".join(cells) + "</tr>")
ROWS = st.lists(ROW, max_size=4).map("".join)
TABLE = st.one_of(
    ROWS,
    st.tuples(ROWS, ROWS).map(lambda parts: f"<thead>{parts[0]}</thead><tbody>{parts[1]}</tbody>"),
    st.tuples(ROWS, ROWS).map(lambda parts: f"{parts[0]}<tbody>{parts[1]}</tbody>"),
).map(lambda rows: next(iter(parse_html_tables(f"<table>{rows}</table>")), Table((), 0, 0)))


class Node:
    """A tree as apted takes it."""

    def __init__(self, label: tuple[Any, ...], content: str, children: list[Node]) -> None:
        self.label, self.content, self.children = label, content, children


class TedsConfig(Config):
    """PubTabNet's costs."""

    def rename(self, first: Node, second: Node) -> float:
        if first.label != second.label:
            return 1.0
        return Levenshtein.normalized_distance(first.content, second.content)


def tree(table: Table, *, empty: bool) -> tuple[Node, int]:
    rows = [Node(("tr",), "", []) for _ in range(table.rows)]
    elements = table.rows + len(table.cells) + len(table.sections)
    for cell in table.cells:
        label = ("td", cell.column_span, cell.row_span)
        rows[cell.row].children.append(Node(label, "" if empty else cell.content, []))
        elements += 0 if empty else elements_within(cell.content)
    children, done = [], 0
    for name, start, end in table.sections:
        children += [*rows[done:start], Node((name,), "", rows[start:end])]
        done = end
    return Node(("table",), "", children + rows[done:]), elements


def oracle(true: Table, read: Table, *, empty: bool) -> float:
    (first, n), (second, m) = tree(true, empty=empty), tree(read, empty=empty)
    return 1 - APTED(first, second, TedsConfig()).compute_edit_distance() / max(n, m, 1)


@settings(max_examples=200, deadline=None)
@given(TABLE, TABLE)
def test_teds_is_that_of_apted(true: Table, read: Table) -> None:
    score = score_teds(true, read)
    assert score.teds == pytest.approx(oracle(true, read, empty=False), abs=1e-9)
    assert score.structure == pytest.approx(oracle(true, read, empty=True), abs=1e-9)


@given(TABLE, TABLE)
def test_teds_is_a_symmetric_share(true: Table, read: Table) -> None:
    score, back = score_teds(true, read), score_teds(read, true)
    assert 0 <= score.teds <= 1
    assert 0 <= score.structure <= 1
    assert (score.teds, score.structure) == pytest.approx((back.teds, back.structure))
    assert score_teds(true, true) == Teds(1, 1)


def html(rows: str) -> Table:
    return parse_html_tables(f"<table>{rows}</table>")[0]


@pytest.mark.parametrize(
    ("true", "read", "teds", "structure"),
    [
        # 6 elements: 2 rows, 4 cells
        ("<tr><td>a<td>b<tr><td>c<td>d", "<tr><td>a<td>b<tr><td>c<td>d", 1, 1),
        ("<tr><td>a<td>b<tr><td>c<td>d", "<tr><td>a<td>b<tr><td>c<td>x", 1 - 1 / 6, 1),
        ("<tr><td>a<td>b<tr><td>c<td>dd", "<tr><td>a<td>b<tr><td>c<td>d", 1 - 0.5 / 6, 1),
        ("<tr><td>a<td>b<tr><td>c<td>d", "<tr><td>a<td>b<tr><td>c", 1 - 1 / 6, 1 - 1 / 6),
        ("<tr><td>a<td>b<tr><td>c<td>d", "<tr><td>a<td>b", 1 - 3 / 6, 1 - 3 / 6),
        ("<tr><td colspan=2>a<tr><td>c<td>d", "<tr><td>a<tr><td>c<td>d", 1 - 1 / 5, 1 - 1 / 5),
        ("<tr><th>a<tr><td>c", "<tr><td>a<tr><td>c", 1, 1),  # th is td
        ("<tr><td><b>a</b>", "<tr><td>a", 1 - (2 / 3) / 3, 1),  # 3 elements with b; content b, a, /b against a
        ("<thead><tr><td>a</thead>", "<tr><td>a", 1 - 1 / 3, 1 - 1 / 3),
    ],
)
def test_teds_by_hand(true: str, read: str, teds: float, structure: float) -> None:
    score = score_teds(html(true), html(read))
    assert (score.teds, score.structure) == pytest.approx((teds, structure))


def test_sections_may_be_left_out() -> None:
    (markdown,) = parse_markdown_tables("| a | b |\n|---|---|\n| c | d |")
    plain = html("<tr><td>a<td>b<tr><td>c<td>d")
    assert score_teds(markdown, plain).teds == pytest.approx(1 - 2 / 8)
    assert score_teds(markdown, plain, sections=False) == Teds(1, 1)


def test_missing_and_invented_tables() -> None:
    table = html("<tr><td>a")
    assert score_teds_all([table, None, None], [None, table, None]) == [Teds(0, 0), Teds(0, 0), Teds(1, 1)]


def test_beyond_the_bound_the_rest_counts_as_wrong() -> None:
    row = "<tr><td>a<td>b<td>c"
    large = html(row * (MAX_NODES // 2))
    assert score_teds(large, large) == Teds(1, 1)
    other = score_teds(large, html(row * (MAX_NODES // 2) + "<tr><td>x"))
    assert 0 <= other.teds < 1
    small = score_teds(html(row), large)
    assert 0 <= small.teds <= small.structure < 0.01
    wide = html("<tr>" + "<td>a" * (MAX_NODES + 10))
    assert score_teds(wide, html("<tr><td>a")).teds < 0.01
