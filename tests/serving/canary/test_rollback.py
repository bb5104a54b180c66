"""The rollback rule: three answers, and never a rollback for want of knowledge."""

from __future__ import annotations

import math
from typing import Any

import pytest

from ocrsmith.errors import SettingsError
from ocrsmith.serving.canary.choice import PageKey
from ocrsmith.serving.canary.figures import NAMES, arm_figures, score_corrected
from ocrsmith.serving.canary.records import Answer, Correction
from ocrsmith.serving.canary.rollback import RollbackRule


def figures(**known: float) -> dict[str, float]:
    return (
        dict.fromkeys(NAMES, math.nan) | {"n": 100.0} | {name.replace("_", "."): v for name, v in known.items()}
    )


def decide(rule: str, base: dict[str, float] | None = None, **known: float) -> Any:
    return RollbackRule.parse(rule, after=50).decide(figures(**known), base or figures())


@pytest.mark.parametrize(
    ("rule", "known", "holds"),
    [
        ("loops > 0.01", {"loops": 0.02}, True),
        ("loops > 0.01", {"loops": 0.01}, False),
        ("loops > 0.01 or p90 > 0.05", {"loops": 0.02}, True),
        ("p90 > 0.05 or loops > 0.01", {"loops": 0.02}, True),
        ("loops > 0.01 or p90 > 0.05", {"loops": 0.0}, None),
        ("loops > 0.01 or p90 > 0.05", {"loops": 0.0, "cer_p90": 0.06}, True),
        ("loops > 0.01 and p90 > 0.05", {"loops": 0.02}, None),
        ("loops > 0.01 and p90 > 0.05", {"loops": 0.0}, False),
        ("p90 > 0.05 and loops > 0.01", {"loops": 0.0}, False),
        ("loops / failed > 2", {"loops": 0.1, "failed": 0.0}, None),
        ("failed > 0 and loops / failed > 2", {"loops": 0.1, "failed": 0.0}, False),
        ("loops > base.loops + 1%", {"loops": 0.1}, None),
    ],
)
def test_a_figure_without_a_value_leaves_a_rule_undecided(
    rule: str, known: dict[str, float], holds: bool | None
) -> None:
    decision = decide(rule, None, **known)
    assert decision.holds is holds
    assert holds is not None or decision.undecided


def test_what_is_undecided_is_said() -> None:
    assert decide("p90 > 5% or base.seconds.p90 > 1").undecided == (
        "p90 has no value yet",
        "base.seconds.p90 has no value yet",
    )
    rule = RollbackRule.parse("loops > 0", after=200)
    assert rule.decide(figures(loops=1.0), figures()).undecided == ("100 of 200 answers of the candidate",)
    assert decide("loops > 0.01", loops=0.25).because == "loops > 0.01 (0.25)"


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        ("lops > 0.01", "no figure 'lops'"),
        ("loops", "only a number"),
        ("loops > 1 / 0", "divides by zero"),
        ("base.cer.p91 > 1", "no figure 'base.cer.p91'"),
    ],
)
def test_a_rule_that_is_none_is_refused_before_the_server_starts(rule: str, says: str) -> None:
    with pytest.raises(SettingsError, match=says) as caught:
        RollbackRule.parse(rule)
    assert "--rollback-if" in str(caught.value.place)
    with pytest.raises(SettingsError, match="too few"):
        RollbackRule.parse("loops > 0", after=0)


def key(number: int) -> PageKey:
    return PageKey(str(number), "p")


def test_the_figures_of_an_arm() -> None:
    """Ten answers that count: 2 loops, 1 cut off, 2 failed, 5 whole of which one is empty; two say nothing."""
    ends: list[Any] = ["loop"] * 2 + ["length"] + ["error"] * 2 + ["stop"] * 5 + ["cancelled", "refused"]
    answers = [
        Answer(
            *(f"r{number}", "candidate", key(number), end, float(number)),
            tokens=number,
            logprob_mean=-1.0,
            length=0 if number == 9 else 4,
        )
        for number, end in enumerate(ends)
    ]
    found = arm_figures(answers, {})
    assert (found["n"], found["loops"], found["truncated"], found["failed"], found["empty"]) == (
        *(10, 0.2, 0.1, 0.2),
        0.1,
    )
    whole = [0, 1, 2, 5, 6, 7, 8, 9]
    assert found["seconds.mean"] == found["tokens.mean"] == sum(whole) / 8
    assert found["seconds.p50"] == 5.5
    assert found["confidence.mean"] == pytest.approx(5 * math.exp(-1) / 8), "what did not end by itself is 0"
    assert found["n_corrected"] == 0
    assert math.isnan(found["cer.mean"])
    assert math.isnan(arm_figures([], {})["loops"])


def test_errors_count_on_corrected_pages_of_which_there_are_enough() -> None:
    texts = ["abcd", "abcx", " abcd\n", "", *["abcd"] * 6]
    answers = [
        Answer(f"r{number}", "candidate", key(number), "stop", 1.0, text=text, number=number + 1)
        for number, text in enumerate(texts)
    ]
    answers.append(Answer("failed", "candidate", key(99), "error", 1.0, text="abcd", number=50))
    corrections = {key(number): Correction(key(number), "abcd", number=1) for number in (*range(10), 99)}
    scores = score_corrected(answers, corrections)["candidate"]
    found = arm_figures(answers, scores)
    assert found["n_corrected"] == 11
    assert found["cer.mean"] == pytest.approx((0.25 + 1 + 1) / 11), "what failed is all wrong"
    assert found["cer.micro"] == pytest.approx(9 / 44)
    assert found["cer.p90"] == 1.0
    few = dict(list(scores.items())[:9])
    assert math.isnan(arm_figures(answers, few)["cer.p90"])
