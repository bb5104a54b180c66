"""Corrections come in whole or not at all, and review queues go out, come back, and become datasets."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from ocrsmith.datasets import open_dataset
from ocrsmith.errors import DataError, InputError, OutputError, SettingsError
from ocrsmith.serving.canary import open_store
from ocrsmith.serving.canary.choice import PageKey
from ocrsmith.serving.canary.corrections import load_corrections
from ocrsmith.serving.canary.records import Answer, Request
from ocrsmith.serving.canary.review import write_review

from .filling import fill, page_of


@pytest.fixture
def filled(tmp_path: Path) -> str:
    place = str(tmp_path / "canary.db")
    fill(place, pages=12, base=lambda true: "x" * int(true.split()[-1]) + true, candidate=str, correct=False)
    with open_store(place) as store:
        other = PageKey(page_of(3).page, "q" * 64)
        store.add(
            1,
            requests=[Request("prompted", 2.0, other, "base"), Request("unkept", 2.0, page_of(99), "base")],
            answers=[
                Answer("prompted", "base", other, "stop", 1.0),
                Answer("unkept", "base", page_of(99), "stop", 1.0),
            ],
        )
    return place


def write(path: Path, *rows: object) -> Path:
    path.write_text("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows))
    return path


def test_corrections_by_request_and_by_page(filled: str, tmp_path: Path) -> None:
    file = write(
        tmp_path / "c.jsonl",
        {"id": "chatcmpl-1", "text": " one \n", "by": "me", "at": "2026-01-01"},
        "",
        {"id": page_of(2).page, "text": "two"},
        {"id": "chatcmpl-2", "text": "two"},
        {"id": "unkept", "text": "nobody knows what was read"},
        {"id": "chatcmpl-4", "text": ""},
    )
    with open_store(filled) as store:
        found = load_corrections(store, file)
        assert [(item.key, item.text, item.by, item.at) for item in found.corrections] == [
            (page_of(1), "one", "me", "2026-01-01"),
            (page_of(2), "two", None, None),
            (page_of(4), "", None, None),
        ]
        assert found.not_kept == 1


def test_the_same_as_csv(filled: str, tmp_path: Path) -> None:
    file = tmp_path / "c.csv"
    file.write_bytes('\ufeffid,text,by\r\nchatcmpl-1,"one,\r\ntwo",\r\nchatcmpl-2,ü,me\r\n'.encode())
    with open_store(filled) as store:
        found = load_corrections(store, file).corrections
    assert [(item.text, item.by) for item in found] == [("one,\r\ntwo", None), ("ü", "me")]


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        (['{"id": "chatcmpl-1", "text": "x"}', '{"id": "none", "text": "x"}'], "line 2: 'none' is no request"),
        (["not json"], "line 1: not JSON"),
        (["[" * 100_000], "line 1: not JSON"),
        (["[1]"], "line 1: not a JSON object"),
        (['{"id": "chatcmpl-1"}'], "line 1: text is missing"),
        (['{"id": 7, "text": "x"}'], "line 1: id is no string"),
        (['{"id": " ", "text": "x"}'], "line 1: id is empty"),
        (['{"id": "chatcmpl-1", "text": "x", "by": 1}'], "by or at is no string"),
        ([json.dumps({"id": f"{3:064x}", "text": "x"})], "read with several prompts"),
        (
            ['{"id": "chatcmpl-1", "text": "x"}', '{"id": "chatcmpl-1", "text": "y"}'],
            "line 2: 'chatcmpl-1' has another text than in line 1",
        ),
    ],
)
def test_lines_that_cannot_be_used_are_listed(filled: str, tmp_path: Path, rows: list[str], says: str) -> None:
    with open_store(filled) as store, pytest.raises(DataError) as caught:
        load_corrections(store, write(tmp_path / "c.jsonl", *rows))
    assert says in str(caught.value)
    assert "nothing was taken" in str(caught.value)


def test_of_many_wrong_lines_the_first_are_listed(filled: str, tmp_path: Path) -> None:
    rows = [{"id": f"none-{number}", "text": ""} for number in range(1_000)]
    with open_store(filled) as store, pytest.raises(DataError, match="1,000 lines") as caught:
        load_corrections(store, write(tmp_path / "c.jsonl", *rows))
    assert "and 990 more" in caught.value.problem


def test_files_that_are_none(filled: str, tmp_path: Path) -> None:
    (tmp_path / "latin.jsonl").write_bytes(b"\xff\xfe")
    (tmp_path / "columns.csv").write_text("name,words\na,b\n")
    (tmp_path / "open.csv").write_text('id,text\na,"b\n')
    with open_store(filled) as store:
        with pytest.raises(InputError, match="no such file"):
            load_corrections(store, tmp_path / "none.jsonl")
        with pytest.raises(DataError, match="Byte 1 is not UTF-8"):
            load_corrections(store, tmp_path / "latin.jsonl")
        with pytest.raises(DataError, match="no column id and no column text; it has name, words"):
            load_corrections(store, tmp_path / "columns.csv")
        with pytest.raises(DataError, match="cannot be read"):
            load_corrections(store, tmp_path / "open.csv")


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "labels.csv").open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def test_a_review_queue_is_blind_and_begins_with_the_most_doubtful(filled: str, tmp_path: Path) -> None:
    with open_store(filled) as store:
        assert write_review(store, tmp_path / "queue", count=8) == 8
    rows = rows_of(tmp_path / "queue")
    assert [row["id"] for row in rows] == [f"chatcmpl-{number}" for number in range(11, 3, -1)]
    assert {row["text"].startswith("x") for row in rows} == {True, False}, "now the base's text, now the other"
    assert all(row["text"].lstrip("x") == row["prediction"].lstrip("x") for row in rows)
    assert not any("base" in value or "candidate" in value for row in rows for value in row.values())
    assert (tmp_path / "queue" / rows[0]["image"]).read_bytes().startswith(b"\x89PNG")
    page = (tmp_path / "queue" / "review.html").read_text(encoding="utf-8")
    assert "the answers differ by" in page


def test_only_pages_that_somebody_marked_come_back(filled: str, tmp_path: Path) -> None:
    folder = tmp_path / "queue"
    with open_store(filled) as store:
        write_review(store, folder)
        rows = rows_of(folder)
        for row in rows[:5]:
            row |= {"reviewed": "x", "text": "corrected"}
        with (folder / "labels.csv").open("w", encoding="utf-8-sig", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        found = load_corrections(store, folder)
        assert (len(found.corrections), found.unmarked) == (5, 7)
        store.correct(found.corrections)
        assert write_review(store, tmp_path / "rest") == 7, "what is corrected is not asked again"


def test_a_review_queue_becomes_a_dataset(filled: str, tmp_path: Path) -> None:
    from ocrsmith.cli.main import main

    with open_store(filled) as store:
        write_review(store, tmp_path / "queue")
    assert main(["data", "build", str(tmp_path / "queue"), "-o", str(tmp_path / "data"), "-q"]) == 0
    dataset = open_dataset(tmp_path / "data")
    samples = [sample for split in dataset.files for sample in dataset.iter_samples(split)]
    assert {sample.id for sample in samples} <= {f"chatcmpl-{number}" for number in range(12)}
    assert len(samples) == 12


def test_a_queue_replaces_nothing(filled: str, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "labels.csv").write_text("mine")
    with open_store(filled) as store:
        with pytest.raises(OutputError, match="there already"):
            write_review(store, tmp_path / "there")
        with pytest.raises(SettingsError, match="0 pages are none"):
            write_review(store, tmp_path / "new", count=0)
    with open_store(str(tmp_path / "empty.db"), create=True) as store:
        with pytest.raises(InputError, match="ever started"):
            write_review(store, tmp_path / "new")
        store.start("A", "B", {})
        assert write_review(store, tmp_path / "new") == 0
    assert not (tmp_path / "new").exists()
