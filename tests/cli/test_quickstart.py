"""`ocrsmith quickstart`: one real run, from a shell, offline; every test looks at what it left behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ocrsmith.cli.main import main
from ocrsmith.datasets import open_dataset

FIGURES = {"n", "seconds", "exact_match", "loops", "truncated", "failed"}
CER_FIGURES = {"mean", "micro", "median", "std", "max", "p90", "p95"}
FILES = (
    *("data/manifest.json", "data/excluded.jsonl", "run/settings.yaml", "run/metrics.jsonl"),
    *("run/adapter/adapter_config.json", "run/adapter/adapter_model.safetensors", "summary.json"),
    *(f"{side}/{file}" for side in ("base", "tuned") for file in ("predictions.parquet", "metrics.json")),
    *("base/report.html", "tuned/report.html", "comparison/comparison.json", "comparison/comparison.html"),
)


@dataclass(frozen=True)
class Run:
    """What the command wrote and said."""

    out: Path
    code: int
    stdout: str
    stderr: str

    @property
    def summary(self) -> dict[str, Any]:
        return json.loads((self.out / "summary.json").read_text())


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The only run of this file: some minutes on two cores."""
    out = tmp_path_factory.mktemp("quickstart") / "out"
    words = [sys.executable, "-m", "ocrsmith.cli.main", "quickstart", "-o", str(out), "--json"]
    # No network: whoever tries to reach it meets a proxy that is not there.
    nowhere = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    done = subprocess.run(
        words, env={**os.environ, "HF_HUB_OFFLINE": "1", **nowhere}, capture_output=True, text=True
    )
    return Run(out, done.returncode, done.stdout, done.stderr)


pytestmark = pytest.mark.timeout(1500)


def test_it_ends_well_and_halves_the_error(run: Run) -> None:
    assert run.code == 0, run.stderr
    base, tuned = (run.summary[side]["cer"]["mean"] for side in ("base", "tuned"))
    assert tuned <= base / 2
    assert run.summary["relative_change"]["cer.mean"] == pytest.approx(tuned / base - 1)
    assert run.summary["verdict"] == "better"


def test_the_summary_has_the_figures_of_both_evaluations(run: Run) -> None:
    for side in ("base", "tuned"):
        figures = run.summary[side]
        assert figures.keys() >= FIGURES
        assert figures["cer"].keys() >= CER_FIGURES
        written = json.loads((run.out / side / "metrics.json").read_text())
        assert {name: written[name] for name in figures} == figures
        assert figures["n"] == open_dataset(run.out / "data").count("test") > 50
        assert figures["failed"] == 0


def test_it_stays_within_time_and_memory(run: Run) -> None:
    assert 0 < run.summary["seconds"] < 1500  # six minutes on two free cores; tests share theirs
    assert 0 < run.summary["peak_rss_mb"] < 4096


def test_everything_that_it_names_is_there(run: Run) -> None:
    for name in FILES:
        assert (run.out / name).is_file(), name
    assert {path.name for path in run.out.iterdir()} == {name.split("/")[0] for name in FILES}
    assert all((run.out / name).stat().st_size for name in FILES if name != "data/excluded.jsonl")


def test_documents_of_the_test_split_are_not_trained_on(run: Run) -> None:
    dataset = open_dataset(run.out / "data")
    groups = {
        split: {sample.group for sample in dataset.iter_samples(split)} for split in ("train", "val", "test")
    }
    assert not groups["test"] & (groups["train"] | groups["val"])


def test_stdout_is_one_object_and_the_story_is_on_stderr(run: Run) -> None:
    assert json.loads(run.stdout) == run.summary
    for words in ("1 of 5", "5 of 5", f"{run.out}/comparison/comparison.html", "ocrsmith data build"):
        assert words in run.stderr
    assert "--model deepseek-ai/DeepSeek-OCR" in run.stderr
    assert "Traceback" not in run.stderr
    assert "Warning" not in run.stderr


def test_a_second_run_does_not_touch_the_first(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    before = (run.out / "summary.json").read_bytes()
    assert main(["quickstart", "-o", str(run.out)]) == 2
    message = capsys.readouterr().err
    assert "holds an earlier quickstart" in message
    assert "--overwrite" in message
    assert (run.out / "summary.json").read_bytes() == before


@pytest.mark.parametrize("options", [[], ["--overwrite"]], ids=["plain", "overwrite"])
def test_foreign_files_are_never_touched(
    tmp_path: Path, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "thesis.txt").write_text("ten years of work")
    (tmp_path / "data").mkdir()
    assert main(["quickstart", "-o", str(tmp_path), *options]) == 2
    message = capsys.readouterr().err
    assert "holds other files (thesis.txt)" in message
    assert "mend:" in message
    assert {path.name for path in tmp_path.iterdir()} == {"thesis.txt", "data"}


def test_a_file_in_place_of_the_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "out").write_text("mine")
    assert main(["quickstart", "-o", str(tmp_path / "out")]) == 2
    assert "is a file" in capsys.readouterr().err
    assert main(["quickstart", "-o", str(tmp_path / "out" / "below")]) == 2
    assert (tmp_path / "out").read_text() == "mine"
