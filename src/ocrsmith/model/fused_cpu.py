"""The encoder's linear layers on a CPU: norm, product, activation and adapter of some rows at a time.

On a CPU the frozen encoder's products are quick, and what is written to memory between them is slow. So rows go
through norm, product and activation a chunk at a time, while they are in the cores' caches; backwards again.
The adapter is added to the weight first (W + scale · B A is small here, next to the rows), and its own thin
products ride along in the wide ones: [W'; A] x gives W' x and A x, dy [W', scale · B] gives both gradients.

The numbers are the plain path's but for the order of sums. What does not fit (weights that learn, dropout,
hooks, other devices and dtypes) is left to the plain path: `suits` and `linear_parts` tell.

Letters: N rows, r rank (0 without an adapter). y = (W + scale · B A) x: LoRA (arXiv 2106.09685), eq. 3.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

CHUNK = 2048
"""Rows that go through a block together: few enough for the cores' caches, enough that threads seldom wait."""

Activation = Literal["gelu", "quick_gelu"]

_enabled = True


@contextmanager
def plain_only() -> Iterator[None]:
    """Switches this module off for a while, for comparisons."""
    global _enabled
    before, _enabled = _enabled, False
    try:
        yield
    finally:
        _enabled = before


class LinearParts(NamedTuple):
    """A frozen linear layer and the adapter on it."""

    weight: Tensor
    """(out, in), with the adapter in it: W + scale · B A."""
    bias: Tensor | None
    a: Tensor | None
    """(r, in), learns."""
    b: Tensor | None
    """(out, r), learns."""
    scale: float


def suits(x: Tensor) -> bool:
    """Whether rows like these may come here: float32 on a CPU, without autocast."""
    return (
        _enabled
        and x.device.type == "cpu"
        and x.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
    )


def linear_parts(*modules: nn.Module) -> list[LinearParts] | None:
    """What each layer computes, for layers that are plain or carry one plain adapter; None if one is else."""
    found = []
    for module in modules:
        parts = _parts(module)
        if parts is None:
            return None
        found.append(parts)
    return found


def frozen_norm(module: nn.Module) -> bool:
    """Whether it is a layer norm as it comes, that does not learn."""
    return type(module) is nn.LayerNorm and not _hooked(module) and not _learns(module)


def _parts(module: Any) -> LinearParts | None:
    if _hooked(module):
        return None
    if type(module) is nn.Linear:
        return _bare(module)
    base = getattr(module, "base_layer", None)
    if type(base) is not nn.Linear or not hasattr(module, "lora_A") or _hooked(base):
        return None
    bare = _bare(base)
    active = [name for name in module.active_adapters if name in module.lora_A]
    if bare is None or module.disable_adapters or module.merged or not active:
        return bare
    name = active[0]
    if len(active) > 1 or not _is_plain(module, name):
        return None
    a, b = module.lora_A[name].weight, module.lora_B[name].weight
    if a.dtype != torch.float32 or b.dtype != torch.float32:
        return None
    scale = float(module.scaling[name])
    with torch.no_grad():
        weight = torch.addmm(bare.weight, b, a, alpha=scale)
    return LinearParts(weight, bare.bias, a, b, scale)


def _bare(linear: nn.Linear) -> LinearParts | None:
    if linear.weight.dtype != torch.float32 or _learns(linear):
        return None
    return LinearParts(linear.weight.detach(), linear.bias, None, None, 1.0)


def _is_plain(module: Any, adapter: str) -> bool:
    drops = module.training and not isinstance(module.lora_dropout[adapter], nn.Identity)
    special = (getattr(module, table, {}).get(adapter) for table in ("use_dora", "lora_bias", "lora_variant"))
    return not (drops or any(special) or getattr(module, "fan_in_fan_out", False))


def _learns(module: nn.Module) -> bool:
    return torch.is_grad_enabled() and any(p.requires_grad for p in module.parameters(recurse=False))


def _hooked(module: nn.Module) -> bool:
    return bool(module._forward_hooks or module._forward_pre_hooks or module._backward_hooks)


# --- what the encoder's blocks are made of --------------------------------------------------------------------


def norm_linear(x: Tensor, norm: nn.LayerNorm, linear: LinearParts) -> Tensor:
    """(…, in) → (…, out), rows maybe apart in memory."""
    rows = x.reshape(-1, x.shape[-1])
    y: Tensor = _NormLinear.apply(rows, _Norm.of(norm), linear, linear.a, linear.b)
    return y.unflatten(0, x.shape[:-1])


def linear_add(x: Tensor, linear: LinearParts, shortcut: Tensor) -> Tensor:
    """shortcut + linear(x): (…, in), (…, out) → (…, out)."""
    rows, onto = x.reshape(-1, x.shape[-1]), shortcut.reshape(-1, shortcut.shape[-1])
    y: Tensor = _LinearAdd.apply(rows, onto, linear, linear.a, linear.b)
    return y.view(shortcut.shape)


def norm_mlp_add(
    x: Tensor, norm: nn.LayerNorm, up: LinearParts, down: LinearParts, activation: Activation
) -> Tensor:
    """x + down(activation(up(norm(x)))): (…, width) → (…, width)."""
    rows = x.reshape(-1, x.shape[-1])
    y: Tensor = _NormMlpAdd.apply(rows, _Norm.of(norm), up, down, activation, up.a, up.b, down.a, down.b)
    return y.view(x.shape)


class _Norm(NamedTuple):
    weight: Tensor
    bias: Tensor
    eps: float

    @classmethod
    def of(cls, module: nn.LayerNorm) -> _Norm:
        return cls(module.weight.detach(), module.bias.detach(), module.eps)

    def forwards(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return torch.native_layer_norm(x, self.weight.shape, self.weight, self.bias, self.eps)

    def backwards(self, grad: Tensor, x: Tensor, mean: Tensor, deviation: Tensor) -> Tensor:
        wanted = [True, False, False]
        found = torch.ops.aten.native_layer_norm_backward(
            grad, x, self.weight.shape, mean, deviation, self.weight, self.bias, wanted
        )
        return cast(Tensor, found[0])


class _Wide:
    """A layer's matrices with the adapter's riding along."""

    __slots__ = ("bias", "parts", "rank")

    def __init__(self, parts: LinearParts, *, learns: bool) -> None:
        self.parts = parts
        self.rank = parts.a.shape[0] if learns and parts.a is not None else 0
        self.bias = parts.bias
        if self.bias is not None and self.rank:
            self.bias = torch.cat([self.bias, self.bias.new_zeros(self.rank)])

    def forwards(self) -> Tensor:
        """(in, out + r)."""
        weight = self.parts.weight
        return (torch.cat([weight, cast(Tensor, self.parts.a)]) if self.rank else weight).t()

    def backwards(self) -> Tensor:
        """(out, in + r)."""
        weight = self.parts.weight
        if not self.rank:
            return weight
        return torch.cat([weight, cast(Tensor, self.parts.b) * self.parts.scale], dim=1)

    def gradients(self) -> tuple[Tensor, Tensor] | None:
        """Zeros to add to: of A (r, in), of B transposed (r, out)."""
        if not self.rank:
            return None
        out, width = self.parts.weight.shape
        weight = self.parts.weight
        return weight.new_zeros(self.rank, width), weight.new_zeros(self.rank, out)

    def multiply(self, x: Tensor, matrix: Tensor, out: Tensor) -> None:
        if self.bias is None:
            torch.mm(x, matrix, out=out)
        else:
            torch.addmm(self.bias, x, matrix, out=out)


def _finished(sums: tuple[Tensor, Tensor] | None, scale: float) -> tuple[Tensor | None, Tensor | None]:
    """Gradients of A (r, in) and B (out, r)."""
    return (None, None) if sums is None else (sums[0], (sums[1] * scale).t().contiguous())


def _chunks(count: int) -> Iterator[slice]:
    for start in range(0, count, CHUNK):
        yield slice(start, min(start + CHUNK, count))


class _NormLinear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, norm: _Norm, parts: LinearParts, a: Tensor | None, b: Tensor | None
    ) -> Tensor:
        wide = _Wide(parts, learns=any(ctx.needs_input_grad[-2:]))
        matrix = wide.forwards()
        y = x.new_empty(x.shape[0], matrix.shape[1])  # (N, out + r)
        mean, deviation = x.new_empty(x.shape[0], 1), x.new_empty(x.shape[0], 1)
        for rows in _chunks(x.shape[0]):
            normed, mean[rows], deviation[rows] = norm.forwards(x[rows])
            wide.multiply(normed, matrix, y[rows])
        out = y.shape[1] - wide.rank
        ctx.norm, ctx.wide = norm, wide
        ctx.save_for_backward(x, mean, deviation, y[:, out:])
        return y[:, :out]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        x, mean, deviation, thin = ctx.saved_tensors
        norm, wide = ctx.norm, ctx.wide
        needed = ctx.needs_input_grad[0]
        matrix, sums = wide.backwards(), wide.gradients()
        width = x.shape[1]
        if not needed:
            matrix = matrix[:, width:].contiguous()
        of_x = torch.empty_like(x) if needed else None
        for rows in _chunks(x.shape[0]):
            of_y = grads[0][rows]
            back = of_y @ matrix  # (n, in + r)
            if sums is not None:
                sums[0].addmm_(back[:, -wide.rank :].t(), norm.forwards(x[rows])[0])
                sums[1].addmm_(thin[rows].t(), of_y)
            if of_x is not None:
                normed = back[:, :width].contiguous()
                of_x[rows] = norm.backwards(normed, x[rows], mean[rows], deviation[rows])
        return of_x, None, None, *_finished(sums, wide.parts.scale)


class _LinearAdd(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, onto: Tensor, parts: LinearParts, a: Tensor | None, b: Tensor | None
    ) -> Tensor:
        wide = _Wide(parts, learns=any(ctx.needs_input_grad[-2:]))
        matrix = wide.forwards()
        out = onto.shape[1]
        y, thin = torch.empty_like(onto), x.new_empty(x.shape[0], wide.rank)
        both = x.new_empty(min(CHUNK, x.shape[0]), out + wide.rank)
        for rows in _chunks(x.shape[0]):
            part = both[: rows.stop - rows.start]
            wide.multiply(x[rows], matrix, part)
            torch.add(onto[rows], part[:, :out], out=y[rows])
            thin[rows] = part[:, out:]
        ctx.wide = wide
        ctx.save_for_backward(x, thin)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        x, thin = ctx.saved_tensors
        wide = ctx.wide
        sums = wide.gradients()
        of_y = grads[0]
        back = of_y @ wide.backwards()  # (N, in + r)
        if sums is not None:
            sums[0].addmm_(back[:, -wide.rank :].t(), x)
            sums[1].addmm_(thin.t(), of_y)
        return back[:, : x.shape[1]], of_y, None, *_finished(sums, wide.parts.scale)


class _NormMlpAdd(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        norm: _Norm,
        up: LinearParts,
        down: LinearParts,
        activation: Activation,
        *adapters: Tensor | None,
    ) -> Tensor:
        learns = any(ctx.needs_input_grad[-len(adapters) :])
        first, second = _Wide(up, learns=learns), _Wide(down, learns=learns)
        into, back = first.forwards(), second.forwards()
        count, width, inner = x.shape[0], x.shape[1], up.weight.shape[0]
        keeps = any(ctx.needs_input_grad)
        y, thin = torch.empty_like(x), x.new_empty(count, second.rank)
        kept = x.new_empty(count if keeps else min(CHUNK, count), inner + first.rank)
        mean, deviation = x.new_empty(count, 1), x.new_empty(count, 1)
        active = x.new_empty(min(CHUNK, count), inner)
        result = x.new_empty(min(CHUNK, count), width + second.rank)
        for rows in _chunks(count):
            size = rows.stop - rows.start
            hidden = kept[rows] if keeps else kept[:size]
            normed, mean[rows], deviation[rows] = norm.forwards(x[rows])
            first.multiply(normed, into, hidden)
            _activate(hidden[:, :inner], activation, active[:size])
            second.multiply(active[:size], back, result[:size])
            torch.add(x[rows], result[:size, :width], out=y[rows])
            thin[rows] = result[:size, width:]
        ctx.norm, ctx.layers, ctx.activation = norm, (first, second), activation
        ctx.save_for_backward(x, mean, deviation, kept, thin)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        x, mean, deviation, kept, thin = ctx.saved_tensors
        first, second = ctx.layers
        of_first, of_second = first.gradients(), second.gradients()
        into, back = first.backwards(), second.backwards()
        inner, width = into.shape[0], x.shape[1]
        of_x = torch.empty_like(x)
        for rows in _chunks(x.shape[0]):
            of_y, hidden = grads[0][rows], kept[rows, :inner]
            of_hidden = of_y @ back  # (n, inner + r)
            if of_second is not None:
                active = torch.empty_like(hidden, memory_format=torch.contiguous_format)
                _activate(hidden, ctx.activation, active)
                of_second[0].addmm_(of_hidden[:, inner:].t(), active)
                of_second[1].addmm_(thin[rows].t(), of_y)
            before = _activate_backwards(of_hidden[:, :inner], hidden, ctx.activation)
            of_normed = before @ into  # (n, width + r)
            if of_first is not None:
                of_first[0].addmm_(of_normed[:, width:].t(), ctx.norm.forwards(x[rows])[0])
                of_first[1].addmm_(kept[rows, inner:].t(), before)
            through = of_normed[:, :width].contiguous()
            through = ctx.norm.backwards(through, x[rows], mean[rows], deviation[rows])
            torch.add(through, of_y, out=of_x[rows])
        adapters = *_finished(of_first, first.parts.scale), *_finished(of_second, second.parts.scale)
        return of_x, None, None, None, None, *adapters


def _activate(x: Tensor, activation: Activation, out: Tensor) -> None:
    if activation == "gelu":
        torch.ops.aten.gelu.out(x, out=out)
    else:  # x · sigmoid(1.702 x)
        torch.ops.aten.silu.out(x * 1.702, out=out)
        out.div_(1.702)


def _activate_backwards(grad: Tensor, x: Tensor, activation: Activation) -> Tensor:
    if activation == "gelu":
        return cast(Tensor, torch.ops.aten.gelu_backward(grad, x))
    return cast(Tensor, torch.ops.aten.silu_backward(grad, x * 1.702))
