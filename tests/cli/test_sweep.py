"""`ocrsmith sweep` with the bundled model: the whole way once, and what a wrong option is told."""

from __future__ import annotations

import json
import shutil
from importlib import resources
from pathlib import Path

import pytest

from ocrsmith.cli.main import main

SPLITS = ("--splits", "rest/2/0")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three lines of the sample archive, of which two are for validation."""
    folder = tmp_path_factory.mktemp("sweep")
    with resources.as_file(resources.files("ocrsmith.nano") / "sample_archive") as archive:
        lines = (archive / "content.md").read_text(encoding="utf-8").splitlines()
        for name, _, _ in (rows := [line.partition("\t") for line in lines if "\t" in line][:3]):
            (folder / name).parent.mkdir(exist_ok=True)
            shutil.copy(archive / name, folder / name)
    (folder / "content.md").write_text("".join(f"{name}\t{text}\n" for name, _, text in rows), encoding="utf-8")
    assert main(["data", "build", str(folder / "content.md"), "-o", str(folder / "data"), *SPLITS]) == 0
    return folder / "data"


def test_two_modes_are_read_and_one_is_recommended(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--data", str(dataset), "--model", "nano", "--device", "cpu", "--max-new-tokens", "16"]
    out = tmp_path / "sweep"
    command = ["sweep", *words, "--modes", "tiny,small", "-o", str(out), "--json"]
    assert main(command) == 0
    said = capsys.readouterr()
    result = json.loads(said.out)
    tiny, small = result["modes"]["tiny"], result["modes"]["small"]
    assert (tiny["n"], tiny["image_tokens"], small["image_tokens"]) == (2, 73, 111)
    assert tiny["prompt_tokens"] > 1
    assert tiny["seconds_per_page"] > 0
    assert result["choice"]["certainty"] == "probably", "two pages are too few"
    assert "memory" in result["provenance"]
    assert Path(result["files"]["report"]).is_file()
    assert (out / "tiny" / "report.html").is_file()

    assert main(["sweep", *words, "--modes", "tiny,small", "-o", str(out)]) == 0
    shown = capsys.readouterr().out
    assert f"Take {result['choice']['mode']}" in shown
    assert "image" in shown


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--modes", "tiny,huge"], "'huge'"),
        (["--modes", "tiny,tiny"], "twice"),
        (["--modes", "tiny"], "alone"),
        (["--within", "2"], "The bound is 2"),
        (["--data", "nowhere"], "nowhere"),
        (["--split", "test"], "no samples"),
    ],
    ids=["unknown", "repeated", "alone", "bound", "data", "empty"],
)
def test_a_wrong_option_is_told_before_a_model_is_loaded(
    words: list[str], problem: str, dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "sweep"
    assert main(["sweep", "--data", str(dataset), "--model", "none", "-o", str(out), *words]) == 2
    said = capsys.readouterr().err
    assert problem in said
    assert said.count("Error:") == 1
    assert not out.exists()
