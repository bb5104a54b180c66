"""Mixture of experts: one 3-D weight per projection, one grouped GEMM for all experts.

Letters: N tokens, k experts a token, E experts, H hidden, I expert width; M = N*k rows sorted by expert.

Source: DeepSeekMoE (arXiv 2401.06066), eq. 3–5; router as DeepSeek-V2 (arXiv 2405.04434), eq. 20–23.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ocrsmith.model.config import DecoderSizes

GROUPED_DTYPES = (torch.float32, torch.bfloat16, torch.float16)
"""What `torch.nn.functional.grouped_mm` computes in."""


def grouped_linear(x: Tensor, weight: Tensor, offsets: Tensor) -> Tensor:
    """Multiplies each group of rows with its expert's matrix, without a Python loop over experts.

    Like `nn.Linear`, it computes in autocast's dtype where that is on.

    Args:
        x: (M, in), rows sorted by expert.
        weight: (E, out, in).
        offsets: (E,) int32, the end of each expert's rows in `x` (cumulative counts).
    Returns:
        (M, out).
    """
    device, out_features = x.device.type, weight.shape[1]
    if torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
        x, weight = x.to(dtype), weight.to(dtype)
    if not hasattr(F, "grouped_mm") or device not in ("cpu", "cuda") or x.dtype not in GROUPED_DTYPES:
        return grouped_linear_plain(x, weight, offsets)
    unit = 16 // x.element_size()  # the kernel wants rows of a multiple of 16 bytes
    if (lack_in := -x.shape[1] % unit) | (lack_out := -out_features % unit):
        x, weight = F.pad(x, (0, lack_in)), F.pad(weight, (0, lack_in, 0, lack_out))
    return F.grouped_mm(x, weight.transpose(1, 2), offs=offsets)[:, :out_features]


def grouped_linear_plain(x: Tensor, weight: Tensor, offsets: Tensor) -> Tensor:
    """The same as `grouped_linear`, an expert at a time: the fallback, and the reference in tests.

    Reads `offsets` on the host, hence waits for the device.
    """
    ends = offsets.tolist()
    parts = [
        x[start:end] @ weight[e].t() for e, (start, end) in enumerate(zip([0, *ends[:-1]], ends, strict=True))
    ]
    return torch.cat(parts)


class GroupedExperts(nn.Module):
    """All routed experts of a layer. The hub's checkpoint has a matrix an expert; `weights.py` stacks them."""

    def __init__(self, sizes: DecoderSizes) -> None:
        super().__init__()
        experts, hidden, inner = sizes.n_routed_experts, sizes.hidden_size, sizes.moe_intermediate_size
        self.gate_proj = nn.Parameter(torch.zeros(experts, inner, hidden))
        self.up_proj = nn.Parameter(torch.zeros(experts, inner, hidden))
        self.down_proj = nn.Parameter(torch.zeros(experts, hidden, inner))

    def project(self, name: str, x: Tensor, offsets: Tensor) -> Tensor:
        """One projection of all experts: `name` is gate_proj, up_proj or down_proj. Adapters override this."""
        return grouped_linear(x, getattr(self, name), offsets)

    def forward(self, x: Tensor, expert_indices: Tensor, expert_weights: Tensor) -> Tensor:
        """
        Args:
            x: (N, H).
            expert_indices: (N, k) which experts each token goes to.
            expert_weights: (N, k) how much each counts.
        Returns:
            (N, H), the weighted sum of the experts' outputs.
        """
        tokens, k = expert_indices.shape
        flat = expert_indices.flatten()
        order = flat.argsort(stable=True)  # (M,) rows sorted by expert
        bounds = torch.arange(1, self.gate_proj.shape[0] + 1, device=x.device)
        offsets = torch.searchsorted(flat[order], bounds).to(torch.int32)  # (E,)
        rows = x[order // k]  # (M, H)
        inner = F.silu(self.project("gate_proj", rows, offsets)) * self.project("up_proj", rows, offsets)
        out = self.project("down_proj", inner, offsets)  # (M, H)
        back = torch.empty_like(order).scatter_(0, order, torch.arange(tokens * k, device=x.device))
        out = out[back].view(tokens, k, -1)
        return (out * expert_weights.to(out.dtype).unsqueeze(-1)).sum(dim=1)


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
