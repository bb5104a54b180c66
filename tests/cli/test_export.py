"""`ocrsmith export`: from a run folder to a verified model, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ocrsmith.cli.main import main
from ocrsmith.model.weights import NANO_FOLDER
from ocrsmith.training.settings import TrainSettings

from ..export.test_merge import make_adapter

ARCHIVE = NANO_FOLDER.parent / "sample_archive"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder as training leaves it, on a dataset of three bundled lines."""
    root = tmp_path_factory.mktemp("export")
    lines = (ARCHIVE / "content.md").read_text(encoding="utf-8").splitlines()
    rows = [line.split("\t") for line in lines if line and not line.startswith("#")][:3]
    (root / "content.md").write_text("".join(f"{ARCHIVE / path}\t{text}\n" for path, text in rows))
    words = ["--splits", "rest/1/1", "--allow-outside"]
    assert main(["data", "build", str(root / "content.md"), "-o", str(root / "data"), *words]) == 0
    settings = TrainSettings.from_values({"model": "nano", "data": str(root / "data")})
    (root / "run").mkdir()
    settings.save(root / "run" / "settings.yaml")
    make_adapter(root / "run" / "adapter")
    return root / "run"


def test_a_run_becomes_a_verified_model(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["export", str(run), "-o", str(tmp_path / "model"), "--max-new-tokens", "12"]
    assert main([*command, "--pages", "1", "--device", "cpu", "--license", "mit", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["verification"]["pages"], result["dtype"]) == (1, "bfloat16")
    card = (tmp_path / "model" / "README.md").read_text()
    assert "| `learning_rate` |" in card
    assert str(run.parent) not in card, "a card tells no paths of the machine"
    assert main(command) == 2
    assert "--overwrite" in capsys.readouterr().err


def test_the_adapter_alone_may_be_exported(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(run), "-o", str(tmp_path / "adapter"), "--to", "adapter"]) == 0
    assert (tmp_path / "adapter" / "adapter_model.safetensors").is_file()


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["{run}/nothing"], "There is no such folder"),
        (["{tmp}"], "neither an adapter nor a model"),
        (["{run}/adapter"], "the base is not known"),
        (["{run}/adapter", "--model", "nano"], "No dataset to verify on"),
        (["{run}", "--data", "{tmp}/none"], "none"),
        (["{run}", "--model", "{tmp}"], "no config.json"),
        (["{nano}", "--to", "adapter"], "holds no adapter"),
    ],
    ids=["no folder", "empty", "no base", "no data", "wrong data", "wrong base", "no adapter"],
)
def test_what_cannot_be_exported_is_said(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], problem: str
) -> None:
    (tmp_path / "empty").mkdir()
    places = {"run": run, "tmp": tmp_path / "empty", "nano": NANO_FOLDER}
    said = [word.format(**places) for word in words]
    assert main(["export", *said, "-o", str(tmp_path / "out")]) == 2
    assert problem in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
