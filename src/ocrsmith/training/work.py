"""How much arithmetic a training step is: its multiplications, counted from the architecture.

A multiplication with its addition counts as two operations. Element-wise work, normalisation, softmax and the
optimiser count nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ocrsmith.images.resize import Mode
from ocrsmith.model.config import ClipSizes, DecoderSizes, OcrConfig, SamSizes
from ocrsmith.settings.lora import LoraSettings
from ocrsmith.training.memory_model import Checkpointing


@dataclass(frozen=True, slots=True)
class Work:
    """Operations of one sample in training."""

    encoder: float
    decoder: float
    """Linears, attention, adapter and head, forward and backward, and what checkpointing computes anew."""


def sample_work(
    config: OcrConfig,
    lora: LoraSettings,
    *,
    tokens: int,
    labels: int,
    sides: Sequence[int],
    checkpointing: Checkpointing = "none",
) -> Work:
    """Counts one sample.

    Args:
        config: the architecture.
        lora: rank and targets of the adapter.
        tokens, labels: of the sample.
        sides: of its views that go through the encoder.
        checkpointing: what is computed anew.
    """
    sizes = config.decoder_sizes
    linears = 2.0 * tokens * active_weights(sizes)
    scores = 2.0 * tokens**2 * sizes.hidden_size * sizes.num_hidden_layers  # the causal half, twice
    adapter = 2.0 * tokens * adapter_weights(sizes, lora.r)
    head = 2.0 * labels * sizes.hidden_size * sizes.vocab_size
    again = {"none": 0.0, "selective": _inner_experts(sizes, tokens), "full": linears + scores + adapter}
    encoder = sum(view_operations(config, side) for side in sides)
    if lora.trains_vision:
        encoder *= 2  # backward to the inputs; the base's own gradients are not needed
    # The base goes forward and backward to its inputs, the adapter also to its weights, attention twice back.
    return Work(encoder, 2 * linears + 3 * scores + 3 * adapter + 2 * head + again[checkpointing])


def view_sides(image_tokens: int, mode: Mode) -> list[int]:
    """Sides of the views of an image that takes so many tokens in that mode: tiles, then the global view."""
    grid = mode.view_size // 64
    more = image_tokens - (grid + 1) * grid - 1
    tiles = more // (mode.tile_size // 64) ** 2 if mode.tile_size and more > 0 else 0
    return [mode.tile_size] * tiles + [mode.view_size]


def active_weights(sizes: DecoderSizes) -> int:
    """Weights of the decoder's layers that a token is multiplied with; without embedding and head."""
    hidden, dense = sizes.hidden_size, min(sizes.first_k_dense_replace, sizes.num_hidden_layers)
    experts = sizes.num_experts_per_tok + sizes.n_shared_experts
    mixture = 3 * hidden * sizes.moe_intermediate_size * experts + hidden * sizes.n_routed_experts
    layers = sizes.num_hidden_layers
    return layers * 4 * hidden**2 + dense * 3 * hidden * sizes.intermediate_size + (layers - dense) * mixture


def adapter_weights(sizes: DecoderSizes, rank: int) -> int:
    """Weights of an adapter on all of the decoder that a token is multiplied with."""
    hidden, inner = sizes.hidden_size, sizes.moe_intermediate_size
    dense = min(sizes.first_k_dense_replace, sizes.num_hidden_layers)
    mixture = sizes.num_experts_per_tok * 3 * (hidden + inner) + 3 * (hidden + inner * sizes.n_shared_experts)
    layers = sizes.num_hidden_layers
    return rank * (
        layers * 4 * 2 * hidden + dense * 3 * (hidden + sizes.intermediate_size) + (layers - dense) * mixture
    )


def _inner_experts(sizes: DecoderSizes, tokens: int) -> float:
    """Gate and up of the routed experts, forward."""
    layers = sizes.num_hidden_layers - min(sizes.first_k_dense_replace, sizes.num_hidden_layers)
    rows = tokens * sizes.num_experts_per_tok
    return layers * 2.0 * rows * 2 * sizes.hidden_size * sizes.moe_intermediate_size


def view_operations(config: OcrConfig, side: int) -> float:
    """One view: SAM with its windows padded as they are, compressor, CLIP, projector."""
    sam, clip = config.sam_sizes, config.clip_sizes
    tokens = (side // sam.patch_size // 4) ** 2
    projector = 2.0 * tokens * (sam.downsample_channels[1] + clip.width) * config.decoder_sizes.hidden_size
    return _sam(sam, side // sam.patch_size) + _clip(clip, tokens + 1) + projector


def _sam(sizes: SamSizes, grid: int) -> float:
    width, patches = sizes.width, grid**2
    padded = (-(-grid // sizes.window_size) * sizes.window_size) ** 2
    total = 2.0 * patches * 3 * sizes.patch_size**2 * width
    for layer in range(sizes.layers):
        everywhere = layer in sizes.global_attn_indexes
        queries, keys = (patches, patches) if everywhere else (padded, sizes.window_size**2)
        total += 2.0 * queries * 4 * width**2 + 2 * 2.0 * queries * keys * width
        total += 2.0 * patches * 2 * sizes.mlp_ratio * width**2
    middle, last = sizes.downsample_channels
    total += 2.0 * patches * (width * sizes.out_chans + 9 * sizes.out_chans**2)
    return total + 2.0 * (patches / 4) * 9 * sizes.out_chans * middle + 2.0 * (patches / 16) * 9 * middle * last


def _clip(sizes: ClipSizes, tokens: int) -> float:
    width = sizes.width
    linears = 2.0 * tokens * (4 + 2 * sizes.mlp_ratio) * width**2
    return sizes.layers * (linears + 2 * 2.0 * tokens**2 * width)
