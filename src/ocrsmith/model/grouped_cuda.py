"""Grouped products as Triton kernels: no host in between, on every card that Triton serves.

torch's own grouped GEMM is fast for wide matrices on Hopper and Blackwell alone, and slow for an adapter's thin
ones. Here every program finds its expert by itself from the groups' ends, so that nothing is scheduled on the
host and the kernels can be part of a CUDA graph.

Letters: M rows sorted by expert, E experts.
"""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from ocrsmith.model.kernels import THIN


def grouped_rows(x: Tensor, weight: Tensor, ends: Tensor) -> Tensor:
    """(M, K) times each row's matrix of (E, K, N) → (M, N); any strides."""
    (rows, inner), (experts, _, width) = x.shape, weight.shape
    out = torch.empty(rows, width, dtype=x.dtype, device=x.device)
    if width <= THIN:
        block_m, block_n, block_k, warps, stages = 64, max(16, triton.next_power_of_2(width)), 128, 4, 3
    elif inner <= THIN:
        block_m, block_n, block_k, warps, stages = 64, 128, max(16, triton.next_power_of_2(inner)), 4, 2
    else:
        block_m, block_n, block_k, warps, stages = 128, 128, 64, 8, 3
    if x.dtype == torch.float32:
        block_k, stages = min(block_k, 32), 2
    _rows[(triton.cdiv(rows, block_m) + experts, triton.cdiv(width, block_n))](
        x, weight, out, ends, inner, width, *x.stride(), *weight.stride(), experts,
        EXPERTS=triton.next_power_of_2(experts), BLOCK_M=block_m, BLOCK_N=block_n, BLOCK_K=block_k,
        EXACT=x.dtype == torch.float32, num_warps=warps, num_stages=stages,
    )  # fmt: skip
    return out


def grouped_outer(a: Tensor, b: Tensor, ends: Tensor) -> Tensor:
    """Each expert's rows of `a` (M, P), transposed, times its rows of `b` (M, Q) → (E, P, Q)."""
    experts, p, q = ends.shape[0], a.shape[1], b.shape[1]
    out = torch.empty(experts, p, q, dtype=a.dtype, device=a.device)
    block_p, block_q = (min(128, max(16, triton.next_power_of_2(size))) for size in (p, q))
    _outer[(triton.cdiv(p, block_p), triton.cdiv(q, block_q), experts)](
        a, b, out, ends, p, q, *a.stride(), *b.stride(),
        BLOCK_M=32 if a.dtype == torch.float32 else 64, BLOCK_P=block_p, BLOCK_Q=block_q,
        EXACT=a.dtype == torch.float32, num_warps=4, num_stages=3,
    )  # fmt: skip
    return out


@triton.jit
def _rows(
    x, weight, out, ends, inner, width, x_m, x_k, w_e, w_k, w_n, experts,
    EXPERTS: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
    EXACT: tl.constexpr,
):  # fmt: skip
    tile = tl.program_id(0)
    number = tl.arange(0, EXPERTS)
    end = tl.load(ends + number, mask=number < experts, other=0)
    start = tl.load(ends + number - 1, mask=(number > 0) & (number < experts), other=0)
    tiles = tl.where(number < experts, (end - start + BLOCK_M - 1) // BLOCK_M, 0)
    done = tl.cumsum(tiles, 0)
    expert = tl.sum((done <= tile).to(tl.int32), 0)
    if expert < experts:
        mine = number == expert
        first = (
            tl.sum(tl.where(mine, start, 0), 0) + (tile - tl.sum(tl.where(mine, done - tiles, 0), 0)) * BLOCK_M
        )
        last = tl.sum(tl.where(mine, end, 0), 0)
        row = first + tl.arange(0, BLOCK_M)
        column = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
        k = tl.arange(0, BLOCK_K)
        x_at = x + row.to(tl.int64)[:, None] * x_m + k[None, :] * x_k
        w_at = weight + expert.to(tl.int64) * w_e + k[:, None] * w_k + column[None, :] * w_n
        total = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
        for begin in range(0, inner, BLOCK_K):
            left = k < inner - begin
            x_tile = tl.load(x_at, mask=(row < last)[:, None] & left[None, :], other=0.0)
            w_tile = tl.load(w_at, mask=left[:, None] & (column < width)[None, :], other=0.0)
            if EXACT:
                total += tl.dot(x_tile, w_tile, input_precision="ieee")
            else:
                total += tl.dot(x_tile, w_tile)
            x_at += BLOCK_K * x_k
            w_at += BLOCK_K * w_k
        tl.store(
            out + row.to(tl.int64)[:, None] * width + column[None, :],
            total.to(out.dtype.element_ty),
            mask=(row < last)[:, None] & (column < width)[None, :],
        )


@triton.jit
def _outer(
    a, b, out, ends, p_size, q_size, a_m, a_p, b_m, b_q,
    BLOCK_M: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_Q: tl.constexpr, EXACT: tl.constexpr,
):  # fmt: skip
    expert = tl.program_id(2)
    start = tl.load(ends + expert - 1, mask=expert > 0, other=0)
    end = tl.load(ends + expert)
    p = tl.program_id(0) * BLOCK_P + tl.arange(0, BLOCK_P)
    q = tl.program_id(1) * BLOCK_Q + tl.arange(0, BLOCK_Q)
    total = tl.zeros([BLOCK_P, BLOCK_Q], tl.float32)
    for begin in range(start, end, BLOCK_M):
        row = begin + tl.arange(0, BLOCK_M)
        inside = row < end
        wide = row.to(tl.int64)
        a_tile = tl.load(
            a + wide[None, :] * a_m + p[:, None] * a_p, mask=inside[None, :] & (p < p_size)[:, None], other=0.0
        )
        b_tile = tl.load(
            b + wide[:, None] * b_m + q[None, :] * b_q, mask=inside[:, None] & (q < q_size)[None, :], other=0.0
        )
        if EXACT:
            total += tl.dot(a_tile, b_tile, input_precision="ieee")
        else:
            total += tl.dot(a_tile, b_tile)
    tl.store(
        out + expert.to(tl.int64) * p_size * q_size + p[:, None] * q_size + q[None, :],
        total.to(out.dtype.element_ty),
        mask=(p < p_size)[:, None] & (q < q_size)[None, :],
    )
