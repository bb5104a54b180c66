"""The transformers Trainer, made to evaluate by reading pages and to write checkpoints that are adapters."""

from __future__ import annotations

import errno
import json
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Sampler
from transformers import PrinterCallback, Trainer, TrainingArguments
from transformers.trainer_utils import rotate_checkpoints

from ocrsmith.errors import TrainingError
from ocrsmith.model.lora import OcrPeftModel, reload_adapter, write_adapter
from ocrsmith.model.ocr_model import OcrModel
from ocrsmith.model.processing import OcrProcessor
from ocrsmith.records import PageSample
from ocrsmith.settings.files import new_folder, write_text
from ocrsmith.training.callbacks import Interruption
from ocrsmith.training.collate import Collator, LengthGroups, TrainingSamples
from ocrsmith.training.hardware import Hardware, peak_memory
from ocrsmith.training.settings import TrainSettings

Score = Callable[[OcrModel, Sequence[PageSample]], Mapping[str, Any]]
"""Reads the samples with the model and returns figures as `metrics.json` has them: {"cer": {"mean": …}, …}."""


@dataclass(slots=True)
class Evaluation:
    """How a run is judged on the way."""

    samples: Sequence[PageSample]
    score: Score
    every: int
    metric: str
    patience: int | None = None


@dataclass(slots=True)
class Keep:
    """What is written beside every adapter of the run."""

    run: Path
    processor: OcrProcessor
    decoding: Mapping[str, Any] | None = None
    best_figures: dict[str, Any] = field(default_factory=dict)


def warmup_steps(settings: TrainSettings, steps: int) -> int:
    """As asked, but at most a quarter of a short run: the first step of a warm-up has a rate of 0."""
    return min(settings.warmup_steps, steps // 4)


def training_arguments(
    settings: TrainSettings,
    hardware: Hardware,
    run: Path,
    steps: int,
    save_every: int,
    evaluates: bool,
    workers: int,
) -> TrainingArguments:
    """Our settings in the Trainer's words."""
    arguments = TrainingArguments(
        output_dir=str(run / "checkpoints"),
        max_steps=steps,
        per_device_train_batch_size=settings.batch_size,
        gradient_accumulation_steps=settings.accumulation,
        learning_rate=settings.learning_rate,
        lr_scheduler_type="constant_with_warmup" if settings.schedule == "constant" else settings.schedule,
        warmup_steps=warmup_steps(settings, steps),
        optim=hardware.optimizer,
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.max_grad_norm,
        seed=settings.seed,
        data_seed=settings.seed,
        use_cpu=not hardware.on_gpu,
        bf16=hardware.precision == "bf16",
        fp16=hardware.precision == "fp16",
        logging_steps=settings.log_every,
        logging_nan_inf_filter=False,
        save_strategy="steps",
        save_steps=save_every,
        save_total_limit=settings.keep_checkpoints + 1,  # the best is one of them
        eval_strategy="steps" if evaluates else "no",
        eval_steps=save_every if evaluates else None,
        metric_for_best_model="figure" if evaluates else None,
        greater_is_better=False if evaluates else None,
        remove_unused_columns=False,
        label_names=["labels"],
        dataloader_num_workers=workers,
        dataloader_pin_memory=hardware.on_gpu,
        accelerator_config={"non_blocking": hardware.on_gpu},
        report_to=[],
        disable_tqdm=True,
        log_level="error",
    )
    if arguments.world_size == 1 and hardware.on_gpu:
        arguments._n_gpu = 1  # several GPUs take a launcher; without one the Trainer would split every batch
    return arguments


class OcrTrainer(Trainer):
    """Adds to the Trainer: evaluation by decoding, best adapter, patience, whole checkpoints, throughput."""

    def __init__(
        self,
        model: OcrPeftModel,
        arguments: TrainingArguments,
        samples: TrainingSamples,
        keep: Keep,
        *,
        evaluation: Evaluation | None,
        interruption: Interruption,
        lengths: Sequence[int] | None = None,
        callbacks: Sequence[Any] = (),
    ) -> None:
        """`lengths`: of the samples, to batch those of like length together; None for a random order."""
        self.adapted = model
        self.keep = keep
        self.evaluation = evaluation
        self.interruption = interruption
        self.grouping = lengths
        self._seen = [0, 0]
        self._since: float | None = None
        before = getattr(model.config, "use_cache", None)
        super().__init__(
            model=model,
            args=arguments,
            data_collator=Collator(keep.processor, samples.cache),
            train_dataset=samples,
            eval_dataset=list(evaluation.samples) if evaluation else None,
            callbacks=[*callbacks, interruption],
        )
        self.remove_callback(PrinterCallback)
        model.config.use_cache = before  # the Trainer switches it off, also for the model that comes out

    # --- batches and figures ---

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler | None:
        if self.grouping is None:
            return super()._get_train_sampler(train_dataset)
        return LengthGroups(self.grouping, self.args.train_batch_size, self.args.seed)

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> tuple[list, Any]:
        """Also counts samples and tokens, for the throughput."""
        if self._since is None:
            self._since = time.perf_counter()
        batches, items = super().get_batch_samples(*args, **kwargs)
        for batch in batches:
            self._seen[0] += batch["input_ids"].shape[0]
            self._seen[1] += batch["input_ids"].numel()
        return batches, items

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Adds throughput (since the last line, evaluations left out) and memory to the lines of training."""
        if "loss" in logs:
            now = time.perf_counter()
            seconds = max(now - (self._since or now), 1e-9)
            logs["samples_per_second"] = self._seen[0] / seconds
            logs["tokens_per_second"] = self._seen[1] / seconds
            logs["memory_gb"] = peak_memory(self.args.device) / 2**30
            self._seen, self._since = [0, 0], now
        super().log(logs, start_time)

    # --- evaluation ---

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Reads the validation samples; the figures go to the log as `val.…`."""
        assert self.evaluation is not None
        start = time.perf_counter()
        model = self.adapted.get_base_model()
        was_training = self.adapted.training
        self.adapted.eval()
        devices = [self.args.device] if self.args.device.type == "cuda" else []
        self.interruption.at_once = True
        try:
            with torch.random.fork_rng(devices), torch.no_grad():
                scores = self.evaluation.score(model, self.evaluation.samples)
        except KeyboardInterrupt:
            self.interruption.at_once = False
            self._save_checkpoint(self.adapted, None)
            raise
        finally:
            self.interruption.at_once = False
            self.adapted.train(was_training)
        seconds = time.perf_counter() - start
        self._since = (self._since or start) + seconds
        figures = {f"val.{name}": value for name, value in flatten(scores).items()}
        figure = figures.get(f"val.{self.evaluation.metric}")
        if figure is None or not math.isfinite(figure):
            raise TrainingError(
                f"The evaluation gave {self.evaluation.metric} = {figure}.", mend="look at the validation split"
            )
        self.log({**figures, "val.seconds": seconds})
        metrics = {**figures, "eval_figure": figure}
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        """Writes `best/` when this checkpoint is the best so far; stops when patience has run out."""
        better = super()._determine_best_metric(metrics, trial)
        assert self.evaluation is not None
        if better:
            self.keep.best_figures = {
                "step": self.state.global_step,
                "metric": self.evaluation.metric,
                **{
                    name.removeprefix("val."): value
                    for name, value in metrics.items()
                    if name.startswith("val.")
                },
            }
            with new_folder(self.keep.run / "best") as scratch:
                self._write_adapter(scratch)
                write_text(scratch / "best.json", json.dumps(self.keep.best_figures, indent=2) + "\n")
        elif self.evaluation.patience is not None:
            best = self.state.best_global_step or 0
            since = {entry["step"] for entry in self.state.log_history if "val.seconds" in entry}
            if sum(step > best for step in since) >= self.evaluation.patience:
                self.control.should_training_stop = True
                self.control.should_save = True
        return better

    # --- checkpoints ---

    def _write_adapter(self, folder: Path) -> None:
        write_adapter(self.adapted, folder, self.keep.processor, self.keep.decoding)

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        folder = Path(output_dir or str(self.args.output_dir))
        folder.mkdir(parents=True, exist_ok=True)
        self._write_adapter(folder)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """A checkpoint is an adapter folder with the state of optimiser, schedule and random numbers.

        It appears under its name when it is complete.
        """
        if self.args.world_size > 1:
            super()._save_checkpoint(model, trial)
            return
        checkpoints = Path(str(self.args.output_dir))
        if self.state.best_global_step:
            self.state.best_model_checkpoint = str(checkpoints / f"checkpoint-{self.state.best_global_step}")
        with new_folder(checkpoints / f"checkpoint-{self.state.global_step}") as scratch:
            self._write_adapter(scratch)
            self._save_state(scratch)
        rotate_checkpoints(
            output_dir=str(checkpoints),
            save_total_limit=self.args.save_total_limit,
            best_model_checkpoint=self.state.best_model_checkpoint,
            use_mtime=False,
        )

    def _save_state(self, folder: Path) -> None:
        try:
            self._save_optimizer_and_scheduler(str(folder))
            self._save_scaler(str(folder))
            self._save_rng_state(str(folder))
        except RuntimeError as error:
            if "inline_container" not in str(error):
                raise
            # torch.save's writer: it hides why the system refused, and that is a full disk
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder)) from error
        self.state.save_to_json(str(folder / "trainer_state.json"))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        reload_adapter(self.adapted, Path(resume_from_checkpoint))


def flatten(scores: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """{"cer": {"mean": 0.1}} → {"cer.mean": 0.1}; numbers alone."""
    flat: dict[str, float] = {}
    for name, value in scores.items():
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{prefix}{name}."))
        elif isinstance(value, int | float) and not isinstance(value, bool):
            flat[prefix + name] = float(value)
    return flat


def last_checkpoint(run: Path) -> Path | None:
    """The complete checkpoint with the most steps."""
    found = [
        (int(folder.name.removeprefix("checkpoint-")), folder)
        for folder in (run / "checkpoints").glob("checkpoint-*")
        if folder.name.removeprefix("checkpoint-").isdigit() and os.path.isfile(folder / "trainer_state.json")
    ]
    return max(found)[1] if found else None
