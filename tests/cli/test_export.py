"""`ocrsmith export`: from a run folder to a verified model, and what it refuses."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from ocrsmith.cli.main import main
from ocrsmith.model.weights import NANO_FOLDER
from ocrsmith.training.settings import TrainSettings

from ..export.hub_server import TOKEN, Hub, running_hub
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
    environment = {"dataset": {"path": str(root / "data"), "content_hash": "c0ffee"}}
    (root / "run" / "environment.json").write_text(json.dumps(environment))
    make_adapter(root / "run" / "adapter")
    return root / "run"


def test_a_run_becomes_a_verified_model(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["export", str(run), "-o", str(tmp_path / "model"), "--max-new-tokens", "12"]
    assert main([*command, "--pages", "1", "--device", "cpu", "--license", "mit", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["verification"]["pages"], result["dtype"]) == (1, "bfloat16")
    card = (tmp_path / "model" / "README.md").read_text()
    assert "| `learning_rate` |" in card
    assert "Trained on the dataset `c0ffee`" in card
    assert str(run.parent) not in card, "a card tells no paths of the machine"
    assert main(command) == 2
    assert "--overwrite" in capsys.readouterr().err


def test_the_adapter_alone_may_be_exported(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(run), "-o", str(tmp_path / "adapter"), "--to", "adapter"]) == 0
    assert (tmp_path / "adapter" / "adapter_model.safetensors").is_file()


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with running_hub() as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # the store of this small hub is LFS's
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield hub


def test_an_export_goes_on_to_the_hub(
    run: Path, tmp_path: Path, hub: Hub, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "lines"
    to_hub = ["--to", "hub", "--repo-id", "ada/lines"]
    checked = ["--pages", "1", "--max-new-tokens", "4", "--device", "cpu"]
    assert main(["export", str(run), "-o", str(out), *to_hub, *checked]) == 0
    said = capsys.readouterr()
    assert "To ada/lines (private) go" in said.err
    assert "model.safetensors  35.59 MB" in said.err
    assert f"Uploaded: {hub.url}/ada/lines (private), commit" in said.out
    assert TOKEN not in said.err + said.out
    there = dict(hub.repos["ada/lines"].files)
    del there[".gitattributes"]
    assert there == {file.name: file.read_bytes() for file in out.iterdir()}
    assert "Verified" in said.out
    assert b"Merged against adapter on 1 pages" in there["README.md"]

    (out / "journal.jsonl").write_text("mine")
    assert main(["export", str(out), *to_hub, "--json"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["hub"]["unchanged"]
    assert "Not sent: journal.jsonl" in said.err
    assert main(["export", str(out), *to_hub, "--adapter-only"]) == 2
    assert "is an export of whole weights" in " ".join(capsys.readouterr().err.split())


def test_an_adapter_goes_to_the_hub_without_paths_of_this_machine(tmp_path: Path, hub: Hub) -> None:
    base = tmp_path / "home" / "base"
    shutil.copytree(NANO_FOLDER, base)
    make_adapter(tmp_path / "adapter", str(base))
    words = ["-o", str(tmp_path / "out"), "--model", str(base), "--to", "hub", "--repo-id", "Letters/a"]
    assert main(["export", str(tmp_path / "adapter"), *words, "--adapter-only", "--public", "-q"]) == 0
    repo = hub.repos["Letters/a"]
    assert not repo.private
    assert {"adapter_model.safetensors", "adapter_config.json", "ocrsmith_base.json"} <= set(repo.files)
    assert "model.safetensors" not in repo.files
    assert not [name for name, data in repo.files.items() if str(tmp_path).encode() in data]
    assert json.loads(repo.files["adapter_config.json"])["base_model_name_or_path"] == "base"


def test_an_upload_that_fails_leaves_the_export_and_says_so(
    run: Path, tmp_path: Path, hub: Hub, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.fail["POST .*/commit/"] = (403, "no")
    out = tmp_path / "lines"
    words = ["--no-verify", "--to", "hub", "--repo-id", "ada/lines"]
    assert main(["export", str(run), "-o", str(out), *words]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "no right to write to ada/lines" in said
    assert "The export is whole" in said
    assert (out / "model.safetensors").is_file()


def test_the_hub_is_asked_before_anything_is_made(
    run: Path, tmp_path: Path, hub: Hub, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(run), "-o", str(tmp_path / "o"), "--to", "hub", "--repo-id", "eve/x"]) == 2
    assert "cannot make a repository of 'eve'" in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


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
        (["{run}", "--to", "hub"], "No repository is named"),
        (["{run}", "--repo-id", "ada/x"], "belongs to --to hub"),
        (["{run}", "--to", "hub", "--repo-id", "ada/x"], "HF_HUB_OFFLINE is set"),
    ],
    ids=[
        *("no folder", "empty", "no base", "no data", "wrong data", "wrong base", "no adapter"),
        *("no repository", "no hub", "offline"),
    ],
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


def test_a_folder_to_write_must_be_named(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(run)]) == 2
    assert "-o FOLDER" in capsys.readouterr().err
