"""Strata: which label a page gets, and figures that are those of its pages evaluated alone."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ocrsmith.evaluation.metrics import PageScore
from ocrsmith.evaluation.statistics import summarize
from ocrsmith.evaluation.store import PageResult
from ocrsmith.evaluation.strata import (
    CER_BANDS,
    LENGTH_BANDS,
    MAX_COLUMNS,
    MAX_LABELS,
    MAX_VALUES,
    Strata,
    assign,
    in_order,
    strata_of,
)


def page(place: int = 0, reference: str = "text", prediction: str = "text", **more: Any) -> PageResult:
    return PageResult(
        **{"index": place, "id": f"p{place}", "group": f"g{place // 2}", "image_path": "", **more},
        reference=reference,
        prediction=prediction,
        finish_reason="stop",
    )


def strata(results: list[PageResult]) -> Strata:
    return strata_of(results, [result.score for result in results])


def test_every_page_gets_a_label_in_every_dimension() -> None:
    results = [
        page(0, "这是一个很长的句子", source="scans", mode="base", meta={"font": "Song"}),
        page(1, "the end of the story and of the book", meta={"font": "Kai", "page": 3}),
        page(2, "", meta={"font": None}),
    ]
    assert assign(results) == {
        "source": ("scans", "unknown", "unknown"),
        "language": ("zh", "en", "und"),
        "length": ("1-9", "30-99", "0"),
        "mode": ("base", "unknown", "unknown"),
        "meta.font": ("Song", "Kai", "unknown"),
        "meta.page": ("unknown", "3", "unknown"),
    }


@pytest.mark.parametrize(
    ("characters", "band"),
    [
        *((0, "0"), (1, "1-9"), (9, "1-9"), (10, "10-29"), (29, "10-29"), (30, "30-99"), (99, "30-99")),
        *((100, "100-299"), (299, "100-299"), (300, "300-999"), (999, "300-999"), (1000, "1000+")),
    ],
)
def test_bands_of_length(characters: int, band: str) -> None:
    assert assign([page(reference="x" * characters)])["length"] == (band,)


@pytest.mark.parametrize(
    ("rate", "band"),
    [
        *((0.0, "0"), (0.001, "0-1%"), (0.01, "0-1%"), (0.011, "1-5%"), (0.05, "1-5%"), (0.1, "5-10%")),
        *((0.3, "10-30%"), (1.0, "30-100%"), (1.001, ">100%"), (35.0, ">100%")),
    ],
)
def test_bands_of_cer(rate: float, band: str) -> None:
    other = "0" if band != "0" else ">100%"
    rates = [rate, 0.0 if other == "0" else 2.0]
    scores = [PageScore(edits=1, length=1, cer=value, exact=False) for value in rates]
    assert set(strata_of([page(0), page(1)], scores).by_dimension["cer_band"]) == {band, other}


def test_bands_are_shown_from_low_to_high_and_others_by_size() -> None:
    assert in_order("length", ["1000+", "1-9", "30-99", "1-9"]) == ["1-9", "30-99", "1000+"]
    assert in_order("cer_band", [*reversed(CER_BANDS)]) == list(CER_BANDS)
    assert in_order("source", ["other", "other", "other", "b", "a", "c", "c"]) == ["c", "a", "b", "other"]
    shown = strata([page(place, "x" * 10**place) for place in (3, 0, 2, 1)]).by_dimension["length"]
    assert (
        list(shown) == [band for band in LENGTH_BANDS if band in shown] == ["1-9", "10-29", "100-299", "1000+"]
    )


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        ([True, False], ("true", "false")),
        ([1, 2.5], ("1", "2.5")),
        (["a\n b", ""], ("a b", "unknown")),
        ([["a"], "b"], None),
        ([{"x": 1}, "b"], None),
        (["x" * 81, "b"], None),
        ([None, None], None),
    ],
)
def test_meta_columns_of_plain_values_are_dimensions(values: list[Any], labels: tuple[str, ...] | None) -> None:
    results = [page(place, meta={"column": value}) for place, value in enumerate(values)]
    assert assign(results).get("meta.column") == labels


def test_meta_columns_of_many_values_are_no_dimension() -> None:
    results = [page(place, meta={"id": place, "kind": place % MAX_VALUES}) for place in range(MAX_VALUES + 1)]
    assert "meta.kind" in assign(results)
    assert "meta.id" not in assign(results)


def test_of_many_meta_columns_those_that_most_pages_have_are_kept() -> None:
    rare = {f"rare {number}": number for number in range(2 * MAX_COLUMNS)}
    found = assign([page(0, meta={**rare, "usual": 1}), page(1, meta={"usual": 2})])
    assert sum(name.startswith("meta.") for name in found) == MAX_COLUMNS
    assert found["meta.usual"] == ("1", "2")


def test_rare_labels_are_folded_and_counted() -> None:
    names = [f"s{number:02}" for number in range(MAX_LABELS + 5)]
    results = [page(place, source=name) for place, name in enumerate([*names, *names[5:]])]
    labels = assign(results)["source"]
    assert len(set(labels)) == MAX_LABELS + 1
    assert labels[:6] == (*["other"] * 5, "s05")
    shown = strata(results).by_dimension["source"]
    assert list(shown)[-1] == "other"
    assert shown["other"].to_json()["labels"] == shown["other"].n == 5
    assert "labels" not in shown["s05"].to_json()


def test_a_label_called_other_is_one_label() -> None:
    shown = strata([page(0, source="other"), page(1, source="a")]).by_dimension["source"]
    assert "labels" not in shown["other"].to_json()


def test_dimensions_with_one_label_are_left_out() -> None:
    results = [page(place, source="scans", meta={"font": "Song"}) for place in range(3)]
    assert set(assign(results)) == {"source", "language", "length", "mode", "meta.font"}
    assert strata(results).by_dimension == {}


def test_a_stratum_by_hand() -> None:
    results = [
        page(0, "abcd", "abcd", source="a"),
        page(1, "abcd", "abxx", source="a"),
        page(2, "ab", "xy", source="b", group=""),
        page(3, "ab", "ab", source="b", group=""),
    ]
    shown = strata(results).to_json()["source"]
    assert shown["a"] == {
        "n": 2,
        "documents": 1,
        "cer.mean": 0.25,
        "cer.mean_ci95": [0.25, 0.25],
        "cer.micro": 0.25,
        "cer.p90": pytest.approx(0.45),
        "exact_match": 0.5,
        "share_of_edits": 0.5,
    }
    assert shown["b"]["documents"] == 2
    assert shown["b"]["cer.mean_ci95"] == [0, 1]


PAGES = st.tuples(
    st.text("ab", max_size=12),
    st.text("ab", max_size=12),
    st.sampled_from("xyz"),
    st.sampled_from(["", "g", "h"]),
)


@settings(max_examples=25, deadline=None)
@given(st.lists(PAGES, min_size=1, max_size=8))
def test_a_stratum_has_the_figures_of_its_pages_evaluated_alone(pages: list[tuple[str, str, str, str]]) -> None:
    results = [
        page(place, true, read, source=source, group=group)
        for place, (true, read, source, group) in enumerate(pages)
    ]
    found = strata(results)
    json.dumps(found.to_json(), allow_nan=False)
    for dimension, labels in assign(results).items():
        shown = found.by_dimension.get(dimension, {})
        assert bool(shown) == (len(set(labels)) > 1)
        for label, stratum in shown.items():
            own = [result for result, its in zip(results, labels, strict=True) if its == label]
            groups = [result.group for result in own]
            alone = summarize([result.score for result in own], ["stop"] * len(own), groups, seconds=0)
            assert (stratum.n, stratum.exact_match) == (alone.n, alone.exact_match)
            assert stratum.mean == alone.cer.mean
            assert (stratum.micro, stratum.p90) == (alone.cer.micro, alone.cer.p90)
            assert stratum.mean_ci95 == alone.cer.mean_ci95
    edits = sum(result.score.edits for result in results)
    for shown in found.by_dimension.values():
        assert sum(stratum.n for stratum in shown.values()) == len(results)
        assert sum(stratum.share_of_edits for stratum in shown.values()) == pytest.approx(1 if edits else 0)
