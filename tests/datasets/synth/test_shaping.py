"""Persian joining against an independent implementation; order against cases worked out from UAX #9 by hand."""

from __future__ import annotations

import re

import pytest
from arabic_reshaper import ArabicReshaper
from hypothesis import given, settings
from hypothesis import strategies as st

from ocrsmith.datasets.synth.shaping import for_drawing, is_rtl, joins_forward, shape, visual_order
from ocrsmith.nano.alphabet import PERSIAN_DIGITS, PERSIAN_LETTERS, ZWNJ

LETTERS = st.sampled_from(PERSIAN_LETTERS + "للللااا  ")
MIXED = st.sampled_from(PERSIAN_LETTERS + PERSIAN_DIGITS + "0123abcXYZ   .,:/-%+$،؛؟")


@settings(max_examples=400, deadline=None)
@given(st.text(LETTERS | st.just(ZWNJ), max_size=14))
def test_letters_join_as_arabic_reshaper_joins_them(text: str) -> None:
    reshaper = ArabicReshaper({"support_ligatures": True})
    assert shape(text) == reshaper.reshape(text).replace(ZWNJ, "")


# Order. As in UAX #9, capitals stand for right-to-left letters (here Persian ones, class AL) and small letters
# for Latin ones (L); digits are EN, space is WS, + - are ES, . , / : are CS, % $ are ET. The levels are those
# that the rules give each character; L2 turns every stretch of level 2 and more, then of level 1 and more.
PERSIAN_CAPITALS = str.maketrans("ABCDEMNRS", "ابپتثجچحخ")

UAX9_CASES = [
    # base, logical, visual                   derivation
    ("R", "ABC", "CBA"),  #                   111
    ("L", "abc", "abc"),  #                   000
    ("R", "abc", "abc"),  #                   222: turned twice
    ("L", "abc AB", "abc BA"),  #             0000 11; N2: the space between L and R is the line's
    ("R", "A abc B", "B abc A"),  #           1 1 222 1 1; N2 both spaces
    ("L", "car means CAR.", "car means RAC."),  # the full stop (W6: ON) between R and the end of line L: N2
    ("R", "car means CAR.", ".RAC car means"),  # 222222222 1 111 1; N1 within `car means`
    ("R", "AB 12 C", "C 12 BA"),  #           W2: EN after AL is AN, 11 1 22 1 1
    ("L", "abc AB 12", "abc 12 BA"),  #       W2 AN; N1: the space between R and AN is R, 0000 11 1 22
    ("R", "A12B", "B12A"),  #                 W2 AN, 1 22 1
    ("R", "A abc 12", "abc 12 A"),  #         W7: EN after L is L, with N1 its space too, 1 1 222222
    ("R", "a 12 B", "B a 12"),  #             W7, 2222 1 1
    ("R", "A 12 34", "34 12 A"),  #           W2 AN twice, N1: the space between numbers is R, 1 1 22 1 22
    ("R", "12 34", "34 12"),  #               EN EN (the line's start is R, not AL), N1, 22 1 22
    ("L", "12 34", "12 34"),  #               W7: the line's start is L, 00000
    ("R", "A 1/2", "1/2 A"),  #               W2 AN; W4: one CS between AN is AN, 1 1 222
    ("R", "1,,2", "2,,1"),  #                 W4 takes a single separator only: W6 ON, N1 R, 2 11 2
    ("R", "A 1-2", "2-1 A"),  #               W2 AN; W4: ES joins EN only: W6 ON, N1 R, 1 1 2 1 2
    ("R", "1-2", "1-2"),  #                   EN; W4: ES between EN is EN, 222
    ("R", "א 1-2", "1-2 א"),  #               Hebrew is R, not AL: no W2, so W4 as above, 1 1 222
    ("R", "A 50%", "%50 A"),  #               W2 AN; W5 joins ET to EN only: W6 ON, N1 R, 1 1 22 1
    ("R", "50%", "50%"),  #                   EN; W5: ET beside EN is EN, 222
    ("R", "$5 A", "A $5"),  #                 no AL before the 5, so EN; W5, 22 1 1
    ("R", "A $$5", "5$$ A"),  #               W2 AN; W6 ON twice, N1 R, 1 1 11 2
    ("L", "٣/٤", "٣/٤"),  #                   Arabic-Indic digits are AN; W4, 222
    ("L", "٣-٤", "٤-٣"),  #                   AN; W6 ON, N1 R between numbers, 2 1 2: the whole is one stretch
    ("R", "A (B) C", "C (B) A"),  #           all 1; L4 mirrors the brackets that are turned
    ("R", "A (b) C", "C (b) A"),  #           N2: the brackets between R and L are the line's, 1 1 1 2 1 1 1
    ("L", "a (B) c", "a (B) c"),  #           N2: 0, not mirrored
    ("R", "A!", "!A"),  #                     ON between R and the line's end R, N1
    ("R", "a  ", "  a"),  #                   L1: space at the end has the line's level, 2 11
    ("L", "A  ", "A  "),  #                   L1: 1 00
    ("R", "A\u064eB", "B\u064eA"),  #         W1: a mark (NSM) is as the letter before it, 111
    ("L", "", ""),
]


@pytest.mark.parametrize(("base", "logical", "visual"), UAX9_CASES)
def test_order_is_that_of_the_bidirectional_algorithm(base: str, logical: str, visual: str) -> None:
    text = logical.translate(PERSIAN_CAPITALS)
    assert visual_order(text, rtl=base == "R") == visual.translate(PERSIAN_CAPITALS)


def _unmirrored(text: str) -> list[str]:
    return sorted(text.translate(str.maketrans(")]}»", "([{«")))


@settings(max_examples=300)
@given(st.text(MIXED | st.sampled_from("()[]«»"), max_size=24), st.booleans())
def test_order_only_moves_and_mirrors(text: str, rtl: bool) -> None:
    assert _unmirrored(visual_order(text, rtl=rtl)) == _unmirrored(text)


@settings(max_examples=300)
@given(st.text(MIXED, max_size=24), st.booleans())
def test_numbers_and_latin_words_keep_their_order_and_persian_words_turn(text: str, rtl: bool) -> None:
    visual = visual_order(text, rtl=rtl)
    for stretch in re.findall(f"[0-9{PERSIAN_DIGITS}]+|[a-zA-Z]+", text):
        assert stretch in visual
    for word in re.findall(f"[{PERSIAN_LETTERS}]+", text):
        assert word[::-1] in visual


@given(st.text(st.sampled_from("abcXYZ 0123456789.,:;()/-+%$"), max_size=20))
def test_left_to_right_text_in_its_own_line_stays_as_it_is(text: str) -> None:
    assert visual_order(text, rtl=False) == text


@given(st.text(st.sampled_from(PERSIAN_LETTERS + " "), max_size=20))
def test_persian_letters_in_their_own_line_are_turned_as_a_whole(text: str) -> None:
    visual = visual_order(text, rtl=True)
    assert visual == text[::-1]
    assert visual_order(visual, rtl=True) == text


def test_known_words_take_their_forms() -> None:
    assert shape("سلام") == "ﺳﻼﻡ"
    assert shape("پژگچک") == "ﭘﮋﮔﭽﮏ"
    assert shape(f"می{ZWNJ}رود") == "ﻣﯽﺭﻭﺩ"


def test_digits_stay_left_to_right_and_brackets_are_mirrored() -> None:
    assert visual_order("سال ۱۴۰۲ (متن)") == "(نتم) ۱۴۰۲ لاس"
    assert visual_order("۱۴۰۲/۰۵/۱۲ بود") == "دوب ۱۴۰۲/۰۵/۱۲"


@pytest.mark.parametrize(
    ("text", "rtl"), [("سلام abc", True), ("abc سلام", False), ("۱۲ ۳۴", True), ("12 34", False), ("", False)]
)
def test_direction_of_a_line(text: str, rtl: bool) -> None:
    assert is_rtl(text) is rtl


@given(st.text(st.characters(codec="utf-8"), max_size=30))
def test_any_text_keeps_its_length_in_visual_order(text: str) -> None:
    assert len(visual_order(text)) == len(text)
    assert isinstance(for_drawing(text), str)


def test_letters_that_do_not_join_forward() -> None:
    assert not any(joins_forward(c) for c in "اآدذرزژو")
    assert all(joins_forward(c) for c in "بپگکیهم")


@settings(max_examples=300, deadline=None)
@given(st.text(LETTERS | st.sampled_from("\u064b\u064e\u0651\u0652"), max_size=12))
def test_marks_do_not_part_letters(text: str) -> None:
    """Without its marks a word has the same forms; only lam-alef takes marks to its end."""
    reshaper = ArabicReshaper({"support_ligatures": True, "delete_harakat": True})
    marks = re.compile("[\u064b\u064e\u0651\u0652]")
    assert marks.sub("", shape(text)) == reshaper.reshape(marks.sub("", text))
    assert sorted(marks.findall(shape(text))) == sorted(marks.findall(text))


def test_a_joiner_joins_and_cannot_be_seen() -> None:
    assert shape("ه\u200d") == "ﻫ"
    assert for_drawing("ه\u200d") == "ﻫ"
    assert for_drawing("a\u200eb\u2067c\u2069") == "abc"


@pytest.mark.parametrize(
    ("base", "logical", "visual"),
    [
        # Rule N0: a pair goes with the line's direction if that is within, else with what stands before it.
        ("R", "A b (c) D", "D b (c) A"),  # within: L; before: L, so both are L
        ("R", "A b (C) D", "D (C) b A"),  # within: R, the line's
        ("L", "A (b) c", "A (b) c"),  # within: L, the line's
        ("L", "A (B) c", "(B) A c"),  # within: R; before: R, so both are R: one stretch
        ("R", "a (b] c", "a (b] c"),  # no pair: N1
    ],
)
def test_brackets_go_in_pairs(base: str, logical: str, visual: str) -> None:
    text = logical.translate(PERSIAN_CAPITALS)
    assert visual_order(text, rtl=base == "R") == visual.translate(PERSIAN_CAPITALS)
