"""Experts of a decoding step: for a few tokens only the chosen experts' weights are read, for many all are.

Letters: B tokens, E experts, k chosen, H hidden, I expert width,
W width of the shared experts, a multiple of I.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ocrsmith.model.decode_attention import power_of_two
from ocrsmith.model.kernels import (
    Groups,
    choice,
    combine,
    expert_path,
    grouped_rows,
    has_triton,
    rows_by_expert,
    swiglu,
)

FEW_TOKENS = 8
"""Up to so many tokens share so few experts that reading each token's own costs no more than reading all."""
Thin = tuple[Tensor, Tensor]
"""An adapter's A (E, r, in) and B (E, out, r), the scale in B."""


@dataclass(slots=True)
class ExpertWeights:
    """The routed experts of a layer."""

    gate: Tensor
    """(E, I, H)"""
    up: Tensor
    down: Tensor
    """(E, H, I)"""
    adapter: dict[str, Thin]
    """By projection: gate, up, down; empty without an adapter."""


@dataclass(slots=True)
class RouterWeights:
    """The router of a layer."""

    weight: Tensor
    """(E, H)"""
    chosen: int
    """k"""
    normalise: bool
    factor: float


def route(x: Tensor, router: RouterWeights) -> tuple[Tensor, Tensor]:
    """Chooses experts: (B, H) → indices (B, k) and their float32 weights (B, k), largest first."""
    if has_triton(x):
        return route_triton(x, router)
    scores = F.linear(x.float(), router.weight.float()).softmax(dim=-1)
    shares, indices = scores.topk(router.chosen, dim=-1)
    if router.normalise:
        shares = shares / (shares.sum(dim=-1, keepdim=True) + 1e-20)
    return indices, shares if router.factor == 1 else shares * router.factor


def route_triton(x: Tensor, router: RouterWeights) -> tuple[Tensor, Tensor]:
    """As `route`; the indices are int32."""
    from ocrsmith.model.decode_triton import choose_experts

    tokens, size = x.shape
    experts = router.weight.shape[0]
    indices = torch.empty(tokens, router.chosen, device=x.device, dtype=torch.int32)
    shares = torch.empty(tokens, router.chosen, device=x.device, dtype=torch.float32)
    choose_experts[(tokens,)](
        x.contiguous(),
        router.weight,
        indices,
        shares,
        size,
        experts,
        float(router.factor),
        K=router.chosen,
        NORMALISE=router.normalise,
        E=power_of_two(experts),
        BLOCK=128,
        num_warps=8,
    )
    return indices, shares


def reads_chosen(x: Tensor, experts: ExpertWeights) -> bool:
    """Whether only the chosen experts are read: for few tokens, and where the others would take a loop."""
    if not has_triton(x) or experts.adapter or choice.experts != "auto":
        return False
    return x.shape[0] <= FEW_TOKENS or expert_path(x) == "loop"


def apply_chosen(
    x: Tensor, indices: Tensor, shares: Tensor, experts: ExpertWeights, shared_in: Tensor, shared_out: Tensor
) -> Tensor:
    """Chosen and shared experts of each token, in two Triton kernels.

    Args:
        x: (B, H).
        indices, shares: of `route_triton`.
        shared_in: (2W, H), gate's rows before up's.
        shared_out: (H, W).
    Returns:
        (B, H), the sum of all.
    """
    from ocrsmith.model.decode_triton import experts_in, experts_out

    x = x.contiguous()
    tokens, hidden = x.shape
    chosen, width, shared_width = indices.shape[1], experts.gate.shape[1], shared_out.shape[1]
    parts = shared_width // width
    inner = x.new_empty(tokens, chosen + parts, width)
    out = torch.empty_like(x)
    rows = 16
    experts_in[(tokens, chosen + parts, -(-width // rows))](
        x,
        indices,
        experts.gate,
        experts.up,
        shared_in,
        inner,
        hidden,
        width,
        shared_width,
        K=chosen,
        PARTS=parts,
        ROWS=rows,
        BLOCK=min(256, power_of_two(hidden)),
    )
    rows = 8
    experts_out[(tokens, -(-hidden // rows))](
        inner,
        indices,
        shares,
        experts.down,
        shared_out,
        out,
        hidden,
        width,
        shared_width,
        K=chosen,
        PARTS=parts,
        ROWS=rows,
        BLOCK=min(512, power_of_two(width)),
    )
    return out


def apply_grouped(x: Tensor, indices: Tensor, shares: Tensor, experts: ExpertWeights) -> Tensor:
    """The chosen experts of each token by grouped GEMMs over all experts: (B, H), without the shared ones."""
    token_of, back, groups = rows_by_expert(indices, experts.gate.shape[0])
    rows = x[token_of]  # (B·k, H)
    inner = swiglu(_project("gate", rows, experts, groups), _project("up", rows, experts, groups))
    return combine(_project("down", inner, experts, groups), None, back, shares)


def _project(name: str, rows: Tensor, experts: ExpertWeights, groups: Groups) -> Tensor:
    weight: Tensor = getattr(experts, name)
    out = grouped_rows(rows, weight.transpose(1, 2), groups)
    if name not in experts.adapter:
        return out
    a, b = experts.adapter[name]
    thin = grouped_rows(rows, a.transpose(1, 2), groups)
    return out + grouped_rows(thin, b.transpose(1, 2), groups)
