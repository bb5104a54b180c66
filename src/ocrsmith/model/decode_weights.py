"""The decoder's weights as a decoding step wants them: products of the same input laid together, adapters apart
or folded in, everything in one dtype.

Plain weights are used where they are. Copies are made of what is laid together (q, k, v; gate and up of shared
experts and dense layers), of an adapter in the base's dtype, and, where memory allows, of weights with the
adapter folded in: then a step costs what it costs without an adapter. `refresh` fills the copies anew in place,
after training has changed the weights.

Letters: E experts, r rank.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from ocrsmith.model.decode_experts import ExpertWeights, RouterWeights
from ocrsmith.model.decoder import Attention, DecoderLayer, Mlp, MoeMlp, RMSNorm
from ocrsmith.model.experts import GroupedExperts, Router
from ocrsmith.model.grouped_lora import LoraGroupedExperts
from ocrsmith.model.kernels import dense_weight


class UnknownLayerError(Exception):
    """A layer that decoding has no short way for; the model's own modules have to run."""


class Part(NamedTuple):
    """A linear layer, or one projection of all experts, taken apart."""

    base: nn.Module
    name: str
    """Of the base's weight."""
    pairs: list[tuple[Tensor, Tensor, float]]
    """A, B and scale of each active adapter."""

    @property
    def quantised(self) -> bool:
        """Whether the base has no dense weight."""
        return hasattr(self.base, "dense_weight")

    def weight(self) -> Tensor:
        """The base's."""
        return dense_weight(self.base, self.name).detach()

    def folded(self) -> Tensor:
        """The base's weight plus scale · B A, added up in float32."""
        weight = self.weight()
        if not self.pairs:
            return weight
        total = weight.float()
        for a, b, scale in self.pairs:
            total = total + (b.detach().float() @ a.detach().float()) * scale
        return total.to(weight.dtype)


class Projection:
    """One or several linear layers of the same input, their outputs end to end."""

    def __init__(self, modules: Sequence[nn.Module], *, fold: bool) -> None:
        """
        Args:
            modules: linears, with an adapter or none.
            fold: whether adapters are added to a copy of the weight.

        Raises:
            UnknownLayerError: a kind of module or adapter that is not known here.
        """
        self.parts = [_linear_part(module) for module in modules]
        self.fold = fold and any(part.pairs or part.quantised for part in self.parts)
        self.thin: tuple[Tensor, Tensor] | None = None
        """A (r, in) and B (out, r) of what is not folded; r counts all adapters, the scales are in B."""
        whole = len(self.parts) == 1 and not self.fold
        self.weight = self.parts[0].weight() if whole else torch.cat([part.weight() for part in self.parts])
        """(out, in)"""
        self._own = not whole
        self.refresh()

    @torch.no_grad()
    def refresh(self) -> None:
        """Fills the copies anew."""
        if self._own:
            sizes = [_out_features(part.base) for part in self.parts]
            for target, part in zip(self.weight.split(sizes), self.parts, strict=True):
                target.copy_(part.folded() if self.fold else part.weight())
        if not self.fold and any(part.pairs for part in self.parts):
            self.thin = _into(self.thin, _thin_factors(self.parts, self.weight.dtype))

    def __call__(self, x: Tensor) -> Tensor:
        """(B, in) → (B, out)."""
        y = F.linear(x, self.weight)
        if self.thin is None:
            return y
        a, b = self.thin
        return torch.addmm(y, F.linear(x, a), b.t())


class ExpertSource:
    """Where a layer's `ExpertWeights` come from."""

    def __init__(self, module: nn.Module, *, fold: bool) -> None:
        """Arguments and errors as `Projection`."""
        self.parts = {name: _expert_part(module, f"{name}_proj") for name in ("gate", "up", "down")}
        self.fold = fold and any(part.pairs or part.quantised for part in self.parts.values())
        weights = {name: part.weight() for name, part in self.parts.items()}
        if self.fold:
            weights = {name: torch.empty_like(weight) for name, weight in weights.items()}
        self.weights = ExpertWeights(**weights, adapter={})
        self.refresh()

    @torch.no_grad()
    def refresh(self) -> None:
        """Fills the copies anew."""
        for name, part in self.parts.items():
            weight: Tensor = getattr(self.weights, name)
            if self.fold:
                weight.copy_(part.folded())
            elif part.pairs:
                a = torch.cat([a for a, _, _ in part.pairs], dim=1).to(weight.dtype)  # (E, r, in)
                b = torch.cat([b * scale for _, b, scale in part.pairs], dim=2).to(weight.dtype)  # (E, out, r)
                self.weights.adapter[name] = _into(self.weights.adapter.get(name), (a, b))


@dataclass(slots=True)
class LayerWeights:
    """One decoder layer."""

    input_norm: RMSNorm
    qkv: Projection
    out: Projection
    post_norm: RMSNorm
    gate_up: Projection
    """Of the dense MLP, or of the shared experts."""
    down: Projection
    router: RouterWeights | None
    """None in dense layers."""
    experts: ExpertSource | None


class DecoderWeights:
    """All decoder layers."""

    def __init__(self, layers: Sequence[nn.Module], norm: nn.Module, *, fold: bool) -> None:
        """
        Args:
            layers: the model's `DecoderLayer`s, with an adapter or none.
            norm: the last one.
            fold: whether adapters are added to copies of the weights (and quantised weights made dense).

        Raises:
            UnknownLayerError: something in them is not known here.
        """
        self.layers = [_layer_weights(layer, fold=fold) for layer in layers]
        self.norm = _known(norm, RMSNorm)
        if any(norm.weight.dtype != self.dtype for norm in self._norms()):
            raise UnknownLayerError("norms of another dtype")

    @property
    def dtype(self) -> torch.dtype:
        """What is computed in."""
        return self.layers[0].qkv.weight.dtype

    def refresh(self) -> None:
        """Fills all copies anew, in place, from the weights as they are now."""
        for layer in self.layers:
            for projection in (layer.qkv, layer.out, layer.gate_up, layer.down):
                projection.refresh()
            if layer.experts is not None:
                layer.experts.refresh()

    def _norms(self) -> Iterator[RMSNorm]:
        for layer in self.layers:
            yield from (layer.input_norm, layer.post_norm)
        yield self.norm


def folding_bytes(layers: Sequence[nn.Module]) -> int:
    """Bytes that folding takes: of the dense copies of all weights with an adapter, or quantised; 0 without."""
    total = 0
    for layer in layers:
        for part in _parts_of(layer):
            if part.pairs or part.quantised:
                total += part.weight().nbytes
    return total


def is_quantised(layers: Sequence[nn.Module]) -> bool:
    """Whether some base weight has to be dequantised."""
    return any(part.quantised for layer in layers for part in _parts_of(layer))


# --- taking modules apart -----------------------------------------------------------------------------------


def _layer_weights(module: nn.Module, *, fold: bool) -> LayerWeights:
    layer = _known(module, DecoderLayer)
    attention, mlp = _known(layer.self_attn, Attention), layer.mlp
    router = experts = None
    dense: nn.Module = mlp
    if isinstance(mlp, MoeMlp):
        gate = _known(mlp.gate, Router)
        sizes = gate.sizes
        router = RouterWeights(
            gate.weight.detach(), sizes.num_experts_per_tok, sizes.norm_topk_prob, sizes.routed_scaling_factor
        )
        experts = ExpertSource(mlp.experts, fold=fold)
        dense = mlp.shared_experts
    swiglu = _known(dense, Mlp)
    return LayerWeights(
        input_norm=_known(layer.input_layernorm, RMSNorm),
        qkv=Projection([attention.q_proj, attention.k_proj, attention.v_proj], fold=fold),
        out=Projection([attention.o_proj], fold=fold),
        post_norm=_known(layer.post_attention_layernorm, RMSNorm),
        gate_up=Projection([swiglu.gate_proj, swiglu.up_proj], fold=fold),
        down=Projection([swiglu.down_proj], fold=fold),
        router=router,
        experts=experts,
    )


def _parts_of(module: nn.Module) -> Iterator[Part]:
    layer = _known(module, DecoderLayer)
    attention, mlp = layer.self_attn, layer.mlp
    for linear in (attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj):
        yield _linear_part(linear)
    dense = mlp.shared_experts if isinstance(mlp, MoeMlp) else mlp
    for linear in (dense.gate_proj, dense.up_proj, dense.down_proj):
        yield _linear_part(linear)
    if isinstance(mlp, MoeMlp):
        for name in ("gate_proj", "up_proj", "down_proj"):
            yield _expert_part(mlp.experts, name)


def _known(module: nn.Module, kind: type[Any]) -> Any:
    """The module, if it is of that class exactly: a subclass may compute something else."""
    if type(module) is not kind:
        raise UnknownLayerError(f"{type(module).__name__} where {kind.__name__} is expected")
    return module


def _linear_part(module: nn.Module) -> Part:
    pairs: list[tuple[Tensor, Tensor, float]] = []
    base = module
    if isinstance(module, LoraLayer):
        base = module.get_base_layer()
        for name in _active(module):
            if module.use_dora.get(name) or module.lora_bias.get(name):
                raise UnknownLayerError("an adapter that is more than B A")
            a, b = cast(nn.Linear, module.lora_A[name]).weight, cast(nn.Linear, module.lora_B[name]).weight
            pairs.append((a, b, module.scaling[name]))
    plain = type(base) is nn.Linear or hasattr(base, "dense_weight")
    if not plain or getattr(base, "bias", None) is not None:
        raise UnknownLayerError(f"{type(base).__name__} is no plain linear")
    return Part(base, "weight", pairs)


def _expert_part(module: nn.Module, name: str) -> Part:
    pairs: list[tuple[Tensor, Tensor, float]] = []
    base = module
    if isinstance(module, LoraGroupedExperts):
        base = module.get_base_layer()
        pairs = [(*module.matrices(adapter, name), module.scaling[adapter]) for adapter in _active(module)]
    if not isinstance(base, GroupedExperts):
        raise UnknownLayerError(f"{type(base).__name__} where experts are expected")
    return Part(base, name, pairs)


def _active(layer: LoraLayer) -> list[str]:
    if layer.disable_adapters or layer.merged:
        return []
    return [name for name in layer.active_adapters if name in layer.lora_A]


def _out_features(base: nn.Module) -> int:
    return int(cast(nn.Linear, base).out_features)


def _thin_factors(parts: Sequence[Part], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """A (r, in) of all adapters end to end, and B (out, r) with each layer's rows in its own place."""
    a = torch.cat([a.detach() for part in parts for a, _, _ in part.pairs]).to(dtype)
    ranks = sum(a.shape[0] for part in parts for a, _, _ in part.pairs)
    rows, rank = [], 0
    for part in parts:
        block = a.new_zeros(_out_features(part.base), ranks)
        for _, b, scale in part.pairs:
            block[:, rank : rank + b.shape[1]] = (b.detach() * scale).to(dtype)
            rank += b.shape[1]
        rows.append(block)
    return a, torch.cat(rows)


def _into(kept: tuple[Tensor, Tensor] | None, new: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """The new values in the kept tensors, which a captured graph reads; the new ones, the first time."""
    if kept is None:
        return new[0].contiguous(), new[1].contiguous()
    for target, source in zip(kept, new, strict=True):
        target.copy_(source)
    return kept
