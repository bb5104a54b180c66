"""`ocrsmith train` as a user types it, with the native engine as the judge."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from ocrsmith.cli.main import main
from ocrsmith.cli.train import _features_bytes, native_score, resolve_settings
from ocrsmith.engines.decoding import DecodingSettings
from ocrsmith.errors import SettingsError
from ocrsmith.settings import LoraSettings
from ocrsmith.training.settings import ProcessingOverrides, TrainSettings

from .conftest import digits

SMALL = ["--max-steps", "4", "--batch-size", "2", "--accumulation", "1", "--lora-r", "4", "--device", "cpu"]


@pytest.fixture
def dataset(tmp_path, capsys) -> Path:
    source = tmp_path / "source"
    source.mkdir()
    for sample in digits(20):
        (source / sample.image_path).write_bytes(sample.image)
    (source / "content.md").write_text("".join(f"{s.image_path}\t{s.text}\n" for s in digits(20)))
    folder = tmp_path / "data"
    assert main(["data", "build", str(source / "content.md"), "-o", str(folder), "--splits", "rest/2/2"]) == 0
    capsys.readouterr()
    return folder


def train(model: Path, data: Path, out: Path, *more: str) -> int:
    return main(["train", "--model", str(model), "--data", str(data), "-o", str(out), *SMALL, *more])


def test_train_ends_with_the_best_adapter_that_eval_can_load(model_folder, dataset, tmp_path, capsys):
    assert train(model_folder, dataset, tmp_path / "run", "--json") == 0
    captured = capsys.readouterr()
    result = json.loads(captured.out)
    assert result["steps"] == 4
    assert result["best"]["step"] in (2, 4)
    assert Path(result["adapter"]) == tmp_path / "run/adapter"
    assert "of a sample's tokens" in captured.err
    assert (tmp_path / "run/adapter/ocrsmith_decoding.json").is_file()
    environment = json.loads((tmp_path / "run/environment.json").read_text())
    assert environment["dataset"]["content_hash"]
    command = ["eval", "--model", str(model_folder), "--adapter", str(tmp_path / "run/adapter")]
    assert main([*command, "--data", str(dataset), "-o", str(tmp_path / "eval"), "--max-new-tokens", "8"]) == 0
    assert json.loads((tmp_path / "eval/metrics.json").read_text())["n"] == 2


def test_dry_run_says_the_estimate_and_writes_nothing(model_folder, dataset, tmp_path, capsys):
    assert train(model_folder, dataset, tmp_path / "run", "--dry-run", "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert result["estimate"]["steps"] == 4
    assert result["estimate"]["seconds"] > 0
    assert 0 < result["estimate"]["trained_fraction"]["mean"] < 1
    assert not (tmp_path / "run").exists()


def test_a_recipe_with_options_over_it(model_folder, dataset, tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"model: {model_folder}\nepochs: 3\nseed: 5\nlora: {{r: 4, alpha: 8}}\n")
    options = ["--data", str(dataset), "-o", str(tmp_path / "run"), "--max-steps", "2", "--set", "lora.alpha=6"]
    assert main(["train", "--config", str(recipe), *options, "--set", "accumulation=1"]) == 0
    resolved = yaml.safe_load((tmp_path / "run/settings.yaml").read_text())
    assert (resolved["max_steps"], resolved["epochs"], resolved["seed"]) == (2, None, 5)
    assert (resolved["lora"]["r"], resolved["lora"]["alpha"]) == (4, 6)


@pytest.mark.parametrize(
    "recipe", sorted((Path(__file__).parents[2] / "recipes").glob("*.yaml")), ids=lambda p: p.stem
)
def test_every_recipe_is_valid(recipe, tmp_path):
    chosen = resolve_settings({"data": str(tmp_path)}, config=recipe)
    assert chosen.data == str(tmp_path)


def test_resume_takes_the_runs_own_settings(model_folder, dataset, tmp_path):
    assert train(model_folder, dataset, tmp_path / "run", "--seed", "9") == 0
    assert main(["train", "-o", str(tmp_path / "run"), "--resume", "--max-steps", "6"]) == 0
    resolved = yaml.safe_load((tmp_path / "run/settings.yaml").read_text())
    assert (resolved["seed"], resolved["max_steps"]) == (9, 6)
    steps = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in steps if "loss" in line] == [1, 2, 3, 4, 5, 6]


def test_ctrl_c_exits_130_and_says_how_to_go_on(model_folder, dataset, tmp_path):
    run = tmp_path / "run"
    command = [sys.executable, "-m", "ocrsmith.cli.main", "train", "--model", str(model_folder)]
    command += ["--data", str(dataset), "-o", str(run), *SMALL, "--max-steps", "100000", "--eval-every", "5000"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 120
    while time.monotonic() < until and not (run / "metrics.jsonl").is_file():
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "--resume" in err
    assert "Traceback" not in err
    assert list((run / "checkpoints").glob("checkpoint-*"))


def test_the_judge_counts_cut_off_and_failed_pages(make_model, processor):
    samples = [*digits(3), digits(1)[0].__class__("bad", b"no picture", "", "123")]
    figures = native_score(processor, DecodingSettings(), 4)(make_model(), samples)
    assert figures["n"] == 4
    assert figures["failed"] == 1
    assert figures["cer"]["max"] >= 1


def test_later_judgements_encode_no_image_again(make_model, processor, monkeypatch):
    model, samples = make_model(), digits(3)
    passes = []
    hook = model.model.sam_model.register_forward_hook(lambda *_: passes.append(1))
    plain = native_score(processor, DecodingSettings(), 4)
    keeping = native_score(processor, DecodingSettings(), 4, features_bytes=2**20)
    expected = plain(model, samples)["cer"]
    assert [keeping(model, samples)["cer"] for _ in range(3)] == [expected] * 3
    assert len(passes) == 2  # one of `plain`, one of `keeping`
    hook.remove()


def test_validation_images_are_encoded_anew_where_the_encoder_is_trained():
    def kept(**options):
        return _features_bytes(TrainSettings.from_values({"model": "m", "data": "d", **options}))

    assert 0 < kept() <= 20 * 2**30
    assert kept(cache_gb=1e-6) == int(1e-6 * 2**30)
    assert kept(cache_features="off") == kept(lora={"targets": ["projector"]}) == 0


def test_set_reaches_every_option_and_null_unsets(tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("model: nano\npatience: 2\nepochs: 3\n")

    def resolve(*assignments, **options):
        values = {"data": str(tmp_path), "max_steps": None, **options}
        return resolve_settings(values, assignments=assignments, config=recipe)

    assert resolve("eval_samples=null", "patience=null").eval_samples is None
    assert resolve("patience=null").patience is None
    chosen = resolve("max_steps=5", "lora.r=8", "learning_rate=2e-4", lora={"r": None})
    assert (chosen.max_steps, chosen.epochs, chosen.lora.r, chosen.learning_rate) == (5, None, 8, 2e-4)
    assert resolve("lora.r=8", lora={"r": 4}).lora.r == 4


def test_help_names_every_option_of_a_recipe(capsys):
    assert main(["train", "--help"]) == 0
    said = capsys.readouterr().out
    options = {**TrainSettings.model_fields, "lora-r": None, "mode": None, "prompt": None}
    for section, fields in (("lora", LoraSettings), ("processing", ProcessingOverrides)):
        del options[section]
        options.update({f"{section}.{name}": None for name in fields.model_fields})
    for name in options.keys() - {"lora.r", "processing.mode", "processing.prompt"}:
        assert name in said or "--" + name.replace("_", "-") in said, name


def test_settings_without_model_or_data_say_so(tmp_path):
    with pytest.raises(SettingsError, match="No model is given"):
        resolve_settings({"data": str(tmp_path)})
    with pytest.raises(SettingsError, match="No data is given"):
        resolve_settings({"model": "nano"})
    with pytest.raises(SettingsError, match="holds no run to go on with"):
        resolve_settings({}, run=tmp_path / "nowhere")
