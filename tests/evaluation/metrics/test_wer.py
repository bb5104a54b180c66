"""Word error rate, normalised edit distance, exact match: by hand, against jiwer, and by their laws."""

from __future__ import annotations

import jiwer
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rapidfuzz.distance import Levenshtein

from ocrsmith.evaluation.metrics.wer import (
    WordScore,
    exact,
    ned,
    score_words,
    score_words_all,
    wer,
    words,
)

TEXT = st.text(alphabet=st.sampled_from("aab c.,'1é中文カ می\u200cک۱\n👩🏽\u200d💻🇮🇷é"), max_size=16)
SPACED = st.lists(st.sampled_from(["the", "cat", "sat", "سلام", "دنیا", "mi2", "x_y", "naïve"])).map(" ".join)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        (" \n\t\u3000", []),
        ("Don't stop, l’été!", ["Don't", "stop", ",", "l’été", "!"]),
        ("3.14 and 1,000.5; x.", ["3.14", "and", "1,000.5", ";", "x", "."]),
        ("e-mail a_b", ["e", "-", "mail", "a_b"]),
        ("a.5 5.a", ["a", ".", "5", "5", ".", "a"]),
        ("我爱OCR 2次。", ["我", "爱", "OCR", "2", "次", "。"]),
        ("カタカナとひらがな", list("カタカナとひらがな")),
        ("می‌خواهم کتاب‌ها را", ["می‌خواهم", "کتاب‌ها", "را"]),
        ("۱۲٫۵ درصد", ["۱۲٫۵", "درصد"]),
        ("مُحَمَّد", ["مُحَمَّد"]),
        ("हिन्दी में", ["हिन्दी", "में"]),
        ("한국어 문장", ["한국어", "문장"]),
        ("👩🏽‍💻🇮🇷🇨🇳!", ["👩🏽‍💻", "🇮🇷", "🇨🇳", "!"]),
        ("e\u0301te\u0301", ["e\u0301te\u0301"]),
        ("a\u200bb", ["a", "b"]),
        ("<td>12</td>", ["<", "td", ">", "12", "<", "/", "td", ">"]),
        ("H₂O x²", ["H₂O", "x²"]),
    ],
)
def test_words_by_hand(text: str, expected: list[str]) -> None:
    assert words(text) == expected


@given(st.text(max_size=40))
def test_words_lose_nothing_but_space(text: str) -> None:
    kept = "".join(text.replace("\u200b", " ").split())
    assert "".join("".join(words(text)).split()) == kept
    assert all(words(text))


@pytest.mark.parametrize(
    ("reference", "prediction", "expected"),
    [
        ("the cat sat", "the bat sat", 1 / 3),
        ("hello, world", "hello world", 1 / 3),  # the comma is a word
        ("我爱中国", "我爱中囯", 1 / 4),
        ("a", "a a a", 2.0),  # a loop
        ("", "", 0.0),
        ("", "a b", 1.0),
        ("a b", "", 1.0),
    ],
)
def test_wer_by_hand(reference: str, prediction: str, expected: float) -> None:
    assert wer(reference, prediction) == pytest.approx(expected)


@given(SPACED.filter(bool), SPACED)
def test_wer_of_spaced_words_is_that_of_jiwer(reference: str, prediction: str) -> None:
    assert wer(reference, prediction) == pytest.approx(jiwer.wer(reference, prediction))


@given(TEXT.filter(lambda text: bool(text.strip())), TEXT)
def test_wer_between_spaces_is_that_of_jiwer_on_any_text(reference: str, prediction: str) -> None:
    true, read = " ".join(reference.split()), " ".join(prediction.split())  # jiwer parts at plain spaces only
    assert wer(reference, prediction, boundaries="space") == pytest.approx(jiwer.wer(true, read))


@given(TEXT, TEXT)
def test_ned_is_a_symmetric_share(one: str, other: str) -> None:
    value = ned(one, other)
    assert 0 <= value <= 1
    assert value == ned(other, one)
    assert (value == 0) == exact(one, other) == (one == other)


@given(TEXT, TEXT, TEXT)
def test_word_edits_obey_the_triangle(one: str, other: str, third: str) -> None:
    def edits(a: str, b: str) -> int:
        return score_words(a, b).edits

    assert edits(one, third) <= edits(one, other) + edits(other, third)
    assert edits(one, other) == edits(other, one)


@given(TEXT, TEXT)
def test_a_word_has_at_most_the_edits_of_its_characters(one: str, other: str) -> None:
    if score_words(one, other).edits:
        assert Levenshtein.distance(one, other) > 0


def test_batch_gives_what_single_pairs_give() -> None:
    true, read = ["a b", "", "中文"], ["a", "x", "中文"]
    assert score_words_all(true, read) == [
        WordScore(1, 2, 0.5),
        WordScore(1, 0, 1.0),
        WordScore(0, 2, 0.0),
    ]
    with pytest.raises(ValueError):
        score_words_all(["a"], [])


def test_hostile_texts_take_linear_time() -> None:
    for piece in ("a.", "\u200d", "1,", "\u0301", "👩\u200d", "_", "'"):
        assert words(piece * 50_000)
