"""Scripts of characters, and what is odd in a text."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocrsmith.text.characters import (
    DIGITS,
    IDEOGRAPH_TWINS,
    TWINS,
    digit_families,
    main_script,
    name_of,
    oddities,
    script_of,
    visible,
)


def _kinds(text: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for oddity in oddities(text):
        found.setdefault(oddity.kind, []).append(text[oddity.start : oddity.end])
    return found


@pytest.mark.parametrize(
    "text",
    [
        "The Surveyor reported, 3 May 1912: £4 10s. (½)",
        "Présent : œuvre, Straße, naïve, İstanbul",
        "Москва и Петербург",
        "Αθήνα",
        "TNFα, 5 μm, Δt = 3 Ω, β-carotene, NFκB",
        "第一章：今天天气很好，二〇二四年（共３页）。",
        "コンピューターは口と工場に入力する",
        "ロードして入口へ",
        "한국어 문장",
        "می‌روم و کتاب‌هایم را می‌آورم؛ ۱۲۳",
        "PDF‌ها و ۲۰‌ساله",
        "كتاب اللغة العربية ١٢٣",
        "हिन्दी क्‍ष क्‌ष",
        "👨‍👩‍👧 ❤️",
        "| a | b |\n|---|---|",
        "",
        " ".join("abc"),
    ],
)
def test_proper_texts_have_nothing_odd(text: str) -> None:
    assert oddities(text) == []


@pytest.mark.parametrize(
    ("text", "kind", "place"),
    [
        ("caf\ufffd", "replacement", "\ufffd"),
        ("a\x07b", "control", "\x07"),
        ("a\u2028b", "control", "\u2028"),
        ("one\r\ntwo", "carriage_return", "\r"),
        ("x\ue000y", "private_use", "\ue000"),
        ("x\uffffy", "unassigned", "\uffff"),
        ("x\ud800y", "unassigned", "\ud800"),
        ("a\u200bb", "zero_width", "\u200b"),
        ("\ufeffab", "zero_width", "\ufeff"),
        ("می‌ رود", "joiner_out_of_place", "\u200c"),
        ("کتاب‌", "joiner_out_of_place", "\u200c"),
        ("‌کتاب", "joiner_out_of_place", "\u200c"),
        ("می‌‌رود", "joiner_out_of_place", "\u200c"),
        ("ab‌cd", "joiner_out_of_place", "\u200c"),
        ("سلام\u200f", "direction_mark", "\u200f"),
        ("a\u202eb", "direction_mark", "\u202e"),
        ("co\u00adop", "soft_hyphen", "\u00ad"),
        ("10\u00a0km", "odd_space", "\u00a0"),
        ("中\u3000文", "odd_space", "\u3000"),
        ("\ufefb", "presentation_form", "\ufefb"),
        ("of\ufb01ce", "ligature", "\ufb01"),
        ("\u2f00月", "compatibility_ideograph", "\u2f00"),
        ("\uf96e", "compatibility_ideograph", "\uf96e"),
        ("\uff76", "half_width_katakana", "\uff76"),
        ("\u0410pple", "lookalike_letter", "\u0410"),
        ("p\u0430ge", "lookalike_letter", "\u0430"),
        ("\u041c\u043eskva", "lookalike_letter", "\u041c"),
        ("\u041c\u043e\u0441kв\u0430", "lookalike_letter", ""),
        ("入\u30ed", "lookalike_ideograph", "\u30ed"),
        ("统\u30fc", "lookalike_ideograph", "\u30fc"),
        ("12٣4", "mixed_digits", "12٣4"),
        ("۱2", "mixed_digits", "۱2"),
        ("text ", "surrounding_space", " "),
        ("one \ntwo", "surrounding_space", " "),
        (" text", "surrounding_space", " "),
        ("one  two", "double_space", "  "),
    ],
)
def test_what_is_odd_is_found_where_it_is(text: str, kind: str, place: str) -> None:
    found = _kinds(text)
    if place:
        assert found.get(kind, [""])[0] == place
    else:
        assert kind not in found  # a letter without a twin (к): nobody can say which script is meant
    assert set(found) <= {kind}


@pytest.mark.parametrize("table", [TWINS, IDEOGRAPH_TWINS])
def test_twins_are_of_different_scripts(table: dict[str, str]) -> None:
    for one, other in table.items():
        assert script_of(one) != script_of(other), name_of(one)


def test_digits_stand_for_their_values() -> None:
    for digits in DIGITS.values():
        assert [unicodedata.digit(digit) for digit in digits] == list(range(10))
    assert digit_families("a1۲") == {"ASCII", "Persian"}


@pytest.mark.parametrize(
    ("text", "script"),
    [
        ("hello 12", "Latin"),
        ("中文abc文字识别", "Han"),
        ("日本語です", "Japanese"),
        ("カタカナ", "Japanese"),
        ("سلام", "Arabic"),
        ("한국어", "Hangul"),
        ("12, 3", ""),
        ("Ａ", "Latin"),
    ],
)
def test_main_script(text: str, script: str) -> None:
    assert main_script(text) == script


def test_visible_leaves_out_markup() -> None:
    table = "<table><tr><td colspan=2>x y</td></tr></table>"
    assert visible(f"# Title\n- item\n| a | b |\n|---|:--|\n{table} **bold** 3 < 4") == "Titleitemabxybold3<4"


@given(st.text())
def test_any_text_is_judged_and_places_lie_in_it(text: str) -> None:
    for oddity in oddities(text):
        assert 0 <= oddity.start < oddity.end <= len(text)
