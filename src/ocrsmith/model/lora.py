"""LoRA adapters: put on, written to and read from PEFT folders in the hub's names, merged.

Linears get `LoraLinear`, PEFT's own with a faster pass; the routed experts `LoraGroupedExperts`. Adapters that
plain PEFT trained on the hub's code load here, and the other way round.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Callable, Mapping
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from peft import LoraConfig, PeftModelForCausalLM
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from ocrsmith.errors import AdapterError
from ocrsmith.model.adapter_files import (
    CONFIG_FILE,
    WEIGHTS_FILE,
    Pairs,
    check_fit,
    listed,
    rank_and_alpha,
    read_config,
    read_pairs,
)
from ocrsmith.model.adapter_names import Place, base_fingerprint, places_of, same_base, target_modules
from ocrsmith.model.experts import PROJECTIONS, GroupedExperts
from ocrsmith.model.fast_lora import LoraLinear
from ocrsmith.model.grouped_lora import LoraGroupedExperts
from ocrsmith.model.ocr_model import OcrModel
from ocrsmith.model.quantized import carried_fingerprint, refuse_merge
from ocrsmith.settings.files import cannot_write, new_folder, write_text
from ocrsmith.settings.lora import LoraSettings, LoraTarget

if TYPE_CHECKING:
    from ocrsmith.model.processing import OcrProcessor

BASE_FILE = "ocrsmith_base.json"
DECODING_FILE = "ocrsmith_decoding.json"

_TARGETS: dict[LoraTarget, str] = {
    "attention": r"model\.layers\.\d+\.self_attn\.[qkvo]_proj",
    "dense_mlp": r"model\.layers\.\d+\.mlp\.(gate|up|down)_proj",
    "shared_experts": r"model\.layers\.\d+\.mlp\.shared_experts\.(gate|up|down)_proj",
    "routed_experts": r"model\.layers\.\d+\.mlp\.experts",
    "vision": r"model\.(sam_model|vision_model)\..+",
    "projector": r"model\.projector\..+",
}


class OcrPeftModel(PeftModelForCausalLM):
    """A PEFT model whose `save_pretrained` writes the hub's names, as `save_adapter` does."""

    def __init__(self, model: OcrModel, config: LoraConfig, **options: Any) -> None:
        with warnings.catch_warnings():
            # PEFT asks transformers by a name that is going to change there: nothing a user can do about
            warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning)
            config.base_model_name_or_path = model.name_or_path or None
            super().__init__(model, config, **options)

    def get_base_model(self) -> OcrModel:
        """The model inside, with the adapter's layers in place."""
        return cast(OcrModel, super().get_base_model())

    def save_pretrained(self, save_directory: str | PathLike[str], *_: Any, **__: Any) -> None:
        """Writes the adapter; PEFT's other options do not apply."""
        save_adapter(self, Path(save_directory))


def add_lora(model: OcrModel, settings: LoraSettings) -> OcrPeftModel:
    """Puts a fresh adapter on the model (in place) and freezes the rest.

    Args:
        model: the base, without adapters.
        settings: rank, scale, dropout and parts. A part that this model does not have (a model without dense
            layers) is no error as long as one of the parts exists.
    Raises:
        AdapterError: the model has an adapter already, or none of the parts.
    """
    _require_bare(model)
    pattern = re.compile("|".join(f"(?:{_TARGETS[target]})" for target in settings.targets))
    names = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | GroupedExperts) and pattern.fullmatch(name)
    ]
    if not names:
        raise AdapterError(
            f"The model has none of the parts {', '.join(settings.targets)}.", mend="choose other lora.targets"
        )
    config = _config(names, r=settings.r, alpha=settings.alpha, dropout=settings.dropout)
    return OcrPeftModel(model, config, autocast_adapter_dtype=True)


def save_adapter(
    model: PeftModelForCausalLM,
    folder: Path,
    processor: OcrProcessor | None = None,
    decoding: Mapping[str, Any] | None = None,
) -> None:
    """Writes an adapter folder, complete or not at all; an older one is replaced.

    Args:
        model: as `add_lora` or `load_adapter` made it.
        folder: PEFT's two files go here, and what the base was (`ocrsmith_base.json`).
        processor: saved along, so that inference prepares images and prompts as training did.
        decoding: decoding settings as JSON, saved along likewise.
    Raises:
        OutputError: the folder cannot be written.
    """
    with new_folder(Path(folder)) as scratch:
        write_adapter(model, scratch, processor, decoding)


def write_adapter(
    model: PeftModelForCausalLM,
    folder: Path,
    processor: OcrProcessor | None = None,
    decoding: Mapping[str, Any] | None = None,
) -> None:
    """As `save_adapter`, straight into a folder that the caller made and completes."""
    from ocrsmith.model.weights import write_safetensors

    tensors = [
        (place.key(side), pair[index].contiguous())
        for place, pair in adapter_pairs(model).items()
        for index, side in enumerate("AB")
    ]
    try:
        write_safetensors(folder / WEIGHTS_FILE, tensors)
        write_text(folder / CONFIG_FILE, _json(_config_file(model)))
        base = {"name": _lora_config(model).base_model_name_or_path, **_fingerprint(model)}
        write_text(folder / BASE_FILE, _json(base))
        if decoding is not None:
            write_text(folder / DECODING_FILE, _json(dict(decoding)))
        if processor is not None:
            processor.save_pretrained(folder)
    except OSError as error:
        raise cannot_write(error, folder) from error


def adapter_pairs(model: PeftModelForCausalLM) -> Pairs:
    """The adapter's matrices by place, experts one by one (views, no copies)."""
    pairs: Pairs = {}
    for name, layer in _lora_layers(model).items():
        for place in places_of(name, layer.get_base_layer()):
            pairs[place] = _matrices(layer, place)
    return pairs


def load_adapter(
    model: OcrModel, folder: str | PathLike[str], *, trainable: bool = False, check_base: bool = True
) -> OcrPeftModel:
    """Puts a saved adapter on the model (in place).

    Any adapter that plain PEFT wrote for the hub's code will do, also on some experts or projections only: what
    it leaves out stays as the base has it.

    Args:
        model: the base, without adapters.
        folder: holds `adapter_config.json` and `adapter_model.safetensors`.
        trainable: keep the adapter in float32 and let gradients flow; else it takes the base's dtype, frozen.
        check_base: refuse an adapter whose recorded base had other values than this one.
    Raises:
        AdapterError: missing or damaged files, a kind of adapter that is not supported, or another base; lists
            what differs.
    """
    _require_bare(model)
    folder = Path(folder)
    saved = read_config(folder)
    pairs = read_pairs(folder)
    modules = dict(model.named_modules())
    check_fit(pairs, modules, folder)
    if check_base:
        _check_base(model, folder)
    scales = {place: rank_and_alpha(saved, place, pair[0].shape[0], folder) for place, pair in pairs.items()}
    ranks: dict[str, int] = {}
    alphas: dict[str, float] = {}
    for place, (rank, alpha) in scales.items():  # experts of unequal rank get the largest, with zeros
        if rank > ranks.get(place.module, 0):
            ranks[place.module], alphas[place.module] = rank, alpha
    config = _config(
        list(ranks), r=saved["r"], alpha=saved["lora_alpha"], dropout=saved.get("lora_dropout") or 0.0
    )
    config.rank_pattern = {_exactly(name): rank for name, rank in ranks.items() if rank != config.r}
    config.alpha_pattern = {
        _exactly(name): alpha for name, alpha in alphas.items() if alpha != config.lora_alpha
    }
    peft_model = OcrPeftModel(model, config, autocast_adapter_dtype=trainable)
    _fill(peft_model, {place: (*pair, scales[place]) for place, pair in pairs.items()})
    if not trainable:
        peft_model.requires_grad_(False)
        peft_model.eval()
    return peft_model


def reload_adapter(model: PeftModelForCausalLM, folder: Path) -> None:
    """Fills the adapter that the model already has with a saved one of the same shape (a checkpoint's).

    Raises:
        AdapterError: the checkpoint is damaged or of another shape.
    """
    pairs = read_pairs(folder)
    present = adapter_pairs(model)
    wrong = [
        place.hub_module
        for place in {**present, **pairs}
        if place not in pairs
        or place not in present
        or any(a.shape != b.shape for a, b in zip(pairs[place], present[place], strict=True))
    ]
    if wrong:
        raise AdapterError(
            f"The checkpoint's adapter has another shape: {listed(wrong)}.",
            place=str(folder),
            mend="resume with the settings that the run began with",
        )
    with torch.no_grad():
        for place, (a, b) in pairs.items():
            present[place][0].copy_(a)
            present[place][1].copy_(b)


def merge_adapter(model: PeftModelForCausalLM) -> OcrModel:
    """Adds scale · B A to the base's weights and takes the adapter off; the model is a plain `OcrModel` again.

    Raises:
        AdapterError: a merged weight would not be finite, or the base is quantised.
    """
    refuse_merge(model)
    try:
        merged = model.merge_and_unload(safe_merge=True)
    except ValueError as error:
        raise AdapterError(
            f"The adapter cannot be merged: {error}.", mend="use an earlier checkpoint of the run"
        ) from error
    return merged


# --- the PEFT side ------------------------------------------------------------------------------------------


def _config(names: list[str], *, r: int, alpha: float, dropout: float) -> LoraConfig:
    plain_alpha = int(alpha) if float(alpha).is_integer() else alpha
    config = LoraConfig(
        r=r,
        lora_alpha=plain_alpha,  # type: ignore[arg-type]
        lora_dropout=dropout,
        target_modules=names,
        bias="none",
        task_type="CAUSAL_LM",
    )
    config._register_custom_module({nn.Linear: LoraLinear, GroupedExperts: LoraGroupedExperts})
    return config


def _require_bare(model: nn.Module) -> None:
    if any(isinstance(module, LoraLayer) for module in model.modules()):
        raise AdapterError("The model has an adapter already.", mend="load the base model anew, or merge first")


def _lora_layers(model: PeftModelForCausalLM) -> dict[str, LoraLayer]:
    return {
        name: module for name, module in model.get_base_model().named_modules() if isinstance(module, LoraLayer)
    }


def _bare_modules(model: PeftModelForCausalLM) -> dict[str, nn.Module]:
    """Modules by the names that they have without the adapter."""
    return {
        name: module.get_base_layer() if isinstance(module, LoraLayer) else module
        for name, module in model.get_base_model().named_modules()
        if ".base_layer" not in name and ".lora_" not in name
    }


def _fingerprint(model: PeftModelForCausalLM) -> dict[str, Any]:
    if known := carried_fingerprint(model.get_base_model()):
        return known
    return base_fingerprint(
        (name.replace(".base_layer", ""), tensor)
        for name, tensor in model.get_base_model().named_parameters()
        if ".lora_" not in name
    )


def _check_base(model: OcrModel, folder: Path) -> None:
    check_recorded_base(
        folder, lambda: carried_fingerprint(model) or base_fingerprint(model.named_parameters())
    )


def check_recorded_base(folder: Path, fingerprint: Callable[[], dict[str, Any]]) -> None:
    """Refuses an adapter whose recorded base is another one.

    Adapters made elsewhere record no base; theirs is checked by shapes alone.

    Args:
        folder: the adapter's.
        fingerprint: gives that of the base at hand.
    Raises:
        AdapterError: another base, or a record that cannot be read.
    """
    file = folder / BASE_FILE
    if not file.is_file():
        return
    try:
        recorded = json.loads(file.read_text(encoding="utf-8"))
        same = same_base(recorded, fingerprint())
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise AdapterError(
            f"{BASE_FILE} cannot be read: {error}.", place=str(file), mend="copy it anew"
        ) from error
    if not same:
        raise AdapterError(
            f"The adapter was made for another base, {recorded.get('name') or 'of unknown name'!r}: "
            "the shapes are the same, the weights are not.",
            place=str(folder),
            mend="load it on that base",
        )


def _lora_config(model: PeftModelForCausalLM) -> LoraConfig:
    return cast(LoraConfig, model.peft_config["default"])


def _matrices(layer: LoraLayer, place: Place) -> tuple[Tensor, Tensor]:
    if isinstance(layer, LoraGroupedExperts):
        a, b = layer.matrices("default", str(place.projection))
        return a.detach()[place.expert], b.detach()[place.expert]
    linear_a, linear_b = cast(nn.Linear, layer.lora_A["default"]), cast(nn.Linear, layer.lora_B["default"])
    return linear_a.weight.detach(), linear_b.weight.detach()


@torch.no_grad()
def _fill(model: PeftModelForCausalLM, saved: dict[Place, tuple[Tensor, Tensor, tuple[int, float]]]) -> None:
    layers = _lora_layers(model)
    for layer in layers.values():
        if isinstance(layer, LoraGroupedExperts):  # what the file leaves out adds nothing
            for projection in PROJECTIONS:
                for matrix in layer.matrices("default", projection):
                    matrix.zero_()
    for place, (a, b, (rank, alpha)) in saved.items():
        layer = layers[place.module]
        into_a, into_b = _matrices(layer, place)
        into_a[:rank].copy_(a)
        into_b[:, :rank].copy_(b * (alpha / rank / layer.scaling["default"]))


def _exactly(name: str) -> str:
    return "^" + re.escape(name) + "$"


def _config_file(model: PeftModelForCausalLM) -> dict[str, Any]:
    """`adapter_config.json` as plain PEFT on the hub's code would have written it."""
    config = _lora_config(model)
    layers = _lora_layers(model)
    written = {key: value for key, value in config.to_dict().items() if not key.startswith("_")}
    written["target_modules"] = target_modules(layers, _bare_modules(model))
    written["rank_pattern"], written["alpha_pattern"] = {}, {}
    for name, layer in layers.items():
        pattern = f"{name}.\\d+.(gate|up|down)_proj" if isinstance(layer, LoraGroupedExperts) else name
        if layer.r["default"] != config.r:
            written["rank_pattern"][pattern] = layer.r["default"]
        if layer.lora_alpha["default"] != config.lora_alpha:
            written["alpha_pattern"][pattern] = layer.lora_alpha["default"]
    written["inference_mode"] = True
    return written


def _json(value: dict[str, Any]) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, default=_jsonable, sort_keys=True) + "\n"


def _jsonable(value: Any) -> Any:
    return sorted(value) if isinstance(value, set | frozenset) else getattr(value, "value", str(value))
