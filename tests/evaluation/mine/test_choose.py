"""The choice of hard pages: greedy facility location, with a cap on documents."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ocrsmith.evaluation.mine.choose import choose, document_cap


def vectors(seed: int, pages: int, width: int = 6) -> NDArray[np.float32]:
    drawn = np.random.default_rng(seed).random((pages, width)) ** 3
    return (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)


def cover(likeness: NDArray[np.float64], needs: NDArray[np.float64], chosen: list[int]) -> float:
    return float(likeness[:, chosen].max(axis=1) @ needs) if chosen else 0.0


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 14), st.integers(1, 16))
def test_each_page_is_the_one_that_covers_most_of_what_is_left(seed: int, pages: int, count: int) -> None:
    features, needs = vectors(seed, pages), np.random.default_rng(seed).random(pages)
    exact = features.astype(np.float64)
    likeness: NDArray[np.float64] = np.clip(exact @ exact.T, 0, 1)
    found = choose(features, needs.tolist(), [""] * pages, count)
    assert len(found.indices) == len(set(found.indices)) == min(pages, count)
    for place, index in enumerate(found.indices):
        before = found.indices[:place]
        best = max(cover(likeness, needs, [*before, one]) for one in range(pages) if one not in before)
        assert cover(likeness, needs, [*before, index]) == pytest.approx(best, abs=1e-3)
    assert found.covered == pytest.approx(cover(likeness, needs, found.indices) / needs.sum(), abs=1e-3)


def test_not_fifty_of_one_kind() -> None:
    """60 pages of one kind, and 6 of three others with less need: of 8 chosen, every kind has one."""
    kinds = [0] * 60 + [1, 1, 2, 2, 3, 3]
    features = np.eye(4, dtype=np.float32)[kinds]
    found = choose(features, [0.9] * 60 + [0.3] * 6, [""] * 66, 8)
    assert [kinds[index] for index in found.indices[:4]] == [0, 1, 2, 3]
    assert found.covered == pytest.approx(1)


def test_worse_pages_come_first_among_equals() -> None:
    features = np.eye(3, dtype=np.float32)
    assert choose(features, [0.2, 0.9, 0.5], [""] * 3, 2).indices == [1, 2]


def test_a_document_has_its_share_until_nothing_else_is_left() -> None:
    count = 10
    documents = ["big"] * 20 + ["", "", "b"]
    found = choose(vectors(1, 23), [1.0] * 20 + [0.01] * 3, documents, count)
    of_big = [place for place, index in enumerate(found.indices) if documents[index] == "big"]
    assert len(of_big) == 7
    assert sum(place < count - found.over_cap for place in of_big) == document_cap(count) == 2
    assert found.over_cap == 5


def test_pages_without_need_are_chosen_in_their_order() -> None:
    assert choose(vectors(2, 4), [0.0] * 4, [""] * 4, 3).indices == [0, 1, 2]
