"""`ocrsmith data diff` as a command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from ocrsmith.cli.data.diff import diff
from ocrsmith.datasets import BuildSettings, build_dataset


@pytest.fixture
def command() -> typer.Typer:
    app = typer.Typer()
    app.command()(diff)
    return app


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    for number in range(12):
        Image.new("RGB", (40, 20), (number * 20, 0, 0)).save(folder / f"{number}.png")
    file = folder / "content.md"
    file.write_text("\n".join(f"{number}.png\tline {number}" for number in range(12)))
    return file


def test_the_same_is_exit_code_0(command: typer.Typer, source: Path, tmp_path: Path) -> None:
    for name in "ab":
        build_dataset([source], tmp_path / name)
    done = CliRunner().invoke(command, [str(tmp_path / "a"), str(tmp_path / "b")])
    assert done.exit_code == 0
    assert "Nothing differs." in done.stdout


def test_changes_are_exit_code_1(command: typer.Typer, source: Path, tmp_path: Path) -> None:
    build_dataset([source], tmp_path / "a", BuildSettings(splits="rest/2/2"))
    source.write_text(source.read_text().replace("line 3", "[bold]row 3").replace("11.png\tline 11", ""))
    build_dataset([source], tmp_path / "b", BuildSettings(splits="rest/2/2", min_side=11))
    arguments = [str(tmp_path / "a"), str(tmp_path / "b")]
    done = CliRunner().invoke(command, arguments)
    assert done.exit_code == 1
    assert "1 removed" in done.stdout
    assert "3.png  {line → [bold]row} 3" in done.stdout
    assert "min_side: 10 → 11" in done.stdout
    done = CliRunner().invoke(command, [*arguments, "--json"])
    assert done.exit_code == 1
    assert json.loads(done.stdout)["counts"]["text"] == 1


def test_what_is_no_dataset_is_refused(command: typer.Typer, tmp_path: Path) -> None:
    done = CliRunner().invoke(command, [str(tmp_path / "a"), str(tmp_path / "b")])
    assert "no dataset here" in str(done.exception)
