"""Predictions made elsewhere: found by id in every kind of file, and told about when they do not fit."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ocrsmith.engines.base import Engine, PageRequest
from ocrsmith.engines.file import FileEngine
from ocrsmith.records import Prediction

PAIRS = [("a", "first"), ("b/2", 'with "quotes",\ttab\nand line'), ("ج", "سلام دنیا"), ("7", "")]


def jsonl(path: Path, pairs: Sequence[tuple[str, str]]) -> Path:
    path = path / "p.jsonl"
    path.write_text("".join(json.dumps({"id": i, "text": t}) + "\n" for i, t in pairs), encoding="utf-8")
    return path


def table(path: Path, pairs: Sequence[tuple[str, str]], delimiter: str = ",") -> Path:
    path = path / ("p.csv" if delimiter == "," else "p.tsv")
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, delimiter=delimiter).writerows([("id", "text"), *pairs])
    return path


def tsv(path: Path, pairs: Sequence[tuple[str, str]]) -> Path:
    return table(path, pairs, "\t")


def parquet(path: Path, pairs: Sequence[tuple[str, str]]) -> Path:
    path = path / "p.parquet"
    ids, texts = zip(*pairs, strict=True)
    pq.write_table(pa.table({"id": ids, "text": texts, "other": [1] * len(ids)}), path)
    return path


def folder(path: Path, pairs: Sequence[tuple[str, str]]) -> Path:
    for id_, text in pairs:
        file = path / "texts" / f"{id_}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    return path / "texts"


WRITERS = [jsonl, table, tsv, parquet, folder]


def read(engine: FileEngine, *ids: str) -> list[Prediction]:
    return list(engine.read([PageRequest(id_, b"") for id_ in ids]))


@pytest.mark.parametrize("write", WRITERS)
def test_every_kind_of_file_gives_the_same(write: Callable[..., Path], tmp_path: Path) -> None:
    engine = FileEngine.load(path=write(tmp_path, PAIRS))
    assert isinstance(engine, Engine)
    got = read(engine, *[id_ for id_, _ in PAIRS], "absent")
    assert [p.id for p in got] == ["a", "b/2", "ج", "7", "absent"]
    assert [p.text for p in got] == [*(text for _, text in PAIRS), ""]
    assert [p.finish_reason for p in got] == ["stop"] * 4 + ["error"]
    assert "no prediction in" in (got[-1].error or "")
    assert engine.rows == 4
    assert engine.warnings == []


@settings(max_examples=25, deadline=None)
@given(
    st.dictionaries(
        st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=8),
        st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), max_size=30),
        min_size=1,
        max_size=8,
    ),
    st.sampled_from([jsonl, table, tsv, parquet]),
)
def test_any_text_comes_back(tmp_path_factory: pytest.TempPathFactory, texts: dict[str, str], write) -> None:
    engine = FileEngine(write(tmp_path_factory.mktemp("any"), list(texts.items())))
    assert {p.id: p.text for p in read(engine, *texts)} == {id_: text.strip() for id_, text in texts.items()}


def test_columns_have_the_names_that_are_given(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_text("name,text,answer\na,wrong,right\n")
    (got,) = read(FileEngine(path, id_column="name", text_column="answer"), "a")
    assert got.text == "right"


def test_a_column_prediction_goes_before_text(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text('{"id": "a", "text": "reference", "prediction": "read"}\n')
    assert read(FileEngine(path), "a")[0].text == "read"


def test_ids_may_be_numbers(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text('{"id": 12, "text": "twelve"}\n')
    assert read(FileEngine(path), "12")[0].text == "twelve"


def test_the_finish_reason_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "predictions.parquet"
    columns = {"id": ["a", "b", "c"], "prediction": ["x", "y", ""], "finish_reason": ["loop", "odd", "error"]}
    pq.write_table(pa.table(columns), path)
    got = read(FileEngine(path), "a", "b", "c")
    assert [p.finish_reason for p in got] == ["loop", "stop", "error"]
    assert "as failed" in (got[2].error or "")


def test_duplicates_are_counted_and_the_last_one_counts(tmp_path: Path) -> None:
    engine = FileEngine(jsonl(tmp_path, [("a", "1"), ("b", "2"), ("a", "3"), ("a", "4")]))
    assert read(engine, "a")[0].text == "4"
    assert engine.duplicates == 2
    assert engine.warnings == ["p.jsonl: 2 rows repeat an id; the last of each counts."]


def test_pages_and_predictions_are_compared(tmp_path: Path) -> None:
    engine = FileEngine(jsonl(tmp_path, [("a", "1"), ("b", "2"), ("x", "3"), ("y", "4")]))
    match = engine.match(["a", "b", "c"])
    assert (match.pages, match.matched, match.missing) == (3, 2, ["c"])
    assert (match.unknown, match.unknown_ids) == (2, ["x", "y"])
    assert match.warnings == [
        "1 of 3 pages have no prediction ('c' …).",
        "2 predictions are for none of the pages ('x', 'y' …).",
    ]
    assert engine.match(["a", "b", "x", "y"]).warnings == []


def test_the_description_follows_the_content(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    first = FileEngine(jsonl(tmp_path / "one", PAIRS)).describe()
    same = FileEngine(jsonl(tmp_path / "two", PAIRS)).describe()
    other = FileEngine(jsonl(tmp_path / "two", PAIRS[:2])).describe()
    assert first.pop("runtime") != same.pop("runtime")
    assert first == same
    assert first["file"]["hash"].startswith("sha256:")
    assert first["file"]["hash"] != other["file"]["hash"]
    json.dumps(first)


def test_the_description_of_a_folder_follows_its_texts(tmp_path: Path) -> None:
    path = folder(tmp_path, PAIRS)
    before = FileEngine(path).describe()
    (path / "a.txt").write_text("changed")
    assert FileEngine(path).describe()["file"] != before["file"]


def test_progress_is_told(tmp_path: Path) -> None:
    seen: list[int] = []
    list(FileEngine(jsonl(tmp_path, PAIRS)).read([PageRequest("a", b"")] * 3, progress=seen.append))
    assert seen == [1, 1, 1]
