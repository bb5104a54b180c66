"""The verdict on constructed cases, and the figures beside it against independent arithmetic."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocrsmith.evaluation.metrics.cer import PageScore
from ocrsmith.serving.canary import open_store
from ocrsmith.serving.canary.choice import PageKey
from ocrsmith.serving.canary.comparison import make_report, wilson
from ocrsmith.serving.canary.judgement import FEWEST_APART, judge
from ocrsmith.serving.canary.records import Answer, Correction, KeptPage, Request
from ocrsmith.serving.canary.report import to_html, to_markdown

from .filling import fill


def scores(rates: list[float], first: int = 0) -> dict[PageKey, PageScore]:
    return {
        PageKey(str(number), "p"): PageScore(round(rate * 100), 100, rate, rate == 0)
        for number, rate in enumerate(rates, start=first)
    }


def noise(count: int, middle: float, seed: int) -> list[float]:
    generator = random.Random(seed)
    return [max(0.0, generator.gauss(middle, 0.02)) for _ in range(count)]


def test_pages_that_both_read_are_compared_in_pairs() -> None:
    rates = noise(40, 0.2, 1)
    found = judge({"base": scores(rates), "candidate": scores([rate - 0.05 for rate in rates])})
    assert (found.method, found.verdict, found.pages) == ("paired", "better", (40, 40))
    assert found.change == pytest.approx(-0.05)
    assert found.ci95 == pytest.approx((-0.05, -0.05))
    assert "better than the base" in found.sentence
    worse = judge({"base": scores(rates), "candidate": scores([rate + 0.05 for rate in rates])})
    assert worse.verdict == "worse"


def test_what_is_not_known_says_how_many_pages_it_would_take() -> None:
    """Differences of ±0.1 with a mean of 0.01: variance 0.00991…, so (1.96 + 0.84)² · s² / 0.01² pages."""
    changes = [0.1] * 22 + [-0.1] * 18
    found = judge({"base": scores([0.5] * 40), "candidate": scores([0.5 + change for change in changes])})
    mean = sum(changes) / 40
    variance = sum((change - mean) ** 2 for change in changes) / 39
    assert (found.method, found.verdict) == ("paired", "unclear")
    assert found.needed == pytest.approx((1.959964 + 0.841621) ** 2 * variance / mean**2, abs=1)
    assert f"about {found.needed:,} corrected pages" in found.sentence


def test_different_pages_are_compared_as_two_groups_and_it_says_so() -> None:
    base, candidate = scores(noise(60, 0.2, 2)), scores(noise(60, 0.1, 3), first=1000)
    found = judge({"base": base, "candidate": candidate})
    assert (found.method, found.verdict, found.pages) == ("apart", "better", (60, 60))
    assert found.ci95 is not None
    assert found.ci95[0] < -0.1 < found.ci95[1] < 0
    assert "different pages" in found.caution
    alike = [rate + 0.001 for rate in noise(60, 0.2, 2)]
    same = judge({"base": base, "candidate": scores(alike, first=1000)})
    assert same.verdict == "unclear"
    assert "of each model" in same.sentence


def test_two_groups_that_do_not_differ_are_seldom_told_apart() -> None:
    wrong = sum(
        judge(
            {"base": scores(noise(30, 0.2, seed)), "candidate": scores(noise(30, 0.2, seed + 500), first=1000)}
        ).verdict
        != "unclear"
        for seed in range(100)
    )
    assert wrong <= 13, "5 in 100 are expected, 13 or more with a chance of 1 in 1,000"


@pytest.mark.parametrize(("both", "alone"), [(0, 0), (5, 5), (0, FEWEST_APART - 1)])
def test_too_few_corrections_give_no_verdict(both: int, alone: int) -> None:
    base = scores([0.5] * (both + alone))
    candidate = scores([0.0] * both) | scores([0.0] * alone, first=1000)
    found = judge({"base": base, "candidate": candidate})
    assert (found.method, found.verdict, found.needed) == ("none", "unclear", None)
    assert "Not yet known" in found.sentence


def test_no_difference_at_all_is_no_verdict() -> None:
    found = judge({"base": scores([0.0] * 50), "candidate": scores([0.0] * 50)})
    assert (found.verdict, found.change, found.needed) == ("unclear", 0.0, None)


@given(st.integers(0, 400), st.integers(1, 400))
def test_wilsons_interval_solves_its_equation(count: int, more: int) -> None:
    """Its ends are where the share lies 1.96 standard errors away, the error taken there."""
    total = count + more
    low, high = wilson(count, total)
    assert 0 <= low <= count / total <= high <= 1
    for end in (low, high):
        if 0 < end < 1:
            error = (end * (1 - end) / total) ** 0.5
            assert abs(count / total - end) == pytest.approx(1.959964 * error, rel=1e-4)
    assert wilson(0, 0) == (0.0, 1.0)


def test_a_report_on_a_shadowed_canary(place: str, tmp_path: Path) -> None:
    fill(place, pages=30, candidate=lambda true: true, base=lambda true: "x" + true[1:])
    with open_store(place) as store:
        found = make_report(store)
        assert found is not None
        assert (found.judgement.method, found.judgement.verdict) == ("paired", "better")
        assert found.agreement is not None
        assert (found.agreement.n, found.agreement.same) == (30, 0.0)
        assert len(found.agreement.most) == 20
        assert found.arms["base"].figures["n"] == found.arms["candidate"].figures["n"] == 30
        assert found.arms["candidate"].figures["cer.mean"] == 0
        assert found.arms["base"].intervals["loops"] == wilson(0, 30)
        low, high = found.arms["base"].intervals["seconds.p50"]
        assert low <= found.arms["base"].figures["seconds.p50"] <= high
        told = found.to_json()
        assert told["verdict"]["verdict"] == "better"
        assert told["arms"]["base"]["figures"]["loops"]["ci95"] == wilson(0, 30)
        markdown, page = to_markdown(found), to_html(found)
        assert "The candidate is better than the base" in markdown
        assert "| mean CER | " in markdown
        assert "<script" not in page
        assert "B&lt;b&gt;" in page
        assert "B<b>" not in page
        assert "B<b>" not in markdown


def test_corrections_can_be_given_without_being_stored(place: str) -> None:
    fill(place, pages=10, candidate=lambda true: true, base=lambda true: "", correct=False)
    with open_store(place) as store:
        plain = make_report(store)
        assert plain is not None
        assert plain.judgement.method == "none"
        more = [Correction(key, f"the true text {int(key.page, 16)}") for key in store.kept_keys()]
        given = make_report(store, corrections=more)
        assert given is not None
        assert given.judgement.verdict == "better"
        assert store.corrections() == {}


def test_there_is_no_report_on_nothing(place: str) -> None:
    with open_store(place, create=True) as store:
        assert make_report(store) is None
        store.start("A", "B", {"share": 0.1, "rollback_if": "loops > 0.01", "rollback_after": 50})
        found = make_report(store)
        assert found is not None
        markdown = to_markdown(found)
        assert "Not yet known: 0 corrected pages" in markdown
        assert "is undecided now: 0 of 50 answers" in markdown
        made: Any = found.to_json()
        assert made["arms"]["base"]["figures"]["loops"] == {"value": None, "ci95": None}


def test_a_page_whose_image_was_dropped_still_counts(tmp_path: Path) -> None:
    place = str(tmp_path / "c.db")
    fill(place, pages=8, candidate=lambda true: true, base=lambda true: "")
    with open_store(place) as store:
        big = KeptPage(PageKey("f" * 64, "p" * 64), 9_999.0, "p", b"x" * 200)
        store.add(1, requests=[Request("big", 9_999.0, big.key, "base")], pages=[big], keep_bytes=200)
        store.add(1, answers=[Answer("big", "base", big.key, "stop", 1.0)])
        found = make_report(store)
        assert found is not None
        assert store.kept_keys() == {big.key}
        assert found.judgement.pages == (8, 8)
