"""Sections show what metrics.json has, and leave out what it lacks."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable
from typing import Any

import pytest

from ocrsmith.evaluation import Evaluation
from ocrsmith.evaluation.report import render_evaluation, sections
from ocrsmith.evaluation.report.before import headline, pair_pages
from ocrsmith.evaluation.report.curve import reliability, risk_coverage
from ocrsmith.evaluation.report.filters import Filters, useful

Make = Callable[..., Evaluation]
FIGURE = {"n": 3, "mean": 0.25, "median": 0.2, "mean_ci95": [0.1, 0.4]}
STRATUM = {"n": 2, "documents": 2, "cer.mean": 0.1, "cer.mean_ci95": [0.05, 0.2], "share_of_edits": 0.5}
CONFIDENCE: dict[str, Any] = {
    "pages_with": 3,
    "ece": {"characters": {"before": 0.06, "after": 0.012}, "pages": {"before": 0.1, "after": None}},
    "calibration": {"method": "isotonic", "fitted_on": {}},
    "reliability": [{"low": 0.0, "high": 0.5, "n": 10, "confidence": 0.3, "accuracy": 0.4}],
    "risk_coverage": [{"coverage": n / 10, "threshold": 1 - n / 10, "cer": n / 100} for n in range(1, 11)],
    "aurc": 0.05,
    "accept": {"cer": 0.02, "threshold": 0.93, "coverage": 0.61, "level": 0.95},
}


def written(made: Evaluation, figures: dict[str, Any], **more: Any) -> str:
    page = render_evaluation(made, figures, lambda ids: {}, **more)
    return " ".join(
        re.sub("<script.*?</script>|<style>.*?</style>|<[^>]*>", " ", page, flags=re.DOTALL).split()
    )


def test_an_older_evaluation_is_a_report(evaluation: Make) -> None:
    text = written(evaluation(("abcd", "abxd")), {})
    for heading in ("Other measures", "Where the errors are", "Kinds of errors", "Confidence"):
        assert heading not in text
    assert "Mean CER 25.00 %" in text.replace("\u00a0", " ")


def test_all_sections_are_there(evaluation: Make) -> None:
    figures = {
        "wer": FIGURE,
        "tables": {"teds": FIGURE, "cells": {"f1": FIGURE}, "skipped": 0},
        "strata": {"language": {"fa": STRATUM, "en": STRATUM}, "source": {"one": STRATUM}},
        "confidence": CONFIDENCE,
        "retries": {"pages": 2, "attempts": 3, "rescued": 1, "still_looping": 1},
        "normalised": {"nfkc": {"cer.mean": 0.2, "cer.micro": 0.1}},
    }
    text = written(evaluation(("abcd", "abxd")), figures).replace("\u00a0", " ")
    for words in (
        "Word error rate 3 25.00 % 10.00 % – 40.00 % 20.00 %",
        "Tables: cells, F1",
        "Language",
        "2 pages fell into a loop and were read again; 1 then ended well, 1 still loops.",
        "of at least 93.0 % lets 61.0 % of them pass with a CER below 2.0 % (95 % sure)",
        "characters 6.00 % 1.20 %",
        "calibrated (isotonic)",
        "nfkc 20.00 % 10.00 %",
    ):
        assert words in text
    assert "Source one" not in text  # a single label tells nothing


def test_no_threshold_is_said() -> None:
    found = sections.confidence({"confidence": {**CONFIDENCE, "accept": {"cer": 0.02, "threshold": None}}})
    assert found is not None
    assert found.accept == {"cer": 0.02, "threshold": None}
    assert sections.confidence({"confidence": {"pages_with": 0}}) is None


@pytest.mark.parametrize(
    ("was", "now", "words", "tone"),
    [("abxx", "abcd", "Better than base", "good"), ("abcd", "abxx", "Worse than base", "bad")],
)
def test_the_verdict_has_its_interval(evaluation: Make, was: str, now: str, words: str, tone: str) -> None:
    old = evaluation(*[("abcd", was)] * 24, engine={"name": "base"})
    new = evaluation(*[("abcd", now)] * 24)
    before = pair_pages(new, old)
    assert before is not None
    assert before.tone == tone
    assert headline(new.metrics, before).startswith(words)
    assert "points (95 % interval " in headline(new.metrics, before)
    assert "Before Now Change" in written(new, {}, base=(old, {}))


def test_two_documents_are_no_verdict(evaluation: Make) -> None:
    before = pair_pages(evaluation(*[("abcd", "abcd")] * 4), evaluation(*[("abcd", "")] * 4))
    assert before is not None
    assert before.tone == ""
    assert headline(before.now, before).startswith("Not clearly different from")


def test_pages_are_paired_by_id_and_reference(evaluation: Make) -> None:
    now = evaluation(("abcd", "abcd"), ("efgh", "efgh"), ("ijkl", "x"))
    before = pair_pages(now, evaluation(("abcd", "abxd"), ("other", "efgh")))
    assert before is not None
    assert before.pages == {0: (0.25, "abxd")}
    assert (before.better, before.worse) == (1, 0)
    assert before.now.n == before.metrics.n == 1
    assert pair_pages(now, evaluation(("zzz", "z"))) is None


def test_plots_need_points() -> None:
    assert risk_coverage([{"coverage": 1.0, "cer": 0.1}]) is None
    assert reliability([{"n": 0, "confidence": None, "accuracy": None}]) is None
    drawn = risk_coverage(CONFIDENCE["risk_coverage"], CONFIDENCE["accept"])
    assert drawn is not None
    assert drawn.dots[0].title == "60 % of the pages, CER 6.00 %"
    assert [label for _, label in drawn.up] == ["0.0 %", "2.5 %", "5.0 %", "7.5 %", "10.0 %"]


def test_dimensions_with_a_name_for_each_page_make_no_menu() -> None:
    labels = {"source": ["a", "b"] * 60, "meta.name": [f"n{n}" for n in range(120)], "mode": ["small"] * 120}
    assert list(useful(labels)) == ["source"]


def test_rows_of_tables_name_their_menu() -> None:
    filters = Filters.of(
        ["loop"], [("O", "0")], {"language": ["en", 'f"a']}, ended=["stop"], before=False, confidence=False
    )
    assert filters.attributes("language", 'f"a') == ' data-filter="by.0" data-value="1"'
    assert filters.attributes("kind", "loop") == ' data-filter="kind" data-value="0"'
    assert filters.attributes("confusion", 0) == ' data-filter="confusion" data-value="0"'
    assert filters.attributes("cer_band", "0") == ""
    assert filters.attributes("language", "zh") == ""


def test_the_policy_names_just_what_is_in_the_page(evaluation: Make) -> None:
    page = render_evaluation(evaluation(("abcd", "abxd")), {}, lambda ids: {})
    for tag, name in (("script>", "script-src"), ("style>", "style-src")):
        content = re.search(f"<{tag}(.*?)</{tag}", page, re.DOTALL)
        assert content
        digest = base64.b64encode(hashlib.sha256(content.group(1).encode()).digest()).decode()
        assert f"{name} 'sha256-{digest}'" in page
    assert not re.search(r"<[^>]+\sstyle=", page)
