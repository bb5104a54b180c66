"""Tables found in a page's text, with their rows."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocrsmith.reading.tables import find_tables


def cells(text: str) -> list[list[tuple[str, ...]]]:
    return [[row.cells for row in table.rows] for table in find_tables(text)]


def test_html_tables_have_rows_of_cells_where_they_stand() -> None:
    text = (
        "before <table><tr><th>a  b</th><th>&amp;</th></tr>\n<tr><td>1</td><td><b>2</b></td></tr></table> end"
    )
    (table,) = find_tables(text)
    assert text[table.start : table.end].startswith("<table>")
    assert text[table.more_at :] == "</table> end"
    assert [row.cells for row in table.rows] == [("a b", "&"), ("1", "2")]
    assert [row.header for row in table.rows] == [True, False]
    assert text[table.rows[1].start : table.rows[1].end] == "<tr><td>1</td><td><b>2</b></td></tr>"
    assert table.plain
    assert table.columns == 2


@pytest.mark.parametrize(
    ("rows", "columns", "is_open"),
    [
        ('<tr><td colspan="2">a</td><td>b</td></tr>', 3, False),
        ("<tr><td rowspan=2>a</td><td>b</td></tr><tr><td>c</td></tr>", 2, False),
        ("<tr><td rowspan=3>a</td><td>b</td></tr><tr><td>c</td></tr>", 2, True),
        ("<tr><td colspan=999999>a</td></tr>", 1000, False),
        ("<tr><td colspan=0>a</td></tr>", 1, False),
    ],
)
def test_spans_count(rows: str, columns: int, is_open: bool) -> None:
    (table,) = find_tables(f"<table>{rows}</table>")
    assert table.columns == columns
    assert table.rows[-1].open == is_open


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<table><tr><td>a<td>b<tr><td>c</table>", [[("a", "b"), ("c",)]]),
        ("<TABLE border=1><TR><TD>a</TD></TR></TABLE>", [[("a",)]]),
        ("<table><tr><td><table><tr><td>x</td></tr></table></td></tr></table>", []),
        ("<table><tr><td>never closed", []),
        ("</table><table></table>", [[]]),
        ("| a | b |\n|---|:-:|\n| 1 | 2 |\n| 3 \\| 4 | 5 |\n\nend", [[("a", "b"), ("1", "2"), ("3 | 4", "5")]]),
        ("a | b\n--|--\n1 | 2", [[("a", "b"), ("1", "2")]]),
        ("| a |\n|---|\n| 1 |", [[("a",), ("1",)]]),
        ("title\n-----\n| a | b |", []),
        ("| a | b |\n| 1 | 2 |", []),
    ],
)
def test_damaged_and_markdown_tables(text: str, expected: list[list[tuple[str, ...]]]) -> None:
    assert cells(text) == expected


@pytest.mark.parametrize("extra", ["<caption>Table 2</caption>", "stray words", "<colgroup><col></colgroup>"])
def test_a_table_with_more_than_rows_is_not_plain(extra: str) -> None:
    (table,) = find_tables(f"<table>{extra}<tr><td>a</td></tr></table>")
    assert not table.plain


@given(st.text(alphabet="<>/tabledrh| -:\n\\", max_size=200))
def test_nothing_breaks_it(text: str) -> None:
    for table in find_tables(text):
        assert 0 <= table.start < table.end <= len(text)


@pytest.mark.parametrize(
    "piece", ["<table", "<table>", "<table><tr><td", "<td ", "|", "|-", "\\|", "<td colspan="]
)
def test_text_made_to_be_slow_is_not(piece: str) -> None:
    find_tables(piece * 20_000)
