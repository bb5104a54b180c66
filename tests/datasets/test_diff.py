"""What changed between two datasets."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocrsmith.datasets import BuildSettings, Dataset, build_dataset, open_dataset
from ocrsmith.datasets.diff import EXAMPLES, KINDS, DatasetDiff, diff_datasets, short_diff
from ocrsmith.datasets.schema import to_batch
from ocrsmith.records import SPLITS, PageSample

Splits = dict[str, list[PageSample]]


def sample(number: int) -> PageSample:
    return PageSample(f"s{number}", f"image {number}".encode(), "", f"text of {number}", meta={"n": number})


def write(folder: Path, splits: Splits) -> Dataset:
    folder.mkdir()
    for name in SPLITS:
        table = pa.Table.from_batches([to_batch(splits.get(name, []))])
        pq.write_table(table, folder / f"{name}-00000-of-00001.parquet")
    return open_dataset(folder)


@pytest.fixture
def splits() -> Splits:
    return {"train": [sample(n) for n in range(10)], "val": [sample(10)], "test": [sample(11), sample(12)]}


def compare(tmp_path: Path, before: Splits, after: Splits) -> DatasetDiff:
    return diff_datasets(write(tmp_path / "a", before), write(tmp_path / "b", after))


def changes(result: DatasetDiff) -> dict[str, list[tuple[str, str]]]:
    return {
        kind: [(item.id, item.detail) for item in items] for kind, items in result.examples.items() if items
    }


def test_nothing_differs_whatever_the_order(splits: Splits, tmp_path: Path) -> None:
    result = compare(tmp_path, splits, {name: part[::-1] for name, part in splits.items()})
    assert result.same
    assert result.counts == dict.fromkeys(KINDS, 0)


def test_every_kind_of_change(splits: Splits, tmp_path: Path) -> None:
    after = {name: list(part) for name, part in splits.items()}
    after["train"][1] = replace(sample(1), text="text of one")
    after["train"][2] = replace(sample(2), image=b"other image")
    after["train"][3] = replace(sample(3), group="book")
    after["train"][4] = replace(sample(4), id="renamed")
    after["test"].append(after["train"].pop(5))
    after["train"].append(sample(20))
    after["val"] = []
    result = compare(tmp_path, splits, after)
    assert not result.same
    assert result.samples == (13, 13)
    assert changes(result) == {
        "added": [("s20", "train")],
        "removed": [("s10", "val")],
        "renamed": [("s4", "→ renamed")],
        "moved": [("s5", "train → test")],
        "text": [("s1", "text of {1 → one}")],
        "image": [("s2", "7 → 11 bytes")],
        "fields": [("s3", "group '' → 'book'")],
    }
    assert result.moves == {"train → test": 1}
    assert json.loads(json.dumps(result.to_json()))["counts"]["renamed"] == 1


def test_a_renamed_sample_may_have_moved_too(splits: Splits, tmp_path: Path) -> None:
    after = {name: list(part) for name, part in splits.items()}
    after["val"].append(replace(after["train"].pop(0), id="other"))
    result = compare(tmp_path, splits, after)
    assert {kind: count for kind, count in result.counts.items() if count} == {"renamed": 1, "moved": 1}


def test_ids_that_come_twice_are_paired_in_turn(tmp_path: Path) -> None:
    twice = {"train": [sample(1), replace(sample(2), id="s1")]}
    after = {"train": [sample(1), replace(sample(2), id="s1", text="new")]}
    result = compare(tmp_path, twice, after)
    assert {kind: count for kind, count in result.counts.items() if count} == {"text": 1}


def test_all_are_counted_and_the_first_described(tmp_path: Path) -> None:
    result = compare(tmp_path, {"train": []}, {"train": [sample(n) for n in range(EXAMPLES + 30)]})
    assert result.counts["added"] == EXAMPLES + 30
    assert len(result.examples["added"]) == EXAMPLES


def test_settings_of_the_manifests(content: Any, tmp_path: Path) -> None:
    file = content(20)
    build_dataset([file], tmp_path / "a", BuildSettings(seed=1))
    build_dataset([file], tmp_path / "b", BuildSettings(seed=2, prompt="<image>\nRead."))
    build_dataset([file], tmp_path / "c", BuildSettings(seed=1))
    one, two, three = (open_dataset(tmp_path / name) for name in "abc")
    result = diff_datasets(one, two)
    assert result.settings["seed"] == (1, 2)
    assert result.settings["prompt"] == (one.prompt, "<image>\nRead.")
    assert sum(result.moves.values()) == result.counts["moved"] > 0
    assert diff_datasets(one, three).same


def test_progress_is_told(splits: Splits, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    dataset = write(tmp_path / "a", splits)
    diff_datasets(dataset, dataset, progress=lambda done, total: told.append((done, total)))
    assert told == [(done, 26) for done in range(1, 27)]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("the house of Smith", "the house of Smyth", "the house of Sm{i → y}th"),
        ("abc", "abc def", "abc{∅ →  def}"),
        ("a\nb", "a b", "a{\\n →  }b"),
        ("x" * 40 + "1" + "y" * 40, "x" * 40 + "2" + "y" * 40, f"…{'x' * 16}{{1 → 2}}{'y' * 16}…"),
        ("aa", "aaa", "aa{∅ → a}"),
        ("", "new", "{∅ → new}"),
    ],
)
def test_short_diffs(old: str, new: str, expected: str) -> None:
    assert short_diff(old, new) == expected


@given(st.text(), st.text())
def test_a_diff_is_one_short_line(old: str, new: str) -> None:
    shown = short_diff(old, new)
    assert len(shown.splitlines()) == 1
    assert shown.isprintable()
