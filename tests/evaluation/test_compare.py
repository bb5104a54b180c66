"""Two evaluations side by side: figures, flips, the interval, and which pairs are refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ocrsmith.cli import main as cli
from ocrsmith.errors import DataError
from ocrsmith.evaluation import compare

Saved = Callable[..., Path]


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


def test_an_evaluation_against_itself_shows_no_difference(saved: Saved) -> None:
    a = saved("a", ("abcd", "abxx"), ("abcd", "abcd"))
    result = compare(a, a)
    assert result.verdict == "unclear"
    assert result.improved == result.worsened == []
    assert {change.verdict for change in result.changes} == {"same"}


def test_the_verdict_needs_the_whole_interval(saved: Saved) -> None:
    clear = [("abcdefghij", "abcdexxxxx")] * 30
    fixed = [("abcdefghij", "abcdefghij")] * 30
    mixed = [("abcdefghij", "abcdefghij" if n % 2 else "x") for n in range(30)]
    a, b, c = saved("a", *clear), saved("b", *fixed), saved("c", *mixed)
    assert compare(a, b).verdict == "better"
    assert compare(b, a).verdict == "worse"
    assert compare(a, c).verdict == "unclear"


@pytest.mark.parametrize(("pages", "verdict"), [(8, "unclear"), (10, "better")])
def test_a_handful_of_documents_decides_nothing(saved: Saved, pages: int, verdict: str) -> None:
    a = saved("a", *[("abcd", "abxx")] * pages)  # `saved` makes a document of every two pages
    result = compare(a, saved("b", *[("abcd", "abcd")] * pages))
    assert (result.documents, result.verdict) == (pages // 2, verdict)
    assert ("too few" in result.reason) == (verdict == "unclear")


def test_the_interval_is_that_of_a_plain_bootstrap_over_documents(saved: Saved) -> None:
    a = saved("a", *[("abcdefghij", "abcdefghij"[: 10 - n % 7]) for n in range(40)])
    b = saved("b", *[("abcdefghij", "abcdefghij"[: 10 - n % 3]) for n in range(40)])
    interval = compare(a, b).interval
    # the same by loops: 20 documents of two pages each
    change = np.array([-(n % 7 - n % 3) / 10 for n in range(40)]).reshape(20, 2)
    generator = np.random.default_rng(5)
    means = [change[generator.integers(0, 20, 20)].mean() for _ in range(4_000)]
    assert interval.estimate == pytest.approx(change.mean())
    assert interval.low == pytest.approx(np.percentile(means, 2.5), abs=0.01)
    assert interval.high == pytest.approx(np.percentile(means, 97.5), abs=0.01)


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


def test_the_command_writes_json_and_html(
    saved: Saved, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = saved("base", ("abcd", "abxx")), saved("tuned", ("abcd", "abcd"))
    assert cli.main(["compare", str(a), str(b), "-o", str(tmp_path / "out"), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["became_exact"] == [{"id": "p0", "cer_a": 0.5, "cer_b": 0.0, "change": -0.5}]
    assert json.loads((tmp_path / "out" / "comparison.json").read_text()) == printed
    assert "base" in (tmp_path / "out" / "comparison.html").read_text()


def test_the_command_prints_a_table(saved: Saved, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = saved("a", ("abcd", "abxx")), saved("b", ("abcd", "abcd"))
    assert cli.main(["compare", str(a), str(b)]) == 0
    printed = capsys.readouterr().out
    assert "Mean CER" in printed
    assert "−100.0 %" in printed
    assert "1 became exact" in printed
