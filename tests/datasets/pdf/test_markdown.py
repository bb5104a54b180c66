"""Headings, paragraphs, lists, formulas, code and hyphens, as Markdown."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocrsmith.datasets.pdf.hyphens import join_lines, words_of
from ocrsmith.datasets.pdf.markdown import DocumentFacts, MarkdownOptions
from ocrsmith.errors import SettingsError

from .typeset import OTHER, STORY, Sheet


def test_headings_by_size_and_weight() -> None:
    sheet = Sheet()
    sheet.text(72, 100, "The book", 20, "F2")
    sheet.text(72, 140, "Chapter of the sea", 14)
    sheet.prose(72, 170, 400, STORY)
    sheet.text(72, 250, "A bold heading", font="F2")
    sheet.prose(72, 264, 400, OTHER)
    assert sheet.markdown() == (
        f"# The book\n\n## Chapter of the sea\n\n{STORY}\n\n### A bold heading\n\n{OTHER}"
    )


def test_a_heading_of_two_lines_is_one() -> None:
    sheet = Sheet()
    sheet.text(72, 100, "Corporate responsibility in", 20)
    sheet.text(72, 124, "the old harbour towns", 20)
    sheet.prose(72, 160, 400, STORY)
    assert sheet.markdown() == f"# Corporate responsibility in the old harbour towns\n\n{STORY}"


def test_bold_words_within_a_paragraph_make_no_heading() -> None:
    sheet = Sheet()
    end = sheet.text(72, 100, "Note.", font="F2")
    sheet.text(end + 3, 100, "What follows was written later, as far as anyone can tell, by")
    sheet.text(72, 112, "someone else")
    assert sheet.markdown() == (
        "Note. What follows was written later, as far as anyone can tell, by someone else"
    )


@pytest.mark.parametrize("indent", [0, 14])
def test_paragraphs_by_indentation_or_by_a_short_last_line(indent: float) -> None:
    sheet = Sheet()
    y = sheet.prose(72, 100, 400, STORY, indent=indent)
    sheet.prose(72, y, 400, OTHER, indent=indent)
    assert sheet.markdown() == f"{STORY}\n\n{OTHER}"


def test_paragraphs_by_space() -> None:
    sheet = Sheet()
    y = sheet.prose(72, 100, 400, STORY)
    sheet.prose(72, y + 8, 400, OTHER)
    assert sheet.markdown() == f"{STORY}\n\n{OTHER}"


def test_a_list_with_hanging_lines() -> None:
    sheet = Sheet()
    y = sheet.prose(72, 100, 400, STORY) + 4
    for text in (STORY[:150], "short", OTHER[:140]):
        sheet.text(84, y, "\x95")
        y = sheet.prose(98, y, 374, text)
    lines = sheet.markdown().splitlines()
    assert lines[2:] == [f"- {STORY[:150].strip()}", "- short", f"- {OTHER[:140].strip()}"]


def test_numbered_items_keep_their_numbers() -> None:
    sheet = Sheet()
    y = 100.0
    for number, text in enumerate((STORY[:150], "short", OTHER[:140]), start=9):
        sheet.text(72, y, f"{number}.")
        y = sheet.prose(92, y, 374, text)
    assert sheet.markdown().splitlines()[1:] == ["10. short", f"11. {OTHER[:140].strip()}"]


def test_a_drawn_bullet_is_a_bullet_and_lists_nest() -> None:
    sheet = Sheet()
    for row, (x, text) in enumerate([(90, "outer"), (120, "inner"), (120, "inner again"), (90, "outer again")]):
        y = 100 + 14 * row
        sheet.box(x, y - 5, x + 3, y - 2, "f")
        sheet.text(x + 12, y, text)
    assert sheet.markdown() == "- outer\n  - inner\n  - inner again\n- outer again"


def test_an_initial_or_a_year_at_the_beginning_of_a_line_is_no_item() -> None:
    sheet = Sheet()
    for row, text in enumerate(
        [
            "This was shown by Doctor Abraham, by Norman, by Emily and by",
            "A. Tatum in the spring of the year",
            "2004. It",
        ]
    ):
        sheet.text(72, 100 + 12 * row, text)
    assert "\n- " not in sheet.markdown()
    assert "by A. Tatum in the spring" in sheet.markdown()


def test_an_address_keeps_its_lines() -> None:
    sheet = Sheet()
    for row, text in enumerate(["12 Harbour Street", "Bristol BS1", "United Kingdom"]):
        sheet.text(72, 100 + 12 * row, text)
    sheet.prose(72, 160, 400, STORY)
    assert sheet.markdown().startswith("12 Harbour Street\nBristol BS1\nUnited Kingdom\n\nThe old")


def formula(sheet: Sheet, y: float) -> None:
    x = sheet.glyphs(200, y, ["∑", "λ"], 12)
    x = sheet.text(x, y, " = ", 12)
    sheet.glyphs(x, y, ["ζ", "∈", "ψ"], 12)
    sheet.glyphs(200, y + 11, ["∈"], 7)


@pytest.mark.parametrize(("how", "shown"), [("mark", "\n\n[formula]\n\n"), ("drop", "\n\n")])
def test_set_off_formulas(how: str, shown: str) -> None:
    sheet = Sheet()
    sheet.prose(72, 100, 400, STORY)
    formula(sheet, 200)
    sheet.prose(72, 240, 400, OTHER)
    assert sheet.markdown(formulas=how) == f"{STORY}{shown}{OTHER}"
    assert "∑" in sheet.markdown(formulas="keep")


def test_a_sentence_with_a_formula_stays_text() -> None:
    sheet = Sheet()
    x = sheet.text(72, 100, "The value of ")
    x = sheet.glyphs(x, 100, ["λ"])
    sheet.text(x, 100, " = 3 + 4 was measured on that day.")
    assert sheet.markdown() == "The value of λ = 3 + 4 was measured on that day."


def test_code_keeps_its_lines_and_indentation() -> None:
    sheet = Sheet()
    y = sheet.prose(72, 100, 400, STORY)
    for row, text in enumerate(
        ["def fill(width):", "    if width < 1:", "        return   None", "    again()"]
    ):
        indent = len(text) - len(text.lstrip())
        sheet.text(90 + 6 * indent, y + 12 + 12 * row, text.lstrip(), 10, "F3")
    text = sheet.markdown()
    assert text.endswith("```\ndef fill(width):\n    if width < 1:\n        return   None\n    again()\n```")


def test_a_page_written_on_a_typewriter_is_no_code() -> None:
    sheet = Sheet()
    sheet.prose(72, 100, 450, STORY, font="F3")
    assert sheet.markdown() == STORY


def test_words_broken_at_the_end_of_a_line_are_whole_again() -> None:
    sheet = Sheet()
    text = (
        "The quick reorgani-|sation of the well-known internatio-|nal har-|bour seemed im-|possible to the "
        "self-made men"
    )
    sheet.prose(72, 100, 130, text)
    assert sheet.markdown() == text.replace("-|", "")


@pytest.mark.parametrize(
    ("first", "second", "known", "joined"),
    [
        ("the mea-", "surement", {}, "the measurement"),
        ("a well-", "known man", {}, "a well-known man"),
        ("problem-", "solving", {}, "problem-solving"),
        ("state-of-the-", "art", {}, "state-of-the-art"),
        ("Jackson-", "Henderson", {}, "Jackson-Henderson"),
        ("co-", "operate", {"co-operate": 2}, "co-operate"),
        ("co-", "operate", {"cooperate": 1}, "cooperate"),
        ("soft\u00ad", "ware", {}, "software"),
        ("1990-", "1995", {}, "1990-1995"),
        ("and/", "or", {}, "and/or"),
        ("one", "two", {}, "one two"),
        ("一", "二", {}, "一二"),
        ("—", "he said", {}, "— he said"),
        ("", "text", {}, "text"),
    ],
)
def test_joining_lines(first: str, second: str, known: dict[str, int], joined: str) -> None:
    assert join_lines(first, second, Counter(known)) == joined


def test_words_that_a_line_may_have_cut_are_not_known() -> None:
    assert words_of(["ends some-", "where over there"]) == Counter({"over": 1, "there": 1})


@given(st.text(max_size=30), st.text(max_size=30))
def test_joining_loses_no_letter_but_the_hyphen(first: str, second: str) -> None:
    joined = "".join(join_lines(first, second).split())
    whole = "".join((first + second).split())
    assert joined == whole or len(joined) == len(whole) - 1


def test_words_of_other_pages_decide_on_hyphens() -> None:
    sheet = Sheet()
    sheet.prose(72, 100, 60, "we co-|operate")
    facts = DocumentFacts(words=Counter({"co-operate": 3}))
    assert sheet.markdown() == "we cooperate"
    assert sheet.markdown(facts) == "we co-operate"


def test_an_unknown_way_is_refused() -> None:
    with pytest.raises(SettingsError, match="no way to treat tables"):
        MarkdownOptions(tables="latex")  # type: ignore[arg-type]
