"""Whole runs on a tiny random model: what is written, what is repeated exactly, how a run stops and goes on."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
from pathlib import Path

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from ocrsmith.cli.train import native_score
from ocrsmith.engines.decoding import DecodingSettings
from ocrsmith.errors import DataError, OutputError, SettingsError, TrainingError
from ocrsmith.model.lora import load_adapter
from ocrsmith.model.processing import OcrProcessor

from .conftest import Judge, digits

EVERYTHING = ["attention", "dense_mlp", "shared_experts", "routed_experts", "vision", "projector"]


def lines(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def losses(run: Path) -> dict[int, float]:
    return {line["step"]: line["loss"] for line in lines(run) if "loss" in line}


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "adapter_model.safetensors")


def console() -> tuple[Console, io.StringIO]:
    text = io.StringIO()
    return Console(file=text, width=200), text


def test_a_run_leaves_what_the_format_says(make_run, make_model, tmp_path):
    result = make_run().train(tmp_path / "run")
    assert {path.name for path in (tmp_path / "run").iterdir()} == {
        "settings.yaml",
        "environment.json",
        "adapter",
        "checkpoints",
        "metrics.jsonl",
        "tensorboard",
    }
    assert {path.name for path in result.adapter.iterdir()} >= {
        "adapter_config.json",
        "adapter_model.safetensors",
        "ocrsmith_processing.json",
        "tokenizer.json",
    }
    assert OcrProcessor.from_pretrained(result.adapter).settings.mode == "tiny"
    load_adapter(make_model(), result.adapter)
    first = lines(tmp_path / "run")[0]
    assert first.keys() >= {
        *("step", "loss", "learning_rate", "grad_norm", "samples_per_second", "tokens_per_second", "memory_gb")
    }
    assert list((tmp_path / "run/tensorboard").iterdir())
    environment = json.loads((tmp_path / "run/environment.json").read_text())
    assert environment["seed"] == 3407
    assert environment["versions"]["torch"] == torch.__version__


def test_training_lowers_the_loss(make_run, tmp_path):
    make_run(max_steps=40, learning_rate=0.03).train(tmp_path / "run")
    seen = losses(tmp_path / "run")
    assert seen[40] < seen[1] - 1


def test_two_runs_give_the_same_adapter(make_run, tmp_path):
    torch.set_num_threads(2)
    options = {"lora": {"r": 4, "dropout": 0.1}}
    for name in ("one", "two"):
        torch.rand(len(name) * 3)  # the state before must not matter
        make_run(**options).train(tmp_path / name)
    one, two = weights(tmp_path / "one/adapter"), weights(tmp_path / "two/adapter")
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_another_seed_gives_another_adapter(make_run, tmp_path):
    for seed in (1, 2):
        make_run(seed=seed).train(tmp_path / str(seed))
    one, two = weights(tmp_path / "1/adapter"), weights(tmp_path / "2/adapter")
    assert any(not torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("options", [{}, {"cache_features": "off"}, {"group_by_length": True}])
def test_resuming_gives_the_same_losses_and_weights(make_run, tmp_path, options):
    options = {"max_steps": 6, "eval_every": 3, "lora": {"r": 4, "dropout": 0.1}, **options}
    make_run(**options).train(tmp_path / "whole")
    shutil.copytree(tmp_path / "whole", tmp_path / "half")
    shutil.rmtree(tmp_path / "half/checkpoints/checkpoint-6")
    shutil.rmtree(tmp_path / "half/adapter")
    result = make_run(**options).train(tmp_path / "half", resume=True)
    assert result.steps == 6
    assert losses(tmp_path / "half") == losses(tmp_path / "whole")
    whole, half = weights(tmp_path / "whole/adapter"), weights(tmp_path / "half/adapter")
    assert all(torch.equal(whole[name], half[name]) for name in whole)


def test_cached_features_train_as_views_do(make_run, tmp_path):
    for choice in ("on", "off"):
        run = make_run(cache_features=choice)
        assert run.estimate.cache_features == (choice == "on")
        run.train(tmp_path / choice)
    cached, fresh = losses(tmp_path / "on"), losses(tmp_path / "off")
    assert cached == pytest.approx(fresh, rel=1e-5)


def test_the_cache_is_only_chosen_when_it_saves_work(make_run):
    assert make_run(max_steps=2).estimate.cache_features  # 8 looks at 7 samples
    assert not make_run(max_steps=1).estimate.cache_features
    assert not make_run(cache_gb=1e-6).estimate.cache_features
    assert not make_run(lora={"targets": ["attention", "projector"]}).estimate.cache_features


def test_vision_is_trained_when_asked_for(make_run, tmp_path):
    make_run(lora={"r": 2, "targets": ["vision", "projector"]}).train(tmp_path / "run")
    learned = weights(tmp_path / "run/adapter")
    assert any("sam_model" in name for name in learned)
    idle = [name for name, tensor in learned.items() if "lora_B" in name and not tensor.count_nonzero()]
    assert not idle, idle


def test_gradient_checkpointing_gives_the_same_losses_and_reaches_decoder_layers_only(make_run, tmp_path):
    make_run().train(tmp_path / "plain")
    run = make_run(gradient_checkpointing=True)
    on = {
        type(module).__name__
        for module in run.model.modules()
        if getattr(module, "gradient_checkpointing", False) is True
    }
    assert on == {"DecoderLayer"}
    run.train(tmp_path / "checkpointed")
    assert losses(tmp_path / "checkpointed") == pytest.approx(losses(tmp_path / "plain"), rel=1e-5)


@pytest.mark.parametrize("options", [{}, {"cache_features": "off", "lora": {"r": 3, "targets": EVERYTHING}}])
def test_bf16_trains_a_float32_adapter_on_a_bfloat16_base(make_run, tmp_path, options):
    """Under autocast in the steps, without it in the evaluations, which read with the adapter in place."""
    values = {"max_steps": 30, "learning_rate": 0.03, "eval_every": 30, **options}
    judged = []

    def judge(model, samples):
        assert not torch.is_autocast_enabled("cpu")
        judged.append(native_score(model_processor, DecodingSettings(), 3)(model, samples))
        return judged[-1]

    run = make_run(precision="bf16", validation=digits(2, 50), score=judge, **values)
    model_processor = run.processor
    base = run.model.get_base_model()
    assert base.lm_head.weight.dtype == base.dtype == torch.bfloat16
    trained = {p.dtype for p in run.model.parameters() if p.requires_grad}
    run.train(tmp_path / "run")
    seen = losses(tmp_path / "run")
    assert seen[30] < seen[1] - 0.5
    assert judged[0]["failed"] == 0
    assert trained == {torch.float32}
    learned = weights(tmp_path / "run/adapter")
    assert {tensor.dtype for tensor in learned.values()} == {torch.float32}
    idle = [name for name, tensor in learned.items() if "lora_B" in name and not tensor.count_nonzero()]
    assert not idle, idle


# --- evaluation on the way ---


def test_the_best_checkpoint_by_cer_becomes_the_adapter(make_run, tmp_path):
    judge = Judge(0.5, 0.2, 0.4)
    run = make_run(validation=digits(3, start=50), score=judge, max_steps=6, eval_every=2, keep_checkpoints=1)
    result = run.train(tmp_path / "run")
    assert (result.best["step"], result.best["cer.mean"]) == (4, 0.2)
    kept = {path.name for path in (tmp_path / "run/checkpoints").iterdir()}
    assert kept == {"checkpoint-4", "checkpoint-6"}
    best, adapter = weights(tmp_path / "run/best"), weights(result.adapter)
    at_best = weights(tmp_path / "run/checkpoints/checkpoint-4")
    last = weights(tmp_path / "run/checkpoints/checkpoint-6")
    assert all(torch.equal(best[name], adapter[name]) for name in best)
    assert all(torch.equal(best[name], at_best[name]) for name in best)
    assert any(not torch.equal(best[name], last[name]) for name in best)
    assert [line["val.cer.mean"] for line in lines(tmp_path / "run") if "val.cer.mean" in line] == [
        0.5,
        0.2,
        0.4,
    ]


def test_evaluating_does_not_change_the_training(make_run, tmp_path):
    options = {"max_steps": 4, "lora": {"r": 4, "dropout": 0.2}}
    make_run(**options).train(tmp_path / "alone")
    make_run(validation=digits(2, 50), score=Judge(0.3), eval_every=1, **options).train(tmp_path / "judged")
    assert losses(tmp_path / "judged") == losses(tmp_path / "alone")


def test_patience_ends_a_run_that_gets_no_better(make_run, tmp_path):
    judge = Judge(0.5, 0.2, 0.4, 0.3, 0.1)
    run = make_run(validation=digits(2, 50), score=judge, max_steps=20, eval_every=1, patience=2)
    result = run.train(tmp_path / "run")
    assert result.steps == 4
    assert result.best["step"] == 2
    assert not result.interrupted


def test_the_last_step_is_evaluated(make_run, tmp_path):
    judge = Judge(0.5)
    make_run(validation=digits(2, 50), score=judge, max_steps=5, eval_every=2).train(tmp_path / "run")
    assert [line["step"] for line in lines(tmp_path / "run") if "val.seconds" in line] == [2, 4, 5]


def test_a_choice_of_validation_samples_stays_the_same(make_run, tmp_path):
    judge = Judge(0.5)
    run = make_run(validation=digits(9, 50), score=judge, max_steps=2, eval_every=1, eval_samples=4)
    run.train(tmp_path / "run")
    assert judge.asked[0] == judge.asked[1]
    assert len(judge.asked[0]) == 4


def test_another_figure_can_choose_the_best(make_run, tmp_path):
    run = make_run(
        validation=digits(2, 50), score=Judge(0.5), max_steps=1, eval_every=1, eval_metric="cer.micro"
    )
    assert run.train(tmp_path / "run").best["cer.micro"] == 0.25


def test_without_validation_the_last_adapter_is_kept_and_said_so(make_run, tmp_path):
    out, text = console()
    run = make_run(console=out)
    run.explain()
    assert "No validation samples" in text.getvalue()
    result = run.train(tmp_path / "run")
    assert result.best == {}
    last = weights(tmp_path / "run/checkpoints/checkpoint-4")
    assert all(torch.equal(tensor, last[name]) for name, tensor in weights(result.adapter).items())


# --- stopping and going on ---


class Stopper(Judge):
    """Presses Ctrl-C while pages are read."""

    def __call__(self, model, samples):
        if len(self.asked) == 1:
            os.kill(os.getpid(), signal.SIGINT)
        return super().__call__(model, samples)


def test_ctrl_c_while_reading_keeps_a_checkpoint_and_resume_finishes(make_run, tmp_path):
    validation = digits(2, 50)
    options = {"max_steps": 6, "eval_every": 2}
    make_run(validation=validation, score=Judge(0.5), **options).train(tmp_path / "whole")
    result = make_run(validation=validation, score=Stopper(0.5), **options).train(tmp_path / "run")
    assert result.interrupted
    assert result.checkpoint.name == "checkpoint-4"
    assert result.adapter is None
    result = make_run(validation=validation, score=Judge(0.5), **options).train(tmp_path / "run", resume=True)
    assert result.steps == 6
    assert losses(tmp_path / "run") == losses(tmp_path / "whole")


def test_ctrl_c_in_a_step_stops_after_it(make_run, tmp_path, monkeypatch):
    run = make_run(max_steps=6, micro_batch=2)
    forward = type(run.model).forward
    calls = []

    def pressing(self, *args, **kwargs):
        calls.append(1)
        if len(calls) == 3:  # the first of the two micro-batches of step 2
            os.kill(os.getpid(), signal.SIGINT)
        return forward(self, *args, **kwargs)

    monkeypatch.setattr(type(run.model), "forward", pressing)
    before = signal.getsignal(signal.SIGINT)
    result = run.train(tmp_path / "run")
    assert result.interrupted
    assert result.checkpoint.name == "checkpoint-2"
    assert signal.getsignal(signal.SIGINT) is before
    assert not (tmp_path / "run/adapter").exists()


def test_nan_loss_stops_with_advice_and_keeps_the_last_good_checkpoint(make_run, tmp_path):
    run = make_run(max_steps=6, eval_every=1, learning_rate=1e-3, micro_batch=2)
    forward = type(run.model).forward
    calls = []

    class Sick(type(run.model)):
        def forward(self, *args, **kwargs):
            outputs = forward(self, *args, **kwargs)
            calls.append(1)
            if len(calls) > 4:
                outputs["loss"] = outputs["loss"] * float("nan")
            return outputs

    run.model.__class__ = Sick
    with pytest.raises(TrainingError) as error:
        run.train(tmp_path / "run")
    assert "step 3" in str(error.value)
    assert "lower learning_rate (to 0.0003)" in str(error.value)
    kept = sorted(path.name for path in (tmp_path / "run/checkpoints").iterdir())
    assert kept == ["checkpoint-1", "checkpoint-2"]
    assert all(t.isfinite().all() for t in weights(tmp_path / "run/checkpoints/checkpoint-2").values())


def test_a_run_in_the_folder_is_not_overwritten_unasked(make_run, tmp_path):
    make_run(max_steps=1).train(tmp_path / "run")
    with pytest.raises(OutputError, match="holds a run already"):
        make_run(max_steps=1).train(tmp_path / "run")
    make_run(max_steps=2).train(tmp_path / "run", overwrite=True)
    assert [line["step"] for line in lines(tmp_path / "run")] == [1, 2]


def test_another_run_is_not_resumed(make_run, tmp_path):
    make_run(max_steps=1).train(tmp_path / "run")
    with pytest.raises(SettingsError, match=r"learning_rate: 0\.01 → 0\.02"):
        make_run(max_steps=2, learning_rate=0.02).train(tmp_path / "run", resume=True)


def test_a_finished_run_resumes_to_its_end_at_once(make_run, tmp_path):
    make_run(max_steps=2).train(tmp_path / "run")
    before = (tmp_path / "run/metrics.jsonl").read_text()
    result = make_run(max_steps=2).train(tmp_path / "run", resume=True)
    assert result.steps == 2
    assert result.adapter.is_dir()
    assert (tmp_path / "run/metrics.jsonl").read_text() == before


def test_what_a_killed_run_left_half_written_neither_blocks_resuming_nor_stays(make_run, tmp_path):
    make_run(max_steps=1).train(tmp_path / "run")
    scrap = [tmp_path / "run" / name for name in (".best-ab12", ".adapter-cd34", "checkpoints/.checkpoint-2-x")]
    for folder in scrap:
        folder.mkdir()
        (folder / "adapter_model.safetensors").write_bytes(b"half")
    (tmp_path / "run/.settings.yaml-ef56").write_text("model: t")
    assert make_run(max_steps=2).train(tmp_path / "run", resume=True).steps == 2
    assert list((tmp_path / "run").rglob(".*")) == []


def test_an_adapter_by_itself_is_not_replaced_unasked(make_run, tmp_path):
    (tmp_path / "run/adapter").mkdir(parents=True)
    (tmp_path / "run/adapter/adapter_config.json").write_text("{}")
    with pytest.raises(OutputError, match="holds a run already"):
        make_run(max_steps=1).train(tmp_path / "run")
    assert (tmp_path / "run/adapter/adapter_config.json").read_text() == "{}"


def test_a_folder_with_other_things_is_left_alone(make_run, tmp_path):
    (tmp_path / "thesis.docx").write_text("years of work")
    with pytest.raises(OutputError, match=r"thesis\.docx"):
        make_run(max_steps=1).train(tmp_path, overwrite=True)
    assert (tmp_path / "thesis.docx").read_text() == "years of work"


# --- unusual data ---


def test_a_log_has_a_line_for_each_evaluation_and_a_tenth_of_the_way_at_most(make_run, tmp_path):
    out, text = console()
    options = {"max_steps": 30, "eval_every": 15, "batch_size": 1, "accumulation": 1}
    make_run(validation=digits(2, 50), score=Judge(0.5, 0.25), console=out, **options).train(tmp_path / "run")
    lines = [line for line in text.getvalue().splitlines() if line.startswith("step ")]
    steps = [int(line.split()[1].split("/")[0]) for line in lines]
    assert steps == [3, 6, 9, 12, 15, 18, 21, 24, 27, 30]
    assert [
        (step, line.split("CER ")[1]) for step, line in zip(steps, lines, strict=True) if "CER" in line
    ] == [
        (15, "50.00%"),
        (30, "25.00%"),
    ]


def test_one_sample_trains_with_a_warning(make_run, tmp_path):
    out, text = console()
    run = make_run(train=digits(1), console=out, max_steps=3)
    run.explain()
    assert "Only 1 sample:" in text.getvalue()
    assert run.train(tmp_path / "run").steps == 3


def test_no_sample_is_an_error(make_run):
    with pytest.raises(DataError, match="nothing to train on"):
        make_run(train=[])


def test_samples_over_the_limit_are_listed_left_out_or_refused(make_run, tmp_path):
    samples = [*digits(5), digits(1, 90)[0].__class__("long", digits(1)[0].image, "long.png", "9" * 400)]
    out, text = console()
    run = make_run(train=samples, console=out)
    assert "1 of 6 samples are too long" in text.getvalue()
    assert "long: 485 tokens (84 image and prompt), the limit is 256" in text.getvalue()
    run.train(tmp_path / "run")
    left_out = json.loads((tmp_path / "run/excluded.jsonl").read_text())
    assert (left_out["reason"], left_out["image_path"]) == ("too_long", "long.png")
    with pytest.raises(DataError, match="too long"):
        make_run(train=samples, too_long="error")


def test_an_image_that_is_none_is_named(make_run):
    broken = digits(1)[0].__class__("bad-one", b"no picture", "scans/bad.png", "1")
    with pytest.raises(DataError) as error:
        make_run(train=[*digits(2), broken])
    assert "bad-one" in str(error.value)
    assert "scans/bad.png" in str(error.value)


def test_a_broken_image_in_a_worker_is_named_without_traceback(make_run, tmp_path):
    whole = digits(1, 3)[0]
    cut = whole.__class__("cut", whole.image[: len(whole.image) // 2], "cut.png", "1")
    run = make_run(train=digits(5), cache_features="off", workers=1)
    run.samples.samples = [*digits(4), cut]
    with pytest.raises(DataError) as error:
        run.train(tmp_path / "run")
    assert "The sample 'cut' cannot be prepared" in error.value.problem
    assert "Traceback" not in str(error.value)


# --- before the run ---


def test_the_estimate_says_steps_time_memory_and_the_trained_share(make_run):
    out, text = console()
    run = make_run(console=out, validation=digits(2, 50), score=Judge(0.5))
    run.explain()
    said = text.getvalue()
    for words in (
        "7 samples",
        "of a sample's tokens",
        "4 steps of 4 samples",
        "time",
        "memory",
        "evaluations of 2",
    ):
        assert words in said
    # by hand: 1 bos + 64 + 8 + 1 image tokens + 10 of the prompt, then digits and eos
    shortest, longest = 84 + 1 + 1, 84 + 3 + 1
    assert (run.estimate.tokens.least, run.estimate.tokens.greatest) == (shortest, longest)
    assert run.estimate.trained_fraction.least == pytest.approx(2 / shortest)


def test_estimating_leaves_no_trace(make_run):
    run = make_run()
    assert all(parameter.grad is None for parameter in run.model.parameters())
    state = torch.get_rng_state()
    run._estimate()
    assert torch.equal(state, torch.get_rng_state())


def test_epochs_in_place_of_steps(make_run, tmp_path):
    run = make_run(epochs=3.0)  # 7 samples: 4 batches of at most 2: 2 steps an epoch
    assert run.estimate.steps == 6
    run.train(tmp_path / "run")
    assert lines(tmp_path / "run")[-1]["epoch"] == pytest.approx(3.0)


def test_loss_is_averaged_over_the_tokens_of_a_step(make_run, make_model, processor, tmp_path):
    """A step of 2 batches has the mean loss of all its answer tokens together, as one big batch gives it."""
    samples = digits(4)
    make_run(train=samples, max_steps=1).train(tmp_path / "run")
    model = make_model()
    encoded = [processor.encode([s.image], None, s.text) for s in samples]
    batch = processor.collate(encoded)
    with torch.no_grad():
        logits = model(
            **{k: batch[k] for k in ("input_ids", "attention_mask", "views", "image_layouts")}
        ).logits
    expected = torch.nn.functional.cross_entropy(
        logits[:, :-1].flatten(0, 1), batch["labels"][:, 1:].flatten(), ignore_index=-100
    )
    assert losses(tmp_path / "run")[1] == pytest.approx(expected.item(), rel=1e-5)


def test_every_epoch_has_another_order_of_length_groups(make_run, tmp_path, monkeypatch):
    from ocrsmith.training.collate import LengthGroups

    told = []
    monkeypatch.setattr(LengthGroups, "set_epoch", lambda self, epoch: told.append(epoch))
    make_run(group_by_length=True, epochs=2.0).train(tmp_path / "run")
    assert {0, 1} <= set(told)
