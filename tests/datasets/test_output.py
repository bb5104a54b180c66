"""A dataset appears whole or not at all."""

from __future__ import annotations

import errno
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ocrsmith.datasets import BuildSettings, build_dataset, open_dataset
from ocrsmith.datasets import build as build_module
from ocrsmith.errors import DataError, OutputError
from ocrsmith.records import SPLITS


def test_a_dataset_that_is_there_is_not_replaced_by_accident(content: Any, tmp_path: Path) -> None:
    build_dataset([content(10)], tmp_path / "out")
    before = open_dataset(tmp_path / "out").content_hash
    with pytest.raises(OutputError, match="dataset already") as caught:
        build_dataset([content(5, folder="b")], tmp_path / "out")
    assert "--overwrite" in (caught.value.mend or "")
    assert open_dataset(tmp_path / "out").content_hash == before


@pytest.mark.parametrize("layout", ["folder", "prefix"])
def test_overwrite_replaces_all_of_it(content: Any, tmp_path: Path, layout: Any) -> None:
    build_dataset([content(10)], tmp_path / "out")
    build_dataset([content(5, folder="b")], tmp_path / "out", BuildSettings(overwrite=True, layout=layout))
    assert sum(open_dataset(tmp_path / "out").count(split) for split in SPLITS) == 5
    assert (tmp_path / "out/data").exists() == (layout == "folder")
    assert not [path for path in (tmp_path / "out").iterdir() if path.name.startswith(".")]


def test_a_dataset_can_be_rebuilt_from_itself(content: Any, tmp_path: Path) -> None:
    build_dataset([content(10)], tmp_path / "out")
    summary = build_dataset(
        [tmp_path / "out"], tmp_path / "out", BuildSettings(overwrite=True, splits="rest/2/2")
    )
    assert summary.counts == {"train": 6, "val": 2, "test": 2}


def test_folders_with_other_things_are_never_touched(content: Any, tmp_path: Path) -> None:
    target = tmp_path / "photos"
    target.mkdir()
    (target / "mine.txt").write_text("precious")
    for overwrite in (False, True):
        with pytest.raises(OutputError, match=r"mine\.txt"):
            build_dataset([content(5)], target, BuildSettings(overwrite=overwrite))
    build_dataset([content(5)], tmp_path / "out")
    (tmp_path / "out/mine.txt").write_text("precious")
    with pytest.raises(OutputError, match="did not write"):
        build_dataset([content(5)], tmp_path / "out", BuildSettings(overwrite=True))
    assert (tmp_path / "out/mine.txt").read_text() == (target / "mine.txt").read_text() == "precious"


def test_an_empty_folder_is_filled(content: Any, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    build_dataset([content(5)], tmp_path / "out", BuildSettings("rest/1/1"))
    assert open_dataset(tmp_path / "out").count("train") == 3


def test_an_error_leaves_nothing_not_even_parents(content: Any, tmp_path: Path) -> None:
    file = content(5)
    file.write_text(file.read_text() + "gone.png\tx\n")
    with pytest.raises(DataError):
        build_dataset([file], tmp_path / "a/b/out", BuildSettings(strict=True))
    assert {path.name for path in tmp_path.iterdir()} == {"source"}


def test_an_error_while_replacing_keeps_the_old(
    content: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_dataset([content(10)], tmp_path / "out")
    before = open_dataset(tmp_path / "out").content_hash
    rename = Path.rename
    renamed: list[Path] = []

    def fail_late(self: Path, target: Any) -> Path:
        renamed.append(self)
        if len(renamed) == 9:  # three shards get their names, four old entries go, two new ones come
            raise OSError(errno.EIO, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail_late)
    other = content(5, folder="b")
    with pytest.raises(OutputError, match="Input/output error") as caught:
        build_dataset([other], tmp_path / "out", BuildSettings(overwrite=True))
    monkeypatch.undo()
    assert open_dataset(tmp_path / "out").content_hash == before
    assert "5 samples that were read are kept" in (caught.value.mend or "")
    shutil.rmtree(tmp_path / "out" / ".out.building")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "README.md",
        "data",
        "excluded.jsonl",
        "manifest.json",
    ]


def test_places_that_cannot_be_written_are_told(content: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for target in (tmp_path / "file", tmp_path / "file/out"):
        with pytest.raises(OutputError) as caught:
            build_dataset([content(5)], target)
        assert "-o" in (caught.value.mend or "")


@pytest.mark.parametrize("step", ["staging", "shards", "manifest"])
def test_a_full_disk_is_told_and_what_was_read_is_kept(
    content: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    if step == "staging":
        monkeypatch.setattr("ocrsmith.datasets.staging.pa.OSFile", full)
    elif step == "shards":
        monkeypatch.setattr("ocrsmith.datasets.shards.pq.ParquetWriter", full)
    else:
        monkeypatch.setattr(build_module.manifest, "write", full)
    file = content(5)
    with pytest.raises(OutputError, match="disk is full") as caught:
        build_dataset([file], tmp_path / "out")
    assert ("are kept" in (caught.value.mend or "")) == (step != "staging")
    left = set() if step == "staging" else {".out.building"}
    assert {path.name for path in tmp_path.iterdir()} == {"source"} | left
    monkeypatch.undo()
    summary = build_dataset([file], tmp_path / "out")
    assert (summary.samples, summary.resumed) == (5, 5 if left else 0)


_LIMITED = """
import resource, sys
from ocrsmith.cli.main import main
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
sys.exit(main(["data", "build", sys.argv[1], "-o", sys.argv[2]]))
"""


def test_a_write_that_the_system_refuses_is_told(content: Any, png: Any, tmp_path: Path) -> None:
    file = content(300)
    done = subprocess.run(
        [sys.executable, "-c", _LIMITED, str(file), str(tmp_path / "out")],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2, done.stderr
    assert "The disk is full" in done.stderr
    assert f"where: {tmp_path / 'out'}\n" in done.stderr
    assert "Traceback" not in done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"source"}
