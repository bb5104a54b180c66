"""One pass of Pillow's resampling as one GPU kernel; imported only where Triton is (see `device_views`)."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

_BLOCK = 1024
"""Values that one program makes."""


@triton.jit
def _resample(  # type: ignore[no-untyped-def]
    source, first, weights, out, blocks, before, after, inner, taps, BITS: tl.constexpr, BLOCK: tl.constexpr
):  # fmt: skip
    row = tl.program_id(0) // blocks
    place = tl.program_id(0) % blocks * BLOCK + tl.arange(0, BLOCK)  # within (after, inner)
    inside = place < after * inner
    to = place // inner
    within = place % inner
    start = tl.load(first + to, mask=inside, other=0)
    source += row.to(tl.int64) * before * inner
    out += row.to(tl.int64) * after * inner
    total = tl.full((BLOCK,), 1 << (BITS - 1), tl.int32)
    for tap in range(taps):
        # Past the edge the weight is 0, but the address has to be sound.
        at = tl.minimum(start + tap, before - 1) * inner + within
        weight = tl.load(weights + tap * after + to, mask=inside, other=0)
        total += tl.load(source + at, mask=inside, other=0).to(tl.int32) * weight
    total = tl.minimum(tl.maximum(total >> BITS, 0), 255)
    tl.store(out + place, total.to(tl.uint8), mask=inside)


def resample_triton(pixels: Tensor, first: Tensor, weights: Tensor, bits: int) -> Tensor:
    """(A, before, B) uint8 → (A, after, B) uint8; see `device_views.resample`."""
    rows, before, inner = pixels.shape
    taps, after = weights.shape
    out = torch.empty((rows, after, inner), dtype=torch.uint8, device=pixels.device)
    blocks = triton.cdiv(after * inner, _BLOCK)
    if pixels.is_cuda and pixels.device.index != torch.cuda.current_device():
        with torch.cuda.device(pixels.device):
            return resample_triton(pixels, first, weights, bits)
    _resample[(rows * blocks,)](
        pixels, first, weights, out, blocks, before, after, inner, taps, BITS=bits, BLOCK=_BLOCK, num_warps=4
    )
    return out
