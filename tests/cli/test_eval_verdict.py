"""`ocrsmith eval` held against something: a calibration, a CER to accept, an earlier evaluation; retries."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ocrsmith.cli.main import main
from ocrsmith.model.weights import NANO_FOLDER

ARCHIVE = NANO_FOLDER.parent / "sample_archive"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of twelve bundled lines, and nano's evaluations of six for validation and six for test."""
    root = tmp_path_factory.mktemp("verdict")
    lines = (ARCHIVE / "content.md").read_text(encoding="utf-8").splitlines()
    rows = [line.split("\t") for line in lines if line and not line.startswith("#")][::9][:13]
    (root / "content.md").write_text("".join(f"{ARCHIVE / path}\t{text}\n" for path, text in rows))
    words = ["--splits", "rest/6/6", "--allow-outside"]
    assert main(["data", "build", str(root / "content.md"), "-o", str(root / "data"), *words]) == 0
    assert main([*evaluation(root, "val"), "--split", "val"]) == 0
    assert main(evaluation(root, "test")) == 0
    assert main(["calibrate", str(root / "val"), "--accept-cer", "0.9"]) == 0
    return root


def evaluation(root: Path, name: str) -> list[str]:
    words = ["eval", "--model", "nano", "--data", str(root / "data"), "-o", str(root / name)]
    return [*words, "--max-new-tokens", "60", "--device", "cpu"]


def figures(root: Path) -> dict:
    return json.loads((root / "test" / "metrics.json").read_text())


def test_conclusions_are_drawn_anew_without_reading(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = figures(folder)
    assert before["confidence"]["calibration"] is None
    assert before["retries"]["pages"] == 0
    words = ["--calibration", str(folder / "val" / "calibration.json"), "--base", str(folder / "test")]
    assert main([*evaluation(folder, "test"), *words, "--json"]) == 0
    after = figures(folder)
    said = json.loads(capsys.readouterr().out)
    assert after["confidence"]["calibration"]["fitted_on"]["dataset"]["split"] == "val"
    assert after["confidence"]["ece"]["characters"]["after"] is not None
    assert after["confidence"]["accept"]["cer"] == 0.9, "the calibration's own target"
    assert said["confidence"]["accept"] == after["confidence"]["accept"]
    assert (after["seconds"], after["cer"]) == (before["seconds"], before["cer"]), "nothing was read again"
    assert set(after["provenance"]["conclusions"]) == {"calibration", "base"}


def test_what_may_pass_is_printed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*evaluation(folder, "test"), "--accept-cer", "0.02"]) == 0
    assert "May pass unseen (CER below 2.00 %, 95% sure): no page." in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--accept-cer", "2"], "The CER to accept is 2"),
        (["--accept-cer", "0"], "The CER to accept is 0"),
        (["--calibration", "{root}/none.json"], "none.json"),
        (["--calibration", "{root}/test/metrics.json"], "calibration"),
        (["--base", "{root}/data"], "not an evaluation folder"),
    ],
    ids=["above 1", "zero", "no file", "another file", "no evaluation"],
)
def test_a_wrong_yardstick_is_refused_before_pages_are_read(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], problem: str
) -> None:
    given = [word.format(root=folder) for word in words]
    command = ["eval", "--model", "nano", "--data", str(folder / "data"), "-o", str(tmp_path / "new")]
    assert main([*command, *given]) == 2
    assert problem in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_loop_retries_are_recorded_and_can_be_left_out(folder: Path, tmp_path: Path) -> None:
    recorded = figures(folder)["provenance"]["engine"]["loop_retries"]
    assert recorded[0] == {"ngram_size": 20, "ngram_window": 512}
    assert recorded[1]["mode"] == "base"
    command = ["eval", "--model", "nano", "--data", str(folder / "data"), "-o", str(tmp_path / "plain")]
    assert main([*command, "--no-loop-retries", "--limit", "1", "--max-new-tokens", "8"]) == 0
    plain = json.loads((tmp_path / "plain" / "metrics.json").read_text())
    assert "loop_retries" not in plain["provenance"]["engine"]
