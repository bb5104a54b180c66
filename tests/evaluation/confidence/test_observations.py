"""What confidences are judged by: right characters, folds of documents, counts by log-odds."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ocrsmith.evaluation.confidence.observations import (
    documents_of,
    fingerprint,
    folds_of,
    is_right,
    of_characters,
    of_pages,
    raw_confidences,
)
from ocrsmith.evaluation.store import PageResult
from ocrsmith.records import FinishReason


def page(
    reference: str, prediction: str, *chances: float, group: str = "", finish: FinishReason = "stop"
) -> PageResult:
    """A page whose tokens are its characters."""
    logprobs = tuple(math.log(chance) for chance in chances)
    return PageResult(
        index=0,
        id=f"{group}-{reference}",
        group=group,
        image_path="",
        reference=reference,
        prediction=prediction,
        finish_reason=finish,
        logprob_mean=sum(logprobs) / len(logprobs) if logprobs else None,
        token_ends=tuple(range(1, len(logprobs) + 1)),
        token_logprobs=logprobs,
    )


@pytest.mark.parametrize(
    ("reference", "prediction", "right"),
    [
        ("abc", "abc", "111"),
        ("abc", "axc", "101"),
        ("abc", "abxc", "1101"),
        ("abc", "ac", "11"),
        ("", "ab", "00"),
        ("ab", "", ""),
        ("東西南", "東両南", "101"),
    ],
)
def test_equal_characters_are_right_and_added_and_replaced_ones_wrong(
    reference: str, prediction: str, right: str
) -> None:
    assert "".join(str(int(value)) for value in is_right(reference, prediction)) == right


def test_characters_are_counted_with_their_truth() -> None:
    results = [page("abc", "abx", 0.9, 0.9, 0.3), page("ab", "ab", 0.9, 0.3)]
    data = of_characters(results, np.zeros(2, np.int64))
    assert data.confidence == pytest.approx([0.3, 0.9])
    assert data.truth == pytest.approx([0.5, 1.0])
    assert data.weight.tolist() == [2, 3]
    assert data.count == 5


def test_counting_by_log_odds_keeps_what_the_characters_say() -> None:
    generator = np.random.default_rng(1)
    chances = generator.beta(5, 1, size=500).tolist()
    data = of_characters([page("a" * 500, "a" * 500, *chances)], np.zeros(1, np.int64))
    assert data.confidence @ data.weight == pytest.approx(sum(chances))
    assert len(data) > 300


def test_pages_that_did_not_end_and_unknown_characters_are_left_out() -> None:
    results = [
        page("ab", "ab", 0.5, finish="loop"),
        page("ab", "ab", 0.5, finish="error"),
        page("ab", "ab", 0.5),
    ]
    data = of_characters(results, np.zeros(3, np.int64))
    assert (data.count, data.unknown) == (1, 1)
    pages = of_pages(results, [result.score for result in results], np.array([0, 1, 2]))
    assert pages.fold.tolist() == [2]
    assert raw_confidences(results) == pytest.approx([0, 0, 0.5])


def test_a_page_is_as_right_as_its_cer_lets_it() -> None:
    results = [page("abcd", "abcx", 0.5), page("a", "axyz", 0.5), page("a", "a")]
    pages = of_pages(results, [result.score for result in results], np.array([0, 1, 2]))
    assert pages.truth == pytest.approx([0.75, 0.0])
    assert pages.fold.tolist() == [0, 1]


def test_a_document_is_in_one_fold_and_folds_are_even() -> None:
    groups = [f"d{place % 23}" for place in range(200)]
    documents = documents_of([page("a", "a", group=group) for group in groups])
    folds = folds_of(documents)
    assert len({(document, fold) for document, fold in zip(groups, folds.tolist(), strict=True)}) == 23
    _, sizes = np.unique([folds[groups.index(f"d{number}")] for number in range(23)], return_counts=True)
    assert sorted(sizes.tolist()) == [4, 4, 5, 5, 5]


def test_a_page_without_a_group_is_a_document_of_its_own() -> None:
    results = [page("a", "a"), page("b", "b"), page("c", "c", group="x"), page("d", "d", group="x")]
    assert documents_of(results).tolist() == [0, 1, 2, 2]
    assert sorted(folds_of(np.array([0, 1]))) == [0, 1]


def test_the_fingerprint_is_of_pages_and_references_in_any_order() -> None:
    first, second = page("a", "a", group="x"), page("b", "b", group="y")
    assert fingerprint([first, second]) == fingerprint([second, page("a", "read otherwise", group="x")])
    assert fingerprint([first, second]) != fingerprint([first])
    assert fingerprint([page("\ud800", "")]).startswith("sha256:")
