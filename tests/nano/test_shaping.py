"""Persian joining and order against two independent implementations where they are installed."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ocrsmith.nano.alphabet import PERSIAN_DIGITS, PERSIAN_LETTERS, ZWNJ
from ocrsmith.nano.shaping import for_drawing, is_rtl, joins_forward, shape, visual_order

LETTERS = st.sampled_from(PERSIAN_LETTERS + "للللااا  ")
MIXED = st.sampled_from(PERSIAN_LETTERS + PERSIAN_DIGITS + "0123abcXYZ   .,:/-%+$،؛؟")


@settings(max_examples=400, deadline=None)
@given(st.text(LETTERS | st.just(ZWNJ), max_size=14))
def test_letters_join_as_arabic_reshaper_joins_them(text: str) -> None:
    reshaper = pytest.importorskip("arabic_reshaper").ArabicReshaper({"support_ligatures": True})
    assert shape(text) == reshaper.reshape(text).replace(ZWNJ, "")


@settings(max_examples=400, deadline=None)
@given(st.text(MIXED, min_size=1, max_size=16), st.booleans())
def test_order_is_that_of_python_bidi(text: str, rtl: bool) -> None:
    algorithm = pytest.importorskip("bidi.algorithm")
    assert visual_order(text, rtl=rtl) == algorithm.get_display(text, base_dir="R" if rtl else "L")


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
