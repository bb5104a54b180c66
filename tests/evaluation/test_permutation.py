"""The sign-flip test against enumeration by hand, its behaviour under the null, and Holm's correction."""

from __future__ import annotations

from itertools import pairwise, product
from math import erfc, sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ocrsmith.evaluation.permutation import EXACT_DOCUMENTS, FLIPS, holm, sign_flip_test

differences_of_pages = st.lists(
    st.tuples(st.integers(-5, 5), st.sampled_from("abcdefg")), min_size=1, max_size=12
)


def by_enumeration(differences: list[float], groups: list[str]) -> float:
    """Every pattern of signs, one by one, in whole numbers."""
    documents = sorted(set(groups))
    reached = abs(sum(differences))
    hits = 0
    for signs in product((1, -1), repeat=len(documents)):
        sign = dict(zip(documents, signs, strict=True))
        hits += abs(sum(sign[name] * d for d, name in zip(differences, groups, strict=True))) >= reached
    return hits / 2 ** len(documents)


@given(differences_of_pages)
def test_the_exact_p_value_is_that_of_an_enumeration(pages: list[tuple[int, str]]) -> None:
    differences, groups = [float(d) for d, _ in pages], [name for _, name in pages]
    found = sign_flip_test(differences, groups)
    assert found.exact
    assert found.p_value == pytest.approx(by_enumeration(differences, groups))


@given(differences_of_pages)
def test_tenths_give_the_p_value_of_whole_numbers(pages: list[tuple[int, str]]) -> None:
    """0.1 + 0.2 is not 0.3 in binary: sums that are equal must count as equal all the same."""
    groups = [name for _, name in pages]
    whole = sign_flip_test([float(d) for d, _ in pages], groups)
    tenths = sign_flip_test([d / 10 for d, _ in pages], groups)
    assert tenths.p_value == whole.p_value


def test_a_textbook_case_by_hand() -> None:
    # Three documents, all better by the same: |sum| is largest for +++ and ---, 2 patterns of 8.
    found = sign_flip_test([-0.1, -0.1, -0.1], ["a", "b", "c"])
    assert (found.p_value, found.flips, found.exact) == (0.25, 8, True)


def test_pages_of_a_document_are_flipped_together() -> None:
    ten = [-0.5] * 10
    assert sign_flip_test(ten, ["one"] * 10).p_value == 1  # one document says nothing, however many pages
    assert sign_flip_test(ten, [""] * 10).p_value == 2 / 2**10  # pages without a document are one each


def test_no_difference_is_no_evidence() -> None:
    assert sign_flip_test([0.0] * 40, [""] * 40).p_value == 1
    assert sign_flip_test([0.3, -0.3], ["a", "a"]).p_value == 1  # they cancel out within the document


def test_documents_that_do_not_differ_change_nothing() -> None:
    some = [0.1, 0.2, -0.05, 0.3]
    assert sign_flip_test(some + [0.0] * 50, [""] * 54) == sign_flip_test(some, [""] * 4)


def test_draws_come_near_the_exact_p_value() -> None:
    generator = np.random.default_rng(4)
    count = EXACT_DOCUMENTS + 2
    differences = generator.normal(0.4, 1, count)
    patterns = np.array(list(product((1, -1), repeat=count)))
    exact = float((np.abs(patterns @ differences) >= abs(differences.sum()) - 1e-9).mean())
    found = sign_flip_test(differences.tolist(), [""] * count)
    assert not found.exact
    assert found.flips == FLIPS
    assert 0.02 < exact < 0.5  # else there would be nothing to see
    assert found.p_value == pytest.approx(exact, abs=4 * (exact * (1 - exact) / FLIPS) ** 0.5)


def test_draws_never_give_zero_and_are_the_same_every_time() -> None:
    clear = [-1.0] * 60
    found = sign_flip_test(clear, [""] * 60, flips=99)
    assert found.p_value == 1 / 100
    mixed = np.random.default_rng(2).normal(0.1, 1, 60).tolist()
    assert sign_flip_test(mixed, [""] * 60) == sign_flip_test(mixed, [""] * 60)
    assert sign_flip_test(mixed, [""] * 60, seed=1) != sign_flip_test(mixed, [""] * 60, seed=2)


def test_large_sets_are_drawn_piece_by_piece() -> None:
    generator = np.random.default_rng(3)
    differences = generator.normal(0.0, 1, 5_000)
    found = sign_flip_test(differences.tolist(), [""] * 5_000, flips=1_999)
    # With so many documents the sum under flips is normal; its deviation is the root of the sum of squares.
    normal = erfc(abs(differences.sum()) / sqrt(2 * (differences**2).sum()))
    assert found.p_value == pytest.approx(normal, abs=0.05)


@pytest.mark.parametrize("documents", [8, 20])
def test_p_values_are_uniform_where_nothing_differs(documents: int) -> None:
    generator = np.random.default_rng(documents)
    rounds = 400
    p_values = np.sort(
        [
            sign_flip_test(generator.normal(0, 1, documents).tolist(), [""] * documents, flips=499).p_value
            for _ in range(rounds)
        ]
    )
    steps = np.arange(1, rounds + 1) / rounds
    assert np.abs(p_values - steps).max() < 1.63 / rounds**0.5  # Kolmogorov and Smirnov, 1 %
    assert (p_values <= 0.05).mean() < 0.08


def test_skewed_pages_of_the_same_kind_on_both_sides_are_no_difference() -> None:
    """CER is skewed; the difference of two draws from one such distribution is not."""
    generator = np.random.default_rng(5)
    p_values = []
    for _ in range(300):
        a, b = generator.exponential(1, (2, 10)) ** 3
        p_values.append(sign_flip_test((b - a).tolist(), [""] * 10).p_value)
    assert (np.array(p_values) <= 0.05).mean() == pytest.approx(0.05, abs=0.035)


def test_lengths_must_agree() -> None:
    with pytest.raises(ValueError, match="argument"):
        sign_flip_test([0.1, 0.2], ["a"])


def test_holm_by_hand() -> None:
    # Sorted .005 .01 .03 .04, times 4 3 2 1: .02 .03 .06 .04, and none below the one before it.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx((0.03, 0.06, 0.06, 0.02))
    assert holm([0.2]) == (0.2,)
    assert holm([0.9, 0.8]) == (1.0, 1.0)
    assert holm([]) == ()


@settings(max_examples=50)
@given(st.lists(st.floats(0, 1), max_size=8))
def test_holm_keeps_the_order_and_never_lowers(p_values: list[float]) -> None:
    corrected = holm(p_values)
    assert all(after >= before for before, after in zip(p_values, corrected, strict=True))
    order = sorted(range(len(p_values)), key=lambda n: p_values[n])
    assert all(corrected[a] <= corrected[b] for a, b in pairwise(order))
