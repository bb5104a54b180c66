"""What is read from a page: where glyphs stand, what they mean, what cannot be seen."""

from __future__ import annotations

import math

import pytest

from ocrsmith.datasets.pdf.markdown import to_markdown
from ocrsmith.datasets.pdf.page import Char, Rule

from .typeset import Sheet, width_of


def letters(chars: list[Char]) -> str:
    return "".join(char.text for char in chars)


def test_a_glyph_has_its_place_from_the_top_left_corner() -> None:
    sheet = Sheet(300, 400)
    end = sheet.text(50, 100, "Hi", 20)
    page = sheet.read()
    first, last = page.chars
    assert (page.width, page.height, page.rotation, page.number) == (300, 400, 0, 1)
    assert first.x0 == pytest.approx(50)
    assert last.x1 == pytest.approx(end)
    assert first.origin == first.base == pytest.approx(100)
    assert first.top < 100 < first.bottom
    assert (first.size, first.font, first.bold, first.upright, first.angle) == (20, "Helvetica", False, True, 0)


def test_a_bold_face_is_known_by_its_name_or_by_its_outline() -> None:
    sheet = Sheet()
    sheet.text(50, 100, "a", font="F2")
    sheet.text(50, 120, "b", mode=2)
    sheet.text(50, 140, "c")
    assert [char.bold for char in sheet.read().chars] == [True, True, False]


@pytest.mark.parametrize(
    ("rotate", "place"),
    [(0, (50, 100)), (90, (300, 50)), (180, (250, 300)), (270, (100, 250))],
)
def test_a_turned_page_is_read_as_it_is_shown(rotate: int, place: tuple[float, float]) -> None:
    sheet = Sheet(300, 400, rotate=rotate)
    sheet.text(50, 100, "x")
    page = sheet.read()
    assert page.rotation == rotate
    assert (page.width, page.height) == ((300, 400) if rotate in (0, 180) else (400, 300))
    char = page.chars[0]
    assert char.angle == (360 - rotate) % 360
    assert char.x0 - 10 <= place[0] <= char.x1 + 10
    assert char.top - 10 <= place[1] <= char.bottom + 10


def test_a_page_can_be_turned_so_that_its_text_stands_upright() -> None:
    sheet = Sheet(300, 400)
    sheet.text(100, 300, "upwards", angle=90)
    page = sheet.read(rotation=90)
    assert (page.width, page.height) == (400, 300)
    assert {char.angle for char in page.chars} == {0}
    assert to_markdown(page) == "upwards"


def test_what_is_cut_off_by_the_crop_box_lies_outside() -> None:
    sheet = Sheet(300, 400, crop=(100, 100, 250, 350))
    sheet.text(120, 80, "in")
    sheet.text(20, 80, "out")
    page = sheet.read()
    assert (page.width, page.height) == (150, 250)
    assert page.chars[0].x0 == pytest.approx(20)
    assert page.chars[2].x1 < 0
    assert to_markdown(page) == "in"


@pytest.mark.parametrize("mode", [3, 7])
def test_invisible_text_is_hidden(mode: int) -> None:
    sheet = Sheet()
    sheet.text(50, 100, "a", mode=mode)
    sheet.text(50, 120, "b")
    assert [char.hidden for char in sheet.read().chars] == [True, False]


def test_transparent_text_is_hidden_until_the_state_ends() -> None:
    sheet = Sheet()
    sheet.draw("q /Clear gs")
    sheet.text(50, 100, "a")
    sheet.draw("Q")
    sheet.text(50, 120, "b")
    assert [char.hidden for char in sheet.read().chars] == [True, False]


def test_hidden_text_counts_only_where_there_is_no_other() -> None:
    sheet = Sheet()
    sheet.text(50, 100, "layer", mode=3)
    assert sheet.markdown() == "layer"
    sheet.text(50, 200, "seen")
    assert sheet.markdown() == "seen"


@pytest.mark.parametrize(
    ("meant", "read", "mapped"),
    [
        ("ﬁ", "fi", True),
        ("ﬄ", "ffl", True),
        ("⽉", "月", True),
        ("⻚", "页", True),
        ("︒", "。", True),
        ("é", "é", True),
        ("\ue123", "\ue123", False),
        ("\u0003", "\u0003", False),
        ("\ufffd", "\ufffd", False),
        ("", "\ufffd", False),
    ],
)
def test_a_glyph_means_its_letters(meant: str, read: str, mapped: bool) -> None:
    sheet = Sheet()
    sheet.glyphs(50, 100, [meant])
    char = sheet.read().chars[0]
    assert (char.text, char.mapped) == (read, mapped)


def test_what_a_tagged_file_marks_as_furniture_is_known() -> None:
    sheet = Sheet()
    sheet.draw("/Artifact <</Type/Pagination>> BDC")
    sheet.text(50, 40, "running head")
    sheet.draw("EMC /P <</MCID 0>> BDC")
    sheet.text(50, 100, "text")
    sheet.draw("EMC")
    assert letters([char for char in sheet.read().chars if char.artifact]) == "running head"
    assert sheet.markdown() == "text"
    assert sheet.markdown(furniture="keep") == "running head\n\ntext"


def test_strokes_and_edges_of_boxes_are_rules_but_white_boxes_are_not() -> None:
    sheet = Sheet()
    sheet.rule(50, 100, 250, 100)
    sheet.box(50, 200, 150, 300)
    sheet.box(50, 400, 250, 401, "f")
    sheet.draw("1 g")
    sheet.box(50, 500, 250, 501, "f")
    rules = sheet.read().rules
    assert rules[0] == Rule(50, 100, 250, 100)
    assert len(rules) == 6
    assert sum(rule.horizontal for rule in rules) == 4
    assert rules[-1].length == pytest.approx(200)


def test_slanted_strokes_and_curves_are_no_rules() -> None:
    sheet = Sheet()
    sheet.rule(50, 100, 250, 300)
    sheet.draw("50 50 m 100 200 150 200 200 50 c S")
    assert sheet.read().rules == []


def test_a_picture_has_a_place() -> None:
    sheet = Sheet(300, 400)
    sheet.draw("q 100 0 0 50 30 300 cm BI /W 1 /H 1 /CS /G /BPC 8 ID \x7f EI Q")
    (picture,) = sheet.read().pictures
    assert (picture.x0, picture.top, picture.x1, picture.bottom) == pytest.approx((30, 50, 130, 100))


def test_a_blank_page_says_nothing() -> None:
    assert Sheet().markdown() == ""


def test_places_that_are_no_numbers_are_left_out() -> None:
    sheet = Sheet()
    sheet.draw("BT /F1 10 Tf 1e308 0 0 1e308 1e308 1e308 Tm (far) Tj ET")
    sheet.text(50, 100, "near")
    page = sheet.read()
    assert all(math.isfinite(char.x0) for char in page.chars)
    assert to_markdown(page) == "near"


def test_the_widths_of_the_setter_are_those_of_the_reader() -> None:
    sheet = Sheet()
    sheet.text(50, 100, "Wide", 10)
    chars = sheet.read().chars
    assert chars[-1].x1 - chars[0].x0 == pytest.approx(width_of("Wide", 10))
