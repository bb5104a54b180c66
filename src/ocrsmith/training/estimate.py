"""What a run will take, before it starts: steps, time and memory, from two measured batches."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from ocrsmith.model.lora import OcrPeftModel
from ocrsmith.training.collate import Collator, TrainingItem, TrainingSamples
from ocrsmith.training.feature_cache import FeatureCache
from ocrsmith.training.hardware import Hardware, available_memory, peak_memory
from ocrsmith.training.settings import TrainSettings
from ocrsmith.training.survey import Spread, Survey


@dataclass(frozen=True, slots=True)
class Estimate:
    """Steps, time and memory of a run; times without the evaluations in between."""

    steps: int
    epochs: float
    samples: int
    samples_per_step: int
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
    return visits > len(survey.kept) and size <= min(settings.cache_gb * 2**30, available_memory() / 4)


def estimate(
    model: OcrPeftModel, samples: TrainingSamples, survey: Survey, settings: TrainSettings, hardware: Hardware
) -> Estimate:
    """Measures a batch of the longest samples (memory; warms up) and one of middling ones (time).

    Leaves model and random state as they were.
    """
    steps = steps_of(settings, len(survey.kept))
    base = model.get_base_model()
    hidden = base.config.decoder_sizes.hidden_size
    cached = wants_cache(settings, survey, steps, hidden, base.dtype)
    by_length = sorted(range(len(survey.kept)), key=lambda number: survey.lengths[number])
    longest = by_length[-settings.batch_size :]
    middle = len(by_length) // 2
    typical = by_length[max(0, middle - settings.batch_size // 2) :][: settings.batch_size]
    if hardware.on_gpu:
        torch.cuda.reset_peak_memory_stats(hardware.device)
    measure = _Measure(model, samples, hardware)
    measure(longest)
    encoding, learning = measure(typical)
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    moments = 2 * trainable * (1 if hardware.optimizer == "adamw_8bit" else 4)
    encoded = len(survey.kept) if cached else steps * settings.samples_per_step
    seconds = steps * settings.accumulation * learning + encoded / settings.batch_size * encoding
    cache_bytes = FeatureCache.size_of(sum(survey.image_tokens), hidden, base.dtype) if cached else 0
    on_host = 0 if hardware.on_gpu else cache_bytes
    return Estimate(
        steps=steps,
        epochs=steps * settings.samples_per_step / len(survey.kept),
        samples=len(survey.kept),
        samples_per_step=settings.samples_per_step,
        trainable_parameters=trainable,
        parameters=sum(p.numel() for p in model.parameters()),
        tokens=survey.tokens,
        trained_fraction=survey.trained_fraction,
        too_long=len(survey.too_long),
        seconds_per_step=seconds / steps,
        seconds=seconds,
        memory_bytes=peak_memory(hardware.device) + moments + on_host,
        cache_features=cached,
        cache_bytes=cache_bytes,
        device=str(hardware.device),
        precision=hardware.precision,
    )


class _Measure:
    """Times one batch: encoding its images, and the decoder forward and backward."""

    def __init__(self, model: OcrPeftModel, samples: TrainingSamples, hardware: Hardware) -> None:
        self.model = model
        self.samples = samples
        self.hardware = hardware
        self.collator = Collator(samples.processor)

    def __call__(self, numbers: Sequence[int]) -> tuple[float, float]:
        """Seconds for encoding and for learning; without gradients left behind."""
        batch = self.collator([TrainingItem(number, self.samples.encode(number)) for number in numbers])
        views, layouts = batch.pop("views"), batch.pop("image_layouts")
        batch = {name: value.to(self.hardware.device) for name, value in batch.items()}
        was_training = self.model.training
        self.model.train()
        devices = [self.hardware.device] if self.hardware.on_gpu else []
        with torch.random.fork_rng(devices), self._autocast():
            start = self._now()
            features = self.model.get_base_model().encode_images(views, layouts)
            encoded = self._now()
            loss: torch.Tensor = self.model(**batch, image_features=features).loss
        loss.backward()
        end = self._now()
        self.model.zero_grad(set_to_none=True)
        self.model.train(was_training)
        return encoded - start, end - encoded

    def _autocast(self) -> torch.autocast:
        low = self.hardware.precision != "fp32"
        dtype = self.hardware.dtype if low else None
        return torch.autocast(self.hardware.device.type, dtype=dtype, enabled=low)

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
        f"memory    about {estimate.memory_bytes / 2**30:.1f} GB on {estimate.device}, {estimate.precision}",
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
