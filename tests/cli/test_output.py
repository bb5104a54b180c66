"""What goes to stdout and what to stderr, and how values become JSON."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from pydantic import BaseModel

from ocrsmith.cli import output


@dataclasses.dataclass
class Figures:
    cer: float
    path: Path


class Choice(BaseModel):
    mode: str = "gundam"


def test_json_has_plain_values_only(capsys: pytest.CaptureFixture[str]) -> None:
    output.configure(as_json=True)
    output.print_json(
        {
            "figures": Figures(float("nan"), Path("a/b")),
            "settings": Choice(),
            "counts": {1: np.int64(3), 2: np.array([1.5, np.inf])},
            "pair": (True, None),
            "text": "متن 文本",
        }
    )
    out = capsys.readouterr().out
    assert "متن 文本" in out
    assert json.loads(out) == {
        "figures": {"cer": None, "path": "a/b"},
        "settings": {"mode": "gundam"},
        "counts": {"1": 3, "2": [1.5, None]},
        "pair": [True, None],
        "text": "متن 文本",
    }


def test_with_json_stdout_is_left_to_the_object(capsys: pytest.CaptureFixture[str]) -> None:
    output.configure(as_json=True)
    output.console().print("a table")
    output.notes().print("a remark")
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "a table\na remark\n"


def test_results_go_to_stdout_and_remarks_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    output.configure()
    output.console().print("a table")
    output.notes().print("a remark")
    assert capsys.readouterr() == ("a table\n", "a remark\n")


def test_quiet_silences_remarks_but_not_results_and_warnings(capsys: pytest.CaptureFixture[str]) -> None:
    output.configure(verbosity=-1)
    output.console().print("a table")
    output.notes().print("a remark")
    output.warn("three samples were left out")
    assert capsys.readouterr() == ("a table\n", "Warning: three samples were left out\n")


def test_an_error_after_the_result_adds_no_second_object(capsys: pytest.CaptureFixture[str]) -> None:
    output.configure(as_json=True)
    output.print_json({"ok": True})
    output.report_error(output.OcrsmithError("Too late."))
    assert json.loads(capsys.readouterr().out) == {"ok": True}
