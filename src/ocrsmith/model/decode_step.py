"""One decoding step: a token a sequence in, its hidden state out, keys and values kept in slots.

A pure function over buffers that stay where they are: no size depends on the data and nothing waits for the
device, so that a CUDA graph of it serves every step. Letters as in `decode_ops.py`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ocrsmith.model.decode_attention import attend_slots, key_mask
from ocrsmith.model.decode_experts import apply_chosen, apply_grouped, reads_chosen, route
from ocrsmith.model.decode_ops import add_norm, rotate_and_store
from ocrsmith.model.decode_weights import (
    DecoderWeights,
    LayerWeights,
    UnknownLayerError,
    folding_bytes,
    is_quantised,
)
from ocrsmith.model.decoder import rotary_tables
from ocrsmith.model.kernels import expert_path, has_triton, swiglu
from ocrsmith.model.static_cache import KeyValueSlots, SlotAttention


class StepModel:
    """A model's decoder, made ready for decoding a token at a time."""

    def __init__(self, model: Any, *, room: int | None = None, fold: bool | None = None) -> None:
        """
        Args:
            model: an `OcrModel`, perhaps with an adapter.
            room: bytes of memory that copies of weights may take, None for as many as they need.
            fold: whether an adapter is added to copies of the weights; None: where there is room. Layers of a
                kind that is not known run as the modules that they are.
        """
        self.model = model
        self.sizes = model.config.decoder_sizes
        self.weights = _weights_of(model, room, fold)
        parameter = model.lm_head.weight
        self.device: torch.device = parameter.device
        places = torch.arange(self.sizes.max_position_embeddings, device=self.device)[None]
        dtype = self.weights.dtype if self.weights is not None else parameter.dtype
        tables = rotary_tables(places, self.sizes.head_dim, self.sizes.rope_theta, dtype)
        self.cos, self.sin = (
            table.view(-1, self.sizes.head_dim).contiguous() for table in tables
        )  # (places, d)

    @property
    def capturable(self) -> bool:
        """Whether a step never waits for the device, so that a CUDA graph can hold it."""
        if self.device.type != "cuda":
            return False
        if expert_path(self.cos) != "loop":
            return True
        if self.weights is None:
            return False
        experts = [layer.experts.weights for layer in self.weights.layers if layer.experts is not None]
        return all(reads_chosen(self.cos, weights) for weights in experts)

    def refresh(self) -> None:
        """Takes over weights that were changed in place since."""
        if self.weights is not None:
            self.weights.refresh()

    def __call__(self, tokens: Tensor, positions: Tensor, cache: KeyValueSlots, used: int) -> Tensor:
        """
        Args:
            tokens: (B,) ids; sequence b lies in slot b.
            positions: (B,) their places.
            cache: gets the tokens' keys and values.
            used: all positions lie below it.
        Returns:
            logits (B, V) of the next tokens.
        """
        x = self.model.get_input_embeddings()(tokens)  # (B, H)
        mask = None if has_triton(x) else key_mask(positions, used)
        if self.weights is None:
            attend = SlotAttention(cache, positions, mask)
            hidden = self.model.decode(x[:, None], positions[:, None], attend)[:, 0]
        else:
            hidden = self._decode(x, positions, cache, mask)
        logits: Tensor = self.model.lm_head(hidden)
        return logits

    def _decode(self, x: Tensor, positions: Tensor, cache: KeyValueSlots, mask: Tensor | None) -> Tensor:
        """(B, H) embeddings → (B, H) after the final norm."""
        assert self.weights is not None
        heads, d, eps = self.sizes.num_attention_heads, self.sizes.head_dim, self.sizes.rms_norm_eps
        delta: Tensor | None = None
        for number, layer in enumerate(self.weights.layers):
            keys, values = cache.keys[number], cache.values[number]
            x, normed = add_norm(x, delta, layer.input_norm.weight, eps)
            qkv = layer.qkv(normed).view(-1, 3, heads, d)
            q = rotate_and_store(qkv, self.cos, self.sin, positions, keys, values)
            out = attend_slots(q, keys, values, positions, mask)
            x, normed = add_norm(x, layer.out(out.reshape(-1, heads * d)), layer.post_norm.weight, eps)
            delta = _mlp(normed, layer)
        return add_norm(x, delta, self.weights.norm.weight, eps)[1]


def _mlp(x: Tensor, layer: LayerWeights) -> Tensor:
    """The dense MLP, or chosen and shared experts: (B, H)."""
    if layer.router is None or layer.experts is None:
        return _dense(x, layer)
    indices, shares = route(x, layer.router)
    experts = layer.experts.weights
    plain_shared = layer.gate_up.thin is None and layer.down.thin is None
    if plain_shared and reads_chosen(x, experts):
        return apply_chosen(x, indices, shares, experts, layer.gate_up.weight, layer.down.weight)
    return apply_grouped(x, indices, shares, experts) + _dense(x, layer)


def _dense(x: Tensor, layer: LayerWeights) -> Tensor:
    gate, up = layer.gate_up(x).chunk(2, dim=-1)
    return layer.down(swiglu(gate, up))


def _weights_of(model: Any, room: int | None, fold: bool | None) -> DecoderWeights | None:
    """None where a layer is of a kind that is not known, or quantised with no room for dense copies."""
    layers = model.model.layers
    try:
        if fold is None:
            fold = room is None or folding_bytes(layers) <= room
        if not fold and is_quantised(layers):
            return None
        return DecoderWeights(layers, model.model.norm, fold=fold)
    except UnknownLayerError:
        return None
