"""Attention with decomposed relative positions (MViTv2, arXiv 2112.01526, eq. 4).

On a CPU in float32 by plain products, a piece of the scores at a time; elsewhere by torch's fused kernels. (The
frozen encoder on a GPU has a kernel of its own: `vision_cuda.py`.)

The score of query i and key j is q_i·k_j / √d + rows[i, row of j] + columns[i, column of j].

Letters: B views (or windows), h heads, N = H·W positions, row by row, d channels of a head.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

CHUNK = 2**19
"""Scores (4 bytes each) that a CPU works on at a time: they stay in a core's cache from product to product."""
MOST_SCORES = 2**28
"""Scores that may be kept for the way back, 1 GiB; above that the fused kernel makes them twice instead."""


def relative_attention(q: Tensor, k: Tensor, v: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """
    Args:
        q, k, v: (B, h, N, d), of any strides with contiguous channels.
        rows: (B, h, N, H), what a query adds for each key row.
        columns: (B, h, N, W), what it adds for each key column.
    Returns:
        (B, h, N, d), laid out as (B, N, h, d), so that heads are joined without a copy.
    """
    wanted = torch.is_grad_enabled() and any(x.requires_grad for x in (q, k, v, rows, columns))
    if q.device.type == "cpu" and q.dtype == torch.float32 and (not wanted or _scores(q) <= MOST_SCORES):
        if wanted:
            return _InCache.apply(q, k, v, rows, columns)
        return _attend(q, k, v, rows, columns, None)
    return extended_attention(q, k, v, rows, columns)


def _scores(q: Tensor) -> int:
    batch, heads, count, _ = q.shape
    return batch * heads * count * count


def extended_attention(q: Tensor, k: Tensor, v: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """The bias as an inner product: the query carries its `rows` and `columns` as extra channels, the key a
    one-hot row and column. No (N x N) tensor is needed, and torch's fused kernels serve both ways.
    """
    head_dim = q.shape[-1]
    place = key_places(rows.shape[-1], columns.shape[-1], q.device, q.dtype)
    place = place.expand(*q.shape[:2], -1, -1)  # (B, h, N, H + W)
    q = torch.cat([q * head_dim**-0.5, rows, columns], dim=-1)
    k = torch.cat([k, place], dim=-1)
    fill = -q.shape[-1] % 8  # fused kernels want the same multiple of eight for queries, keys and values
    q, k = F.pad(q, (0, fill)), F.pad(k, (0, fill))
    v = F.pad(v, (0, q.shape[-1] - head_dim))
    out = F.scaled_dot_product_attention(q, k, v, scale=1.0)[..., :head_dim]
    return out.transpose(1, 2).contiguous().transpose(1, 2)


def key_places(height: int, width: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """(HW, H + W): the one-hot row and the one-hot column of every position, row by row."""
    rows = torch.eye(height, device=device, dtype=dtype).repeat_interleave(width, dim=0)
    columns = torch.eye(width, device=device, dtype=dtype).repeat(height, 1)
    return torch.cat([rows, columns], dim=-1)


# --- CPU: plain products, a piece of the scores at a time -----------------------------------------------------

Piece = tuple[int, slice, slice]
"""A view, some of its heads, some of its queries."""


def _pieces(q: Tensor) -> Iterator[Piece]:
    batch, heads, count, _ = q.shape
    queries = min(count, max(1, CHUNK // count))
    together = max(1, CHUNK // count**2)
    for view in range(batch):
        for head in range(0, heads, together):
            for start in range(0, count, queries):
                yield view, slice(head, head + together), slice(start, start + queries)


def _flat(x: Tensor) -> Tensor:
    """Contiguous (B, h, …) as one view of many heads, so that small windows go through products together."""
    return x.view(1, -1, *x.shape[2:]) if x.is_contiguous() else x


def _attend(q: Tensor, k: Tensor, v: Tensor, rows: Tensor, columns: Tensor, keep: Tensor | None) -> Tensor:
    """`keep`: (B, h, N, N), gets the attention weights."""
    batch, heads, count, head_dim = q.shape
    height, width = rows.shape[-1], columns.shape[-1]
    small = count <= 256  # windows: gathered anyway, hence contiguous
    out = q.new_empty(batch, heads, count, head_dim) if small else _by_position(q)
    if small:
        q, k, v, rows, columns = (x.contiguous() for x in (q, k, v, rows, columns))
        parts = [_flat(x) for x in (q, k, v, rows, columns, out)]
    else:
        parts = [q, k, v, rows, columns, out]
    q, k, v, rows, columns, into = parts
    kept = None if keep is None else (_flat(keep) if small else keep)
    scratch = None
    for view, head, query in _pieces(q):
        per_row, per_column = rows[view, head, query], columns[view, head, query]  # (g, c, H), (g, c, W)
        if kept is not None:
            scores = kept[view, head, query]  # (g, c, N)
        else:
            if scratch is None or scratch.shape[:2] != per_row.shape[:2]:
                scratch = q.new_empty(*per_row.shape[:2], count)
            scores = scratch
        torch.add(per_row.unsqueeze(-1), per_column.unsqueeze(-2), out=scores.unflatten(-1, (height, width)))
        scores.baddbmm_(q[view, head, query], k[view, head].transpose(1, 2), alpha=head_dim**-0.5)
        torch.softmax(scores, -1, out=scores)
        torch.bmm(scores, v[view, head], out=into[view, head, query])
    return out


def _by_position(q: Tensor) -> Tensor:
    """An empty (B, h, N, d), laid out as (B, N, h, d)."""
    batch, heads, count, head_dim = q.shape
    return q.new_empty(batch, count, heads, head_dim).transpose(1, 2)


class _InCache(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        weights = q.new_empty(*q.shape[:3], q.shape[2])
        out = _attend(q, k, v, rows, columns, weights)
        ctx.sizes = rows.shape[-1], columns.shape[-1]
        ctx.save_for_backward(q, k, v, weights)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, ...]:
        q, k, v, weights = ctx.saved_tensors
        return _attend_backward(grads[0], q, k, v, weights, ctx.sizes)


def _attend_backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, weights: Tensor, sizes: tuple[int, int]
) -> tuple[Tensor, ...]:
    """Gradients of q, k, v, rows and columns."""
    batch, heads, count, head_dim = q.shape
    scale = head_dim**-0.5
    of_rows, of_columns = (q.new_empty(batch, heads, count, size) for size in sizes)
    if count <= 256:
        grad, q, k, v = (x.contiguous() for x in (grad, q, k, v))
        of_q, of_k, of_v = (torch.empty_like(x) for x in (q, k, v))
        results = of_q, of_k, of_v, of_rows, of_columns
        grad, q, k, v, weights = (_flat(x) for x in (grad, q, k, v, weights))
        of_q, of_k, of_v, of_rows, of_columns = (_flat(x) for x in results)
    else:
        of_all = q.new_empty(batch, count, 3, heads, head_dim).permute(2, 0, 3, 1, 4)
        of_q, of_k, of_v = of_all.unbind()
        results = of_q, of_k, of_v, of_rows, of_columns
    scratch = None
    for view, head, query in _pieces(q):
        chosen, given = weights[view, head, query], grad[view, head, query]  # (g, c, N), (g, c, d)
        if scratch is None or scratch.shape != chosen.shape:
            scratch = torch.empty_like(chosen, memory_format=torch.contiguous_format)
        torch.bmm(given, v[view, head].transpose(1, 2), out=scratch)
        torch.ops.aten._softmax_backward_data.out(scratch, chosen, -1, scratch.dtype, grad_input=scratch)
        by_place = scratch.unflatten(-1, sizes)  # (g, c, H, W)
        torch.sum(by_place, -1, out=of_rows[view, head, query])
        torch.sum(by_place, -2, out=of_columns[view, head, query])
        _product(of_q[view, head, query], scratch, k[view, head], scale, first=True)
        first = query.start == 0
        _product(of_k[view, head], scratch.transpose(1, 2), q[view, head, query], scale, first=first)
        _product(of_v[view, head], chosen.transpose(1, 2), given, 1.0, first=first)
    return results


def _product(into: Tensor, a: Tensor, b: Tensor, scale: float, *, first: bool) -> None:
    """Writes scale · a b, or adds it to what is there."""
    torch.baddbmm(into, a, b, beta=0.0 if first else 1.0, alpha=scale, out=into)
