"""Tables: drawn with rules, between rules, by alignment alone; and what is none."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ocrsmith.datasets.pdf.grid import find_grids
from ocrsmith.datasets.pdf.page import Rule

from .typeset import OTHER, STORY, Sheet

XS, YS = (72, 172, 272, 372), (100, 120, 140, 160)


def grid(sheet: Sheet, xs: tuple[float, ...] = XS, ys: tuple[float, ...] = YS) -> None:
    for x in xs:
        sheet.rule(x, ys[0], x, ys[-1])
    for y in ys:
        sheet.rule(xs[0], y, xs[-1], y)


def rows(*texts: str) -> str:
    """An HTML table: a string a row, cells between bars."""
    lines = ["<tr>" + "".join(f"<td>{cell}</td>" for cell in text.split("|")) + "</tr>" for text in texts]
    return "\n".join(["<table>", *lines, "</table>"])


def test_a_ruled_table() -> None:
    sheet = Sheet()
    grid(sheet)
    for row in range(3):
        for column in range(3):
            sheet.text(XS[column] + 4, YS[row] + 14, f"{'abc'[column]}{row} & <x>")
    lines = sheet.markdown().splitlines()
    assert (
        lines[1] == "<tr><td>a0 &amp; &lt;x&gt;</td><td>b0 &amp; &lt;x&gt;</td><td>c0 &amp; &lt;x&gt;</td></tr>"
    )
    assert (lines[0], lines[-1], len(lines)) == ("<table>", "</table>", 5)


def test_missing_rules_make_cells_that_span() -> None:
    sheet = Sheet()
    for y in (100, 140, 160):
        sheet.rule(72, y, 372, y)
    sheet.rule(172, 120, 372, 120)  # the first column's head is two rows high
    for x in (72, 172, 372):
        sheet.rule(x, 100, x, 160)
    sheet.rule(272, 120, 272, 160)  # the head of the other two is one cell
    sheet.text(80, 125, "Name")
    sheet.text(230, 114, "Flow")
    sheet.text(180, 134, "least")
    sheet.text(280, 134, "most")
    for x, text in ((80, "North"), (180, "12"), (280, "340")):
        sheet.text(x, 154, text)
    assert sheet.markdown() == (
        '<table>\n<tr><td rowspan="2">Name</td><td colspan="2">Flow</td></tr>\n'
        "<tr><td>least</td><td>most</td></tr>\n"
        "<tr><td>North</td><td>12</td><td>340</td></tr>\n</table>"
    )


def test_a_table_open_at_its_sides() -> None:
    sheet = Sheet()
    for y in YS:
        sheet.rule(72, y, 372, y)
    for x in (172, 272):
        sheet.rule(x, 100, x, 160)
    for row in range(3):
        for column in range(3):
            sheet.text(XS[column] + 4, YS[row] + 14, f"{column}{row}")
    assert sheet.markdown() == rows("00|10|20", "01|11|21", "02|12|22")


def test_lines_of_a_cell_are_joined_and_dehyphenated() -> None:
    sheet = Sheet()
    grid(sheet, ys=(100, 140, 160, 180))
    sheet.text(76, 114, "the mea-")
    sheet.text(76, 128, "surement")
    sheet.text(180, 120, "5")
    sheet.text(80, 154, "x")
    sheet.text(180, 154, "6")
    assert "<td>the measurement</td><td>5</td>" in sheet.markdown()


def test_rows_without_rules_between_them_in_a_ruled_frame() -> None:
    sheet = Sheet()
    grid(sheet, ys=(100, 120, 180))
    for column, text in enumerate(("name", "first", "second")):
        sheet.text(XS[column] + 4, 114, text)
    for row, name in enumerate(("north", "south", "east")):
        sheet.text(76, 134 + 14 * row, name)
        sheet.text(180, 134 + 14 * row, str(10 + row))
        sheet.text(280, 134 + 14 * row, str(20 + row))
    assert sheet.markdown() == rows("name|first|second", "north|10|20", "south|11|21", "east|12|22")


def test_a_table_between_rules_as_printed_in_journals() -> None:
    sheet = Sheet()
    for y in (100, 118, 180):
        sheet.rule(72, y, 420, y)
    cells = [
        ("Source", "Type", "Tokens"),
        ("Web", "pages", "3.7"),
        ("Code", "files", "83.0"),
        ("Books", "text", "5"),
    ]
    for row, texts in enumerate(cells):
        for x, text in zip((76, 200, 330), texts, strict=True):
            sheet.text(x, 112 + 20 * row, text)
    assert sheet.markdown() == rows(*map("|".join, cells))


def test_a_heading_over_two_columns_by_the_rule_under_it() -> None:
    sheet = Sheet()
    for y in (100, 180):
        sheet.rule(72, y, 420, y)
    sheet.text(270, 112, "Year ended")
    sheet.rule(200, 116, 420, 116)
    cells = [("", "2023", "2024"), ("Sales", "1,136", "876"), ("Costs", "178", "141")]
    for row, texts in enumerate(cells):
        for x, text in zip((76, 210, 350), texts, strict=True):
            sheet.text(x, 130 + 16 * row, text)
    assert '<td></td><td colspan="2">Year ended</td>' in sheet.markdown()


def test_turned_headings_stand_over_their_columns() -> None:
    sheet = Sheet()
    for y in (60, 118, 180):
        sheet.rule(72, y, 420, y)
    sheet.text(76, 112, "Task")
    for x, text in ((205, "Procedure"), (305, "Completion")):
        sheet.text(x, 112, text, angle=45)
    for row, texts in enumerate([("walk", "0.1", "0.2"), ("run", "0.3", "0.4"), ("swim", "0.5", "0.6")]):
        for x, text in zip((76, 200, 300), texts, strict=True):
            sheet.text(x, 134 + 16 * row, text)
    assert sheet.markdown().splitlines()[1] == "<tr><td>Task</td><td>Procedure</td><td>Completion</td></tr>"


def numbers(sheet: Sheet, top: float = 100) -> None:
    for row, texts in enumerate(
        [
            ("Miller", "Rome", "12.50"),
            ("Smith", "New York", "1,200.00"),
            ("Jones", "Oslo", "3.10"),
            ("Lee", "Seoul", "8"),
        ]
    ):
        for x, text in zip((72, 220, 400), texts, strict=True):
            sheet.text(x, top + 14 * row, text)


def test_a_table_without_any_rule() -> None:
    sheet = Sheet()
    sheet.prose(72, 60, 400, STORY)
    numbers(sheet, 160)
    sheet.prose(72, 260, 400, OTHER)
    table = rows("Miller|Rome|12.50", "Smith|New York|1,200.00", "Jones|Oslo|3.10", "Lee|Seoul|8")
    assert sheet.markdown() == f"{STORY}\n\n{table}\n\n{OTHER}"


def test_a_table_in_one_of_two_columns() -> None:
    sheet = Sheet()
    end = sheet.prose(72, 100, 225, STORY)
    for row, texts in enumerate(
        [("north", "12", "340"), ("south", "7", "95"), ("east", "1", "20"), ("west", "3", "9")]
    ):
        for x, text in zip((80, 160, 240), texts, strict=True):
            sheet.text(x, end + 14 + 13 * row, text)
    sheet.prose(320, 100, 220, OTHER + " " + STORY)
    text = sheet.markdown()
    assert rows("north|12|340", "south|7|95", "east|1|20", "west|3|9") in text
    assert f"{OTHER} {STORY}" in text


def test_currency_signs_belong_to_their_numbers() -> None:
    sheet = Sheet()
    for row, texts in enumerate(
        [("Cost", "$", "178"), ("Sum", "$", "4,737"), ("Rest", "$", "1"), ("All", "$", "20")]
    ):
        for x, text in zip((72, 250, 300), texts, strict=True):
            sheet.text(x, 100 + 14 * row, text)
    assert sheet.markdown() == rows("Cost|$ 178", "Sum|$ 4,737", "Rest|$ 1", "All|$ 20")


def test_dots_that_lead_to_a_number_are_no_text() -> None:
    sheet = Sheet()
    for row, (name, number) in enumerate(
        [("Algeria", "33 003"), ("Benin", "7 606"), ("Chad", "9 311"), ("Mali", "11")]
    ):
        sheet.text(72, 100 + 14 * row, name)
        sheet.text(72 + 50, 100 + 14 * row, " . . . . . . . . . . . . . . . .")
        sheet.text(300, 100 + 14 * row, number)
    assert sheet.markdown() == rows("Algeria|33 003", "Benin|7 606", "Chad|9 311", "Mali|11")


def test_a_cell_of_two_lines_is_one_row() -> None:
    sheet = Sheet()
    numbers(sheet)
    sheet.text(72, 106, "and sons", 6)
    assert "<tr><td>Miller and sons</td><td>Rome</td><td>12.50</td></tr>" in sheet.markdown()


@pytest.mark.parametrize("gap", [12, 20, 40])
def test_two_columns_of_prose_are_no_table(gap: int) -> None:
    sheet = Sheet()
    sheet.prose(72, 100, 225, STORY)
    sheet.prose(72 + 225 + gap, 100, 225, OTHER)
    assert "<table>" not in sheet.markdown()


def test_paragraphs_between_rules_are_no_table() -> None:
    sheet = Sheet()
    sheet.rule(72, 90, 472, 90)
    end = sheet.prose(72, 104, 400, STORY)
    sheet.rule(72, end, 472, end)
    sheet.prose(72, end + 20, 400, OTHER)
    assert sheet.markdown() == f"{STORY}\n\n{OTHER}"


def test_a_frame_around_a_paragraph_is_no_table() -> None:
    sheet = Sheet()
    sheet.box(60, 80, 500, 200)
    sheet.prose(72, 104, 400, STORY)
    assert sheet.markdown() == STORY


def test_the_net_of_a_diagram_is_no_table() -> None:
    sheet = Sheet()
    ticks = tuple(range(100, 301, 20))
    grid(sheet, ticks, ticks)
    sheet.text(150, 150, "peak")
    sheet.text(250, 250, "low")
    assert "<table>" not in sheet.markdown()


def test_markdown_tables_where_nothing_spans() -> None:
    sheet = Sheet()
    numbers(sheet)
    sheet.text(250, 142, " | x")
    assert sheet.markdown(tables="markdown").splitlines()[:3] == [
        "| Miller | Rome | 12.50 |",
        "| --- | --- | --- |",
        "| Smith | New York | 1,200.00 |",
    ]
    assert "Seoul \\| x" in sheet.markdown(tables="markdown")
    assert sheet.markdown(tables="text").splitlines()[0] == "Miller\tRome\t12.50"


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 500), min_size=2, max_size=7, unique=True),
    st.lists(st.integers(0, 700), min_size=2, max_size=7, unique=True),
    st.data(),
)
def test_cells_of_a_grid_cover_it_once(xs: list[int], ys: list[int], data: st.DataObject) -> None:
    down = [Rule(x, min(ys), x, max(ys)) for x in xs]
    across = [Rule(a, y, b, y) for y in ys for a, b in zip(sorted(xs), sorted(xs)[1:], strict=False)]
    inner = [rule for rule in across if min(ys) < rule.top < max(ys)]
    missing = data.draw(st.sets(st.sampled_from(inner), max_size=8)) if inner else set()
    for found in find_grids([*down, *(rule for rule in across if rule not in missing)]):
        fields = [
            (slot.row + i, slot.column + j)
            for slot in found.slots
            for i in range(slot.rowspan)
            for j in range(slot.colspan)
        ]
        assert sorted(fields) == [(r, c) for r in range(found.rows) for c in range(found.columns)]
