"""How a run ends: its result, or an error that says what to do."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ocrsmith.errors import OcrsmithError, TrainingError
from ocrsmith.training.estimate import Estimate
from ocrsmith.training.planning import StepPlan
from ocrsmith.training.settings import TrainSettings


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
    retries: int = 0
    """Times that a micro-batch did not fit into memory and was made smaller."""


def out_of_memory(settings: TrainSettings, plan: StepPlan) -> TrainingError:
    """Not even one sample fits, with what is computed anew already."""
    advice = []
    if plan.checkpointing != "full":
        advice.append("gradient_checkpointing full")
    if settings.quantization == "none":
        advice.append("quantization nf4")
    advice += ["a processing.mode with fewer tokens", "a smaller lora.r"]
    return TrainingError(
        "The GPU's memory ran out, though only one sample went through the model at once.",
        mend="use " + ", ".join(advice),
    )


def from_worker(error: OcrsmithError) -> OcrsmithError:
    """An error of a worker process comes with a traceback as its text; keeps the message alone."""
    if not error.problem.startswith("Caught "):
        return error
    message = re.split(r"^ocrsmith\.errors\.\w+: ", error.problem, flags=re.MULTILINE)[-1].strip()
    problem, _, rest = message.partition("\n  where: ")
    place, _, mend = rest.partition("\n  mend:  ")
    return type(error)(problem, place=place or None, mend=mend or None)
