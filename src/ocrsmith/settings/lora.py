"""What a LoRA adapter looks like: rank, scale, and which parts of the model get one."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ocrsmith.settings.base import Settings

LoraTarget = Literal["attention", "dense_mlp", "shared_experts", "routed_experts", "vision", "projector"]
"""Parts of the model: the decoder's q, k, v, o projections; its dense MLPs; the shared experts; the routed
experts; the linears of both encoders (SAM, CLIP); the projector."""


class LoraSettings(Settings):
    """y = W x + (alpha / r) B A x, with W frozen. The defaults are the recipe of the public notebooks."""

    r: int = Field(default=16, ge=1, le=1024, description="rank of the adapter")
    alpha: float = Field(default=16, gt=0, description="scale: the adapter's output counts alpha / r")
    dropout: float = Field(
        default=0.0, ge=0, lt=1, description="share of the adapter's inputs dropped in training"
    )
    targets: tuple[LoraTarget, ...] = Field(
        default=("attention", "dense_mlp", "shared_experts", "routed_experts"),
        min_length=1,
        description="parts of the model that get an adapter",
    )

    @property
    def trains_vision(self) -> bool:
        """Whether image features change in training, so that they cannot be computed once."""
        return "vision" in self.targets or "projector" in self.targets
