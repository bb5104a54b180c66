"""The engines that are measured, behind one door: ours, R1 and R2, all with the same random weights."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor

from benchmarks.engine_decoder import EngineDecoder
from ocrsmith.model.lora import add_lora
from ocrsmith.model.ocr_model import Checkpointing, OcrModel
from ocrsmith.model.processing import OcrProcessor
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
    """ocrsmith's model and adapter, as `ocrsmith train` sets them up; `OurSteps` takes its optimiser steps.

    `encode` and `loss` are the same sums on a padded batch, for comparison with the references.
    """

    name = "ours"

    def __init__(self, model: OcrModel, *, checkpointing: Checkpointing = "none", adapter: bool = True) -> None:
        self.bare = model
        self.model: Any = add_lora(model, LoraSettings()) if adapter else model
        model.set_checkpointing(checkpointing)

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


def make_peer(name: str, model: OcrModel, *, checkpointing: Checkpointing = "none") -> Peer:
    """The engine for training, with a fresh adapter and the weights of `model` (which ours takes over).

    The references know one kind of checkpointing: whole layers.
    """
    if name == "ours":
        return OursPeer(model, checkpointing=checkpointing)
    if name == "r1":
        from benchmarks.reference.per_expert import PerExpertPeer

        return PerExpertPeer(model, checkpointing=checkpointing != "none")
    from benchmarks.reference.native_transformers import NativePeer

    return NativePeer(model, checkpointing=checkpointing != "none")


def make_decoder(name: str, model: OcrModel, adapter: str, processor: OcrProcessor | None = None) -> Any:
    """The engine for decoding.

    Args:
        name: ours or r2.
        model: gives the weights; ours takes it over.
        adapter: none, merged, unmerged or apart (unmerged, and ours must not fold it into copies of the weights
            either); fresh, so that the tokens are the same.
        processor: of the workload, for ours.
    """
    dtype = model.dtype
    if name == "ours":
        peer: Any = EngineDecoder(
            model, adapter=adapter != "none", apart=adapter == "apart", processor=processor
        )
    else:
        from benchmarks.reference.native_transformers import NativePeer

        peer = NativePeer(model, adapter=adapter != "none")
    if adapter == "merged":
        peer.merge()
    peer.model.to(dtype)  # a fresh adapter is float32
    peer.model.eval()
    return peer
