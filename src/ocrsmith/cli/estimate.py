"""`ocrsmith estimate`: parse → forecast → print. Loads torch only when it runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ocrsmith.cli import output
from ocrsmith.cli.options import Device, Mode
from ocrsmith.cli.train import prepare_run, resolve_settings
from ocrsmith.errors import WeightsError, require

if TYPE_CHECKING:
    from rich.table import Table

    from ocrsmith.model.config import OcrConfig
    from ocrsmith.training.cards import Forecast
    from ocrsmith.training.settings import TrainSettings
    from ocrsmith.training.survey import Survey


class CardName(StrEnum):
    """A GPU that forecasts are made for."""

    t4 = "T4"
    l4 = "L4"
    rtx_4090 = "RTX-4090"
    a100_40g = "A100-40G"
    a100_80g = "A100-80G"
    h200 = "H200"


def estimate(
    model: Annotated[
        str | None, typer.Option(help="nano, a model folder in hub layout, or a hub id.", show_default=False)
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Dataset: its folder or prefix.", show_default=False)
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="Recipe (YAML); options given here win over it.", show_default=False)
    ] = None,
    card: Annotated[
        list[CardName] | None,
        typer.Option(
            help="Forecast for this GPU; several times for several.", show_default="all, without a GPU"
        ),
    ] = None,
    max_steps: Annotated[int | None, typer.Option(help="Optimiser steps.", show_default="60")] = None,
    epochs: Annotated[
        float | None, typer.Option(help="Passes over the data, in place of steps.", show_default=False)
    ] = None,
    mode: Annotated[Mode | None, typer.Option(help="Resolution mode.", show_default="as the model's")] = None,
    device: Annotated[
        Device | None, typer.Option(help="Measure on this one instead of forecasting.", show_default=False)
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Any other option of a recipe, e.g. lora.r=32."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")] = False,
) -> None:
    """Say how long a training run would take, and how much memory, before it starts.

    With a GPU here, or with --device, two batches are measured on it. Else, and
    with --card, it is a forecast from the model's config, the dataset and the
    cards' datasheets: no weights are needed. It says which recipe fits each
    card: LoRA in 16 bits, with checkpointing, or QLoRA.

    ocrsmith estimate --model deepseek-ai/DeepSeek-OCR --data lines --card T4
    """
    require("torch", extra="train", why="Estimating")
    require("peft", extra="train", why="Estimating")
    import torch

    chosen = resolve_settings(
        {
            "model": model,
            "data": str(data) if data else None,
            "max_steps": max_steps,
            "epochs": epochs,
            "device": device.value if device else None,
            "processing": {"mode": mode.value if mode else None},
        },
        assignments=settings or [],
        config=config,
    )
    if not card and (device is not None or torch.cuda.is_available()):
        run = prepare_run(chosen)
        run.explain()
        if as_json:
            output.print_json({"estimate": run.estimate.as_json(), "settings": chosen})
        return
    forecasts, survey = forecast_cards(chosen, [item.value for item in card or CardName])
    if as_json:
        output.print_json(_as_json(forecasts, survey, chosen))
    else:
        _print(forecasts, survey, chosen, in_full=bool(card))


def forecast_cards(settings: TrainSettings, names: Sequence[str]) -> tuple[dict[str, list[Forecast]], Survey]:
    """What every recipe takes on those cards, and the survey of the data it was made from.

    Raises:
        WeightsError: the model has no config.
        DataError: no sample to train on, or one that cannot be read.
    """
    from ocrsmith.datasets import open_dataset
    from ocrsmith.model.processing import OcrProcessor
    from ocrsmith.training.cards import CARDS, forecast
    from ocrsmith.training.run import with_changes
    from ocrsmith.training.survey import survey

    dataset = open_dataset(settings.data)
    folder, config = _read_config(settings.model)
    processor = with_changes(
        OcrProcessor.from_pretrained(folder), settings, config.max_position_embeddings, dataset.prompt
    )
    with output.notes().status("Looking at the samples"):
        found = survey(dataset.table("train"), processor)
    return {name: forecast(config, found, settings, CARDS[name], processor.mode) for name in names}, found


def _read_config(model: str) -> tuple[Path, OcrConfig]:
    """Config and tokenizer alone: of a hub id no weights are fetched."""
    from ocrsmith.model.weights import read_config, resolve_model

    if model == "nano" or Path(model).expanduser().exists() or "/" not in model:
        folder = resolve_model(model)
        return folder, read_config(folder)
    from huggingface_hub import snapshot_download

    try:
        folder = Path(snapshot_download(model, allow_patterns=["*.json"]))
    except Exception as error:  # the hub client's errors share no base; all mean: not to be had
        raise WeightsError(
            f"The config of {model!r} could not be fetched from the hub ({type(error).__name__}).",
            place=model,
            mend="check the name and the network, or give a folder with config.json and the tokenizer's files",
        ) from error
    return folder, read_config(folder)


def _print(
    forecasts: Mapping[str, list[Forecast]], survey: Survey, settings: TrainSettings, *, in_full: bool
) -> None:
    """A line for each card with the recipe to take; `in_full`: all recipes."""
    from rich.table import Table

    from ocrsmith.training.cards import CARDS, best
    from ocrsmith.training.estimate import steps_of

    console = output.console()
    steps = steps_of(settings, len(survey.kept))
    console.print(
        f"{len(survey.kept):,} samples, {survey.tokens.mean:,.0f} tokens each; {steps:,} steps of "
        f"{settings.samples_per_step} samples"
    )
    table = Table(box=None, pad_edge=False)
    for name in ("card", "recipe", "checkpointing"):
        table.add_column(name)
    for name in ("at once", "memory", "a step", "the run"):
        table.add_column(name, justify="right")
    table.add_column("")
    for card, found in forecasts.items():
        chosen = best(found, settings)
        title = f"{card}, {CARDS[card].memory_gb:g} GB"
        listed = found if in_full or chosen is None else [chosen]
        for number, item in enumerate(listed):
            _add_row(table, title if number == 0 else "", item, in_full and item is chosen)
    console.print(table)
    console.print("Forecasts from datasheets, evaluations left out; `ocrsmith train --dry-run` measures.")


def _add_row(table: Table, title: str, item: Forecast, chosen: bool) -> None:
    from ocrsmith.training.estimate import duration

    start = (title, item.recipe.kind, item.recipe.checkpointing)
    memory = f"{item.memory_bytes / 1e9:.1f} GB"
    if not item.fits:
        table.add_row(*start, "–", memory, "–", "–", "too large", style="dim")
        return
    step, run = f"{item.seconds_per_step:.2g} s", duration(item.seconds)
    mark = ("take this", "bold") if chosen else ("", "")
    table.add_row(*start, str(item.micro_batch), memory, step, run, mark[0], style=mark[1])


def _as_json(
    forecasts: Mapping[str, list[Forecast]], survey: Survey, settings: TrainSettings
) -> dict[str, Any]:
    from ocrsmith.training.cards import CARDS, best

    cards = []
    for name, found in forecasts.items():
        chosen = best(found, settings)
        cards.append(
            {
                "card": CARDS[name],
                "recipe": str(chosen.recipe) if chosen else None,
                "recipes": [item.as_json() for item in found],
            }
        )
    return {"samples": len(survey.kept), "tokens": survey.tokens, "cards": cards, "settings": settings}
