"""What an export writes, refuses and tells."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import datasets
from ocrsmith.datasets import BuildSettings, build_dataset, open_dataset
from ocrsmith.datasets.exporters import EXPORT_FORMATS, export_dataset
from ocrsmith.errors import DataError, OutputError, SettingsError
from ocrsmith.records import PageSample
from ocrsmith.text import FREE_OCR

FORMATS = [one.name for one in EXPORT_FORMATS]


@pytest.fixture
def dataset(make_dataset: Any, png: Any, tmp_path: Path) -> Any:
    """Five samples in train, two in test, one of them of two lines, some with more than image and text."""

    def sample(number: int, text: str, **more: Any) -> PageSample:
        return PageSample(f"{number:04d}", png(shade=number), f"{number}.png", text, **more)

    train = [sample(number, f"text {number}") for number in range(3)]
    train += [sample(3, "two\nlines", group="doc"), sample(4, r"a\b", prompt="<image>\nRead.", meta={"a": 1})]
    return make_dataset(tmp_path / "in", {"train": train, "test": [sample(5, "five"), sample(6, "a\tb")]})


def lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


def test_content_has_a_line_for_each_sample(dataset: Any, png: Any, tmp_path: Path) -> None:
    summary = export_dataset(dataset, tmp_path / "out", "content")
    assert lines(tmp_path / "out/content.md")[2:5] == [
        "images/0002.png\ttext 2",
        r"images/0003.png	two\nlines",
        r"images/0004.png	a\\b",
    ]
    assert (tmp_path / "out/images/0002.png").read_bytes() == png(shade=2)
    assert summary.counts == {"train": 5, "val": 0, "test": 2}
    assert not (tmp_path / "out/excluded.jsonl").exists()
    told = " ".join(summary.notes)
    assert "1 samples have a document (group)" in told
    assert "1 samples have a prompt of their own" in told
    assert "1 samples have further details (meta)" in told
    assert "--escapes" in told
    assert "train and test stand in one file" in told


def test_content_of_one_line_texts_has_no_escapes(dataset: Any, tmp_path: Path) -> None:
    summary = export_dataset(dataset, tmp_path / "out", "content", splits=["test"])
    assert lines(tmp_path / "out/content.md") == ["images/0005.png\tfive", "images/0006.png\ta\tb"]
    assert not summary.notes


def test_paddle_leaves_out_what_is_not_one_line_and_lists_it(dataset: Any, tmp_path: Path) -> None:
    summary = export_dataset(dataset, tmp_path / "out", "paddle")
    assert lines(tmp_path / "out/rec_gt_test.txt") == ["images/0005.png\tfive"]
    assert lines(tmp_path / "out/rec_gt_train.txt")[3] == "images/0004.png\ta\\b"
    assert summary.excluded == {"not_one_line": 2}
    entries = [json.loads(line) for line in lines(tmp_path / "out/excluded.jsonl")]
    assert [entry["image_path"] for entry in entries] == ["3.png", "6.png"]
    assert "line break at character 4" in entries[0]["detail"]
    assert "tab at character 2" in entries[1]["detail"]
    assert not (tmp_path / "out/rec_gt_val.txt").exists()


def test_sharegpt_has_the_prompt_in_the_users_turn(dataset: Any, tmp_path: Path) -> None:
    export_dataset(dataset, tmp_path / "out", "sharegpt")
    rows = [json.loads(line) for line in lines(tmp_path / "out/train.jsonl")]
    assert rows[3] == {
        "id": "0003",
        "group": "doc",
        "messages": [
            {"role": "user", "content": FREE_OCR},
            {"role": "assistant", "content": "two\nlines"},
        ],
        "images": ["images/0003.png"],
    }
    assert rows[4]["messages"][0]["content"] == "<image>\nRead."


@pytest.mark.parametrize("format", ["folder", "prefix"])
def test_our_own_formats_are_read_by_hugging_face(dataset: Any, tmp_path: Path, format: str) -> None:
    export_dataset(dataset, tmp_path / "out", format)
    loaded = datasets.load_dataset(str(tmp_path / "out"), cache_dir=str(tmp_path / "cache"))
    assert {name: len(part) for name, part in loaded.items()} == {"train": 5, "test": 2}
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    assert manifest["splits"]["train"]["groups"] == 5
    assert manifest["sources"][0]["content_hash"] == dataset.content_hash == manifest["content_hash"]


def test_a_built_dataset_keeps_prompt_and_hash(content: Any, tmp_path: Path) -> None:
    built = build_dataset([content(12)], tmp_path / "built", BuildSettings(prompt="<image>\nOCR."))
    export_dataset(tmp_path / "built", tmp_path / "out", "folder")
    opened = open_dataset(tmp_path / "out")
    assert opened.prompt == "<image>\nOCR."
    assert opened.content_hash == opened.compute_content_hash() == built.content_hash
    export_dataset(tmp_path / "built", tmp_path / "lines", "content")
    again = build_dataset([tmp_path / "lines" / "content.md"], tmp_path / "again")
    assert again.content_hash == built.content_hash  # ids that are paths under images/ come back too


def test_columns_of_others_are_told(png: Any, tmp_path: Path) -> None:
    image = {"bytes": png(), "path": None}
    pq.write_table(pa.table({"image": [image], "text": ["a"], "quality": [3]}), tmp_path / "a_train.parquet")
    summary = export_dataset(tmp_path / "a", tmp_path / "out", "folder")
    assert any("quality" in note for note in summary.notes)


@pytest.mark.parametrize("format", FORMATS)
def test_progress_counts_every_sample(dataset: Any, tmp_path: Path, format: str) -> None:
    calls: list[tuple[int, int]] = []
    export_dataset(dataset, tmp_path / "out", format, progress=lambda *call: calls.append(call))
    assert calls == [(number, 7) for number in range(1, 8)]


@pytest.mark.parametrize("format", FORMATS)
def test_an_error_leaves_nothing(
    dataset: Any, tmp_path: Path, format: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(done: int, total: int) -> None:
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_dataset(dataset, tmp_path / "a/out", format, progress=fail)
    assert {path.name for path in tmp_path.iterdir()} == {"in"}


def test_a_folder_that_holds_something_is_not_touched(dataset: Any, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine.txt").write_text("precious")
    with pytest.raises(OutputError, match=r"not empty \(it has mine.txt\)"):
        export_dataset(dataset, tmp_path / "out", "content")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]
    with pytest.raises(OutputError, match="not a folder"):
        export_dataset(dataset, tmp_path / "out/mine.txt", "content")


def test_an_empty_folder_is_filled(dataset: Any, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    export_dataset(dataset, tmp_path / "out", "paddle")
    assert sorted(os.listdir(tmp_path / "out")) == [
        "excluded.jsonl",
        "images",
        "rec_gt_test.txt",
        "rec_gt_train.txt",
    ]


def test_what_is_not_there_is_said(dataset: Any, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="did you mean paddle") as caught:
        export_dataset(dataset, tmp_path / "out", "paddel")
    assert "sharegpt" in (caught.value.mend or "")
    with pytest.raises(SettingsError, match="no split 'dev2'"):
        export_dataset(dataset, tmp_path / "out", "content", splits=["dev2"])
    with pytest.raises(DataError, match="no samples in val"):
        export_dataset(dataset, tmp_path / "out", "content", splits=["val"])
