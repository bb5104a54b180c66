"""`ocrsmith data encode`: features made ahead, found again, bounded, and kept when it is interrupted."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
import typer

from ocrsmith.cli import output
from ocrsmith.cli.data.encode import encode
from ocrsmith.cli.progress import EncodeBar
from ocrsmith.datasets import BuildSettings, build_dataset, open_dataset
from ocrsmith.errors import DataError, OutputError
from ocrsmith.model.weights import load_model
from ocrsmith.training.collate import TrainingSamples
from ocrsmith.training.feature_cache import FeatureCache

from .conftest import digits


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    source = tmp_path / "source"
    source.mkdir()
    for sample in digits(12):
        (source / sample.image_path).write_bytes(sample.image)
    (source / "content.md").write_text("".join(f"{s.image_path}\t{s.text}\n" for s in digits(12)))
    build_dataset([str(source)], tmp_path / "data", BuildSettings(splits="10/2/0"))
    return tmp_path / "data"


@pytest.fixture
def run(dataset: Path, model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture):
    app = typer.Typer()
    app.command()(encode)
    command = typer.main.get_command(app)

    def call(*words: str) -> dict:
        output.configure(as_json=True)
        cache = ["-o", str(tmp_path / "cache"), "--json"]
        try:
            code = command.main(
                [str(dataset), "--model", str(model_folder), *cache, *words], standalone_mode=False
            )
        finally:
            output.configure()
        return {"code": code} if code else json.loads(capsys.readouterr().out)

    return call


def test_features_are_made_once_and_are_those_of_training(
    run, dataset: Path, model_folder: Path, processor, tmp_path: Path, monkeypatch
) -> None:
    first, again = run(), run("--workers", "1")
    assert (first["images"], first["encoded"], again["images"], again["encoded"]) == (10, 10, 10, 0)
    assert first["bytes"] == 10 * 73 * 32 * 4
    table = open_dataset(dataset).table("train")
    model = load_model(str(model_folder), dtype=torch.float32)
    monkeypatch.setattr(model, "encode_images", lambda *_: pytest.fail("encoded again"))
    samples = TrainingSamples(table, processor, range(10))
    cache = FeatureCache.build(model, samples, batch_size=2, workers=0, folder=tmp_path / "cache")
    assert cache.fresh == 0


def test_other_options_make_other_features(run) -> None:
    run()
    assert run("--mode", "small")["encoded"] == 10
    assert run("--precision", "bf16")["encoded"] == 10
    assert run("--split", "val")["encoded"] == 2
    assert run()["encoded"] == 0


def test_an_interruption_keeps_what_is_done_and_says_so(
    run, monkeypatch, capsys: pytest.CaptureFixture
) -> None:
    tell = EncodeBar.__call__

    def interrupt(self: EncodeBar, done: int, total: int) -> None:
        tell(self, done, total)
        if done == 7:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(EncodeBar, "__call__", interrupt)
        assert run("--batch-size", "2") == {"code": output.EXIT_INTERRUPTED}
    assert "Stopped. 7 of 10 images are kept; the same command goes on." in capsys.readouterr().err
    assert run()["encoded"] == 3


def test_a_bound_that_is_too_small_is_refused_before_the_work(run, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"0\.1 MB of image features would be kept"):
        run("--cache-gb", "0.00001")
    assert not (tmp_path / "cache").exists()


def test_an_empty_split_is_told(run, dataset: Path) -> None:
    with pytest.raises(DataError, match="no samples in test"):
        run("--split", "test")
    shutil.rmtree(dataset)
    with pytest.raises(DataError):
        run()
