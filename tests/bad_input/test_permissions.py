"""Folders that may not be written to, files that may not be read: one clear message, nothing half-written."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ocrsmith.cli.main import main
from ocrsmith.evaluation import Evaluation, store
from ocrsmith.evaluation.store import PageResult

from ..permissions import run_bound, run_command
from ..training.conftest import byte_tokenizer, digits, make_model, model_folder  # noqa: F401
from .test_training import processor  # noqa: F401


@pytest.fixture
def closed(tmp_path: Path) -> Iterator[Path]:
    """A folder that nobody may write to."""
    folder = tmp_path / "closed"
    folder.mkdir()
    folder.chmod(0o500)
    yield folder
    folder.chmod(0o700)


@pytest.fixture
def dataset(source: Path, tmp_path: Path) -> Path:
    assert main(["data", "build", str(source / "content.md"), "-o", str(tmp_path / "data"), "-q"]) == 0
    return tmp_path / "data"


@pytest.fixture
def evaluation(tmp_path: Path) -> Path:
    folder = tmp_path / "evaluation"
    folder.mkdir()
    results = [PageResult(n, f"p{n}", "", "", "abc", "abd", "stop") for n in range(2)]
    store.save(Evaluation.of(results, {}), folder)
    return folder


def refused(*words: str | Path) -> str:
    """Runs a command that has to end with exit code 2 and one message; returns it."""
    done = run_command(*words)
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("Error:") == 1
    assert "mend:" in done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


def test_the_subprocess_is_bound(closed: Path) -> None:
    assert run_bound("-c", "import sys; open(sys.argv[1], 'w')", closed / "file").returncode == 1
    assert list(closed.iterdir()) == []


def test_a_dataset_without_write_permission(source: Path, closed: Path) -> None:
    message = refused("data", "build", source / "content.md", "-o", closed / "out")
    assert "Permission denied" in message
    assert str(closed / "out") in message
    assert list(closed.iterdir()) == []


def test_a_run_without_write_permission(model_folder: Path, dataset: Path, closed: Path) -> None:  # noqa: F811
    message = refused(
        "train", "--model", model_folder, "--data", dataset, "-o", closed / "out", "--max-steps", "1"
    )
    assert "Permission denied" in message
    assert list(closed.iterdir()) == []


def test_an_evaluation_without_write_permission(model_folder: Path, dataset: Path, closed: Path) -> None:  # noqa: F811
    message = refused("eval", "--model", model_folder, "--data", dataset, "-o", closed / "out")
    assert "Permission denied" in message
    assert list(closed.iterdir()) == []


def test_a_comparison_without_write_permission(evaluation: Path, closed: Path) -> None:
    assert "Permission denied" in refused("compare", evaluation, evaluation, "-o", closed / "out")
    assert list(closed.iterdir()) == []


def test_a_quickstart_without_write_permission(closed: Path) -> None:
    message = refused("quickstart", "-o", closed / "out")
    assert "permission" in message
    assert str(closed / "out") in message
    assert list(closed.iterdir()) == []


def test_labels_and_images_that_may_not_be_read(source: Path, tmp_path: Path) -> None:
    (source / "s3.png").chmod(0)
    message = refused("data", "build", source / "content.md", "-o", tmp_path / "out", "--strict")
    assert "line 4: unreadable" in message
    assert "Permission denied" in message
    (source / "content.md").chmod(0)
    message = refused("data", "build", source / "content.md", "-o", tmp_path / "out")
    assert "Permission denied" in message
    assert str(source / "content.md") in message
    assert not (tmp_path / "out").exists()


def test_a_model_that_may_not_be_read(model_folder: Path, dataset: Path, tmp_path: Path) -> None:  # noqa: F811
    (model_folder / "model.safetensors").chmod(0)
    message = refused("eval", "--model", model_folder, "--data", dataset, "-o", tmp_path / "out")
    assert "ermission" in message
    assert str(model_folder / "model.safetensors") in message
    assert not (tmp_path / "out").exists()
