"""Forecasts for cards that are not here, and the command that prints them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from ocrsmith.cli.main import load_command, main
from ocrsmith.errors import WeightsError
from ocrsmith.images.resize import MODES, count_tokens, image_layout
from ocrsmith.model.config import OcrConfig
from ocrsmith.settings import LoraSettings
from ocrsmith.training.cards import CARDS, best, forecast
from ocrsmith.training.settings import TrainSettings
from ocrsmith.training.survey import Survey
from ocrsmith.training.work import sample_work, view_sides

from .conftest import digits

FULL = OcrConfig(language_config={}, vision_config={}, projector_config={}, image_token_id=128815)
PAGES = Survey(tuple(range(40)), (1910,) * 40, (903,) * 40, (1001,) * 40, ())


def settings(**options) -> TrainSettings:
    return TrainSettings.from_values({"model": "m", "data": "d", **options})


def test_the_arithmetic_of_a_line_and_a_page_is_that_of_the_benchmarks():
    """Against `benchmarks/floor.py`, which puts the parts together by itself."""
    from benchmarks.floor import count_operations
    from benchmarks.workloads import WORKLOADS

    for name, tokens, labels, sides in (("L", 310, 31, [1024]), ("P", 1910, 1001, [640] * 6 + [1024])):
        ours = sample_work(FULL, LoraSettings(), tokens=tokens, labels=labels, sides=sides)
        theirs = count_operations(FULL, WORKLOADS[name], "3b")
        assert ours.encoder == theirs.encoder
        assert ours.decoder == pytest.approx(theirs.total - theirs.encoder)
        again = sample_work(
            FULL, LoraSettings(), tokens=tokens, labels=labels, sides=sides, checkpointing="full"
        )
        checkpointed = count_operations(FULL, WORKLOADS[name], "3b", checkpointing=True)
        assert again.decoder == pytest.approx(checkpointed.total - checkpointed.encoder)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", [(400, 64), (1240, 1754), (3000, 700), (900, 4000), (5000, 5000), (640, 640)])
def test_views_are_found_from_the_number_of_image_tokens(mode, size):
    view, tile, columns, rows = layout = image_layout(*size, MODES[mode])
    assert view_sides(count_tokens(*layout), MODES[mode]) == [tile] * (columns * rows) + [view]


def test_a_t4_trains_in_fp16_and_without_grouped_products():
    found = forecast(FULL, PAGES, settings(), CARDS["T4"], MODES["gundam"])
    assert {item.recipe.precision for item in found} == {"fp16"}
    assert not CARDS["T4"].grouped


def test_a_larger_card_fits_what_a_smaller_one_does_and_is_no_slower():
    by_card = {name: forecast(FULL, PAGES, settings(), card, MODES["gundam"]) for name, card in CARDS.items()}
    for small, large in (("L4", "A100-40G"), ("A100-40G", "A100-80G"), ("A100-80G", "H200")):
        for less, more in zip(by_card[small], by_card[large], strict=True):
            assert less.recipe == more.recipe
            assert more.fits or not less.fits
            assert more.seconds <= less.seconds
            assert more.micro_batch >= less.micro_batch


def test_the_recipe_to_take_is_the_fastest_in_16_bits_that_fits():
    on_h200 = best(forecast(FULL, PAGES, settings(), CARDS["H200"], MODES["gundam"]), settings())
    assert on_h200 is not None
    assert (on_h200.recipe.quantization, on_h200.recipe.checkpointing) == ("none", "none")
    large = OcrConfig(
        language_config={"num_hidden_layers": 30}, vision_config={}, projector_config={}, image_token_id=128815
    )
    on_t4 = best(forecast(large, PAGES, settings(), CARDS["T4"], MODES["gundam"]), settings())
    assert on_t4 is not None
    assert on_t4.recipe.quantization == "nf4"


def test_what_the_settings_say_is_kept_to():
    asked = settings(quantization="nf4", gradient_checkpointing="selective", micro_batch=1)
    (only,) = forecast(FULL, PAGES, asked, CARDS["H200"], MODES["gundam"])
    assert (only.recipe.quantization, only.recipe.checkpointing, only.micro_batch) == ("nf4", "selective", 1)


# --- the command ----------------------------------------------------------------------------------------------


@pytest.fixture
def dataset(tmp_path, capsys) -> Path:
    source = tmp_path / "source"
    source.mkdir()
    for sample in digits(20):
        (source / sample.image_path).write_bytes(sample.image)
    (source / "content.md").write_text("".join(f"{s.image_path}\t{s.text}\n" for s in digits(20)))
    assert main(["data", "build", str(source / "content.md"), "-o", str(tmp_path / "data")]) == 0
    capsys.readouterr()
    return tmp_path / "data"


@pytest.fixture
def config_only(model_folder, tmp_path) -> Path:
    """A model folder without weights."""
    folder = tmp_path / "config"
    shutil.copytree(model_folder, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    return folder


def estimate(*options: str) -> None:
    load_command("estimate").main([*options], standalone_mode=False)


def test_a_forecast_needs_no_weights(config_only, dataset, capsys):
    estimate("--model", str(config_only), "--data", str(dataset), "--card", "T4", "--card", "H200", "--json")
    result = json.loads(capsys.readouterr().out)
    assert [item["card"]["name"] for item in result["cards"]] == ["T4", "H200"]
    for item in result["cards"]:
        assert item["recipe"]
        assert len(item["recipes"]) == 6
        assert all(recipe["seconds"] > 0 and recipe["memory_bytes"] > 0 for recipe in item["recipes"])


def test_the_table_has_a_line_for_every_card(config_only, dataset, capsys):
    for card in CARDS:
        estimate("--model", str(config_only), "--data", str(dataset), "--card", card)
        said = capsys.readouterr().out
        assert card in said
        assert "take this" in said


def test_with_a_device_it_is_measured(model_folder, dataset, capsys):
    estimate("--model", str(model_folder), "--data", str(dataset), "--device", "cpu", "--json")
    result = json.loads(capsys.readouterr().out)
    assert result["estimate"]["seconds"] > 0
    assert result["estimate"]["device"] == "cpu"


def test_a_model_without_a_config_is_named(dataset, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(WeightsError, match=r"config\.json"):
        estimate("--model", str(tmp_path / "empty"), "--data", str(dataset), "--card", "T4")
