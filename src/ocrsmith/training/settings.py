"""All that decides a training run, with the recipe of the public notebooks as defaults. Free of torch."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from ocrsmith.settings.base import Settings
from ocrsmith.settings.lora import LoraSettings

Checkpointing = Literal["none", "selective", "full", "auto"]


class ProcessingOverrides(Settings):
    """Changes to how the model's processor prepares images and texts; None keeps what the model has."""

    mode: Literal["tiny", "small", "base", "large", "gundam"] | None = Field(
        default=None, description="resolution mode"
    )
    min_tiles: int | None = Field(default=None, ge=1, le=32, description="fewest tiles, where there are any")
    max_tiles: int | None = Field(default=None, ge=1, le=32, description="most tiles; vLLM uses at most 6")
    alpha: Literal["white", "drop"] | None = Field(default=None, description="what becomes of transparency")
    prompt: str | None = Field(default=None, description="prompt of samples without one of their own")
    max_length: int | None = Field(default=None, ge=16, description="longest sample in tokens, images included")


class TrainSettings(Settings):
    """A training run. A recipe is this as YAML; `RUN/settings.yaml` is it resolved."""

    model: str = Field(description='base model: "nano", a folder in hub layout, or a hub id')
    data: str = Field(description="dataset folder, or prefix of its three Parquet files")

    max_steps: int = Field(default=60, ge=1, le=10_000_000, description="optimiser steps")
    epochs: float | None = Field(
        default=None, gt=0, le=10_000, description="passes over the data, in place of max_steps"
    )
    batch_size: int = Field(default=2, ge=1, le=4096, description="samples of a batch")
    accumulation: int = Field(
        default=4, ge=1, le=4096, description="batches of an optimiser step; their gradients are summed"
    )
    micro_batch: int | None = Field(
        default=None,
        ge=1,
        le=65536,
        description="samples of a step that go through the model at once; None: as many as memory allows",
    )
    learning_rate: float = Field(default=2e-4, gt=0, le=1, description="highest learning rate")
    schedule: Literal["linear", "cosine", "constant"] = Field(
        default="linear", description="learning rate after warm-up"
    )
    warmup_steps: int = Field(
        default=5,
        ge=0,
        description="steps in which the learning rate rises from 0, at most a quarter of the run",
    )
    optimizer: Literal["auto", "adamw", "adamw_8bit"] = Field(
        default="auto",
        description="auto: adamw, one kernel; adamw_8bit takes 6 bytes less a trained parameter, and longer",
    )
    weight_decay: float = Field(default=0.001, ge=0, le=1, description="AdamW's weight decay")
    max_grad_norm: float = Field(default=1.0, gt=0, description="gradients are scaled down to this norm")
    seed: int = Field(default=3407, ge=0, lt=2**32, description="of the adapter's start, order and dropout")

    device: Literal["auto", "cpu", "cuda"] = Field(default="auto", description="where to train")
    precision: Literal["auto", "bf16", "fp16", "fp32"] = Field(
        default="auto", description="auto: bf16 where the GPU has it, else fp16; fp32 on a CPU"
    )
    quantization: Literal["none", "nf4"] = Field(
        default="none", description="nf4: the frozen decoder in 4 bits (QLoRA), for small cards"
    )
    gradient_checkpointing: Checkpointing = Field(
        default="auto",
        description="what backward computes anew, for less memory: none, the experts' inner activations, or "
        "whole decoder layers; auto: the least that fits",
    )
    packing: Literal["auto", "on", "off"] = Field(
        default="auto", description="samples end to end in one row, without padding; auto: on"
    )
    compiled: Literal["auto", "on", "off"] = Field(
        default="auto",
        description="chains of small operations become one GPU kernel each; auto: in runs that are long enough",
    )
    expert_kernel: Literal["auto", "grouped", "triton", "loop"] = Field(
        default="auto",
        description="one product for all experts, torch's or ours, or one for each; auto: by the card",
    )
    cache_features: Literal["auto", "on", "off"] = Field(
        default="auto", description="encode each image once; auto: when that is less work and fits"
    )
    cache_gb: float = Field(default=20.0, gt=0, description="most disk that cached image features may take, GB")
    cache_dir: str | None = Field(
        default=None, description="folder of cached image features; None: in the user's cache folder"
    )
    group_by_length: bool = Field(default=False, description="batches of like length, for less padding")
    workers: int | None = Field(
        default=None, ge=0, le=256, description="processes that prepare images; None: by the machine"
    )

    eval_every: int | None = Field(
        default=None, ge=1, description="steps between evaluations and checkpoints; None: a third of the run"
    )
    eval_samples: int | None = Field(
        default=100, ge=1, description="validation samples read at each evaluation; None: all"
    )
    eval_max_new_tokens: int | None = Field(
        default=None, ge=1, description="longest answer then; None: twice the longest validation text"
    )
    eval_metric: Literal["cer.mean", "cer.micro", "cer.median"] = Field(
        default="cer.mean", description="figure that chooses the best checkpoint"
    )
    patience: int | None = Field(
        default=None, ge=1, description="stop after so many evaluations without a better one; None: never"
    )
    keep_checkpoints: int = Field(default=2, ge=1, description="checkpoints kept, besides the best")
    log_every: int = Field(default=1, ge=1, description="steps between lines of metrics.jsonl")
    too_long: Literal["exclude", "error"] = Field(
        default="exclude", description="samples above the length limit: leave out and list, or refuse"
    )

    lora: LoraSettings = Field(default_factory=LoraSettings, description="the adapter")
    processing: ProcessingOverrides = Field(
        default_factory=ProcessingOverrides, description="changes to the model's image and text preparation"
    )

    @field_validator("packing", "compiled", "cache_features", mode="before")
    @classmethod
    def _name_switch(cls, value: Any) -> Any:
        """YAML reads a bare on or off as true or false."""
        return {True: "on", False: "off"}[value] if isinstance(value, bool) else value

    @field_validator("gradient_checkpointing", mode="before")
    @classmethod
    def _name_checkpointing(cls, value: Any) -> Any:
        """true and false of older recipes."""
        return {True: "full", False: "none"}[value] if isinstance(value, bool) else value

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.precision == "fp16" and self.device == "cpu":
            raise ValueError("precision = 'fp16': a CPU trains in fp32 or bf16 only.")
        if self.cache_features == "on" and self.lora.trains_vision:
            raise ValueError(
                "cache_features = 'on': image features change while lora.targets has vision or projector; "
                "use 'auto' or 'off'."
            )
        return self

    @property
    def samples_per_step(self) -> int:
        return self.batch_size * self.accumulation


FREE_ON_RESUME = frozenset(
    {
        "max_steps",
        "epochs",
        "device",
        "micro_batch",
        "gradient_checkpointing",
        "packing",
        "compiled",
        "expert_kernel",
        "cache_features",
        "cache_gb",
        "cache_dir",
        "workers",
        "eval_every",
        "eval_samples",
        "eval_max_new_tokens",
        "patience",
        "keep_checkpoints",
        "log_every",
    }
)
"""Options that may change when a run goes on: the same up to rounding. The others would make it another run."""


def changed_on_resume(before: TrainSettings, now: TrainSettings) -> list[str]:
    """Options that must not change when a run goes on but do, as `name: before → now`."""
    old, new = flat_options(before.model_dump(mode="json")), flat_options(now.model_dump(mode="json"))
    return [
        f"{name}: {old.get(name)!r} → {new[name]!r}"
        for name in new
        if old.get(name) != new[name] and name.split(".")[0] not in FREE_ON_RESUME
    ]


def flat_options(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """`{"lora": {"r": 8}}` → `{"lora.r": 8}`."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        inner = flat_options(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
        flat.update(inner)
    return flat
