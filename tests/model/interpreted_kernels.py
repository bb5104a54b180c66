"""Runs the Triton kernels in Triton's interpreter, on the CPU, and prints how far each is from plain torch.

A process of its own, since the interpreter must be asked for before Triton is imported.
"""

from __future__ import annotations

import json
import os

os.environ["TRITON_INTERPRET"] = "1"

import torch
from torch import Tensor

from ocrsmith.model import grouped_cuda, kernels_cuda, relative_attention_cuda
from ocrsmith.model.config import SamSizes
from ocrsmith.model.vision import SamBlock, join_windows, resize_relative, split_windows


def error(ours: Tensor, plain: Tensor) -> float:
    """Largest difference, in parts of the largest value."""
    return float((ours.float() - plain.float()).abs().max() / plain.float().abs().max())


def grouped(dtype: torch.dtype) -> dict[str, float]:
    found: dict[str, float] = {}
    for counts in ([5, 0, 70, 3], [0, 0, 64], [200]):
        ends = torch.tensor(counts).cumsum(0).to(torch.int32)
        expert = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
        for inner, width in ((40, 16), (12, 130), (130, 140), (140, 32)):
            x = torch.randn(sum(counts), inner).to(dtype)
            weight = torch.randn(len(counts), width, inner).to(dtype).transpose(1, 2)
            name = f"{dtype} {counts} {inner} {width}"
            ours = grouped_cuda.grouped_rows(x, weight, ends)
            found[f"rows {name}"] = error(ours, torch.einsum("mk,mkn->mn", x.float(), weight.float()[expert]))
            other = torch.randn(sum(counts), width).to(dtype)
            mine = [expert == number for number in range(len(counts))]
            plain = torch.stack([x[rows].float().t() @ other[rows].float() for rows in mine])
            found[f"outer {name}"] = error(grouped_cuda.grouped_outer(x, other, ends), plain)
    return found


def sums() -> dict[str, float]:
    found = {}
    a, b, c = (torch.randn(20, 24) for _ in range(3))
    back, weights = torch.randint(0, 20, (7, 3)), torch.rand(7, 3)
    for parts, given in (((a, b), weights), ((a, None), weights), ((a, b, c), None), ((a, b, None), None)):
        picked = torch.stack([part[back] for part in parts if part is not None]).sum(0)  # (N, k, H)
        plain = (picked * (torch.ones(7, 3) if given is None else given).unsqueeze(-1)).sum(1)
        present = sum(part is not None for part in parts)
        name = f"sum of {present}, weighted {given is not None}"
        found[name] = error(kernels_cuda.sum_rows(parts, back, given), plain)
    return found


def attention() -> dict[str, float]:
    """Windows that fit, windows over the edge, the whole map; spans of every way to take rows together."""
    found = {}
    for grid, window, channels, heads in (
        (9, 4, 32, 2),
        (8, 4, 16, 1),
        (16, 14, 16, 2),
        (20, 0, 16, 1),
        (40, 0, 16, 1),
        (44, 0, 16, 1),
    ):
        sizes = SamSizes(
            width=heads * channels, layers=1, heads=heads, window_size=window or 14, image_size=384
        )
        block = SamBlock(sizes, window)
        for parameter in block.parameters():
            parameter.data.normal_(0, 0.3)
        x = torch.randn(1, grid, grid, heads * channels)
        plain = (
            join_windows(block.attn(split_windows(x, window)), window, 1, grid, grid)
            if window
            else block.attn(x)
        )
        span = window or grid
        rows, columns = (
            resize_relative(table.half(), span) for table in (block.attn.rel_pos_h, block.attn.rel_pos_w)
        )
        bias = block.attn.qkv.bias.half()
        seen = relative_attention_cuda.relative_attention(
            block.attn.qkv(x).half().contiguous(), bias, rows, columns, heads=heads, span=span
        )
        found[f"attention, map {grid}, window {window}"] = error(block.attn.proj(seen.float()), plain)
    return found


if __name__ == "__main__":
    torch.manual_seed(0)
    with torch.no_grad():
        print(json.dumps({**grouped(torch.float32), **grouped(torch.float16), **sums(), **attention()}))
