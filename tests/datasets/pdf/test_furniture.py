"""Running heads and feet, page numbers and stamps: left out, or kept; and text at the edge that stays."""

from __future__ import annotations

import pytest

from ocrsmith.datasets.pdf.furniture import edge_lines, repeated
from ocrsmith.datasets.pdf.markdown import DocumentFacts

from .typeset import OTHER, STORY, Sheet


def body(sheet: Sheet) -> str:
    y = sheet.prose(72, 100, 460, STORY)
    sheet.prose(72, 640, 460, OTHER)
    assert y < 640
    return f"{STORY}\n\n{OTHER}"


@pytest.mark.parametrize("number", ["12", "- 12 -", "xiv", "Page 3 of 5", "3/14", "Seite 7", "[9]"])
def test_page_numbers(number: str) -> None:
    sheet = Sheet()
    text = body(sheet)
    sheet.text(300, 750, number)
    assert sheet.markdown() == text
    assert sheet.markdown(furniture="keep") == f"{text}\n\n{number}"


def test_a_page_number_under_a_short_page() -> None:
    sheet = Sheet()
    y = sheet.prose(72, 200, 460, STORY)
    sheet.text(300, y + 30, "62")
    assert sheet.markdown() == STORY


def test_a_running_head_with_a_number_at_its_end() -> None:
    sheet = Sheet()
    text = body(sheet)
    sheet.text(72, 50, "Chapter 3 | Derivatives", 8)
    sheet.text(520, 50, "273", 8)
    assert sheet.markdown() == text


def test_a_running_head_close_to_the_text() -> None:
    sheet = Sheet()
    sheet.text(72, 60, "400")
    sheet.text(240, 60, "BRITISH HUSBANDRY.")
    sheet.text(480, 60, "[Ch. XIX.")
    sheet.prose(72, 73, 460, STORY)
    assert sheet.markdown() == STORY


@pytest.mark.parametrize(
    "stamp",
    [
        "Downloaded from http://example.org/ on July 12, 2017",
        "www.example.org",
        "© 2020 The Authors",
        "10/1/24, 3:42 PM",
    ],
)
def test_stamps(stamp: str) -> None:
    sheet = Sheet()
    text = body(sheet)
    sheet.text(150, 30, stamp, 8)
    sheet.text(150, 770, stamp, 8)
    assert sheet.markdown() == text


def test_a_head_alone_on_its_line() -> None:
    sheet = Sheet()
    text = body(sheet)
    sheet.text(230, 45, "Winters in the north", 9)
    assert sheet.markdown() == text


def test_titles_first_lines_and_footnotes_stay() -> None:
    sheet = Sheet()
    sheet.text(72, 50, "A title at the top", 18, "F2")
    sheet.prose(72, 80, 460, STORY)
    sheet.text(72, 745, "1 See the list of ships in the appendix.", 8)
    assert sheet.markdown() == (f"# A title at the top\n\n{STORY}\n\n1 See the list of ships in the appendix.")


def test_a_page_that_begins_at_its_very_top_keeps_its_first_line() -> None:
    sheet = Sheet()
    y = sheet.prose(72, 40, 460, STORY)
    while y < 760:
        y = sheet.prose(72, y, 460, OTHER)
    assert sheet.markdown().startswith(STORY)
    assert sheet.markdown().endswith(OTHER)


def test_a_page_of_one_line_keeps_it() -> None:
    sheet = Sheet()
    sheet.text(250, 400, "Left blank on purpose")
    assert sheet.markdown() == "Left blank on purpose"


def test_what_returns_on_other_pages_is_known() -> None:
    pages = []
    for number in range(4):
        sheet = Sheet()
        sheet.text(72, 80, f"Bulletin of the harbour office, issue {number}.", font="F2")
        sheet.text(72, 92, f"A different line {'abcd'[number]} comes next here.")
        sheet.prose(72, 110, 460, STORY)
        pages.append(sheet)
    known = repeated(edge_lines(sheet.read()) for sheet in pages)
    assert known == {"bulletin of the harbour office, issue #."}
    assert "Bulletin" in pages[0].markdown()
    assert pages[0].markdown(DocumentFacts(furniture=known)).startswith("A different line a comes")


def test_a_line_must_return_three_times() -> None:
    assert repeated([["a"], ["a"], ["b"]]) == frozenset()
    assert repeated([["a", "a", "a"]]) == frozenset()
    assert repeated([["a"]] * 3 + [["b"]] * 17) == {"b"}
