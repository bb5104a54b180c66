"""SAM's attention with decomposed relative positions, as Triton kernels, forwards only: the frozen encoder's.

The bias of a query and a key is the sum of an entry for the key's row and one for its column. A first kernel
makes those entries for every query (span + span numbers); in the second keys are taken a few rows of the window
at a time, so that the columns' part of a block is the same for all blocks and stays in registers, and the rows'
part is one number per query and key row. No bias tensor (queries x keys) is ever formed.

A window is `span` positions a side; for global attention it is the whole map. Both kernels find a window's
positions in the map by themselves. Positions beyond the map's edge, which the plain path pads with zeros before
the linear layer, have that layer's bias as key and value.

Letters: B views, G side of the map, h heads, d channels of a head, N = span² positions of a window.

Source: MViTv2 (arXiv 2112.01526), eq. 4; online softmax as FlashAttention-2 (arXiv 2307.08691), algorithm 1.
"""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

QUERIES, WARPS, STAGES = 64, 4, 3


def relative_attention(
    qkv: Tensor, pad: Tensor, rows: Tensor, columns: Tensor, *, heads: int, span: int
) -> Tensor:
    """
    Args:
        qkv: (B, G, G, 3·h·d) contiguous, half precision; the scale is d**-0.5.
        pad: (3·h·d,) queries, keys and values of positions beyond the edge.
        rows, columns: (2·span - 1, d) relative positions, by query minus key plus span - 1.
        heads: h.
        span: positions a side of a window; G for the whole map.
    Returns:
        (B, G, G, h·d).
    """
    batch, grid = qkv.shape[:2]
    rows, columns = rows.contiguous(), columns.contiguous()
    channels = qkv.shape[-1] // (3 * heads)
    of_rows = qkv.new_empty(batch, grid, grid, heads, span)
    of_columns = qkv.new_empty(batch, grid, grid, heads, span)
    moving = triton.next_power_of_2(max(16, grid))
    keys = triton.next_power_of_2(max(16, span))
    sizes = {"SPAN": span, "MOVING": moving, "KEYS": keys, "CHANNELS": channels}
    _query_bias[(grid, heads, batch)](qkv, rows, of_rows, grid, heads, grid, 1, **sizes, num_warps=4)
    _query_bias[(grid, heads, batch)](qkv, columns, of_columns, grid, heads, 1, grid, **sizes, num_warps=4)
    out = qkv.new_empty(batch, grid, grid, heads * channels)
    windows = triton.cdiv(grid, span)
    together, block = _keys_of_a_block(span)
    _attend[(triton.cdiv(span * span, QUERIES), windows * windows * heads, batch)](
        qkv, pad, of_rows, of_columns, out, heads, grid, windows, channels**-0.5 * 1.4426950408889634,
        SPAN=span, PADDED=bool(grid % span), TOGETHER=together, KEYS=block, QUERIES=QUERIES, CHANNELS=channels,
        num_warps=WARPS, num_stages=STAGES,
    )  # fmt: skip
    return out


def _keys_of_a_block(span: int) -> tuple[int, int]:
    """Window rows taken together, and the keys of a block: a power of two that holds them with little waste."""
    if span > 42:
        return 1, triton.next_power_of_2(span)
    if span > 32:
        return 3, 128
    together = max(1, 64 // span)
    return together, triton.next_power_of_2(max(16, together * span))


@triton.jit
def _query_bias(
    qkv, table, out, grid, heads, fixed_step, moving_step,
    SPAN: tl.constexpr, MOVING: tl.constexpr, KEYS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """out[query, key row (or column)] = query · table[query's row - key row + SPAN - 1], for a line of queries.

    `fixed_step` leads from one line to the next (a row of the map, or a column), `moving_step` along it.
    """
    line, head, batch = tl.program_id(0), tl.program_id(1), tl.program_id(2).to(tl.int64)
    along = tl.arange(0, MOVING)
    channel = tl.arange(0, CHANNELS)
    key = tl.arange(0, KEYS)
    place = batch * grid * grid + line * fixed_step + along * moving_step
    there = along < grid
    query = tl.load(
        qkv + place[:, None] * (3 * heads * CHANNELS) + head * CHANNELS + channel[None, :],
        mask=there[:, None],
        other=0.0,
    )
    entry = line % SPAN - key + SPAN - 1
    wanted = key < SPAN
    entries = tl.load(table + entry[None, :] * CHANNELS + channel[:, None], mask=wanted[None, :], other=0.0)
    bias = tl.dot(query, entries)
    tl.store(
        out + (place[:, None] * heads + head) * SPAN + key[None, :],
        bias.to(out.dtype.element_ty),
        mask=there[:, None] & wanted[None, :],
    )


@triton.jit
def _attend(
    qkv, pad, rows, columns, out, heads, grid, windows, scale,
    SPAN: tl.constexpr, PADDED: tl.constexpr, TOGETHER: tl.constexpr, KEYS: tl.constexpr,
    QUERIES: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    batch = tl.program_id(2).to(tl.int64)
    head = tl.program_id(1) % heads
    window = tl.program_id(1) // heads
    top = (window // windows) * SPAN
    left = (window % windows) * SPAN
    width = heads * CHANNELS
    number = tl.program_id(0) * QUERIES + tl.arange(0, QUERIES)
    channel = tl.arange(0, CHANNELS)
    key = tl.arange(0, KEYS)
    row, column = top + number // SPAN, left + number % SPAN
    inside = (number < SPAN * SPAN) & (row < grid) & (column < grid)
    place = (batch * grid + row) * grid + column
    q_tile = tl.load(
        qkv + place[:, None] * (3 * width) + head * CHANNELS + channel[None, :], mask=inside[:, None], other=0.0
    )
    bias_at = (place * heads + head) * SPAN  # a query's entries
    key_column = key % SPAN
    of_column = (
        tl.load(columns + bias_at[:, None] + key_column[None, :], mask=inside[:, None], other=0.0).to(
            tl.float32
        )
        * 1.4426950408889634
    )  # log2 e
    of_block = key // SPAN  # which of the rows taken together
    k_pad = tl.load(pad + width + head * CHANNELS + channel)
    v_pad = tl.load(pad + 2 * width + head * CHANNELS + channel)
    largest = tl.full([QUERIES], -1.0e30, tl.float32)
    total = tl.zeros([QUERIES], tl.float32)
    sums = tl.zeros([QUERIES, CHANNELS], tl.float32)
    for first in range(0, SPAN, TOGETHER):
        key_row = first + of_block
        there = (of_block < TOGETHER) & (key_row < SPAN)  # in the window
        on_map = there & (top + key_row < grid) & (left + key_column < grid)
        key_at = (((batch * grid + top + key_row) * grid) + left + key_column) * (3 * width) + head * CHANNELS
        k_tile = tl.load(qkv + key_at[None, :] + width + channel[:, None], mask=on_map[None, :], other=0.0)
        v_tile = tl.load(qkv + key_at[:, None] + 2 * width + channel[None, :], mask=on_map[:, None], other=0.0)
        if PADDED:
            k_tile = tl.where(on_map[None, :], k_tile, k_pad[:, None])
            v_tile = tl.where(on_map[:, None], v_tile, v_pad[None, :])
        scores = tl.dot(q_tile, k_tile) * scale + of_column
        for step in tl.static_range(TOGETHER):
            of_row = (
                tl.load(rows + bias_at + first + step, mask=inside & (first + step < SPAN), other=0.0).to(
                    tl.float32
                )
                * 1.4426950408889634
            )
            if TOGETHER == 1:
                scores += of_row[:, None]
            else:
                scores += tl.where(of_block[None, :] == step, of_row[:, None], 0.0)
        if KEYS != TOGETHER * SPAN or SPAN % TOGETHER != 0:
            scores = tl.where(there[None, :], scores, float("-inf"))
        now = tl.maximum(largest, tl.max(scores, 1))
        shrink = tl.exp2(largest - now)
        weights = tl.exp2(scores - now[:, None])
        total = total * shrink + tl.sum(weights, 1)
        sums = sums * shrink[:, None] + tl.dot(weights.to(v_tile.dtype), v_tile)
        largest = now
    sums = sums / total[:, None]
    tl.store(
        out + place[:, None] * width + head * CHANNELS + channel[None, :],
        sums.to(out.dtype.element_ty),
        mask=inside[:, None],
    )
