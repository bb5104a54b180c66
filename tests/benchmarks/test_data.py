"""The data benchmark: its input, its figures, and a small run of both sides."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from benchmarks.line_images import draw, text_of, write_source
from benchmarks.process_peak import run

from benchmarks import data


def told(seconds: float, peak: int, rows: int = 10, code: int = 0) -> dict[str, Any]:
    return {"seconds": seconds, "peak_bytes": peak, "rows": rows, "code": code}


def test_the_input_is_the_same_every_time_and_no_two_lines_are_alike(tmp_path: Path) -> None:
    first = write_source(tmp_path / "a", 6, processes=1)
    second = write_source(tmp_path / "b", 6, processes=2)
    lines = first.read_text().splitlines()
    assert lines == second.read_text().splitlines()
    names = [line.partition("\t")[0] for line in lines]
    images = [(first.parent / name).read_bytes() for name in names]
    assert images == [(second.parent / name).read_bytes() for name in names]
    assert len(set(images)) == len(set(lines)) == 6
    assert {Path(name).suffix for name in names} == {".png", ".jpg"}
    assert draw(1).size[1] == 64
    assert 7 < len(text_of(1)) < 80


def test_ratios_are_of_medians() -> None:
    ours = [told(1.0, 2_000_000), told(2.0, 2_000_000), told(9.0, 2_000_000)]
    script = [told(8.0, 30_000_000)] * 3
    seconds, peak = data.rows_of(10, {"ours": ours, "script": script})
    assert (seconds["ours"], seconds["script"], seconds["×"]) == (2.0, 8.0, 4.0)
    assert (peak["ours"], peak["script"], peak["×"]) == (2.0, 30.0, 15.0)


@pytest.mark.parametrize("fault", [told(1.0, 1, rows=9), told(1.0, 1, code=1)])
def test_a_failure_or_a_lost_row_leaves_no_ratio(fault: dict[str, Any]) -> None:
    assert data.rows_of(10, {"ours": [told(1.0, 1)], "script": [fault]}) == []


def test_the_peak_counts_children_and_what_was_held_for_a_moment(tmp_path: Path) -> None:
    child = "x = bytearray(60_000_000); import time; time.sleep(0.3)"
    words = (
        f"import subprocess, sys; y = bytearray(40_000_000); subprocess.run([sys.executable, '-c', {child!r}])"
    )
    done = run([sys.executable, "-c", words], cwd=tmp_path, log=tmp_path / "log")
    assert done.code == 0
    assert 100_000_000 < done.peak_bytes < 250_000_000
    assert done.seconds > 0.3


def test_a_process_can_be_killed(tmp_path: Path) -> None:
    words = [sys.executable, "-c", "import time; time.sleep(60)"]
    assert run(words, cwd=tmp_path, log=tmp_path / "log", stop=lambda: True).code == -9


def test_both_sides_give_the_same_number_of_rows(tmp_path: Path) -> None:
    words = ["--images", "24", "--results", str(tmp_path), "--folder", str(tmp_path)]
    assert data.main(words) == 0
    result = json.loads((tmp_path / "data.json").read_text())
    assert [row["figure"] for row in result["rows"]] == ["seconds", "peak MB"]
    assert {turn["rows"] for turns in result["runs"].values() for turn in turns} == {24}
    assert [path.name for path in tmp_path.iterdir()] == ["data.json"]


def test_a_killed_build_is_compared_with_a_whole_one(tmp_path: Path) -> None:
    content = write_source(tmp_path / "source", 30, processes=1)
    for name in ("whole", "cut"):
        assert data.start("ours", content, tmp_path / name).code == 0
    same = data.compare_datasets(content, tmp_path / "whole", tmp_path / "cut", 30)
    # The manifest and the card name the folder's own path, so that they differ where folders have other names.
    assert same["complete"]
    assert same["same_content_hash"]
    assert same["doubled"] == same["lost"] == 0
    assert same["files_with_the_same_bytes"] == same["files"] - 1
    good = {"killed_by_signal": 9, **same, "files_with_the_same_bytes": same["files"]}
    assert data.is_whole(good)
    for name, wrong in (("lost", 1), ("doubled", 1), ("complete", False), ("killed_by_signal", 0)):
        assert not data.is_whole({**good, name: wrong})
