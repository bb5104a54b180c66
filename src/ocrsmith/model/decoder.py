"""The DeepSeekMoE decoder: multi-head attention with rotary positions, dense first layer, experts after it.

Letters: B sequences, T new tokens, H hidden, h heads, d channels of a head.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.modeling_layers import GradientCheckpointingLayer

from ocrsmith.model.attention import Attend
from ocrsmith.model.config import DecoderSizes
from ocrsmith.model.experts import GroupedExperts, Router, balance_loss
from ocrsmith.model.kernels import fused, swiglu


class RMSNorm(nn.Module):
    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self.weight.shape, self.weight.to(x.dtype), self.eps)


class Mlp(nn.Module):
    """SwiGLU: the dense MLP, and the shared experts in one."""

    def __init__(self, hidden: int, inner: int) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(hidden, inner, bias=False)
        self.up_proj = nn.Linear(hidden, inner, bias=False)
        self.down_proj = nn.Linear(inner, hidden, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(swiglu(self.gate_proj(x), self.up_proj(x)))


class MoeMlp(nn.Module):
    """Routed experts plus the shared experts, which every token visits."""

    def __init__(self, sizes: DecoderSizes) -> None:
        super().__init__()
        self.gate = Router(sizes)
        self.experts = GroupedExperts(sizes)
        self.shared_experts = Mlp(sizes.hidden_size, sizes.moe_intermediate_size * sizes.n_shared_experts)

    def forward(self, x: Tensor, balance_losses: list[Tensor] | None) -> Tensor:
        rows = x.view(-1, x.shape[-1])  # (B*T, H)
        scores, indices, weights = self.gate(rows)
        if balance_losses is not None:
            balance_losses.append(balance_loss(scores, indices, x.shape[0]))
        return self.experts(rows, indices, weights).view_as(x) + self.shared_experts(x)


class Attention(nn.Module):
    def __init__(self, sizes: DecoderSizes, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.head_dim = sizes.head_dim
        self.q_proj = nn.Linear(sizes.hidden_size, sizes.hidden_size, bias=False)
        self.k_proj = nn.Linear(sizes.hidden_size, sizes.hidden_size, bias=False)
        self.v_proj = nn.Linear(sizes.hidden_size, sizes.hidden_size, bias=False)
        self.o_proj = nn.Linear(sizes.hidden_size, sizes.hidden_size, bias=False)

    def forward(
        self, x: Tensor, rotary: tuple[Tensor, Tensor], attend: Attend, rows: Tensor | None = None
    ) -> Tensor:
        """(B, T, H) → (B, T, H), or (1, R, H) of the flat positions `rows` (R,) alone."""
        batch, length, _ = x.shape
        q, k, v = (
            proj(x).view(batch, length, -1, self.head_dim)  # (B, T, h, d)
            for proj in (self.q_proj, self.k_proj, self.v_proj)
        )
        q, k = rotate(q, *rotary), rotate(k, *rotary)
        out = attend(self.layer, q, k, v).reshape(batch, length, -1)
        return self.o_proj(out if rows is None else pick_rows(out, rows))


class DecoderLayer(GradientCheckpointingLayer):
    def __init__(self, sizes: DecoderSizes, layer: int) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(sizes.hidden_size, sizes.rms_norm_eps)
        self.self_attn = Attention(sizes, layer)
        self.post_attention_layernorm = RMSNorm(sizes.hidden_size, sizes.rms_norm_eps)
        self.mlp: Mlp | MoeMlp
        if layer < sizes.first_k_dense_replace:
            self.mlp = Mlp(sizes.hidden_size, sizes.intermediate_size)
        else:
            self.mlp = MoeMlp(sizes)

    def forward(
        self,
        x: Tensor,
        rotary: tuple[Tensor, Tensor],
        attend: Attend,
        balance_losses: list[Tensor] | None,
        rows: Tensor | None = None,
    ) -> Tensor:
        """(B, T, H) → (B, T, H); with `rows` (R,) flat positions that alone are wanted, (1, R, H)."""
        seen = self.self_attn(self.input_layernorm(x), rotary, attend, rows)
        x = (x if rows is None else pick_rows(x, rows)) + seen
        normed = self.post_attention_layernorm(x)
        if isinstance(self.mlp, MoeMlp):
            return x + self.mlp(normed, balance_losses)
        return x + self.mlp(normed)


def pick_rows(x: Tensor, rows: Tensor) -> Tensor:
    """(B, T, C) → (1, R, C) at flat positions (R,)."""
    return x.flatten(0, 1).index_select(0, rows)[None]


def rotary_tables(positions: Tensor, head_dim: int, theta: float, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Cosines and sines (B, T, 1, d) of positions (B, T), computed in float32 (RoFormer, arXiv 2104.09864)."""
    steps = torch.arange(0, head_dim, 2, device=positions.device, dtype=torch.float32) / head_dim
    angles = positions[:, :, None, None].float() * (theta**-steps)  # (B, T, 1, d/2)
    angles = torch.cat([angles, angles], dim=-1)
    return angles.cos().to(dtype), angles.sin().to(dtype)


@fused
def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotates the halves of each head's channels: (B, T, h, d)."""
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-second, first], dim=-1) * sin
