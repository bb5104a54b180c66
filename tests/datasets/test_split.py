"""Splits: exact counts, whole groups, independence of the order."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocrsmith.datasets.split import SplitPlan, assign_splits, hash_key
from ocrsmith.errors import SettingsError
from ocrsmith.records import SPLITS


def counts(sizes: list[int], plan: str = "80/10/10", seed: int = 42) -> dict[str, int]:
    assigned = split(sizes, plan, seed)
    return {name: int(np.array(sizes)[assigned == index].sum()) for index, name in enumerate(SPLITS)}


def split(sizes: list[int], plan: str = "80/10/10", seed: int = 42) -> np.ndarray:
    keys = [hash_key(seed, "group", str(number)) for number in range(len(sizes))]
    return assign_splits(sizes, keys, SplitPlan.parse(plan).targets(sum(sizes)))


@pytest.mark.parametrize(
    ("total", "expected"),
    [
        (2, (1, 0, 1)),
        (3, (1, 1, 1)),
        (4, (2, 1, 1)),
        (10, (8, 1, 1)),
        (15, (12, 1, 2)),
        (100, (80, 10, 10)),
        (9999, (7999, 1000, 1000)),
    ],
)
def test_single_samples_are_split_exactly(total: int, expected: tuple[int, int, int]) -> None:
    assert tuple(counts([1] * total).values()) == expected


def test_200000_samples_are_split_exactly_and_fast() -> None:
    assert counts([1] * 200_000) == {"train": 160_000, "val": 20_000, "test": 20_000}


def test_counts_can_be_asked_for() -> None:
    assert counts([1] * 50, "rest/5/7") == {"train": 38, "val": 5, "test": 7}
    assert counts([1] * 50, "40/4/6") == {"train": 40, "val": 4, "test": 6}
    assert counts([1] * 50, "0.5/0.5/0") == {"train": 25, "val": 25, "test": 0}
    assert counts([1] * 5, "100/0/0") == {"train": 5, "val": 0, "test": 0}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("80/20", "2 parts"),
        ("a/b/c", "no number"),
        ("-1/1/100", "negative"),
        ("nan/1/1", "negative or infinite"),
        ("0.5/0.2/0.2", "0.9"),
        ("0/50/50", "nothing to train on"),
    ],
)
def test_senseless_splits_are_refused(text: str, words: str) -> None:
    with pytest.raises(SettingsError) as caught:
        SplitPlan.parse(text)
    assert words in caught.value.problem
    assert caught.value.place == "--splits"


def test_more_than_there_is_cannot_be_held_out() -> None:
    with pytest.raises(SettingsError, match="only 9 in all"):
        SplitPlan.parse("rest/5/5").targets(9)


def test_groups_stay_whole_and_counts_are_the_nearest_possible() -> None:
    sizes = [50, 20, 10, 10, 5, 5]
    assert counts(sizes) == {"train": 80, "val": 10, "test": 10}


def test_one_large_group_does_not_empty_the_others() -> None:
    for order in itertools.permutations([100, 1, 1]):
        result = counts(list(order))
        assert all(result.values())


def test_two_groups_leave_val_empty_and_one_leaves_only_train() -> None:
    assert counts([6, 4]) in ({"train": 6, "val": 0, "test": 4}, {"train": 4, "val": 0, "test": 6})
    assert counts([10]) == {"train": 10, "val": 0, "test": 0}


def test_seed_changes_the_split_and_order_does_not() -> None:
    names = [f"doc{number}" for number in range(200)]
    targets = SplitPlan.parse("80/10/10").targets(200)

    def tests_of(order: list[str], seed: int) -> set[str]:
        assigned = assign_splits([1] * 200, [hash_key(seed, "sample", name) for name in order], targets)
        return {name for name, index in zip(order, assigned, strict=True) if SPLITS[index] == "test"}

    assert tests_of(names, 42) == tests_of(names[::-1], 42)
    assert tests_of(names, 42) != tests_of(names, 43)


@given(st.lists(st.integers(1, 40), min_size=3, max_size=60), st.integers(0, 5))
def test_no_split_is_empty_from_three_groups_on(sizes: list[int], seed: int) -> None:
    result = counts(sizes, seed=seed)
    assert sum(result.values()) == sum(sizes)
    assert all(result.values())


@given(st.lists(st.integers(1, 12), min_size=4, max_size=9))
def test_test_split_is_as_near_as_any_choice_of_groups(sizes: list[int]) -> None:
    target = SplitPlan.parse("80/10/10").targets(sum(sizes))["test"]
    result = counts(sizes)["test"]
    choices = (
        sum(chosen) for length in range(1, len(sizes) - 1) for chosen in itertools.combinations(sizes, length)
    )
    assert abs(result - target) == min(abs(total - target) for total in choices)


def test_many_large_groups_come_near() -> None:
    sizes = [int(size) for size in np.random.default_rng(0).integers(1, 400, 3000)]
    total = sum(sizes)
    result = counts(sizes)
    assert abs(result["test"] - total / 10) <= 1
    assert abs(result["val"] - total / 10) <= 1
