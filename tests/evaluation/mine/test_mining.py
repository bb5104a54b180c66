"""Mining an evaluation: what is written, the way back into a dataset, and what is refused."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ocrsmith.datasets import BuildSettings, build_dataset, open_dataset
from ocrsmith.datasets.synth.emphasis import read_emphasis
from ocrsmith.errors import DataError, OutputError, SettingsError
from ocrsmith.evaluation import store
from ocrsmith.evaluation.mine import mine, mining
from ocrsmith.evaluation.mine.page import render_queue
from ocrsmith.evaluation.mine.queue import Entry
from ocrsmith.records import PageSample

from .conftest import Read, build, line

Make = Callable[..., Path]

EXACT = [Read(line(number), line(number), 0.96) for number in range(24)]
DIGITS = [Read(f"Paid {n}1 on 1{n}", f"Paid {n}7 on 7{n}", 0.9, group=f"ledger{n % 2}") for n in range(20, 32)]
LINES = Read('First "line", here\nsecond <b>line</b>', "First line here\nsecond linen", 0.5)
SWAPPED = [Read(line(40), line(41), 0.95), Read(line(41), line(40), 0.95)]
FAILED = Read("Nobody saw this", "", None, "error")
ALL = [*EXACT, *DIGITS, LINES, *SWAPPED, FAILED]


def rows_of(queue: Path) -> list[dict[str, str]]:
    with (queue / "labels.csv").open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def write_rows(queue: Path, rows: list[dict[str, str]]) -> None:
    with (queue / "labels.csv").open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_hard_pages_suspects_and_what_to_draw(made: Make, tmp_path: Path) -> None:
    out = tmp_path / "mined"
    mined = mine(made(*ALL), out, count=6)
    assert sorted(path.name for path in out.iterdir()) == [
        "characters.tsv",
        "confusions.tsv",
        "mine.json",
        "review",
        "suspects",
    ]
    references = [row["text"] for row in rows_of(out / "review")]
    assert LINES.reference in references
    assert {row["text"] for row in rows_of(out / "suspects")} == {line(40), line(41)}
    account = json.loads((out / "mine.json").read_text())
    assert account["counts"] == {"review": 6, "suspects": 2}
    assert account["split"] == "val"
    assert account["left_out"] == {
        "failed: no text was read": 1,
        "hard pages that the queue stands for": 7,
    }
    assert [page["rank"] for page in account["review"]] == [1, 2, 3, 4, 5, 6]
    assert all(page["reason"] and 0 < page["need"] <= 1 for page in account["review"])
    assert account["covered"] == pytest.approx(sum(page["covers"] for page in account["review"]), abs=1e-5)
    assert account["suspects"][0]["rule"] == "swapped"
    assert account["dataset"]["content_hash"] == open_dataset(tmp_path / "data").content_hash
    assert mined.covered > 0.8


def test_confusions_are_those_of_the_model_not_of_wrong_labels(made: Make, tmp_path: Path) -> None:
    mine(made(*ALL), tmp_path / "mined")
    pairs = [row.split("\t") for row in (tmp_path / "mined" / "confusions.tsv").read_text().splitlines()]
    assert pairs[0] == ["1", "7", "24"]
    emphasis = read_emphasis([tmp_path / "mined" / "characters.tsv"], [tmp_path / "mined" / "confusions.tsv"])
    assert emphasis is not None
    assert emphasis.weights["1"] == 24 + 24
    assert emphasis.partners["1"] == ("7",)


def test_a_corrected_text_comes_back(made: Make, tmp_path: Path) -> None:
    mine(made(*ALL, prompt="<image>\nWhat is written here?"), tmp_path / "mined")
    queue = tmp_path / "mined" / "review"
    rows = rows_of(queue)
    corrected = 'Paid "21" on,\n1 March'
    changed = next(row for row in rows if row["text"] == DIGITS[3].reference)
    changed["text"] = corrected
    write_rows(queue, rows)
    before = {sample.id: sample for sample in open_dataset(tmp_path / "data").iter_samples("val")}
    settings = BuildSettings(keep_splits=str(tmp_path / "data"))
    summary = build_dataset([queue], tmp_path / "back", settings)
    assert not summary.excluded
    after = list(open_dataset(tmp_path / "back").iter_samples("val"))
    assert [sample.id for sample in after] == [row["id"] for row in rows]
    for sample, row in zip(after, rows, strict=True):
        old = before[sample.id]
        assert sample.text == (corrected if sample.id == changed["id"] else old.text)
        assert (sample.image, sample.group) == (old.image, old.group)
        assert sample.prompt == "<image>\nWhat is written here?"
        assert sample.meta["prediction"] == row["prediction"]
        assert sample.meta["language"] == "en"
        assert {"cer", "confidence", "kinds", "reason", "rank"} <= set(sample.meta)


def test_the_same_evaluation_gives_the_same_files(made: Make, tmp_path: Path) -> None:
    folder = made(*ALL)
    mine(folder, tmp_path / "one", count=9)
    mine(folder, tmp_path / "two", count=9)
    one, two = files_of(tmp_path / "one"), files_of(tmp_path / "two")
    accounts = [json.loads(files.pop("mine.json")) for files in (one, two)]
    assert one == two
    assert [page["id"] for page in accounts[0]["review"]] == [page["id"] for page in accounts[1]["review"]]


def test_without_confidences_it_ranks_by_errors(made: Make, tmp_path: Path) -> None:
    reads = [Read(read.reference, read.prediction, group=read.group) for read in (*EXACT, *DIGITS, LINES)]
    mined = mine(made(*reads), tmp_path / "mined")
    assert not mined.with_confidence
    assert len(mined.review) == 13
    assert {row["confidence"] for row in rows_of(tmp_path / "mined" / "review")} == {""}


def test_right_pages_read_with_much_doubt_are_hard_too(made: Make, tmp_path: Path) -> None:
    mined = mine(made(*EXACT, Read("Barely legible", "Barely legible", 0.4)), tmp_path / "mined")
    assert [case.result.reference for case in mined.review] == ["Barely legible"]
    assert not (tmp_path / "mined" / "confusions.tsv").exists()
    (row,) = rows_of(tmp_path / "mined" / "review")
    assert row["reason"] == "Read right, but with little confidence."


def test_nothing_wrong_is_nothing_to_mine(made: Make, tmp_path: Path) -> None:
    mined = mine(made(*EXACT), tmp_path / "mined")
    assert mined.empty
    assert not (tmp_path / "mined").exists()


@pytest.mark.parametrize(("split", "said"), [("test", "must not get into training"), ("train", None)])
def test_a_test_split_is_warned_of(made: Make, tmp_path: Path, split: str, said: str | None) -> None:
    mined = mine(made(*ALL, split=split), tmp_path / "mined")
    account = json.loads((tmp_path / "mined" / "mine.json").read_text())
    assert account["split"] == split
    assert account["warnings"] == list(mined.warnings)
    assert bool(mined.warnings) == bool(said)
    assert (said or "") in "".join(mined.warnings)


# --- bad input ---------------------------------------------------------------------------------------------


def test_a_count_below_one(made: Make, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="0 pages are none"):
        mine(made(*ALL), tmp_path / "mined", count=0)


def test_an_unfinished_evaluation(tmp_path: Path) -> None:
    (tmp_path / "eval").mkdir()
    (tmp_path / "eval" / store.JOURNAL).write_text("{}\n")
    with pytest.raises(DataError, match="not finished"):
        mine(tmp_path / "eval", tmp_path / "mined")


def test_a_dataset_that_is_gone_and_found_again(made: Make, tmp_path: Path) -> None:
    folder = made(*ALL)
    (tmp_path / "data").rename(tmp_path / "moved")
    with pytest.raises(DataError) as caught:
        mine(folder, tmp_path / "mined")
    assert "--data" in str(caught.value)
    assert not (tmp_path / "mined").exists()
    assert mine(folder, tmp_path / "mined", data=tmp_path / "moved").review


def test_another_dataset(made: Make, tmp_path: Path) -> None:
    folder = made(*ALL)
    build(tmp_path / "other", EXACT)
    with pytest.raises(DataError, match="not the dataset that was evaluated"):
        mine(folder, tmp_path / "mined", data=tmp_path / "other")


def test_a_dataset_whose_files_were_changed_behind_its_manifest(made: Make, tmp_path: Path) -> None:
    folder = made(*ALL)
    build(tmp_path / "other", [*ALL[1:], Read("Something else", "")])
    (changed,) = (tmp_path / "data" / "data").glob("val-*.parquet")
    (other,) = (tmp_path / "other" / "data").glob("val-*.parquet")
    changed.write_bytes(other.read_bytes())
    with pytest.raises(DataError, match="is not the one that was evaluated"):
        mine(folder, tmp_path / "mined")
    assert not (tmp_path / "mined").exists()


def test_a_folder_with_corrections_is_not_thrown_away_unasked(made: Make, tmp_path: Path) -> None:
    folder, out = made(*ALL), tmp_path / "mined"
    mine(folder, out)
    before = files_of(out)
    with pytest.raises(OutputError, match="earlier mining"):
        mine(folder, out)
    assert files_of(out) == before
    mine(folder, out, count=1, overwrite=True)
    assert len(rows_of(out / "review")) == 1
    (out / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"notes\.txt"):
        mine(folder, out, overwrite=True)


def test_an_interruption_leaves_nothing_half_written(
    made: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = made(*ALL)
    before = sorted(path.name for path in tmp_path.iterdir())
    told = mining.sample_of

    def interrupted(*arguments: Any) -> PageSample:
        if any(tmp_path.glob(".mined-*/review/images/*")):
            raise KeyboardInterrupt
        return told(*arguments)

    monkeypatch.setattr(mining, "sample_of", interrupted)
    with pytest.raises(KeyboardInterrupt):
        mine(folder, tmp_path / "mined")
    assert sorted(path.name for path in tmp_path.iterdir()) == before


# --- hostile texts -----------------------------------------------------------------------------------------


def test_no_prediction_is_run_by_a_spreadsheet(made: Make, tmp_path: Path) -> None:
    mine(made(*EXACT, Read("Total 12", '=HYPERLINK("http://x")', 0.5)), tmp_path / "mined")
    (row,) = rows_of(tmp_path / "mined" / "review")
    assert row["prediction"] == '\'=HYPERLINK("http://x")'
    assert row["text"] == "Total 12"


@pytest.fixture
def hostile() -> Entry:
    sample = PageSample("<i>id</i>", b"", "x.png", "</div><script>true</script>")
    return Entry(sample, '"><img src=x onerror=1>', 1, "<b>why</b>", 0.5, 0.5, {"confusion": 1}, "val")


def test_the_page_shows_every_text_as_text(hostile: Entry) -> None:
    page = render_queue([(hostile, 'images/a"b&c.png')])
    for told in ("<script>", "<img src=x", "<i>id", "<b>why", 'a"b'):
        assert told not in page
    assert 'src="images/a%22b%26c.png"' in page
