"""Text that runs from right to left, laid as it is seen."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocrsmith.reading.visual_order import is_rtl, visual_order


@pytest.mark.parametrize(
    ("read", "seen"),
    [
        # The expected orders were derived by hand from UAX 9; capitals in comments stand for Hebrew or Persian.
        ("plain words, 12.5", "plain words, 12.5"),
        ("中文（第3页）", "中文（第3页）"),
        ("אבג", "גבא"),
        ("אב 12 גד", "דג 12 בא"),  # AB 12 CD → DC 12 BA
        ("אב 12.5 גד", "דג 12.5 בא"),
        ("אב (גד)", "(דג) בא"),  # brackets mirrored
        ("see אב גד now", "see דג בא now"),
        ("אב word two גד", "דג word two בא"),
        ("قیمت ۱۲۳۴ تومان", "ناموت ۱۲۳۴ تمیق"),
        ("نسخه Windows 11 است", "تسا Windows 11 هخسن"),
        ("می‌خواهم", "مهاوخ‌یم"),  # the mark that parts letters stays where it parts them
        ("אב $5 גד", "דג $5 בא"),
        ("abc אב.", "abc בא."),
        ("", ""),
    ],
)
def test_a_line_is_laid_as_it_is_seen(read: str, seen: str) -> None:
    assert visual_order(read) == seen


def test_the_first_letter_gives_the_direction() -> None:
    assert is_rtl("12 (אב abc")
    assert not is_rtl("12 abc אב")
    assert not is_rtl("12")


@given(st.text(alphabet="abאבسل ۱2.,()$%-/\u200c\u064b", max_size=30))
def test_nothing_is_lost(text: str) -> None:
    def without_sides(one: str) -> list[str]:
        return sorted(one.replace("(", ")"))

    assert without_sides(visual_order(text)) == without_sides(text)


def test_what_has_one_direction_is_reversed_as_a_whole() -> None:
    text = "سلام دنیا، کتاب"
    assert visual_order(text) == text[::-1]
    assert visual_order(text + "\u064b\n") == (text + "\u064b\n")[::-1]
