"""The benchmark commands, from options to result file, with the tiny model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from benchmarks.decode_worker import DecodingBench
from benchmarks.report import table, write_result

from benchmarks import decode, preprocess, train
from ocrsmith.errors import SettingsError


def test_decoding_is_measured_with_and_without_prefill() -> None:
    options = decode.parse(
        ["--size", "tiny", "--device", "cpu", "--workload", "L", "--tokens", "5", "--repeats", "2"]
    )
    settings = {**vars(options), "engine": "ours", "adapter": "merged", "results": None}
    told = DecodingBench(settings).respond({"batch": 2, "tokens": 5, "repeats": 2})
    assert len(told["whole"]) == len(told["prefill"]) == 2
    row, other = decode.rows_of(
        [
            {**told, "engine": "ours", "adapter": "merged", "batch": 2, "failure": None},
            {"engine": "r2", "adapter": "merged", "batch": 2, "failure": "out of memory"},
        ],
        options,
    )
    whole, prefill = sum(told["whole"]) / 2, sum(told["prefill"]) / 2
    assert row["pages/s"] == pytest.approx(2 / whole)
    assert row["ms/token"] == pytest.approx(1000 * max(whole - prefill, 1e-9) / 4)
    assert "ms/token" not in other


def test_preprocessing_is_measured(tmp_path: Path) -> None:
    assert preprocess.main(f"--workloads L --repeats 2 --images 1 --results {tmp_path}".split()) == 0
    rows = json.loads((tmp_path / "preprocess.json").read_text())["rows"]
    assert [(row["file"], row["paper"]) for row in rows] == [
        ("JPEG", "grey"),
        ("JPEG", "tinted"),
        ("PNG", "grey"),
    ]
    assert all(0 < row["decode ms"] < row["plain ms"] for row in rows)


@pytest.mark.parametrize("command", [train, decode])
def test_an_unknown_engine_is_refused(command: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--engines", "ours,vllm"]) == 2
    assert "vllm" in capsys.readouterr().err


def test_a_result_has_a_plain_name(tmp_path: Path) -> None:
    with pytest.raises(SettingsError):
        write_result("../else", {}, tmp_path)


def test_a_table_leaves_out_empty_columns() -> None:
    rows = [{"engine": "ours", "s": 0.123456}, {"engine": "r1", "s": None, "n": 12345.6}]
    assert table(rows, ["engine", "s", "nothing", "n"]).splitlines() == [
        "| engine | s     | n      |",
        "| ------ | ----- | ------ |",
        "| ours   | 0.123 | –      |",
        "| r1     | –     | 12,346 |",
    ]
