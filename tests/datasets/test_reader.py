"""Opening datasets and going through them."""

from __future__ import annotations

import multiprocessing
import pickle
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ocrsmith.datasets import BuildSettings, SampleTable, build_dataset, open_dataset
from ocrsmith.datasets import shards as shards_module
from ocrsmith.datasets import staging as staging_module
from ocrsmith.errors import DataError
from ocrsmith.text import FREE_OCR


def _ids(table: SampleTable) -> list[str]:
    return [sample.id for sample in table]


def test_random_access_equals_iteration(content: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards_module, "ROW_GROUP_ROWS", 7)
    monkeypatch.setattr(staging_module, "BATCH_ROWS", 7)
    monkeypatch.setattr(shards_module, "SHARD_BYTES", 4000)
    build_dataset([content(100)], tmp_path / "out", BuildSettings(splits="rest/10/10"))
    assert len(list((tmp_path / "out/data").glob("train-*.parquet"))) > 2
    table = open_dataset(tmp_path / "out").table("train")
    everything = list(table)
    assert len(table) == len(everything) == 80
    order = random.Random(0).sample(range(80), 80)
    assert [table[index] for index in order] == [everything[index] for index in order]
    assert table[-1] == everything[-1]
    for index in (80, -81):
        with pytest.raises(IndexError):
            table[index]


def test_a_table_works_in_other_processes(content: Any, tmp_path: Path) -> None:
    build_dataset([content(20)], tmp_path / "out")
    table = open_dataset(tmp_path / "out").table("train")
    expected = _ids(table)
    assert _ids(pickle.loads(pickle.dumps(table))) == expected
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert pool.apply(_ids, (table,)) == expected


def test_only_a_few_row_groups_are_kept(content: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards_module, "ROW_GROUP_ROWS", 4)
    monkeypatch.setattr(staging_module, "BATCH_ROWS", 4)
    build_dataset([content(60)], tmp_path / "out", BuildSettings(splits="rest/6/6"))
    table = open_dataset(tmp_path / "out").table("train")
    assert len(list(table)) == 48
    assert len(table._cache) <= 4


def test_folder_prefix_and_file_open_the_same(content: Any, tmp_path: Path) -> None:
    settings = BuildSettings(splits="rest/1/1", layout="prefix", prefix="my_set")
    build_dataset([content(10)], tmp_path / "out", settings)
    opened = [
        open_dataset(path)
        for path in (tmp_path / "out", tmp_path / "out/my_set", str(tmp_path / "out/my_set_val.parquet"))
    ]
    assert {dataset.content_hash for dataset in opened} == {opened[0].content_hash}
    assert all(dataset.count("train") == 8 and dataset.prompt == FREE_OCR for dataset in opened)
    assert opened[0].count("validation") == 1  # type: ignore[arg-type]


def test_prefix_files_of_another_program_open(png: Any, tmp_path: Path) -> None:
    for split, count in (("train", 3), ("validation", 1), ("test", 2)):
        rows = {"image": [png(shade=n) for n in range(count)], "text": [f"{split} {n}" for n in range(count)]}
        pq.write_table(pa.table(rows), tmp_path / f"my_{split}.parquet")
    dataset = open_dataset(tmp_path / "my")
    assert dataset.manifest is None
    assert [dataset.count(split) for split in ("train", "val", "test")] == [3, 1, 2]  # type: ignore[arg-type]
    sample = dataset.table("test")[1]
    assert (sample.id, sample.text, sample.image) == ("test-1", "test 1", png(shade=1))
    assert dataset.content_hash.startswith("sha256:")


def test_the_datasets_prompt_is_kept(content: Any, tmp_path: Path) -> None:
    build_dataset([content(3)], tmp_path / "out", BuildSettings(prompt="<image>\nRead it."))
    assert open_dataset(tmp_path / "out").prompt == "<image>\nRead it."


def test_nothing_there_says_how_to_build_one(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(DataError) as caught:
            open_dataset(path)
        assert "ocrsmith data build" in (caught.value.mend or "")
        assert caught.value.place == str(path)


def test_missing_and_damaged_files_are_named(
    content: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards_module, "ROW_GROUP_ROWS", 7)
    monkeypatch.setattr(staging_module, "BATCH_ROWS", 7)
    monkeypatch.setattr(shards_module, "SHARD_BYTES", 4000)
    build_dataset([content(100)], tmp_path / "out", BuildSettings(splits="rest/10/10"))
    shards = sorted((tmp_path / "out/data").glob("train-*.parquet"))
    original = shards[1].read_bytes()
    shards[1].write_bytes(b"")
    with pytest.raises(DataError, match="empty"):
        open_dataset(tmp_path / "out")
    shards[1].write_bytes(original[: len(original) // 2])
    with pytest.raises(DataError, match="cannot be read") as caught:
        open_dataset(tmp_path / "out")
    assert caught.value.place == str(shards[1])
    shards[1].unlink()
    with pytest.raises(DataError, match=r"1 of \d+ files of the split train are missing") as caught:
        open_dataset(tmp_path / "out")
    assert caught.value.place == str(shards[1])


def test_a_whole_split_that_vanished_is_noticed(content: Any, tmp_path: Path) -> None:
    build_dataset([content(10)], tmp_path / "out")
    (tmp_path / "out/data/test-00000-of-00001.parquet").unlink()
    with pytest.raises(DataError, match="1 of the dataset's 3 files are missing"):
        open_dataset(tmp_path / "out")


def test_exchanged_files_are_noticed(content: Any, tmp_path: Path) -> None:
    build_dataset([content(10)], tmp_path / "out", BuildSettings(splits="rest/1/1"))
    data = tmp_path / "out/data"
    (data / "val-00000-of-00001.parquet").write_bytes((data / "train-00000-of-00001.parquet").read_bytes())
    with pytest.raises(DataError, match="split val has 8 samples, its manifest says 1"):
        open_dataset(tmp_path / "out")


def test_a_damaged_manifest_is_named(content: Any, tmp_path: Path) -> None:
    build_dataset([content(10)], tmp_path / "out")
    (tmp_path / "out/manifest.json").write_text("{")
    with pytest.raises(DataError, match="manifest cannot be read"):
        open_dataset(tmp_path / "out")


def test_an_unknown_split_is_refused(content: Any, tmp_path: Path) -> None:
    build_dataset([content(10)], tmp_path / "out")
    with pytest.raises(DataError, match="no split 'dev2'"):
        open_dataset(tmp_path / "out").count("dev2")  # type: ignore[arg-type]
