"""Samples on disk, and the checkpoints between them."""

from __future__ import annotations

from pathlib import Path

import pytest

from ocrsmith.datasets import staging
from ocrsmith.datasets.schema import to_batch
from ocrsmith.datasets.staging import Facts, Position, Staging
from ocrsmith.datasets.traits import Traits
from ocrsmith.records import PageSample

BIG = 2**64 - 1


def sample(number: int, size: int = 10) -> PageSample:
    return PageSample(str(number), bytes([number % 256]) * size, "", f"text {number}", meta={"n": number})


def facts(number: int) -> Facts:
    traits = Traits(b"i" * 16, b"p" * 16, BIG - number, b"t" * 16, number, "zh-Hant", 7)
    return Facts(f"id {number}", "书", f"{number}.png", "源/content.md", 40, 20, b"d" * 16, traits)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(staging, "BATCH_ROWS", 4)
    monkeypatch.setattr(staging, "FILE_ROWS", 8)


def filled(folder: Path, count: int) -> Staging:
    """`count` samples with a checkpoint wherever one is due; the last ones have none."""
    opened = Staging(folder)
    for number in range(count):
        opened.add(sample(number), facts(number))
        if opened.due:
            opened.checkpoint(Position(number + 1, 10 * number))
    return opened


def test_what_has_a_checkpoint_is_found_again(tmp_path: Path) -> None:
    filled(tmp_path, 22).close()
    assert Staging.count(tmp_path) == 16
    again = Staging(tmp_path)
    assert (again.rows, again.position) == (16, Position(16, 150))
    assert list(again.facts()) == [facts(number) for number in range(16)]
    assert again.bytes == sum(path.stat().st_size for path in tmp_path.glob("*.arrow"))
    rows = [row for batch in again.batches() for row in batch.to_pylist()]
    assert rows == to_batch([sample(number) for number in range(16)]).to_pylist()
    assert again.first() == sample(0)


def test_batches_do_not_depend_on_where_it_was_stopped(tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    (tmp_path / "cut").mkdir()
    whole = filled(tmp_path / "whole", 30)
    whole.checkpoint(Position(30, complete=True))
    filled(tmp_path / "cut", 13).close()
    cut = Staging(tmp_path / "cut")
    for number in range(cut.rows, 30):
        cut.add(sample(number), facts(number))
        if cut.due:
            cut.checkpoint(Position(number + 1))
    cut.checkpoint(Position(30, complete=True))
    assert [batch.to_pylist() for batch in whole.batches()] == [batch.to_pylist() for batch in cut.batches()]


def test_nothing_comes_after_the_end(tmp_path: Path) -> None:
    opened = filled(tmp_path, 5)
    opened.checkpoint(Position(9, complete=True))
    (tmp_path / "staging-00001.arrow").write_bytes(b"of an earlier build")
    again = Staging(tmp_path)
    assert again.position.complete
    assert again.rows == 5
    assert not (tmp_path / "staging-00001.arrow").exists()


def test_a_checkpoint_without_samples_keeps_the_position(tmp_path: Path) -> None:
    opened = filled(tmp_path, 8)
    opened.checkpoint(Position(20, 99, complete=True))
    again = Staging(tmp_path)
    assert (again.rows, again.position) == (8, Position(20, 99, complete=True))
    assert sum(batch.num_rows for batch in again.batches()) == 8


@pytest.mark.parametrize("limit", ["FILE_BYTES", "FILE_SECONDS"])
def test_a_file_also_ends_by_bytes_and_by_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    monkeypatch.setattr(staging, "FILE_ROWS", 10**6)
    monkeypatch.setattr(staging, limit, 0 if limit == "FILE_SECONDS" else 20)
    opened = Staging(tmp_path)
    due = []
    for number in range(8):
        opened.add(sample(number), facts(number))
        due.append(opened.due)
        if opened.due:
            opened.checkpoint(Position(number + 1))
    assert due == [False, False, False, True] * 2


def test_an_index_of_another_version_counts_for_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(tmp_path, 16).close()
    monkeypatch.setattr(staging, "_OWN", staging._OWN[:-1])
    assert Staging(tmp_path).rows == 0
