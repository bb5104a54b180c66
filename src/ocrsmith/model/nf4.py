"""The NF4 number format: four bits a value, and a scale every 64 values that is itself kept in eight bits.

A block of 64 values is divided by its largest magnitude and each value replaced by the nearest of 16 levels,
which are quantiles of a normal distribution. The blocks' scales, their mean taken off, are divided by the
largest magnitude among 256 of them and replaced by the nearest of 256 steps: 4.127 bits a value.

Source: QLoRA (arXiv 2305.14314), section 3 and appendix E (the levels); the steps are the dynamic 8-bit type
of 8-Bit Approximations for Parallelism in Deep Learning (arXiv 1511.04561). The layout is that of bitsandbytes
(`quant_type="nf4"`, `compress_statistics=True`), so that either reads what the other wrote. Codes are equal; a
step may differ by one where a scale lies all but halfway: its CPU kernel does not always take the nearest.
"""

from __future__ import annotations

import importlib.util
import math
import warnings
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ocrsmith.errors import WeightsError, require

BLOCK = 64
"""Values that share a scale."""
SCALE_BLOCK = 256
"""Scales that share a factor."""
_CHUNK = 2**22
"""Values converted at a time, so that the float32 of a whole tensor is never in memory."""

LEVELS = (
    -1.0,
    -0.6961928009986877,
    -0.5250730514526367,
    -0.39491748809814453,
    -0.28444138169288635,
    -0.18477343022823334,
    -0.09105003625154495,
    0.0,
    0.07958029955625534,
    0.16093020141124725,
    0.24611230194568634,
    0.33791524171829224,
    0.44070982933044434,
    0.5626170039176941,
    0.7229568362236023,
    1.0,
)

Backend = Literal["auto", "torch", "triton", "bitsandbytes"]
"""Who converts. auto: on a GPU Triton, else bitsandbytes, where they are installed; torch everywhere else."""


@dataclass(frozen=True, slots=True)
class Nf4Tensor:
    """A tensor of n values in NF4."""

    codes: Tensor
    """(⌈n/2⌉,) uint8: two values a byte, the first in the upper four bits."""
    scales: Tensor
    """(⌈n/64⌉,) uint8: the step of each block's scale."""
    factors: Tensor
    """(⌈n/16384⌉,) float32: what the steps of 256 scales are multiplied with."""
    offset: Tensor
    """() float32: the mean of all scales, added then."""
    shape: tuple[int, ...]


class Tables(NamedTuple):
    """The format's constants on one device, float32."""

    levels: Tensor
    """(16,) ascending."""
    level_bounds: Tensor
    """(15,) halfway between."""
    pairs: Tensor
    """(256, 2): both levels of a byte."""
    steps: Tensor
    """(256,) ascending."""
    step_bounds: Tensor
    """(255,)"""


@cache
def tables(device: torch.device) -> Tables:
    """Makes the constants once for each device."""
    with torch.device("cpu"), torch.inference_mode(False):
        levels = torch.tensor(LEVELS)
        steps = dynamic_steps()
        byte = torch.arange(256)
        pairs = torch.stack([levels[byte >> 4], levels[byte & 15]], dim=1)
        made = (levels, _halfway(levels), pairs, steps, _halfway(steps))
        return Tables(*(table.to(device) for table in made))


def _halfway(ascending: Tensor) -> Tensor:
    return (ascending[:-1] + ascending[1:]) / 2


def dynamic_steps() -> Tensor:
    """The 256 values of the dynamic 8-bit type, ascending, float32.

    Decade d = -6 … 0 is cut into 2^(d+6) equal parts between 0.1 and 1 (times 10^d); the middle of each is a
    value, and its negative another. Zero and one come on top.
    """
    positive = []
    for decade in range(7):
        edges = torch.linspace(0.1, 1, 2**decade + 1)
        positive.append(_halfway(edges) * 10.0 ** (decade - 6))
    both = torch.cat(positive)
    return torch.cat([both, -both, torch.tensor([0.0, 1.0])]).sort().values


def sizes(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Lengths of `codes`, `scales` and `factors` of a tensor of that shape."""
    n = math.prod(shape)
    blocks = -(-n // BLOCK)
    return -(-n // 2), blocks, -(-blocks // SCALE_BLOCK)


# --- quantising ----------------------------------------------------------------------------------------------


@torch.no_grad()
def quantize(x: Tensor, *, backend: Backend = "auto", place: str | None = None) -> Nf4Tensor:
    """Quantises a tensor where it lies.

    Args:
        x: any shape and floating dtype; the arithmetic is float32.
        backend: torch or bitsandbytes; auto takes the latter on a GPU where it is installed.
        place: the tensor's name, for the error.
    Raises:
        WeightsError: a value is not finite.
        MissingExtraError: bitsandbytes is asked for and not installed.
    """
    flat = x.detach().reshape(-1)
    if not torch.isfinite(flat.sum(dtype=torch.float32)):
        raise WeightsError(
            "A weight holds values that are not finite and cannot be quantised.",
            place=place,
            mend="use intact weights; these come from a training that diverged, or are damaged",
        )
    if backend == "auto":
        backend = "bitsandbytes" if x.is_cuda and _installed("bitsandbytes") else "torch"
    if backend == "bitsandbytes":
        return _quantize_bitsandbytes(flat.contiguous(), tuple(x.shape))
    codes, scales = _quantize_blocks(flat)
    return Nf4Tensor(codes, *_quantize_scales(scales), tuple(x.shape))


def _quantize_blocks(flat: Tensor) -> tuple[Tensor, Tensor]:
    """(n,) → packed codes and the blocks' scales in float32."""
    n_codes, blocks, _ = sizes(tuple(flat.shape))
    constants = tables(flat.device)
    codes = torch.empty(n_codes, dtype=torch.uint8, device=flat.device)
    scales = torch.empty(blocks, dtype=torch.float32, device=flat.device)
    for start in range(0, len(flat), _CHUNK):
        part = flat[start : start + _CHUNK].float()
        part = F.pad(part, (0, -len(part) % BLOCK)).view(-1, BLOCK)
        levels, top = _nearest(part, constants.level_bounds)
        packed = levels[:, ::2] << 4 | levels[:, 1::2]
        into = codes[start // 2 : (start + _CHUNK) // 2]
        into.copy_(packed.view(-1)[: len(into)])
        scales[start // BLOCK : start // BLOCK + len(top)] = top
    return codes, scales


def _quantize_scales(scales: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(blocks,) float32 → steps, factors and offset."""
    offset = scales.mean()
    centred = F.pad(scales - offset, (0, -len(scales) % SCALE_BLOCK)).view(-1, SCALE_BLOCK)
    steps, factors = _nearest(centred, tables(scales.device).step_bounds)
    return steps.view(-1)[: len(scales)].clone(), factors, offset


def _nearest(rows: Tensor, bounds: Tensor) -> tuple[Tensor, Tensor]:
    """Each value over its row's largest magnitude: index of the nearest table entry. And that magnitude."""
    top = rows.abs().amax(dim=1)
    scaled = (rows * (1 / top.clamp(min=1e-38))[:, None]).clamp_(-1, 1)
    return torch.bucketize(scaled, bounds, out_int32=True).to(torch.uint8), top


# --- dequantising --------------------------------------------------------------------------------------------


@torch.no_grad()
def dequantize(tensor: Nf4Tensor, dtype: torch.dtype, *, backend: Backend = "auto") -> Tensor:
    """The dense tensor, in its shape and the given dtype (computed in float32, rounded once).

    Raises:
        MissingExtraError: bitsandbytes is asked for and not installed.
    """
    if backend == "auto":
        backend = _backend_for(tensor.codes.device)
    if backend == "triton":
        from ocrsmith.model.nf4_triton import dequantize_triton

        return dequantize_triton(tensor, dtype)
    if backend == "bitsandbytes":
        return _dequantize_bitsandbytes(tensor, dtype)
    return _dequantize_torch(tensor, dtype)


def block_scales(tensor: Nf4Tensor) -> Tensor:
    """(blocks,) float32: the scale of each block."""
    steps = tables(tensor.scales.device).steps.index_select(0, tensor.scales.int())
    steps = F.pad(steps, (0, -len(steps) % SCALE_BLOCK)).view(-1, SCALE_BLOCK)
    return (steps * tensor.factors[:, None]).add_(tensor.offset).view(-1)[: len(tensor.scales)]


def _dequantize_torch(tensor: Nf4Tensor, dtype: torch.dtype) -> Tensor:
    pairs, scales = tables(tensor.codes.device).pairs, block_scales(tensor)
    n = math.prod(tensor.shape)
    out = torch.empty(n, dtype=dtype, device=tensor.codes.device)
    for start in range(0, n, _CHUNK):
        into = out[start : start + _CHUNK]
        codes = tensor.codes[start // 2 : (start + _CHUNK) // 2]
        values = pairs.index_select(0, codes.int()).view(-1)
        values = F.pad(values, (0, -len(values) % BLOCK)).view(-1, BLOCK)
        values *= scales[start // BLOCK : start // BLOCK + len(values), None]
        into.copy_(values.view(-1)[: len(into)])
    return out.view(tensor.shape)


@cache
def _installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


@cache
def _backend_for(device: torch.device) -> Backend:
    """The fastest that runs there."""
    if device.type != "cuda":
        return "torch"
    if _installed("triton") and _triton_runs(device):
        return "triton"
    return "bitsandbytes" if _installed("bitsandbytes") else "torch"


def _triton_runs(device: torch.device) -> bool:
    """Tries the kernel once: the machine may lack a compiler or have too old a card."""
    from ocrsmith.model.nf4_triton import dequantize_triton

    sample = quantize(torch.linspace(-1, 1, 3 * BLOCK + 5, device=device), backend="torch")
    try:
        ours, plain = dequantize_triton(sample, torch.float16), _dequantize_torch(sample, torch.float16)
        right = torch.allclose(ours, plain, rtol=2e-3, atol=0)  # two roundings
        reason = "gave other values"
    except Exception as error:  # from the compiler, the driver or Triton itself: they share no base
        right, reason = False, f"failed ({type(error).__name__}: {error})"
    if not right:
        warnings.warn(f"The Triton kernel for 4-bit weights {reason}; a slower way is taken.", stacklevel=2)
    return right


# --- bitsandbytes --------------------------------------------------------------------------------------------


def _bitsandbytes() -> Any:
    return require("bitsandbytes", extra="quant", why="Converting 4-bit weights with bitsandbytes").functional


def _quantize_bitsandbytes(flat: Tensor, shape: tuple[int, ...]) -> Nf4Tensor:
    if flat.dtype == torch.float64:  # it takes 16 and 32 bits
        flat = flat.float()
    packed, state = _bitsandbytes().quantize_4bit(
        flat, blocksize=BLOCK, compress_statistics=True, quant_type="nf4"
    )
    return from_bitsandbytes(packed, state, shape)


def _dequantize_bitsandbytes(tensor: Nf4Tensor, dtype: torch.dtype) -> Tensor:
    packed, state = to_bitsandbytes(tensor, dtype)
    dense: Tensor = _bitsandbytes().dequantize_4bit(packed, state)
    return dense.reshape(tensor.shape)


def from_bitsandbytes(packed: Tensor, state: Any, shape: tuple[int, ...]) -> Nf4Tensor:
    """The same numbers out of bitsandbytes' packed tensor and `QuantState`, as views."""
    scales, factors = state.absmax.reshape(-1), state.state2.absmax.reshape(-1)
    return Nf4Tensor(packed.reshape(-1), scales, factors, state.offset, shape)


def to_bitsandbytes(tensor: Nf4Tensor, dtype: torch.dtype) -> tuple[Tensor, Any]:
    """bitsandbytes' packed tensor (⌈n/2⌉, 1) and `QuantState` of the flattened tensor, as views.

    Raises:
        MissingExtraError: bitsandbytes is not installed.
    """
    constants = tables(tensor.codes.device)
    make_state = _bitsandbytes().QuantState
    of_scales = make_state(
        absmax=tensor.factors, code=constants.steps, blocksize=SCALE_BLOCK, dtype=torch.float32
    )
    state = make_state(
        absmax=tensor.scales,
        shape=torch.Size([math.prod(tensor.shape)]),
        code=constants.levels,
        blocksize=BLOCK,
        quant_type="nf4",
        dtype=dtype,
        offset=tensor.offset,
        state2=of_scales,
    )
    return tensor.codes.view(-1, 1), state
