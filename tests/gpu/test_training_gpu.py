"""Training on a GPU: number formats, loss scaling, steps that never wait for the GPU, memory that runs out."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest
import torch
from transformers import TrainerCallback

from ocrsmith.training import run as run_module
from ocrsmith.training import trainer as trainer_module
from ocrsmith.training.callbacks import StopAtNaN
from ocrsmith.training.figures import Notes
from ocrsmith.training.hardware import choose_hardware
from ocrsmith.training.micro_step import MicroStep
from ocrsmith.training.run import TrainingRun, run_processor
from ocrsmith.training.settings import TrainSettings

from ..training.conftest import Judge, digits, make_model, processor  # noqa: F401

pytestmark = pytest.mark.gpu


@pytest.fixture
def gpu_run(make_model, processor):  # noqa: F811
    def make(**options) -> TrainingRun:
        values = {
            "model": "tiny",
            "data": "digits",
            "max_steps": 6,
            "batch_size": 2,
            "accumulation": 2,
            "learning_rate": 1e-2,
            "warmup_steps": 1,
            "device": "cuda",
            "compiled": "off",
            "lora": {"r": 8},
            **options,
        }
        settings = TrainSettings.from_values(values)
        hardware = choose_hardware(settings)
        model = make_model().to(hardware.device, hardware.dtype)
        run = run_processor(processor, settings, model)
        return TrainingRun(model, run, digits(7), digits(2, 50), settings, score=Judge(0.5))

    return make


def lines(run: Path) -> list[dict]:
    found = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line for line in found if "loss" in line]


def losses(run: Path) -> list[float]:
    return [line["loss"] for line in lines(run)]


@pytest.fixture
def in_float32(gpu_run, tmp_path) -> list[float]:
    gpu_run(precision="fp32").train(tmp_path / "float32")
    return losses(tmp_path / "float32")


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"micro_batch": 1},
        {"packing": "off"},
        {"gradient_checkpointing": "selective"},
        {"gradient_checkpointing": "full"},
        {"expert_kernel": "loop"},
        {"cache_features": "off", "workers": 2},
        {"cache_features": "off", "workers": 0},
    ],
    ids=str,
)
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_every_way_gives_the_losses_of_float32(gpu_run, in_float32, tmp_path, precision, options):
    result = gpu_run(precision=precision, **options).train(tmp_path / "run")
    assert result.steps == 6
    found = lines(tmp_path / "run")
    assert losses(tmp_path / "run") == pytest.approx(in_float32, rel=0.05)
    assert all("grad_norm" in line for line in found[1:])


def test_float32_on_the_gpu_is_float32_on_the_cpu(gpu_run, in_float32, tmp_path, make_model, processor):  # noqa: F811
    settings = gpu_run().settings.model_copy(update={"device": "cpu", "precision": "fp32"})
    model = make_model()
    run = TrainingRun(model, run_processor(processor, settings, model), digits(7), [], settings)
    run.train(tmp_path / "cpu")
    assert losses(tmp_path / "cpu") == pytest.approx(in_float32, rel=1e-3)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_a_run_goes_on_where_it_stopped(gpu_run, tmp_path, precision):
    gpu_run(precision=precision, eval_every=3).train(tmp_path / "run")
    whole = losses(tmp_path / "run")
    (tmp_path / "run/checkpoints/checkpoint-6").rename(tmp_path / "old")
    gpu_run(precision=precision, eval_every=3).train(tmp_path / "run", resume=True)
    assert losses(tmp_path / "run") == pytest.approx(whole, rel=1e-2)
    saved = (tmp_path / "run/checkpoints/checkpoint-6/scaler.pt").is_file()
    assert saved == (precision == "fp16")


class NoWaiting(StopAtNaN):
    """From the second step on, whatever makes the host wait for the GPU within a step is an error."""

    def on_step_begin(self, args, state, control, **_):
        if state.global_step >= 2:
            torch.cuda.set_sync_debug_mode("error")

    def on_step_end(self, args, state, control, **kwargs):
        torch.cuda.set_sync_debug_mode("default")
        return super().on_step_end(args, state, control, **kwargs)


@pytest.mark.parametrize("options", [{}, {"cache_features": "off"}, {"micro_batch": 2}], ids=str)
def test_a_step_never_waits_for_the_gpu(gpu_run, tmp_path, monkeypatch, options):
    monkeypatch.setattr(run_module, "StopAtNaN", NoWaiting)
    try:
        assert gpu_run(precision="bf16", max_steps=8, **options).train(tmp_path / "run").steps == 8
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_late_figures_are_those_of_their_step(gpu_run, tmp_path, monkeypatch):
    gpu_run(precision="fp32", eval_every=4).train(tmp_path / "late")
    monkeypatch.setattr(trainer_module, "Notes", lambda device: Notes(device, lag=0))
    gpu_run(precision="fp32", eval_every=4).train(tmp_path / "at_once")
    late, at_once = lines(tmp_path / "late"), lines(tmp_path / "at_once")
    assert [line["step"] for line in late] == [line["step"] for line in at_once] == [1, 2, 3, 4, 5, 6]
    for name in ("loss", "grad_norm", "learning_rate"):
        assert [line[name] for line in late] == pytest.approx([line[name] for line in at_once], rel=1e-3), name


def test_memory_that_runs_out_is_survived(gpu_run, in_float32, tmp_path, monkeypatch):
    """Really runs out: the first micro-batch of more than two samples asks for more than any GPU has."""
    learn = MicroStep.__call__

    def greedy(self, batch, *args):
        if len(batch["sequence_lengths"]) > 2:
            torch.empty(2**44, device="cuda")
        return learn(self, batch, *args)

    monkeypatch.setattr(MicroStep, "__call__", greedy)
    result = gpu_run(precision="fp32").train(tmp_path / "run")
    assert result.retries == 1
    assert losses(tmp_path / "run") == pytest.approx(in_float32, rel=1e-3)


def test_an_interrupted_stream_leaves_no_thread(gpu_run, tmp_path):
    class Stop(TrainerCallback):
        def on_step_end(self, args, state, control, **_):
            raise KeyboardInterrupt

    run = gpu_run(precision="bf16", cache_features="off", workers=2)
    original = run_module.StopAtNaN
    try:
        run_module.StopAtNaN = Stop
        assert run.train(tmp_path / "run").interrupted
    finally:
        run_module.StopAtNaN = original
    assert "steps" not in {thread.name for thread in threading.enumerate()}
