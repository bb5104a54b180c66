"""The least time a step can take, by arithmetic: its multiplications at the chip's measured rate.

A multiplication with its addition counts as two operations. Element-wise work, normalisation, softmax, the
optimiser and all moving of data count nothing, so no program reaches the floor.
"""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.workloads import Size, Workload
from ocrsmith.images.resize import MODES, count_tokens, image_layout
from ocrsmith.model.config import OcrConfig
from ocrsmith.training.work import active_weights, adapter_weights, view_operations

H200_FLOPS = 789e12
"""bf16 matrix product of 8192³ on random data, measured on one H200."""
H200_BYTES = 4.3e12
"""Bytes read and written per second by a copy on the same card."""


@dataclass(frozen=True, slots=True)
class Operations:
    """Operations of one sample of a training step."""

    encoder: float
    """Forward; it is frozen."""
    decoder: float
    """Linears and router, forward, and backward to their inputs (the base's own gradients are not needed)."""
    attention: float
    """Causal half of scores and sums: forward, and twice that backward."""
    adapter: float
    """Forward, and backward to inputs and to weights."""
    head: float
    """Of the learned positions, forward and backward."""
    again: float
    """The decoder's forward once more, with checkpointing."""

    @property
    def total(self) -> float:
        return self.encoder + self.decoder + self.attention + self.adapter + self.head + self.again


def count_operations(
    config: OcrConfig,
    workload: Workload,
    size: Size,
    *,
    rank: int = 16,
    checkpointing: bool = False,
    cached: bool = False,
) -> Operations:
    """Counts one sample.

    Args:
        config: the architecture.
        workload, size: give the views and the tokens.
        rank: of the adapter.
        checkpointing: decoder layers are computed twice.
        cached: image features are there already.
    """
    sizes = config.decoder_sizes
    tokens, labels = sequence_length(workload, size), workload.labels
    forward = 2.0 * tokens * active_weights(sizes)
    scores = 2.0 * tokens**2 * sizes.hidden_size * sizes.num_hidden_layers
    adapter = 2.0 * tokens * adapter_weights(sizes, rank)
    return Operations(
        encoder=0.0 if cached else encoder_operations(config, workload, size),
        decoder=2 * forward,
        attention=3 * scores,
        adapter=3 * adapter,
        head=2 * 2.0 * labels * sizes.hidden_size * sizes.vocab_size,
        again=forward + scores + adapter if checkpointing else 0.0,
    )


def floor_seconds(
    config: OcrConfig,
    workload: Workload,
    size: Size,
    *,
    samples: int = 8,
    flops: float = H200_FLOPS,
    rank: int = 16,
    checkpointing: bool = False,
    cached: bool = False,
) -> float:
    """Seconds of an optimiser step of that many samples at `flops` operations a second."""
    one = count_operations(config, workload, size, rank=rank, checkpointing=checkpointing, cached=cached)
    return samples * one.total / flops


def sequence_length(workload: Workload, size: Size) -> int:
    """bos, image, five tokens of the prompt, the answer."""
    layout = image_layout(workload.width, workload.height, MODES[workload.mode(size)])
    return 1 + count_tokens(*layout) + 5 + workload.labels


def encoder_operations(config: OcrConfig, workload: Workload, size: Size) -> float:
    """All views of one sample."""
    view, tile, columns, rows = image_layout(workload.width, workload.height, MODES[workload.mode(size)])
    total = view_operations(config, view)
    return total + columns * rows * view_operations(config, tile) if tile else total


def decode_floor_seconds(
    config: OcrConfig, batch: int, length: int, *, bytes_per_second: float = H200_BYTES, itemsize: int = 2
) -> float:
    """Seconds of one decoding step: every weight that some token needs, and all keys and values, read once.

    With a batch, the number of experts needed is what an even, independent choice gives.
    """
    sizes = config.decoder_sizes
    hidden, layers = sizes.hidden_size, sizes.num_hidden_layers
    dense = min(sizes.first_k_dense_replace, layers)
    missed = (1 - sizes.num_experts_per_tok / sizes.n_routed_experts) ** batch
    experts = sizes.n_routed_experts * (1 - missed) + sizes.n_shared_experts
    weights = (
        layers * 4 * hidden**2
        + dense * 3 * hidden * sizes.intermediate_size
        + (layers - dense)
        * (3 * hidden * sizes.moe_intermediate_size * experts + hidden * sizes.n_routed_experts)
        + hidden * sizes.vocab_size
    )
    cache = batch * length * 2 * hidden * layers
    return itemsize * (weights + cache) / bytes_per_second
