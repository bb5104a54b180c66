"""Triton kernels behind `kernels.combine` and `kernels.gather_sum`: each row is read once."""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor


def sum_rows(parts: Sequence[Tensor | None], back: Tensor, weights: Tensor | None) -> Tensor:
    """out[n] = Σ_j weights[n, j] · Σ_p parts[p][back[n, j]], summed in float32.

    Args:
        parts: one to three (M, H) tensors of the same dtype, contiguous; None is left out.
        back: (N, k) int64.
        weights: (N, k) float32; None: all 1.
    Returns:
        (N, H) in the parts' dtype.
    """
    first, *others = (part.contiguous() for part in parts if part is not None)
    second, third = (*others, first, first)[:2]
    tokens, k = back.shape
    width = first.shape[1]
    out = torch.empty(tokens, width, dtype=first.dtype, device=first.device)
    _sum_rows[(tokens,)](
        first, second, third, back, back if weights is None else weights.contiguous(), out, width,
        CHOICES=k, PARTS=1 + len(others), WEIGHTED=weights is not None, BLOCK=triton.next_power_of_2(width),
        num_warps=4,
    )  # fmt: skip
    return out


@triton.jit
def _sum_rows(
    first, second, third, back, weights, out, width,
    CHOICES: tl.constexpr, PARTS: tl.constexpr, WEIGHTED: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    token = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, BLOCK)
    inside = column < width
    total = tl.zeros([BLOCK], tl.float32)
    for choice in tl.static_range(CHOICES):
        at = tl.load(back + token * CHOICES + choice) * width + column
        part = tl.load(first + at, mask=inside, other=0.0).to(tl.float32)
        if PARTS > 1:
            part += tl.load(second + at, mask=inside, other=0.0).to(tl.float32)
        if PARTS > 2:
            part += tl.load(third + at, mask=inside, other=0.0).to(tl.float32)
        if WEIGHTED:
            part *= tl.load(weights + token * CHOICES + choice)
        total += part
    tl.store(out + token * width + column, total.to(out.dtype.element_ty), mask=inside)
