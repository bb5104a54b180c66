"""Parquet files, saved datasets and dataset folders as sources."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import datasets
from ocrsmith.datasets import build_dataset, open_dataset
from ocrsmith.datasets.importers import Candidate, ImportOptions, find_source
from ocrsmith.errors import DataError


def read(path: Path, **options: object) -> list[Candidate]:
    items = list(find_source(path, ImportOptions(**options)).read())  # type: ignore[arg-type]
    assert all(isinstance(item, Candidate) for item in items)
    return items  # type: ignore[return-value]


def parquet(path: Path, **columns: object) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


def test_image_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    file = parquet(tmp_path / "a.parquet", image_path=["images/1.png", None], text=["one", "two"])
    first, second = read(file)
    assert (first.image, first.image_path, first.line) == (tmp_path / "images/1.png", "images/1.png", 1)
    assert (second.image, second.line) == (None, 2)


def test_bytes_and_image_structs_are_taken_as_they_are(tmp_path: Path) -> None:
    (one,) = read(parquet(tmp_path / "a.parquet", image=[b"data"], text=["one"]))
    assert one.image == b"data"
    struct = [{"bytes": b"data", "path": "1.png"}, {"bytes": None, "path": "2.png"}]
    first, second = read(parquet(tmp_path / "b.parquet", image=struct, text=["one", "two"]))
    assert (first.image, first.image_path) == (b"data", "1.png")
    assert second.image == tmp_path / "2.png"


def test_large_strings_dictionaries_and_numbers_are_texts(tmp_path: Path) -> None:
    for kind in (pa.large_string(), pa.dictionary(pa.int32(), pa.string()), pa.string_view()):
        table = pa.table(
            {"image": pa.array(["1.png"], pa.string()).cast(kind), "text": pa.array(["one"]).cast(kind)}
        )
        pq.write_table(table, tmp_path / "a.parquet")
        assert read(tmp_path / "a.parquet")[0].text == "one"
    assert read(parquet(tmp_path / "b.parquet", image=["1.png"], text=[1995]))[0].text == "1995"


def test_other_columns_go_to_meta_without_bytes(tmp_path: Path) -> None:
    file = parquet(
        tmp_path / "a.parquet",
        image=["1.png"],
        text=["one"],
        lang=["fr"],
        thumbnail=[b"\x00"],
        score=[float("nan")],
        boxes=[[{"x": 1}]],
        empty=pa.array([None], pa.string()),
    )
    (item,) = read(file)
    assert item.meta == {"lang": "fr", "score": "nan", "boxes": [{"x": 1}]}
    json.dumps(item.meta, allow_nan=False)


@pytest.mark.parametrize(
    ("columns", "problem", "option"),
    [
        ({"image": ["1.png"], "caption": ["one"]}, "'image', 'caption'", "--text-column"),
        ({"picture": [b"x"], "text": ["one"]}, "'picture', 'text'", "--image-column"),
        ({"image": [1], "text": ["one"]}, "holds int64", "--image-column"),
        ({"image": ["1.png"], "text": [["one"]]}, "not text", "--text-column"),
    ],
)
def test_unsuitable_columns_are_named(
    tmp_path: Path, columns: dict[str, object], problem: str, option: str
) -> None:
    with pytest.raises(DataError) as caught:
        read(parquet(tmp_path / "a.parquet", **columns))
    assert problem in caught.value.problem
    assert option in (caught.value.mend or "")
    assert caught.value.place == str(tmp_path / "a.parquet")


def test_a_saved_dataset_is_read_with_all_its_splits(tmp_path: Path, png) -> None:  # type: ignore[no-untyped-def]
    features = datasets.Features({"image": datasets.Image(), "text": datasets.Value("string")})
    rows = [{"image": {"bytes": png(shade=number), "path": None}, "text": f"t{number}"} for number in range(5)]
    whole = datasets.Dataset.from_list(rows, features=features)
    parts = datasets.DatasetDict(train=whole.select([4, 0, 1]), test=whole.select([2, 3]))
    parts.save_to_disk(tmp_path / "saved")
    items = read(tmp_path / "saved")
    assert [item.text for item in items] == ["t4", "t0", "t1", "t2", "t3"]
    assert items[0].image == png(shade=4)
    whole.save_to_disk(tmp_path / "single")
    assert len(read(tmp_path / "single")) == 5


def test_a_saved_dataset_that_lacks_a_file_says_which(tmp_path: Path, png) -> None:  # type: ignore[no-untyped-def]
    datasets.Dataset.from_dict({"image": ["1.png"], "text": ["one"]}).save_to_disk(tmp_path / "saved")
    (file,) = (tmp_path / "saved").glob("*.arrow")
    file.write_bytes(file.read_bytes()[:40])
    with pytest.raises(DataError, match="Arrow file cannot be read"):
        read(tmp_path / "saved")
    file.unlink()
    with pytest.raises(DataError, match="cannot be read"):
        read(tmp_path / "saved")


def test_a_dataset_of_ours_keeps_ids_groups_prompts_and_meta(tmp_path: Path, png) -> None:  # type: ignore[no-untyped-def]
    rows = {
        "image": [png(shade=number) for number in range(6)],
        "text": [f"t{number}" for number in range(6)],
        "id": [f"id{number}" for number in range(6)],
        "group": ["a", "a", "b", "b", "c", "c"],
        "prompt": ["<image>\nParse the figure.", *[None] * 5],
        "lang": ["fr"] * 6,
    }
    build_dataset([parquet(tmp_path / "a.parquet", **rows)], tmp_path / "one")
    build_dataset([tmp_path / "one"], tmp_path / "two")
    first, second = (
        {
            sample.id: sample
            for name in ("train", "val", "test")
            for sample in open_dataset(path).iter_samples(name)
        }  # type: ignore[arg-type]
        for path in (tmp_path / "one", tmp_path / "two")
    )
    assert first.keys() == second.keys() == set(rows["id"])
    for key, sample in first.items():
        again = second[key]
        assert (again.image, again.text, again.group, again.prompt) == (
            sample.image,
            sample.text,
            sample.group,
            sample.prompt,
        )
        assert again.meta["lang"] == "fr"
        assert again.meta["source"] == str(tmp_path / "a.parquet")
    assert open_dataset(tmp_path / "one").content_hash == open_dataset(tmp_path / "two").content_hash


def test_a_folder_with_one_label_file_is_a_source(content, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    file = content(4)
    assert len(read(file.parent)) == 4
    (file.parent / "labels.tsv").write_text("x.png\ty\n")
    with pytest.raises(DataError, match="more than one label file"):
        read(file.parent)


def test_a_folder_without_anything_lists_what_it_has(tmp_path: Path) -> None:
    (tmp_path / "notes.doc").write_text("x")
    with pytest.raises(DataError, match=r"no dataset and no label file; it has: notes\.doc"):
        read(tmp_path)
