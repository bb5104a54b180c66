"""`ocrsmith train`: parse → train → print. Loads torch only when it runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ocrsmith.cli import output
from ocrsmith.cli.options import Device, Mode
from ocrsmith.errors import SettingsError, require

if TYPE_CHECKING:
    from ocrsmith.datasets import Dataset
    from ocrsmith.engines.decoding import DecodingSettings
    from ocrsmith.model.ocr_model import OcrModel
    from ocrsmith.model.processing import OcrProcessor
    from ocrsmith.records import PageSample
    from ocrsmith.training.outcome import TrainResult
    from ocrsmith.training.run import TrainingRun
    from ocrsmith.training.settings import TrainSettings


class Checkpointing(StrEnum):
    """What the backward pass computes anew."""

    none = "none"
    selective = "selective"
    full = "full"
    auto = "auto"


class Quantization(StrEnum):
    """The number format of the frozen decoder."""

    none = "none"
    nf4 = "nf4"


def train(
    out: Annotated[Path, typer.Option("-o", "--out", help="Run folder to write.")],
    model: Annotated[
        str | None, typer.Option(help="nano, a model folder in hub layout, or a hub id.", show_default=False)
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Dataset: its folder or prefix.", show_default=False)
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="Recipe (YAML); options given here win over it.", show_default=False)
    ] = None,
    max_steps: Annotated[int | None, typer.Option(help="Optimiser steps.", show_default="60")] = None,
    epochs: Annotated[
        float | None, typer.Option(help="Passes over the data, in place of steps.", show_default=False)
    ] = None,
    batch_size: Annotated[int | None, typer.Option(help="Samples of a batch.", show_default="2")] = None,
    accumulation: Annotated[
        int | None, typer.Option(help="Batches of an optimiser step.", show_default="4")
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="Highest learning rate.", show_default="2e-4; nano 2e-3")
    ] = None,
    lora_r: Annotated[int | None, typer.Option(help="Rank of the adapter.", show_default="16")] = None,
    eval_every: Annotated[
        int | None, typer.Option(help="Steps between evaluations.", show_default="a third of the run")
    ] = None,
    micro_batch: Annotated[
        int | None,
        typer.Option(help="Samples of a step that go through at once.", show_default="as memory allows"),
    ] = None,
    gradient_checkpointing: Annotated[
        Checkpointing | None,
        typer.Option(help="What backward computes anew, for less memory.", show_default="auto"),
    ] = None,
    quantization: Annotated[
        Quantization | None, typer.Option(help="nf4: the frozen decoder in 4 bits.", show_default="none")
    ] = None,
    patience: Annotated[
        int | None,
        typer.Option(help="Stop after so many evaluations without a better one.", show_default="never"),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed.", show_default="3407")] = None,
    mode: Annotated[Mode | None, typer.Option(help="Resolution mode.", show_default="as the model's")] = None,
    prompt: Annotated[
        str | None, typer.Option(help="A prompt with <image>, or its name.", show_default="the dataset's")
    ] = None,
    device: Annotated[Device | None, typer.Option(help="Where to train.", show_default="auto")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Any other option of a recipe, e.g. lora.alpha=32."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the run's last checkpoint, with its settings.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Throw away what the folder holds of an earlier run.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what the run would take: steps, time, memory.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")] = False,
) -> None:
    """Fine-tune a model on a dataset with LoRA.

    The best adapter by validation CER ends in RUN/adapter. Ctrl-C stops with a
    checkpoint, from which --resume goes on.

    ocrsmith train --model nano --data lines -o runs/lines

    ocrsmith train --config recipe.yaml --data lines -o runs/lines

    A model folder may hold ocrsmith_recipe.yaml: options that this base needs
    where the defaults do not fit it (nano's has a higher learning_rate, and
    lora.targets with the encoder). --config, --set and options win over it.

    A recipe, and --set, also take: schedule (linear, cosine, constant),
    warmup_steps, optimizer (auto, adamw, adamw_8bit), weight_decay,
    max_grad_norm, precision (auto, bf16, fp16, fp32),
    gradient_checkpointing (none, selective, full, auto), packing (auto, on,
    off), compiled (auto, on, off), expert_kernel (auto, grouped, triton,
    loop), cache_features (auto, on, off), cache_gb, cache_dir,
    group_by_length, workers, eval_samples, eval_max_new_tokens, eval_metric
    (cer.mean, cer.micro, cer.median), keep_checkpoints, log_every, too_long
    (exclude, error), lora.alpha, lora.dropout, lora.targets (a list of
    attention, dense_mlp, shared_experts, routed_experts, vision,
    projector), processing.min_tiles, processing.max_tiles, processing.alpha
    (white, drop), processing.max_length.
    """
    require("torch", extra="train", why="Fine-tuning")
    require("peft", extra="train", why="Fine-tuning")
    if resume and overwrite:
        raise SettingsError(
            "--resume and --overwrite exclude each other.", place="--resume", mend="give one of them"
        )
    chosen = resolve_settings(
        {
            "model": model,
            "data": str(data) if data else None,
            "max_steps": max_steps,
            "epochs": epochs,
            "batch_size": batch_size,
            "accumulation": accumulation,
            "learning_rate": learning_rate,
            "micro_batch": micro_batch,
            "gradient_checkpointing": gradient_checkpointing.value if gradient_checkpointing else None,
            "quantization": quantization.value if quantization else None,
            "eval_every": eval_every,
            "patience": patience,
            "seed": seed,
            "device": device.value if device else None,
            "lora": {"r": lora_r},
            "processing": {"mode": mode.value if mode else None, "prompt": prompt},
        },
        assignments=settings or [],
        config=config,
        run=out if resume else None,
    )
    if not dry_run:
        from ocrsmith.training import run_folder

        run_folder.check(out, chosen, resume=resume, overwrite=overwrite)
    run = prepare_run(chosen)
    run.explain()
    if dry_run:
        if as_json:
            output.print_json({"estimate": run.estimate.as_json(), "settings": chosen})
        return
    result = run.train(out, resume=resume, overwrite=overwrite)
    if result.interrupted:
        _say_how_to_go_on(result)
        raise KeyboardInterrupt
    _finish(result, as_json)


def resolve_settings(
    options: Mapping[str, Any],
    *,
    assignments: Sequence[str] = (),
    config: Path | None = None,
    run: Path | None = None,
) -> TrainSettings:
    """Lays options over assignments, these over the recipe, all over the settings of the run that goes on.

    Lowest lies what the base model asks for (`ocrsmith_recipe.yaml` in its folder), above our defaults.

    Args:
        options: option → value, None where not given; sections are mappings.
        assignments: what --set was given; null is a value there.
        config: recipe.
        run: the run folder when resuming.
    Raises:
        SettingsError: an unknown option, a wrong value, or no model or data.
    """
    from ocrsmith.settings.base import merge, read_yaml, without_none
    from ocrsmith.training.model_recipe import read_model_recipe, recipe_file
    from ocrsmith.training.run_folder import SETTINGS_FILE
    from ocrsmith.training.settings import TrainSettings

    typed = merge(_assignments(assignments), without_none(options))
    base: dict[str, Any] = {}
    going_on = run is not None and (run / SETTINGS_FILE).is_file()
    if run is not None and going_on:
        base = read_yaml(run / SETTINGS_FILE)
    if config is not None:
        base = merge(base, read_yaml(config))
    base = merge(base, typed)
    if typed.get("max_steps") is not None:
        if typed.get("epochs") is not None:
            raise SettingsError(
                "max_steps and epochs exclude each other.", place="--max-steps", mend="give one of them"
            )
        base["epochs"] = None
    for name in ("model", "data"):
        if not base.get(name):
            raise SettingsError(
                f"No {name} is given{'' if run is None else f', and {str(run)!r} holds no run to go on with'}.",
                place=f"--{name}",
                mend=f"give --{name}, or `{name}:` in the recipe",
            )
        if name == "data" or Path(str(base[name])).expanduser().is_dir():
            base[name] = str(Path(str(base[name])).expanduser().resolve())
    asked = read_model_recipe(str(base["model"]))
    places = [str(config)] if config else [str(run)] if going_on else []
    places += ["the options", *([str(recipe_file(str(base["model"])))] if asked else [])]
    return TrainSettings.from_values(merge(asked, base), place=" or ".join(places))


def prepare_run(settings: TrainSettings) -> TrainingRun:
    """Loads model, processor and data, and wires the native engine in as the judge."""
    from ocrsmith.datasets import open_dataset
    from ocrsmith.engines.decoding import DecodingSettings
    from ocrsmith.model.host_memory import keep_freed_memory
    from ocrsmith.model.weights import load_model, load_processor
    from ocrsmith.training.hardware import choose_hardware
    from ocrsmith.training.model_recipe import read_model_recipe, wishes_granted
    from ocrsmith.training.run import TrainingRun, run_processor

    dataset = open_dataset(settings.data)
    granted = wishes_granted(settings)
    hardware = choose_hardware(settings)
    if not hardware.on_gpu:
        keep_freed_memory()
    with output.notes().status(f"Loading {settings.model}"):
        quantized = {} if settings.quantization == "none" else {"quantization": settings.quantization}
        model = load_model(settings.model, dtype=hardware.dtype, device=hardware.device, **quantized)
        processor = run_processor(load_processor(settings.model), settings, model, dataset.prompt)
    decoding = DecodingSettings()
    return TrainingRun(
        model,
        processor,
        dataset.table("train"),
        dataset.table("val"),
        settings,
        score=native_score(
            processor, decoding, settings.eval_max_new_tokens, features_bytes=_features_bytes(settings)
        ),
        decoding=decoding.model_dump(mode="json"),
        provenance={"dataset": _origin(dataset), "model_recipe": read_model_recipe(settings.model)},
        remarks=[f"{Path(settings.model).name} asks for: {'; '.join(granted)}"] if granted else [],
        console=output.notes(),
    )


def native_score(
    processor: OcrProcessor,
    decoding: DecodingSettings,
    max_new_tokens: int | None = None,
    *,
    features_bytes: int = 0,
) -> Callable[[OcrModel, Sequence[PageSample]], dict[str, Any]]:
    """A judge for training: reads pages with the native engine and scores them as `ocrsmith eval` does.

    Args:
        processor, decoding: as training and serving use them.
        max_new_tokens: longest answer; None: twice the longest true text and 32, so that an early checkpoint
            that never ends does not hold the run up. What is cut off counts as an error all the same.
        features_bytes: most host memory for image features, which later evaluations use again; 0 where the
            encoder is trained.
    """
    from ocrsmith.engines.base import PageRequest
    from ocrsmith.engines.native import NativeEngine, PageFeatures
    from ocrsmith.evaluation.metrics import score_page
    from ocrsmith.evaluation.statistics import summarize

    features = PageFeatures(features_bytes) if features_bytes else None

    def score(model: OcrModel, samples: Sequence[PageSample]) -> dict[str, Any]:
        longest = max(len(processor.tokens.encode_answer(sample.text)) for sample in samples)
        limit = min(max_new_tokens or 2 * longest + 32, decoding.max_new_tokens)
        engine = NativeEngine(
            model,
            processor,
            decoding=decoding.model_copy(update={"max_new_tokens": limit}),
            features=features,
        )
        requests = [
            PageRequest(sample.id, sample.image, sample.prompt, expected_length=len(sample.text))
            for sample in samples
        ]
        read = {prediction.id: prediction for prediction in engine.read(requests)}
        scores = [
            score_page(sample.text, read[sample.id].text, failed=read[sample.id].finish_reason == "error")
            for sample in samples
        ]
        return summarize(
            scores,
            [read[sample.id].finish_reason for sample in samples],
            [sample.group for sample in samples],
            seconds=sum(prediction.seconds for prediction in read.values()),
        ).to_json()

    return score


def _features_bytes(settings: TrainSettings) -> int:
    if settings.cache_features == "off" or settings.lora.trains_vision:
        return 0
    from ocrsmith.training.hardware import available_memory

    return min(int(settings.cache_gb * 2**30), available_memory() // 4)


def _origin(dataset: Dataset) -> dict[str, Any]:
    known = dataset.manifest is not None  # computing the hash would read every sample
    return {"path": str(dataset.path), "content_hash": dataset.content_hash if known else None}


def _assignments(pairs: Sequence[str]) -> dict[str, Any]:
    """`lora.alpha=32` → {"lora": {"alpha": 32}}; values are YAML."""
    import yaml

    from ocrsmith.settings.base import merge

    values: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError:
            value = text
        if not equals or not name.strip():
            raise SettingsError(f"--set {pair!r} assigns nothing.", place="--set", mend="write NAME=VALUE")
        nested: dict[str, Any] = {name.strip().split(".")[-1]: value}
        for part in reversed(name.strip().split(".")[:-1]):
            nested = {part: nested}
        values = merge(values, nested)
    return values


def _say_how_to_go_on(result: TrainResult) -> None:
    if result.checkpoint is None:
        text = "Stopped before the first checkpoint; the same command with --overwrite begins again."
    else:
        text = (
            f"Stopped after step {result.steps}; kept in {result.checkpoint}.\n"
            f"To go on: ocrsmith train -o {result.run} --resume"
        )
    output.notes().print(text, markup=False, soft_wrap=True)


def _finish(result: TrainResult, as_json: bool) -> None:
    if as_json:
        output.print_json(
            {
                "run": result.run,
                "adapter": result.adapter,
                "steps": result.steps,
                "loss": result.loss,
                "best": result.best,
                "seconds": result.seconds,
                "estimate": result.estimate.as_json(),
            }
        )
        return
    from ocrsmith.training.estimate import duration

    console = output.console()
    console.print(f"{result.steps:,} steps in {duration(result.seconds)}")
    if result.best:
        name = result.best["metric"]
        console.print(f"Best validation {name}: {result.best[name]:.2%} at step {result.best['step']}")
    console.print(f"Adapter: {result.adapter}", markup=False, soft_wrap=True)
