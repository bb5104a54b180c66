"""R2: transformers' own `UnlimitedOcr` classes, set up as well as public packages allow.

The same encoder and decoder, written by others, with the experts as one tensor and `grouped_mm`. Its sliding
window is made wider than any sequence. The config is given in full, since one in the original layout would be
misread. The frozen encoder is kept out of gradient checkpointing: as it comes, `gradient_checkpointing_enable`
makes the encoder's inputs ask for gradients, and it is computed twice and back-propagated for nothing.
"""

from __future__ import annotations

import re
from functools import partial
from typing import Any, cast

import torch
import transformers
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ocrsmith.errors import MissingExtraError
from ocrsmith.model.config import OcrConfig
from ocrsmith.model.ocr_model import OcrModel
from ocrsmith.model.vision import normalise

LINEARS = r".*language_model.*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"
EXPERTS = ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]
VIEWS_AT_ONCE = 16
"""Views that pass through the encoder together when decoding; its attention bias takes 0.4 GB a view."""

# transformers' name → the checkpoint's; what differs in more than spelling is in `native_tensor`.
PREFIXES = {
    "model.language_model.": "model.",
    "model.vision_tower.sam_encoder.layers.": "model.sam_model.blocks.",
    "model.vision_tower.sam_encoder.": "model.sam_model.",
    "model.vision_tower.vision_encoder.encoder.": "model.vision_model.transformer.",
    "model.vision_tower.vision_encoder.": "model.vision_model.",
    "model.multi_modal_projector.": "model.projector.layers.",
}
PARTS = {
    "patch_embed.projection.": "patch_embed.proj.",
    "neck.conv1.": "neck.0.",
    "neck.layer_norm1.": "neck.1.",
    "neck.conv2.": "neck.2.",
    "neck.layer_norm2.": "neck.3.",
    "sam_model.proj.conv1.": "sam_model.net_2.",
    "sam_model.proj.conv2.": "sam_model.net_3.",
    "view_separator": "view_seperator",
}


def is_available() -> bool:
    """Whether the installed transformers has the classes (5.23 has)."""
    return hasattr(transformers, "UnlimitedOcrForConditionalGeneration")


def native_config(config: OcrConfig) -> Any:
    """The same architecture as a config of transformers."""
    from transformers import UnlimitedOcrConfig

    decoder, sam, clip = config.decoder_sizes, config.sam_sizes, config.clip_sizes
    layers, dense = decoder.num_hidden_layers, decoder.first_k_dense_replace
    names = (
        "vocab_size hidden_size intermediate_size moe_intermediate_size num_hidden_layers num_attention_heads "
        "n_routed_experts n_shared_experts num_experts_per_tok max_position_embeddings rms_norm_eps "
        "routed_scaling_factor"
    )
    make: Any = UnlimitedOcrConfig
    return make(
        image_token_id=config.image_token_id,
        text_config={
            **{name: getattr(decoder, name) for name in names.split()},
            "num_key_value_heads": decoder.num_attention_heads,
            "mlp_layer_types": ["dense"] * dense + ["sparse"] * (layers - dense),
            "sliding_window": 10**6,
            "rope_parameters": {"rope_type": "default", "rope_theta": decoder.rope_theta},
            "pad_token_id": None,
        },
        vision_config={
            "sam_config": {
                "hidden_size": sam.width,
                "output_channels": sam.out_chans,
                "num_hidden_layers": sam.layers,
                "num_attention_heads": sam.heads,
                "image_size": sam.image_size,
                "window_size": sam.window_size,
                "global_attn_indexes": list(sam.global_attn_indexes),
                "mlp_dim": sam.mlp_ratio * sam.width,
                "downsample_channels": list(sam.downsample_channels),
            },
            "encoder_config": {
                "hidden_size": clip.width,
                "intermediate_size": clip.mlp_ratio * clip.width,
                "num_hidden_layers": clip.layers,
                "num_attention_heads": clip.heads,
                "image_size": clip.image_size,
                "patch_size": clip.patch_size,
            },
        },
        attn_implementation="sdpa",
        experts_implementation="grouped_mm",
    )


def native_tensor(name: str, tensors: dict[str, Tensor]) -> Tensor:
    """The tensor of ours that belongs into transformers' parameter `name`."""
    target = name
    for old, new in PREFIXES.items():
        if name.startswith(old):
            target = new + name.removeprefix(old)
            break
    for old, new in PARTS.items():
        target = target.replace(old, new)
    if target.startswith("model.sam_model.blocks."):
        target = target.replace("layer_norm", "norm")
    if target in tensors:
        return tensors[target]
    if ".vision_model." in target:  # there one matrix each for queries, keys and values
        stem, part, kind = target.rsplit(".", 2)
        number = ("q_proj", "k_proj", "v_proj").index(part)
        return tensors[f"{stem}.qkv_proj.{kind}"].chunk(3)[number]
    stem = target.removesuffix("gate_up_proj")  # there one tensor for both
    return torch.cat([tensors[f"{stem}gate_proj"], tensors[f"{stem}up_proj"]], dim=1)


@torch.no_grad()
def native_copy(model: OcrModel) -> Any:
    """R2 with the same weights, on the same device, in the same dtype.

    Raises:
        MissingExtraError: the installed transformers has no such classes.
    """
    if not is_available():
        raise MissingExtraError(
            f"The reference R2 needs transformers with UnlimitedOcr; {transformers.__version__} has none.",
            mend="pip install 'transformers>=5.23', or leave r2 out of --engines",
        )
    from transformers import UnlimitedOcrForConditionalGeneration

    parameter = next(model.parameters())
    before = torch.get_default_dtype()
    torch.set_default_dtype(parameter.dtype)
    try:
        with torch.device(parameter.device):
            copy: Any = UnlimitedOcrForConditionalGeneration(native_config(cast(OcrConfig, model.config)))
    finally:
        torch.set_default_dtype(before)
    tensors = dict(model.state_dict())
    for name, target in copy.named_parameters():
        target.copy_(native_tensor(name, tensors))
    return copy.eval()


def native_arguments(batch: dict[str, Any], dtype: torch.dtype) -> dict[str, Any]:
    """Pixels of a batch as transformers' model takes them; normalised on the device, as ours are."""
    layouts = batch["image_layouts"]
    grids = [(columns, rows) for _, _, columns, rows in layouts]
    (view_size,) = {view for view, _, _, _ in layouts}
    tiles = {tile for _, tile, _, _ in layouts if tile}
    arguments: dict[str, Any] = {"pixel_values": normalise(batch["views"][view_size]).to(dtype)}
    if tiles:
        arguments |= {
            "pixel_values_local": normalise(batch["views"][tiles.pop()]).to(dtype),
            "num_local_patches": [columns * rows for columns, rows in grids],
            "patches_grid": grids,
        }
    return arguments


def _all_linears(model: nn.Module) -> list[str]:
    """Names of the linear layers of encoder, projector and decoder."""
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
        and (re.fullmatch(LINEARS, name) or ".vision_tower." in name or ".multi_modal_projector" in name)
    ]


class NativePeer:
    """R2 for the training and the decoding benchmark."""

    name = "r2"

    def __init__(
        self,
        model: OcrModel,
        *,
        checkpointing: bool = False,
        adapter: bool = True,
        rank: int = 16,
        alpha: int = 16,
        encoder_learns: bool = False,
    ) -> None:
        """Takes the weights of `model` over. `encoder_learns`: the adapter is on encoder and projector too."""
        self.bare = native_copy(model)
        self.model: Any = self.bare
        if adapter:
            config = LoraConfig(
                r=rank,
                lora_alpha=alpha,
                target_modules=_all_linears(self.bare) if encoder_learns else LINEARS,
                target_parameters=EXPERTS,
                task_type="CAUSAL_LM",
            )
            self.model = get_peft_model(self.bare, config)
        if checkpointing:  # after PEFT, and not through the model's own switch: see the module's head
            self.bare._set_gradient_checkpointing(
                enable=True, gradient_checkpointing_func=partial(checkpoint, use_reentrant=False)
            )
            self.bare.disable_input_require_grads()

    @torch.no_grad()
    def encode(self, batch: dict[str, Any]) -> Any:
        return self.bare.get_image_features(**native_arguments(batch, self.bare.dtype), return_dict=True)

    def loss(self, batch: dict[str, Any], features: Any) -> Tensor:
        loss: Tensor = self.model(
            input_ids=batch["input_ids"],
            attention_mask=batch["attention_mask"],
            labels=batch["labels"],
            mm_encoder_outputs={"image": features},
            use_cache=False,
        ).loss
        return loss

    def whole_loss(self, batch: dict[str, Any]) -> Tensor:
        """Mean cross entropy of a batch, images encoded on the way and with gradients."""
        loss: Tensor = self.model(
            input_ids=batch["input_ids"],
            attention_mask=batch["attention_mask"],
            labels=batch["labels"],
            use_cache=False,
            **native_arguments(batch, self.bare.dtype),
        ).loss
        return loss

    def merge(self) -> None:
        """Adds the adapter to the weights and takes it off."""
        self.bare = self.model = self.model.merge_and_unload()

    @torch.inference_mode()
    def generate(self, batch: dict[str, Any], tokens: int) -> Tensor:
        """Greedy, exactly `tokens` new ones: (B, tokens)."""
        tower = self.bare.model.vision_tower
        self.bare.model.vision_tower = _InPieces(tower)
        try:
            out = self.bare.generate(
                input_ids=batch["input_ids"],
                attention_mask=batch["attention_mask"],
                **native_arguments(batch, self.bare.dtype),
                max_new_tokens=tokens,
                do_sample=False,
                eos_token_id=None,
                pad_token_id=2,
            )
        finally:
            self.bare.model.vision_tower = tower
        ids: Tensor = out[:, batch["input_ids"].shape[1] :]
        return ids


class _InPieces(nn.Module):
    """An encoder that takes many views a few at a time."""

    def __init__(self, tower: nn.Module) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, pixels: Tensor, **options: Any) -> Any:
        outputs = [self.tower(part, **options) for part in pixels.split(VIEWS_AT_ONCE)]
        outputs[0].last_hidden_state = torch.cat([out.last_hidden_state for out in outputs])
        return outputs[0]
