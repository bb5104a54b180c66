"""Building a dataset from end to end."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from PIL import Image

import datasets
from ocrsmith.datasets import BuildSettings, LengthCheck, build_dataset, open_dataset
from ocrsmith.errors import DataError, SettingsError
from ocrsmith.records import SPLITS, PageSample


def samples_of(folder: Path) -> Iterator[PageSample]:
    dataset = open_dataset(folder)
    for name in SPLITS:
        yield from dataset.iter_samples(name)


def ledger_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "excluded.jsonl").read_text(encoding="utf-8").splitlines()]


def test_counts_columns_and_bytes(content: Any, png: Any, tmp_path: Path) -> None:
    summary = build_dataset([content(100)], tmp_path / "out", BuildSettings(splits="rest/10/10"))
    assert summary.counts == {"train": 80, "val": 10, "test": 10}
    found = {sample.id: sample for sample in samples_of(tmp_path / "out")}
    assert len(found) == 100
    for number in range(100):
        sample = found[f"images/{number:04d}.png"]
        assert sample.image == png(shade=number)
        assert sample.text == f"text of image {number}"
        assert sample.source == str(tmp_path / "source" / "content.md")
    table = pq.read_table(tmp_path / "out/data/train-00000-of-00001.parquet")
    assert table.column_names == ["image", "text", "id", "group", "source", "prompt", "meta"]


@pytest.mark.parametrize("layout", ["folder", "prefix"])
def test_hugging_face_datasets_read_it(content: Any, png: Any, tmp_path: Path, layout: Any) -> None:
    summary = build_dataset(
        [content(30)], tmp_path / "my_test", BuildSettings(layout=layout, splits="rest/3/3")
    )
    loaded = datasets.load_dataset(str(tmp_path / "my_test"), cache_dir=str(tmp_path / "cache"))
    assert {name: len(part) for name, part in loaded.items()} == {"train": 24, "validation": 3, "test": 3}
    assert isinstance(loaded["train"].features["image"], datasets.Image)
    row = loaded["test"][0]
    assert isinstance(row["image"], Image.Image)
    assert row["text"].startswith("text of image ")
    assert summary.counts["val"] == 3


def test_hugging_face_datasets_read_a_training_set_alone(content: Any, tmp_path: Path) -> None:
    build_dataset([content(3)], tmp_path / "out", BuildSettings(splits="100/0/0"))
    loaded = datasets.load_dataset(str(tmp_path / "out"), cache_dir=str(tmp_path / "cache"))
    assert {name: len(part) for name, part in loaded.items()} == {"train": 3}
    assert open_dataset(tmp_path / "out").count("test") == 0


def test_prefix_layout_files(content: Any, tmp_path: Path) -> None:
    build_dataset([content(10)], tmp_path / "out", BuildSettings("rest/1/1", layout="prefix", prefix="chinese"))
    names = {path.name for path in (tmp_path / "out").iterdir()}
    files = {f"chinese_{split}.parquet" for split in SPLITS}
    assert names == files | {"manifest.json", "excluded.jsonl", "README.md"}
    assert len(pq.read_table(tmp_path / "out/chinese_train.parquet")) == 8


def test_what_cannot_be_used_is_in_the_ledger(png: Any, tmp_path: Path) -> None:
    root = tmp_path / "source"
    root.mkdir()
    for number in range(5):
        (root / f"{number}.png").write_bytes(png(shade=number))
    (root / "small.png").write_bytes(png(width=9, height=40))
    (root / "ten.png").write_bytes(png(width=10, height=10))
    (root / "cut.jpg").write_bytes(png(kind="JPEG", width=300, height=300)[:500])
    (root / "words.png").write_text("this is no picture")
    lines = [
        "# comment",
        *(f"{number}.png\ttext {number}" for number in range(5)),
        "gone.png\tmissing",
        "small.png\tsmall",
        "cut.jpg\tcut",
        "words.png\twords",
        "0.png\t  ",
        "1.png\tsee <image> here",
        "2.png\t" + "word " * 20_000,
        "ten.png\tjust large enough",
        "http://example.org/a.png\tfar away",
    ]
    (root / "content.md").write_text("\n".join(lines), encoding="utf-8")
    summary = build_dataset([root / "content.md"], tmp_path / "out")
    assert summary.samples == 6
    found = [(entry["line"], entry["reason"], entry["image_path"]) for entry in ledger_of(tmp_path / "out")]
    assert found == [
        (7, "missing", "gone.png"),
        (8, "too_small", "small.png"),
        (9, "unreadable", "cut.jpg"),
        (10, "unreadable", "words.png"),
        (11, "empty_text", "0.png"),
        (12, "image_token", "1.png"),
        (13, "too_long", "2.png"),
        (15, "missing", "http://example.org/a.png"),
    ]
    assert all(
        entry["file"] == str(root / "content.md") and entry["detail"] for entry in ledger_of(tmp_path / "out")
    )
    assert summary.excluded == Counter(reason for _, reason, _ in found)
    with pytest.raises(DataError) as caught:
        build_dataset([root / "content.md"], tmp_path / "strict", BuildSettings(strict=True))
    assert "8 of 14" in caught.value.problem
    assert "content.md, line 7: missing" in caught.value.problem
    assert not (tmp_path / "strict").exists()
    assert {path.name for path in tmp_path.iterdir()} == {"source", "out"}


def test_length_is_counted_by_the_models_tokenizer_if_given(content: Any, tmp_path: Path) -> None:
    check = LengthCheck(
        20, lambda width, height, text, prompt: len(text) + width // 10, "characters", exact=True
    )
    file = content(3)
    file.write_text(
        file.read_text() + "images/0000.png\tsixteen letters!\nimages/0001.png\tseventeen letters\n"
    )
    summary = build_dataset([file], tmp_path / "out", length=check)
    assert summary.excluded == {"too_long": 1}
    (entry,) = ledger_of(tmp_path / "out")
    assert entry["line"] == 5
    assert "takes 21 tokens" in entry["detail"]
    assert summary.length_check == "characters"


def test_the_same_build_gives_the_same_bytes(content: Any, tmp_path: Path) -> None:
    file = content(40)
    first = build_dataset([file], tmp_path / "one" / "set")
    second = build_dataset([file], tmp_path / "two" / "set", workers=1)
    assert first.content_hash == second.content_hash
    for path in sorted((tmp_path / "one").rglob("*")):
        if path.is_file():
            other = tmp_path / "two" / path.relative_to(tmp_path / "one")
            assert path.read_bytes() == other.read_bytes(), path.name


def test_the_hash_tells_content_and_not_layout_or_order(content: Any, png: Any, tmp_path: Path) -> None:
    file = content(20)
    first = build_dataset([file], tmp_path / "a")
    prefix = build_dataset([file], tmp_path / "b", BuildSettings(layout="prefix"))
    file.write_text("\n".join(reversed(file.read_text().splitlines())))
    backwards = build_dataset([file], tmp_path / "c")
    assert first.content_hash == prefix.content_hash == backwards.content_hash
    assert open_dataset(tmp_path / "a").compute_content_hash() == first.content_hash
    seed = build_dataset([file], tmp_path / "d", BuildSettings(seed=1))
    (file.parent / "images/0000.png").write_bytes(png(shade=999))
    image = build_dataset([file], tmp_path / "e")
    assert len({first.content_hash, seed.content_hash, image.content_hash}) == 3


def test_documents_stay_on_one_side(content: Any, tmp_path: Path) -> None:
    for rule, name in (("parent", "doc{0}/page{1}.png"), ("stem-prefix", "doc{0}_page_{1}.png")):
        file = content(60, folder=rule, name=lambda n, name=name: name.format(n // 3, n))
        summary = build_dataset([file], tmp_path / f"out-{rule}", BuildSettings("rest/6/6", group_by=rule))
        dataset = open_dataset(tmp_path / f"out-{rule}")
        groups = [{sample.group for sample in dataset.iter_samples(split)} for split in SPLITS]
        assert sum(len(names) for names in groups) == len(set.union(*groups)) == 20
        assert summary.counts == {"train": 48, "val": 6, "test": 6}


def test_documents_that_names_of_files_tell_of_stand_in_the_group_column(content: Any, tmp_path: Path) -> None:
    file = content(60, name=lambda number: f"doc{number // 6:02d}_page{number % 6 + 1}.png")
    summary = build_dataset([file], tmp_path / "out")
    assert {sample.id: sample.group for sample in samples_of(tmp_path / "out")} == {
        f"doc{number // 6:02d}_page{number % 6 + 1}.png": f"doc{number // 6:02d}" for number in range(60)
    }
    assert any("10 documents were inferred" in note for note in summary.notes)
    build_dataset([file], tmp_path / "none", BuildSettings(group_by="none"))
    assert {sample.group for sample in samples_of(tmp_path / "none")} == {""}


def test_several_sources_are_told_apart_also_where_images_lie_elsewhere(content: Any, tmp_path: Path) -> None:
    sources = [content(30, folder="a"), content(20, folder="b")]
    summary = build_dataset(sources, tmp_path / "out")
    assert {row.value: sum(row.samples.values()) for row in summary.strata if row.trait == "source"} == {
        str(sources[0]): 30,
        str(sources[1]): 20,
    }
    card = (tmp_path / "out/README.md").read_text(encoding="utf-8")
    assert f"| source {sources[0]} | " in card


def test_an_earlier_dataset_says_where_its_documents_go(content: Any, tmp_path: Path) -> None:
    build_dataset([content(40)], tmp_path / "first", BuildSettings("rest/10/10"))
    more = content(60)
    build_dataset([more], tmp_path / "second", BuildSettings(seed=7, keep_splits=str(tmp_path / "first")))
    where = [
        {sample.id: name for name in SPLITS for sample in open_dataset(tmp_path / folder).iter_samples(name)}
        for folder in ("first", "second")
    ]
    assert len(where[1]) == 60
    assert where[0].items() <= where[1].items()


def test_images_outside_the_sources_folder_need_a_switch(content: Any, png: Any, tmp_path: Path) -> None:
    file = content(6)
    (tmp_path / "secret.png").write_bytes(png(shade=99))
    file.write_text(file.read_text() + "../secret.png\tx\n")
    assert build_dataset([file], tmp_path / "out").excluded == {"outside": 1}
    assert build_dataset([file], tmp_path / "all", BuildSettings(allow_outside=True)).samples == 7


def test_a_group_column_is_used_by_itself(png: Any, tmp_path: Path) -> None:
    rows = ["image,text,group,book"]
    for number in range(40):
        (tmp_path / f"{number}.png").write_bytes(png(shade=number))
        rows.append(f"{number}.png,text {number},g{number // 4},b{number % 5}")
    (tmp_path / "a.csv").write_text("\n".join(rows))
    build_dataset([tmp_path / "a.csv"], tmp_path / "one")
    build_dataset([tmp_path / "a.csv"], tmp_path / "two", BuildSettings(group_by="column:book"))
    for folder, count in (("one", 10), ("two", 5)):
        sides = [
            {sample.group for sample in open_dataset(tmp_path / folder).iter_samples(name)} for name in SPLITS
        ]
        assert sum(map(len, sides)) == len(set.union(*sides)) == count
    with pytest.raises(DataError, match="no column 'page'"):
        build_dataset([tmp_path / "a.csv"], tmp_path / "three", BuildSettings(group_by="column:page"))


def test_exact_copies_stay_on_one_side_and_contradictions_are_told(png: Any, tmp_path: Path) -> None:
    lines = []
    for number in range(30):
        for copy in "ab":
            (tmp_path / f"{number}{copy}.png").write_bytes(png(shade=number))
            lines.append(f"{number}{copy}.png\ttext {number}")
    (tmp_path / "c.png").write_bytes(png(shade=0))
    lines.append("c.png\tanother text")
    (tmp_path / "content.md").write_text("\n".join(lines))
    summary = build_dataset([tmp_path / "content.md"], tmp_path / "out")
    sides = [{sample.text for sample in open_dataset(tmp_path / "out").iter_samples(name)} for name in SPLITS]
    assert sum(map(len, sides)) == 31
    assert any("31 samples have the very image file of an earlier one" in note for note in summary.notes)
    assert any(
        "1 samples have the image of an earlier sample but another text" in note for note in summary.notes
    )


def test_repeated_ids_get_a_suffix_and_a_note(png: Any, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png())
    (tmp_path / "content.md").write_text("a.png\tone\na.png\ttwo\na.png#2\tx\na.png\tthree\n")
    (tmp_path / "a.png#2").write_bytes(png(shade=1))
    summary = build_dataset([tmp_path / "content.md"], tmp_path / "out")
    found = {sample.id: sample.text for sample in samples_of(tmp_path / "out")}
    assert found == {"a.png": "one", "a.png#2": "two", "a.png#2#2": "x", "a.png#3": "three"}
    assert any("3 ids were there already" in note for note in summary.notes)


def test_several_sources_make_one_dataset(content: Any, tmp_path: Path) -> None:
    summary = build_dataset([content(6, folder="a"), content(4, folder="b")], tmp_path / "out")
    assert summary.samples == 10
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    assert [source["kind"] for source in manifest["sources"]] == ["content", "content"]
    assert len({sample.id for sample in samples_of(tmp_path / "out")}) == 10


def test_the_limit_takes_the_first_usable_samples(content: Any, tmp_path: Path) -> None:
    file = content(20)
    file.write_text("gone.png\tx\n" + file.read_text())
    build_dataset([file], tmp_path / "out", BuildSettings(limit=5))
    assert {sample.id for sample in samples_of(tmp_path / "out")} == {f"images/000{n}.png" for n in range(5)}


def test_two_samples_and_one_document_are_told(content: Any, tmp_path: Path) -> None:
    two = build_dataset([content(2, folder="two")], tmp_path / "out2")
    assert two.counts == {"train": 1, "val": 0, "test": 1}
    assert any(note.startswith("val is empty: there are only 2 samples") for note in two.notes)
    one = build_dataset([content(9, folder="one")], tmp_path / "out1", BuildSettings(group_by="parent"))
    assert one.counts == {"train": 9, "val": 0, "test": 0}
    assert any("val and test are empty: there are only 1 documents for 9 samples" in note for note in one.notes)


def test_a_prompt_of_a_sample_needs_the_image(png: Any, tmp_path: Path) -> None:
    for number in range(4):
        (tmp_path / f"{number}.png").write_bytes(png(shade=number))
    rows = ["0.png,a,<image>\nRead", "1.png,b,", "2.png,c,", "3.png,d,Read"]
    quoted = [",".join(f'"{cell}"' for cell in row.split(",")) for row in rows]
    (tmp_path / "a.csv").write_text("image,text,prompt\n" + "\n".join(quoted))
    build_dataset([tmp_path / "a.csv"], tmp_path / "out")
    assert {sample.id: sample.prompt for sample in samples_of(tmp_path / "out")} == {
        "0.png": "<image>\nRead",
        "1.png": None,
        "2.png": None,
    }
    (entry,) = ledger_of(tmp_path / "out")
    assert (entry["reason"], entry["line"]) == ("bad_prompt", 6)


def test_the_card_says_how_to_load_and_leaves_the_licence_open(content: Any, tmp_path: Path) -> None:
    build_dataset([content(10)], tmp_path / "out", BuildSettings("rest/1/1"))
    card = (tmp_path / "out/README.md").read_text(encoding="utf-8")
    assert card.startswith("---\nlicense: unknown\n")
    assert 'datasets.load_dataset("out")' in card
    assert "| train | 8 | 8 |" in card


@pytest.mark.parametrize(
    ("values", "place"),
    [
        ({"splits": "1/2"}, "--splits"),
        ({"group_by": "folder"}, "--group-by"),
        ({"layout": "zip"}, "--layout"),
        ({"layout": "prefix", "prefix": "a/b"}, "--prefix"),
        ({"prefix": "a"}, "--prefix"),
        ({"min_side": 0}, "--min-side"),
        ({"limit": 0}, "--limit"),
    ],
)
def test_wrong_settings_are_refused(values: dict[str, Any], place: str) -> None:
    with pytest.raises(SettingsError) as caught:
        BuildSettings(**values)
    assert caught.value.place == place
    assert caught.value.mend


def test_progress_is_told(content: Any, tmp_path: Path) -> None:
    calls: list[tuple[str, int, int | None]] = []
    build_dataset([content(12)], tmp_path / "out", progress=lambda *call: calls.append(call))
    assert [done for phase, done, _ in calls if phase == "read"] == list(range(1, 13))
    assert calls[-1] == ("write", 12, 12)
