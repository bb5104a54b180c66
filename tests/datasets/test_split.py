"""Splits: stable when samples are added, shares on average, exact counts, whole groups, earlier splits kept."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocrsmith.datasets.groups import GroupIndex, Groups
from ocrsmith.datasets.split import FEW, KeptSplits, SplitPlan, assign, assign_splits, hash_key
from ocrsmith.datasets.strata import stratum_notes, stratum_table
from ocrsmith.datasets.traits import PLAIN, Traits
from ocrsmith.errors import SettingsError
from ocrsmith.records import SPLITS

TRAIN, VAL, TEST = range(3)


def keys_of(count: int, seed: int = 42, start: int = 0) -> np.ndarray:
    return np.array([hash_key(seed, "group", str(number)) for number in range(start, start + count)])


def counts(sizes: list[int], plan: str = "80/10/10", seed: int = 42) -> dict[str, int]:
    assigned = split(sizes, plan, seed).of_group
    return {name: int(np.array(sizes)[assigned == index].sum()) for index, name in enumerate(SPLITS)}


def split(sizes: list[int], plan: str = "80/10/10", seed: int = 42) -> Any:
    return assign(keys_of(len(sizes), seed), np.array(sizes), SplitPlan.parse(plan))


# Shares


def test_shares_hold_on_average() -> None:
    result = counts([1] * 20_000)
    assert abs(result["test"] - 2000) < 4 * 20_000**0.5 * 0.3  # four standard deviations
    assert abs(result["val"] - 2000) < 4 * 20_000**0.5 * 0.3
    assert counts([1] * 50, "100/0/0") == {"train": 50, "val": 0, "test": 0}
    assert counts([1] * 400, "50/0/50")["val"] == 0


def natural(keys: np.ndarray) -> np.ndarray:
    """Places by the thresholds of 80/10/10 alone."""
    places = keys / 2**63
    return np.where(places < 0.1, TEST, np.where(places < 0.2, VAL, TRAIN))


@given(st.integers(FEW, 400), st.integers(1, 400), st.integers(0, 50))
def test_what_is_added_moves_nothing(before: int, added: int, seed: int) -> None:
    keys, plan = keys_of(before + added, seed), SplitPlan.parse("80/10/10")
    assert set(natural(keys[:before])) == {TRAIN, VAL, TEST}
    old = assign(keys[:before], np.ones(before), plan).of_group
    new = assign(keys, np.ones(before + added), plan).of_group
    assert (old == natural(keys[:before])).all()
    assert (new[:before] == old).all()


@given(st.integers(3, FEW), st.integers(1, 60), st.integers(0, 200))
def test_of_few_documents_too_what_is_added_moves_nothing_unless_a_split_is_short(
    before: int, added: int, seed: int
) -> None:
    keys, plan = keys_of(before + added, seed), SplitPlan.parse("80/10/10")

    def short(count: int) -> bool:
        found = np.bincount(natural(keys[:count]), minlength=3)
        return not found[TRAIN] or min(found[VAL], found[TEST]) * 20 < count

    old = assign(keys[:before], np.ones(before), plan).of_group
    new = assign(keys, np.ones(before + added), plan).of_group[:before]
    if not short(before) and not short(before + added):
        assert (old == new).all()
    if before + added >= FEW and (natural(keys[:before]) == TRAIN).any():
        assert not ((old == TRAIN) & (new != TRAIN)).any()


def test_a_short_split_of_few_documents_is_filled_up() -> None:
    places = np.array([0.05, *np.linspace(0.11, 0.19, 5), *np.linspace(0.3, 0.9, 34)])
    keys = (places * 2.0**63).astype(np.int64)
    plan = SplitPlan.parse("80/10/10")
    assigned = assign(keys, np.ones(40), plan).of_group
    assert np.flatnonzero(assigned == TEST).tolist() == [0, 6, 7, 8]
    assert np.flatnonzero(assigned == VAL).tolist() == [1, 2, 3, 4, 5]
    sizes = np.ones(40)
    sizes[6] = 60  # would overshoot: the next ones fit better
    assert np.flatnonzero(assign(keys, sizes, plan).of_group == TEST).tolist() == [0, 7, 8, *range(9, 16)]


@given(
    st.sets(st.integers(0, 500), min_size=10),
    st.sets(st.integers(0, 500), min_size=FEW),
    st.sampled_from(["70/10/20", "90/5/5"]),
)
def test_what_any_part_trains_on_the_whole_trains_on(part: set[int], more: set[int], plan_text: str) -> None:
    plan = SplitPlan.parse(plan_text)

    def trained(documents: set[int]) -> set[int]:
        order = sorted(documents)
        keys = np.array([hash_key(1, "group", str(number)) for number in order])
        result = assign(keys, np.ones(len(order)), plan).of_group
        return {number for number, index in zip(order, result, strict=True) if index == TRAIN}

    if len(part | more) >= FEW:
        assert trained(part) <= trained(part | more)


def test_a_larger_test_share_keeps_the_old_test_documents() -> None:
    keys, sizes = keys_of(300), np.ones(300)
    small = assign(keys, sizes, SplitPlan.parse("80/10/10")).of_group == TEST
    large = assign(keys, sizes, SplitPlan.parse("70/10/20")).of_group == TEST
    assert (small <= large).all()


@given(st.lists(st.integers(1, 40), min_size=3, max_size=60), st.integers(0, 40))
def test_no_wanted_split_is_empty_from_three_groups_on(sizes: list[int], seed: int) -> None:
    result = counts(sizes, seed=seed)
    assert sum(result.values()) == sum(sizes)
    assert all(result.values())


def test_two_groups_leave_val_empty_and_one_leaves_only_train() -> None:
    for seed in range(30):
        assert counts([6, 4], seed=seed) in (
            {"train": 6, "val": 0, "test": 4},
            {"train": 4, "val": 0, "test": 6},
        )
        assert counts([10], seed=seed) == {"train": 10, "val": 0, "test": 0}
    assert "val is empty: there are only 2 documents for 10 samples." in split([6, 4]).notes


def test_an_empty_split_takes_the_nearest_by_hash() -> None:
    places = np.array([0.15, 0.5, 0.9, 0.7])
    keys = (places * 2.0**63).astype(np.int64)
    plan = SplitPlan.parse("90/0/10")
    assert assign(keys, np.ones(4), plan).of_group.tolist() == [TEST, TRAIN, TRAIN, TRAIN]
    low = (np.array([0.01, 0.02, 0.05]) * 2.0**63).astype(np.int64)
    assert assign(low, np.ones(3), SplitPlan.parse("80/10/10")).of_group.tolist() == [TEST, VAL, TRAIN]


def test_a_split_that_misses_its_share_is_told() -> None:
    keys = (np.linspace(0.08, 0.99, 200) * 2.0**63).astype(np.int64)
    notes = assign(keys, np.ones(200), SplitPlan.parse("80/10/10")).notes
    assert any("test has 5 samples of 5 documents, 20 were wanted" in note for note in notes)
    assert any("--splits rest/20/20" in note for note in notes)
    assert split([1] * 20_000).notes == ()


def test_seed_changes_the_split_and_order_does_not() -> None:
    plan, keys = SplitPlan.parse("80/10/10"), keys_of(200)
    forward = assign(keys, np.ones(200), plan).of_group
    assert forward.tolist() == assign(keys[::-1], np.ones(200), plan).of_group[::-1].tolist()
    assert forward.tolist() != assign(keys_of(200, 43), np.ones(200), plan).of_group.tolist()


def test_200000_samples_are_split_fast() -> None:
    keys = np.random.default_rng(0).integers(0, 2**63 - 1, 200_000)
    for plan in ("80/10/10", "rest/20000/20000"):
        result = assign(keys, np.ones(200_000, dtype=np.int64), SplitPlan.parse(plan)).of_group
        assert abs((result == TEST).sum() - 20_000) < 600


# Counts


def test_counts_can_be_asked_for() -> None:
    assert counts([1] * 50, "rest/5/7") == {"train": 38, "val": 5, "test": 7}
    assert counts([1] * 50, "40/4/6") == {"train": 40, "val": 4, "test": 6}
    assert counts([1] * 50, "45/5/0") == {"train": 45, "val": 5, "test": 0}
    assert "train takes the rest, 38 samples, not 30." in split([1] * 50, "30/5/7").notes


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
        split([1] * 9, "rest/5/5")


def test_groups_stay_whole_and_counts_are_the_nearest_possible() -> None:
    assert counts([50, 20, 10, 10, 5, 5], "rest/10/10") == {"train": 80, "val": 10, "test": 10}
    assert any("whole documents" in note for note in split([50, 20, 20], "rest/10/10").notes)


def test_one_large_group_does_not_empty_the_others() -> None:
    for order in itertools.permutations([100, 1, 1]):
        assert all(counts(list(order), "rest/10/10").values())


@given(st.lists(st.integers(1, 12), min_size=4, max_size=9))
def test_test_split_is_as_near_as_any_choice_of_groups(sizes: list[int]) -> None:
    targets = SplitPlan.parse("80/10/10").targets(sum(sizes))
    assigned = assign_splits(sizes, keys_of(len(sizes)), targets)
    result = int(np.array(sizes)[assigned == TEST].sum())
    choices = (
        sum(chosen) for length in range(1, len(sizes) - 1) for chosen in itertools.combinations(sizes, length)
    )
    assert abs(result - targets["test"]) == min(abs(total - targets["test"]) for total in choices)


def test_many_large_groups_come_near() -> None:
    sizes = [int(size) for size in np.random.default_rng(0).integers(1, 400, 3000)]
    total = sum(sizes)
    result = counts(sizes, f"rest/{total // 10}/{total // 10}")
    assert abs(result["test"] - total // 10) <= 1
    assert abs(result["val"] - total // 10) <= 1


# An earlier dataset


@pytest.mark.parametrize("plan", ["80/10/10", "20/10/70", "rest/15/15"])
def test_what_was_somewhere_stays_there(plan: str) -> None:
    keys, sizes = keys_of(100), np.ones(100, dtype=np.int64)
    fixed = np.full(100, -1, dtype=np.int8)
    fixed[:60] = assign(keys[:60], sizes[:60], SplitPlan.parse("80/10/10")).of_group
    result = assign(keys, sizes, SplitPlan.parse(plan), (fixed, 0))
    assert (result.of_group[:60] == fixed[:60]).all()
    assert "60 documents kept the split of the earlier dataset." in result.notes
    if plan.startswith("rest"):
        assert np.bincount(result.of_group).tolist() == [70, 15, 15]


def test_documents_that_were_on_several_sides_are_told() -> None:
    fixed = np.array([0, -1, -1], dtype=np.int8)
    notes = assign(keys_of(3), np.ones(3), SplitPlan.parse("80/10/10"), (fixed, 1)).notes
    assert any("several sides" in note for note in notes)


def test_an_earlier_dataset_is_read_without_its_images(content: Any, tmp_path: Path) -> None:
    from ocrsmith.datasets import BuildSettings, build_dataset, open_dataset

    build_dataset([content(30)], tmp_path / "old", BuildSettings(splits="60/20/20", seed=1))
    old = open_dataset(tmp_path / "old")
    kept = KeptSplits.of(old, seed=9)
    for index, name in enumerate(SPLITS):
        keys = np.array([hash_key(9, "sample", sample.id) for sample in old.iter_samples(name)])
        assert (kept.find(keys) == index).all()
    assert kept.find(np.array([hash_key(9, "sample", "unknown")])).tolist() == [-1]


def test_of_several_sides_the_first_counts() -> None:
    kept = KeptSplits(np.array([5, 5, 8]), np.array([2, 0, 1]))
    assert kept.find(np.array([5, 8, 9])).tolist() == [0, 1, -1]
    assert KeptSplits(np.zeros(0, dtype=np.int64), np.zeros(0)).find(np.array([1])).tolist() == [-1]


# Strata


def mixed() -> Groups:
    index = GroupIndex(42)
    for number in range(400):
        language = ("en", "zh", "fa", "fr")[number % 4] if number < 399 else "de"
        name = number.to_bytes(16, "little")
        sample = Traits(name, name, PLAIN, name, number, language, 10 if number % 2 else 300)
        index.add(f"{number} {language}", "", "a.tsv" if number < 200 else "b.tsv", sample)
    return index.resolve()


def test_every_part_of_a_dataset_has_its_share_on_average() -> None:
    groups = mixed()
    assigned = assign(groups.keys, groups.sizes, SplitPlan.parse("60/20/20")).of_group
    rows = stratum_table(groups, assigned)
    for row in rows:
        if sum(row.groups.values()) >= 99:
            assert 0.08 < row.share("test") < 0.32
            assert 0.08 < row.share("val") < 0.32
    for trait in ("language", "source", "length"):
        assert sum(sum(row.samples.values()) for row in rows if row.trait == trait) == 400
    assert [row.value for row in rows if row.trait == "length"] == ["1–20", "201–1000"]
    assert rows[0].to_json()["shares"]["train"] == round(rows[0].share("train"), 4)


def test_a_large_part_that_misses_a_split_is_told() -> None:
    groups = mixed()
    assigned = np.where(groups.table.languages[np.argsort(groups.of_sample)] == 1, TRAIN, TEST)
    assigned[:40] = VAL
    notes = list(stratum_notes(stratum_table(groups, assigned), SplitPlan.parse("80/10/10")))
    assert any("has nothing of language zh (100 documents)" in note for note in notes)
    assert not any("language de" in note for note in notes)
