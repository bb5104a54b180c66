"""Forecasts of memory and time on cards that are not here: from the architecture, the data and datasheets.

Both are estimates. Memory comes from `MemoryModel`; time from the operations of a step, the card's rate, and
the share of it that was reached on the card that was measured.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from ocrsmith.images.resize import Mode
from ocrsmith.model.config import OcrConfig
from ocrsmith.training.estimate import steps_of, wants_cache
from ocrsmith.training.memory_model import KINDS, Checkpointing, MemoryModel, Plan
from ocrsmith.training.micro_batches import Division
from ocrsmith.training.micro_step import LARGE_CARD, LONGEST_ROW
from ocrsmith.training.planning import fullest, sample_loads
from ocrsmith.training.settings import TrainSettings
from ocrsmith.training.survey import Survey
from ocrsmith.training.work import sample_work, view_sides


@dataclass(frozen=True, slots=True)
class Card:
    """A GPU by its datasheet."""

    name: str
    memory_gb: float
    """10⁹ bytes, as it is sold."""
    bf16: bool
    grouped: bool
    """Whether a kernel for all experts at once runs on its generation; on others they go one by one."""
    tflops: float
    """Matrix products of 16-bit numbers with sums in float32, dense: 10¹² operations a second."""
    bandwidth: float
    """10⁹ bytes a second."""
    source: str


CARDS: dict[str, Card] = {
    card.name: card
    for card in (
        Card("T4", 16, False, False, 65, 320, "NVIDIA T4 datasheet"),
        Card("L4", 24, True, True, 121, 300, "NVIDIA L4 datasheet (rate without sparsity)"),
        Card("RTX-4090", 24, True, True, 165.2, 1008, "NVIDIA Ada GPU architecture whitepaper"),
        Card("A100-40G", 40, True, True, 312, 1555, "NVIDIA A100 datasheet"),
        Card("A100-80G", 80, True, True, 312, 2039, "NVIDIA A100 datasheet (SXM)"),
        Card("H200", 141, True, True, 989, 4800, "NVIDIA H200 datasheet (SXM, rate without sparsity)"),
    )
}
USABLE = 0.92
"""Share of a card's memory that training may take: the rest is for error correction, driver, CUDA's context and
the allocator's fragments."""


@dataclass(frozen=True, slots=True)
class Efficiency:
    """What part of a datasheet's rates a step reaches, and what the host takes; the same on every card.

    Chosen, not measured, where `docs/performance.md` has no figure for it.
    """

    encoder: float = 0.36
    decoder: float = 0.27
    """With grouped experts."""
    decoder_loop: float = 0.12
    """Expert by expert."""
    bandwidth: float = 0.8
    launch_seconds: float = 5e-6
    """Of the host, for a kernel."""
    layer_launches: int = 250
    """Kernels of a decoder layer, forward and backward, with grouped experts."""
    expert_launches: int = 24
    """More for each expert of a layer where they go one by one."""
    encoder_launches: int = 1500
    """Of the encoder, for one pass over a view size."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """One way to train on a card."""

    precision: str
    quantization: str
    checkpointing: Checkpointing

    @property
    def kind(self) -> str:
        return f"{self.precision} {'QLoRA' if self.quantization == 'nf4' else 'LoRA'}"

    def __str__(self) -> str:
        return self.kind + ("" if self.checkpointing == "none" else f", checkpointing {self.checkpointing}")


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a recipe takes on a card."""

    card: str
    recipe: Recipe
    fits: bool
    micro_batch: int
    """Samples that go through at once, of the longest ones."""
    memory_bytes: int
    """At the peak."""
    seconds_per_step: float
    seconds: float
    """Of the run, evaluations left out."""

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "name": str(self.recipe)}


def recipes(card: Card, settings: TrainSettings) -> Iterator[Recipe]:
    """Ways to train, the fastest first; those that the settings leave open."""
    precision = settings.precision
    if precision == "auto":
        precision = "bf16" if card.bf16 else "fp16"
    asked = settings.gradient_checkpointing
    quantizations = ("none", "nf4") if settings.quantization == "none" else ("nf4",)
    for quantization in quantizations:
        for kind in KINDS:
            if asked in ("auto", kind):
                yield Recipe(precision, quantization, kind)


def forecast(
    config: OcrConfig,
    survey: Survey,
    settings: TrainSettings,
    card: Card,
    mode: Mode,
    efficiency: Efficiency = Efficiency(),
) -> list[Forecast]:
    """What every recipe takes on that card, the fastest first.

    Args:
        config: the architecture; no weights are needed.
        survey: of the training data.
        settings: of the run.
        card: to train on.
        mode: how images are shown.
        efficiency: shares of the datasheet's rates.
    """
    steps = steps_of(settings, len(survey.kept))
    hidden = config.decoder_sizes.hidden_size
    cached = wants_cache(settings, survey, steps, hidden, torch.bfloat16)
    loads = sample_loads(survey, cached=cached)
    found = []
    for recipe in recipes(card, settings):
        memory = MemoryModel(config, _plan(recipe, settings, card))
        room = card.memory_gb * 1e9 * USABLE - memory.fixed()
        division = Division(settings.micro_batch, cost=memory.micro_batch, budget=max(0.0, room))
        largest, parts = fullest(division, loads, settings.samples_per_step)
        peak = memory.peak(largest, parts).total
        if cached:  # one image at least goes through the encoder first; more only below this peak
            images = max(sample_loads(survey, cached=False), key=lambda load: load.pixels)
            peak = max(peak, memory.weights() + memory.adapter() + memory.encoder(images))
        clock = _Clock(config, settings, card, mode, recipe, efficiency)
        learning = clock.step(survey, parts)
        encoding = clock.encoding(survey)
        encoded = 1.0 if cached else steps * settings.samples_per_step / len(survey.kept)
        seconds = steps * learning + encoded * encoding
        found.append(
            Forecast(
                card=card.name,
                recipe=recipe,
                fits=peak <= card.memory_gb * 1e9 * USABLE,
                micro_batch=largest.samples,
                memory_bytes=int(peak),
                seconds_per_step=seconds / steps,
                seconds=seconds,
            )
        )
    return found


def best(forecasts: Sequence[Forecast], settings: TrainSettings) -> Forecast | None:
    """The recipe to take: among those that fit the quickest; one in full 16 bit before a quantised one."""
    fitting = [forecast for forecast in forecasts if forecast.fits]
    return min(fitting, key=lambda item: (item.recipe.quantization == "nf4", item.seconds), default=None)


def _plan(recipe: Recipe, settings: TrainSettings, card: Card) -> Plan:
    replayed = card.grouped and settings.packing != "off" and settings.expert_kernel != "loop"
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}[recipe.precision]
    return Plan(
        dtype=dtype,
        quantized=recipe.quantization == "nf4",
        optimizer="adamw_8bit" if settings.optimizer == "adamw_8bit" else "adamw",
        checkpointing=recipe.checkpointing,
        compiled=settings.compiled != "off",
        longest_replayed=LONGEST_ROW[card.memory_gb * 1e9 >= LARGE_CARD] if replayed else 0,
        lora=settings.lora,
    )


class _Clock:
    """Seconds of a step: the card's arithmetic and reading, or the host's launches where they take longer."""

    def __init__(
        self,
        config: OcrConfig,
        settings: TrainSettings,
        card: Card,
        mode: Mode,
        recipe: Recipe,
        efficiency: Efficiency,
    ) -> None:
        self.config = config
        self.settings = settings
        self.card = card
        self.mode = mode
        self.recipe = recipe
        self.shares = efficiency
        self.grouped = card.grouped and settings.expert_kernel != "loop" and recipe.precision == "bf16"
        self.parameters = MemoryModel(config, _plan(recipe, settings, card)).parameters

    def step(self, survey: Survey, micro_batches: int) -> float:
        """Forward and backward of the decoder for a step of average samples, in so many micro-batches."""
        rate = self.card.tflops * 1e12 * (self.shares.decoder if self.grouped else self.shares.decoder_loop)
        operations = sum(
            sample_work(
                self.config,
                self.settings.lora,
                tokens=tokens,
                labels=labels,
                sides=(),
                checkpointing=self.recipe.checkpointing,
            ).decoder
            for tokens, labels in zip(survey.lengths, survey.answer_tokens, strict=True)
        ) / len(survey.kept)
        device = self.settings.samples_per_step * operations / rate + micro_batches * self._reading()
        return max(device, micro_batches * self._launching())

    def encoding(self, survey: Survey) -> float:
        """The encoder's time for all samples once."""
        rate = self.card.tflops * 1e12 * self.shares.encoder
        counts: dict[int, int] = {}
        for tokens in survey.image_tokens:
            counts[tokens] = counts.get(tokens, 0) + 1
        operations = sum(
            count
            * sample_work(
                self.config, self.settings.lora, tokens=0, labels=0, sides=view_sides(tokens, self.mode)
            ).encoder
            for tokens, count in counts.items()
        )
        passes = len(survey.kept) / self.settings.samples_per_step
        return max(operations / rate, passes * self.shares.encoder_launches * self.shares.launch_seconds)

    def _reading(self) -> float:
        """Of the decoder's weights, forward and backward; 4-bit ones are read, written and read again."""
        size = 4 if self.recipe.precision == "fp32" else 2
        passes = {"none": 2.0, "selective": 2.5, "full": 3.0}[self.recipe.checkpointing]
        weight = size if self.recipe.quantization == "none" else 0.5 + 2 * size
        moved = passes * self.parameters.decoder * weight
        return moved / (self.card.bandwidth * 1e9 * self.shares.bandwidth)

    def _launching(self) -> float:
        sizes = self.config.decoder_sizes
        layers = sizes.num_hidden_layers
        experts = 0 if self.grouped else sizes.n_routed_experts * self.shares.expert_launches
        again = 1.5 if self.recipe.checkpointing == "full" else 1.0
        return again * layers * (self.shares.layer_launches + experts) * self.shares.launch_seconds
