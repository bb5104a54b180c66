"""Reading PEFT adapter folders: what they hold, whether it is supported, whether it fits a base."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from ocrsmith.errors import AdapterError
from ocrsmith.model.adapter_names import Place, parse_key, shape_at

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"

Pairs = dict[Place, tuple[Tensor, Tensor]]
"""A (r, in) and B (out, r) by place."""

_LISTED = 8
"""How many differing tensors an error lists."""

_UNSUPPORTED = {
    "use_rslora": "rank-stabilised scaling (use_rslora)",
    "use_dora": "DoRA (use_dora)",
    "use_qalora": "QALoRA (use_qalora)",
    "lora_bias": "biases in B (lora_bias)",
    "fan_in_fan_out": "transposed weights (fan_in_fan_out)",
    "modules_to_save": "fully trained modules (modules_to_save)",
    "trainable_token_indices": "trained token embeddings (trainable_token_indices)",
    "layer_replication": "replicated layers (layer_replication)",
    "target_parameters": "adapters on fused parameters (target_parameters)",
    "alora_invocation_tokens": "activated LoRA (alora_invocation_tokens)",
}
_PLAIN_INITS = (True, False, None, "gaussian", "eva", "orthogonal")
"""The other ways to begin change the base's weights, so that the file alone does not say what the model is."""


def read_config(folder: Path) -> dict[str, Any]:
    """`adapter_config.json`, known to be a kind of LoRA that `load_adapter` understands.

    Raises:
        AdapterError: no such file, not JSON, or an unsupported kind; lists all that is unsupported.
    """
    path = folder / CONFIG_FILE
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise AdapterError(
            f"There is no adapter in {str(folder)!r}: {CONFIG_FILE} is missing.",
            place=str(path),
            mend="give the folder that training wrote, RUN/adapter",
        ) from error
    except (OSError, ValueError) as error:
        raise AdapterError(
            f"{CONFIG_FILE} cannot be read: {error}.", place=str(path), mend="copy the adapter anew"
        ) from error
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        kind = config.get("peft_type") if isinstance(config, dict) else type(config).__name__
        raise AdapterError(
            f"The adapter is of kind {kind!r}, not LORA.", place=str(path), mend="train a LoRA adapter"
        )
    found = [words for option, words in _UNSUPPORTED.items() if config.get(option)]
    if config.get("bias", "none") != "none":
        found.append(f"trained biases (bias={config['bias']!r})")
    if config.get("init_lora_weights", True) not in _PLAIN_INITS:
        found.append(f"init_lora_weights={config['init_lora_weights']!r}, which changes the base")
    if found:
        raise AdapterError(
            f"The adapter uses what is not supported: {', '.join(found)}.",
            place=str(path),
            mend="merge it where it was trained and load the merged model, or train with plain LoRA",
        )
    rank, alpha = config.get("r"), config.get("lora_alpha")
    if not (isinstance(rank, int) and rank > 0 and isinstance(alpha, int | float)):
        raise AdapterError(f"r = {rank!r} and lora_alpha = {alpha!r} are no rank and scale.", place=str(path))
    return config


def read_pairs(folder: Path) -> Pairs:
    """The matrices of `adapter_model.safetensors`, on the CPU.

    Raises:
        AdapterError: missing, damaged, or tensors that are no plain LoRA pairs; lists them.
    """
    path = folder / WEIGHTS_FILE
    if not path.is_file():
        pickled = folder / "adapter_model.bin"
        mend = "save it as safetensors (pickles can run code)" if pickled.exists() else "copy the adapter anew"
        raise AdapterError(f"{WEIGHTS_FILE} is missing in the adapter folder.", place=str(path), mend=mend)
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise AdapterError(
            f"{WEIGHTS_FILE} is damaged: {error}.", place=str(path), mend="copy the adapter anew"
        ) from error
    sides: dict[Place, dict[str, Tensor]] = {}
    foreign = []
    for key, tensor in tensors.items():
        parsed = parse_key(key)
        if parsed is None or tensor.ndim != 2:
            foreign.append(f"{key} {tuple(tensor.shape)}")
        else:
            sides.setdefault(parsed[0], {})[parsed[1]] = tensor
    foreign += [
        place.key("B" if "A" in pair else "A") + " (missing)" for place, pair in sides.items() if len(pair) < 2
    ]
    if foreign or not sides:
        raise AdapterError(
            f"The adapter's tensors are no pairs of lora_A and lora_B: {listed(foreign) or 'it holds none'}.",
            place=str(path),
            mend="save the adapter with PEFT's save_pretrained on the hub's code, or with ocrsmith",
        )
    return {place: (pair["A"], pair["B"]) for place, pair in sides.items()}


def check_fit(pairs: Pairs, modules: dict[str, nn.Module], folder: Path) -> None:
    """Compares an adapter with a base's modules by name.

    Raises:
        AdapterError: tensors without a place in the base or of another shape; lists them.
    """
    wrong = []
    for place, (a, b) in pairs.items():
        shape = shape_at(place, modules)
        if isinstance(shape, str):
            wrong.append(f"{place.hub_module} ({shape})")
        elif (b.shape[0], a.shape[1]) != shape or a.shape[0] != b.shape[1]:
            wrong.append(
                f"{place.hub_module} (A {tuple(a.shape)}, B {tuple(b.shape)}; "
                f"the base has {shape[0]} x {shape[1]})"
            )
    if wrong:
        raise AdapterError(
            f"The adapter was made for another base: {len(wrong)} of {len(pairs)} places differ: "
            f"{listed(wrong)}.",
            place=str(folder),
            mend="load it on the base named in its adapter_config.json (base_model_name_or_path)",
        )


def rank_and_alpha(config: dict[str, Any], place: Place, rank: int, folder: Path) -> tuple[int, float]:
    """The rank that a place has in the file and the alpha that goes with it.

    Raises:
        AdapterError: the config promises another rank, so that the scale alpha / r is not known.
    """
    promised = _by_pattern(config.get("rank_pattern"), place.hub_module, config["r"])
    if promised != rank:
        raise AdapterError(
            f"{place.hub_module} has rank {rank}, but {CONFIG_FILE} says {promised}.",
            place=str(folder / CONFIG_FILE),
            mend="put config and weights of the same training together",
        )
    return rank, _by_pattern(config.get("alpha_pattern"), place.hub_module, config["lora_alpha"])


def _by_pattern(patterns: dict[str, Any] | None, name: str, default: Any) -> Any:
    """PEFT's rule: the first pattern that matches the end of the name, from a dot on."""
    for pattern, value in (patterns or {}).items():
        if re.match(rf"(?:.*\.)?(?:{pattern})$", name):
            return value
    return default


def listed(items: Iterable[str]) -> str:
    """The first few items, and how many more there are."""
    items = list(items)
    more = f" … and {len(items) - _LISTED} more" if len(items) > _LISTED else ""
    return ", ".join(items[:_LISTED]) + more
