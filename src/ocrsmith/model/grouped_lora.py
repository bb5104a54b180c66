"""LoRA on all routed experts of a layer at once: two thin grouped GEMMs, the delta never formed.

Letters as in `experts.py`; r rank. For expert e: y = W_e x + (alpha / r) B_e (A_e x), with A stacked to
(E, r, in) and B to (E, out, r).

Source: LoRA (arXiv 2106.09685), eq. 3, per expert.
"""

from __future__ import annotations

import math
from typing import Any, cast

import torch
from peft import LoraConfig
from peft.tuners.lora import LoraLayer
from peft.tuners.tuners_utils import check_adapters_to_merge
from torch import Tensor, nn

from ocrsmith.model.experts import (
    PROJECTIONS,
    ExpertsAdapter,
    GroupedExperts,
    apply_by_autograd,
    apply_frozen,
)
from ocrsmith.model.kernels import Groups, grouped_linear


class LoraGroupedExperts(nn.Module, LoraLayer):
    """Wraps `GroupedExperts` as PEFT wraps a linear: frozen `base_layer`, `lora_A`, `lora_B` by adapter name.

    PEFT makes it through `LoraConfig._register_custom_module`.
    """

    def __init__(
        self,
        base_layer: GroupedExperts,
        adapter_name: str,
        *,
        config: LoraConfig,
        r: int,
        lora_alpha: float,
        **kwargs: Any,
    ) -> None:
        super().__init__()
        LoraLayer.__init__(self, base_layer)
        self._active_adapter = adapter_name
        self.update_layer(adapter_name, r, lora_alpha, config, **kwargs)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "base_layer":
                raise
            return getattr(self.base_layer, name)  # `recompute` and the like

    def _get_in_out_features(self, module: nn.Module) -> tuple[int, int]:
        _, inner, hidden = cast(GroupedExperts, module).shape_of("gate_proj")
        return hidden, inner

    def matrices(self, adapter: str, name: str) -> tuple[Tensor, Tensor]:
        """A (E, r, in) and B (E, out, r) of one projection."""
        a, b = cast(nn.ParameterDict, self.lora_A[adapter]), cast(nn.ParameterDict, self.lora_B[adapter])
        return a[name], b[name]

    def update_layer(
        self, adapter_name: str, r: int, lora_alpha: float, config: LoraConfig, **kwargs: Any
    ) -> None:
        """Adds an adapter: A uniform in ±1/√in as PEFT's linears have it, B zero."""
        self.r[adapter_name] = r
        self.lora_alpha[adapter_name] = lora_alpha
        self.scaling[adapter_name] = lora_alpha / r
        self.use_rslora[adapter_name] = self.use_dora[adapter_name] = self.lora_bias[adapter_name] = False
        dropout = config.lora_dropout
        self.lora_dropout[adapter_name] = nn.Dropout(dropout) if dropout > 0 else nn.Identity()
        base = cast(GroupedExperts, self.get_base_layer())
        a, b = nn.ParameterDict(), nn.ParameterDict()
        for name in PROJECTIONS:
            experts, out_features, in_features = base.shape_of(name)
            bound = 1 / math.sqrt(in_features)
            like = base.placement
            a[name] = nn.Parameter(torch.empty(experts, r, in_features, **like).uniform_(-bound, bound))
            b[name] = nn.Parameter(torch.zeros(experts, out_features, r, **like))
        self.lora_A[adapter_name], self.lora_B[adapter_name] = a, b
        self.set_adapter(self.active_adapters, inference_mode=config.inference_mode)

    def forward(self, x: Tensor, expert_indices: Tensor, expert_weights: Tensor) -> Tensor:
        """As `GroupedExperts.forward`."""
        if self.disable_adapters and self.merged:
            self.unmerge()
        base = cast(GroupedExperts, self.get_base_layer())
        active = self._active()
        if not active and not base.learns:
            return apply_frozen(base, x, expert_indices, expert_weights)
        if len(active) > 1 or base.learns or self._drops(active[0]):
            return apply_by_autograd(base, self, x, expert_indices, expert_weights)
        adapter = self.adapter(active[0])
        return apply_frozen(base, x, expert_indices, expert_weights, adapter)

    def adapter(self, name: str) -> ExpertsAdapter:
        """The matrices of an adapter by its name."""
        pairs = (self.matrices(name, projection) for projection in PROJECTIONS)
        return ExpertsAdapter(self.scaling[name], *(matrix for pair in pairs for matrix in pair))

    def _active(self) -> list[str]:
        if self.disable_adapters or self.merged:
            return []
        return [name for name in self.active_adapters if name in self.lora_A]

    def _drops(self, adapter: str) -> bool:
        return self.training and isinstance(self.lora_dropout[adapter], nn.Dropout)

    def project(self, name: str, x: Tensor, groups: Groups) -> Tensor:
        """(M, in) → (M, out): the base's projection plus each active adapter's, for autograd to follow."""
        y = cast(GroupedExperts, self.base_layer).project(name, x, groups)
        for adapter in self._active():
            # The adapter may be float32 on a base in half precision, and a grouped GEMM takes one dtype only:
            # that of `y`, which is autocast's where it is on, else the base's.
            a, b = (matrix.to(y.dtype) for matrix in self.matrices(adapter, name))
            inner = grouped_linear(self.lora_dropout[adapter](x.to(y.dtype)), a, groups)  # (M, r)
            y = y + grouped_linear(inner, b, groups) * self.scaling[adapter]
        return y

    @torch.no_grad()
    def get_delta_weight(self, adapter: str, name: str) -> Tensor:
        """(E, out, in) scale · B A of one projection, in float32."""
        a, b = self.matrices(adapter, name)
        return torch.bmm(b.float(), a.float()) * self.scaling[adapter]

    @torch.no_grad()
    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        """Adds the adapters to the base weights.

        Raises:
            ValueError: with `safe_merge`, when a merged weight is not finite.
        """
        for adapter in check_adapters_to_merge(self, adapter_names):
            if adapter not in self.lora_A:
                continue
            for name in PROJECTIONS:
                self._add(name, self.get_delta_weight(adapter, name), safe_merge)
            self.merged_adapters.append(adapter)

    @torch.no_grad()
    def unmerge(self) -> None:
        """Takes merged adapters out of the base weights again."""
        while self.merged_adapters:
            adapter = self.merged_adapters.pop()
            for name in PROJECTIONS:
                self._add(name, -self.get_delta_weight(adapter, name), False)

    def _add(self, name: str, delta: Tensor, safe: bool) -> None:
        weight = getattr(self.get_base_layer(), name)
        merged = (weight.float() + delta).to(weight.dtype)
        if safe and not torch.isfinite(merged).all():
            raise ValueError(f"merging gives values that are not finite in {name}")
        weight.copy_(merged)
