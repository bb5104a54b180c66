"""Names that are given once."""

from __future__ import annotations

import random
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from ocrsmith.datasets.unique import HashSet, UniqueNames


@given(values=st.lists(st.integers(1, 2**64 - 1) | st.integers(1, 40), max_size=400))
def test_a_hash_set_is_a_set(values: list[int]) -> None:
    ours, python = HashSet(), set()
    for value in values:
        assert ours.add(value) == (value not in python)
        python.add(value)
    assert len(ours) == len(python)


def test_it_grows() -> None:
    source = random.Random(0)
    values = [source.getrandbits(64) for _ in range(5000)]
    found = HashSet()
    assert all(found.add(value) for value in values)
    assert not any(found.add(value) for value in values)
    assert len(found) == 5000


@given(names=st.lists(st.sampled_from(["a", "b", "a#2", "a#2#2", "a#3", "", "\ud800"]), max_size=60))
def test_every_name_is_given_once_and_the_first_keeps_its_own(names: list[str]) -> None:
    unique = UniqueNames()
    given_names = [unique.take(name) for name in names]
    assert len(set(given_names)) == len(names)
    assert all(found.startswith(name) for found, name in zip(given_names, names, strict=True))
    assert unique.repeated == sum(found != name for found, name in zip(given_names, names, strict=True))


def test_numbers_go_on_where_they_were() -> None:
    unique = UniqueNames()
    assert [unique.take(name) for name in ("a", "a", "a#3", "a", "b", "a")] == [
        "a",
        "a#2",
        "a#3",
        "a#4",
        "b",
        "a#5",
    ]
    assert Counter(unique.take("c") for _ in range(1000)).most_common(1)[0][1] == 1


def test_names_with_the_same_fold_count_as_one() -> None:
    unique = UniqueNames(lambda name, number: f"{name}-{number}", str.casefold)
    assert [unique.take(name) for name in ("a", "A", "a-2")] == ["a", "A-2", "a-2-2"]
