"""The model's sizes, read from a `config.json` in the original hub layout.

The file's `language_config`, `vision_config` and `projector_config` stay plain dicts, so that what was read
is written back unchanged; `decoder_sizes`, `sam_sizes` and `clip_sizes` are their typed views, with the
defaults of the published code for what the file leaves out.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

from transformers import PreTrainedConfig

from ocrsmith.errors import WeightsError


@dataclass(frozen=True, slots=True)
class DecoderSizes:
    """The DeepSeekMoE decoder; defaults are DeepSeek-OCR 3B's."""

    vocab_size: int = 129280
    hidden_size: int = 1280
    intermediate_size: int = 6848
    """Width of the dense MLP of the first layers."""
    moe_intermediate_size: int = 896
    """Width of one routed expert; the shared experts are one MLP of `n_shared_experts` times this."""
    num_hidden_layers: int = 12
    num_attention_heads: int = 10
    n_routed_experts: int = 64
    n_shared_experts: int = 2
    num_experts_per_tok: int = 6
    first_k_dense_replace: int = 1
    """Layers below this index have a dense MLP, the others experts."""
    norm_topk_prob: bool = False
    routed_scaling_factor: float = 1.0
    rms_norm_eps: float = 1e-6
    rope_theta: float = 10000.0
    max_position_embeddings: int = 8192

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.num_attention_heads


@dataclass(frozen=True, slots=True)
class SamSizes:
    """The first half of the DeepEncoder: a SAM ViT with windowed attention and a 16x compressor."""

    width: int = 768
    layers: int = 12
    heads: int = 12
    global_attn_indexes: tuple[int, ...] = (2, 5, 8, 11)
    downsample_channels: tuple[int, int] = (512, 1024)
    out_chans: int = 256
    window_size: int = 14
    patch_size: int = 16
    image_size: int = 1024
    """Side of the view for which the position tables are stored; other sides interpolate them."""
    mlp_ratio: int = 4


@dataclass(frozen=True, slots=True)
class ClipSizes:
    """The second half: a CLIP ViT that takes SAM's map in place of patches."""

    width: int = 1024
    layers: int = 24
    heads: int = 16
    image_size: int = 224
    patch_size: int = 14
    mlp_ratio: int = 4

    @property
    def grid(self) -> int:
        """Side of the stored position table."""
        return self.image_size // self.patch_size


class OcrConfig(PreTrainedConfig):
    """Configuration of a DeepSeek-OCR model of any size, in the layout of the hub's `config.json`."""

    model_type = "deepseek_vl_v2"
    has_no_defaults_at_init = True
    keys_to_ignore_at_inference = ("past_key_values",)

    def __init__(
        self,
        language_config: dict[str, Any] | None = None,
        vision_config: dict[str, Any] | None = None,
        projector_config: dict[str, Any] | None = None,
        image_token_id: int | None = None,
        router_aux_loss_alpha: float = 0.0,
        **kwargs: Any,
    ) -> None:
        """
        Args:
            language_config: sizes of the decoder, see `DecoderSizes`; unknown keys are kept.
            vision_config: `width` holds the sizes of `sam_vit_b` and `clip-l-14-224`.
            projector_config: kept; the projector is one linear layer (`projector_type` "linear").
            image_token_id: the `<image>` placeholder; DeepSeek-OCR's 128815 when the vocabulary has it.
            router_aux_loss_alpha: weight of the load-balancing loss of the router (DeepSeek-V2, eq. 12–14, per
                sequence); 0, the default, leaves it out. The published code injects it (0.001) unasked.
        """
        self.language_config = dict(language_config or {})
        self.vision_config = dict(vision_config or {})
        self.projector_config = dict(projector_config or {})
        self.router_aux_loss_alpha = router_aux_loss_alpha
        self.image_token_id = image_token_id
        self.check()
        decoder = self.decoder_sizes
        if image_token_id is None:
            self.image_token_id = 128815 if decoder.vocab_size > 128815 else decoder.vocab_size - 1
        # What transformers (generation, caches) looks for at the top level; the hub's file repeats it there.
        for name in (
            "vocab_size",
            "hidden_size",
            "num_hidden_layers",
            "num_attention_heads",
            "max_position_embeddings",
        ):
            kwargs[name] = getattr(decoder, name)
        kwargs["num_key_value_heads"] = decoder.num_attention_heads
        kwargs.setdefault("bos_token_id", 0)
        kwargs.setdefault("eos_token_id", 1)
        kwargs.setdefault("pad_token_id", 2)
        kwargs.setdefault("tie_word_embeddings", False)
        kwargs.pop("auto_map", None)  # points at remote code, which is never run
        super().__init__(**kwargs)

    @property
    def decoder_sizes(self) -> DecoderSizes:
        return DecoderSizes(**_known(self.language_config, DecoderSizes))

    @property
    def sam_sizes(self) -> SamSizes:
        width = self.vision_config.get("width", {})
        sizes = _known(width.get("sam_vit_b", {}), SamSizes)
        sizes.setdefault("image_size", self.vision_config.get("image_size", 1024))
        return SamSizes(**sizes)

    @property
    def clip_sizes(self) -> ClipSizes:
        return ClipSizes(**_known(self.vision_config.get("width", {}).get("clip-l-14-224", {}), ClipSizes))

    def check(self) -> None:
        """Raises `WeightsError` where the sizes contradict one another or ask for what this model is not."""
        problems = self._impossible_sizes() or self._contradictions() + self._foreign_traits()
        if problems:
            raise WeightsError(
                "The config is not one of a DeepSeek-OCR model: " + "; ".join(problems) + ".",
                place="config.json",
                mend="use the config.json that came with the weights",
            )

    def _impossible_sizes(self) -> list[str]:
        may_be_zero = ("first_k_dense_replace",)
        return [
            f"{name} {value!r} is not a positive number"
            for sizes in (self.decoder_sizes, self.sam_sizes, self.clip_sizes)
            for name, value in asdict(sizes).items()
            if not isinstance(value, bool | tuple)
            and not (isinstance(value, int | float) and (value > 0 or (value == 0 and name in may_be_zero)))
        ]

    def _contradictions(self) -> list[str]:
        decoder, sam, clip = self.decoder_sizes, self.sam_sizes, self.clip_sizes
        problems = [
            f"{what} {width} is not a multiple of its {heads} heads"
            for what, width, heads in (
                ("hidden_size", decoder.hidden_size, decoder.num_attention_heads),
                ("SAM's width", sam.width, sam.heads),
                ("CLIP's width", clip.width, clip.heads),
            )
            if width % heads
        ]
        chosen, experts = decoder.num_experts_per_tok, decoder.n_routed_experts
        if chosen > experts:
            problems.append(f"num_experts_per_tok {chosen} exceeds n_routed_experts {experts}")
        image, vocabulary = self.image_token_id, decoder.vocab_size
        if image is not None and not 0 <= image < vocabulary:
            problems.append(f"image_token_id {image} is outside the vocabulary of {vocabulary}")
        if sam.downsample_channels[1] != clip.width:
            problems.append(f"SAM hands {sam.downsample_channels[1]} channels to a CLIP of width {clip.width}")
        return problems

    def _foreign_traits(self) -> list[str]:
        language, heads = self.language_config, self.decoder_sizes.num_attention_heads
        problems = []
        if language.get("use_mla") or language.get("kv_lora_rank"):
            problems.append("multi-head latent attention (use_mla) is not DeepSeek-OCR's decoder")
        if (language.get("num_key_value_heads") or heads) != heads:
            problems.append("grouped-query attention (num_key_value_heads) is not DeepSeek-OCR's decoder")
        for values, name, only in (
            (language, "topk_method", "greedy"),
            (language, "scoring_func", "softmax"),
            (language, "hidden_act", "silu"),
            (language, "rope_scaling", None),
            (self.projector_config, "projector_type", "linear"),
        ):
            if (values.get(name) or only) != only:
                problems.append(f"{name} {values[name]!r} is not supported ({only} is)")
        return problems


def _known(values: dict[str, Any], sizes: type) -> dict[str, Any]:
    """The entries of `values` that are fields of `sizes`, lists as tuples, nulls as absent."""
    names = {field.name for field in fields(sizes)}
    return {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in values.items()
        if name in names and value is not None
    }
