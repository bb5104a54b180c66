"""What goes on beside the steps: curves, one progress line, a stop at NaN, and a clean end on Ctrl-C."""

from __future__ import annotations

import json
import math
import signal
import threading
from collections.abc import Mapping
from pathlib import Path
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ocrsmith.errors import TrainingError
from ocrsmith.settings.files import cannot_write, write_text

if TYPE_CHECKING:
    from rich.console import Console


class Curves(TrainerCallback):
    """Writes each logged figure to `metrics.jsonl` and TensorBoard.

    Lines of training: step, epoch, loss, learning_rate, grad_norm, samples_per_second, tokens_per_second,
    memory_gb. Lines of evaluation: step, epoch, `val.` figures.
    """

    def __init__(self, run: Path) -> None:
        self.file = run / "metrics.jsonl"
        self.folder = run / "tensorboard"
        self.board: Any = None

    def rewind(self, step: int) -> None:
        """Forgets lines after a step, since a run that goes on from there writes them again."""
        if not self.file.is_file():
            return
        kept = [line for line in self.file.read_text().splitlines() if json.loads(line)["step"] <= step]
        write_text(self.file, "".join(f"{line}\n" for line in kept))

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:  # the curves are in metrics.jsonl all the same
            return
        self.board = SummaryWriter(str(self.folder), purge_step=state.global_step + 1)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Mapping[str, Any] | None = None,
        **_: Any,
    ) -> None:
        figures = {name: value for name, value in (logs or {}).items() if not name.startswith("train_")}
        if not figures.keys() & {"loss", "val.seconds"}:
            return  # the Trainer's own summary at the end
        line = {"step": state.global_step, **{name: _rounded(value) for name, value in figures.items()}}
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with self.file.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        except OSError as error:
            raise cannot_write(error, self.file) from error
        if self.board is not None:
            for name, value in figures.items():
                if isinstance(value, int | float) and name != "epoch":
                    group = (
                        "validation/" + name.removeprefix("val.")
                        if name.startswith("val.")
                        else f"train/{name}"
                    )
                    self.board.add_scalar(group, value, state.global_step)

    def close(self) -> None:
        if self.board is not None:
            self.board.close()
            self.board = None


class StopAtNaN(TrainerCallback):
    """Ends training at a loss that is no number, before anything is saved."""

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> TrainerControl:
        if control.should_save or control.should_evaluate:
            control.should_log = True  # the loss is looked at when it is logged
        return control

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Mapping[str, Any] | None = None,
        **_: Any,
    ) -> None:
        logs = logs or {}
        norm = logs.get("grad_norm", 0.0) if not args.fp16 else 0.0  # fp16 skips steps that overflow
        wrong = [f"{name} {value}" for name, value in (("loss", logs.get("loss", 0.0)), ("gradient norm", norm))
                 if not math.isfinite(value)]  # fmt: skip
        if wrong:
            raise TrainingError(
                f"Training went wrong at step {state.global_step}: {' and '.join(wrong)}.",
                place=f"learning_rate {logs.get('learning_rate', args.learning_rate):.2g}",
                mend=f"lower learning_rate (to {args.learning_rate / 4:.1g}), raise warmup_steps, or use "
                "precision bf16 or fp32; earlier checkpoints are kept (--resume goes on from the last)",
            )


class Interruption(TrainerCallback):
    """Ctrl-C ends training after the step at hand, with a checkpoint; a second one ends it at once.

    As a context manager it takes SIGINT over for the time being (in the main thread).
    """

    def __init__(self, console: Console | None = None) -> None:
        self.asked = False
        self.at_once = False
        """Set while stopping there and then loses nothing: images are encoded, or pages read to evaluate."""
        self.console = console
        self._before: Any = None
        self._installed = False

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._on_signal)
            self._installed = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._installed:
            signal.signal(signal.SIGINT, self._before)
            self._installed = False

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.asked or self.at_once:
            self.asked = True
            raise KeyboardInterrupt
        self.asked = True
        if self.console is not None:
            self.console.print("Stopping after this step with a checkpoint; Ctrl-C again stops at once.")

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> TrainerControl:
        if self.asked:
            control.should_save = control.should_training_stop = True
            control.should_evaluate = False
        return control


class ProgressLine(TrainerCallback):
    """On a terminal a bar with loss, last CER and time to go.

    Elsewhere, as in a log file: a line for each evaluation, and between them one for every tenth of the way.
    """

    def __init__(self, console: Console | None) -> None:
        self.console = console
        self.progress: Any = None
        self.task: Any = None
        self.told = 0
        """The step of the last line."""
        self.loss: float | None = None
        self.score = ""

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        self.told = state.global_step
        if self.console is None or not self.console.is_terminal:
            return
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self.progress = Progress(
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[figures]}"),
            console=self.console,
        )
        self.progress.start()
        self.task = self.progress.add_task(
            "training", total=state.max_steps, completed=state.global_step, figures=""
        )

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Mapping[str, Any] | None = None,
        **_: Any,
    ) -> None:
        if self.console is None or not logs:
            return
        evaluated = "val.seconds" in logs
        self.loss = logs.get("loss", self.loss)
        if evaluated and "val.cer.mean" in logs:
            self.score = f"CER {logs['val.cer.mean']:.2%}"
        loss = "" if self.loss is None else f"loss {self.loss:.3f}"
        if self.progress is not None:
            figures = "  ".join(filter(None, (loss, self.score)))
            self.progress.update(self.task, completed=state.global_step, figures=figures)
            return
        tenth = state.global_step - self.told >= max(1, math.ceil(state.max_steps / 10))
        # Before an evaluation its own line is awaited; the Trainer's summary at the end has no `loss`.
        if evaluated or ("loss" in logs and tenth and not control.should_evaluate):
            self.told = state.global_step
            figures = "  ".join(filter(None, (loss, self.score if evaluated else "")))
            self.console.print(f"step {state.global_step}/{state.max_steps}  {figures}")

    def close(self) -> None:
        if self.progress is not None:
            self.progress.stop()
            self.progress = None


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.7g}") if math.isfinite(value) else None
    return value
