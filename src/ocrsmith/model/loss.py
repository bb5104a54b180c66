"""Cross entropy over a large vocabulary, a chunk of rows at a time.

Logits of 129,280 entries for every label of a page would take gigabytes, forwards and backwards. Here a chunk's
logits are made, turned into their gradient at once, and dropped; what stays is the gradient of the hidden rows.

Letters: R rows, H hidden, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ocrsmith.model.kernels import compute_dtype, fused

CHUNK_BYTES = 256 * 2**20
"""Most bytes of a chunk's logits in float32."""


def chunked_cross_entropy(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """Sum over rows of the cross entropy of `hidden @ weight.T`, for a weight that is not trained.

    Args:
        hidden: (R, H).
        weight: (V, H), frozen.
        targets: (R,) token ids; rows with a negative one do not count.
    Returns:
        scalar, float32.
    """
    out: Tensor = _ChunkedCrossEntropy.apply(hidden, weight, targets)
    return out


@fused
def entropy_and_slope(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Cross entropy of each row (R,) float32, and its slope (R, V) in the dtype of the logits (R, V).

    Rows with a negative target have neither.
    """
    wide, counts = logits.float(), (targets >= 0)[:, None]
    total = wide.logsumexp(dim=-1, keepdim=True)  # (R, 1)
    right = torch.arange(wide.shape[1], device=wide.device) == targets[:, None]
    chosen = wide.gather(1, targets.clamp(min=0)[:, None])
    slope = ((wide - total).exp() - right.to(wide.dtype)) * counts
    return ((total - chosen) * counts).squeeze(1), slope.to(logits.dtype)


class _ChunkedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
        dtype = compute_dtype(weight)
        weight = weight.to(dtype)
        rows = max(1, CHUNK_BYTES // (4 * weight.shape[0]))
        slopes = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        for start in range(0, hidden.shape[0], rows):
            part = slice(start, start + rows)
            logits = hidden[part].to(dtype) @ weight.t()  # (rows, V)
            entropy, slope = entropy_and_slope(logits, targets[part])
            total += entropy.sum()
            if slopes is not None:
                slopes[part] = (slope @ weight).to(slopes.dtype)
        ctx.save_for_backward(slopes)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (slopes,) = ctx.saved_tensors
        return slopes * grads[0].to(slopes.dtype), None, None
