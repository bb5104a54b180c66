"""The order in which a page is read: columns, headings, cards, drop caps, numbers of lines, turned text."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ocrsmith.datasets.pdf.bidi import mostly_rtl, reading_order
from ocrsmith.datasets.pdf.columns import find_gutter, in_reading_order
from ocrsmith.datasets.pdf.markdown import MarkdownOptions, to_markdown
from ocrsmith.datasets.pdf.page import Char, PageContent, Picture, Rule
from ocrsmith.datasets.pdf.words import make_lines, make_words

from .typeset import OTHER, STORY, Sheet


def order(text: str, *pieces: str) -> list[int]:
    """Where pieces stand in a text; each must."""
    assert all(piece in text for piece in pieces), text
    return [text.index(piece) for piece in pieces]


def test_two_columns_are_read_one_after_the_other() -> None:
    sheet = Sheet()
    sheet.prose(72, 100, 225, STORY)
    sheet.prose(315, 100, 225, OTHER)
    assert sheet.markdown() == f"{STORY}\n\n{OTHER}"


def test_lines_of_columns_need_not_stand_at_one_height() -> None:
    sheet = Sheet()
    sheet.prose(72, 100, 225, STORY)
    sheet.prose(315, 105, 225, OTHER, size=9)
    assert sheet.markdown() == f"{STORY}\n\n{OTHER}"


def test_three_columns() -> None:
    sheet = Sheet()
    texts = (STORY, OTHER, STORY.upper())
    for number, text in enumerate(texts):
        sheet.prose(50 + 175 * number, 100, 160, text, size=9)
    assert sheet.markdown() == "\n\n".join(texts)


def test_a_heading_over_the_columns_divides_what_is_above_from_what_is_below() -> None:
    sheet = Sheet()
    sheet.prose(72, 80, 225, STORY)
    sheet.prose(315, 80, 225, OTHER)
    sheet.text(72, 330, "A second article begins here and runs wide", 18)
    sheet.prose(72, 360, 225, OTHER.upper())
    sheet.prose(315, 360, 225, STORY.upper())
    text = sheet.markdown()
    places = order(text, STORY, OTHER, "# A second article", OTHER.upper(), STORY.upper())
    assert places == sorted(places)


def test_a_short_heading_between_articles_belongs_to_the_lower_one() -> None:
    sheet = Sheet()
    end = max(sheet.prose(72, 80, 225, STORY), sheet.prose(315, 80, 225, OTHER))
    sheet.text(72, end + 40, "WATCH", 16)
    sheet.text(72, end + 64, "A title that is as wide as both columns together", 19)
    places = order(sheet.markdown(), OTHER, "WATCH", "A title that")
    assert places == sorted(places)


def test_a_column_beside_a_note_under_a_wide_paragraph() -> None:
    sheet = Sheet()
    sheet.prose(72, 80, 460, STORY)
    sheet.text(72, 200, "Correspondence to:", 8)
    sheet.text(72, 212, "Dr Norbert Smith,", 8)
    sheet.text(72, 224, "Helsinki, Finland", 8)
    sheet.prose(220, 150, 310, OTHER)
    text = sheet.markdown()
    assert STORY in text
    assert OTHER in text
    assert "Correspondence to:" in text


def test_a_paragraph_goes_on_in_the_next_column() -> None:
    sheet = Sheet()
    half = STORY.index(" sold eggs")
    sheet.prose(72, 100, 225, OTHER + " " + STORY[:half])
    sheet.prose(315, 100, 225, STORY[half + 1 :] + " " + OTHER)
    assert STORY in sheet.markdown()


def test_wide_gaps_between_words_make_no_column() -> None:
    sheet = Sheet()
    generator = random.Random(4)
    for number in range(30):
        x = 72.0
        for word in generator.sample(STORY.split(), 6):
            x = sheet.text(x, 100 + 12 * number, word) + generator.uniform(3, 13)
    page = sheet.read()
    assert find_gutter(make_words(page.chars), 10) is None


@pytest.mark.parametrize("mark", ["1.", "(a)", "-", "12"])
def test_the_marks_of_a_list_are_no_column(mark: str) -> None:
    sheet = Sheet()
    for number in range(8):
        sheet.text(72, 100 + 14 * number, mark)
        sheet.text(100, 100 + 14 * number, f"an item of the list, number {number}")
    lines = sheet.markdown().splitlines()
    assert lines == [f"{mark} an item of the list, number {number}" for number in range(8)]


@pytest.mark.parametrize("by_rows", [True, False])
def test_numbers_tell_whether_cards_are_read_by_rows_or_by_columns(by_rows: bool) -> None:
    sheet = Sheet()
    names = ["Alpha", "Beta", "Gamma", "Delta"]
    for number, name in enumerate(names):
        row, column = divmod(number, 2) if by_rows else divmod(number, 2)[::-1]
        x, y = 72 + 250 * column, 100 + 220 * row
        sheet.text(x, y, f"{number + 1}. {name}", 14, "F2")
        sheet.prose(x, y + 24, 220, STORY[: 180 - 10 * number])
    places = order(sheet.markdown(), *names)
    assert places == sorted(places)


def test_a_drop_cap_begins_its_word() -> None:
    sheet = Sheet()
    sheet.text(72, 128, "O", 40)
    for number, line in enumerate(["ver the hills and far away the", "piper walked with all his", "children"]):
        sheet.text(106, 100 + 12 * number, line)
    sheet.text(72, 136, "and nobody saw them come back home")
    text = "Over the hills and far away the piper walked with all his children and nobody saw"
    assert text in sheet.markdown().replace("\n", " ").replace("  ", " ")


def test_numbers_of_lines_are_left_out() -> None:
    sheet = Sheet()
    y = sheet.prose(100, 100, 400, STORY + " " + OTHER)
    for number in range(round((y - 100) / 12)):
        sheet.text(60, 100 + 12 * number, str(number + 1), 8)
    assert sheet.markdown() == f"{STORY} {OTHER}"


def test_text_that_is_drawn_twice_is_read_once() -> None:
    sheet = Sheet()
    sheet.text(72, 100, "Shadow and light")
    sheet.text(72.4, 100.3, "Shadow and light")
    assert sheet.markdown() == "Shadow and light"


def test_words_drawn_in_any_order_are_read_in_place() -> None:
    sheet = Sheet()
    x, places = 72.0, []
    for word in STORY.split()[:12]:
        places.append((x, word))
        x = x + 40
    random.Random(1).shuffle(places)
    for x, word in places:
        sheet.text(x, 100, word, 8)
    assert sheet.markdown() == " ".join(STORY.split()[:12])


def test_a_word_in_two_faces_is_one() -> None:
    sheet = Sheet()
    x = sheet.text(72, 100, "half", font="F2")
    sheet.text(x, 100, "way there")
    assert sheet.markdown() == "halfway there"


def test_raised_and_lowered_digits() -> None:
    sheet = Sheet()
    x = sheet.text(72, 100, "as they say")
    x = sheet.text(x, 96, "12", 6)
    x = sheet.text(x + 3, 100, "of H")
    x = sheet.text(x, 102, "2", 6)
    sheet.text(x, 100, "O here")
    assert sheet.markdown() == "as they say¹² of H₂O here"


def test_turned_text_comes_last_and_notes_in_the_margin_not_at_all() -> None:
    sheet = Sheet()
    sheet.prose(100, 100, 400, STORY)
    sheet.text(30, 500, "arXiv:1234.5678 [stamp]", 16, angle=90)
    sheet.text(300, 600, "An axis upwards", 10, angle=90)
    assert sheet.markdown() == f"{STORY}\n\nAn axis upwards"


def test_chinese_has_no_spaces_and_latin_words_in_it_keep_theirs() -> None:
    sheet = Sheet()
    x = sheet.glyphs(72, 100, list("这是一个测试"), 12)
    sheet.text(x + 2, 100, "OCR model ", 12)
    sheet.glyphs(72, 118, list("第二行继续写下去"), 12, step=1.2)
    assert sheet.markdown().replace("\n\n", "") == "这是一个测试OCR model第二行继续写下去"


def test_columns_of_chinese() -> None:
    sheet = Sheet()
    for number in range(6):
        sheet.glyphs(72, 100 + 18 * number, list("左边的栏目有很多字"), 12)
        sheet.glyphs(72 + 9 * 12 + 18, 100 + 18 * number, list("右边的栏目也有字啊"), 12)
    text = sheet.markdown().replace("\n", "")
    assert text == "左边的栏目有很多字" * 6 + "右边的栏目也有字啊" * 6


VISUAL = "ﻡﻼﺳ"  # lam-alef joined, as shapes from left to right


def test_a_persian_line_is_read_from_the_right() -> None:
    sheet = Sheet()
    sheet.glyphs(300, 100, ["ﻡ", "ﻼ", "ﺳ"], 12, step=1)
    assert sheet.markdown() == "سلام"


def test_columns_from_right_to_left() -> None:
    sheet = Sheet()
    for number in range(6):
        sheet.glyphs(72, 100 + 18 * number, list("پچجث"[::-1]), 12, step=1)
        sheet.glyphs(200, 100 + 18 * number, list("سشصض"[::-1]), 12, step=1)
    text = sheet.markdown().replace("\n", " ")
    assert text.index("سشصض") < text.index("پچجث")


@pytest.mark.parametrize(
    ("visual", "logical"),
    [
        ("ج ب ا", "ا ب ج"),
        ("ج 123 ا", "ا 123 ج"),
        ("ج 3.5 ا", "ا 3.5 ج"),
        ("ج 2024/03/15 ا", "ا 2024/03/15 ج"),
        ("ج 88776655-021 ا", "ا 021-88776655 ج"),
        ("ב 555-021 א", "א 555-021 ב"),
        ("ج Adobe InDesign 18 ا", "ا Adobe InDesign 18 ج"),
        ("(ب ا)", "(ا ب)"),
        (")ب ا(", "(ا ب)"),
        ("«ب ا»", "«ا ب»"),
        ("٪۱۸ ا", "ا ۱۸٪"),
        (".ب ا", "ا ب."),
        ("۱۲٬۵۰۰ ا", "ا ۱۲٬۵۰۰"),
    ],
)
def test_visual_order_becomes_reading_order(visual: str, logical: str) -> None:
    assert reading_order(list(visual), rtl=True) == logical


def test_arabic_words_in_an_english_line() -> None:
    assert reading_order(list("say ج ب ا 12 now"), rtl=False) == "say ا ب ج 12 now"


@given(st.text(alphabet="ab ا ب א1۲.()«-", max_size=20), st.booleans())
def test_reading_order_loses_nothing(text: str, rtl: bool) -> None:
    found = reading_order(list(text), rtl=rtl)
    pairs = str.maketrans("(«", ")»")
    assert sorted(found.translate(pairs)) == sorted(text.translate(pairs))


@given(st.text(alphabet="abc de.12()", max_size=20))
def test_a_latin_line_stays_as_it_is(text: str) -> None:
    assert reading_order(list(text), rtl=False) == text
    assert not mostly_rtl(text)


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_every_word_is_read_once(data: st.DataObject) -> None:
    places = data.draw(
        st.lists(st.tuples(st.integers(4, 50), st.integers(4, 60)), min_size=1, max_size=60, unique=True)
    )
    sheet = Sheet()
    for number, (column, row) in enumerate(places):
        sheet.text(10 * column, 12 * row, f"w{number}", 6)
    words = make_words(sheet.read().chars)
    pieces = in_reading_order(words, 6)
    found = sorted(word.text for piece in pieces for line in make_lines(piece) for word in line.words)
    assert found == sorted(word.text for word in words)


CHARS = st.builds(
    lambda text, x, y, size, wide, angle, font: Char(
        text, x, y, x + wide, y + size, size, font, font == "B", font == "I", angle == 0, False, True, angle
    ),
    st.sampled_from([*"aW1.,•(« 中ا۱-", "fi", "\u0301", "∑", "\ufffd", "$", "12"]),
    st.floats(-20, 320),
    st.floats(-20, 420),
    st.sampled_from([0.0, 0.1, 0.5, 8.0, 10.0, 24.0, 500.0]),
    st.sampled_from([0.0, 3.0, 5.0, 40.0]),
    st.sampled_from([0, 0, 0, 45, 90, 180, 270]),
    st.sampled_from(["A", "B", "I", "CMSY10"]),
)
LINES = st.builds(
    lambda x, y, length, across: Rule(x, y, x + length * across, y + length * (1 - across)),
    st.integers(0, 300),
    st.integers(0, 400),
    st.sampled_from([0, 20, 100, 200]),
    st.integers(0, 1),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(CHARS, max_size=60), st.lists(LINES, max_size=20))
def test_no_page_is_too_odd_to_be_read(chars: list[Char], rules: list[Rule]) -> None:
    page = PageContent(1, 300, 400, 0, chars, rules, [], [Picture(10, 10, 13, 13)])
    options = MarkdownOptions(tables="markdown", furniture="keep", formulas="keep")
    assert isinstance(to_markdown(page, options), str)
    assert to_markdown(page, options) == to_markdown(page, options)
