"""A training run from beginning to end: look at the data, estimate, train, keep the best adapter."""

from __future__ import annotations

import json
import math
import os
import random
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.checkpoint import checkpoint
from transformers import set_seed

from ocrsmith.errors import DataError, OcrsmithError, TrainingError
from ocrsmith.model.lora import OcrPeftModel, add_lora
from ocrsmith.model.ocr_model import OcrModel
from ocrsmith.model.processing import OcrProcessor, ProcessingSettings
from ocrsmith.records import PageSample
from ocrsmith.settings.files import cannot_write
from ocrsmith.settings.provenance import environment
from ocrsmith.training import run_folder
from ocrsmith.training.callbacks import Curves, Interruption, ProgressLine, StopAtNaN
from ocrsmith.training.collate import Samples, TrainingSamples
from ocrsmith.training.estimate import Estimate, estimate, report
from ocrsmith.training.feature_cache import FeatureCache
from ocrsmith.training.hardware import choose_hardware
from ocrsmith.training.settings import TrainSettings
from ocrsmith.training.survey import Survey, survey
from ocrsmith.training.trainer import (
    Evaluation,
    Keep,
    OcrTrainer,
    Score,
    last_checkpoint,
    training_arguments,
)

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True, slots=True)
class TrainResult:
    """How a run ended."""

    run: Path
    adapter: Path | None
    """The best adapter, or the last without evaluation; None when the run was stopped before its end."""
    steps: int
    interrupted: bool
    checkpoint: Path | None
    """The last one, from which `--resume` goes on."""
    best: dict[str, Any]
    """Step and figures of the best evaluation; empty without one."""
    loss: float | None
    """Of the last step."""
    seconds: float
    estimate: Estimate


class TrainingRun:
    """Base model, data and settings of a run, made ready; `estimate` and then `train`."""

    def __init__(
        self,
        model: OcrModel,
        processor: OcrProcessor,
        train: Samples,
        validation: Samples,
        settings: TrainSettings,
        *,
        score: Score | None = None,
        decoding: Mapping[str, Any] | None = None,
        provenance: Mapping[str, Any] | None = None,
        remarks: Sequence[str] = (),
        console: Console | None = None,
    ) -> None:
        """
        Args:
            model: the base, in the dtype and on the device of `choose_hardware(settings)`; gets the adapter.
            processor: as `run_processor` makes it.
            train, validation: samples by number; `validation` may be empty (no evaluation then).
            score: reads samples with the model and gives figures; None: no evaluation.
            decoding: decoding settings as JSON, saved with every adapter.
            provenance: more for `environment.json`, such as the dataset's hash.
            remarks: lines that `explain` says before its own, such as what the base model asked for.
            console: for remarks and progress; None: silent.

        Raises:
            DataError: no sample to train on, or one that cannot be read.
            SettingsError: what the settings ask for is not there.
        """
        self.settings = settings
        self.console = console
        self.hardware = choose_hardware(settings)
        self.processor = processor
        self.decoding = decoding
        self.provenance = dict(provenance or {})
        self.remarks = tuple(remarks)
        self.validation = validation
        self.score = score
        self.survey = self._look(train)
        set_seed(settings.seed)
        self.model: OcrPeftModel = add_lora(model, settings.lora)
        self._checkpoint_layers()
        self.samples = TrainingSamples(train, self.processor, self.survey.kept)
        self.estimate = self._estimate()

    # --- before the first step --------------------------------------------------------------------------------

    def _look(self, train: Samples) -> Survey:
        with self._progress("looking at the samples") as tell:
            found = survey(train, self.processor, progress=tell)
        if found.too_long:
            listed = "\n".join(f"  {item.detail}" for item in found.too_long[:10])
            more = len(found.too_long) - 10
            text = f"{len(found.too_long)} of {len(train)} samples are too long:\n{listed}" + (
                f"\n  … and {more} more" if more > 0 else ""
            )
            if self.settings.too_long == "error":
                raise DataError(
                    text, mend="cut those pages, use a mode with fewer image tokens, or set too_long to exclude"
                )
            self._say(f"{text}\nThey are left out.", style="yellow")
        return found

    def _checkpoint_layers(self) -> None:
        """Only decoder layers: the frozen encoder keeps no activations that checkpointing could save."""
        if self.settings.gradient_checkpointing:
            base = self.model.get_base_model()
            base._set_gradient_checkpointing(
                enable=True, gradient_checkpointing_func=partial(checkpoint, use_reentrant=False)
            )

    def _estimate(self) -> Estimate:
        try:
            return estimate(self.model, self.samples, self.survey, self.settings, self.hardware)
        except torch.cuda.OutOfMemoryError as error:
            raise _out_of_memory(self.settings) from error

    def explain(self) -> None:
        """Prints the estimate, and what the user should know of the data."""
        chosen = self._validation_samples()
        evaluations = math.ceil(self.estimate.steps / self._every()) if chosen else 0
        for line in (*self.remarks, *report(self.estimate, self.settings, evaluations, len(chosen))):
            self._say(line)
        if not chosen:
            self._say(
                "No validation samples: CER is not measured on the way; the last adapter is kept.",
                style="yellow",
            )
        if self.estimate.samples < self.settings.samples_per_step:
            self._say(
                f"Only {_count(self.estimate.samples, 'sample')}: a step sees fewer than the "
                f"{self.settings.samples_per_step} asked for, and the adapter will learn them by heart.",
                style="yellow",
            )

    # --- the run ----------------------------------------------------------------------------------------------

    def train(self, run: Path, *, resume: bool = False, overwrite: bool = False) -> TrainResult:
        """Trains, and leaves the best adapter in `RUN/adapter`.

        Ctrl-C ends it early with a checkpoint (`interrupted` in the result). With `resume` it goes on from the
        last checkpoint, if there is one.

        Raises:
            OutputError: the run folder is in use or cannot be written.
            SettingsError: resuming as another run.
            TrainingError: a loss that is no number, or memory that ran out; the last good checkpoint is kept.
        """
        run_folder.prepare(run, self.settings, resume=resume, overwrite=overwrite)
        resumed = last_checkpoint(run) if resume else None
        run_folder.describe(run, self.settings, self._environment(), self.survey.too_long)
        start = time.monotonic()
        if resumed is not None:
            self._say(f"Going on from {resumed.name}.")
        with Interruption(self.console) as interruption:
            try:
                return self._train(run, resumed, interruption, start)
            except KeyboardInterrupt:
                return self._stopped(run, start)
            except torch.cuda.OutOfMemoryError as error:
                raise _out_of_memory(self.settings) from error
            except OcrsmithError as error:
                raise _from_worker(error) from error
            except OSError as error:
                mend = "free some space or mend the folder's permissions, then go on with --resume"
                raise cannot_write(error, Path(error.filename or run), mend=mend) from error

    def _train(self, run: Path, resumed: Path | None, interruption: Interruption, start: float) -> TrainResult:
        interruption.at_once = True
        self._fill_cache()
        interruption.at_once = False
        chosen = self._validation_samples()
        evaluation = None
        if self.score is not None and chosen:
            evaluation = Evaluation(
                chosen, self.score, self._every(), self.settings.eval_metric, self.settings.patience
            )
        curves, line = Curves(run), ProgressLine(self.console)
        keep = Keep(run, self.processor, self.decoding)
        set_seed(self.settings.seed)
        trainer = OcrTrainer(
            self.model,
            training_arguments(
                self.settings,
                self.hardware,
                run,
                self.estimate.steps,
                self._every(),
                evaluation is not None,
                self._workers(),
            ),
            self.samples,
            keep,
            evaluation=evaluation,
            interruption=interruption,
            lengths=self.survey.lengths if self.settings.group_by_length else None,
            callbacks=[curves, StopAtNaN(), line],
        )
        curves.rewind(_step_of(resumed) if resumed else -1)
        try:
            trainer.train(resume_from_checkpoint=str(resumed) if resumed else None)
        finally:
            curves.close()
            line.close()
        done = trainer.state.global_step
        if interruption.asked and done < self.estimate.steps:
            return self._stopped(run, start)
        last = last_checkpoint(run)
        best = run / "best"
        source = best if best.is_dir() else last
        if source is None:
            raise TrainingError("No step was done.", place=str(run), mend="raise max_steps or epochs")
        adapter = run_folder.publish(run, source)
        losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
        return TrainResult(
            run=run,
            adapter=adapter,
            steps=done,
            interrupted=False,
            checkpoint=last,
            best=_read_best(best),
            loss=losses[-1] if losses else None,
            seconds=time.monotonic() - start,
            estimate=self.estimate,
        )

    def _stopped(self, run: Path, start: float) -> TrainResult:
        last = last_checkpoint(run)
        return TrainResult(
            run=run,
            adapter=None,
            steps=_step_of(last) if last else 0,
            interrupted=True,
            checkpoint=last,
            best=_read_best(run / "best"),
            loss=None,
            seconds=time.monotonic() - start,
            estimate=self.estimate,
        )

    def _fill_cache(self) -> None:
        if not self.estimate.cache_features or self.samples.cache is not None:
            return
        low = self.hardware.precision != "fp32"
        with self._progress("encoding images") as tell:
            self.samples.cache = FeatureCache.build(
                self.model.get_base_model(),
                self.samples,
                batch_size=16 if self.hardware.on_gpu else 8,
                workers=self._workers(ahead=True),
                autocast=self.hardware.dtype if low else None,
                progress=tell,
            )

    def _workers(self, *, ahead: bool = False) -> int:
        """Processes that prepare images: none where there are no images to prepare, or no core to spare."""
        if self.estimate.cache_features and not ahead:
            return 0
        if self.settings.workers is not None:
            return self.settings.workers
        return min(8, max(1, (os.cpu_count() or 1) - 1)) if self.hardware.on_gpu else 0

    def _every(self) -> int:
        """Steps between evaluations."""
        return min(self.settings.eval_every or math.ceil(self.estimate.steps / 3), self.estimate.steps)

    def _validation_samples(self) -> list[PageSample]:
        """The samples read at every evaluation: all, or a choice that depends on the seed alone."""
        if self.score is None:
            return []
        numbers = list(range(len(self.validation)))
        wanted = self.settings.eval_samples
        if wanted is not None and wanted < len(numbers):
            numbers = sorted(random.Random(self.settings.seed).sample(numbers, wanted))
        return [self.validation[number] for number in numbers]

    def _environment(self) -> dict[str, Any]:
        hardware: dict[str, Any] = {
            "device": str(self.hardware.device),
            "precision": self.hardware.precision,
            "optimizer": self.hardware.optimizer,
            "threads": torch.get_num_threads(),
        }
        if self.hardware.on_gpu:
            hardware["gpu"] = torch.cuda.get_device_name(self.hardware.device)
        return environment(
            seed=self.settings.seed,
            hardware=hardware,
            processing=self.processor.settings.model_dump(),
            decoding=dict(self.decoding or {}),
            samples={"train": self.estimate.samples, "too_long": self.estimate.too_long},
            **self.provenance,
        )

    @contextmanager
    def _progress(self, doing: str) -> Iterator[Callable[[int, int], None]]:
        """A bar that goes when it is done; on a terminal only."""
        from rich.progress import Progress

        quiet = self.console is None or not self.console.is_terminal
        with Progress(console=self.console, transient=True, disable=quiet) as progress:
            task = progress.add_task(doing, total=None)
            yield lambda done, total: progress.update(task, completed=done, total=total)

    def _say(self, text: str, style: str | None = None) -> None:
        if self.console is not None:
            self.console.print(text, style=style, markup=False)


def run_processor(
    processor: OcrProcessor, settings: TrainSettings, model: OcrModel, prompt: str | None = None
) -> OcrProcessor:
    """The base's processor with the run's changes, its length limit within the model's context.

    Args:
        processor: the base's.
        settings: its `processing` wins over the base's and the dataset's.
        model: the base.
        prompt: the dataset's, for samples without one.
    Raises:
        SettingsError: a wrong value, such as a prompt without `<image>`.
    """
    values = processor.settings.model_dump()
    if prompt is not None:
        values["prompt"] = prompt
    values.update(settings.processing.model_dump(exclude_none=True))
    values["max_length"] = min(values["max_length"], model.config.max_position_embeddings)
    return OcrProcessor(processor.tokenizer, ProcessingSettings.from_values(values, place="processing"))


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _step_of(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix("checkpoint-"))


def _read_best(best: Path) -> dict[str, Any]:
    file = best / "best.json"
    return json.loads(file.read_text()) if file.is_file() else {}


def _out_of_memory(settings: TrainSettings) -> TrainingError:
    advice = [f"batch_size 1 with accumulation {settings.samples_per_step}"] if settings.batch_size > 1 else []
    if not settings.gradient_checkpointing:
        advice.append("gradient_checkpointing true")
    advice += ["a processing.mode with fewer tokens", "a smaller lora.r"]
    return TrainingError("The GPU's memory ran out.", mend="use " + ", ".join(advice))


def _from_worker(error: OcrsmithError) -> OcrsmithError:
    """An error of a worker process comes with a traceback as its text; keeps the message alone."""
    if not error.problem.startswith("Caught "):
        return error
    message = re.split(r"^ocrsmith\.errors\.\w+: ", error.problem, flags=re.MULTILINE)[-1].strip()
    problem, _, rest = message.partition("\n  where: ")
    place, _, mend = rest.partition("\n  mend:  ")
    return type(error)(problem, place=place or None, mend=mend or None)
