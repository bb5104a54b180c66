"""An evaluation as Markdown, JSON, CSV and JUnit: complete, and harmless whatever a model writes."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

import pytest
from defusedxml import ElementTree
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from ocrsmith.evaluation import Evaluation
from ocrsmith.evaluation.formats import page_rows, to_csv, to_json, to_junit, to_markdown
from ocrsmith.evaluation.formats.junit import legal
from ocrsmith.evaluation.formats.markdown import code
from ocrsmith.evaluation.formats.pages import TEXT_COLUMNS, harmless
from ocrsmith.evaluation.report.wording import percent

Make = Callable[..., Evaluation]
HOSTILE = "</code></td><script>alert(1)</script>|[x](http://a.b)![i](//c) @octocat #1 `*_~\n## h\n\n---\n&lt;\\"
TAGS = {"h2", "h3", "p", "strong", "em", "table", "thead", "tbody", "tr", "th", "td", "code"}


class Page(HTMLParser):
    """Collects tags, and what stands in each cell of a table."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.cells: list[str] = []
        self.inside = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag in ("td", "th"):
            self.cells.append("")
            self.inside = True

    def handle_endtag(self, tag: str) -> None:
        self.inside = self.inside and tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.cells[-1] += data


def rendered(text: str) -> Page:
    """As a reader of Markdown with tables and inline HTML shows it."""
    return Page(MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render(text))


def figures_of(made: Evaluation, **more: Any) -> dict[str, Any]:
    return {**made.metrics.to_json(), **more}


@pytest.fixture
def mixed(evaluation: Make) -> Evaluation:
    """A page of each kind: exact, wrong, looping, failed."""
    return evaluation(("abcd", "abcd"), ("ab cd", "ab cx"), ("abcd", "ababab", "loop"), ("abcd", "", "error"))


# --- Markdown ----------------------------------------------------------------------------------------------


def test_markdown_has_the_headline_the_figures_and_the_worst_pages(mixed: Evaluation) -> None:
    text = to_markdown(mixed, figures_of(mixed))
    assert f"**Mean CER {percent(mixed.metrics.cer.mean)}**" in text
    assert "4 pages of 2 documents. Loops: 1, cut off: 0, failed: 1." in text
    page = rendered(text)
    place = page.cells.index("Ended")
    assert page.cells[place + 3] in ("p2", "p3"), "the worst page first"
    assert "p0" not in page.cells, "an exact page is not among the worst"
    assert {"loop", "failed"} <= set(page.cells)


def test_markdown_shows_what_metrics_json_holds_besides(mixed: Evaluation) -> None:
    leaf = {"n": 3, "mean": 0.125, "median": 0.1, "p90": 0.2}
    strata = {
        "language": {
            name: {"n": 2, "cer.mean": 0.25, "exact_match": 0.5, "share_of_edits": 0.5} for name in "ab"
        },
        "mode": {"tiny": {"n": 4, "cer.mean": 0.25}},
        "source": {f"s{n}": {"n": 1, "cer.mean": 0.25} for n in range(11)},
    }
    kinds = {
        "loop": {"spans": 1, "edits": 5, "share": 0.5, "pages": 1},
        "omission": {"spans": 0, "edits": 0, "share": 0.0, "pages": 0},
    }
    more = {"wer": leaf, "tables": {"teds": leaf, "cells": {"f1": leaf}}, "strata": strata}
    text = to_markdown(mixed, figures_of(mixed, errors={"kinds": kinds}, **more))
    cells = rendered(text).cells
    assert {"Word error rate", "Tables: teds", "Tables: cells f1", "12.50 %"} <= set(cells)
    assert "By language" in cells
    assert "By mode" not in cells, "one label tells nothing"
    assert "and 3 more in metrics.json" in text
    assert "endless repetition, and what was not read because of it" in cells
    assert "omission" not in cells


def test_nothing_that_was_read_is_markup_in_markdown(evaluation: Make) -> None:
    pages = [(HOSTILE * 50, HOSTILE * 60 + str(n)) for n in range(30)]
    made = evaluation(*pages, engine={"name": HOSTILE, "model": {"name": HOSTILE}})
    strata = {HOSTILE: {f"{HOSTILE}{n}": {"n": 1, "cer.mean": 0.5} for n in range(30)}}
    text = to_markdown(made, figures_of(made, strata=strata))
    page = rendered(text)
    assert set(page.tags) <= TAGS
    assert page.tags.count("h2") == 1
    outside = re.sub(r"<code[^>]*>.*?</code>", "", text)
    assert "octocat" not in outside
    assert "alert" not in outside
    assert len(text) < 65_536, "GitHub takes no longer comment"


@given(st.text(max_size=40))
def test_inline_code_holds_the_text_and_nothing_else(text: str) -> None:
    page = rendered(f"| a | b |\n| --- | --- |\n| {code(text)} | end |")
    assert page.tags.count("td") == 2
    assert set(page.tags) <= {"table", "thead", "tbody", "tr", "th", "td", "code", "em"}
    assert page.cells[-1].strip() == "end"
    assert not set(re.sub(r"</?code[^>]*>|&#\d+;", "", code(text))) & set("<>&|`[]@#\n\r\u202e\u2066")


def test_a_long_text_is_cut_and_an_empty_one_is_told() -> None:
    assert code("x" * 200, 5) == '<code dir="auto">xxxxx</code> …'
    assert code(" ") == "*nothing*"
    assert "&#" not in code("شماره 你好 abc")


# --- JSON and CSV ------------------------------------------------------------------------------------------


def test_json_has_the_figures_and_a_row_for_each_page(mixed: Evaluation) -> None:
    found = json.loads(to_json(mixed, figures_of(mixed)))
    assert found["cer.mean"] == mixed.metrics.cer.mean
    assert found["provenance"]["dataset"]["split"] == "test"
    assert [page["id"] for page in found["pages"]] == ["p0", "p1", "p2", "p3"]
    assert found["pages"][1]["wer"] == 0.5
    failed = found["pages"][3]
    assert (failed["cer"], failed["wer"], failed["ned"], failed["exact"]) == (1.0, 1.0, 1.0, False)


def test_csv_reads_back_as_it_was_written(evaluation: Make) -> None:
    text = 'a "quoted", comma;\nnew line\ttab 你好 می‌خواهم'
    made = evaluation((text, f"{text}!"), ("b", "b"))
    rows = list(csv.DictReader(io.StringIO(to_csv(made), newline="")))
    assert list(rows[0]) == list(page_rows(made)[0])
    assert (rows[0]["reference"], rows[0]["prediction"]) == (text, f"{text}!")
    assert float(rows[0]["cer"]) == made.scores[0].cer
    assert (rows[1]["exact"], rows[1]["error"]) == ("True", "")


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", " =", "\n@", "＝", "\u3000="])
def test_no_spreadsheet_takes_a_text_for_a_formula(start: str, evaluation: Make) -> None:
    made = evaluation((f"{start}1+1", f'{start}cmd|" /c calc"!A1'))
    row = next(csv.DictReader(io.StringIO(to_csv(made), newline="")))
    assert row["reference"] == f"'{start}1+1"
    assert row["prediction"].startswith("'")


def test_numbers_below_zero_stay_numbers(evaluation: Make) -> None:
    assert "logprob_mean" not in TEXT_COLUMNS
    assert harmless("a=b") == "a=b"
    assert harmless(None) == ""
    row = next(csv.DictReader(io.StringIO(to_csv(evaluation(("a", "b"))), newline="")))
    assert [float(row[name]) for name in ("cer", "wer", "ned", "seconds")] == [1, 1, 1, 0.25]


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=30))
def test_every_text_comes_back_from_csv_with_at_most_an_apostrophe(text: str) -> None:
    target = io.StringIO()
    csv.writer(target).writerow([harmless(text), "end"])
    found = next(csv.reader(io.StringIO(target.getvalue(), newline="")))
    assert found in ([text, "end"], [f"'{text}", "end"])
    assert found[0][:1] not in ("=", "+", "-", "@", "\t", "\r")


# --- JUnit -------------------------------------------------------------------------------------------------


def check_structure(root: Any) -> Any:
    """What consumers of JUnit XML rely on. Returns the suite."""
    assert root.tag == "testsuites"
    (suite,) = root
    assert [child.tag for child in suite][:2] == ["properties", "testcase"]
    assert {child.tag for child in suite} == {"properties", "testcase"}
    cases = suite.findall("testcase")
    for holder in (root, suite):
        assert int(holder.get("tests")) == len(cases)
        assert int(holder.get("failures")) == len(suite.findall("testcase/failure"))
        assert int(holder.get("errors")) == len(suite.findall("testcase/error"))
        assert float(holder.get("time")) >= 0
        assert holder.get("name")
    for case in cases:
        assert {"name", "classname", "time"} <= set(case.keys())
        assert {child.tag for child in case} <= {"failure", "error"}
        assert all(child.get("message") and child.get("type") for child in case)
    return suite


def outcomes(text: str) -> list[str]:
    suite = check_structure(ElementTree.fromstring(text))
    return [case[0].get("type") if len(case) else "ok" for case in suite.findall("testcase")]


def test_only_loops_and_failed_pages_fail_unless_a_bound_is_given(mixed: Evaluation) -> None:
    assert outcomes(to_junit(mixed)) == ["ok", "ok", "loop", "failed"]
    assert outcomes(to_junit(mixed, fail_above=0.1)) == ["ok", "cer", "loop", "failed"]
    assert outcomes(to_junit(mixed, fail_above=0.2)) == ["ok", "ok", "loop", "failed"], (
        "a CER of 20 % is not above"
    )


def test_a_failure_shows_both_texts(mixed: Evaluation) -> None:
    suite = check_structure(ElementTree.fromstring(to_junit(mixed, fail_above=0.1)))
    failure = suite.find("testcase[@name='p1']/failure")
    assert failure.get("message") == "CER 20.00 %, above 10.00 %"
    assert failure.text == "reference: ab cd\nprediction: ab cx"


def test_junit_holds_what_xml_cannot(evaluation: Make) -> None:
    made = evaluation(("]]>\0\x1b[31m\ud800\ufffe<!--&", HOSTILE * 100), created="2026-11-21T22:05:08+00:00")
    suite = check_structure(ElementTree.fromstring(to_junit(made, fail_above=0.0)))
    assert suite.get("timestamp") == "2026-11-21T22:05:08"
    shown = suite.find("testcase/failure").text
    assert shown.startswith("reference: ]]>\ufffd\ufffd[31m\ufffd\ufffd<!--&")
    assert "more characters" in shown


@given(st.text())
def test_legal_text_survives_xml(text: str) -> None:
    kept = legal(text)
    assert len(kept) == len(text)
    element = ElementTree.fromstring(
        f"<a>{kept.replace('&', '&amp;').replace('<', '&lt;').replace('>', '&gt;')}</a>"
    )
    assert (element.text or "") == kept.replace("\r\n", "\n").replace("\r", "\n")
