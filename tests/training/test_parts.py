"""The parts of training by themselves: settings, survey, order, curves, hardware, figures."""

from __future__ import annotations

import io
import json

import pytest
import torch
from PIL import Image
from transformers import TrainerControl, TrainerState

from ocrsmith.errors import AdapterError, SettingsError
from ocrsmith.model.lora import add_lora, reload_adapter, save_adapter
from ocrsmith.settings import LoraSettings
from ocrsmith.training import hardware as hardware_module
from ocrsmith.training.arguments import warmup_steps
from ocrsmith.training.callbacks import Curves
from ocrsmith.training.collate import Collator, LengthGroups, TrainingItem, TrainingSamples
from ocrsmith.training.estimate import duration, steps_of
from ocrsmith.training.feature_cache import FeatureCache
from ocrsmith.training.hardware import available_memory, choose_hardware, loader_processes, peak_memory
from ocrsmith.training.settings import TrainSettings, changed_on_resume
from ocrsmith.training.survey import survey, upright_size
from ocrsmith.training.trainer import flatten, last_checkpoint

from .conftest import digits


def settings(**options) -> TrainSettings:
    return TrainSettings.from_values({"model": "m", "data": "d", **options})


def test_the_defaults_are_the_published_recipe():
    recipe = settings()
    assert (recipe.max_steps, recipe.batch_size, recipe.accumulation) == (60, 2, 4)
    assert (recipe.learning_rate, recipe.schedule, recipe.warmup_steps) == (2e-4, "linear", 5)
    assert (recipe.weight_decay, recipe.seed, recipe.optimizer) == (0.001, 3407, "auto")
    assert (recipe.lora.r, recipe.lora.alpha, recipe.lora.dropout) == (16, 16, 0)


@pytest.mark.parametrize(
    ("asked", "steps", "warmup"), [(5, 60, 5), (5, 8, 2), (5, 1, 0), (0, 60, 0), (9, 20, 5)]
)
def test_a_short_run_is_not_all_warm_up(asked, steps, warmup):
    assert warmup_steps(settings(warmup_steps=asked), steps) == warmup


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"learning_rate": 0}, "learning_rate = 0: input should be greater than 0"),
        ({"batch_size": 0}, "batch_size = 0"),
        ({"epochs": 0}, "epochs = 0: input should be greater than 0"),
        ({"cache_gb": float("nan")}, "cache_gb = nan: input should be a finite number"),
        ({"precision": "fp16", "device": "cpu"}, "precision = 'fp16': a CPU trains in fp32 or bf16 only"),
        ({"cache_features": "on", "lora": {"targets": ["vision"]}}, "cache_features = 'on'"),
        ({"lora": {"targets": ["everything"]}}, "lora.targets.0 = 'everything'"),
        ({"lora": {"rank": 8}}, "Unknown option 'lora.rank'"),
        ({"schedule": "step"}, "'linear', 'cosine' or 'constant'"),
    ],
)
def test_wrong_options_are_named(options, words):
    with pytest.raises(SettingsError) as error:
        settings(**options)
    assert words in str(error.value)


def test_what_may_change_when_a_run_goes_on():
    before = settings()
    assert changed_on_resume(before, settings(max_steps=90, workers=2, eval_every=7)) == []
    assert changed_on_resume(before, settings(lora={"r": 8})) == ["lora.r: 16 → 8"]


def test_older_recipes_and_bare_yaml_words_keep_their_meaning():
    assert settings(gradient_checkpointing=True).gradient_checkpointing == "full"
    assert settings(gradient_checkpointing=False).gradient_checkpointing == "none"
    chosen = settings(packing=False, compiled=False, cache_features=True)  # YAML's off, off, on
    assert (chosen.packing, chosen.compiled, chosen.cache_features) == ("off", "off", "on")
    free = {"micro_batch": 1, "gradient_checkpointing": "full", "packing": "off", "expert_kernel": "loop"}
    assert changed_on_resume(settings(), settings(**free, compiled="off")) == []
    assert changed_on_resume(settings(), settings(quantization="nf4")) == ["quantization: 'none' → 'nf4'"]


def test_steps_on_their_way_stay_within_half_of_shared_memory(monkeypatch):
    monkeypatch.setattr(hardware_module, "shared_memory", lambda: 1000)
    assert loader_processes(4, 10, True) == (4, 2)
    assert loader_processes(4, 100, True) == (4, 1)
    assert loader_processes(4, 200, True) == (2, 1)
    assert loader_processes(4, 10**6, True) == (1, 1)
    assert loader_processes(0, 10, True) == (0, 2)
    assert loader_processes(None, 10, False) == (0, 2)


def test_steps_by_hand():
    assert steps_of(settings(max_steps=7), 100) == 7
    # 100 samples: 50 batches of 2, 13 steps of 4 batches (the last short); 2.5 epochs are 32.5 steps
    assert steps_of(settings(epochs=1), 100) == 13
    assert steps_of(settings(epochs=2.5), 100) == 33
    assert steps_of(settings(epochs=1), 1) == 1


def test_the_survey_counts_what_encode_makes(processor):
    samples = digits(4)
    found = survey(samples, processor)
    for number, sample in enumerate(samples):
        encoded = processor.encode([sample.image], sample.prompt, sample.text)
        assert found.lengths[number] == encoded.num_tokens
        assert found.image_tokens[number] == encoded.num_image_tokens
        assert found.answer_tokens[number] == sum(label != -100 for label in encoded.labels)


def test_the_size_is_that_of_the_upright_image():
    image = Image.new("L", (30, 20))
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    file = io.BytesIO()
    image.save(file, "JPEG", exif=exif)
    assert upright_size(file.getvalue()) == (20, 30)


def test_labels_only_on_the_answer_and_no_mask(processor):
    samples = TrainingSamples(digits(3), processor, range(3))
    batch = Collator(processor)([samples[number] for number in range(3)])
    assert "attention_mask" not in batch
    for row, sample in enumerate(digits(3)):
        learned = batch["labels"][row][batch["labels"][row] != -100].tolist()
        assert learned[-1] == processor.tokens.eos
        assert processor.decode(learned[:-1]) == sample.text
    rows = batch["label_rows"].tolist()
    flat = batch["labels"].flatten()
    assert [flat[row + 1].item() for row in rows] == flat[flat != -100].tolist()


def test_cached_features_are_what_the_encoder_gives_for_the_sample_alone(make_model, processor):
    model = make_model()
    samples = TrainingSamples(digits(5), processor, [0, 1, 3, 4])
    cache = FeatureCache.build(model, samples, batch_size=3, workers=0)
    for number in range(4):
        batch = processor.collate([samples.encode(number)])
        with torch.no_grad():
            alone = model.encode_images(batch["views"], batch["image_layouts"])
        torch.testing.assert_close(cache(number), alone, rtol=1e-4, atol=1e-5)
        assert cache.encoded[number].views == []
    assert cache.nbytes == FeatureCache.size_of(4 * 73, 32, torch.float32)
    with_cache = Collator(processor, cache)(
        [TrainingItem(2, cache.encoded[2]), TrainingItem(0, cache.encoded[0])]
    )
    assert torch.equal(with_cache["image_features"], torch.cat([cache(2), cache(0)]))
    assert "views" not in with_cache


def test_length_groups_visit_all_and_repeat_by_seed_and_epoch():
    lengths = [(n * 37) % 101 for n in range(203)]
    order = LengthGroups(lengths, batch_size=4, seed=1)
    first = list(order)
    assert sorted(first) == list(range(203))
    assert first == list(LengthGroups(lengths, batch_size=4, seed=1))
    order.set_epoch(1)
    assert list(order) != first
    spreads = [max(b) - min(b) for b in ([lengths[i] for i in first[n : n + 4]] for n in range(0, 200, 4))]
    assert sum(spreads) / len(spreads) < 10  # in a random order about 60


def test_curves_forget_what_comes_again(tmp_path):
    curves = Curves(tmp_path)
    state, control = TrainerState(), TrainerControl()
    for step in (1, 2, 3):
        state.global_step = step
        curves.on_log(None, state, control, {"loss": 1.0 / step})
    curves.on_log(None, state, control, {"train_runtime": 1.0})
    curves.on_log(None, state, control, {"loss": float("nan")})
    curves.rewind(2)
    kept = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in kept] == [1, 2]


def test_flatten_and_duration_and_checkpoints(tmp_path):
    scores = {"cer": {"mean": 0.5, "mean_ci95": [0, 1]}, "n": 3, "ok": True, "none": None}
    assert flatten(scores) == {"cer.mean": 0.5, "n": 3.0}
    assert [duration(s) for s in (0.2, 45, 400, 7500)] == ["1 s", "45 s", "7 min", "2 h 05 min"]
    for name in ("checkpoint-2", "checkpoint-10", "checkpoint-30"):
        (tmp_path / "checkpoints" / name).mkdir(parents=True)
    for name in ("checkpoint-2", "checkpoint-10"):
        (tmp_path / "checkpoints" / name / "trainer_state.json").write_text("{}")
    assert last_checkpoint(tmp_path).name == "checkpoint-10"  # 30 was not finished
    assert last_checkpoint(tmp_path / "nowhere") is None


def test_hardware_on_a_cpu():
    hardware = choose_hardware(settings(device="cpu"))
    assert (hardware.precision, hardware.dtype, hardware.optimizer) == (
        "fp32",
        torch.float32,
        "adamw_torch_fused",
    )
    assert available_memory() > 2**20
    assert peak_memory(torch.device("cpu")) > 2**20
    with pytest.raises(SettingsError, match="bitsandbytes"):
        choose_hardware(settings(device="cpu", optimizer="adamw_8bit"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_no_gpu_is_said():
    with pytest.raises(SettingsError, match="no GPU"):
        choose_hardware(settings(device="cuda"))


def test_a_checkpoint_of_another_shape_is_refused(make_model, tmp_path):
    save_adapter(add_lora(make_model(), LoraSettings(r=4)), tmp_path / "checkpoint-1")
    with pytest.raises(AdapterError, match="another shape"):
        reload_adapter(add_lora(make_model(), LoraSettings(r=2)), tmp_path / "checkpoint-1")
