"""Tables in HTML and Markdown become grids, however damaged; cells are scored by place and text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocrsmith.evaluation.metrics.tables import (
    MAX_AREA,
    MAX_CELLS,
    MAX_TEXT,
    CellScore,
    Table,
    parse_html_tables,
    parse_markdown_tables,
    score_cells,
    score_cells_all,
)

PIECES = st.sampled_from(
    (
        *(
            "<table>",
            "</table>",
            "<tr>",
            "</tr>",
            "<td>",
            "</td>",
            "<th colspan=2>",
            "<td rowspan='3'>",
            "</th>",
        ),
        *(
            "<thead>",
            "</thead>",
            "<tbody>",
            "<b>",
            "</b>",
            "<br/>",
            "&amp;",
            "<!--",
            "-->",
            "x",
            "  ",
            "<td",
            '"',
        ),
        *("中", "سلام", "|", "|---|---|\n", "| a | b |\n", "\n", "\\|", "<td colspan=99999>", "<", ">"),
        "\U0010f001",
    )
)
SOUP = st.lists(PIECES, max_size=30).map("".join)


def one(text: str) -> Table:
    tables = parse_html_tables(text)
    assert len(tables) == 1
    return tables[0]


def placed(table: Table) -> list[tuple[int, int, int, int, str]]:
    return [(cell.row, cell.column, cell.row_span, cell.column_span, cell.text) for cell in table.cells]


def test_spans_are_placed_as_browsers_do() -> None:
    table = one(
        "<table><tr><td rowspan='2'>A</td><td colspan=\"2\">B</td></tr><tr><td>C</td><td>D</td></tr></table>"
    )
    assert placed(table) == [(0, 0, 2, 1, "A"), (0, 1, 1, 2, "B"), (1, 1, 1, 1, "C"), (1, 2, 1, 1, "D")]
    assert (table.rows, table.columns, table.cut) == (2, 3, False)
    assert table.text == "A\tB\nC\tD"


@pytest.mark.parametrize(
    ("damaged", "expected"),
    [
        ("<table><tr><td>a<td>b<tr><td>c", "a\tb\nc"),  # nothing is closed
        ("<tr><td>a</td></tr>", "a"),  # no table
        ("<td>a</td><td>b</td>", "a\tb"),  # no row
        ("<table><td>a</td></tr><tr><td>b</td></table>", "a\nb"),
        ("<table><tr><td>a</td></tr></table></table></td>", "a"),
        ("<table><tr><td colspan='x' rowspan=-1>a</td></tr></table>", "a"),
        ("<table><tr><td>a < b & c &lt;d&gt; &#x4e2d;</td></tr></table>", "a < b & c <d> 中"),
        ("<TABLE><TR><TD CLASS='x>y'>a</TD></TR></TABLE>", "a"),
        ('<table><tr><td class="x>a</td></tr></table>', "a"),  # a quotation mark too few
        ("<table><tr><td>a<br>b<p>c</p></td></tr></table>", "a b c"),
        ("<table><tr><td><b>a</b>b<span>c</span></td></tr></table>", "abc"),
        ("<table><!-- <tr><td>no</td></tr> --><tr><td>a</td></tr></table>", "a"),
        ("<table><tr><td>x<table><tr><td>in</td></tr></table>y</td><td>z</td></tr></table>", "x in y\tz"),
        ("<table><caption>C</caption><tr><td>a</td></tr></table>", "a"),
        ("<table><tr><td>a</td></tr><tr><td", "a\n"),
    ],
)
def test_damaged_tables_are_read_as_far_as_they_go(damaged: str, expected: str) -> None:
    assert one(damaged).text.strip() == expected.strip()


def test_tables_follow_one_another_even_if_one_was_not_closed() -> None:
    text = "x<table><tr><td>a</td></tr>y<table><tr><td>b</td></tr></table><table></table>"
    assert [table.text for table in parse_html_tables(text)] == ["a", "b"]


def test_inline_tags_are_in_the_content_but_not_in_the_text() -> None:
    cell = one("<table><tr><td><b>a</b> b</td></tr></table>").cells[0]
    assert cell.text == "a b"
    assert len(cell.content) == len("a b") + 2


def test_sections_are_known() -> None:
    table = one(
        "<table><thead><tr><th>h</th></tr></thead><tbody><tr><td>a</td></tr><tr><td>b</td></tr></tbody>"
    )
    assert table.sections == (("thead", 0, 1), ("tbody", 1, 3))
    assert [cell.header for cell in table.cells] == [True, False, False]


def test_markdown_tables() -> None:
    text = "before\n\n| a | b |\n|:--|--:|\n| 1 | x\\|y |\n| 2 |\n| 3 | 4 | 5 |\n\nc | d\n-- | --\n中 | ك\nend"
    first, second = parse_markdown_tables(text)
    assert first.text == "a\tb\n1\tx|y\n2\t\n3\t4"
    assert first.sections == (("thead", 0, 1), ("tbody", 1, 4))
    assert second.text == "c\td\n中\tك"


@pytest.mark.parametrize("text", ["", "a | b", "a | b\n- x | y", "---|---", "|\n\n|", "a\n---\nb"])
def test_what_is_no_markdown_table(text: str) -> None:
    assert parse_markdown_tables(text) == []


@given(SOUP)
def test_any_soup_gives_a_consistent_grid(text: str) -> None:
    for table in [*parse_html_tables(text), *parse_markdown_tables(text)]:
        taken = set()
        for cell in table.cells:
            assert cell.row + cell.row_span <= table.rows
            assert cell.column + cell.column_span <= table.columns
            taken.add((cell.row, cell.column))
        assert len(taken) == len(table.cells)
        assert score_cells(table, table) == CellScore(len(table.cells), len(table.cells), len(table.cells))


@pytest.mark.parametrize(
    "text",
    [
        "<table>" * 20_000,
        "<table><tr><td>" * 20_000,
        "<td>" * (MAX_CELLS + 5),
        "<tr>" * 50_000 + "<td>a",
        "<thead>" * 5_000 + "<td>a",
        "<td colspan=1000 rowspan=1000>" * 2_000,
        "<table><tr>" + "<td rowspan=1000>x</td><tr>" * 2_000,
        "<td>" + "x" * (MAX_TEXT + 5),
        "<td " + "a='" * 20_000,
        "<td colspan=" + " " * 100_000 + ">a",
        "<" * 100_000 + "<!--" * 50_000,
        "<a" * 50_000 + "<td" + " " * 100_000,
        "&" * 100_000,
        "|-" * 30_000 + "\n" + "|-" * 30_000 + "\n" + "|" * 10_000,
        "a|\n-|" + " " * 100_000 + "x",
    ],
)
def test_hostile_tables_are_bounded(text: str) -> None:
    for table in [*parse_html_tables(text), *parse_markdown_tables(text)]:
        assert len(table.cells) <= MAX_CELLS
        assert sum(len(cell.text) for cell in table.cells) <= MAX_TEXT
        area = sum(cell.row_span * cell.column_span for cell in table.cells)
        assert area <= MAX_AREA + MAX_CELLS
        assert table.cut or (area < MAX_AREA and len(table.cells) < MAX_CELLS)


def grid(*rows: str) -> Table:
    cells = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row.split(",")) + "</tr>" for row in rows)
    return one(f"<table>{cells}</table>")


@pytest.mark.parametrize(
    ("read", "right"),
    [
        (grid("a,b", "c,d", "e,f"), 6),
        (grid("a,b", "c,x", "e,f"), 5),  # a wrong text
        (grid("a,b", "e,f"), 4),  # a row is missing
        (grid("a,b", "x,y", "c,d", "e,f"), 6),  # a row is made up
        (grid("a", "c", "e"), 3),  # a column is missing
        (grid("0,a,b", "0,c,d", "0,e,f"), 6),  # a column is made up
        (grid("e,f", "c,d", "a,b"), 2),  # rows in another order
        (grid("x,y"), 0),
    ],
)
def test_cells_count_in_aligned_rows_and_columns(read: Table, right: int) -> None:
    true = grid("a,b", "c,d", "e,f")
    score = score_cells(true, read)
    assert (score.right, score.reference, score.prediction) == (right, 6, len(read.cells))
    assert score.precision == right / len(read.cells)
    assert score.recall == right / 6
    assert score.f1 == pytest.approx(2 * right / (6 + len(read.cells)))


def test_a_cell_with_another_span_is_wrong() -> None:
    true = one("<table><tr><td colspan=2>a</td></tr><tr><td>b</td><td>c</td></tr></table>")
    read = one("<table><tr><td>a</td><td></td></tr><tr><td>b</td><td>c</td></tr></table>")
    assert score_cells(true, read) == CellScore(2, 3, 4)


def test_missing_and_invented_tables() -> None:
    table = grid("a,b")
    scores = score_cells_all([table, None, None], [None, table, None])
    assert scores == [CellScore(0, 2, 0), CellScore(0, 0, 2), CellScore(0, 0, 0)]
    assert [score.f1 for score in scores] == [0, 0, 1]
    assert sum(scores, CellScore(0, 0, 0)) == CellScore(0, 2, 2)


def test_markdown_and_html_of_the_same_table_are_equal() -> None:
    (table,) = parse_markdown_tables("| a | b |\n|---|---|\n| c | d |")
    assert score_cells(table, grid("a,b", "c,d")).f1 == 1


@given(SOUP, SOUP)
def test_cell_scores_are_shares_and_symmetric(first: str, second: str) -> None:
    true, read = (next(iter(parse_html_tables(text)), None) for text in (first, second))
    there, back = score_cells(true, read), score_cells(read, true)
    assert 0 <= there.f1 <= 1
    assert there.right <= min(there.reference, there.prediction)
    assert (there.reference, there.prediction) == (back.prediction, back.reference)


def test_very_long_tables_are_compared_by_number() -> None:
    table = grid(*(f"{number}" for number in range(1200)))
    assert score_cells(table, table).f1 == 1
