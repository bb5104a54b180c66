"""How much memory training takes, by arithmetic: every term by itself, its constants in one place.

It answers before anything is loaded: for `ocrsmith estimate`, and to choose how many samples go through the
model at once. What is counted is what tensors hold at the moment of the peak. Not counted: the CUDA context and
libraries (0.4–0.8 GiB that `nvidia-smi` shows on top) and what the allocator holds in reserve.

Letters: N tokens of a micro-batch, H hidden, I width of an expert, k experts a token, M = N·k rows, r rank,
b bytes of a number in the base's format.
"""

from __future__ import annotations

import copy
import json
import re
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Literal, Self

import torch

from ocrsmith.model.config import OcrConfig
from ocrsmith.settings.lora import LoraSettings
from ocrsmith.training.micro_batches import Load

Checkpointing = Literal["none", "selective", "full"]
KINDS: tuple[Checkpointing, ...] = ("none", "selective", "full")
"""From the fastest to the one that needs least memory."""


@dataclass(frozen=True, slots=True)
class Coefficients:
    """What arithmetic alone does not give; fitted to peaks measured on an H200 (see docs/training.md)."""

    nf4_bytes: float = 4.127 / 8
    """Of a weight in NF4: four bits, and scales."""
    nf4_buffers: int = 2
    """Dequantised weights that exist at once: an expert layer's forward holds down while it makes gate."""
    head_chunk_bytes: int = 256 * 2**20
    """Of a chunk's logits in float32 (`model.loss.CHUNK_BYTES`)."""
    head_eager: float = 3.5
    """Copies of such a chunk at the peak: logits, their float32, exponentials, slopes."""
    head_compiled: float = 1.0
    """The same with compiled kernels: logits and slopes in the base's format."""
    moe_rows_hidden: float = 2.0
    """(M, H) tensors at the peak of an expert layer's backward: gradients by row, inputs by row."""
    moe_rows_inner: float = 4.0
    """(M, I) tensors there: gradients of gate, up and SwiGLU, SwiGLU itself."""
    moe_eager_inner: float = 6.0
    """(M, I) float32 temporaries there without compiled kernels."""
    shared_kept_eager: float = 4.0
    """(N, shared width) tensors kept: gate, silu(gate), up, their product."""
    shared_kept_compiled: float = 3.0
    hidden_kept: float = 8.0
    """(N, H) tensors kept of a layer: two inputs of norms, two outputs, q, k, v and attention's output."""
    ends_kept: float = 6.0
    """(N, H) tensors outside of the layers: embeddings, last norm, gradients on their way."""
    encoder_bytes: float = 24.0
    """Of the encoder's working memory, for a patch of a view, in units of SAM's width · b."""
    encoder_kept: float = 20.0
    """(patches, width) tensors kept of each SAM or CLIP layer where the encoder is trained, in units of b."""
    margin: float = 0.06
    """Share of a GPU's memory left free, for what is not counted and for fragmentation."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Those settings that decide memory."""

    dtype: torch.dtype = torch.bfloat16
    quantized: bool = False
    optimizer: str = "adamw"
    """adamw or adamw_8bit."""
    checkpointing: Checkpointing = "none"
    compiled: bool = False
    longest_replayed: int = 0
    """Tokens up to which a micro-batch is replayed as a CUDA graph, which keeps its memory; 0: none is."""
    lora: LoraSettings = field(default_factory=LoraSettings)


@dataclass(frozen=True, slots=True)
class Peak:
    """Bytes at the moment of the peak, by part."""

    weights: float
    adapter: float
    gradients: float
    optimizer: float
    activations: float
    """Kept between forward and backward."""
    workspace: float
    """For a moment: encoder, vocabulary head, the largest layer, dequantised weights."""

    @property
    def total(self) -> float:
        return self.weights + self.adapter + self.gradients + self.optimizer + self.activations + self.workspace


class MemoryModel:
    """The memory of a run, for one model and plan; see `peak`."""

    def __init__(
        self,
        config: OcrConfig,
        plan: Plan,
        *,
        trainable: int | None = None,
        scale: float = 1.0,
        coefficients: Coefficients = Coefficients(),
    ) -> None:
        """
        Args:
            config: the architecture; no weights are needed.
            plan: how it is trained.
            trainable: parameters of the adapter, where they are known; None: they are counted.
            scale: of the micro-batch's part, where it was measured on this machine.
            coefficients: the constants.
        """
        self.sizes, self.sam, self.clip = config.decoder_sizes, config.sam_sizes, config.clip_sizes
        self.plan = plan
        self.scale = scale
        self.constants = coefficients
        self.itemsize = plan.dtype.itemsize
        self.parameters = count_parameters(config)
        self.trainable = count_adapter(config, plan.lora) if trainable is None else trainable

    def with_checkpointing(self, kind: Checkpointing) -> Self:
        """The same with another kind."""
        model = copy.copy(self)
        model.plan = replace(self.plan, checkpointing=kind)
        return model

    def scaled(self, scale: float) -> Self:
        """The same with the micro-batch's part that many times as large."""
        model = copy.copy(self)
        model.scale = self.scale * scale
        return model

    # --- what stays ---

    def weights(self) -> float:
        """The base."""
        counts = self.parameters
        small = self.constants.nf4_bytes if self.plan.quantized else self.itemsize
        return counts.decoder * small + (counts.encoder + counts.vocabulary + counts.rest) * self.itemsize

    def adapter(self) -> float:
        """In float32."""
        return 4.0 * self.trainable

    def gradients(self) -> float:
        """Of the adapter, in float32."""
        return 4.0 * self.trainable

    def optimizer(self) -> float:
        """Two moments: float32, or 8 bits with a scale every 256 values."""
        return self.trainable * (2.0 * (1 + 4 / 256) if self.plan.optimizer == "adamw_8bit" else 8.0)

    def fixed(self) -> float:
        """All that is there from the second step on, whatever the micro-batch."""
        return self.weights() + self.adapter() + self.gradients() + self.optimizer()

    # --- what a micro-batch takes ---

    def kept(self, load: Load) -> float:
        """Activations between forward and backward."""
        sizes, plan, constants = self.sizes, self.plan, self.constants
        dense = min(sizes.first_k_dense_replace, sizes.num_hidden_layers)
        layers: float
        ends = constants.ends_kept * load.tokens * sizes.hidden_size * self.itemsize
        if plan.checkpointing == "full":
            layers = sizes.num_hidden_layers * load.tokens * sizes.hidden_size * self.itemsize
            most = self._moe_layer(load.tokens, "none") if dense < sizes.num_hidden_layers else 0.0
            layers += max(most, self._dense_layer(load.tokens) if dense else 0.0)  # the one computed anew
        else:
            mixture = self._moe_layer(load.tokens, plan.checkpointing)
            layers = (sizes.num_hidden_layers - dense) * mixture + dense * self._dense_layer(load.tokens)
            if plan.checkpointing == "selective":
                layers += self._moe_layer(load.tokens, "none") - mixture
        return ends + layers + self._encoder_kept(load)

    def workspace(self, load: Load) -> float:
        """The largest of what is needed for a moment while activations are held."""
        return max(self._head(load), self._moe_workspace(load)) + self._dequantised()

    def encoder(self, load: Load) -> float:
        """Working memory of the encoder; it runs before there are activations."""
        patches = load.pixels / self.sam.patch_size**2
        return self.constants.encoder_bytes * patches * self.sam.width * self.itemsize

    def micro_batch(self, load: Load) -> float:
        """Bytes that a micro-batch takes for its time, on top of `fixed`."""
        held, encoder = self.kept(load) + self.workspace(load), self.encoder(load)
        return self.scale * (held + encoder if self.is_replayed(load) else max(held, encoder))

    def is_replayed(self, load: Load) -> bool:
        """Whether it goes through a CUDA graph, whose memory is there while the encoder works."""
        return load.tokens <= self.plan.longest_replayed

    def peak(self, load: Load, micro_batches: int = 1) -> Peak:
        """The peak of a run from the second step on.

        Args:
            load: the largest micro-batch.
            micro_batches: of a step; from the second one on, gradients are there before the forward pass.
        """
        held, moment = self.kept(load), self.workspace(load)
        encoder, gradients = self.encoder(load), self.gradients()
        if self.is_replayed(load):  # gradients have their place for good, too
            moment += encoder
        elif encoder > held + moment:
            held, moment = 0.0, encoder
        if micro_batches == 1 and not self.is_replayed(load):
            # They come while activations go: the peak is the beginning of the one, or the end of the other.
            at_end = gradients + self._moe_workspace(load)
            if held + moment >= at_end:
                gradients = 0.0
            else:
                held, moment = 0.0, self._moe_workspace(load)
        return Peak(
            weights=self.weights(),
            adapter=self.adapter(),
            gradients=gradients,
            optimizer=self.optimizer(),
            activations=self.scale * held,
            workspace=self.scale * moment,
        )

    # --- terms ---

    def _attention_layer(self, tokens: int) -> float:
        sizes, rank = self.sizes, self.plan.lora.r
        hidden = self.constants.hidden_kept * sizes.hidden_size + 4 * rank
        return tokens * (hidden * self.itemsize + 4.0 * sizes.num_attention_heads)

    def _dense_layer(self, tokens: int) -> float:
        inner = self._mlp_kept() * self.sizes.intermediate_size + 3 * self.plan.lora.r
        return self._attention_layer(tokens) + tokens * inner * self.itemsize

    def _moe_layer(self, tokens: int, checkpointing: Checkpointing) -> float:
        sizes, rank = self.sizes, self.plan.lora.r
        k = sizes.num_experts_per_tok
        shared = self._mlp_kept() * sizes.n_shared_experts * sizes.moe_intermediate_size + 3 * rank
        experts = 0.0 if checkpointing == "selective" else k * (2 * sizes.moe_intermediate_size + 3 * rank)
        router = 4.0 * sizes.n_routed_experts + k * (8 + 4 + 4 + 16)  # scores, choice, weights, places
        return self._attention_layer(tokens) + tokens * ((shared + experts) * self.itemsize + router)

    def _mlp_kept(self) -> float:
        constants = self.constants
        return constants.shared_kept_compiled if self.plan.compiled else constants.shared_kept_eager

    def _moe_workspace(self, load: Load) -> float:
        """Of one expert layer's backward, and its adapter in the base's format."""
        sizes, constants = self.sizes, self.constants
        rows = load.tokens * sizes.num_experts_per_tok
        numbers = constants.moe_rows_hidden * sizes.hidden_size
        numbers += constants.moe_rows_inner * sizes.moe_intermediate_size
        eager = 0.0 if self.plan.compiled else constants.moe_eager_inner * sizes.moe_intermediate_size * 4
        layer = self.trainable / sizes.num_hidden_layers
        return rows * (numbers * self.itemsize + eager) + layer * (self.itemsize + 4)

    def _head(self, load: Load) -> float:
        """Chunks of logits, and the rows with a label: picked ones and their slopes."""
        sizes, constants = self.sizes, self.constants
        chunk = min(4.0 * load.labels * sizes.vocab_size, constants.head_chunk_bytes)
        copies = constants.head_compiled if self.plan.compiled else constants.head_eager
        return chunk * copies + 2.0 * load.labels * sizes.hidden_size * self.itemsize

    def _dequantised(self) -> float:
        if not self.plan.quantized:
            return 0.0
        sizes = self.sizes
        largest = max(
            sizes.n_routed_experts * sizes.moe_intermediate_size * sizes.hidden_size,
            sizes.intermediate_size * sizes.hidden_size,
        )
        return float(self.constants.nf4_buffers * largest * self.itemsize)

    def _encoder_kept(self, load: Load) -> float:
        if not self.plan.lora.trains_vision:
            return 0.0
        patches = load.pixels / self.sam.patch_size**2
        widths = self.sam.layers * self.sam.width + self.clip.layers * self.clip.width / 16
        return self.constants.encoder_kept * patches * widths * self.itemsize


# --- counting -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Parameters:
    """Of the base, by what becomes of them."""

    decoder: int
    """Matrices of the decoder's layers, those that NF4 compresses."""
    vocabulary: int
    """Embedding and head."""
    encoder: int
    rest: int
    """Norms, routers, separators."""

    @property
    def total(self) -> int:
        return self.decoder + self.vocabulary + self.encoder + self.rest


_ENCODER = re.compile(r"model\.(sam_model|vision_model|projector)\.")
_DECODER_MATRIX = re.compile(r"model\.layers\.\d+\..*_proj(\.weight)?$")


def count_parameters(config: OcrConfig) -> Parameters:
    """Counts the base's parameters, without making them."""
    return _count_parameters(config.to_json_string(use_diff=False))


def count_adapter(config: OcrConfig, lora: LoraSettings) -> int:
    """Counts the parameters of the adapter that `add_lora` would put on, without making them."""
    return _count_adapter(config.to_json_string(use_diff=False), lora)


@lru_cache(maxsize=8)
def _count_parameters(config: str) -> Parameters:
    from ocrsmith.model.ocr_model import OcrModel

    with torch.device("meta"):
        model = OcrModel(OcrConfig.from_dict(json.loads(config)))
    counts = dict.fromkeys(("decoder", "vocabulary", "encoder", "rest"), 0)
    for name, parameter in model.named_parameters():
        if name.startswith(("model.embed_tokens.", "lm_head.")):
            counts["vocabulary"] += parameter.numel()
        elif _ENCODER.match(name):
            counts["encoder"] += parameter.numel()
        elif _DECODER_MATRIX.match(name):
            counts["decoder"] += parameter.numel()
        else:
            counts["rest"] += parameter.numel()
    return Parameters(**counts)


@lru_cache(maxsize=8)
def _count_adapter(config: str, lora: LoraSettings) -> int:
    from ocrsmith.model.lora import add_lora
    from ocrsmith.model.ocr_model import OcrModel

    with torch.device("meta"):
        model = add_lora(OcrModel(OcrConfig.from_dict(json.loads(config))), lora)
        return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
