"""The transformers Trainer, made to evaluate by reading pages and to write checkpoints that are adapters."""

from __future__ import annotations

import errno
import gc
import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
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
from ocrsmith.training.collate import LengthGroups, StepBatch, StepCollator, TrainingSamples
from ocrsmith.training.figures import Noted, Notes, to_host
from ocrsmith.training.hardware import peak_memory
from ocrsmith.training.micro_batches import Division, StepLearner
from ocrsmith.training.micro_step import MicroStep
from ocrsmith.training.step_stream import StepOrder, StepStream

Score = Callable[[OcrModel, Sequence[PageSample]], Mapping[str, Any]]
"""Reads the samples with the model and returns figures as `metrics.json` has them: {"cer": {"mean": …}, …}."""


LOSS_SCALE = 2.0**12
"""To begin with, in fp16: torch's own, 2**16, overflows in the first steps, which are then left out."""


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


@dataclass(slots=True)
class Loop:
    """How the steps are prepared and taken."""

    division: Division
    """Of steps into micro-batches."""
    packed: bool = True
    """Samples lie end to end in one row, in place of padded rows."""
    graphs: bool = True
    """On a GPU, micro-batches are replayed as CUDA graphs where that is possible."""
    loss_scaling: bool = False
    """As fp16 needs it."""
    grouping: LengthGroups | None = None
    """Puts samples of like length together; None for a random order."""
    workers: int = 0
    """Processes that prepare steps."""
    ahead: int = 2
    """Steps that each of them prepares in advance."""
    say: Callable[[str], None] | None = None
    """Is told what the user should know on the way."""


class OcrTrainer(Trainer):
    """Adds to the Trainer: evaluation by decoding, best adapter, patience, whole checkpoints, throughput.

    A step never makes the host wait for the GPU: its samples are there already, and its figures are written
    down when they arrive, at the latest before anything is saved or evaluated.
    """

    def __init__(
        self,
        model: OcrPeftModel,
        arguments: TrainingArguments,
        samples: TrainingSamples,
        keep: Keep,
        *,
        evaluation: Evaluation | None,
        interruption: Interruption,
        loop: Loop,
        callbacks: Sequence[Any] = (),
    ) -> None:
        """`loop`: how the steps are prepared and taken; the other arguments as their types say."""
        self.adapted = model
        self.keep = keep
        self.evaluation = evaluation
        self.interruption = interruption
        self.loop = loop
        self.trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        pad = None if loop.packed else keep.processor.tokens.pad
        single = arguments.device.type == "cuda" and arguments.world_size == 1
        micro = MicroStep(model.get_base_model(), graphs=loop.graphs) if loop.packed and single else None
        self.learner = StepLearner(loop.division, self.trained, pad=pad, micro=micro, say=loop.say)
        self.notes = Notes(arguments.device)
        self._stream: StepStream | None = None
        self._seen = (0, 0)
        self._since: float | None = None
        before = getattr(model.config, "use_cache", None)
        super().__init__(
            model=model,
            args=arguments,
            data_collator=StepCollator(keep.processor),  # type: ignore[arg-type]
            train_dataset=samples,
            eval_dataset=list(evaluation.samples) if evaluation else None,
            callbacks=[*callbacks, interruption],
        )
        self.remove_callback(PrinterCallback)
        model.config.use_cache = before  # the Trainer switches it off, also for the model that comes out
        self.learner.processes = self.args.world_size
        if loop.loss_scaling:  # the Trainer, by way of accelerate, steps with it, saves and restores it
            self.learner.scaler = self.accelerator.scaler = torch.amp.GradScaler(
                self.args.device.type, init_scale=LOSS_SCALE
            )

    def train(self, *args: Any, **kwargs: Any) -> Any:
        # The Trainer empties gradients by a walk through all modules, after every step.
        self.adapted.__dict__["zero_grad"] = self._zero_grad
        gc.collect()
        gc.freeze()  # a collection would walk through model and libraries, and the GPU would wait
        try:
            return super().train(*args, **kwargs)
        finally:
            gc.unfreeze()
            del self.adapted.__dict__["zero_grad"]
            if self._stream is not None:
                self._stream.close()
                self._stream = None

    def _zero_grad(self, set_to_none: bool = True) -> None:
        for parameter in self.trained:
            parameter.grad = None

    # --- steps ---

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler | None:
        if self.loop.grouping is None:
            return super()._get_train_sampler(train_dataset)
        return self.loop.grouping

    def get_batch_samples(self, epoch_iterator: Any, *args: Any, **kwargs: Any) -> tuple[list, Any]:
        """The next step, prepared ahead; with several processes as the Trainer deals them out.

        The second value is the number of labels that its loss is averaged over.
        """
        if self._since is None:
            self._since = time.perf_counter()
        if self.args.world_size > 1:
            batch = next(epoch_iterator)
            labels = torch.tensor(batch.num_labels, device=self.args.device)
            items: Any = self.accelerator.gather(labels).sum()
        else:
            batch = next(self._steps())
            items = batch.num_labels
        samples, tokens = self._seen
        self._seen = (samples + len(batch), tokens + batch.num_tokens)
        return [batch], items

    def _steps(self) -> StepStream:
        if self._stream is None:
            samples = self.train_dataset
            assert isinstance(samples, TrainingSamples)
            order = StepOrder(
                len(samples),
                self.args.per_device_train_batch_size,
                self.args.seed,
                first=self.state.global_step,
                last=self.state.max_steps,
                grouping=self.loop.grouping,
            )
            workers = self.loop.workers
            self._stream = StepStream(samples, order, self.args.device, workers=workers, ahead=self.loop.ahead)
        return self._stream

    def create_optimizer(self, *args: Any, **kwargs: Any) -> torch.optim.Optimizer:
        optimizer = super().create_optimizer(*args, **kwargs)
        if self.loop.loss_scaling:
            # A fused optimiser would leave out a step that overflows without telling: the schedule would go on.
            optimizer._step_supports_amp_scaling = False  # type: ignore[attr-defined]
        return optimizer

    def training_step(self, model: nn.Module, inputs: Any, num_items_in_batch: Any = None) -> Tensor:
        """Forward and backward of a whole optimiser step."""
        assert isinstance(inputs, StepBatch)
        if not model.training:
            model.train()
        return self.learner(model, inputs, num_items_in_batch)

    def floating_point_ops(self, inputs: Any) -> int:
        """Not counted: transformers' estimate walks through all parameters in every step."""
        return 0

    def _clip_grad_norm(self, model: nn.Module) -> Tensor:
        """Scales gradients down to `max_grad_norm`; returns their norm before, of unscaled gradients."""
        if self.learner.scaler is not None:
            self.learner.scaler.unscale_(self.optimizer.optimizer)  # type: ignore[union-attr]
        return torch.nn.utils.clip_grad_norm_(self.trained, self.args.max_grad_norm)

    # --- figures ---

    def _maybe_log_save_evaluate(self, tr_loss: Tensor, grad_norm: Any, *args: Any, **kwargs: Any) -> None:
        """Writes lines of the log as their figures arrive, all of them before an evaluation or a checkpoint."""
        step = self.state.global_step
        if self.control.should_log and step > self._globalstep_last_logged:
            steps = step - self._globalstep_last_logged
            rate = kwargs.get("learning_rate")
            rate = float(self._get_learning_rate() if rate is None else rate)
            self.notes.add(Noted(step, self.state.epoch, steps, rate, self._seen, *to_host(tr_loss, grad_norm)))
            tr_loss.zero_()
            self._seen, self._globalstep_last_logged = (0, 0), step
        self.control.should_log = False
        control = self.control
        self._write_notes(all_of_them=control.should_save or control.should_evaluate)
        super()._maybe_log_save_evaluate(tr_loss, grad_norm, *args, **kwargs)

    def _finalize_training(self, *args: Any, **kwargs: Any) -> Any:
        self._write_notes(all_of_them=True)
        return super()._finalize_training(*args, **kwargs)

    def _write_notes(self, *, all_of_them: bool) -> None:
        for line in self.notes.take(all_of_them=all_of_them):
            loss, norm = line.read()
            self._total_loss_scalar += loss * line.steps
            logs = {"loss": loss, "grad_norm": norm, "learning_rate": line.learning_rate}
            if self.learner.scaler is not None and not math.isfinite(norm):
                del logs["grad_norm"]  # of a step that was left out: the loss was scaled too high
            logs.update(self._throughput(line))
            with self._as_of(line):
                self.log(logs)

    def _throughput(self, line: Noted) -> dict[str, float]:
        """Since the line before, evaluations left out; and memory."""
        now = time.perf_counter()
        seconds = max(now - (self._since or now), 1e-9)
        self._since = now
        figures = {
            "samples_per_second": line.counts[0] / seconds,
            "tokens_per_second": line.counts[1] / seconds,
            "memory_gb": peak_memory(self.args.device) / 2**30,
            "micro_batch": float(self.learner.largest),
        }
        if self.learner.retries:
            figures["out_of_memory"] = float(self.learner.retries)
        return figures

    @contextmanager
    def _as_of(self, line: Noted) -> Iterator[None]:
        """Callbacks see step and epoch of the line."""
        state = self.state
        now = (state.global_step, state.epoch)
        state.global_step, state.epoch = line.step, line.epoch  # type: ignore[assignment]
        try:
            yield
        finally:
            state.global_step, state.epoch = now

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
