"""Which fast paths run, and the grouped products that the experts are made of.

Every fast path has a plain fallback with the same numbers: older cards and CPUs take it by themselves, and a
switch forces it anywhere. Letters: M rows sorted by expert, E experts.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from functools import cache, wraps
from typing import Any, Literal, ParamSpec, TypeVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(slots=True)
class KernelChoice:
    """The process's fast paths; see `choose` and `using`."""

    experts: Literal["auto", "grouped", "triton", "loop"] = "auto"
    """grouped: torch's GEMM for all experts of a layer; triton: our kernels; loop: a GEMM each, for old cards.
    auto: on Hopper torch's, but ours for an adapter's thin matrices; on Ampere and Ada ours."""
    attention: Literal["auto", "flash", "plain"] = "auto"
    """flash: packed samples in one kernel; plain: one call for each sample."""
    triton: bool = True
    """Whether hand-written GPU kernels run: the frozen encoder's, and the experts' sums."""
    compiled: bool = False
    """Whether chains of small operations on a GPU are compiled into one kernel each (takes seconds, once)."""


choice = KernelChoice()


def choose(**changes: Any) -> None:
    """Sets fields of `choice` for the whole process."""
    changed = replace(choice, **changes)
    for field in fields(choice):
        setattr(choice, field.name, getattr(changed, field.name))


@contextmanager
def using(**changes: Any) -> Iterator[None]:
    """Sets fields of `choice` for a while."""
    before = {field.name: getattr(choice, field.name) for field in fields(choice)}
    choose(**changes)
    try:
        yield
    finally:
        choose(**before)


def fused(function: Callable[P, R]) -> Callable[P, R]:
    """Marks a chain of small tensor operations that is compiled into one kernel where `choice.compiled` is set.

    The first argument decides the device: on a CPU the function runs as it is written.
    """
    compiled: list[Callable[P, R]] = []

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        first = cast(Tensor, args[0])
        if not (choice.compiled and first.is_cuda):
            return function(*args, **kwargs)
        if not compiled:
            compiled.append(cast(Callable[P, R], torch.compile(function, dynamic=True)))
        return compiled[0](*args, **kwargs)

    return run


def dense_weight(module: nn.Module, name: str = "weight") -> Tensor:
    """A frozen layer's weight in its compute dtype; a quantised one is dequantised on the spot."""
    make = getattr(module, "dense_weight", None)
    return cast(Tensor, make(name) if make is not None else getattr(module, name))


def compute_dtype(weight: Tensor) -> torch.dtype:
    """What products with that weight are computed in: autocast's dtype where it is on, else the weight's."""
    device = weight.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype


@cache
def capability(device: torch.device) -> tuple[int, int]:
    """Compute capability of a CUDA device, such as (9, 0)."""
    return torch.cuda.get_device_capability(device)


def has_triton(x: Tensor) -> bool:
    """Whether a Triton kernel can take this tensor: it is on a GPU, Triton is there and not switched off."""
    return x.is_cuda and choice.triton and triton_works()


@cache
def triton_works() -> bool:
    """Whether Triton is installed with what it needs: a C compiler, for the code that launches its kernels."""
    compilers = (os.environ.get("CC") or "gcc", "clang", "cc")
    return importlib.util.find_spec("triton") is not None and any(map(shutil.which, compilers))


# --- grouped products -----------------------------------------------------------------------------------------

THIN = 64
"""Widths up to this are an adapter's: twice a usual rank."""


class Groups:
    """Where each expert's rows end, among rows that are sorted by expert."""

    __slots__ = ("_bounds", "ends")

    def __init__(self, ends: Tensor) -> None:
        """`ends`: (E,) int32, cumulative counts."""
        self.ends = ends
        self._bounds: list[tuple[int, int]] | None = None

    def bounds(self) -> list[tuple[int, int]]:
        """(first, one past the last) row of each expert, on the host: waits for the device, once."""
        if self._bounds is None:
            ends = self.ends.tolist()
            self._bounds = list(zip([0, *ends[:-1]], ends, strict=True))
        return self._bounds


def expert_path(x: Tensor, thin: bool = False) -> Literal["grouped", "triton", "loop"]:
    """How products of this tensor's dtype and device are made; `thin`: one side is an adapter's rank."""
    has_grouped = hasattr(F, "grouped_mm") and x.dtype in (torch.float32, torch.bfloat16, torch.float16)
    if choice.experts == "grouped":
        return "grouped" if has_grouped else "loop"
    if choice.experts != "auto":
        return choice.experts
    if not x.is_cuda:
        return "grouped" if x.device.type == "cpu" and has_grouped else "loop"
    # elsewhere torch loops over the experts itself, and waits for the device in every call
    fast = has_grouped and x.dtype == torch.bfloat16 and capability(x.device)[0] in (9, 10)
    ours = has_triton(x) and capability(x.device)[0] >= 8 and x.dtype != torch.float64
    if ours and (thin or not fast):
        return "triton"
    return "grouped" if fast else "loop"


def grouped_rows(x: Tensor, weight: Tensor, groups: Groups) -> Tensor:
    """Each row times its expert's matrix: (M, K) x (E, K, N) → (M, N)."""
    width = weight.shape[2]
    path = expert_path(x, thin=min(x.shape[1], width) <= THIN)
    if path == "loop":
        return torch.cat([x[a:b] @ weight[e] for e, (a, b) in enumerate(groups.bounds())])
    if path == "triton":
        from ocrsmith.model import grouped_cuda

        return grouped_cuda.grouped_rows(x, weight, groups.ends)
    unit = 16 // x.element_size()  # the kernel wants rows of a multiple of 16 bytes
    if (lack_in := -x.shape[1] % unit) | (lack_out := -width % unit):
        x, weight = F.pad(x, (0, lack_in)), F.pad(weight, (0, lack_out, 0, lack_in))
    return F.grouped_mm(x, weight, offs=groups.ends)[:, :width]


def grouped_outer(a: Tensor, b: Tensor, groups: Groups) -> Tensor:
    """Each expert's rows of `a`, transposed, times its rows of `b`: (M, P), (M, Q) → (E, P, Q)."""
    p, q = a.shape[1], b.shape[1]
    path = expert_path(a, thin=min(p, q) <= THIN)
    if path == "loop":
        return torch.stack([a[i:j].t() @ b[i:j] for i, j in groups.bounds()])
    if path == "triton":
        from ocrsmith.model import grouped_cuda

        return grouped_cuda.grouped_outer(a, b, groups.ends)
    unit = 16 // a.element_size()
    if (lack_a := -p % unit) | (lack_b := -q % unit):
        a, b = F.pad(a, (0, lack_a)), F.pad(b, (0, lack_b))
    return F.grouped_mm(a.t(), b, offs=groups.ends)[:, :p, :q]


def grouped_linear(x: Tensor, weight: Tensor, groups: Groups) -> Tensor:
    """Each row through its expert's linear layer: (M, in) with weight (E, out, in) → (M, out).

    Like `nn.Linear`, it computes in autocast's dtype where that is on.
    """
    dtype = compute_dtype(weight)
    return grouped_rows(x.to(dtype), weight.to(dtype).transpose(1, 2), groups)


# --- small chains ---------------------------------------------------------------------------------------------


@fused
def swiglu(gate: Tensor, up: Tensor) -> Tensor:
    """silu(gate) · up, any shape."""
    return F.silu(gate) * up


@fused
def swiglu_plus(gate: Tensor, gate_more: Tensor, up: Tensor, up_more: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Adds the adapter's parts: gate + more, up + more, and the SwiGLU of both."""
    gate, up = gate + gate_more, up + up_more
    return gate, up, F.silu(gate) * up


@fused
def swiglu_backward(
    gate: Tensor, up: Tensor, grad: Tensor, row_weights: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Backwards through `row_weights · SwiGLU(gate, up)`.

    Args:
        gate, up: (M, I).
        grad: (M, I) gradient of the weighted output.
        row_weights: (M,) float32.
    Returns:
        gradients of gate (M, I), up (M, I) and the row weights (M,) float32, and the SwiGLU itself (M, I).
    """
    wide_gate, wide_up, wide = gate.float(), up.float(), grad.float()
    sigmoid = torch.sigmoid(wide_gate)
    act = wide_gate * sigmoid  # silu
    inner = act * wide_up
    of_weights = (wide * inner).sum(dim=-1)
    wide = wide * row_weights[:, None]
    of_gate = wide * wide_up * sigmoid * (1 + wide_gate * (1 - sigmoid))
    return of_gate.to(gate.dtype), (wide * act).to(gate.dtype), of_weights, inner.to(gate.dtype)


def combine(rows: Tensor, more: Tensor | None, back: Tensor, weights: Tensor) -> Tensor:
    """Brings expert rows back to their tokens: out[n] = Σ_j weights[n, j] · (rows + more)[back[n, j]].

    Args:
        rows, more: (M, H); `more` is the adapter's part.
        back: (N, k) rows of each token.
        weights: (N, k) float32.
    Returns:
        (N, H) in the rows' dtype.
    """
    if has_triton(rows):
        from ocrsmith.model.kernels_cuda import sum_rows

        return sum_rows((rows, more), back, weights)
    picked = rows[back].float()  # (N, k, H)
    if more is not None:
        picked = picked + more[back].float()
    return (picked * weights.unsqueeze(-1)).sum(dim=1).to(rows.dtype)


def gather_sum(first: Tensor, second: Tensor, third: Tensor | None, back: Tensor) -> Tensor:
    """(N, H): the sum over each token's rows (N, k) of two or three (M, H) tensors."""
    if has_triton(first):
        from ocrsmith.model.kernels_cuda import sum_rows

        return sum_rows((first, second, third), back, None)
    picked = first[back].float() + second[back].float()
    if third is not None:
        picked = picked + third[back].float()
    return picked.sum(dim=1).to(first.dtype)


def rows_by_expert(indices: Tensor, experts: int) -> tuple[Tensor, Tensor, Groups]:
    """Sorts the (token, chosen expert) pairs by expert.

    Args:
        indices: (N, k).
        experts: E.
    Returns:
        token of each row (M,), row of each pair (N, k), the groups.
    """
    tokens, k = indices.shape
    keys = indices.flatten().to(torch.int16)  # radix sort: fewer bits, fewer passes
    keys, order = keys.sort(stable=True)
    bounds = torch.arange(1, experts + 1, device=keys.device, dtype=torch.int16)
    ends = torch.searchsorted(keys, bounds).to(torch.int32)
    back = torch.empty_like(order).scatter_(0, order, torch.arange(tokens * k, device=keys.device))
    return order // k, back.view(tokens, k), Groups(ends)


def split_rows(x: Tensor, lengths: Sequence[int]) -> tuple[Tensor, ...]:
    """(1, T, …) → samples (1, T_i, …)."""
    return x.split(list(lengths), dim=1)
