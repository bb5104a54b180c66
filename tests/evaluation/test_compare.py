"""Evaluations side by side: figures, flips, effects, strata, forgetting, and which are refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ocrsmith.errors import DataError, SettingsError
from ocrsmith.evaluation import compare
from ocrsmith.evaluation.compare import FEWEST_DOCUMENTS, Comparison, Comparisons, compare_all, measure
from ocrsmith.evaluation.figures import figures_of
from ocrsmith.evaluation.statistics import Interval, paired_interval
from ocrsmith.evaluation.store import METRICS, load

Saved = Callable[..., Path]
TEN = "abcdefghij"


def wrong(characters: int) -> tuple[str, str]:
    """A page of ten characters of which so many are not read."""
    return TEN, TEN[: 10 - characters]


def documents(*characters: int) -> list[tuple[str, str]]:
    """Two pages for each document (`saved` makes a document of every two), both with so many errors."""
    return [wrong(number) for number in characters for _ in range(2)]


def test_figures_and_flips(saved: Saved) -> None:
    a = saved("a", ("abcd", "abcd"), ("abcd", "abxx"), ("abcd", ""), ("abcd", "abc", "loop"))
    b = saved("b", ("abcd", "abcx"), ("abcd", "abcd"), ("abcd", "abcd"), ("abcd", "abc"))
    result = compare(a, b)

    mean = next(change for change in result.changes if change.name == "cer.mean")
    assert mean.a == pytest.approx((0 + 0.5 + 1 + 0.25) / 4)
    assert mean.b == pytest.approx((0.25 + 0 + 0 + 0.25) / 4)
    assert mean.absolute == pytest.approx(-0.3125)
    assert mean.relative == pytest.approx(-0.3125 / 0.4375)
    assert mean.verdict == "better"
    verdicts = {change.name: change.verdict for change in result.changes}
    assert verdicts["exact_match"] == "better"
    assert verdicts["loops"] == "better"
    assert verdicts["failed"] == "same"
    assert [pair.a.id for pair in result.improved] == ["p2", "p1"]  # most improved first
    assert [pair.a.id for pair in result.worsened] == ["p0"]
    assert [pair.a.id for pair in result.became_exact] == ["p2", "p1"]
    assert [pair.a.id for pair in result.lost_exact] == ["p0"]
    assert json.loads(json.dumps(result.to_json()))["figures"]["cer.mean"]["change"] == pytest.approx(-0.3125)


def test_ends_that_flipped(saved: Saved) -> None:
    a = saved("a", (TEN, TEN), (TEN, TEN, "loop"), (TEN, "", "error"), (TEN, "a", "length"))
    b = saved("b", (TEN, "", "loop"), (TEN, TEN), (TEN, TEN, "length"), (TEN, "a", "length"))
    flips = {item.reason: item for item in compare(a, b).end_flips}
    ids = {
        reason: ([pair.a.id for pair in item.became], [pair.a.id for pair in item.recovered])
        for reason, item in flips.items()
    }
    assert ids == {"loop": (["p0"], ["p1"]), "length": (["p2"], []), "error": ([], ["p2"])}
    assert compare(a, b).to_json()["ends"]["loop"]["became"][0]["id"] == "p0"


def test_an_evaluation_against_itself_shows_no_difference(saved: Saved) -> None:
    a = saved("a", *documents(0, 1, 2, 3, 4, 5, 6))
    result = compare(a, a)
    assert result.verdict == "unclear"
    assert result.improved == result.worsened == []
    assert {change.verdict for change in result.changes} == {"same"}
    assert result.effect.p_value == 1
    assert result.warnings == []


# --- the verdict -------------------------------------------------------------------------------------------


def test_the_verdict_needs_the_whole_interval(saved: Saved) -> None:
    clear = [("abcdefghij", "abcdexxxxx")] * 30
    fixed = [("abcdefghij", "abcdefghij")] * 30
    mixed = [("abcdefghij", "abcdefghij" if n % 2 else "x") for n in range(30)]
    a, b, c = saved("a", *clear), saved("b", *fixed), saved("c", *mixed)
    assert compare(a, b).verdict == "better"
    assert compare(b, a).verdict == "worse"
    assert compare(a, c).verdict == "unclear"


@pytest.mark.parametrize(("number", "verdict"), [(5, "unclear"), (6, "better")])
def test_a_handful_of_documents_decides_nothing(saved: Saved, number: int, verdict: str) -> None:
    a, b = saved("a", *documents(*[5] * number)), saved("b", *documents(*[0] * number))
    result = compare(a, b)
    assert (result.documents, result.verdict) == (number, verdict)
    assert ("too few" in result.reason) == (verdict == "unclear")


def test_fewest_documents_is_where_a_permutation_test_can_decide() -> None:
    assert 2 / 2**FEWEST_DOCUMENTS <= 0.05 < 2 / 2 ** (FEWEST_DOCUMENTS - 1)


def test_an_interval_that_the_permutation_test_does_not_confirm_is_unclear(saved: Saved) -> None:
    # Five documents better by 0.5, one worse by 0.1. Of 2^6 patterns four reach 2.4: all alike, or all but the
    # last. So p = 4/64; the bootstrap, for which six documents are few, sees the whole interval below zero.
    a, b = saved("a", *documents(5, 5, 5, 5, 5, 0)), saved("b", *documents(0, 0, 0, 0, 0, 1))
    result = compare(a, b)
    assert result.interval.high < 0
    assert result.effect.test.p_value == 4 / 64
    assert result.verdict == "unclear"
    assert result.reason == (
        "the whole interval is below zero, but flipping signs by document gives p = 0.062, "
        "not enough to rule out chance"
    )


def test_a_permutation_test_alone_does_not_decide() -> None:
    some = measure([0.5] * 8, [0.0] * 8, [""] * 8)
    doubtful = replace(some, interval=Interval(-0.1, -0.3, 0.01, 0.9))
    assert doubtful.p_value < 0.05
    assert doubtful.verdict == "unclear"
    assert doubtful.reason == (
        "the interval includes zero, but flipping signs by document gives p = 0.0078, which alone would do"
    )


def test_a_rise_is_good_where_higher_is_better() -> None:
    low, high, groups = [0.2] * 8, [0.6] * 8, [""] * 8
    assert measure(low, high, groups, higher_is_better=True).verdict == "better"
    assert measure(high, low, groups, higher_is_better=True).verdict == "worse"
    assert measure(low, high, groups).verdict == "worse"
    assert measure(high, low, groups).verdict == "better"


# --- intervals ---------------------------------------------------------------------------------------------


def test_the_intervals_are_those_of_a_plain_bootstrap_over_documents(saved: Saved) -> None:
    a = saved("a", *[("abcdefghij", "abcdefghij"[: 10 - n % 7]) for n in range(40)])
    b = saved("b", *[("abcdefghij", "abcdefghij"[: 10 - n % 3]) for n in range(40)])
    result = compare(a, b)
    # the same by loops: 20 documents of two pages each
    before = np.array([n % 7 / 10 for n in range(40)]).reshape(20, 2)
    change = np.array([-(n % 7 - n % 3) / 10 for n in range(40)]).reshape(20, 2)
    generator = np.random.default_rng(5)
    drawn = [generator.integers(0, 20, 20) for _ in range(4_000)]
    means = [change[rows].mean() for rows in drawn]
    shares = [change[rows].mean() / before[rows].mean() for rows in drawn]
    assert result.interval.estimate == pytest.approx(change.mean())
    assert result.interval.low == pytest.approx(np.percentile(means, 2.5), abs=0.01)
    assert result.interval.high == pytest.approx(np.percentile(means, 97.5), abs=0.01)
    assert result.effect.relative == pytest.approx(change.mean() / before.mean())
    assert result.relative == pytest.approx(np.percentile(shares, (2.5, 97.5)), abs=0.02)


def test_the_effect_has_the_interval_of_the_statistics() -> None:
    first, second = [0.1, 0.4, 0.3, 0.0, 0.9, 0.2, 0.7, 0.5], [0.0, 0.2, 0.4, 0.0, 0.5, 0.1, 0.2, 0.6]
    groups = ["a", "a", "b", "", "c", "d", "e", "f"]
    effect = measure(first, second, groups)
    assert effect.interval == paired_interval(first, second, groups)
    assert (effect.n, effect.documents) == (8, 7)
    assert effect.to_json()["ci95"] == [effect.interval.low, effect.interval.high]


def test_there_is_no_relative_change_of_nothing(saved: Saved) -> None:
    a, b = saved("a", *documents(*[0] * 8)), saved("b", *documents(*[1] * 8))
    result = compare(a, b)
    assert result.relative is None
    assert result.to_json()["cer_mean_relative_ci95"] is None
    assert result.verdict == "worse"


# --- other figures -----------------------------------------------------------------------------------------


def test_other_figures_of_pages_have_effects_too(saved: Saved) -> None:
    texts = ["one two three", "four five six", "seven eight nine", "ten eleven twelve"] * 4
    a = saved("a", *[(text, text.replace("e", "x")) for text in texts], ("gone", "", "error"))
    b = saved("b", *[(text, text) for text in texts], ("gone", "", "error"))
    result = compare(a, b)
    assert result.line_effects.keys() == {"wer.mean", "ned.mean", "chrf.mean"}
    assert {effect.verdict for effect in result.line_effects.values()} == {"better"}
    for name, effect in result.line_effects.items():  # the same figures as in metrics.json
        figure = name.removesuffix(".mean")
        assert effect.a == pytest.approx(figures_of(load(a).results).figures[figure].mean)
        assert effect.b == pytest.approx(figures_of(load(b).results).figures[figure].mean)
    figures = result.to_json()["figures"]
    assert figures["chrf.mean"]["change"] > 0
    assert {figures[name]["verdict"] for name in result.line_effects} == {"better"}
    assert result.to_json()["effects"]["wer.mean"]["ci95"][1] < 0


def add_figures(folder: Path, **figures: Any) -> Path:
    content = json.loads((folder / METRICS).read_text())
    (folder / METRICS).write_text(json.dumps({**content, **figures}))
    return folder


def test_stored_figures_are_compared_where_both_have_them(saved: Saved) -> None:
    tables = {"teds": {"n": 2, "mean": 0.5}, "cells": {"f1": {"n": 2, "mean": 0.25}}, "skipped": 0}
    a = add_figures(saved("a", wrong(1), wrong(2)), tables=tables, order={"reading": {"n": 1, "mean": 0.5}})
    better = {"teds": {"n": 2, "mean": 0.75}, "cells": {"f1": {"n": 2, "mean": 0.2}}, "skipped": 1}
    b = add_figures(saved("b", wrong(1), wrong(1)), tables=better, boxes={"f1": {"n": 1, "mean": 1.0}})
    changes = {change.name: change for change in compare(a, b).changes}
    assert (changes["tables.teds.mean"].absolute, changes["tables.teds.mean"].verdict) == (0.25, "better")
    assert changes["tables.cells.f1.mean"].verdict == "worse"
    assert not {name for name in changes if name.startswith(("order", "boxes"))}
    c = add_figures(saved("c", wrong(1)), tables=better)
    common = {change.name for change in compare(a, c, intersect=True).changes}
    assert not {name for name in common if name.startswith("tables")}  # they are of other pages


def test_a_lower_distance_is_better(saved: Saved) -> None:
    a = add_figures(saved("a", wrong(1)), order={"reading": {"n": 1, "mean": 0.5}})
    b = add_figures(saved("b", wrong(1)), order={"reading": {"n": 1, "mean": 0.2}})
    assert {c.name: c.verdict for c in compare(a, b).changes}["order.reading.mean"] == "better"


# --- strata ------------------------------------------------------------------------------------------------

FARSI = "پژوهش تازه"


@pytest.fixture
def two_languages(saved: Saved) -> Comparison:
    """Twelve documents of Latin letters that got better, eight in Persian that got worse."""
    persian, half = (FARSI, FARSI), (FARSI, FARSI[:8])
    a = saved("a", *documents(*[5] * 12), *[persian] * 16)
    b = saved("b", *documents(*[1] * 12), *[half] * 16)
    return compare(a, b)


def test_a_part_that_got_worse_is_said_though_the_whole_improved(two_languages: Comparison) -> None:
    assert two_languages.verdict == "better"
    strata = {(item.dimension, item.label): item.effect for item in two_languages.strata}
    persian = strata["language", "fa"]
    assert (persian.n, persian.documents, persian.verdict) == (16, 8, "worse")
    assert (persian.a, persian.b) == (0, pytest.approx(0.2))
    assert two_languages.warnings == ["Improved overall, but worse on language fa: +20.0 points."]
    said = two_languages.to_json()
    assert said["warnings"] == two_languages.warnings
    assert said["strata"][0].items() >= {"dimension": "language", "label": "fa", "verdict": "worse"}.items()


def test_the_largest_rise_comes_first_and_single_labels_are_left_out(two_languages: Comparison) -> None:
    assert {item.dimension for item in two_languages.strata} == {"language"}  # source, length, mode: one label
    rises = [item.effect.change for item in two_languages.strata]
    assert rises == sorted(rises, reverse=True)


def test_too_few_documents_of_a_part_are_no_warning(saved: Saved) -> None:
    a = saved("a", *documents(*[5] * 12), *[(FARSI, FARSI)] * 10)
    b = saved("b", *documents(*[1] * 12), *[(FARSI, FARSI[:8])] * 10)
    result = compare(a, b)
    persian = next(item.effect for item in result.strata if item.label == "fa")
    assert (persian.documents, persian.verdict) == (5, "unclear")
    assert result.warnings == []


def test_strata_of_the_same_pages_in_both_add_up(two_languages: Comparison) -> None:
    parts = [item.effect for item in two_languages.strata]
    assert sum(part.n for part in parts) == len(two_languages.pairs)
    whole = sum(part.n * part.change for part in parts) / len(two_languages.pairs)
    assert whole == pytest.approx(two_languages.interval.estimate)


# --- several -----------------------------------------------------------------------------------------------


def test_several_are_compared_with_the_first(saved: Saved) -> None:
    base = saved("base", *documents(*[5] * 8))
    good, same = saved("good", *documents(*[1] * 8)), saved("same", *documents(*[5] * 8))
    found = compare_all([base, good, same])
    assert [item.verdict for item in found] == ["better", "unclear"]
    table = Comparisons(("base", "good", "same"), found)
    rows = {row.name: row for row in table.rows}
    assert rows["cer.mean"].values == pytest.approx((0.5, 0.1, 0.5))
    assert rows["cer.mean"].best == (1,)
    assert rows["chrf.mean"].best == (1,)  # the higher the better
    assert rows["loops"].best == ()  # all alike
    said = json.loads(json.dumps(table.to_json()))
    assert (said["base"], said["correction"], said["n"]) == ("base", "holm", 16)
    assert said["figures"]["cer.mean"]["best"] == ["good"]
    assert [item["name"] for item in said["comparisons"]] == ["good", "same"]


def test_p_values_of_several_are_corrected(saved: Saved) -> None:
    # Six documents, all better: p = 2/64. Enough for one comparison, not for two at once (4/64).
    base = saved("base", *documents(*[5] * 6))
    good, other = saved("good", *documents(*[1] * 6)), saved("other", *documents(*[2] * 6))
    alone = compare(base, good)
    assert (alone.effect.p_value, alone.verdict) == (2 / 64, "better")
    assert alone.to_json()["effects"]["cer.mean"]["p_value_holm"] is None
    first, second = compare_all([base, good, other])
    assert (first.effect.p_value, second.effect.p_value) == (4 / 64, 4 / 64)
    assert first.effect.test.p_value == 2 / 64
    assert first.verdict == "unclear"
    assert "p = 0.062 (Holm, 2 comparisons)" in first.reason
    assert first.to_json()["effects"]["cer.mean"]["p_value_holm"] == 4 / 64


def test_several_are_compared_on_the_pages_that_all_have(saved: Saved) -> None:
    a = saved("a", wrong(1), wrong(1), wrong(1))
    b, c = saved("b", wrong(2), wrong(2)), saved("c", wrong(0), ("other", "other"), wrong(0))
    with pytest.raises(DataError, match="not of the same pages"):
        compare_all([a, b, c])
    found = compare_all([a, b, c], intersect=True)
    assert [[pair.a.id for pair in item.pairs] for item in found] == [["p0"], ["p0"]]
    assert [item.left_out for item in found] == [2, 2]


# --- forgetting --------------------------------------------------------------------------------------------


def general(saved: Saved, before: int, after: list[int], **provenance: Any) -> list[Path]:
    data = {"dataset": {"content_hash": "sha256:general", "split": "test", "path": "/data/general"}}
    return [
        saved("base2", *documents(*[before] * len(after)), **data),
        saved("tuned2", *documents(*after), **data, **provenance),
    ]


@pytest.mark.parametrize(
    ("after", "margin", "forgot"),
    [
        ([2] * 8, 0.01, "no"),  # nothing changed
        ([5] * 8, 0.01, "yes"),  # 30 points worse
        ([5] * 8, 0.35, "no"),  # as much is allowed
        ([2, 2, 2, 2, 2, 2, 3, 1], 0.01, "unclear"),  # may be below the margin or above
        ([5] * 5, 0.01, "unclear"),  # too few documents
    ],
)
def test_forgetting_is_judged_by_the_whole_interval(
    saved: Saved, after: list[int], margin: float, forgot: str
) -> None:
    pair = [saved("base", *documents(*[5] * 8)), saved("tuned", *documents(*[1] * 8))]
    (found,) = compare_all(pair, forgetting=general(saved, 2, after), max_forgetting=margin)
    assert found.verdict == "better"
    assert found.forgetting is not None
    assert found.forgetting.forgot == forgot, found.forgetting.reason
    said = found.to_json()["forgetting"]
    assert said.items() >= {"forgot": forgot, "max_forgetting": margin, "data": "general, test"}.items()
    assert said["cer_mean"]["change"] == pytest.approx(sum(after) / len(after) / 10 - 0.2)
    assert found.warnings == []


def test_the_other_pages_must_be_read_by_the_same_models(saved: Saved) -> None:
    engine = {"engine": {"name": "native", "model": {"name": "m", "hash": "sha256:m"}}}
    tuned = {"engine": {**engine["engine"], "adapter": {"name": "run", "hash": "sha256:run"}}}
    pair = [saved("a", *documents(5, 5), **engine), saved("b", *documents(1, 1), **tuned)]
    right = [saved("a2", *documents(5, 5), **engine), saved("b2", *documents(1, 1), **tuned)]
    (found,) = compare_all(pair, forgetting=right)
    assert found.warnings == []
    (swapped,) = compare_all(pair, forgetting=right[::-1])
    assert swapped.warnings == [
        "On the other pages, A is another model or adapter than in the comparison itself."
    ]


def test_forgetting_takes_an_evaluation_for_each(saved: Saved) -> None:
    a, b = saved("a", wrong(1)), saved("b", wrong(2))
    with pytest.raises(SettingsError) as caught:
        compare_all([a, b], forgetting=[a])
    assert "2 evaluations are compared, but --forgetting is given 1 time." in str(caught.value)
    assert "in the same order" in str(caught.value)
    with pytest.raises(SettingsError, match="alone cannot be compared"):
        compare_all([a])


# --- which are refused -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("second", "provenance", "named"),
    [
        ([("abcd", "abcd")], {}, "1 page only in A: 'p1'"),
        ([("abcd", "x"), ("efgh", "x"), ("ijkl", "x")], {}, "1 page only in B: 'p2'"),
        ([("abcd", "x"), ("EFGH", "x")], {}, "1 page with another reference: 'p1'"),
        (
            [("abcd", "x"), ("efgh", "x")],
            {"dataset": {"content_hash": "sha256:other", "split": "test"}},
            "content hash sha256:same and sha256:other",
        ),
        (
            [("abcd", "x"), ("efgh", "x")],
            {"dataset": {"content_hash": "sha256:same", "split": "val"}},
            "splits differ (test and val)",
        ),
    ],
    ids=["fewer", "more", "reference", "dataset", "split"],
)
def test_other_pages_are_refused_unless_asked_to_intersect(
    saved: Saved, second: list[Any], provenance: dict[str, Any], named: str
) -> None:
    a, b = saved("a", ("abcd", "abcd"), ("efgh", "efgh")), saved("b", *second, **provenance)
    with pytest.raises(DataError) as caught:
        compare(a, b)
    assert named in str(caught.value)
    assert "--intersect" in str(caught.value)
    common = [pair.a.id for pair in compare(a, b, intersect=True).pairs]
    assert common == [f"p{n}" for n in range(len(second)) if n < 2 and second[n][0] in ("abcd", "efgh")]


def test_nothing_in_common_cannot_be_compared(saved: Saved) -> None:
    with pytest.raises(DataError, match="no page in common"):
        compare(saved("a", ("a", "a")), saved("b", ("b", "b")), intersect=True)


def test_figures_of_an_intersection_are_those_of_the_common_pages(saved: Saved) -> None:
    a = saved("a", ("abcd", "abcd"), ("efgh", "x"))
    result = compare(a, saved("b", ("abcd", "")), intersect=True)
    assert (result.metrics_a.n, result.metrics_b.n, result.left_out) == (1, 1, 1)
    assert (result.metrics_a.cer.mean, result.metrics_b.cer.mean) == (0, 1)


def test_a_folder_without_an_evaluation_is_named(saved: Saved, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="No such evaluation folder"):
        compare_all([saved("a", wrong(1)), tmp_path / "nowhere"])


def test_keys_of_the_json_stay(saved: Saved) -> None:
    """`comparison.json` is read by others: keys are added, never taken away."""
    said = compare(saved("a", wrong(2)), saved("b", wrong(1))).to_json()
    assert said.keys() >= {
        *("n", "left_out", "verdict", "reason", "documents", "cer_mean_difference", "figures"),
        *("became_exact", "lost_exact", "improved", "worsened", "a", "b"),
        *("warnings", "effects", "strata", "forgetting", "ends"),
    }
    assert said["cer_mean_difference"].keys() == {"estimate", "low", "high", "share_below_zero"}
    assert said["improved"] == [
        {"id": "p0", "cer_a": 0.2, "cer_b": 0.1, "change": pytest.approx(-0.1)},
    ]
