"""A training run from beginning to end: look at the data, estimate, train, keep the best adapter."""

from __future__ import annotations

import json
import math
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import torch
from transformers import set_seed

from ocrsmith.errors import DataError, OcrsmithError, TrainingError
from ocrsmith.model import kernels
from ocrsmith.model.config import OcrConfig
from ocrsmith.model.device_views import can_resize
from ocrsmith.model.lora import OcrPeftModel, add_lora
from ocrsmith.model.ocr_model import OcrModel
from ocrsmith.model.processing import OcrProcessor, ProcessingSettings
from ocrsmith.records import PageSample
from ocrsmith.settings.files import cannot_write
from ocrsmith.settings.provenance import environment
from ocrsmith.training import run_folder
from ocrsmith.training.arguments import training_arguments
from ocrsmith.training.callbacks import Curves, Interruption, ProgressLine, StopAtNaN
from ocrsmith.training.collate import Samples, TrainingSamples
from ocrsmith.training.estimate import Estimate, estimate, report, steps_of, wants_cache
from ocrsmith.training.feature_cache import FeatureCache
from ocrsmith.training.feature_store import default_folder
from ocrsmith.training.hardware import choose_hardware, compiles, loader_processes
from ocrsmith.training.micro_batches import PIXELS_OF_TOKEN
from ocrsmith.training.outcome import TrainResult, from_worker, out_of_memory
from ocrsmith.training.planning import StepPlan, longest_replayed, plan_step
from ocrsmith.training.settings import TrainSettings
from ocrsmith.training.step_stream import length_groups
from ocrsmith.training.survey import Survey, survey
from ocrsmith.training.trainer import (
    Evaluation,
    Keep,
    Loop,
    OcrTrainer,
    Score,
    last_checkpoint,
)

if TYPE_CHECKING:
    from rich.console import Console


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
        self.samples = TrainingSamples(train, self._loader_processor(), self.survey.kept)
        self.compiled = compiles(settings, self.hardware.on_gpu, steps_of(settings, len(self.survey.kept)))
        self.estimate, self.plan = self._estimate()

    def _loader_processor(self) -> OcrProcessor:
        """On a GPU workers only decode images: it resizes them itself, to the same pixels."""
        resize: Literal["host", "device"] = "device" if self.hardware.on_gpu and can_resize() else "host"
        return OcrProcessor(self.processor.tokenizer, self.processor.settings, resize=resize)

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

    def _estimate(self) -> tuple[Estimate, StepPlan]:
        """Chooses how the steps are taken, makes the model ready for it, and measures."""
        settings, base = self.settings, self.model.get_base_model()
        steps = steps_of(settings, len(self.survey.kept))
        hidden = base.config.decoder_sizes.hidden_size
        cached = wants_cache(settings, self.survey, steps, hidden, base.dtype)
        plan = plan_step(
            cast(OcrConfig, base.config),
            self.survey,
            settings,
            self.hardware,
            compiled=self.compiled,
            cached=cached,
            trainable=sum(p.numel() for p in self.model.parameters() if p.requires_grad),
            longest_replayed=longest_replayed(base, settings),
        )
        kernels.choose(experts=settings.expert_kernel, compiled=self.compiled)
        # Only decoder layers: the frozen encoder keeps no activations that checkpointing could save.
        base.set_checkpointing(plan.checkpointing)
        try:
            return estimate(self.model, self.samples, self.survey, settings, self.hardware, plan, cached)
        except torch.OutOfMemoryError as error:
            raise out_of_memory(settings, plan) from error

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
            except torch.OutOfMemoryError as error:
                raise out_of_memory(self.settings, self.plan) from error
            except OcrsmithError as error:
                raise from_worker(error) from error
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
            ),
            self.samples,
            keep,
            evaluation=evaluation,
            interruption=interruption,
            loop=self._loop(),
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
            retries=trainer.learner.retries,
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
        per_step = self.settings.samples_per_step
        batch = self.plan.encoder_batch(self.survey, per_step) if self.hardware.on_gpu else 8
        while self.samples.cache is None:
            try:
                self.samples.cache = self._encode(batch)
            except torch.OutOfMemoryError:
                if batch == 1:
                    raise
            batch //= 2
        if self.hardware.on_gpu:
            self.samples.cache.keep_on(self.hardware.device, self.plan.spare(self.survey, per_step))
            torch.cuda.synchronize(self.hardware.device)  # another stream reads them

    def _encode(self, batch: int) -> FeatureCache:
        """Features of all images, so many samples at once."""
        chosen = self.settings.cache_dir
        with self._progress("encoding images") as tell:
            cache = FeatureCache.build(
                self.model.get_base_model(),
                self.samples,
                batch_size=batch,
                workers=self._workers(samples=batch)[0],
                progress=tell,
                folder=default_folder() if chosen is None else Path(chosen).expanduser(),
                limit=int(self.settings.cache_gb * 2**30),
            )
        for note in cache.notes:
            self._say(note, style="yellow")
        return cache

    def _loop(self) -> Loop:
        settings = self.settings
        lengths = self.survey.lengths if settings.group_by_length else None
        workers, ahead = self._workers(samples=settings.samples_per_step)
        return Loop(
            self.plan.division(),
            packed=settings.packing != "off",
            loss_scaling=self.hardware.precision == "fp16",
            grouping=length_groups(lengths, settings.batch_size, settings.seed),
            workers=0 if self.estimate.cache_features else workers,  # there are no images to prepare
            ahead=ahead,
            say=lambda text: self._say(text, style="yellow"),
        )

    def _workers(self, *, samples: int) -> tuple[int, int]:
        """Processes that prepare so many samples at a time, and how often ahead."""
        tokens = sum(self.survey.image_tokens) / len(self.survey.image_tokens)
        batch = int(samples * tokens * PIXELS_OF_TOKEN * 3)
        return loader_processes(self.settings.workers, batch, self.hardware.on_gpu)

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
            "quantization": self.settings.quantization,
            "checkpointing": self.plan.checkpointing,
            "micro_batch": self.estimate.micro_batch,
            "compiled": self.compiled,
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
    return with_changes(processor, settings, model.config.max_position_embeddings, prompt)


def with_changes(
    processor: OcrProcessor, settings: TrainSettings, context: int, prompt: str | None = None
) -> OcrProcessor:
    """As `run_processor`, for a model of that context in tokens."""
    values = processor.settings.model_dump()
    if prompt is not None:
        values["prompt"] = prompt
    values.update(settings.processing.model_dump(exclude_none=True))
    values["max_length"] = min(values["max_length"], context)
    return OcrProcessor(processor.tokenizer, ProcessingSettings.from_values(values, place="processing"))


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _step_of(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix("checkpoint-"))


def _read_best(best: Path) -> dict[str, Any]:
    file = best / "best.json"
    return json.loads(file.read_text()) if file.is_file() else {}
