"""`ocrsmith mine` as a command: what it prints, JSON, and commands that can be typed as they are."""

from __future__ import annotations

import io
import json
import math
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from ocrsmith.cli import output
from ocrsmith.cli.data.build import build
from ocrsmith.cli.data.synth import synth
from ocrsmith.cli.mine import mine
from ocrsmith.datasets import BuildSettings, build_dataset, open_dataset
from ocrsmith.errors import SettingsError
from ocrsmith.evaluation import Evaluation, store
from ocrsmith.evaluation.store import PageResult

FONT = Path(__file__).parents[1] / "nano" / "fonts"


def run(command: Any, *arguments: Any) -> Any:
    app = typer.Typer()
    app.command()(command)
    output.configure(as_json="--json" in arguments)  # as `main` does, after whatever came before
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "120"})


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """40 lines, some of them in val."""
    source = tmp_path / "source"
    source.mkdir()
    lines = []
    for number in range(40):
        pixels = bytes((x * 7 + number * 31) % 256 for x in range(64 * 16))
        buffer = io.BytesIO()
        Image.frombytes("L", (64, 16), pixels).save(buffer, format="PNG")
        (source / f"p{number}.png").write_bytes(buffer.getvalue())
        lines.append(f"p{number}.png\tPaid {number * 37}1 to number {number}")
    (source / "content.md").write_text("\n".join(lines) + "\n")
    build_dataset([source], tmp_path / "data", BuildSettings(splits="rest/10/10"))
    return tmp_path / "data"


def evaluated(data: Path, split: Any, *, weak: bool = True, confidence: float | None = 0.9) -> Path:
    """An evaluation that reads 1 as 7."""
    dataset = open_dataset(data)
    results = [
        PageResult(
            index,
            sample.id,
            "",
            sample.image_path,
            sample.text,
            sample.text.replace("1", "7") if weak else sample.text,
            "stop",
            logprob_mean=None if confidence is None else math.log(confidence),
        )
        for index, sample in enumerate(dataset.iter_samples(split))
    ]
    told = {"content_hash": dataset.content_hash, "split": split, "path": str(data)}
    folder = data.parent / f"eval-{split}"
    folder.mkdir()
    engine = {"name": "native", "model": {"name": "nano", "hash": "sha256:n"}}
    store.save(Evaluation.of(results, {"engine": engine, "dataset": told}), folder)
    return folder


def test_it_says_what_it_found_and_what_to_do(data: Path, tmp_path: Path) -> None:
    done = run(mine, evaluated(data, "val"), "-o", tmp_path / "mined", "--count", 4)
    assert done.exit_code == 0, done.output
    assert "10 pages of the split val" in done.stdout
    assert "review    4 hard pages; they stand for" in done.stdout
    assert "“1” read as “7”" in done.stdout
    assert "Warning: These are pages of the val split" in done.stderr
    assert "left out  hard pages that the queue stands for: 6" in done.stdout


def test_the_commands_work_as_they_are_printed(data: Path, tmp_path: Path) -> None:
    done = run(mine, evaluated(data, "val"), "-o", tmp_path / "mined", "--json")
    told = json.loads(done.stdout)
    correct, draw, join, train = (shlex.split(line)[1:] for line in told["next"])
    assert run(build, *correct[2:]).exit_code == 0
    corrected = open_dataset(tmp_path / "mined-corrected")
    assert (corrected.count("train"), corrected.count("val")) == (0, 10)
    made = run(synth, *draw[2:], "--count", 12, "--look", "clean", "--fonts", FONT, "--workers", 1)
    assert made.exit_code == 0, made.output
    assert run(build, *join[2:]).exit_code == 0
    joined, old = open_dataset(tmp_path / "mined-training"), open_dataset(data)
    for split in ("val", "test"):
        ids = [[sample.id for sample in one.iter_samples(split)] for one in (joined, old)]
        assert ids[0] == ids[1]
    assert joined.count("train") == old.count("train") + 12
    assert train == ["train", "--model", "nano", "--data", str(tmp_path / "mined-training"), "-o", "runs/mined"]


def test_texts_to_draw_are_never_those_that_are_measured_on(data: Path, tmp_path: Path) -> None:
    done = run(mine, evaluated(data, "test"), "-o", tmp_path / "mined", "--json")
    assert "must not get into training" in done.stderr
    draw = next(line for line in json.loads(done.stdout)["next"] if " synth " in line)
    words = shlex.split(draw)
    texts = [words[place + 1] for place, word in enumerate(words) if word == "--texts"]
    assert texts == [str(file) for file in open_dataset(data).files["train"]]


def test_nothing_to_mine_is_no_failure(data: Path, tmp_path: Path) -> None:
    done = run(mine, evaluated(data, "val", weak=False), "-o", tmp_path / "mined")
    assert done.exit_code == 0
    assert "There is nothing to mine: 10 pages, none with an error" in done.stdout
    assert not done.stderr
    assert not (tmp_path / "mined").exists()


def test_without_confidences_it_says_so(data: Path, tmp_path: Path) -> None:
    done = run(mine, evaluated(data, "train", confidence=None), "-o", tmp_path / "mined")
    assert "The engine gave no confidences" in done.stdout
    assert "Warning" not in done.stderr


def test_a_count_below_one_is_refused(data: Path, tmp_path: Path) -> None:
    done = run(mine, evaluated(data, "val"), "-o", tmp_path / "mined", "--count", 0)
    assert isinstance(done.exception, SettingsError)
    assert done.exception.place == "--count"
