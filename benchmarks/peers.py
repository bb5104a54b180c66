"""The engines that are measured, behind one door: ours, R1 and R2, all with the same random weights."""

from __future__ import annotations

from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ocrsmith.model.lora import add_lora, merge_adapter
from ocrsmith.model.ocr_model import OcrModel
from ocrsmith.settings.lora import LoraSettings

PEERS = {
    "ours": "ocrsmith",
    "r1": "per-expert modules + PEFT (structure of the published code)",
    "r2": "transformers' own classes, grouped_mm + PEFT target_parameters",
}


class Peer(Protocol):
    """What the benchmarks ask of an engine."""

    name: str
    model: Any
    """The module whose parameters that require gradients are trained."""

    def encode(self, batch: dict[str, Any]) -> Any:
        """Image features of a batch on the device, without gradients."""

    def loss(self, batch: dict[str, Any], features: Any) -> Tensor:
        """Mean cross entropy of a batch, from features made by `encode`."""


class OursPeer:
    """ocrsmith's training step and decoding, as `ocrsmith train` and the native engine set them up."""

    name = "ours"

    def __init__(self, model: OcrModel, *, checkpointing: bool = False, adapter: bool = True) -> None:
        self.bare = model
        self.model: Any = add_lora(model, LoraSettings()) if adapter else model
        if checkpointing:
            model._set_gradient_checkpointing(
                enable=True, gradient_checkpointing_func=partial(checkpoint, use_reentrant=False)
            )

    @torch.no_grad()
    def encode(self, batch: dict[str, Any]) -> Tensor:
        if "image_features" in batch:  # from the cache
            return batch["image_features"]
        return self.bare.encode_images(batch["views"], batch["image_layouts"])

    def loss(self, batch: dict[str, Any], features: Tensor) -> Tensor:
        loss: Tensor = self.model(
            input_ids=batch["input_ids"],
            labels=batch["labels"],
            label_rows=batch["label_rows"],
            image_features=features,
            use_cache=False,
        ).loss
        return loss

    def merge(self) -> None:
        """Adds the adapter to the weights and takes it off."""
        self.bare = self.model = merge_adapter(self.model)

    @torch.inference_mode()
    def generate(self, batch: dict[str, Any], tokens: int) -> Tensor:
        """Greedy, exactly `tokens` new ones: (B, tokens)."""
        model: Any = self.bare
        ids: Tensor = model.generate(
            input_ids=batch["input_ids"],
            attention_mask=batch["attention_mask"],
            views=batch["views"],
            image_layouts=batch["image_layouts"],
            max_new_tokens=tokens,
            do_sample=False,
            eos_token_id=None,
            pad_token_id=2,
        )
        return ids[:, batch["input_ids"].shape[1] :]


def make_peer(name: str, model: OcrModel, *, checkpointing: bool = False) -> Peer:
    """The engine for training, with a fresh adapter and the weights of `model` (which ours takes over)."""
    if name == "ours":
        return OursPeer(model, checkpointing=checkpointing)
    if name == "r1":
        from benchmarks.reference.per_expert import PerExpertPeer

        return PerExpertPeer(model, checkpointing=checkpointing)
    from benchmarks.reference.native_transformers import NativePeer

    return NativePeer(model, checkpointing=checkpointing)


def make_decoder(name: str, model: OcrModel, adapter: str) -> Any:
    """The engine for decoding. `adapter`: none, merged or unmerged (fresh, so that the tokens are the same)."""
    dtype = model.dtype
    if name == "ours":
        peer: Any = OursPeer(model, adapter=adapter != "none")
    else:
        from benchmarks.reference.native_transformers import NativePeer

        peer = NativePeer(model, adapter=adapter != "none")
    if adapter == "merged":
        peer.merge()
    peer.model.to(dtype)  # a fresh adapter is float32
    peer.model.eval()
    return peer
