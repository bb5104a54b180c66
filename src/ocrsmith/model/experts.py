"""Mixture of experts: one 3-D weight per projection, one grouped GEMM for all experts.

Letters: N tokens, k experts a token, E experts, H hidden, I expert width, r rank; M = N*k rows by expert.

Source: DeepSeekMoE (arXiv 2401.06066), eq. 3–5; router as DeepSeek-V2 (arXiv 2405.04434), eq. 20–23; LoRA
(arXiv 2106.09685), eq. 3, per expert.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ocrsmith.model.config import DecoderSizes
from ocrsmith.model.kernels import (
    Groups,
    combine,
    compute_dtype,
    dense_weight,
    gather_sum,
    grouped_linear,
    grouped_outer,
    grouped_rows,
    rows_by_expert,
    swiglu,
    swiglu_backward,
    swiglu_plus,
)

PROJECTIONS = ("gate_proj", "up_proj", "down_proj")


class ExpertsAdapter(NamedTuple):
    """LoRA on all experts of a layer: for expert e, y = W_e x + scale · B_e (A_e x)."""

    scale: float
    gate_a: Tensor
    """(E, r, H)"""
    gate_b: Tensor
    """(E, I, r)"""
    up_a: Tensor
    up_b: Tensor
    down_a: Tensor
    """(E, r, I)"""
    down_b: Tensor
    """(E, H, r)"""


class GroupedExperts(nn.Module):
    """All routed experts of a layer. The hub's checkpoint has a matrix an expert; `weights.py` stacks them."""

    recompute = False
    """Whether the backward pass computes gate and up anew, for less memory; see `set_checkpointing`."""

    def __init__(self, sizes: DecoderSizes) -> None:
        super().__init__()
        experts, hidden, inner = sizes.n_routed_experts, sizes.hidden_size, sizes.moe_intermediate_size
        self.gate_proj = nn.Parameter(torch.zeros(experts, inner, hidden))
        self.up_proj = nn.Parameter(torch.zeros(experts, inner, hidden))
        self.down_proj = nn.Parameter(torch.zeros(experts, hidden, inner))

    def shape_of(self, name: str) -> tuple[int, int, int]:
        """(experts, out, in) of a projection."""
        experts, out_features, in_features = getattr(self, name).shape
        return experts, out_features, in_features

    @property
    def placement(self) -> dict[str, Any]:
        """Device and dtype of tensors that go with the weights."""
        return {"device": self.gate_proj.device, "dtype": self.gate_proj.dtype}

    @property
    def learns(self) -> bool:
        """Whether the weights themselves are trained."""
        return any(parameter.requires_grad for parameter in self.parameters(recurse=False))

    def project(self, name: str, x: Tensor, groups: Groups) -> Tensor:
        """One projection of all experts, (M, in) → (M, out), for autograd to follow. Adapters override this."""
        return grouped_linear(x, dense_weight(self, name), groups)

    def forward(self, x: Tensor, expert_indices: Tensor, expert_weights: Tensor) -> Tensor:
        """
        Args:
            x: (N, H).
            expert_indices: (N, k) which experts each token goes to.
            expert_weights: (N, k) how much each counts.
        Returns:
            (N, H), the weighted sum of the experts' outputs.
        """
        if self.learns and torch.is_grad_enabled():
            return apply_by_autograd(self, self, x, expert_indices, expert_weights)
        return apply_frozen(self, x, expert_indices, expert_weights)


def apply_by_autograd(
    base: GroupedExperts, projecting: Any, x: Tensor, expert_indices: Tensor, expert_weights: Tensor
) -> Tensor:
    """The experts as plain operations: for weights that are trained, and as the reference in tests.

    Args:
        base: the experts.
        projecting: has the `project` to use: the experts', or an adapter's around them.
        x, expert_indices, expert_weights: as `GroupedExperts.forward` has them.
    """
    tokens, k = expert_indices.shape
    token_of, back, groups = rows_by_expert(expert_indices, base.shape_of("gate_proj")[0])
    rows = x[token_of]  # (M, H)
    inner = swiglu(projecting.project("gate_proj", rows, groups), projecting.project("up_proj", rows, groups))
    out = projecting.project("down_proj", inner, groups)[back.flatten()].view(tokens, k, -1)
    return (out * expert_weights.to(out.dtype).unsqueeze(-1)).sum(dim=1)


def apply_frozen(
    base: GroupedExperts,
    x: Tensor,
    expert_indices: Tensor,
    expert_weights: Tensor,
    adapter: ExpertsAdapter | None = None,
) -> Tensor:
    """Frozen experts with an adapter or none, with a backward pass of our own that keeps little."""
    out: Tensor = _FrozenExperts.apply(
        x,
        expert_weights,
        expert_indices,
        base,
        adapter.scale if adapter else 0.0,
        *(adapter[1:] if adapter else ()),
    )
    return out


class _Factors(NamedTuple):
    """An adapter in the dtype of the arithmetic, the scale in its B."""

    a_in: Tensor
    """(E, 2r, H): gate's A and up's, end to end, since they multiply the same rows."""
    a_down: Tensor
    """(E, r, I)"""
    b_gate: Tensor
    """(E, I, r)"""
    b_up: Tensor
    b_down: Tensor
    """(E, H, r)"""

    @classmethod
    def of(cls, adapter: Sequence[Tensor], scale: float, dtype: torch.dtype) -> _Factors | None:
        if not adapter:
            return None
        gate_a, gate_b, up_a, up_b, down_a, down_b = (matrix.to(dtype) for matrix in adapter)
        return cls(torch.cat([gate_a, up_a], dim=1), down_a, gate_b * scale, up_b * scale, down_b * scale)


class _Inner(NamedTuple):
    """What stands between the two projections, row by row."""

    gate: Tensor
    """(M, I)"""
    up: Tensor
    out: Tensor
    """(M, I) SwiGLU of both."""
    thin: Tensor | None
    """(M, 2r) the rows through gate's A and up's."""
    thin_down: Tensor | None
    """(M, r) `out` through down's A."""

    @classmethod
    def of(cls, base: GroupedExperts, rows: Tensor, groups: Groups, factors: _Factors | None) -> _Inner:
        gate, up = (
            grouped_rows(rows, dense_weight(base, name).to(rows.dtype).transpose(1, 2), groups)
            for name in ("gate_proj", "up_proj")
        )
        if factors is None:
            return cls(gate, up, swiglu(gate, up), None, None)
        thin = grouped_rows(rows, factors.a_in.transpose(1, 2), groups)
        rank = factors.a_down.shape[1]
        gate, up, out = swiglu_plus(
            gate,
            grouped_rows(thin[:, :rank], factors.b_gate.transpose(1, 2), groups),
            up,
            grouped_rows(thin[:, rank:], factors.b_up.transpose(1, 2), groups),
        )
        return cls(gate, up, out, thin, grouped_rows(out, factors.a_down.transpose(1, 2), groups))


class _FrozenExperts(torch.autograd.Function):
    """Forward: rows by expert, gate and up, SwiGLU, down, weighted sum; the adapter's delta is never formed.

    Between the passes it keeps the tokens, gate and up, and the adapter's thin activations; with `recompute`
    the tokens alone. The gradient of the routing weights needs no expert's output: it is the inner product of
    SwiGLU's output with what flows back to it before weighting.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weights: Tensor,
        indices: Tensor,
        base: GroupedExperts,
        scale: float,
        *adapter: Tensor,
    ) -> Tensor:
        dtype = compute_dtype(base.gate_proj)
        token_of, back, groups = plan = rows_by_expert(indices, base.shape_of("gate_proj")[0])
        factors = _Factors.of(adapter, scale, dtype)
        inner = _Inner.of(base, x.to(dtype)[token_of], groups, factors)
        down = dense_weight(base, "down_proj").to(dtype)
        out = grouped_rows(inner.out, down.transpose(1, 2), groups)  # (M, H)
        del down
        more = None
        if factors is not None and inner.thin_down is not None:
            more = grouped_rows(inner.thin_down, factors.b_down.transpose(1, 2), groups)  # (M, H)
        ctx.base, ctx.scale, ctx.plan, ctx.dtype = base, scale, plan, dtype
        kept = (None,) * 4 if base.recompute else (inner.gate, inner.up, inner.thin, inner.thin_down)
        ctx.save_for_backward(x, weights, *kept, *adapter)
        return combine(out, more, back, weights.float())

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weights, *kept = ctx.saved_tensors
        kept, adapter = kept[:4], kept[4:]
        base, (token_of, back, groups), dtype = ctx.base, ctx.plan, ctx.dtype
        factors = _Factors.of(adapter, ctx.scale, dtype)
        if kept[0] is None:
            inner = _Inner.of(base, x.to(dtype)[token_of], groups, factors)
            kept = [inner.gate, inner.up, inner.thin, inner.thin_down]
            del inner
        gate, up, thin, thin_down = kept
        row_weights = torch.empty(token_of.shape, dtype=torch.float32, device=x.device)
        row_weights[back.flatten()] = weights.flatten().float()  # (M,)
        out = grads[0].to(dtype)[token_of]  # (M, H), not weighted yet
        of_inner = grouped_rows(out, dense_weight(base, "down_proj").to(dtype), groups)  # (M, I)
        of_thin_down = None
        if factors is not None:
            of_thin_down = grouped_rows(out, factors.b_down, groups)  # (M, r)
            of_inner = of_inner + grouped_rows(of_thin_down, factors.a_down, groups)
        of_gate, of_up, of_rows, inner_out = swiglu_backward(gate, up, of_inner, row_weights)
        del gate, up, of_inner
        of_weights = of_rows[back].to(weights.dtype) if ctx.needs_input_grad[1] else None
        of_adapter: list[Tensor] = []
        of_thin = None
        if factors is not None and of_thin_down is not None:
            through_b = ((of_gate, factors.b_gate), (of_up, factors.b_up))
            of_thin = torch.cat([grouped_rows(rows, b, groups) for rows, b in through_b], dim=1)  # (M, 2r)
            share = row_weights[:, None].to(dtype)
            of_a = grouped_outer(of_thin, x.to(dtype)[token_of], groups)  # (E, 2r, H)
            of_adapter = _adapter_gradients(
                of_a,
                grouped_outer(of_thin_down * share, inner_out, groups),
                (of_gate, of_up, out),
                (*thin.chunk(2, dim=1), thin_down * share),
                ctx.scale,
                groups,
            )
            of_adapter = [g.to(p.dtype) for g, p in zip(of_adapter, adapter, strict=True)]
            del of_a, share
        del out, inner_out
        of_x = None
        if ctx.needs_input_grad[0]:
            of_x = gather_sum(
                grouped_rows(of_gate, dense_weight(base, "gate_proj").to(dtype), groups),
                grouped_rows(of_up, dense_weight(base, "up_proj").to(dtype), groups),
                None if factors is None or of_thin is None else grouped_rows(of_thin, factors.a_in, groups),
                back,
            ).to(x.dtype)
        return of_x, of_weights, None, None, None, *of_adapter


def _adapter_gradients(
    of_a: Tensor,
    of_down_a: Tensor,
    of_b: Sequence[Tensor],
    thin: Sequence[Tensor],
    scale: float,
    groups: Groups,
) -> list[Tensor]:
    """Gradients in the order of `ExpertsAdapter`.

    Args:
        of_a: (E, 2r, H) of gate's A and up's, end to end.
        of_down_a: (E, r, I).
        of_b: gradients of what the three B give: (M, I), (M, I), (M, H).
        thin: what they take: (M, r) each, by `scale` too small.
    """
    gate_a, up_a = of_a.chunk(2, dim=1)
    gate_b, up_b, down_b = (
        grouped_outer(rows, inner * scale, groups) for rows, inner in zip(of_b, thin, strict=True)
    )
    return [gate_a, gate_b, up_a, up_b, of_down_a, down_b]


class Router(nn.Module):
    """Chooses k experts for every token by a softmax over all, in float32."""

    def __init__(self, sizes: DecoderSizes) -> None:
        super().__init__()
        self.sizes = sizes
        self.weight = nn.Parameter(torch.zeros(sizes.n_routed_experts, sizes.hidden_size))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(N, H) → scores of all experts (N, E), chosen indices (N, k), their weights (N, k), largest first."""
        with torch.autocast(x.device.type, enabled=False):
            scores = F.linear(x.float(), self.weight.float()).softmax(dim=-1)
        weights, indices = scores.topk(self.sizes.num_experts_per_tok, dim=-1)
        if self.sizes.norm_topk_prob:
            weights = weights / (weights.sum(dim=-1, keepdim=True) + 1e-20)
        return scores, indices, weights * self.sizes.routed_scaling_factor


def balance_loss(scores: Tensor, indices: Tensor, batch: int) -> Tensor:
    """Load-balancing loss of one layer, a sequence at a time (DeepSeek-V2, eq. 12–14 with device = expert).

    Args:
        scores: (B*T, E) router softmax.
        indices: (B*T, k) chosen experts.
        batch: B.
    Returns:
        scalar: mean over sequences of Σ_e f_e P_e, where f_e is expert e's share of choices times E and P_e its
        mean score. Multiply by alpha.
    """
    experts = scores.shape[-1]
    chosen = indices.view(batch, -1)  # (B, T*k)
    share = torch.zeros(batch, experts, device=scores.device, dtype=scores.dtype)
    share = share.scatter_add(1, chosen, torch.ones_like(chosen, dtype=scores.dtype)) * (
        experts / chosen.shape[1]
    )
    return (share * scores.view(batch, -1, experts).mean(dim=1)).sum(dim=1).mean()
