"""Character error rate: against jiwer, against a plain dynamic programme, and by hand."""

from __future__ import annotations

import time
import unicodedata

import jiwer
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocrsmith.evaluation.metrics import cer, score_page

TEXT = st.text(alphabet=st.sampled_from("abcé 中文字می\u200cک۱12\n"), max_size=14)


def edit_distance(first: str, second: str) -> int:
    """Wagner and Fischer's table, row by row."""
    row = list(range(len(second) + 1))
    for i, a in enumerate(first, 1):
        diagonal, row[0] = row[0], i
        for j, b in enumerate(second, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (a != b))
    return row[-1]


@pytest.mark.parametrize(
    ("reference", "prediction", "expected"),
    [
        ("kitten", "sitting", 3 / 6),  # k→s, e→i, +g
        ("abcd", "abcd", 0.0),
        ("abcd", "", 1.0),
        ("ab", "ab" * 10, 18 / 2),  # a loop: more edits than characters
        ("中文", "中丈", 1 / 2),
        ("کتاب", "كتاب", 1 / 4),  # another kaf: a different code point counts
        ("می‌خواهم", "میخواهم", 1 / 8),  # a missing ZWNJ is one edit
        ("é", unicodedata.normalize("NFD", "é"), 2.0),  # no normalisation: e and an accent are not é
        ("a b", "ab", 1 / 3),
        ("", "", 0.0),
        ("", "anything", 1.0),
    ],
)
def test_cer_by_hand(reference: str, prediction: str, expected: float) -> None:
    assert cer(reference, prediction) == pytest.approx(expected)


@given(TEXT, TEXT)
def test_edits_are_those_of_the_textbook_algorithm(reference: str, prediction: str) -> None:
    assert score_page(reference, prediction).edits == edit_distance(reference, prediction)


@given(TEXT.filter(lambda text: bool(text.strip())), TEXT)
def test_cer_is_that_of_jiwer(reference: str, prediction: str) -> None:
    plain = jiwer.Compose([jiwer.ReduceToListOfListOfChars()])  # jiwer strips by default, we do not
    oracle = jiwer.cer(reference, prediction, reference_transform=plain, hypothesis_transform=plain)
    assert cer(reference, prediction) == pytest.approx(oracle)


@given(TEXT, TEXT)
def test_cer_is_zero_exactly_for_equal_texts(reference: str, prediction: str) -> None:
    score = score_page(reference, prediction)
    assert (score.cer == 0) == score.exact == (reference == prediction)
    assert score.cer >= 0


@given(TEXT, TEXT)
def test_a_failed_page_counts_as_one_whatever_its_text(reference: str, prediction: str) -> None:
    score = score_page(reference, prediction, failed=True)
    assert score.cer == 1
    assert score.edits == max(1, len(reference))
    assert not score.exact


def test_a_hundred_thousand_lines_are_scored_in_seconds() -> None:
    pairs = [(f"line {n} of the archive, 1924", f"line {n} of tne archive 1924") for n in range(100_000)]
    begin = time.perf_counter()
    for reference, prediction in pairs:
        score_page(reference, prediction)
    assert time.perf_counter() - begin < 5
