"""The benchmark commands, from options to result file, with the tiny model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from benchmarks.decode_worker import DecodingBench
from benchmarks.report import table, write_result
from benchmarks.train_worker import start
from benchmarks.worker import Worker

from benchmarks import decode, preprocess, train
from ocrsmith.errors import SettingsError


def training_settings(**changes: Any) -> dict[str, Any]:
    options = vars(train.parse(["--size", "tiny", "--device", "cpu", "--samples", "2", "--workers", "0"]))
    options["accumulation"] = 2
    return {**options, "engine": "ours", "results": None, **changes}


@pytest.fixture(scope="module")
def plain_loss() -> float:
    return float(start(training_settings())[0]["first_loss"])


def test_training_is_measured_in_a_process_of_its_own(tmp_path: Path) -> None:
    arguments = (
        "--size tiny --device cpu --engines ours --cache --data folder --workers 0 --samples 2 --accumulation 2"
    )
    more = "--steps 2 --warmup 0 --name mine --note busy --commit abc"
    code = train.main([*arguments.split(), *more.split(), "--results", str(tmp_path)])
    result = json.loads((tmp_path / "mine.json").read_text())
    (row,) = result["rows"]
    assert code == 0
    assert row["samples/s"] == pytest.approx(4 / row["s/step"])
    assert row["peak GiB"] > 0
    assert len(result["engines"]["ours"]["seconds"]) == 2
    found = result["circumstances"]
    assert (found["commit"], found["note"]) == ("abc", "busy")
    assert found["versions"]["torch"]


def test_a_process_that_dies_is_a_failure_in_the_table() -> None:
    worker = Worker("benchmarks.there_is_none", {})
    assert worker.ask() == worker.ask({"steps": 1}) == {}
    worker.close()
    assert worker.failure == "the process ended with code 1"
    told = {"failure": worker.failure, "seconds": []}
    options = train.parse(["--size", "tiny", "--device", "cpu"])
    assert train.rows_of({"r1": told}, options) == [{"engine": "r1", "failure": worker.failure}]


@pytest.mark.parametrize("engine", ["r1", "r2"])
def test_only_ours_has_a_feature_cache(engine: str) -> None:
    with pytest.raises(SettingsError, match="feature cache"):
        start(training_settings(engine=engine, cache=True))


@pytest.mark.parametrize("changes", [{"dtype": "bf16"}, {"checkpointing": True}, {"cache": True}], ids=str)
def test_options_of_training_leave_the_loss_as_it_is(changes: dict[str, Any], plain_loss: float) -> None:
    told, respond = start(training_settings(**changes))
    assert told["first_loss"] == pytest.approx(plain_loss, rel=0.02)
    answer = respond({"steps": 3, "seconds": 0})
    assert len(answer["seconds"]) == 1, "the time was up after one"
    parts = answer["parts"][0]
    waited = parts.pop("host_waits_for_data")
    assert 0 <= waited < answer["seconds"][0]
    assert sum(parts.values()) == pytest.approx(answer["seconds"][0], rel=0.2)


def test_a_profile_names_operators() -> None:
    _, respond = start(training_settings(accumulation=1))
    answer = respond({"profile": True})
    assert "aten::mm" in answer["table"]
    assert answer["calls"] > 100


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
