"""Calibration curves: isotonic regression against its definition, temperature against what made the data."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocrsmith.engines.confidence import logit, sigmoid
from ocrsmith.evaluation.confidence.curves import fit_isotonic, fit_temperature, log_loss, pool
from ocrsmith.evaluation.confidence.observations import Observations


def observations(confidence: object, truth: object, weight: object = None) -> Observations:
    x = np.asarray(confidence, dtype=np.float64)
    mass = np.ones(len(x)) if weight is None else np.asarray(weight, dtype=np.float64)
    return Observations(x, np.asarray(truth, dtype=np.float64), mass, np.zeros(len(x), np.int64))


def oracle(values: list[float], weights: list[float]) -> list[float]:
    """The max-min formula of isotonic regression: max over j ≤ i of min over k ≥ i of mean(j..k)."""

    def mean(first: int, last: int) -> float:
        return float(np.average(values[first : last + 1], weights=weights[first : last + 1]))

    n = len(values)
    return [max(min(mean(j, k) for k in range(i, n)) for j in range(i + 1)) for i in range(n)]


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0.1, 10)), min_size=1, max_size=9))
def test_pooling_is_isotonic_regression(pairs: list[tuple[float, float]]) -> None:
    values, weights = [value for value, _ in pairs], [weight for _, weight in pairs]
    fitted = pool(np.array(values), np.array(weights))
    assert fitted == pytest.approx(oracle(values, weights), abs=1e-9)
    assert all(first <= second for first, second in pairwise(fitted.tolist()))


def test_an_isotonic_curve_goes_through_the_pooled_values() -> None:
    generator = np.random.default_rng(3)
    x = np.sort(generator.uniform(size=300))
    truth = (generator.uniform(size=300) < x**2).astype(float)
    curve = fit_isotonic(observations(x, truth))
    margin = 1 / 302
    assert curve(x) == pytest.approx(np.clip(pool(truth, np.ones(300)), margin, 1 - margin))
    assert len(curve.knots) < 100


def test_equal_confidences_are_one_observation_and_weights_count() -> None:
    spelt_out = fit_isotonic(observations([0.2, 0.2, 0.7, 0.7, 0.7], [0, 1, 1, 1, 0]))
    assert spelt_out == fit_isotonic(observations([0.2, 0.7], [0.5, 2 / 3], [2, 3]))
    assert spelt_out(np.array([0.0, 0.2, 0.45, 1.0])) == pytest.approx([0.5, 0.5, 7 / 12, 2 / 3])


def test_no_finite_number_of_right_ones_makes_certain() -> None:
    data = observations([0.9, 0.95, 1.0], [1, 1, 1])
    assert fit_isotonic(data)(np.array([1.0])) == pytest.approx([0.8])  # Laplace: (3 + 1) / (3 + 2)
    assert 0.9 < fit_temperature(data)(np.array([0.95]))[0] < 1
    wrong = observations([0.9, 0.95, 1.0], [0, 0, 0])
    assert fit_isotonic(wrong)(np.array([1.0])) == pytest.approx([0.2])


@pytest.mark.parametrize(("slope", "shift"), [(0.5, -0.3), (1.0, 0.0), (2.0, 1.0)])
def test_temperature_finds_what_made_the_data(slope: float, shift: float) -> None:
    x = np.linspace(0.02, 0.98, 200)
    truth = sigmoid(slope * logit(x) + shift)  # exact shares: the likelihood has its maximum there
    curve = fit_temperature(observations(x, truth, np.full(200, 1e6)))
    assert (curve.slope, curve.shift) == pytest.approx((slope, shift), abs=1e-4)


@given(
    st.lists(st.tuples(st.floats(0, 1), st.booleans(), st.floats(0.5, 1000)), min_size=1, max_size=40),
)
def test_a_temperature_curve_never_falls_and_is_as_likely_as_its_neighbours(
    rows: list[tuple[float, bool, float]],
) -> None:
    data = observations(*(list(column) for column in zip(*rows, strict=True)))
    curve = fit_temperature(data)
    assert curve.slope >= 0

    def loss(slope: float, shift: float) -> float:
        z = slope * logit(data.confidence) + shift
        total = data.weight @ (np.logaddexp(0, z) - data.truth * z)
        prior = (slope - 1) ** 2 if slope else 0
        return float(total + 0.5 * (prior + shift**2))

    best = loss(curve.slope, curve.shift)
    for step in (1e-3, -1e-3):
        assert best <= loss(curve.slope, curve.shift + step) + 1e-9 * abs(best)
        if curve.slope > 0.01:
            assert best <= loss(curve.slope + step, curve.shift) + 1e-9 * abs(best)


def test_confidence_that_misleads_gets_a_level_curve() -> None:
    curve = fit_temperature(observations([0.1, 0.9], [1.0, 0.0], [500, 500]))
    assert curve.slope == 0
    assert curve(np.array([0.2, 0.8])) == pytest.approx([0.5, 0.5])


def test_log_loss_is_that_of_the_textbook() -> None:
    data = observations([0.5, 0.5], [1.0, 0.0], [3, 1])
    expected = -(3 * np.log(0.8) + np.log(0.2)) / 4
    assert log_loss(np.array([0.8, 0.8]), data) == pytest.approx(expected)
    assert np.isfinite(log_loss(np.array([0.0, 1.0]), data))
