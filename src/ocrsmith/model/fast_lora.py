"""LoRA on linear layers: PEFT's layer with a forward and backward pass of our own.

PEFT's own pass copies the input into the adapter's float32 and lets autograd keep every stage. Here the adapter
comes to the base's dtype instead, its part is added inside the matrix product, and of the activations only the
input and the thin (N, r) product are kept. Nothing is kept of the base's weight, so a quantised one is
dequantised anew on the way back.

Letters: N rows, r rank. y = W x + scale · B (A x): LoRA (arXiv 2106.09685), eq. 3.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from peft.tuners.lora.layer import Linear
from torch import Tensor, nn

from ocrsmith.model.kernels import compute_dtype, dense_weight


class LoraLinear(Linear):
    """PEFT's LoRA linear, faster where it is used plainly: one adapter, no dropout, a frozen base."""

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """(…, in) → (…, out)."""
        active = [name for name in self.active_adapters if name in self.lora_A]
        base = cast(nn.Linear, self.get_base_layer())
        plain = not (args or kwargs or self.disable_adapters or self.merged) and len(active) == 1
        if not (plain and self._is_plain(active[0])) or _learns(base):
            return super().forward(x, *args, **kwargs)
        a, b = (cast(nn.Linear, side[active[0]]).weight for side in (self.lora_A, self.lora_B))
        out: Tensor = _LoraLinear.apply(x, base, self.scaling[active[0]], a, b)
        return out

    def _is_plain(self, adapter: str) -> bool:
        drops = self.training and isinstance(self.lora_dropout[adapter], nn.Dropout)
        return not (drops or self.use_dora.get(adapter) or self.lora_bias.get(adapter))


def _learns(base: nn.Linear) -> bool:
    return any(parameter.requires_grad for parameter in base.parameters(recurse=False))


class _LoraLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, base: nn.Linear, scale: float, a: Tensor, b: Tensor) -> Tensor:
        weight = dense_weight(base)
        dtype = compute_dtype(weight)
        rows = x.to(dtype).flatten(0, -2)  # (N, in)
        thin = rows @ a.to(dtype).t()  # (N, r)
        if base.bias is None:
            out = rows @ weight.to(dtype).t()
        else:
            out = torch.addmm(base.bias.to(dtype), rows, weight.to(dtype).t())
        out.addmm_(thin, b.to(dtype).t(), alpha=scale)  # (N, out)
        ctx.base, ctx.scale, ctx.dtype = base, scale, dtype
        ctx.save_for_backward(x, thin, a, b)
        return out.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, thin, a, b = ctx.saved_tensors
        dtype, scale = ctx.dtype, ctx.scale
        of_out = grads[0].to(dtype).flatten(0, -2)  # (N, out)
        of_thin = (of_out @ b.to(dtype)) * scale  # (N, r)
        rows = x.to(dtype).flatten(0, -2)
        of_a = (of_thin.t() @ rows).to(a.dtype)
        of_b = (of_out.t() @ (thin * scale)).to(b.dtype)
        of_x = None
        if ctx.needs_input_grad[0]:
            of_x = of_out @ dense_weight(ctx.base).to(dtype)
            of_x = of_x.addmm_(of_thin, a.to(dtype)).view(x.shape).to(x.dtype)
        return of_x, None, None, of_a, of_b
