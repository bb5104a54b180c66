"""Tallies against numpy, and histograms that lose nothing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocrsmith.datasets.check.figures import Figures, Tally


def _tally(values: list[float]) -> Tally:
    tally = Tally()
    for value in values:
        tally.add(value)
    return tally


@pytest.mark.parametrize("seed", [0, 1])
def test_quantiles_are_right_to_half_a_percent(seed: int) -> None:
    values = np.random.default_rng(seed).lognormal(5, 2, 5000)
    tally = _tally(list(values))
    for share in (0.05, 0.5, 0.95, 0.99):
        exact = np.quantile(values, share, method="inverted_cdf")
        assert tally.quantile(share) == pytest.approx(exact, rel=0.005)
    assert tally.mean == pytest.approx(values.mean())
    assert (tally.quantile(0), tally.quantile(1)) == (values.min(), values.max())


def test_whole_numbers_below_a_thousand_are_exact() -> None:
    tally = _tally([float(number) for number in range(1, 1000)])
    assert tally.quantile(0.5) == 500
    assert tally.share_from(900) == pytest.approx(100 / 999)


def test_memory_does_not_grow_with_the_values() -> None:
    tally = _tally([number * 1.000001 for number in range(200_000)])
    assert len(tally._counts) < 4000


@given(st.lists(st.floats(min_value=0, max_value=1e9), min_size=1, max_size=300))
def test_a_histogram_holds_every_value_once(values: list[float]) -> None:
    bars = _tally(values).histogram()
    assert sum(bar.count for bar in bars) == len(values)
    assert all(bar.low <= bar.high for bar in bars)
    assert [bar.high for bar in bars[:-1]] == [bar.low for bar in bars[1:]]


def test_bars_of_whole_numbers_have_no_gaps_between_them() -> None:
    bars = _tally([float(number % 30) for number in range(3000)]).histogram()
    assert {bar.count for bar in bars} == {200}


def test_of_nothing_there_are_no_figures() -> None:
    assert Tally().to_json() == {"n": 0}
    assert Tally().histogram() == []


def test_figures_are_kept_by_split_and_together() -> None:
    figures = Figures()
    figures.add("train", {"width": 10.0}, {"format": "PNG"})
    figures.add("train", {"width": 30.0}, {"format": "PNG"})
    figures.add("test", {}, {"format": "JPEG"})
    result = figures.to_json()
    assert list(result) == ["all", "train", "test"]
    assert result["all"]["samples"] == 3
    assert result["all"]["width"]["n"] == 2
    assert result["test"]["width"] == {"n": 0}
    assert result["all"]["format"] == {"PNG": 2, "JPEG": 1}


def test_what_is_not_split_has_figures_together_only() -> None:
    figures = Figures()
    figures.add(None, {"width": 10.0}, {})
    assert figures.parts == ["all"]
