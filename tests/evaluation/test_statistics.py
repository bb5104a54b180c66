"""Figures over pages: by hand, against Python's statistics, and the bootstrap's properties."""

from __future__ import annotations

import json
import statistics
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocrsmith.evaluation.metrics import PageScore, score_page
from ocrsmith.evaluation.statistics import (
    RESAMPLES,
    SEED,
    Column,
    Metrics,
    bootstrap_means,
    bootstrap_sums,
    count_documents,
    figures_over,
    paired_interval,
    percentile_intervals,
    ratio,
    summarize,
)
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
        assert metrics.cer.p99 == pytest.approx(cuts[98])
    assert metrics.cer.median == pytest.approx(statistics.median(rates))
    assert metrics.cer.mean == pytest.approx(statistics.fmean(rates))


@given(st.lists(PAGE, min_size=1, max_size=20))
def test_figures_hang_together(pages: list[tuple[str, str, FinishReason]]) -> None:
    scores = [score_page(a, b, failed=reason == "error") for a, b, reason in pages]
    metrics = summarize(scores, [reason for *_, reason in pages], [""] * len(pages), seconds=0)
    low, high = metrics.cer.mean_ci95
    assert metrics.cer.min is not None
    assert metrics.cer.p99 is not None
    assert 0 <= metrics.cer.min <= metrics.cer.median <= metrics.cer.p90
    assert metrics.cer.p90 <= metrics.cer.p95 <= metrics.cer.p99 <= metrics.cer.max
    assert min(score.cer for score in scores) - 1e-9 <= low <= high <= metrics.cer.max + 1e-9
    assert metrics.loops + metrics.truncated + metrics.failed <= metrics.n
    assert Metrics.from_json(json.loads(json.dumps(metrics.to_json()))) == metrics


def test_metrics_json_has_the_promised_names() -> None:
    figures_json = figures([0.5]).to_json()
    rates = {"mean", "micro", "median", "std", "min", "max", "p90", "p95", "p99"}
    rates |= {f"{name}_ci95" for name in ("mean", "micro", "median", "p90", "p95", "p99")}
    others = {"n", "exact_match", "loops", "truncated", "failed", "seconds"}
    assert set(figures_json) == {"cer"} | {f"cer.{name}" for name in rates} | others
    assert figures_json["cer"] == {name: figures_json[f"cer.{name}"] for name in rates}


def test_figures_of_an_earlier_version_are_read_without_what_it_did_not_have() -> None:
    written = figures([0.5, 0.1]).to_json()
    for name in ("min", "p99", "micro_ci95", "median_ci95", "p90_ci95", "p95_ci95", "p99_ci95"):
        del written["cer"][name], written[f"cer.{name}"]
    read = Metrics.from_json(written)
    assert (read.cer.min, read.cer.p99, read.cer.micro_ci95, read.cer.p90_ci95) == (None, None, None, None)
    assert read.cer.max == 0.5
    again = json.loads(json.dumps(read.to_json(), allow_nan=False))
    assert Metrics.from_json(again) == read


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
    many = np.random.default_rng(0).random(3_001)  # several stretches of draws
    draws = np.random.default_rng(SEED).integers(0, 3_001, size=(200, 3_001))
    means = bootstrap_means(many, [""] * 3_001, resamples=200)
    assert means == pytest.approx(many[draws].mean(axis=1))


GROUPS = ["a", "b", "", "a", "", "c", "b", "a"]


def drawn_documents() -> list[list[int]]:
    """The pages of each resample, drawn one after the other."""
    documents = [[0, 3, 7], [1, 6], [2], [4], [5]]
    draws = np.random.default_rng(SEED).integers(0, len(documents), size=(RESAMPLES, len(documents)))
    return [[page for document in row for page in documents[document]] for row in draws.tolist()]


def test_sums_are_those_of_drawing_documents_one_by_one() -> None:
    columns = np.random.default_rng(2).random((8, 3))
    expected = np.array([columns[pages].sum(axis=0) for pages in drawn_documents()])
    assert bootstrap_sums(columns, GROUPS) == pytest.approx(expected)


def test_both_intervals_are_those_of_drawing_documents_one_by_one() -> None:
    lengths = [10, 20, 30, 40, 0, 60, 70, 80]
    scores = [score_page("a" * length, "b" * 3 + "a" * (length - 3)) for length in lengths]
    found = summarize(scores, ["stop"] * 8, GROUPS, seconds=0).cer
    drawn = [[scores[page] for page in pages] for pages in drawn_documents()]
    means = [statistics.fmean(score.cer for score in own) for own in drawn]
    rates = [sum(score.edits for score in own) / max(1, sum(score.length for score in own)) for own in drawn]
    assert found.mean_ci95 == pytest.approx(np.percentile(means, (2.5, 97.5)))
    assert found.micro_ci95 == pytest.approx(np.percentile(rates, (2.5, 97.5)))
    for name, rank in (("median", 50), ("p90", 90), ("p95", 95), ("p99", 99)):
        values = [np.percentile([score.cer for score in own], rank) for own in drawn]
        assert getattr(found, f"{name}_ci95") == pytest.approx(np.percentile(values, (2.5, 97.5))), name


def test_percentile_intervals_do_not_depend_on_how_many_are_drawn_at_a_time() -> None:
    values = np.random.default_rng(5).random(5_000)
    groups = [f"document {number // 4}" for number in range(5_000)]
    documents = values.reshape(1_250, 4)
    draws = np.random.default_rng(SEED).integers(0, 1_250, size=(50, 1_250))
    expected = np.percentile([np.percentile(documents[row], 90) for row in draws], (2.5, 97.5))
    assert percentile_intervals(values, groups, [90], resamples=50) == [pytest.approx(expected)]


def test_documents_are_counted() -> None:
    assert count_documents(GROUPS) == 5
    assert count_documents([]) == 0


def test_a_ratio_of_nothing_is_0_unless_there_is_something_above() -> None:
    assert ratio(np.array([[1.0, 4.0], [0.0, 0.0], [3.0, 0.0]])).tolist() == [0.25, 0, 1]


@given(st.lists(st.one_of(st.none(), st.tuples(st.integers(0, 9), st.integers(1, 9))), min_size=1, max_size=12))
def test_a_figure_speaks_of_the_pages_it_applies_to(pages: list[tuple[int, int] | None]) -> None:
    parts = np.array([pair or (np.nan, np.nan) for pair in pages], dtype=np.float64)
    groups = [f"document {page % 3}" for page in range(len(pages))]
    everywhere = Column("everywhere", np.linspace(0, 1, len(pages)))
    column = Column("some", parts[:, 0] / parts[:, 1], parts)
    found = figures_over([column, everywhere], groups)
    assert found["everywhere"].n == len(pages)
    assert found["everywhere"].micro is None
    kept = [(pair, group) for pair, group in zip(pages, groups, strict=True) if pair]
    if not kept:
        assert list(found) == ["everywhere"]
        return
    figure = found["some"]
    values = [above / below for (above, below), _ in kept]
    assert figure.n == len(kept)
    assert figure.mean == pytest.approx(statistics.fmean(values))
    assert figure.micro == pytest.approx(sum(pair[0] for pair, _ in kept) / sum(pair[1] for pair, _ in kept))
    expected = np.percentile(values, (0, 50, 90, 95, 99, 100))
    shown = (figure.min, figure.median, figure.p90, figure.p95, figure.p99, figure.max)
    assert shown == pytest.approx(tuple(expected))
    alone = np.array([pair for pair, _ in kept], dtype=np.float64)
    same = figures_over([Column("some", np.array(values), alone)], [group for _, group in kept])
    assert same["some"] == figure
    json.dumps(figure.to_json(), allow_nan=False)


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
