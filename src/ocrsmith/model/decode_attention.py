"""Attention of one new token a sequence over what its slot holds: a Triton kernel, and its plain twin.

Letters: B sequences, S ≥ B slots, L places of a slot, h heads, d channels of a head.

The kernel reads each sequence's length from the device and cuts its keys into parts that many processors share
(Flash-Decoding), so that one captured CUDA graph serves every length.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ocrsmith.model.kernels import has_triton

BLOCK = 64
"""Keys that a program looks at together."""
PROGRAMS = 512
"""Programs that keep a large GPU busy; sequences times heads times parts should come near it."""
MAX_SPLITS = 32


def key_mask(positions: Tensor, used: int) -> Tensor:
    """Which places each sequence sees, those up to its position: (B, 1, 1, used) bool."""
    places = torch.arange(used, device=positions.device)
    return (places <= positions[:, None])[:, None, None]


def attend_slots(
    q: Tensor, keys: Tensor, values: Tensor, positions: Tensor, mask: Tensor | None = None
) -> Tensor:
    """One query a sequence; sequence b lies in slot b and sees its places up to positions[b].

    Args:
        q: (B, h, d), rotated.
        keys, values: (S, h, L, d), one layer's.
        positions: (B,) of the new tokens, whose keys and values are stored already.
        mask: of `key_mask`, for the plain way; the places behind it are not read. None: made here.
    Returns:
        (B, h, d).
    """
    if has_triton(q):
        return attend_slots_triton(q, keys, values, positions)
    return attend_slots_plain(q, keys, values, positions, mask)


def attend_slots_plain(
    q: Tensor, keys: Tensor, values: Tensor, positions: Tensor, mask: Tensor | None = None
) -> Tensor:
    """As `attend_slots`, by torch's own attention with a mask."""
    if mask is None:
        mask = key_mask(positions, keys.shape[2])
    batch, used = q.shape[0], mask.shape[-1]
    k, v = keys[:batch, :, :used], values[:batch, :, :used]
    return F.scaled_dot_product_attention(q[:, :, None], k, v, attn_mask=mask)[:, :, 0]


def attend_slots_triton(q: Tensor, keys: Tensor, values: Tensor, positions: Tensor) -> Tensor:
    """As `attend_slots`, by two Triton kernels."""
    from ocrsmith.model.decode_triton import attend_join, attend_part

    batch, heads, d = q.shape
    splits = max(1, min(MAX_SPLITS, -(-PROGRAMS // (batch * heads))))
    q = q.contiguous()
    sums = torch.empty(batch, heads, splits, d, device=q.device, dtype=torch.float32)
    peaks = torch.empty(batch, heads, splits, device=q.device, dtype=torch.float32)
    norms = torch.empty_like(peaks)
    out = torch.empty_like(q)
    lanes = power_of_two(d)
    attend_part[(batch, heads, splits)](
        q,
        keys,
        values,
        positions,
        sums,
        peaks,
        norms,
        keys.stride(0),
        keys.stride(1),
        d**-0.5,
        heads,
        d,
        SPLITS=splits,
        BLOCK=BLOCK,
        D=lanes,
    )
    attend_join[(batch * heads,)](
        sums, peaks, norms, out, d, SPLITS=splits, PARTS=power_of_two(splits), D=lanes, num_warps=1
    )
    return out


def power_of_two(number: int) -> int:
    """The smallest power of two that is not below it."""
    return 1 << (number - 1).bit_length()
