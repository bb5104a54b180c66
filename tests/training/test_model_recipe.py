"""What a base model asks of a training, and what wins over it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml

from ocrsmith.cli.main import main
from ocrsmith.cli.train import resolve_settings
from ocrsmith.errors import SettingsError
from ocrsmith.training.model_recipe import RECIPE_FILE, read_model_recipe, wishes_granted
from ocrsmith.training.settings import TrainSettings

from .conftest import digits

WISHES = "learning_rate: 2e-3\nlora:\n  targets: [attention, projector]\n"


@pytest.fixture
def base(tmp_path) -> Path:
    folder = tmp_path / "base"
    folder.mkdir()
    (folder / RECIPE_FILE).write_text(WISHES)
    return folder


def resolve(model: object, tmp_path: Path, *assignments: str, config: str = "", **options) -> TrainSettings:
    recipe = None
    if config:
        recipe = tmp_path / "recipe.yaml"
        recipe.write_text(config)
    values = {"model": str(model), "data": str(tmp_path), **options}
    return resolve_settings(values, assignments=assignments, config=recipe)


def test_the_models_recipe_lies_over_the_defaults_alone(base, tmp_path):
    chosen = resolve(base, tmp_path)
    assert (chosen.learning_rate, chosen.lora.targets) == (0.002, ("attention", "projector"))
    assert (chosen.max_steps, chosen.lora.r) == (60, 16)
    assert resolve(base, tmp_path, config="learning_rate: 0.001").learning_rate == 0.001
    assert resolve(base, tmp_path, "learning_rate=0.003", config="learning_rate: 0.001").learning_rate == 0.003
    assert resolve(base, tmp_path, "learning_rate=0.003", learning_rate=0.004).learning_rate == 0.004
    partly = resolve(base, tmp_path, lora={"r": 4}).lora
    assert (partly.r, partly.targets) == (4, ("attention", "projector"))


def test_a_recipe_that_names_the_model_gets_that_models_wishes(base, tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"model: {base}\n")
    assert resolve_settings({"data": str(tmp_path)}, config=recipe).learning_rate == 0.002


@pytest.mark.parametrize("model", ["a-folder-without-one", "deepseek-ai/DeepSeek-OCR"])
def test_a_model_that_asks_for_nothing_gets_the_recipe_of_the_notebooks(model, tmp_path):
    (tmp_path / "a-folder-without-one").mkdir()
    name = str(tmp_path / model) if "/" not in model else model
    chosen = resolve(name, tmp_path)
    model_and_data = {"model": chosen.model, "data": chosen.data}
    assert chosen == TrainSettings.from_values(model_and_data)
    assert read_model_recipe(name) == {}
    assert wishes_granted(chosen) == []


def test_nano_asks_only_for_what_its_size_needs(tmp_path):
    assert set(read_model_recipe("nano")) <= {"learning_rate", "lora"}
    assert set(read_model_recipe("nano").get("lora", {})) <= {"targets"}
    chosen = resolve("nano", tmp_path)
    assert chosen.learning_rate > TrainSettings.model_fields["learning_rate"].default
    assert (chosen.max_steps, chosen.batch_size, chosen.accumulation, chosen.seed) == (60, 2, 4, 3407)


def test_only_wishes_that_the_run_has_are_said(base, tmp_path):
    assert wishes_granted(resolve(base, tmp_path)) == [
        "learning_rate 0.002",
        "lora.targets attention, projector",
    ]
    assert wishes_granted(resolve(base, tmp_path, "lora.targets=[attention]")) == ["learning_rate 0.002"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("learning_rat: 0.1\n", "Unknown option 'learning_rat'"),
        ("lora: {rank: 3}\n", "Unknown option 'lora.rank'"),
        ("learning_rate: fast\n", "learning_rate = 'fast'"),
        ("lora: 3\n", "lora = 3"),
        ("model: nano\n", "does not choose the model"),
        ("data: lines\n", "does not choose the data"),
        ("- learning_rate\n", "holds a list"),
        ("learning_rate: [1\n", "not YAML"),
    ],
)
def test_a_wrong_recipe_of_a_model_is_refused_with_its_name(base, tmp_path, text, message):
    (base / RECIPE_FILE).write_text(text)
    with pytest.raises(SettingsError, match=message) as caught:
        resolve(base, tmp_path, "learning_rate=0.1", "lora.r=4")
    assert str(base / RECIPE_FILE) in str(caught.value)


def test_options_that_contradict_the_models_recipe_name_its_file(base, tmp_path):
    with pytest.raises(SettingsError, match="cache_features") as caught:
        resolve(base, tmp_path, "cache_features=on")
    assert RECIPE_FILE in str(caught.value)


def test_train_says_and_records_what_the_model_asked_for(model_folder, tmp_path, capsys):
    source, base, run = tmp_path / "source", tmp_path / "own-base", tmp_path / "run"
    source.mkdir()
    for sample in digits(20):
        (source / sample.image_path).write_bytes(sample.image)
    (source / "content.md").write_text("".join(f"{s.image_path}\t{s.text}\n" for s in digits(20)))
    assert main(["data", "build", str(source / "content.md"), "-o", str(tmp_path / "data")]) == 0
    shutil.copytree(model_folder, base)
    (base / RECIPE_FILE).write_text("learning_rate: 0.003\nlora: {targets: [attention]}\n")
    small = ["--max-steps", "1", "--batch-size", "2", "--accumulation", "1", "--device", "cpu"]
    command = ["train", "--model", str(base), "--data", str(tmp_path / "data"), "-o", str(run), *small]
    assert main(command) == 0
    assert "own-base asks for: learning_rate 0.003; lora.targets attention" in capsys.readouterr().err
    resolved = yaml.safe_load((run / "settings.yaml").read_text())
    assert (resolved["learning_rate"], resolved["lora"]["targets"]) == (0.003, ["attention"])
    environment = json.loads((run / "environment.json").read_text())
    assert environment["model_recipe"]["learning_rate"] == 0.003
    (base / RECIPE_FILE).unlink()  # a run that goes on keeps its own settings
    assert main(["train", "-o", str(run), "--resume", "--max-steps", "2"]) == 0
    assert yaml.safe_load((run / "settings.yaml").read_text())["learning_rate"] == 0.003
