"""The training and memory benchmarks, from options to result file, with the tiny model."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from benchmarks.clock import Clock
from benchmarks.gpu_activity import activity_of, intervals_of
from benchmarks.memory_worker import MemoryBench
from benchmarks.reference import native_transformers
from benchmarks.train_data import FileSteps, peer_batches, ready_steps
from benchmarks.train_worker import start
from benchmarks.variants import engine_settings
from benchmarks.worker import Worker
from benchmarks.workloads import WORKLOADS, make_model, write_dataset

from benchmarks import memory, train
from ocrsmith.errors import SettingsError

LINE = WORKLOADS["L"]
CPU = torch.device("cpu")
Respond = Callable[[dict[str, Any]], dict[str, Any]]


def training_settings(engine: str = "ours", **changes: Any) -> dict[str, Any]:
    words = ["--size", "tiny", "--device", "cpu", "--samples", "4", "--workers", "0", "--accumulation", "2"]
    return {**engine_settings(engine, train.parse(words)), **changes}


def losses(respond: Respond, steps: int = 1) -> list[float]:
    found: list[float] = respond({"steps": steps, "seconds": 100})["loss"]
    return found


@pytest.fixture(scope="module")
def plain_losses() -> list[float]:
    return losses(start(training_settings())[1], 3)


# --- the command ----------------------------------------------------------------------------------------------


def test_training_is_measured_in_a_process_of_its_own(tmp_path: Path) -> None:
    arguments = "--size tiny --device cpu --engines ours,ours+cache+folder --workers 0 --samples 4"
    more = "--accumulation 2 --steps 2 --warmup 1 --curve 5 --name mine --note busy --commit abc"
    code = train.main([*arguments.split(), *more.split(), "--results", str(tmp_path)])
    result = json.loads((tmp_path / "mine.json").read_text())
    plain, cached = result["rows"]
    assert code == 0
    for row in (plain, cached):
        assert row["samples/s"] == pytest.approx(4 / row["s/step"])
        assert row["peak GiB"] > 0
        assert row["first step s"] > 0
        assert row["steps"] == 2
    assert plain["encode ms"] > 0
    assert "encode ms" not in cached, "its features are there already"
    told = result["engines"]["ours"]
    assert len(told["seconds"]) == 2
    assert len(told["curve"]) == 5
    assert plain["last loss"] == told["curve"][4]
    assert (cached["settings"]["cache"], cached["settings"]["data"]) == (True, "folder")
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
    (row,) = train.rows_of({"r1": told}, options)
    assert row["failure"] == worker.failure
    assert "s/step" not in row


def test_ratios_are_to_the_references_of_the_run() -> None:
    options = train.parse(["--size", "tiny", "--device", "cpu", "--batch", "1", "--accumulation", "3"])
    told = {
        name: {
            "failure": None,
            "seconds": [seconds] * 3,
            "parts": [{"forward": seconds}] * 3,
            "waited": [0.0] * 3,
            "curve": [],
            "peak_gib": 1.0,
            "setup_seconds": 1.0,
        }
        for name, seconds in (("ours", 0.5), ("r1", 8.0), ("r2", 2.0))
    }
    ours, r1, _ = train.rows_of(told, options)
    assert (ours["× r1"], ours["× r2"], ours["samples/s"]) == (16, 4, 6)
    assert (r1["× r2"], r1["forward ms"]) == (0.25, 8000)


@pytest.mark.parametrize("name", ["vllm", "ours+fast", "ours+micro"])
def test_an_unknown_engine_or_variant_is_refused(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert train.main(["--engines", name]) == 2
    assert name.split("+")[-1] in capsys.readouterr().err


def test_a_variant_changes_the_settings_of_its_engine_alone() -> None:
    options = train.parse(["--engines", "ours,ours+nf4+full+micro2", "--device", "cpu"])
    plain, changed = (engine_settings(name, options) for name in options.engines)
    different = {name for name in plain if plain[name] != changed[name]}
    assert different == {"quantization", "checkpointing", "micro"}
    assert changed["micro"] == 2


# --- what is measured -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["r1", "r2"])
@pytest.mark.parametrize("changes", [{"cache": True}, {"quantization": "nf4"}], ids=str)
def test_what_only_ours_has_is_refused_for_a_reference(engine: str, changes: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match=r"ours alone|16-bit"):
        start(training_settings(engine, **changes))


@pytest.mark.parametrize(
    ("changes", "tolerance"),
    [
        ({"dtype": "bf16"}, 0.02),
        ({"quantization": "nf4"}, 0.02),
        ({"checkpointing": "full"}, 1e-5),
        ({"checkpointing": "selective"}, 1e-5),
        ({"cache": True}, 1e-5),
        ({"experts": "loop"}, 1e-5),
        ({"micro": 1}, 1e-5),
        ({"micro": 3}, 1e-5),
    ],
    ids=str,
)
def test_switches_leave_the_losses_as_they_are(
    changes: dict[str, Any], tolerance: float, plain_losses: list[float]
) -> None:
    _, respond = start(training_settings(**changes))
    assert losses(respond, 3) == pytest.approx(plain_losses, rel=tolerance)


@pytest.mark.parametrize("engine", ["r1", "r2"])
def test_a_reference_takes_the_same_first_step(engine: str, plain_losses: list[float]) -> None:
    if engine == "r2" and not native_transformers.is_available():
        pytest.fail("the development environment has transformers with UnlimitedOcr")
    _, respond = start(training_settings(engine))
    assert losses(respond) == pytest.approx(plain_losses[:1], rel=1e-5)


def test_steps_end_when_time_is_up_and_parts_add_up() -> None:
    told, respond = start(training_settings())
    assert told["trainable_tensors"] > 0
    begun = time.perf_counter()
    answer = respond({"steps": 3, "seconds": 0})
    wall = time.perf_counter() - begun
    (seconds,) = answer["seconds"]
    (parts,) = answer["parts"]
    assert set(parts) == {"load", "encode", "forward+backward", "optimizer"}
    assert sum(parts.values()) == pytest.approx(seconds)
    assert seconds < wall
    assert 0 <= answer["waited"][0] <= parts["load"]


def test_a_profile_names_operators() -> None:
    _, respond = start(training_settings())
    answer = respond({"profile": True})
    assert "aten::mm" in answer["table"]
    assert answer["calls"] > 100


# --- data -----------------------------------------------------------------------------------------------------


def test_a_step_of_ours_has_the_samples_of_a_references_batches() -> None:
    settings = training_settings(samples=6)
    steps = ready_steps(settings, LINE, CPU)
    batches = peer_batches(settings, LINE, CPU)
    assert len(steps) == 3, "six samples come round after three steps of four"
    for step in steps:
        theirs = torch.cat([next(batches)["input_ids"] for _ in range(2)])
        assert torch.equal(step.input_ids.view(4, -1), theirs)


def test_ready_features_are_those_of_the_views() -> None:
    model = make_model("tiny")
    settings = training_settings(samples=2, accumulation=1)
    (plain,) = ready_steps(settings, LINE, CPU)
    (cached,) = ready_steps(settings, LINE, CPU, model)
    inputs = plain.part(0, 2)
    with torch.no_grad():
        expected = model.encode_images(inputs["views"], inputs["image_layouts"])
    assert torch.equal(cached.part(0, 2)["image_features"], expected)
    assert not cached.views


@pytest.mark.parametrize(("kind", "resize"), [("JPEG", "host"), ("PNG", "device")])
def test_files_come_as_whole_steps(kind: Any, resize: str, tmp_path: Path) -> None:
    write_dataset(tmp_path / "data", LINE, 4, kind)
    settings = training_settings(folder=str(tmp_path / "data"), resize=resize)
    steps = FileSteps(settings, LINE, CPU, make_model("tiny"))
    assert [len(step) for step, _ in zip(steps, range(3), strict=False)] == [4, 4, 4]
    steps.close()
    with pytest.raises(SettingsError, match="whole steps"):
        FileSteps({**settings, "accumulation": 3}, LINE, CPU, make_model("tiny"))


# --- time -----------------------------------------------------------------------------------------------------


def test_the_clock_gives_each_step_its_parts() -> None:
    clock = Clock(CPU)
    clock.start()
    for _ in range(2):
        for part in ("load", "learn", "load"):
            time.sleep(0.002)
            clock.mark(part)
        clock.end_step()
    first, second = clock.steps()
    assert set(first) == set(second) == {"load", "learn"}
    assert first["load"] >= 0.004
    clock.start()
    assert clock.steps() == []


def test_activity_counts_overlapping_kernels_once_and_tells_long_gaps() -> None:
    seen = activity_of([(3.0, 4.0), (1.0, 2.0), (1.5, 2.5), (2.50001, 3.0)])
    assert seen.window == pytest.approx(3.0)
    assert seen.busy == pytest.approx(3.0 - 1e-5)
    assert seen.waited == 0
    assert activity_of([(0.0, 1.0), (3.0, 4.0), (0.2, 0.3)]).waited == pytest.approx(2.0)
    assert activity_of([]).window == 0


def test_a_trace_counts_what_runs_on_the_gpu() -> None:
    def event(kind: str, name: str, start: float) -> dict[str, Any]:
        return {"ph": "X", "cat": kind, "name": name, "ts": start, "dur": 2.0}

    trace = {
        "traceEvents": [
            event("kernel", "gemm", 10.0),
            event("gpu_memset", "Memset (Device)", 20.0),
            event("gpu_memcpy", "Memcpy DtoD (Device -> Device)", 30.0),
            event("gpu_memcpy", "Memcpy HtoD (Pinned -> Device)", 40.0),
            event("cuda_runtime", "cudaLaunchKernel", 5.0),
            {"ph": "M", "name": "process_name"},
        ]
    }
    assert [round(1e6 * start) for start, _ in intervals_of(trace)] == [10, 20, 30]


# --- memory ---------------------------------------------------------------------------------------------------


def test_memory_is_measured_setting_by_setting(tmp_path: Path) -> None:
    arguments = "--size tiny --device cpu --workloads L --checkpointing none,full --accumulation 2 --name m"
    assert memory.main([*arguments.split(), "--results", str(tmp_path)]) == 0
    rows = json.loads((tmp_path / "m.json").read_text())["rows"]
    assert [(row["base"], row["optimizer"], row["checkpointing"]) for row in rows] == [
        ("bf16", "adamw", "none"),
        ("bf16", "adamw", "full"),
        ("nf4", "adamw", "none"),
        ("nf4", "adamw", "full"),
    ]
    for row in rows:
        assert row["measured GiB"] > row["predicted GiB"] > 0, "a process is more than its tensors"
        assert row["predicted GiB"] == pytest.approx(sum(row["predicted parts"].values()))
        assert row["difference %"] == pytest.approx(100 * (row["predicted GiB"] / row["measured GiB"] - 1))
        assert row["loss"] == pytest.approx(rows[0]["loss"], rel=0.03)


def test_a_setting_that_cannot_be_had_does_not_end_the_others() -> None:
    settings = {
        "size": "tiny",
        "batch": 1,
        "accumulation": 1,
        "compiled": False,
        "graphs": False,
        "device": "cpu",
    }
    bench = MemoryBench(settings)
    asked = {"base": "bf16", "workload": "L", "checkpointing": "none", "steps": 1}
    assert "8-bit" in bench.respond({**asked, "optimizer": "adamw_8bit"})["failed"]
    assert bench.respond({**asked, "optimizer": "adamw"})["loss"] > 0
    row = memory.row_of({"base": "bf16"}, {"failed": "out of memory"}, None)
    assert row == {"base": "bf16", "failure": "out of memory"}


def test_an_unknown_choice_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert memory.main(["--bases", "int3"]) == 2
    assert "int3" in capsys.readouterr().err
