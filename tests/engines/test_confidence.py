"""Confidence of characters and pages, the places to look at, and calibrations on disk."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocrsmith.engines.confidence import (
    AcceptRule,
    Calibration,
    Isotonic,
    Span,
    Temperature,
    character_confidence,
    has_probabilities,
    low_confidence_spans,
    page_confidence,
)
from ocrsmith.errors import DataError
from ocrsmith.evaluation.store import PageResult
from ocrsmith.records import FinishReason, Prediction

HALF = math.log(0.5)
QUARTER = math.log(0.25)


def answer(
    text: str, ends: tuple[int, ...], *probabilities: float, finish: FinishReason = "stop"
) -> Prediction:
    logprobs = tuple(math.log(value) for value in probabilities)
    mean = sum(logprobs) / len(logprobs) if logprobs else None
    return Prediction("p", text, finish, 0.1, len(ends), mean, token_ends=ends, token_logprobs=logprobs)


# --- characters --------------------------------------------------------------------------------------------


def test_a_tokens_probability_goes_to_each_character_it_wrote() -> None:
    values = character_confidence("abcd", (3, 4, 4), (HALF, QUARTER, -9.0))
    assert values == pytest.approx([0.5, 0.5, 0.5, 0.25])


def test_tokens_that_make_up_one_character_multiply() -> None:
    values = character_confidence("x鬱y", (1, 1, 1, 2, 3), (0.0, HALF, HALF, QUARTER, HALF))
    assert values == pytest.approx([1.0, 0.0625, 0.5])


def test_a_token_that_completes_a_character_and_goes_on_counts_alone_for_the_rest() -> None:
    assert character_confidence("éab", (0, 3), (HALF, HALF)) == pytest.approx([0.25, 0.5, 0.5])


def test_characters_that_no_token_accounts_for_are_unknown() -> None:
    assert np.isnan(character_confidence("abc", (), ())).all()
    values = character_confidence("abc", (2,), (HALF,))
    assert values[:2] == pytest.approx([0.5, 0.5])
    assert math.isnan(values[2])


def test_ends_beyond_the_text_and_odd_numbers_do_no_harm() -> None:
    assert character_confidence("ab", (1, 7), (0.1, -math.inf)) == pytest.approx([1.0, 0.0])
    assert character_confidence("", (0, 0), (HALF, HALF)).shape == (0,)
    values = character_confidence("abc", (1, 2, 3), (-math.inf, math.nan, HALF))
    assert values[0] == 0
    assert math.isnan(values[1])
    assert values[2] == 0.5


@pytest.mark.parametrize(("ends", "logprobs"), [((1, 2), (0.0,)), ((2, 1), (0.0, 0.0)), ((-1, 1), (0.0, 0.0))])
def test_ends_that_make_no_sense_are_refused(ends: tuple[int, ...], logprobs: tuple[float, ...]) -> None:
    with pytest.raises(ValueError):
        character_confidence("ab", ends, logprobs)


@given(st.lists(st.tuples(st.integers(0, 3), st.floats(-20, 0)), max_size=30), st.integers(0, 4))
def test_characters_agree_with_the_rule_spelt_out(tokens: list[tuple[int, float]], extra: int) -> None:
    expected: list[float] = []
    waiting = 1.0
    ends = []
    for written, logprob in tokens:
        p = math.exp(logprob)
        for place in range(written):
            expected.append(p * waiting if place == 0 else p)
        waiting = 1.0 if written else waiting * p
        ends.append(len(expected))
    values = character_confidence("x" * (len(expected) + extra), ends, [logprob for _, logprob in tokens])
    assert values[: len(expected)] == pytest.approx(expected)
    assert np.isnan(values[len(expected) :]).all()


# --- pages -------------------------------------------------------------------------------------------------


def test_a_page_is_as_sure_as_the_errors_that_its_characters_let_one_expect() -> None:
    # (0 + 0 + 0.5 + 0.5) errors in 4 characters, and with a chance of 0.1 it ended too early.
    assert page_confidence(answer("abcd", (2, 4), 1.0, 0.5)) == pytest.approx(0.75)
    assert page_confidence(answer("abcd", (2, 4, 4), 1.0, 0.5, 0.9)) == pytest.approx(1 - 1.1 / 4)
    assert page_confidence(answer("a", (1, 1), 0.1, 0.05)) == 0.0


def test_prediction_and_page_result_have_the_same_confidence() -> None:
    read = answer("abc", (1, 3), 0.9, 0.4)
    result = PageResult(
        0, "p", "", "", "abc", "abc", "stop", token_ends=read.token_ends, token_logprobs=read.token_logprobs
    )
    assert page_confidence(result) == page_confidence(read)


@pytest.mark.parametrize("finish", ["error", "loop", "length"])
def test_a_page_that_did_not_end_by_itself_is_not_to_be_trusted(finish: FinishReason) -> None:
    calibration = Calibration(None, Temperature(1.0, 9.0))
    assert page_confidence(answer("abab", (2, 4), 1.0, 1.0, finish=finish)) == 0.0
    assert page_confidence(answer("abab", (2, 4), 1.0, 1.0, finish=finish), calibration) == 0.0


def test_an_empty_answer_is_as_sure_as_its_end() -> None:
    assert page_confidence(answer("", (0,), 0.25)) == pytest.approx(0.25)
    assert page_confidence(answer("", (0, 0), 0.5, 0.5)) == pytest.approx(0.25)


def test_without_single_tokens_their_mean_counts() -> None:
    only_mean = Prediction("p", "abc", "stop", 0.1, 3, logprob_mean=HALF)
    assert page_confidence(only_mean) == pytest.approx(0.5)


def test_without_probabilities_nothing_is_known() -> None:
    silent = Prediction("p", "abc", "stop", 0.1)
    assert page_confidence(silent) is None
    assert not has_probabilities(silent)
    assert has_probabilities(answer("a", (1,), 0.5))


def test_a_calibration_changes_characters_and_pages() -> None:
    calibration = Calibration(Isotonic(((0.0, 0.1), (1.0, 0.9))), Isotonic(((0.5, 0.2), (1.0, 0.4))))
    values = character_confidence("abc", (1, 2), (0.0, HALF), calibration)
    assert values[:2] == pytest.approx([0.9, 0.5])
    assert math.isnan(values[2])
    assert page_confidence(answer("ab", (1, 2), 1.0, 0.5), calibration) == pytest.approx(0.3)


def test_a_temperature_above_1_makes_sure_ones_less_sure() -> None:
    curve = Temperature(slope=0.5, shift=0.0)
    assert curve(np.array([0.5, 0.9, 0.1])) == pytest.approx([0.5, 0.75, 0.25])
    ends = curve(np.array([0.0, 1.0, math.nan]))
    assert 0 < ends[0] < 0.001
    assert 0.999 < ends[1] < 1
    assert math.isnan(ends[2])


# --- spans -------------------------------------------------------------------------------------------------


def spans(text: str, *low: int) -> list[str]:
    values = np.ones(len(text))
    values[list(low)] = 0.25
    return [text[span.start : span.end] for span in low_confidence_spans(text, values, 0.5)]


def test_a_low_character_marks_its_word() -> None:
    assert spans("the harbour dues", 6) == ["harbour"]
    assert spans("It's 12.50 today", 8) == ["50"]


def test_neighbours_on_a_line_become_one_and_lines_stay_apart() -> None:
    assert spans("the harbour dues", 5, 13) == ["harbour dues"]
    assert spans("the harbour dues", 0, 13) == ["the", "dues"]
    assert spans("harbour\ndues", 0, 9) == ["harbour", "dues"]


def test_chinese_characters_stand_alone_and_runs_join() -> None:
    assert spans("東西南北中", 1) == ["西"]
    assert spans("東西南北中", 1, 2, 4) == ["西南", "中"]


def test_persian_words_keep_their_joiner_and_marks_belong_to_letters() -> None:
    assert spans("او می\u200cرود خانه", 4) == ["می\u200cرود"]
    assert spans("un cafe\u0301 noir", 4) == ["cafe\u0301"]


def test_white_space_alone_and_unknown_characters_are_not_marked() -> None:
    assert spans("a b", 1) == []
    assert low_confidence_spans("ab", np.array([math.nan, 0.9]), 0.5) == ()


def test_a_span_is_as_sure_as_its_least_sure_character() -> None:
    values = np.array([0.4, 0.9, 0.2, 1.0, 0.45])
    assert low_confidence_spans("abc d", values, 0.5) == (Span(0, 5, 0.2),)


def test_a_word_without_end_is_not_marked_as_a_whole() -> None:
    assert [len(found) for found in spans("x" * 500, 250)] == [64]


def test_a_value_for_each_character_is_needed() -> None:
    with pytest.raises(ValueError, match="1 values for 2 characters"):
        low_confidence_spans("ab", np.array([0.5]), 0.5)


@given(st.text(alphabet="ab 中\n.", max_size=40), st.randoms(use_true_random=False))
def test_spans_are_in_order_apart_and_hold_every_low_character(text: str, random: Any) -> None:
    values = np.array([random.choice((0.1, 0.9)) for _ in text])
    found = low_confidence_spans(text, values, 0.5)
    covered = {place for span in found for place in range(span.start, span.end)}
    assert sum(span.end - span.start for span in found) == len(covered)
    assert {place for place, value in enumerate(values) if value < 0.5 and not text[place].isspace()} <= covered


# --- on disk -----------------------------------------------------------------------------------------------

CALIBRATION = Calibration(
    Isotonic(((0.1, 0.2), (0.9, 0.95))),
    Temperature(0.7, -0.2),
    AcceptRule(0.02, 0.95, 0.983, {"coverage": 0.4}),
    {"model": {"name": "nano"}, "pages": 12},
)


def test_a_calibration_comes_back_from_its_file_and_from_its_folder(tmp_path: Path) -> None:
    CALIBRATION.save(tmp_path / "calibration.json")
    assert Calibration.load(tmp_path / "calibration.json") == CALIBRATION
    assert Calibration.load(tmp_path) == CALIBRATION
    assert CALIBRATION.method == "isotonic (characters), temperature (pages)"


def test_pages_without_token_confidences_have_a_calibration_too(tmp_path: Path) -> None:
    calibration = Calibration(None, Isotonic(((0.5, 0.5),)), AcceptRule(0.02, 0.95, None, {"reason": "few"}))
    calibration.save(tmp_path / "c.json")
    assert Calibration.load(tmp_path / "c.json") == calibration
    assert calibration.method == "isotonic"
    assert np.isnan(character_confidence("a", (), (), calibration)).all()


def test_which_pages_pass() -> None:
    sure, unsure = answer("ab", (1, 2), 1.0, 0.99), answer("ab", (1, 2), 1.0, 0.9)
    assert CALIBRATION.accepts(sure) is True
    assert CALIBRATION.accepts(unsure) is False
    assert CALIBRATION.accepts(Prediction("p", "ab", "stop", 0.1)) is None
    assert Calibration(None, Temperature(1, 0)).accepts(sure) is None
    assert Calibration(None, Temperature(1, 0), AcceptRule(0.02, 0.95, None)).accepts(sure) is False


def test_a_missing_calibration_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"There is no calibration\.") as caught:
        Calibration.load(tmp_path)
    assert caught.value.place == str(tmp_path / "calibration.json")
    assert "ocrsmith calibrate" in str(caught.value.mend)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format": 9}, "format 9 is unknown"),
        ({"pages": {"method": "magic"}}, "method 'magic' is unknown"),
        ({"pages": {"method": "isotonic", "knots": []}}, "do not rise"),
        ({"pages": {"method": "isotonic", "knots": [[0.5, 0.5], [0.6, 0.4]]}}, "do not rise"),
        ({"pages": {"method": "isotonic", "knots": [[0.5, 1.5]]}}, "not between 0 and 1"),
        ({"pages": {"method": "temperature", "slope": -1, "shift": 0}}, "slope or shift"),
        ({"pages": {"method": "temperature", "slope": "NaN", "shift": 0}}, "slope or shift"),
        ({"pages": {"method": "temperature", "slope": 1}}, "'shift' is missing"),
        ({"accept": {"cer": 2, "level": 0.95, "threshold": None}}, "not between 0 and 1"),
        ({"pages": None}, "cannot be read as a calibration"),
        ({"fitted_on": 5}, "cannot be read as a calibration"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_a_damaged_calibration_is_refused(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    file = tmp_path / "calibration.json"
    file.write_text(json.dumps({**CALIBRATION.to_json(), **change}))
    with pytest.raises(DataError, match=words):
        Calibration.load(file)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe\x00"], ids=["empty", "cut", "list", "binary"])
def test_what_is_no_calibration_at_all_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "calibration.json"
    file.write_bytes(content)
    with pytest.raises(DataError, match="calibration"):
        Calibration.load(file)
