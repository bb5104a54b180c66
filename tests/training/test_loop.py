"""The training loop against transformers' own: order, late figures, loss scaling, memory that runs out."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from accelerate.data_loader import SeedableRandomSampler
from rich.console import Console
from safetensors.torch import load_file
from transformers import Trainer, TrainingArguments, set_seed

from ocrsmith.errors import TrainingError
from ocrsmith.model.lora import add_lora
from ocrsmith.settings import LoraSettings
from ocrsmith.training import trainer as trainer_module
from ocrsmith.training.collate import Collator, LengthGroups, TrainingSamples
from ocrsmith.training.estimate import _timed
from ocrsmith.training.feature_cache import FeatureCache
from ocrsmith.training.figures import Notes
from ocrsmith.training.micro_batches import Division
from ocrsmith.training.run import TrainingRun
from ocrsmith.training.step_stream import StepOrder, StepStream

from .conftest import digits


def lines(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def losses(run: Path) -> dict[int, float]:
    return {line["step"]: line["loss"] for line in lines(run) if "loss" in line}


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "adapter_model.safetensors")


def plain_trainer(model, processor, folder: Path, steps: int) -> tuple[dict[int, float], dict]:
    """transformers' Trainer by itself: padded batches of 2, 2 of them accumulated. Losses and final adapter."""
    set_seed(3407)
    adapted = add_lora(model, LoraSettings(r=4))
    arguments = TrainingArguments(
        output_dir=str(folder),
        max_steps=steps,
        per_device_train_batch_size=2,
        gradient_accumulation_steps=2,
        learning_rate=1e-2,
        warmup_steps=1,
        weight_decay=0.001,
        optim="adamw_torch",
        seed=3407,
        data_seed=3407,
        use_cpu=True,
        logging_steps=1,
        save_strategy="no",
        remove_unused_columns=False,
        label_names=["labels"],
        report_to=[],
        disable_tqdm=True,
    )
    samples = TrainingSamples(digits(7), processor, range(7))
    trainer = Trainer(adapted, arguments, Collator(processor), samples)
    trainer.train()
    history = {entry["step"]: entry["loss"] for entry in trainer.state.log_history if "loss" in entry}
    adapted.save_pretrained(folder)
    return history, weights(folder)


@pytest.mark.parametrize("options", [{}, {"micro_batch": 3}, {"packing": "off"}, {"cache_features": "off"}])
def test_a_run_is_the_one_of_transformers_own_trainer(make_run, make_model, processor, tmp_path, options):
    """5 steps over 7 samples, 4 a step: short steps at the ends of epochs, batches of 2 accumulated there."""
    expected, adapter = plain_trainer(make_model(), processor, tmp_path / "plain", 5)
    result = make_run(max_steps=5, **options).train(tmp_path / "run")
    assert losses(tmp_path / "run") == pytest.approx(expected, rel=2e-5)
    for name, tensor in weights(result.adapter).items():
        torch.testing.assert_close(tensor, adapter[name], rtol=1e-3, atol=1e-5)


def test_the_order_is_that_of_accelerates_sampler():
    sampler = SeedableRandomSampler(range(7), generator=torch.Generator(), data_seed=3407)
    expected = []
    for epoch in range(3):
        sampler.set_epoch(epoch)
        order = list(sampler)
        expected += [order[:4], order[4:]]
    assert list(StepOrder(7, 4, 3407, last=6)) == expected
    assert list(StepOrder(7, 4, 3407, first=3, last=6)) == expected[3:]


def test_groups_of_like_length_keep_their_batches():
    lengths = [(n * 37) % 101 for n in range(40)]
    order = LengthGroups(lengths, batch_size=2, seed=1)
    steps = list(StepOrder(40, 8, 1, last=10, grouping=order))
    order.set_epoch(0)
    assert [n for step in steps[:5] for n in step] == list(order)
    order.set_epoch(1)
    assert [n for step in steps[5:] for n in step] == list(order)


@pytest.mark.parametrize("workers", [0, 2])
def test_the_stream_gives_every_step_in_order(processor, workers):
    samples = TrainingSamples(digits(7), processor, range(7))
    state = torch.get_rng_state()
    stream = StepStream(samples, StepOrder(7, 4, 5, last=5), torch.device("cpu"), workers=workers)
    assert [batch.indices for batch in stream] == list(StepOrder(7, 4, 5, last=5))
    stream.close()
    assert torch.equal(torch.get_rng_state(), state)


def test_a_run_goes_on_with_another_micro_batch(make_run, tmp_path):
    make_run(max_steps=6, eval_every=3).train(tmp_path / "whole")
    make_run(max_steps=6, eval_every=3, micro_batch=1).train(tmp_path / "half")
    for name in ("checkpoints/checkpoint-6", "adapter"):
        (tmp_path / "half" / name).rename(tmp_path / name.replace("/", "-"))
    make_run(max_steps=6, eval_every=3, micro_batch=3).train(tmp_path / "half", resume=True)
    assert losses(tmp_path / "half") == pytest.approx(losses(tmp_path / "whole"), rel=1e-4)


# --- figures --------------------------------------------------------------------------------------------------


@pytest.fixture
def late(monkeypatch):
    """Figures arrive a step late, as on a GPU."""
    monkeypatch.setattr(trainer_module, "Notes", lambda device: Notes(device, lag=1))


@pytest.mark.parametrize("every", [1, 2])
def test_late_figures_are_the_same_figures(make_run, tmp_path, monkeypatch, every):
    options = {"max_steps": 7, "eval_every": 3, "log_every": every}
    make_run(**options).train(tmp_path / "at_once")
    monkeypatch.setattr(trainer_module, "Notes", lambda device: Notes(device, lag=1))
    make_run(**options).train(tmp_path / "late")

    def kept(run):
        return [
            {k: line[k] for k in ("step", "epoch", "loss", "grad_norm", "learning_rate")} for line in lines(run)
        ]

    assert kept(tmp_path / "late") == kept(tmp_path / "at_once")
    whole = json.loads((tmp_path / "late/checkpoints/checkpoint-6/trainer_state.json").read_text())
    assert [entry["step"] for entry in whole["log_history"]] == (
        [1, 2, 3, 4, 5, 6] if every == 1 else [2, 3, 4, 6]
    )


@pytest.mark.usefixtures("late")
def test_a_late_figure_that_is_no_number_stops_before_anything_is_saved(make_run, tmp_path):
    run = make_run(max_steps=6, eval_every=2, learning_rate=1e-3)
    forward = type(run.model).forward
    calls = []

    class Sick(type(run.model)):
        def forward(self, *args, **kwargs):
            outputs = forward(self, *args, **kwargs)
            calls.append(1)
            if len(calls) > 2:
                outputs["loss"] = outputs["loss"] * float("nan")
            return outputs

    run.model.__class__ = Sick
    with pytest.raises(TrainingError, match="at step 3: loss nan"):
        run.train(tmp_path / "run")
    assert [path.name for path in (tmp_path / "run/checkpoints").iterdir()] == ["checkpoint-2"]


# --- loss scaling ---------------------------------------------------------------------------------------------


@pytest.fixture
def scaled(monkeypatch):
    """Runs scale their loss, as with fp16."""
    plain = TrainingRun._loop

    def loop(self):
        made = plain(self)
        made.loss_scaling = True
        return made

    monkeypatch.setattr(TrainingRun, "_loop", loop)


def test_a_scaled_loss_gives_the_same_run(make_run, tmp_path, request):
    make_run(max_steps=4, max_grad_norm=0.01).train(tmp_path / "plain")
    request.getfixturevalue("scaled")
    make_run(max_steps=4, max_grad_norm=0.01).train(tmp_path / "scaled")
    for name in ("loss", "grad_norm", "learning_rate"):
        ours, theirs = ([line[name] for line in lines(tmp_path / run)] for run in ("scaled", "plain"))
        assert ours == pytest.approx(theirs, rel=1e-4), name
    one, two = weights(tmp_path / "plain/adapter"), weights(tmp_path / "scaled/adapter")
    assert all(torch.allclose(one[name], two[name], rtol=1e-3, atol=1e-6) for name in one)


def overflowing(run: TrainingRun, step: int) -> None:
    """Makes the gradients of that step infinite."""
    forward, calls = type(run.model).forward, []

    class Hot(type(run.model)):
        def forward(self, *args, **kwargs):
            outputs = forward(self, *args, **kwargs)
            calls.append(1)
            if len(calls) == step:
                outputs["loss"].register_hook(lambda grad: grad * float("inf"))
            return outputs

    run.model.__class__ = Hot


@pytest.mark.usefixtures("scaled")
def test_a_step_that_overflows_is_left_out_and_the_schedule_waits(make_run, tmp_path):
    run = make_run(max_steps=4, eval_every=1, keep_checkpoints=9)
    overflowing(run, step=3)
    run.train(tmp_path / "run")
    rates = [line["learning_rate"] for line in lines(tmp_path / "run")]
    assert rates[3] == rates[2]
    assert ["grad_norm" in line for line in lines(tmp_path / "run")] == [True, True, False, True]
    adapters = [weights(tmp_path / f"run/checkpoints/checkpoint-{n}") for n in (1, 2, 3, 4)]
    same = [all(torch.equal(a[k], b[k]) for k in a) for a, b in itertools.pairwise(adapters)]
    assert same == [False, True, False]
    scaler = torch.load(tmp_path / "run/checkpoints/checkpoint-4/scaler.pt", weights_only=True)
    assert scaler["scale"] == 2.0**11


@pytest.mark.usefixtures("scaled")
def test_the_scale_is_part_of_a_checkpoint(make_run, tmp_path):
    options = {"max_steps": 6, "eval_every": 3}
    run = make_run(**options)
    overflowing(run, step=2)
    run.train(tmp_path / "run")
    (tmp_path / "run/checkpoints/checkpoint-6").rename(tmp_path / "old")
    expected = losses(tmp_path / "run")
    make_run(**options).train(tmp_path / "run", resume=True)
    scaler = torch.load(tmp_path / "run/checkpoints/checkpoint-6/scaler.pt", weights_only=True)
    assert scaler["scale"] == 2.0**11
    assert losses(tmp_path / "run") == expected


# --- memory that runs out -------------------------------------------------------------------------------------


def cramped(run: TrainingRun, room: int) -> None:
    """Memory runs out where more samples than that go through the model at once."""
    forward = type(run.model).forward

    class Cramped(type(run.model)):
        def forward(self, *args, **kwargs):
            if len(kwargs["sequence_lengths"]) > room:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.")
            return forward(self, *args, **kwargs)

    run.model.__class__ = Cramped


def test_a_run_whose_memory_runs_out_goes_on_in_smaller_pieces_and_says_so(make_run, tmp_path):
    make_run().train(tmp_path / "plain")
    said = Console(record=True, width=200, file=open("/dev/null", "w"))  # noqa: SIM115
    run = make_run(console=said)
    cramped(run, 2)
    result = run.train(tmp_path / "run")
    assert (result.steps, result.retries) == (4, 1)
    assert (
        "4 samples at once did not fit into the GPU's memory: the step is done again with 2."
        in said.export_text()
    )
    assert losses(tmp_path / "run") == pytest.approx(losses(tmp_path / "plain"), rel=1e-5)
    figures = lines(tmp_path / "run")
    assert {line["out_of_memory"] for line in figures} == {1}
    assert {line["micro_batch"] for line in figures} == {2}


def test_estimating_and_encoding_give_way_too(make_run, tmp_path, monkeypatch):
    build, batches = FeatureCache.build, []

    def cramped_build(*args, batch_size, **options):
        batches.append(batch_size)
        if batch_size > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return build(*args, batch_size=batch_size, **options)

    monkeypatch.setattr(FeatureCache, "build", cramped_build)
    make_run(cache_features="on").train(tmp_path / "run")
    assert batches == [8, 4, 2]

    class Measure:
        asked: ClassVar[list] = []

        def __call__(self, numbers, division):
            self.asked.append(division.most)
            if division.most != 1:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return 1.0, 2.0

        def forget(self):
            pass

    assert _timed(Measure(), range(5), Division())[:2] == (1.0, 2.0)
    assert Measure.asked == [None, 2, 1]


def test_when_not_even_one_sample_fits_there_is_advice(make_run, tmp_path):
    run = make_run()
    cramped(run, 0)
    with pytest.raises(TrainingError) as error:
        run.train(tmp_path / "run")
    assert "only one sample" in str(error.value)
    assert "gradient_checkpointing full" in str(error.value)
    assert "quantization nf4" in str(error.value)
