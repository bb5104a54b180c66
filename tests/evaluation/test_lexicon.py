"""The vocabulary, what it is too small for, and how far apart words look."""

from __future__ import annotations

import pytest

from ocrsmith.evaluation import lexicon
from ocrsmith.evaluation.lexicon import Lexicon, shape_distance

ENGLISH = ["The committee met on Monday and the house was full."] * 120
CHINESE = ["公司在北京成立，上海的工厂昨天开工，总经理今天在北京讲话。"] * 200


def test_words_of_the_references_are_known_whatever_their_case() -> None:
    known = Lexicon.of(ENGLISH)
    assert known.judges_words
    assert all(map(known.knows, ("committee", "HOUSE", "Monday")))
    assert not any(map(known.knows, ("comittee", "horse", "hou", "", "house full", "12")))


def test_words_of_two_letters_say_nothing() -> None:
    assert not Lexicon.of(ENGLISH).knows("on")


def test_chinese_words_are_pairs_that_stand_together_often() -> None:
    known = Lexicon.of(CHINESE)
    assert known.judges_han
    assert known.knows("北京")
    assert known.knows("上海")
    assert known.knows("北京讲话")
    assert not known.knows("京海")
    assert not known.knows("北")


def test_a_pair_that_comes_of_frequency_alone_is_no_word() -> None:
    texts = [f"的{one}的{other}的" for one in "一二三四五六七八九十" for other in "甲乙丙丁戊己庚辛壬癸"] * 10
    assert not Lexicon.of(texts).knows("的的")


def test_persian_words_keep_their_joiners() -> None:
    known = Lexicon.of(["او می‌رود و کتاب‌ها را می‌خواند"] * 300)
    assert known.knows("می‌رود")
    assert not known.knows("می‌رفت")


def test_a_small_vocabulary_knows_nothing_and_says_so() -> None:
    small = Lexicon.of(["A handful of words.", "几个字"])
    assert not small.knows("handful")
    assert not small.knows("几个")
    assert "too small" in small.note
    assert "4 running words, 1,000 needed" in small.note
    assert "2 pairs of Chinese characters, 3,000 needed" in small.note


def test_training_texts_can_be_added() -> None:
    both = Lexicon.of(["tiny"])
    for text in ENGLISH:
        both.add(text)
    assert both.judges_words
    assert "running words" not in both.note
    assert Lexicon.of([*ENGLISH, *CHINESE]).note == ""


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lexicon, "MAX_ENTRIES", 50)
    known = Lexicon.of(
        ["often often", *(f"{chr(97 + n % 26)}{chr(97 + n // 26)}x" for n in range(300)), "often"]
    )
    assert len(known.words) <= 51
    assert known.words["often"] == 3


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("O", "0"), ("l1", "I|"), ("rn", "m"), ("corner", "comer"), ("一", "二"), ("未", "末"), ("己", "已"),
        ("۰", "٥"), ("ب", "ت"), ("ح", "خ"), ("é", "e"), ("c", "C"), ("日", "目"), ("ف", "ق"),
    ],
)  # fmt: skip
def test_look_alikes_are_near(first: str, second: str) -> None:
    assert 0 < shape_distance(first, second) <= 0.5
    assert shape_distance(first, second) == shape_distance(second, first)


@pytest.mark.parametrize(
    ("first", "second"), [("а", "a"), ("１", "1"), ("ロ", "口"), ("٣", "۳"), ("ＡＢ", "AB")]
)
def test_what_is_drawn_the_same_is_at_no_distance(first: str, second: str) -> None:
    assert shape_distance(first, second) == 0


def test_other_words_are_far() -> None:
    assert shape_distance("cat", "dog") >= 2
    assert shape_distance("Paris", "Lyon") >= 3
    assert shape_distance("北京", "上海") == 2
    assert shape_distance("", "abc") == 3


def test_texts_that_are_no_words_are_refused() -> None:
    with pytest.raises(ValueError, match="up to 64"):
        shape_distance("a" * 65, "b")
