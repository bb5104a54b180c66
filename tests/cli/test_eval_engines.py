"""`ocrsmith eval --engine …`: predictions made elsewhere, and options that belong to another engine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from ocrsmith.cli.eval import EngineName
from ocrsmith.cli.main import main
from ocrsmith.engines.registry import ENGINES


@pytest.fixture
def dataset(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    source = tmp_path / "source"
    source.mkdir()
    for number in range(3):
        Image.new("RGB", (60, 20), (255, 255, 40 * number)).save(source / f"{number}.png")
    (source / "content.md").write_text("".join(f"{n}.png\ttext {n}\n" for n in range(3)), encoding="utf-8")
    data = tmp_path / "data"
    assert main(["data", "build", str(source / "content.md"), "-o", str(data), "--splits", "rest/0/2"]) == 0
    capsys.readouterr()
    return data


def test_the_options_name_every_engine() -> None:
    assert {one.value for one in EngineName} == set(ENGINES)


def test_predictions_from_a_file_are_scored(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [json.dumps({"id": f"{number}.png", "prediction": f"text {number}"}) for number in range(3)]
    (tmp_path / "read.jsonl").write_text("\n".join(lines), encoding="utf-8")
    command = [
        "eval",
        "--engine",
        "file",
        "--predictions",
        str(tmp_path / "read.jsonl"),
        "--data",
        str(dataset),
    ]
    assert main([*command, "-o", str(tmp_path / "eval"), "--json"]) == 0
    said = capsys.readouterr()
    result = json.loads(said.out)
    assert (result["n"], result["cer.mean"], result["exact_match"]) == (2, 0.0, 1.0)
    assert result["provenance"]["engine"]["name"] == "file"
    assert "prompt" in said.err, "what the engine cannot honour is said"


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--engine", "file", "--predictions", "x.jsonl", "--base-url", "http://localhost:1/v1"], "base_url"),
        (["--engine", "openai", "--model", "m", "--base-url", "https://a.b/v1", "--psm", "7"], "psm"),
        (["--engine", "openai", "--extra-body", "[1]"], "no JSON object"),
        (["--engine", "openai", "--extra-body", "{"], "no JSON object"),
        (["--engine", "file"], "predictions"),
        (["--engine", "native"], "model"),
    ],
)
def test_a_wrong_option_is_named(
    words: list[str], problem: str, dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["eval", *words, "--data", str(dataset), "-o", str(tmp_path / "eval")]) == 2
    said = capsys.readouterr().err
    assert problem in said
    assert said.count("Error:") == 1
    assert not (tmp_path / "eval").exists()


def test_the_gate_sees_what_is_wrong(dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [json.dumps({"id": f"{number}.png", "prediction": f"text {number}".upper()}) for number in range(3)]
    (tmp_path / "read.jsonl").write_text("\n".join(lines), encoding="utf-8")
    words = ["--engine", "file", "--predictions", str(tmp_path / "read.jsonl")]
    assert main(["eval", *words, "--data", str(dataset), "-o", str(tmp_path / "eval")]) == 0
    rules = ["cer.mean > 0.5", "normalised.casefold.cer.mean == 0", "errors.kinds.loop.share == 0"]
    assert main(["gate", str(tmp_path / "eval"), *rules]) == 0
    assert main(["gate", str(tmp_path / "eval"), "errors.edits < 5"]) == 1
    assert "errors.edits" in capsys.readouterr().out
