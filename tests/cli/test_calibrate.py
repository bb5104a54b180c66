"""`ocrsmith calibrate` as a command: the file, the table, JSON, warnings and errors."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from ocrsmith.cli.calibrate import calibrate
from ocrsmith.engines.confidence import Calibration
from ocrsmith.errors import DataError, OutputError, SettingsError
from ocrsmith.evaluation import Evaluation, store
from ocrsmith.evaluation.store import PageResult


@pytest.fixture
def command() -> typer.Typer:
    app = typer.Typer()
    app.command()(calibrate)
    return app


def run(command: typer.Typer, *arguments: Any) -> Any:
    return CliRunner().invoke(command, [str(argument) for argument in arguments], env={"COLUMNS": "120"})


def page(place: int, *, sure: float, wrong: bool, group: str = "") -> PageResult:
    return PageResult(
        index=place,
        id=f"p{place}",
        group=group,
        image_path="",
        reference="abcdefghij",
        prediction="abcdefghiX" if wrong else "abcdefghij",
        finish_reason="stop",
        logprob_mean=math.log(sure),
        token_ends=(9, 10),
        token_logprobs=(math.log(0.999), math.log(sure)),
    )


def write(folder: Path, results: list[PageResult], **dataset: Any) -> Path:
    folder.mkdir()
    provenance = {
        "engine": {"name": "native", "model": {"name": "nano", "hash": "sha256:aa"}},
        "dataset": {"content_hash": "sha256:data", "split": "val", **dataset},
    }
    store.save(Evaluation.of(results, provenance), folder)
    return folder


@pytest.fixture
def validation(tmp_path: Path) -> Path:
    """600 pages; the less sure half says 0.8 and is right in every second case."""
    pages = [page(n, sure=0.99 if n % 2 else 0.8, wrong=n % 4 == 0) for n in range(600)]
    return write(tmp_path / "val", pages)


def test_the_table_and_the_file_beside_the_evaluation(command: typer.Typer, validation: Path) -> None:
    done = run(command, validation, "--accept-cer", "0.02")
    assert done.exit_code == 0, done.stderr
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert lines[0] == "600 pages, 600 documents"
    assert any(line.startswith("characters 6,000 ") for line in lines)
    assert any(line.startswith("pages 600 ") for line in lines)
    assert "50.0% 0.9981 0.00%" in lines
    assert "100.0% 0.9791 2.50%" in lines
    assert lines[-2].startswith("Accept pages of confidence 0.9981 and above: 50.0% of all (300 pages of 300 ")
    assert "below 0.02 with 95 % certainty" in lines[-2]
    assert lines[-1] == f"Calibration: {validation / 'calibration.json'}"
    assert not done.stderr
    loaded = Calibration.load(validation)
    assert loaded.accept is not None
    assert loaded.accept.threshold == pytest.approx(0.9981)


def test_json_has_the_same_figures(command: typer.Typer, validation: Path, tmp_path: Path) -> None:
    file = tmp_path / "elsewhere" / "nano.json"
    done = run(command, validation, "-o", file, "--method", "isotonic", "--json")
    told = json.loads(done.stdout)
    assert told["method"] == "isotonic"
    assert told["file"] == str(file)
    assert told["accept"] is None
    assert told["characters"]["ece"]["after"] < told["characters"]["ece"]["before"]
    assert told["fitted_on"]["dataset"]["content_hash"] == "sha256:data"
    assert told["risk_coverage"][-1]["coverage"] == 1
    assert Calibration.load(file).accept is None
    assert not (validation / "calibration.json").exists()


def test_too_few_pages_say_what_it_takes(command: typer.Typer, tmp_path: Path) -> None:
    pages = [page(n, sure=0.9 + n / 1000, wrong=False) for n in range(40)]
    done = run(command, write(tmp_path / "few", pages), "--accept-cer", "0.02")
    assert done.exit_code == 0
    assert "No page passes at CER 0.02. 40 pages are too few to show" in done.stdout
    assert "it needs about" in done.stdout
    assert "Likely, but not shown: pages of confidence" in done.stdout


def test_the_test_split_and_few_documents_are_warned_of(command: typer.Typer, tmp_path: Path) -> None:
    pages = [page(n, sure=0.9, wrong=n % 3 == 0, group=f"d{n % 4}") for n in range(40)]
    done = run(command, write(tmp_path / "test", pages, split="test"))
    words = " ".join(done.stderr.split())
    assert "This is the test split" in words
    assert "4 documents are few" in words


def test_an_engine_that_tells_the_mean_only(command: typer.Typer, tmp_path: Path) -> None:
    pages = [
        PageResult(n, f"p{n}", "", "", "ab", "ab", "stop", logprob_mean=-0.001 * (n + 1)) for n in range(40)
    ]
    done = run(command, write(tmp_path / "mean", pages))
    assert "only pages are calibrated, characters are not" in " ".join(done.stderr.split())
    assert "characters" not in done.stdout


def test_an_evaluation_without_probabilities_is_refused(command: typer.Typer, tmp_path: Path) -> None:
    folder = write(tmp_path / "silent", [PageResult(0, "p", "", "", "ab", "ab", "stop")])
    done = run(command, folder)
    assert isinstance(done.exception, DataError)
    assert "no token probabilities" in done.exception.problem
    assert "native" in str(done.exception.mend)
    assert not (folder / "calibration.json").exists()


def test_what_cannot_be_used_is_refused(command: typer.Typer, validation: Path, tmp_path: Path) -> None:
    assert isinstance(run(command, tmp_path / "none").exception, DataError)
    assert isinstance(run(command, validation, "--accept-cer", "2").exception, SettingsError)
    assert not (validation / "calibration.json").exists()
    assert isinstance(run(command, validation, "-o", tmp_path).exception, OutputError)
