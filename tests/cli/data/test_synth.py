"""`ocrsmith data synth`, from options to a dataset."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ocrsmith.cli import main as cli
from ocrsmith.cli.data.synth import KIND_NAMES, LOOK_NAMES
from ocrsmith.datasets import open_dataset
from ocrsmith.datasets.synth.kinds import KINDS
from ocrsmith.datasets.synth.looks import LOOKS
from ocrsmith.records import SPLITS

DEJAVU = Path(__file__).parents[2] / "nano" / "fonts" / "dejavu_sans_part.ttf"


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    path = tmp_path / "texts.txt"
    path.write_text("\n".join(f"The committee met in room {number}." for number in range(40)) + "\n")
    return path


def run(out: Path, texts: Path, *words: str) -> int:
    given = ["--texts", str(texts), "--fonts", str(DEJAVU), "--count", "24", "--workers", "1", "-o", str(out)]
    return cli.main(["data", "synth", *given, *words])


def test_a_dataset_comes_out(tmp_path: Path, texts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path / "set", texts, "--kind", "lines", "--kind", "tables", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["samples"] == 24
    assert any("Synthetic: lines, tables" in note for note in told["notes"])
    dataset = open_dataset(tmp_path / "set")
    samples = [sample for split in SPLITS for sample in dataset.iter_samples(split)]
    assert {sample.meta["kind"] for sample in samples} == {"lines", "tables"}
    assert all(sample.meta["look"] == "scan" for sample in samples)


def test_the_same_command_gives_the_same_dataset(tmp_path: Path, texts: Path) -> None:
    assert run(tmp_path / "one", texts) == run(tmp_path / "two", texts, "--workers", "2") == 0
    assert run(tmp_path / "three", texts, "--seed", "1") == 0
    hashes = [open_dataset(tmp_path / name).content_hash for name in ("one", "two", "three")]
    assert hashes[0] == hashes[1] != hashes[2]


@pytest.mark.parametrize(
    ("words", "place"),
    [
        (["--look", "scann"], "--look"),
        (["--kind", "letters"], "--kind"),
        (["--count", "0"], "--count"),
        (["--strength", "3"], "--strength"),
        (["--fonts", "nowhere"], "--fonts"),
        (["--chars", "nowhere"], "nowhere"),
    ],
)
def test_a_mistake_is_named_and_nothing_is_written(
    tmp_path: Path, texts: Path, capsys: pytest.CaptureFixture[str], words: list[str], place: str
) -> None:
    assert run(tmp_path / "set", texts, *words) == 2
    told = capsys.readouterr().err
    assert f"where: {place}" in told
    assert "mend:" in told
    assert not (tmp_path / "set").exists()


def test_the_help_names_all_kinds_and_looks() -> None:
    assert tuple(KINDS) == tuple(KIND_NAMES.split(", "))
    assert tuple(LOOKS) == tuple(LOOK_NAMES.split(", "))
