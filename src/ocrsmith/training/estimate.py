"""What a run will take, before it starts: steps, time and memory, from two measured batches."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from ocrsmith.model.lora import OcrPeftModel
from ocrsmith.training.collate import StepBatch, StepCollator, TrainingItem, TrainingSamples
from ocrsmith.training.feature_cache import FeatureCache
from ocrsmith.training.hardware import Hardware, peak_memory, used_memory
from ocrsmith.training.micro_batches import NOTHING, Division, Load, loads_of
from ocrsmith.training.planning import StepPlan, fullest, sample_loads
from ocrsmith.training.settings import TrainSettings
from ocrsmith.training.survey import Spread, Survey


@dataclass(frozen=True, slots=True)
class Estimate:
    """Steps, time and memory of a run; times without the evaluations in between."""

    steps: int
    epochs: float
    samples: int
    samples_per_step: int
    micro_batch: int
    """Samples that go through the model at once, of the longest ones."""
    checkpointing: str
    trainable_parameters: int
    parameters: int
    tokens: Spread
    """Tokens of a sample."""
    trained_fraction: Spread
    """Share of a sample's tokens that the loss is taken on."""
    too_long: int
    seconds_per_step: float
    seconds: float
    memory_bytes: int
    """Peak, of the GPU where there is one, else of the process."""
    cache_features: bool
    cache_bytes: int
    device: str
    precision: str
    quantization: str

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def steps_of(settings: TrainSettings, samples: int) -> int:
    """Optimiser steps of a run; with `epochs`, the last step of an epoch may be a short one."""
    if settings.epochs is None:
        return settings.max_steps
    batches = math.ceil(samples / settings.batch_size)
    return max(1, math.ceil(math.ceil(batches / settings.accumulation) * settings.epochs))


def wants_cache(
    settings: TrainSettings, survey: Survey, steps: int, hidden_size: int, dtype: torch.dtype
) -> bool:
    """Whether each image is encoded once, ahead: when that is less work and the features fit."""
    if settings.cache_features == "off" or settings.lora.trains_vision:
        return False
    if settings.cache_features == "on":
        return True
    visits = steps * settings.samples_per_step
    size = FeatureCache.size_of(sum(survey.image_tokens), hidden_size, dtype)
    return visits > len(survey.kept) and size <= settings.cache_gb * 2**30


def estimate(
    model: OcrPeftModel,
    samples: TrainingSamples,
    survey: Survey,
    settings: TrainSettings,
    hardware: Hardware,
    plan: StepPlan,
    cached: bool,
) -> tuple[Estimate, StepPlan]:
    """Measures a batch of the longest samples (memory; warms up) and one of middling ones (time).

    Leaves model and random state as they were.

    Args:
        model: with its adapter, as it will be trained.
        samples, survey: the training data.
        settings, hardware: of the run.
        plan: how the steps fit into memory.
        cached: whether each image is encoded once, ahead.
    Returns:
        the estimate, and the plan corrected by what was measured.
    """
    steps = steps_of(settings, len(survey.kept))
    base = model.get_base_model()
    by_length = sorted(range(len(survey.kept)), key=lambda number: survey.lengths[number])
    measure = _Measure(model, samples, hardware, packed=settings.packing != "off")
    loads = sample_loads(survey, cached=cached)
    longest = by_length[-(plan.most or settings.batch_size) :]
    plan, before = _correct(measure, longest, sample_loads(survey, cached=False), plan, hardware)
    # A GPU does a whole step as fast as the run will; on a CPU, where time goes by the sample, a batch will do.
    count = settings.samples_per_step if hardware.on_gpu else settings.batch_size
    middle = len(by_length) // 2
    typical = by_length[max(0, middle - count // 2) :][:count]
    encoding, learning, _ = _timed(measure, typical, plan.division())
    learning *= settings.samples_per_step / len(typical)
    encoded = len(survey.kept) if cached else steps * settings.samples_per_step
    seconds = steps * learning + encoded / len(typical) * encoding
    hidden = base.config.decoder_sizes.hidden_size
    cache_bytes = FeatureCache.size_of(sum(survey.image_tokens), hidden, base.dtype) if cached else 0
    largest, parts = fullest(plan.division(), loads, settings.samples_per_step)
    peak = plan.memory.peak(largest, parts)
    moving = peak.gradients + peak.optimizer + peak.activations + peak.workspace
    on_host = 0 if hardware.on_gpu else cache_bytes
    estimate = Estimate(
        steps=steps,
        epochs=steps * settings.samples_per_step / len(survey.kept),
        samples=len(survey.kept),
        samples_per_step=settings.samples_per_step,
        micro_batch=largest.samples,
        checkpointing=plan.checkpointing,
        trainable_parameters=plan.memory.trainable,
        parameters=plan.memory.parameters.total + plan.memory.trainable,  # those in 4 bits are counted too
        tokens=survey.tokens,
        trained_fraction=survey.trained_fraction,
        too_long=len(survey.too_long),
        seconds_per_step=seconds / steps,
        seconds=seconds,
        memory_bytes=int(before + moving + on_host),
        cache_features=cached,
        cache_bytes=cache_bytes,
        device=str(hardware.device),
        precision=hardware.precision,
        quantization=settings.quantization,
    )
    return estimate, plan


def _correct(
    measure: _Measure, longest: Sequence[int], loads: Sequence[Load], plan: StepPlan, hardware: Hardware
) -> tuple[StepPlan, int]:
    """Measures one micro-batch, on a GPU also its memory. Returns the plan, and the bytes held before."""
    device = hardware.device
    together = Division(len(longest))
    if not hardware.on_gpu:
        measure(longest, together)
        return plan, used_memory(device)
    before = used_memory(device)
    together = _timed(measure, longest, together)[2]
    longest = longest[-(together.most or len(longest)) :]
    # Once more: the first pass also held what kernels are tuned and compiled with.
    torch.cuda.reset_peak_memory_stats(device)
    measure(longest, together)
    taken = peak_memory(device) - before
    return plan.rescaled(taken, sum((loads[number] for number in longest), NOTHING)), before


def _timed(measure: _Measure, numbers: Sequence[int], division: Division) -> tuple[float, float, Division]:
    """Seconds for encoding and learning; in smaller micro-batches where memory runs out, which are returned."""
    while True:
        try:
            return *measure(numbers, division), division
        except torch.OutOfMemoryError:
            most = division.most or len(numbers)
            if most == 1:
                raise
        division = Division(most // 2)  # out here, where the error no longer holds on to tensors
        measure.forget()


class _Measure:
    """Times steps: encoding their images, and the decoder forward and backward."""

    def __init__(
        self, model: OcrPeftModel, samples: TrainingSamples, hardware: Hardware, *, packed: bool
    ) -> None:
        self.model = model
        self.samples = samples
        self.hardware = hardware
        self.packed = packed
        self.collator = StepCollator(samples.processor)

    def __call__(self, numbers: Sequence[int], division: Division) -> tuple[float, float]:
        """Seconds for encoding and for learning, of those samples; without gradients left behind."""
        batch = self.collator([TrainingItem(number, self.samples.encode(number)) for number in numbers])
        batch = batch.to(self.hardware.device)
        was_training = self.model.training
        self.model.train()
        devices = [self.hardware.device] if self.hardware.on_gpu else []
        encoding = learning = 0.0
        try:
            with torch.random.fork_rng(devices):
                for part in division(loads_of(batch)):
                    seconds = self._part(batch, part)
                    encoding, learning = encoding + seconds[0], learning + seconds[1]
        finally:
            self.model.zero_grad(set_to_none=True)
            self.model.train(was_training)
        return encoding, learning

    def forget(self) -> None:
        """Gives back what a pass that failed left."""
        if self.hardware.on_gpu:
            torch.cuda.empty_cache()

    def _part(self, batch: StepBatch, part: tuple[int, int]) -> tuple[float, float]:
        pad = self.samples.processor.tokens.pad
        inputs = batch.part(*part) if self.packed else batch.padded_part(*part, pad)
        start = self._now()
        features = self.model.get_base_model().encode_images(inputs.pop("views"), inputs.pop("image_layouts"))
        encoded = self._now()
        loss = self.model(**inputs, image_features=features, num_items_in_batch=batch.num_labels).loss
        loss.backward()
        return encoded - start, self._now() - encoded

    def _now(self) -> float:
        if self.hardware.on_gpu:
            torch.cuda.synchronize(self.hardware.device)
        return time.perf_counter()


def report(estimate: Estimate, settings: TrainSettings, evaluations: int, eval_samples: int) -> list[str]:
    """The estimate in lines for people."""
    share = estimate.trainable_parameters / estimate.parameters
    fraction, tokens = estimate.trained_fraction, estimate.tokens
    lines = [
        f"data      {estimate.samples:,} samples, {tokens.mean:,.0f} tokens each "
        f"({tokens.least:,}–{tokens.greatest:,})",
        f"trained   {fraction.mean:.1%} of a sample's tokens ({fraction.least:.1%}–{fraction.greatest:.1%})",
        f"adapter   {estimate.trainable_parameters:,} parameters, {share:.2%} of the model; "
        f"rank {settings.lora.r}",
        f"run       {estimate.steps:,} steps of {estimate.samples_per_step} samples, "
        f"{estimate.epochs:.1f} epochs",
        f"time      about {duration(estimate.seconds)} ({estimate.seconds_per_step:.2g} s a step)"
        + (f", plus {evaluations} evaluations of {eval_samples} samples" if evaluations else ""),
        f"memory    about {estimate.memory_bytes / 2**30:.1f} GB on {estimate.device}, {estimate.precision}"
        + (f", base in {estimate.quantization}" if estimate.quantization != "none" else "")
        + f"; {estimate.micro_batch} samples at once"
        + (f", checkpointing {estimate.checkpointing}" if estimate.checkpointing != "none" else ""),
    ]
    if estimate.cache_features:
        lines.append(f"features  each image is encoded once ({estimate.cache_bytes / 2**20:,.0f} MB kept)")
    return lines


def duration(seconds: float) -> str:
    """`45 s`, `7 min`, `2 h 05 min`."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02} min"
