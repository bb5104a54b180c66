"""The rules of a gate: what they mean, what is refused and how, and that no text at all breaks the parser."""

from __future__ import annotations

import math
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ocrsmith.errors import DataError, InputError, SettingsError
from ocrsmith.evaluation.gate import all_hold, check_rules, flatten, read_rules
from ocrsmith.evaluation.rules import Comparison, Connection, Name, Negative, Number, Operation, parse_rule

FIGURES = {"n": 200.0, "cer.mean": 0.04, "cer.p90": 0.06, "cer.p95": 0.10, "loops": 0.0, "exact_match": 0.9}
BASE = {"n": 200.0, "cer.mean": 0.05, "cer.p90": 0.06, "cer.p95": 0.10, "loops": 2.0, "exact_match": 0.5}


def holds(rule: str) -> bool:
    return check_rules([parse_rule(rule)], FIGURES, BASE)[0].holds


def refusal(rule: str, base: Any = None) -> str:
    with pytest.raises(SettingsError) as caught:
        check_rules([parse_rule(rule)], FIGURES, base)
    return str(caught.value)


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("cer.p90 < 0.05", False),
        ("p90 <= 0.06", True),
        ("p90 < 6.1%", True),
        ("loops == 0", True),
        ("loops != 0", False),
        ("cer.mean < base.cer.mean", True),
        ("mean < base.mean * 0.9", True),
        ("mean < base.mean * 0.79", False),
        ("exact_match >= 0.9", True),
        ("cer.p95 <= base.cer.p95 * 1.02 + 0.001", True),
        ("p90 - base.p90 == 0", True),
        ("2 + 3 * 4 == 14", True),
        ("(2 + 3) * 4 == 20", True),
        ("10 - 4 - 3 == 3", True),
        ("16 / 4 / 2 == 2", True),
        ("-loops - -1 == 1", True),
        ("1 == 2 or 1 == 1 and 2 == 2", True),
        ("(1 == 1 or 1 == 1) and 2 == 3", False),
        ("1 == 1 or 1 == 1 and 2 == 3", True),
        ("1e-3 < .5  # a comment, ≤ and all", True),
        ('"cer"."mean" < 1', True),
        ("loops > 0 and n / loops < 3", False),
    ],
)
def test_what_a_rule_means(rule: str, expected: bool) -> None:
    assert holds(rule) is expected


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ("", ["There is no rule here", "p90 < 0.05"]),
        ("# only a comment", ["There is no rule here"]),
        ("p90", ["only a number", "`p90 < 0.05`", "character 1"]),
        ("p90 = 0.05", ["'=' has no meaning", "character 5", "Write == to compare"]),
        ("p90 ≤ 5%", ["'≤' has no meaning", "Write <="]),
        ("p90 < ", ["should be where the end is", "character 7"]),
        ("p90 << 0.05", ["where '<' is", "character 6"]),
        ("0 < p90 < 1", ["two sides", "a < b and b < c"]),
        ("(p90 < 1", ["closing bracket is missing", "character 9"]),
        ("p90 < 1)", ["')' is not expected", "character 8"]),
        ("p90 < 1 loops == 0", ["'loops' is not expected"]),
        ("p90 + (n < 2) < 1", ["not a comparison", "character 7"]),
        ("p90 and loops == 0", ["only a number"]),
        ("and == 1", ["where 'and' is"]),
        ("p90 < 1e999", ["too large a number"]),
        ("p90 < 0,05", ["',' has no meaning", "Decimals have a point"]),
        ("__import__('os').system('ls') == 0", ['"\'" has no meaning']),
        ("eval(n) == 0", ["'(' is not expected"]),
        ("n ** 2 == 4", ["where '*' is"]),
        ("1" + " + 1" * 100 + " == 2", ["more than 120", "several rules"]),
        ("(" * 50 + "1" + ")" * 50 + " == 1", ["More than 30 brackets"]),
        ("-" * 50 + "1 == 1", ["More than 30 brackets"]),
    ],
)
def test_what_is_no_rule_is_refused_with_place_and_mend(rule: str, words: list[str]) -> None:
    message = refusal(rule)
    assert all(word in message for word in words), message


def test_unknown_names_list_the_known_and_the_near_ones() -> None:
    message = refusal("cer.p9O < 0.05")
    assert "There is no figure 'cer.p9O'." in message
    assert "Did you mean cer.p95 or cer.p90?" in message
    assert "Known: cer.mean, cer.p90, cer.p95, exact_match, loops, n." in message
    assert "base.cer.mean" in refusal("loops < base.cer.maen", BASE)
    assert "Did you mean" not in refusal("zzzzzz < 1")


def test_a_name_that_is_not_reached_is_looked_up_all_the_same() -> None:
    assert "There is no figure 'lops'" in refusal("loops == 0 or lops == 1")


def test_a_missing_base_is_said() -> None:
    message = refusal("cer.mean < base.cer.mean")
    assert "no base was given" in message
    assert "--base EVAL" in message


def test_division_by_zero_is_an_error_that_and_can_guard() -> None:
    assert "'n / loops' divides by zero" in refusal("n / loops < 3")
    assert "'n / (1 - 1)' divides by zero" in refusal("n / (1 - 1) < 3")
    assert not holds("loops != 0 and n / loops < 3")


def test_figures_without_a_value_are_an_error() -> None:
    for value in (math.nan, math.inf):
        with pytest.raises(SettingsError, match="'bleu' has no value"):
            check_rules([parse_rule("bleu > 1")], {"bleu": value})
    with pytest.raises(SettingsError, match="too large a number"):
        check_rules([parse_rule("1e308 * 10 > 1")], {})


def test_names_come_from_the_figures_of_an_evaluation(evaluation: Any) -> None:
    metrics = evaluation(("abcd", "abcd"), ("abcd", "abxx")).metrics
    figures = flatten({**metrics.to_json(), "provenance": {"seconds": 1}, "verdict": "yes", "bleu": None})
    assert figures["cer.mean"] == 0.25
    assert figures["n"] == 2
    assert figures["cer.mean_ci95.low"] <= figures["cer.mean_ci95.high"]
    assert math.isnan(figures["bleu"])
    assert not any("provenance" in name or name == "verdict" for name in figures)
    assert check_rules([parse_rule("median == 25%")], figures)[0].holds


def test_strata_with_odd_names_are_quoted() -> None:
    figures = flatten({"strata": {"source": {"tapus alto": {"cer": {"mean": 0.1}}}}})
    assert check_rules([parse_rule('strata.source."tapus alto".cer.mean < 0.2')], figures)[0].holds


def test_the_outcome_says_what_decided() -> None:
    outcome = check_rules([parse_rule("loops == 0 and p90 < 5%")], FIGURES)[0]
    assert not outcome.holds
    assert [(item.text, item.left, item.right, item.holds) for item in outcome.compared] == [
        ("loops == 0", 0.0, 0.0, True),
        ("p90 < 0.05", 0.06, 0.05, False),
    ]
    assert outcome.compared[1].off == pytest.approx(0.01)
    assert not all_hold([outcome])
    assert outcome.to_json()["comparisons"][1]["holds"] is False


def test_rules_are_read_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "gate.rules"
    file.write_text("﻿# before release\n\np90 < 5%   # target\r\nloops == 0", encoding="utf-8")
    assert [rule.text for rule in read_rules(file)] == ["p90 < 5%", "loops == 0"]


def test_files_that_cannot_be_meant_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "gate.rules"
    with pytest.raises(InputError, match="no such file"):
        read_rules(file)
    file.write_text("# nothing\n")
    with pytest.raises(DataError, match="no rules"):
        read_rules(file)
    file.write_bytes(b"p90 < \xff")
    with pytest.raises(DataError, match="Byte 7 is not UTF-8"):
        read_rules(file)
    file.write_text("loops == 0\np90 <\n")
    with pytest.raises(SettingsError) as caught:
        read_rules(file)
    assert f"{file}, line 2, character 6" in str(caught.value)
    file.write_bytes(b"#" * 1_000_001)
    with pytest.raises(DataError, match="too large"):
        read_rules(file)


# --- properties --------------------------------------------------------------------------------------------

parts = st.text(st.characters(exclude_categories=("C",), exclude_characters='"\n'), max_size=8)
names = st.builds(
    Name,
    st.lists(parts | st.sampled_from(["cer", "and", "or", "base", "p90"]), min_size=1, max_size=3).map(tuple),
)
numbers = st.builds(Number, st.floats(0, 1e300, allow_nan=False).map(abs))
sums = st.recursive(
    numbers | names,
    lambda inner: st.builds(Negative, inner) | st.builds(Operation, inner, st.sampled_from("+-*/"), inner),
    max_leaves=8,
)
statements = st.recursive(
    st.builds(Comparison, sums, st.sampled_from(["<", "<=", ">", ">=", "==", "!="]), sums),
    lambda inner: st.builds(Connection, inner, st.sampled_from(["and", "or"]), inner),
    max_leaves=3,
)


@settings(max_examples=300, deadline=None)
@given(statements)
def test_a_printed_rule_is_parsed_to_the_same(statement: Any) -> None:
    try:
        parsed = parse_rule(str(statement))
    except SettingsError as error:
        problem = error.problem
    else:
        assert parsed.statement == statement
        return
    assert "more than 120" in problem or "More than 30" in problem


@settings(max_examples=500, deadline=None)
@given(
    st.text(max_size=60)
    | st.lists(
        st.sampled_from(["p90", "1", "5%", "<", "==", "(", ")", "-", "/", "and", "or", ".", '"', "#", "base.n"])
    ).map(" ".join)
)
@example('"')
@example("1.2.3 < 1")
@example("a..b < 1")
@example("a. b < 1")
@example("۵ < 1")
@example("² < 1")
def test_no_text_breaks_the_parser(text: str) -> None:
    with suppress(SettingsError):
        check_rules([parse_rule(text)], FIGURES, BASE)
