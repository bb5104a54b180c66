"""olmOCR's checks as they are understood here, and the command that runs them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from benchmarks.olmocr_checks import normalise, passes, tables_of

from benchmarks import olmocr
from ocrsmith.errors import DataError

DATA = Path(__file__).parents[3] / "shared/data/olmocr_bench"
TABLE = (
    '<table><tr><td></td><td colspan="2">Year Ended</td></tr><tr><td>Name</td><td>2023</td><td>2024</td></tr>'
    '<tr><td rowspan="2">Sales</td><td>1,136</td><td>876</td></tr><tr><td>178</td><td>141</td></tr></table>'
)


@pytest.mark.parametrize(
    ("check", "text", "passed"),
    [
        ({"type": "present", "text": "old “ferry”"}, 'the **old**\n\n"ferry" came', True),
        ({"type": "present", "text": "old ferry"}, "the old fery", False),
        ({"type": "present", "text": "old ferry", "max_diffs": 1}, "the old fery", True),
        ({"type": "present", "text": "Old"}, "old", False),
        ({"type": "present", "text": "Old", "case_sensitive": False}, "old", True),
        ({"type": "present", "text": "end", "first_n": 5}, "begin … end", False),
        ({"type": "present", "text": "end", "last_n": 5}, "begin … end", True),
        ({"type": "absent", "text": "62"}, "see 62 here", False),
        ({"type": "absent", "text": "62", "last_n": 4}, "see 62 here", True),
        ({"type": "absent", "text": "long text"}, "", True),
        ({"type": "order", "before": "one", "after": "two"}, "one two", True),
        ({"type": "order", "before": "one", "after": "two"}, "two one", False),
        ({"type": "order", "before": "one", "after": "two"}, "two one two", True),
        ({"type": "order", "before": "one", "after": "gone"}, "one two", False),
        ({"type": "order", "before": "first", "after": "second", "max_diffs": 1}, "fyrst then secund", True),
        ({"type": "order", "before": "first", "after": "second", "max_diffs": 1}, "secund then fyrst", False),
        ({"type": "table", "cell": "1,136", "right": "876", "left": "Sales", "down": "178"}, TABLE, True),
        ({"type": "table", "cell": "876", "top_heading": "Year Ended"}, TABLE, True),
        ({"type": "table", "cell": "141", "left_heading": "Sales", "up": "876"}, TABLE, True),
        ({"type": "table", "cell": "141", "up": "178"}, TABLE, False),
        ({"type": "table", "cell": "Sales", "top_heading": "Year Ended"}, TABLE, False),
        ({"type": "table", "cell": "Sales"}, "Sales 1,136", False),
        ({"type": "table", "cell": "2", "top_heading": "B"}, "| A | B |\n|---|---|\n| 1 | 2 |", True),
        ({"type": "math", "math": "a^{2} + b"}, "so $a^2+b$ is", True),
        ({"type": "math", "math": "a^{2} + b"}, "a² + b", False),
        ({"type": "baseline"}, "words", True),
        ({"type": "baseline"}, " \n", False),
        ({"type": "baseline"}, "words " + "again " * 40, False),
        ({"type": "baseline", "max_length": 10}, "", True),
        ({"type": "baseline", "max_length": 10}, "much more than ten", False),
    ],
)
def test_what_a_check_means(check: dict[str, Any], text: str, passed: bool) -> None:
    assert passes(check, text) is passed


def test_an_unknown_check_is_refused() -> None:
    with pytest.raises(ValueError, match="guess"):
        passes({"type": "guess"}, "")


def test_spans_fill_the_fields_they_cover() -> None:
    assert tables_of(TABLE) == [
        [
            ["", "Year Ended", "Year Ended"],
            ["Name", "2023", "2024"],
            ["Sales", "1,136", "876"],
            ["Sales", "178", "141"],
        ]
    ]


def test_names_with_low_lines_are_not_emphasis() -> None:
    assert normalise("call *now* read_page_text or _this_") == "call now read_page_text or this"


def test_checks_that_are_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        olmocr.run(tmp_path)


@pytest.mark.skipif(not DATA.is_dir(), reason="olmOCR's checks are not in ../shared/data")
def test_our_markdown_passes_what_plain_text_does_not(tmp_path: Path) -> None:
    assert olmocr.main(["--results", str(tmp_path), "--texts", str(tmp_path / "texts")]) == 0
    result = json.loads((tmp_path / "olmocr.json").read_text(encoding="utf-8"))
    rows = {row["of"]: row for row in result["rows"]}
    whole = rows["pages with visible text"]
    assert whole["checks"] == 60
    assert whole["ours"] > 0.75 > 2 * max(whole["pdfplumber"], whole["pypdfium2"]) - 0.01
    assert rows["visible text: table"]["ours"] >= 0.9
    assert len(result["missing"]) == 22
    distance = {row["of"]: row["ours"] for row in result["distances"]}
    assert distance["untable.pdf"] < 0.03
    assert (tmp_path / "texts" / "earnings_1.md").read_text(encoding="utf-8").count("<table>") == 1
