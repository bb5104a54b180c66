"""NF4 to a dense tensor in one GPU kernel: reads half a byte and writes two (or four) a value, nothing between.

Imported only where Triton is installed (see `nf4.dequantize`).
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from ocrsmith.model.nf4 import Nf4Tensor, tables

_ROWS = 64
"""Blocks of 64 values that one program converts."""


@triton.jit
def _dequantize(  # type: ignore[no-untyped-def]
    codes, scales, factors, offset, levels, steps, out, values, bytes_, blocks, ROWS: tl.constexpr
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)  # (ROWS,) blocks
    inside = row < blocks
    step = tl.load(scales + row, mask=inside, other=0).to(tl.int32)
    factor = tl.load(factors + row // 256, mask=inside, other=0.0)
    scale = tl.load(steps + step) * factor + tl.load(offset)  # (ROWS,)
    at = row[:, None] * 32 + tl.arange(0, 32)[None, :]  # (ROWS, 32) bytes
    byte = tl.load(codes + at, mask=at < bytes_, other=0).to(tl.int32)
    pair = tl.interleave(tl.load(levels + (byte >> 4)), tl.load(levels + (byte & 15)))  # (ROWS, 64)
    to = row[:, None] * 64 + tl.arange(0, 64)[None, :]
    tl.store(out + to, (pair * scale[:, None]).to(out.dtype.element_ty), mask=to < values)


def dequantize_triton(tensor: Nf4Tensor, dtype: torch.dtype) -> Tensor:
    """The dense tensor in its shape; the same values as plain torch gives, bit for bit."""
    device = tensor.codes.device
    constants = tables(device)
    out = torch.empty(tensor.shape, dtype=dtype, device=device)
    blocks = len(tensor.scales)
    if device.type == "cuda" and device.index != torch.cuda.current_device():
        with torch.cuda.device(device):
            return dequantize_triton(tensor, dtype)
    _dequantize[(triton.cdiv(blocks, _ROWS),)](
        tensor.codes,
        tensor.scales,
        tensor.factors,
        tensor.offset,
        constants.levels,
        constants.steps,
        out,
        out.numel(),
        len(tensor.codes),
        blocks,
        ROWS=_ROWS,
        num_warps=4,
        enable_fp_fusion=False,  # product and sum round apart, as they do elsewhere
    )
    return out
