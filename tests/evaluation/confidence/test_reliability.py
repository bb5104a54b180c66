"""Reliability bins, calibration error, and the risk-coverage curve."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocrsmith.evaluation.confidence.reliability import expected_calibration_error, reliability
from ocrsmith.evaluation.confidence.selective import MAX_POINTS, CoveragePoint, risk_coverage


def ones(count: int) -> np.ndarray:
    return np.ones(count)


def test_calibration_error_by_hand() -> None:
    confidence = np.array([0.1, 0.3, 0.8, 0.8, 0.8, 1.0])
    truth = np.array([0.0, 0.0, 1.0, 1.0, 0.0, 1.0])
    low, high = reliability(confidence, truth, ones(6), bins=2)
    assert (low.n, low.low, low.high) == (2, 0.1, 0.3)
    assert (low.confidence, low.accuracy) == pytest.approx((0.2, 0.0))
    assert (high.n, high.confidence, high.accuracy) == pytest.approx((4, 0.85, 0.75))
    expected = (2 * 0.2 + 4 * 0.1) / 6
    assert expected_calibration_error(confidence, truth, ones(6), bins=2) == pytest.approx(expected)


def test_bins_have_equal_mass_where_confidences_differ() -> None:
    confidence = np.linspace(0, 1, 150)
    bins = reliability(confidence, confidence, ones(150))
    assert [item.n for item in bins] == [10] * 15
    assert expected_calibration_error(confidence, confidence, ones(150)) == pytest.approx(0)


def test_confidences_that_come_true_have_a_small_error_and_others_a_large_one() -> None:
    generator = np.random.default_rng(5)
    confidence = generator.uniform(size=20_000)
    truth = (generator.uniform(size=20_000) < confidence).astype(float)
    good = expected_calibration_error(confidence, truth, ones(20_000))
    bad = expected_calibration_error(np.sqrt(confidence), truth, ones(20_000))
    assert good is not None
    assert bad is not None
    assert good < 0.02
    assert bad == pytest.approx(float(np.mean(np.sqrt(confidence) - confidence)), abs=0.02)


@given(
    st.lists(st.tuples(st.sampled_from((0.2, 0.5, 0.9, 1.0)), st.booleans()), min_size=1, max_size=40),
    st.randoms(use_true_random=False),
)
def test_neither_order_nor_counting_equal_ones_together_changes_the_bins(
    rows: list[tuple[float, bool]], random: object
) -> None:
    confidence, truth = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    bins = reliability(confidence, truth, ones(len(rows)), bins=3)
    turned = reliability(confidence[::-1], truth[::-1], ones(len(rows)), bins=3)
    values, inverse = np.unique(confidence, return_inverse=True)
    mass = np.bincount(inverse).astype(float)
    together = reliability(values, np.bincount(inverse, truth) / mass, mass, bins=3)
    for other in (turned, together):
        assert [(item.n, item.low, item.high) for item in other] == [(i.n, i.low, i.high) for i in bins]
        assert [item.accuracy for item in other] == pytest.approx([item.accuracy for item in bins])
    assert sum(item.n for item in bins) == len(rows)


def test_without_observations_there_is_no_error() -> None:
    nothing = np.zeros(0)
    assert reliability(nothing, nothing, nothing) == ()
    assert expected_calibration_error(nothing, nothing, nothing) is None


# --- risk and coverage -------------------------------------------------------------------------------------


def test_risk_and_coverage_by_hand_equal_ones_accepted_together() -> None:
    curve = risk_coverage(np.array([0.5, 0.9, 0.5, 0.0]), np.array([0.2, 0.0, 0.4, 1.0]))
    assert curve.points == (
        CoveragePoint(0.25, 0.9, 0.0),
        CoveragePoint(0.75, 0.5, pytest.approx(0.2)),
        CoveragePoint(1.0, 0.0, pytest.approx(0.4)),
    )
    assert curve.aurc == pytest.approx((0.0 + 0.2 + 0.2 + 0.4) / 4)


def test_the_best_order_has_the_least_area_and_no_order_the_mean() -> None:
    rates = np.random.default_rng(2).uniform(size=200)
    best = risk_coverage(1 - rates, rates).aurc
    assert best < risk_coverage(1 - np.roll(rates, 7), rates).aurc < risk_coverage(rates, rates).aurc
    assert risk_coverage(np.full(200, 0.7), rates).aurc == pytest.approx(rates.mean())
    assert best == pytest.approx(np.mean(np.cumsum(np.sort(rates)) / np.arange(1, 201)))


@pytest.mark.parametrize("count", [1, 2, 100, 101, 102, 5_000])
def test_the_curve_is_short_ends_with_all_pages_and_keeps_the_area(count: int) -> None:
    generator = np.random.default_rng(count)
    confidence, rates = generator.uniform(size=count), generator.uniform(size=count)
    curve = risk_coverage(confidence, rates)
    assert len(curve.points) == min(count, MAX_POINTS)
    assert curve.points[-1].coverage == 1
    assert curve.points[-1].cer == pytest.approx(rates.mean())
    order = np.argsort(-confidence)
    assert curve.aurc == pytest.approx(np.mean(np.cumsum(rates[order]) / np.arange(1, count + 1)))
    for point in curve.points:
        taken = confidence >= point.threshold
        assert (taken.mean(), rates[taken].mean()) == pytest.approx((point.coverage, point.cer))
