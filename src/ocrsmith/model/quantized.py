"""A frozen base in four bits for QLoRA: the decoder's projections in NF4, all else as it was.

Quantised are the decoder's attention, its MLPs, the shared and the routed experts; embeddings, vocabulary head,
router, norms and the whole encoder keep 16 bits. A weight is made dense when it is used, one tensor at a time,
and made anew on the way back: nothing dense is kept.

Source: QLoRA (arXiv 2305.14314). The number format is in `nf4.py`.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from ocrsmith.errors import AdapterError, OutputError, WeightsError
from ocrsmith.model import nf4
from ocrsmith.model.experts import PROJECTIONS, GroupedExperts
from ocrsmith.model.kernels import Groups, compute_dtype, grouped_rows
from ocrsmith.model.nf4 import Nf4Tensor
from ocrsmith.model.ocr_model import OcrModel

_QUANTIZED = re.compile(
    r"model\.layers\.\d+\.(self_attn\.[qkvo]_proj|mlp\.(shared_experts\.)?(gate|up|down)_proj|mlp\.experts)"
)
_FINGERPRINT = "original_fingerprint"


class Nf4Weight(nn.Module):
    """One packed tensor: uint8 and float32 buffers, which move with the model and are never cast or trained.

    Casts of the model (`.to(torch.bfloat16)`) change what `dense` gives, not what is stored.
    """

    codes: Tensor
    scales: Tensor
    factors: Tensor
    offset: Tensor

    def __init__(
        self, shape: tuple[int, ...], *, dtype: torch.dtype, device: torch.device | str | None = None
    ) -> None:
        """Empty, to be filled by `store`.

        Args:
            shape: of the dense tensor.
            dtype: of the dense tensor.
            device: of the buffers.
        """
        super().__init__()
        codes, scales, factors = nf4.sizes(shape)
        self.shape, self.dtype = shape, dtype
        self.register_buffer("codes", torch.empty(codes, dtype=torch.uint8, device=device))
        self.register_buffer("scales", torch.empty(scales, dtype=torch.uint8, device=device))
        self.register_buffer("factors", torch.empty(factors, dtype=torch.float32, device=device))
        self.register_buffer("offset", torch.empty((), dtype=torch.float32, device=device))

    @property
    def packed(self) -> Nf4Tensor:
        """The buffers, as `nf4` takes them."""
        return Nf4Tensor(self.codes, self.scales, self.factors, self.offset, self.shape)

    @torch.no_grad()
    def store(self, tensor: Nf4Tensor) -> None:
        """Copies a quantised tensor of the same shape in."""
        if tensor.shape != self.shape:
            raise ValueError(f"shape {tensor.shape} where {self.shape} belongs")
        for name in ("codes", "scales", "factors", "offset"):
            getattr(self, name).copy_(getattr(tensor, name))

    def dense(self) -> Tensor:
        """The tensor in its shape and `dtype`, made anew in each call; no gradient reaches the buffers."""
        return nf4.dequantize(self.packed, self.dtype)

    def stand_in(self) -> Tensor:
        """Has the dense tensor's shape, dtype and device, but one number's memory: NaN everywhere.

        For code that asks a weight what it looks like. Who computes with it notices; it cannot be written to.
        """
        return torch.full((), math.nan, dtype=self.dtype, device=self.codes.device).expand(self.shape)

    def extra_repr(self) -> str:
        return f"{'x'.join(map(str, self.shape))}, nf4, dense in {self.dtype}"

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Nf4Weight:
        before = {"factors": self.factors, "offset": self.offset}
        super()._apply(fn, recurse)
        for name, kept in before.items():
            moved = getattr(self, name)
            if moved.dtype != kept.dtype:
                setattr(self, name, kept.to(moved.device))
        self.dtype = fn(torch.empty(0, dtype=self.dtype, device=self.codes.device)).dtype
        return self


class Nf4Linear(nn.Linear):
    """`nn.Linear` without bias whose frozen weight is in NF4. PEFT and our LoRA wrap it as any other."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None,
    ) -> None:
        nn.Module.__init__(self)  # `nn.Linear` would make the dense weight
        self.in_features, self.out_features = in_features, out_features
        self.register_parameter("bias", None)
        self.packed = Nf4Weight((out_features, in_features), dtype=dtype, device=device)

    @property
    def weight(self) -> Tensor:  # type: ignore[override]
        """Tells shape, dtype and device of the weight; its values are NaN (see `Nf4Weight.stand_in`)."""
        return self.packed.stand_in()

    def dense_weight(self, name: str = "weight") -> Tensor:
        """(out, in) in the compute dtype."""
        return self.packed.dense()

    def packed_weights(self) -> dict[str, Nf4Weight]:
        """By the name that the parameter had."""
        return {"weight": self.packed}

    def forward(self, x: Tensor) -> Tensor:
        """(…, in) → (…, out)."""
        out: Tensor = _FrozenLinear.apply(x, self)
        return out


class Nf4GroupedExperts(GroupedExperts):
    """`GroupedExperts` whose three frozen projections are in NF4."""

    def __init__(
        self,
        shapes: Mapping[str, tuple[int, int, int]],
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None,
    ) -> None:
        """`shapes`: (E, out, in) of gate_proj, up_proj and down_proj."""
        nn.Module.__init__(self)  # `GroupedExperts` would make the dense weights
        self.packed = nn.ModuleDict(
            {name: Nf4Weight(shapes[name], dtype=dtype, device=device) for name in PROJECTIONS}
        )

    @property
    def gate_proj(self) -> Tensor:  # type: ignore[override]
        """Tells shape, dtype and device of the weight; its values are NaN (see `Nf4Weight.stand_in`)."""
        return self._packed("gate_proj").stand_in()

    @property
    def up_proj(self) -> Tensor:  # type: ignore[override]
        """As `gate_proj`."""
        return self._packed("up_proj").stand_in()

    @property
    def down_proj(self) -> Tensor:  # type: ignore[override]
        """As `gate_proj`."""
        return self._packed("down_proj").stand_in()

    @property
    def qweight(self) -> Tensor:
        """PEFT asks a module without parameters under this name where it lies."""
        return self._packed("gate_proj").codes

    @property
    def placement(self) -> dict[str, Any]:
        weight = self._packed("gate_proj")
        return {"device": weight.codes.device, "dtype": weight.dtype}

    def shape_of(self, name: str) -> tuple[int, int, int]:
        """(experts, out, in) of a projection."""
        experts, out_features, in_features = self._packed(name).shape
        return experts, out_features, in_features

    def dense_weight(self, name: str) -> Tensor:
        """(E, out, in) of a projection in the compute dtype."""
        return self._packed(name).dense()

    def packed_weights(self) -> dict[str, Nf4Weight]:
        """By the names that the parameters had."""
        return {name: self._packed(name) for name in PROJECTIONS}

    def project(self, name: str, x: Tensor, groups: Groups) -> Tensor:
        out: Tensor = _FrozenGroupedLinear.apply(x, self, name, groups)
        return out

    def _packed(self, name: str) -> Nf4Weight:
        return cast(Nf4Weight, self.packed[name])


class _FrozenLinear(torch.autograd.Function):
    """x W^T that keeps the packed weight alone between the passes."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, base: Nf4Linear) -> Tensor:
        weight = base.dense_weight()
        ctx.base, ctx.of_x, ctx.dtype = base, x.dtype, compute_dtype(weight)
        return x.to(ctx.dtype) @ weight.to(ctx.dtype).t()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return (grads[0].to(ctx.dtype) @ ctx.base.dense_weight().to(ctx.dtype)).to(ctx.of_x), None


class _FrozenGroupedLinear(torch.autograd.Function):
    """The same for all experts of a layer: (M, in) → (M, out)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, base: Nf4GroupedExperts, name: str, groups: Groups) -> Tensor:
        weight = base.dense_weight(name)
        ctx.base, ctx.name, ctx.groups, ctx.of_x = base, name, groups, x.dtype
        ctx.dtype = compute_dtype(weight)
        return grouped_rows(x.to(ctx.dtype), weight.to(ctx.dtype).transpose(1, 2), groups)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        weight = ctx.base.dense_weight(ctx.name).to(ctx.dtype)
        return grouped_rows(grads[0].to(ctx.dtype), weight, ctx.groups).to(ctx.of_x), None, None, None


# --- whole models --------------------------------------------------------------------------------------------


def is_quantized(model: nn.Module) -> bool:
    """Whether any weight of it is in NF4."""
    return any(isinstance(module, Nf4Weight) for module in model.modules())


def quantize_model(model: OcrModel) -> OcrModel:
    """Quantises a loaded model in place, a tensor at a time. `load_model` can do it while reading.

    Raises:
        AdapterError: the model has an adapter.
        WeightsError: it is quantised already, or holds values that are not finite.
    """
    from ocrsmith.model.adapter_names import base_fingerprint

    _require_plain(model)
    fingerprint = base_fingerprint(model.named_parameters())
    for name, dense in list(_targets(model)):
        module = _hollow(dense)
        for key, weight in module.packed_weights().items():
            weight.store(nf4.quantize(getattr(dense, key), place=f"{name}.{key}"))
        model.set_submodule(name, module)
    setattr(model, _FINGERPRINT, fingerprint)
    return model


def hollow_model(model: OcrModel) -> dict[str, Nf4Weight]:
    """Puts empty NF4 modules in place of those that are quantised; on the meta device that costs no memory.

    Returns:
        What is to be filled, by the name of the parameter that it takes the place of.
    """
    _require_plain(model)
    packed: dict[str, Nf4Weight] = {}
    for name, dense in list(_targets(model)):
        module = _hollow(dense)
        packed.update({f"{name}.{key}": weight for key, weight in module.packed_weights().items()})
        model.set_submodule(name, module)
    return packed


def _targets(model: OcrModel) -> Iterator[tuple[str, nn.Linear | GroupedExperts]]:
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear | GroupedExperts) and _QUANTIZED.fullmatch(name):
            yield name, module


def _hollow(dense: nn.Linear | GroupedExperts) -> Nf4Linear | Nf4GroupedExperts:
    if isinstance(dense, GroupedExperts):
        made: Nf4Linear | Nf4GroupedExperts = Nf4GroupedExperts(
            {name: dense.shape_of(name) for name in PROJECTIONS}, **dense.placement
        )
    else:
        like = dense.weight
        made = Nf4Linear(dense.in_features, dense.out_features, dtype=like.dtype, device=like.device)
    return made.train(dense.training)


def _require_plain(model: OcrModel) -> None:
    if is_quantized(model):
        raise WeightsError("The model is quantised already.", mend="load it anew without quantization")
    if any(".lora_" in name for name, _ in model.named_parameters()):
        raise AdapterError(
            "The model has an adapter and cannot be quantised.", mend="quantise the base, then add the adapter"
        )


def parameter_count(model: nn.Module) -> int:
    """Values of all weights, those in NF4 included."""
    dense = sum(parameter.numel() for parameter in model.parameters())
    return dense + sum(math.prod(m.shape) for m in model.modules() if isinstance(m, Nf4Weight))


def weight_bytes(model: nn.Module) -> int:
    """Bytes of all parameters and buffers; a model on the meta device tells what it would take."""
    return sum(t.numel() * t.element_size() for t in [*model.parameters(), *model.buffers()])


# --- what a quantised base cannot do -------------------------------------------------------------------------


def refuse_merge(model: nn.Module) -> None:
    """
    Raises:
        AdapterError: the base is quantised.
    """
    if is_quantized(model):
        raise AdapterError(
            "An adapter cannot be merged into a base in 4 bits (NF4): the sum would be rounded to 16 levels.",
            mend="load the base in 16 bit (quantization none), load the adapter on it and merge there",
        )


def refuse_save(model: nn.Module, folder: str) -> None:
    """
    Raises:
        OutputError: the model is quantised.
    """
    if is_quantized(model):
        raise OutputError(
            "A model in 4 bits (NF4) is not written: its original weights are better in every way.",
            place=folder,
            mend="save the adapter; for a whole model load the base in 16 bit, merge the adapter and save that",
        )


# --- which base it was ---------------------------------------------------------------------------------------


def carried_fingerprint(model: nn.Module) -> dict[str, Any] | None:
    """The fingerprint of the 16-bit weights that a quantised model was made of; None for any other model.

    An adapter trained on a quantised base belongs to the original, and is loaded on and merged into it.
    """
    fingerprint: dict[str, Any] | None = getattr(model, _FINGERPRINT, None)
    return fingerprint


class FingerprintSketch:
    """`base_fingerprint` of a model whose tensors come one by one and are gone then."""

    def __init__(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """`shapes`: of all parameters by name."""
        from ocrsmith.model.adapter_names import _SAMPLED_TENSORS

        self._shapes = dict(sorted(shapes.items()))
        names = list(self._shapes)
        self._picked: dict[str, Tensor | None] = dict.fromkeys(names[:: max(1, len(names) // _SAMPLED_TENSORS)])

    def add(self, name: str, tensor: Tensor) -> None:
        """Keeps the few values of a tensor that count, if any do."""
        from ocrsmith.model.adapter_names import _SAMPLED_VALUES

        if name in self._picked:
            flat = tensor.detach().reshape(-1)
            places = [flat.numel() * n // _SAMPLED_VALUES for n in range(_SAMPLED_VALUES)]
            self._picked[name] = flat[places].to(torch.bfloat16).cpu()

    @property
    def wanted(self) -> tuple[str, ...]:
        """Names of the tensors of which values count."""
        return tuple(self._picked)

    def carry(self, model: OcrModel) -> None:
        """Notes the fingerprint on the model, once all tensors were seen."""
        setattr(model, _FINGERPRINT, self.fingerprint())

    def fingerprint(self) -> dict[str, Any]:
        """What `base_fingerprint` says, once all `wanted` tensors were seen."""
        named = json.dumps([[name, list(shape)] for name, shape in self._shapes.items()])
        digest = hashlib.sha256(named.encode())
        values = torch.cat([cast(Tensor, picked) for picked in self._picked.values()]).float()
        digest.update(values.numpy().tobytes())
        rounded = [float(f"{value:.6g}") for value in values.tolist()]
        return {"sha256": digest.hexdigest(), "values": rounded}
