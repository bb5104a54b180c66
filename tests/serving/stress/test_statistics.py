"""Spread, drift and slopes: against numpy, by brute force, and on series whose truth is known."""

from __future__ import annotations

from itertools import combinations
from statistics import median

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ocrsmith.serving.stress.statistics import (
    Floats,
    Spread,
    drift,
    robust_slope,
    window_of,
)

numbers = st.floats(-1e6, 1e6).map(lambda value: round(value, 3))


def waves(generator: np.random.Generator, count: int, *, depend: float = 0.7) -> Floats:
    """Noise in which neighbours are alike, as in a queue."""
    found = np.zeros(count)
    for place in range(1, count):
        found[place] = depend * found[place - 1] + generator.normal()
    return found


@given(st.lists(st.floats(0, 1e4), min_size=1, max_size=50), st.integers(0, 5))
def test_the_spread_is_numpys_and_leaves_out_what_is_no_number(values: list[float], missing: int) -> None:
    spread = Spread.of(np.array([*values, *[np.nan] * missing]))
    assert spread
    assert (spread.min, spread.max) == (min(values), max(values))
    assert spread.mean == pytest.approx(np.mean(values))
    for percent in (50, 90, 95, 99):
        assert getattr(spread, f"p{percent}") == pytest.approx(np.percentile(values, percent))
    assert Spread.of(np.array([np.nan] * missing)) is None


@pytest.mark.parametrize(
    ("requests", "window"), [(1, 1), (9, 1), (55, 5), (999, 99), (1000, 100), (10**6, 100)]
)
def test_the_first_hundred_of_a_thousand_are_compared_and_a_tenth_of_fewer(requests: int, window: int) -> None:
    assert window_of(requests) == window


# --- slopes ------------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(0, 60), numbers), min_size=2, max_size=25))
def test_the_slope_is_the_median_over_all_pairs(points: list[tuple[int, float]]) -> None:
    pairs = [(a, b) for a, b in combinations(points, 2) if a[0] != b[0]]
    if not pairs:
        return
    slope = robust_slope(*np.array(points, dtype=float).T)
    assert slope.estimate == pytest.approx(median((b[1] - a[1]) / (b[0] - a[0]) for a, b in pairs), abs=1e-9)
    assert slope.low <= slope.high


def test_sens_interval_of_a_small_sample_is_as_by_hand() -> None:
    """n = 5: the variance is 5·4·15/18 = 16.67, 1.96·4.08 = 8.0: of the 10 slopes the 1st and the 9th + 1."""
    x, y = np.arange(5.0), np.array([0.0, 3.0, 2.0, 5.0, 9.0])
    slopes = sorted((y[b] - y[a]) / (b - a) for a, b in combinations(range(5), 2))
    slope = robust_slope(x, y)
    assert slope.estimate == pytest.approx((slopes[4] + slopes[5]) / 2)
    assert (slope.low, slope.high) == (slopes[0], slopes[9])


@given(numbers, numbers, st.integers(12, 60))
def test_a_line_has_its_own_slope_surely(start: float, rise: float, count: int) -> None:
    x = np.arange(count, dtype=float)
    slope = robust_slope(x, start + rise * x)
    close = {"rel": 1e-6, "abs": 1e-6}
    assert [slope.low, slope.estimate, slope.high] == pytest.approx([rise] * 3, **close)


def test_a_fifth_of_outliers_does_not_bend_a_line() -> None:
    x = np.arange(50.0)
    y = 3 * x
    y[::5] += 1e6 * x[::5]
    assert robust_slope(x, y).estimate == pytest.approx(3, abs=1)


def test_without_a_slope_the_interval_has_zero_in_it_as_often_as_it_should() -> None:
    generator, x = np.random.default_rng(1), np.arange(40.0)
    found = [robust_slope(x, generator.normal(size=40)) for _ in range(400)]
    covered = np.mean([slope.low <= 0 <= slope.high for slope in found])
    assert 0.92 <= covered <= 0.98


# --- drift -------------------------------------------------------------------------------------------------


def test_noise_is_not_called_drift() -> None:
    generator, pages = np.random.default_rng(2), np.arange(1000) % 45
    called = 0
    for _ in range(100):
        seconds = 1 + 0.2 * waves(generator, 1000)
        found = drift(np.maximum(seconds, 0.01), pages, 100)
        assert found
        called += found.verdict != "steady"
    assert called <= 2


@pytest.mark.parametrize(("rise", "verdict"), [(0.3, "slower"), (-0.25, "faster"), (0.03, "steady")])
def test_drift_is_called_drift(rise: float, verdict: str) -> None:
    generator, pages = np.random.default_rng(3), np.arange(1000) % 45
    course = np.linspace(1, 1 + rise, 1000)
    found = drift(course * np.exp(0.1 * waves(generator, 1000, depend=0.5)), pages, 100)
    assert found
    assert found.verdict == verdict
    assert found.change == pytest.approx(0.9 * rise, abs=0.08)


def test_a_step_in_the_middle_is_drift_and_a_stall_at_the_end_is_none() -> None:
    generator, pages = np.random.default_rng(4), np.arange(1000) % 45
    noise = np.exp(0.05 * generator.normal(size=1000))
    step, stall = noise.copy(), noise.copy()
    step[500:] *= 1.3
    stall[960:975] *= 8  # one busy moment
    for seconds, verdict in ((step, "slower"), (stall, "steady")):
        found = drift(seconds, pages, 100)
        assert found
        assert found.verdict == verdict
    assert found.change > 0.5


def test_pages_that_take_longer_than_others_are_no_drift() -> None:
    """The last window happens to have the slow pages in it twice, the first once."""
    pages = np.concatenate([np.arange(800) % 40, 20 + np.arange(100) % 20])
    seconds = 1.0 + (pages >= 20) * 9
    found = drift(seconds * np.exp(0.02 * np.random.default_rng(5).normal(size=900)), pages, 100)
    assert found
    assert abs(found.change) < 0.02
    assert found.verdict == "steady"


def test_pages_that_are_sent_once_are_compared_as_they_are() -> None:
    seconds = np.linspace(1, 2, 400) * np.exp(0.02 * np.random.default_rng(6).normal(size=400))
    found = drift(seconds, np.arange(400), 40)
    assert found
    assert found.verdict == "slower"


@pytest.mark.parametrize("count", [0, 1, 7, 39, 150])
def test_too_few_requests_tell_nothing(count: int) -> None:
    found = drift(np.ones(count), np.zeros(count, dtype=np.int64), window_of(count))
    assert found is None if count == 0 else found is not None and found.verdict == "unknown"


@settings(max_examples=25)
@given(st.lists(st.floats(0, 1e3), min_size=400, max_size=400), st.integers(1, 400))
def test_any_latencies_give_a_verdict(seconds: list[float], different: int) -> None:
    found = drift(np.array(seconds), np.arange(400) % different, 40)
    assert found
    assert found.verdict in {"steady", "slower", "faster", "unknown"}
