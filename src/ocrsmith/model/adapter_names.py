"""Names and shapes of an adapter's tensors as plain PEFT has them on the hub's code; which base it belongs to.

The hub's code has a linear per expert (`model.layers.1.mlp.experts.3.gate_proj`), this model one module for all
experts of a layer (`model.layers.1.mlp.experts`). In the file each expert has its own pair:
`base_model.model.model.layers.1.mlp.experts.3.gate_proj.lora_A.weight` (r, in) and `…lora_B.weight` (out, r).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ocrsmith.model.experts import GroupedExperts
from ocrsmith.model.grouped_lora import PROJECTIONS

PREFIX = "base_model.model."
_KEY = re.compile(r"^base_model\.model\.(?P<module>.+)\.lora_(?P<side>[AB])\.weight$")
_EXPERT = re.compile(
    r"^(?P<layer>.+\.mlp\.experts)\.(?P<expert>\d+)\.(?P<projection>gate_proj|up_proj|down_proj)$"
)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a pair A, B acts: a module of this model and, in grouped experts, which matrix of it."""

    module: str
    expert: int | None = None
    projection: str | None = None

    @classmethod
    def parse(cls, hub_module: str) -> Place:
        match = _EXPERT.match(hub_module)
        if match is None:
            return cls(hub_module)
        return cls(match["layer"], int(match["expert"]), match["projection"])

    @property
    def hub_module(self) -> str:
        return self.module if self.expert is None else f"{self.module}.{self.expert}.{self.projection}"

    def key(self, side: str) -> str:
        """The tensor's name in the file; `side` is A or B."""
        return f"{PREFIX}{self.hub_module}.lora_{side}.weight"


def parse_key(key: str) -> tuple[Place, str] | None:
    """Place and side (A or B) of a tensor in an adapter file; None if it is no plain LoRA tensor."""
    match = _KEY.match(key)
    return (Place.parse(match["module"]), match["side"]) if match else None


def places_of(name: str, module: nn.Module) -> Iterator[Place]:
    """The places that an adapter on this module has: one for a linear, E·3 for grouped experts."""
    if isinstance(module, GroupedExperts):
        for expert in range(module.gate_proj.shape[0]):
            for projection in PROJECTIONS:
                yield Place(name, expert, projection)
    else:
        yield Place(name)


def shape_at(place: Place, modules: dict[str, nn.Module]) -> tuple[int, int] | str:
    """(out, in) of the base's matrix at a place, or why there is none, in words."""
    module = modules.get(place.module)
    if module is None:
        return "the base has no such module"
    if place.expert is not None:
        if not isinstance(module, GroupedExperts):
            return f"the base has a {type(module).__name__} there, no experts"
        experts, out_features, in_features = getattr(module, str(place.projection)).shape
        return (out_features, in_features) if place.expert < experts else f"the base has {experts} experts"
    if not isinstance(module, nn.Linear):
        return f"the base has a {type(module).__name__} there, not a linear layer"
    return module.out_features, module.in_features


def target_modules(targeted: Iterable[str], modules: dict[str, nn.Module]) -> list[str] | str:
    """`target_modules` for `adapter_config.json`: plain PEFT on the hub's code finds the same matrices by it.

    Args:
        targeted: names of this model's modules that have the adapter.
        modules: all modules of the base by name.
    Returns:
        Plain last names (`q_proj`, …, what every tool understands) where they say it exactly; else one regular
        expression with layer numbers left open; else all names.
    """
    wanted = {name for module in targeted for name in _hub_modules(module, modules[module])}
    everything = {
        hub
        for name, module in modules.items()
        if isinstance(module, nn.Linear | nn.Conv2d | nn.Embedding | GroupedExperts)
        for hub in _hub_modules(name, module)
    }
    last = {name.rpartition(".")[2] for name in wanted}
    if wanted == {name for name in everything if name.rpartition(".")[2] in last}:
        return sorted(last)
    patterns = sorted({re.sub(r"\\\.\d+(?=\\\.|$)", r"\\.\\d+", re.escape(name)) for name in wanted})
    pattern = "(?:" + "|".join(patterns) + ")"
    if wanted == {name for name in everything if re.fullmatch(pattern, name)}:
        return pattern
    return sorted(wanted)


def _hub_modules(name: str, module: nn.Module) -> Iterator[str]:
    return (place.hub_module for place in places_of(name, module))


# --- which base an adapter belongs to -----------------------------------------------------------------------

_SAMPLED_TENSORS = 64
_SAMPLED_VALUES = 4
_TOLERANCE = 0.02
"""Relative; bfloat16 rounds by at most 0.4 %, a further trained or merged base differs by more somewhere."""


def base_fingerprint(parameters: Iterable[tuple[str, Tensor]]) -> dict[str, Any]:
    """What tells one base from another without reading gigabytes: shapes, and a few values of many tensors.

    Args:
        parameters: names and tensors of the base model, without adapters.
    Returns:
        `sha256` of names, shapes and the values in bfloat16; `values`, to compare across dtypes.
    """
    tensors = sorted(parameters, key=lambda item: item[0])
    digest = hashlib.sha256(json.dumps([[name, list(tensor.shape)] for name, tensor in tensors]).encode())
    step = max(1, len(tensors) // _SAMPLED_TENSORS)
    picked = []
    for _, tensor in tensors[::step]:
        flat = tensor.detach().reshape(-1)
        places = [flat.numel() * n // _SAMPLED_VALUES for n in range(_SAMPLED_VALUES)]
        picked.append(flat[places].to(torch.bfloat16))
    values = torch.cat(picked).float().cpu()
    digest.update(values.numpy().tobytes())
    return {"sha256": digest.hexdigest(), "values": [float(f"{value:.6g}") for value in values.tolist()]}


def same_base(recorded: dict[str, Any], present: dict[str, Any]) -> bool:
    """Whether two fingerprints are of one base, give or take the rounding of another dtype."""
    if recorded.get("sha256") == present["sha256"]:
        return True
    before = torch.tensor(recorded.get("values", []), dtype=torch.float32)
    now = torch.tensor(present["values"], dtype=torch.float32)
    return before.shape == now.shape and torch.allclose(before, now, rtol=_TOLERANCE, atol=1e-6)
