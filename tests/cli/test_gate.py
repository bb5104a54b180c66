"""`ocrsmith gate` as a command: exit codes, the table, JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from ocrsmith.cli.gate import gate
from ocrsmith.errors import DataError, SettingsError
from ocrsmith.evaluation import Evaluation, store
from ocrsmith.evaluation.store import PageResult


@pytest.fixture
def command() -> typer.Typer:
    app = typer.Typer()
    app.command()(gate)
    return app


def write(folder: Path, *pairs: tuple[str, str], data: str = "sha256:same") -> Path:
    results = [
        PageResult(index, f"p{index}", "", "", reference, prediction, "stop")
        for index, (reference, prediction) in enumerate(pairs)
    ]
    folder.mkdir()
    provenance = {"dataset": {"content_hash": data, "split": "test"}}
    store.save(Evaluation.of(results, provenance), folder)
    return folder


@pytest.fixture
def tuned(tmp_path: Path) -> Path:
    return write(tmp_path / "tuned", ("abcd", "abcd"), ("abcd", "abcx"))


@pytest.fixture
def untuned(tmp_path: Path) -> Path:
    return write(tmp_path / "untuned", ("abcd", "abxx"), ("abcd", "abcx"))


def run(command: typer.Typer, *arguments: Any) -> Any:
    return CliRunner().invoke(command, [str(argument) for argument in arguments], env={"COLUMNS": "120"})


def test_exit_code_0_where_all_rules_hold(command: typer.Typer, tuned: Path, untuned: Path) -> None:
    done = run(command, tuned, "loops == 0", "cer.mean < base.cer.mean", "--base", untuned)
    assert done.exit_code == 0
    assert "Pass: 2 rules, all hold." in done.stdout
    assert done.stdout.count("holds") == 2
    assert not done.stderr


def test_exit_code_1_and_by_how_much_where_one_fails(command: typer.Typer, tuned: Path) -> None:
    done = run(
        command, tuned, "mean < 10%", "exact_match >= 0.5", "loops == 0 and max <= 0.2", "median > 0.125"
    )
    assert done.exit_code == 1
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert "mean < 10% 0.125 fails: 0.025 too high" in lines
    assert "exact_match >= 0.5 0.5 holds" in lines
    assert "loops == 0 and max <= 0.2 fails" in lines
    assert "max <= 0.2 0.25 fails: 0.05 too high" in lines
    assert "median > 0.125 0.125 fails: equal, > wanted" in lines
    assert "Fail: 3 of 4 rules failed." in lines


def test_equality_that_fails_says_what_was_wanted(command: typer.Typer, tuned: Path) -> None:
    lines = [" ".join(line.split()) for line in run(command, tuned, "n == 3", "n != 2").stdout.splitlines()]
    assert "n == 3 2 fails: 3 wanted" in lines
    assert "n != 2 2 fails: 2 not wanted" in lines


def test_rules_from_files_and_arguments_together_as_json(
    command: typer.Typer, tuned: Path, tmp_path: Path
) -> None:
    file = tmp_path / "gate.rules"
    file.write_text("# release\np90 < 5% # target\n")
    done = run(command, tuned, "loops == 0", "--rules", file, "--json")
    assert done.exit_code == 1
    result = json.loads(done.stdout)
    assert result["holds"] is False
    assert [(rule["rule"], rule["holds"]) for rule in result["rules"]] == [
        ("loops == 0", True),
        ("p90 < 5%", False),
    ]
    compared = result["rules"][1]["comparisons"][0]
    assert compared["relation"] == "<"
    assert compared["left"] == pytest.approx(0.225)


def test_a_base_of_other_pages_is_warned_of(command: typer.Typer, tuned: Path, tmp_path: Path) -> None:
    other = write(tmp_path / "other", ("abcd", "zzzz"), data="sha256:other")
    done = run(command, tuned, "mean < base.mean", "--base", other)
    assert done.exit_code == 0
    assert "other pages" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "kind", "words"),
    [
        ([], SettingsError, "There is no rule to check"),
        (["p90 <"], SettingsError, "should be where the end is"),
        (["p91 < 1"], SettingsError, "There is no figure 'p91'"),
        (["mean < base.mean"], SettingsError, "no base was given"),
        (["mean < base.mean", "--base", "nowhere"], DataError, "No such evaluation folder"),
    ],
)
def test_what_cannot_be_checked_is_a_user_error(
    command: typer.Typer, tuned: Path, arguments: list[str], kind: type[Exception], words: str
) -> None:
    done = run(command, tuned, *arguments)
    assert isinstance(done.exception, kind)
    assert words in str(done.exception)
    assert done.exception.exit_code == 2


def test_a_folder_that_is_no_evaluation_is_a_user_error(command: typer.Typer, tmp_path: Path) -> None:
    done = run(command, tmp_path, "p90 < 1")
    assert "not an evaluation folder" in str(done.exception)


def test_brackets_in_rules_are_no_markup(command: typer.Typer, tuned: Path) -> None:
    with_quotes = '"[bold]n" < 1'
    assert "There is no figure" in str(run(command, tuned, with_quotes).exception)
