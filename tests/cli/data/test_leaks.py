"""`ocrsmith data leaks` as a command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from PIL import Image, ImageDraw, ImageFont
from typer.testing import CliRunner

from ocrsmith.cli.data.leaks import leaks
from ocrsmith.datasets import BuildSettings, build_dataset


@pytest.fixture
def command() -> typer.Typer:
    app = typer.Typer()
    app.command()(leaks)
    return app


def build(folder: Path, out: Path, numbers: range) -> Path:
    folder.mkdir()
    for number in numbers:
        image = Image.new("RGB", (300, 50), "white")
        ImageDraw.Draw(image).text((9, 9), f"{number * 97531}", fill="black", font=ImageFont.load_default(28))
        image.save(folder / f"{number}.png")
    rows = [f"{number}.png\t{number * 97531}" for number in numbers]
    (folder / "content.md").write_text("\n".join(rows))
    build_dataset([folder / "content.md"], out, BuildSettings(splits="rest/3/3"))
    return out


def test_no_leak_is_exit_code_0(command: typer.Typer, tmp_path: Path) -> None:
    dataset = build(tmp_path / "s", tmp_path / "[d]", range(1, 21))
    done = CliRunner().invoke(command, [str(dataset)])
    assert done.exit_code == 0
    assert "14 in train, 3 in val, 3 in test" in done.stdout
    assert "No leak" in done.stdout


def test_a_leak_is_exit_code_1_and_a_table(command: typer.Typer, tmp_path: Path) -> None:
    dataset = build(tmp_path / "s", tmp_path / "[d]", range(1, 21))
    other = build(tmp_path / "t", tmp_path / "[e]", range(20, 35))
    done = CliRunner().invoke(command, [str(dataset), "--against", str(other)])
    assert done.exit_code == 1
    assert "the same image file" in done.stdout
    assert "[e]: " in done.stdout
    assert "20.png  ←  20.png" in done.stdout


def test_json_is_one_object(command: typer.Typer, tmp_path: Path) -> None:
    dataset = build(tmp_path / "s", tmp_path / "d", range(1, 21))
    done = CliRunner().invoke(command, [str(dataset), "--against", str(dataset), "--json"])
    assert done.exit_code == 1
    result = json.loads(done.stdout)
    assert sum(part["samples"] for part in result["affected"].values()) == 20


def test_what_is_no_dataset_is_refused(command: typer.Typer, tmp_path: Path) -> None:
    done = CliRunner().invoke(command, [str(tmp_path / "nothing")])
    assert done.exit_code != 0
    assert "no dataset here" in str(done.exception)
