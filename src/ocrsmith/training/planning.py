"""What a run does with the memory there is: what it computes anew, and how many samples go through at once."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ocrsmith.model.config import OcrConfig
from ocrsmith.model.ocr_model import OcrModel
from ocrsmith.training.hardware import Hardware, free_memory, total_memory
from ocrsmith.training.memory_model import KINDS, Checkpointing, MemoryModel, Peak, Plan
from ocrsmith.training.micro_batches import NOTHING, PIXELS_OF_TOKEN, Division, Load
from ocrsmith.training.micro_step import LARGE_CARD, LONGEST_ROW, MicroStep
from ocrsmith.training.settings import TrainSettings
from ocrsmith.training.survey import Survey


@dataclass(frozen=True, slots=True)
class StepPlan:
    """How the steps of a run fit into memory."""

    memory: MemoryModel
    budget: float
    """Bytes for a micro-batch."""
    most: int | None
    """Samples of a micro-batch, where the settings say so."""

    @property
    def checkpointing(self) -> Checkpointing:
        return self.memory.plan.checkpointing

    def division(self) -> Division:
        """Of steps into micro-batches; fresh, since it learns from what does not fit."""
        if self.most is not None:
            return Division(self.most)
        return Division(cost=self.memory.micro_batch, budget=self.budget)

    def spare(self, survey: Survey, per_step: int) -> int:
        """Bytes that no micro-batch needs, half of them."""
        largest, _ = fullest(self.division(), sample_loads(survey, cached=True), per_step)
        return int(max(0.0, self.budget - self.memory.micro_batch(largest)) / 2)

    def encoder_batch(self, survey: Survey, per_step: int) -> int:
        """Samples that go through the encoder at once while features are cached; see the function."""
        loads = sample_loads(survey, cached=True)
        largest, parts = fullest(self.division(), loads, per_step)
        return encoder_batch(self.memory, survey, self.memory.peak(largest, parts))

    def rescaled(self, measured: float, load: Load) -> StepPlan:
        """The same after a micro-batch was measured to take that many bytes for its time."""
        expected = self.memory.peak(load)
        bytes_ = expected.gradients + expected.activations + expected.workspace
        return replace(self, memory=self.memory.scaled(min(2.0, max(0.5, measured / bytes_))))


def plan_step(
    config: OcrConfig,
    survey: Survey,
    settings: TrainSettings,
    hardware: Hardware,
    *,
    compiled: bool,
    cached: bool,
    trainable: int | None = None,
    longest_replayed: int = 0,
) -> StepPlan:
    """Chooses checkpointing and micro-batch for the memory that is free now, with model and adapter in place.

    `gradient_checkpointing auto` computes as little anew as lets a batch of the longest samples fit.

    Args:
        config: the base's.
        survey: of the training data.
        settings, hardware: of the run.
        compiled: whether kernels are.
        cached: whether image features are there already.
        trainable: parameters of the adapter.
        longest_replayed: see `longest_replayed`.
    """
    loads = sample_loads(survey, cached=cached)
    largest = sum(heapq.nlargest(settings.micro_batch or settings.batch_size, loads, key=_tokens), NOTHING)
    asked = settings.gradient_checkpointing
    kinds = KINDS if asked == "auto" else (asked,)
    plan = replace(run_plan(settings, hardware, kinds[0], compiled), longest_replayed=longest_replayed)
    model = MemoryModel(config, plan, trainable=trainable)
    budget = memory_budget(hardware, model)
    for kind in kinds:
        model = model.with_checkpointing(kind)
        if model.micro_batch(largest) <= budget:
            break
    most = settings.micro_batch
    if most is None and not hardware.on_gpu and settings.lora.trains_vision:
        most = settings.batch_size  # a CPU is no faster with more images at once, and its memory is for all
    return StepPlan(model, budget, most)


def longest_replayed(model: OcrModel, settings: TrainSettings) -> int:
    """Tokens up to which micro-batches of that model, its adapter in place, are replayed as CUDA graphs."""
    if settings.packing == "off" or not MicroStep(model).graphs:
        return 0
    return LONGEST_ROW[total_memory(model.device) >= LARGE_CARD]


def run_plan(settings: TrainSettings, hardware: Hardware, checkpointing: Checkpointing, compiled: bool) -> Plan:
    """What of the settings decides memory."""
    return Plan(
        dtype=hardware.dtype,
        quantized=settings.quantization == "nf4",
        optimizer="adamw_8bit" if hardware.optimizer == "adamw_8bit" else "adamw",
        checkpointing=checkpointing,
        compiled=compiled,
        lora=settings.lora,
    )


def memory_budget(hardware: Hardware, model: MemoryModel) -> float:
    """Bytes that a micro-batch may take: what is free, less gradients, optimiser and a margin.

    On a CPU half of what the machine has free, since other programs need some.
    """
    free = free_memory(hardware.device)
    margin = model.constants.margin * total_memory(hardware.device) if hardware.on_gpu else free / 2
    return max(0.0, free - margin - model.gradients() - model.optimizer())


def sample_loads(survey: Survey, *, cached: bool) -> list[Load]:
    """What each sample asks for, by its counts."""
    return [
        Load(1, tokens, labels, image, 0 if cached else image * PIXELS_OF_TOKEN)
        for tokens, labels, image in zip(survey.lengths, survey.answer_tokens, survey.image_tokens, strict=True)
    ]


def encoder_batch(memory: MemoryModel, survey: Survey, peak: Peak) -> int:
    """Samples that go through the encoder at once ahead of training: at most 16, and within the run's peak."""
    largest = max(sample_loads(survey, cached=False), key=lambda load: load.pixels)
    one = memory.scale * memory.encoder(largest)
    room = peak.total - peak.weights - peak.adapter
    return max(1, min(16, int(room / one) if one else 16))


def fullest(division: Division, loads: Sequence[Load], per_step: int) -> tuple[Load, int]:
    """The largest micro-batch of a step of the longest samples, and how many micro-batches that step has."""
    longest = heapq.nlargest(per_step, loads, key=_tokens)
    parts = division(longest)
    sums = [sum(longest[start:stop], NOTHING) for start, stop in parts]
    return max(sums, key=_tokens), len(parts)


def _tokens(load: Load) -> int:
    return load.tokens
