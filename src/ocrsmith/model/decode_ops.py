"""The small operations of a decoding step: on a GPU one Triton kernel each, elsewhere a few of torch's.

Letters: B sequences (one new token each), S ≥ B slots, L places of a slot, h heads, d channels, H hidden.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ocrsmith.model.decode_attention import power_of_two
from ocrsmith.model.decoder import rotate
from ocrsmith.model.kernels import has_triton


def add_norm(x: Tensor, delta: Tensor | None, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Residual sum and its RMSNorm.

    Args:
        x, delta: (B, H); None adds nothing.
        weight: (H,).
    Returns:
        x + delta and its norm, both (B, H).
    """
    if has_triton(x):
        return add_norm_triton(x, delta, weight, eps)
    if delta is not None:
        x = x + delta
    return x, F.rms_norm(x, weight.shape, weight, eps)


def add_norm_triton(x: Tensor, delta: Tensor | None, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """As `add_norm`."""
    from ocrsmith.model.decode_triton import add_norm as kernel

    x = x.contiguous()
    delta = delta.contiguous() if delta is not None else None
    out = torch.empty_like(x)
    total = torch.empty_like(x) if delta is not None else x
    size = x.shape[1]
    kernel[(x.shape[0],)](
        x,
        x if delta is None else delta,
        weight,
        total,
        out,
        size,
        eps,
        HAS_DELTA=delta is not None,
        BLOCK=power_of_two(size),
    )
    return total, out


def rotate_and_store(
    qkv: Tensor, cos: Tensor, sin: Tensor, positions: Tensor, keys: Tensor, values: Tensor
) -> Tensor:
    """Rotates queries and keys to their positions, and stores keys and values there.

    Args:
        qkv: (B, 3, h, d).
        cos, sin: (places, d), of all positions.
        positions: (B,).
        keys, values: (S, h, L, d) of one layer, written to: sequence b's into slot b.
    Returns:
        the rotated queries (B, h, d).
    """
    if has_triton(qkv):
        return rotate_and_store_triton(qkv, cos, sin, positions, keys, values)
    turned = rotate(qkv[:, :2], cos[positions][:, None, None], sin[positions][:, None, None])  # (B, 2, h, d)
    rows = torch.arange(len(positions), device=positions.device)
    keys[rows, :, positions] = turned[:, 1]
    values[rows, :, positions] = qkv[:, 2]
    return turned[:, 0]


def rotate_and_store_triton(
    qkv: Tensor, cos: Tensor, sin: Tensor, positions: Tensor, keys: Tensor, values: Tensor
) -> Tensor:
    """As `rotate_and_store`."""
    from ocrsmith.model.decode_triton import rotate_and_store as kernel

    batch, _, heads, d = qkv.shape
    q = qkv.new_empty(batch, heads, d)
    kernel[(batch, heads)](
        qkv.contiguous(),
        cos,
        sin,
        positions,
        q,
        keys,
        values,
        keys.stride(0),
        keys.stride(1),
        heads,
        d,
        HALF=power_of_two(d // 2),
        num_warps=1,
    )
    return q
