"""Figures over pages: by hand, against Python's statistics, and the bootstrap's properties."""

from __future__ import annotations

import json
import statistics
import time
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocrsmith.evaluation.metrics import PageScore, score_page
from ocrsmith.evaluation.statistics import Metrics, bootstrap_means, paired_interval, summarize
from ocrsmith.records import FinishReason

PAGE = st.tuples(st.text("ab", max_size=6), st.text("ab", max_size=6), st.sampled_from(get_args(FinishReason)))


def scores_of(rates: list[float]) -> list[PageScore]:
    return [PageScore(edits=round(rate * 100), length=100, cer=rate, exact=rate == 0) for rate in rates]


def figures(rates: list[float]) -> Metrics:
    return summarize(scores_of(rates), ["stop"] * len(rates), [""] * len(rates), seconds=1.5)


def test_figures_by_hand() -> None:
    metrics = figures([0.0, 0.1, 0.2, 0.3, 1.4])
    assert metrics.n == 5
    assert metrics.cer.mean == pytest.approx(0.4)
    assert metrics.cer.median == pytest.approx(0.2)
    assert metrics.cer.max == pytest.approx(1.4)
    assert metrics.cer.std == pytest.approx(statistics.pstdev([0.0, 0.1, 0.2, 0.3, 1.4]))
    # type 7: rank 0.9 * (5 - 1) = 3.6, between the 4th value 0.3 and the 5th 1.4
    assert metrics.cer.p90 == pytest.approx(0.3 + 0.6 * 1.1)
    assert metrics.cer.p95 == pytest.approx(0.3 + 0.8 * 1.1)
    assert metrics.exact_match == pytest.approx(1 / 5)
    assert metrics.seconds == 1.5


def test_micro_weighs_by_length_and_macro_does_not() -> None:
    scores = [score_page("a", "b"), score_page("a" * 99, "a" * 99)]
    metrics = summarize(scores, ["stop", "stop"], ["", ""], seconds=0)
    assert metrics.cer.mean == pytest.approx(0.5)
    assert metrics.cer.micro == pytest.approx(1 / 100)


def test_loops_truncated_and_failed_are_counted_apart() -> None:
    reasons: list[FinishReason] = ["stop", "loop", "loop", "length", "error"]
    metrics = summarize(scores_of([0, 0, 0, 0, 1.0]), reasons, [""] * 5, seconds=0)
    assert (metrics.loops, metrics.truncated, metrics.failed) == (2, 1, 1)


@given(st.lists(st.floats(0, 40), min_size=1, max_size=40))
def test_percentiles_are_those_of_the_standard_library(rates: list[float]) -> None:
    metrics = figures(rates)
    if len(rates) > 1:
        cuts = statistics.quantiles(rates, n=100, method="inclusive")  # the same definition, type 7
        assert metrics.cer.p90 == pytest.approx(cuts[89])
        assert metrics.cer.p95 == pytest.approx(cuts[94])
    assert metrics.cer.median == pytest.approx(statistics.median(rates))
    assert metrics.cer.mean == pytest.approx(statistics.fmean(rates))


@given(st.lists(PAGE, min_size=1, max_size=20))
def test_figures_hang_together(pages: list[tuple[str, str, FinishReason]]) -> None:
    scores = [score_page(a, b, failed=reason == "error") for a, b, reason in pages]
    metrics = summarize(scores, [reason for *_, reason in pages], [""] * len(pages), seconds=0)
    low, high = metrics.cer.mean_ci95
    assert 0 <= metrics.cer.median <= metrics.cer.p90 <= metrics.cer.p95 <= metrics.cer.max
    assert min(score.cer for score in scores) - 1e-9 <= low <= high <= metrics.cer.max + 1e-9
    assert metrics.loops + metrics.truncated + metrics.failed <= metrics.n
    assert Metrics.from_json(json.loads(json.dumps(metrics.to_json()))) == metrics


def test_metrics_json_has_the_promised_names() -> None:
    figures_json = figures([0.5]).to_json()
    rates = {"mean", "micro", "median", "std", "max", "p90", "p95", "mean_ci95"}
    others = {"n", "exact_match", "loops", "truncated", "failed", "seconds"}
    assert set(figures_json) == {"cer"} | {f"cer.{name}" for name in rates} | others
    assert figures_json["cer"] == {name: figures_json[f"cer.{name}"] for name in rates}


def test_no_pages_are_no_figures() -> None:
    with pytest.raises(ValueError, match="no pages"):
        summarize([], [], [], seconds=0)


def test_the_bootstrap_is_reproducible_and_centred() -> None:
    values = np.linspace(0, 1, 200)
    first, second = (bootstrap_means(values, [""] * 200) for _ in range(2))
    assert np.array_equal(first, second)
    assert first.mean() == pytest.approx(0.5, abs=0.01)
    # the standard error of a mean: sigma / sqrt(n)
    assert first.std() == pytest.approx(values.std() / np.sqrt(200), rel=0.1)


def test_documents_are_drawn_as_a_whole() -> None:
    # ten documents of ten equal pages hold as much as ten pages, not a hundred
    values = np.repeat(np.linspace(0, 1, 10), 10)
    groups = [f"document {n}" for n in range(10) for _ in range(10)]
    assert bootstrap_means(values, groups).std() == pytest.approx(values.std() / np.sqrt(10), rel=0.1)
    assert bootstrap_means(values, [""] * 100).std() == pytest.approx(values.std() / np.sqrt(100), rel=0.1)


def test_drawing_in_stretches_does_not_depend_on_their_size() -> None:
    many = np.random.default_rng(0).random(5_000)  # several stretches of draws
    means = bootstrap_means(many, [""] * 5_000, resamples=2_000)
    assert means.std() == pytest.approx(many.std() / np.sqrt(5_000), rel=0.1)


def test_the_interval_of_a_clear_improvement_is_below_zero() -> None:
    generator = np.random.default_rng(1)
    before = generator.random(100)
    interval = paired_interval(
        before.tolist(), (before - 0.1 + generator.normal(0, 0.05, 100)).tolist(), [""] * 100
    )
    assert interval.low < interval.estimate < interval.high < 0
    assert interval.estimate == pytest.approx(-0.1, abs=0.02)
    assert interval.share_below_zero == 1


def test_the_interval_of_nothing_is_zero() -> None:
    interval = paired_interval([0.1, 0.5, 2.0], [0.1, 0.5, 2.0], ["", "", ""])
    assert (interval.estimate, interval.low, interval.high) == (0, 0, 0)


def test_a_hundred_thousand_pages_are_summed_up_in_seconds() -> None:
    scores = scores_of((np.arange(100_000) % 50 / 50).tolist())
    begin = time.perf_counter()
    summarize(scores, ["stop"] * 100_000, [""] * 100_000, seconds=0)
    assert time.perf_counter() - begin < 8
