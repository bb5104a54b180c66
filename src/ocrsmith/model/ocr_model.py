"""DeepSeek-OCR as a transformers model: images and tokens in, next-token logits or loss out.

Letters: B sequences, T tokens, H hidden, V vocabulary, R rows with a label, I image tokens of the whole batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from os import PathLike
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import GenerationMixin, PreTrainedModel
from transformers.cache_utils import Cache, DynamicCache
from transformers.modeling_outputs import CausalLMOutputWithPast

from ocrsmith.errors import SettingsError
from ocrsmith.model.attention import Attend, CausalAttention, PackedAttention, attention_mask_4d
from ocrsmith.model.config import OcrConfig
from ocrsmith.model.decoder import DecoderLayer, RMSNorm, rotary_tables
from ocrsmith.model.device_views import RawImages
from ocrsmith.model.experts import GroupedExperts, Router
from ocrsmith.model.loss import chunked_cross_entropy
from ocrsmith.model.vision import ClipEmbeddings, DeepEncoder, SamAttention, SamEncoder

ImageLayout = tuple[int, int, int, int]
"""(side of the global view, side of a tile, tile columns, tile rows) of an image; without tiles three zeros."""

Checkpointing = Literal["none", "selective", "full"]


class Backbone(DeepEncoder):
    """Everything under `model.` in the checkpoint: the encoder's modules and the decoder's, side by side."""

    def __init__(self, config: OcrConfig) -> None:
        super().__init__(config)
        sizes = config.decoder_sizes
        self.image_newline = nn.Parameter(torch.zeros(sizes.hidden_size))
        self.view_seperator = nn.Parameter(torch.zeros(sizes.hidden_size))  # the checkpoint spells it so
        self.embed_tokens = nn.Embedding(sizes.vocab_size, sizes.hidden_size)
        self.layers = nn.ModuleList(DecoderLayer(sizes, layer) for layer in range(sizes.num_hidden_layers))
        self.norm = RMSNorm(sizes.hidden_size, sizes.rms_norm_eps)


class OcrModel(PreTrainedModel, GenerationMixin):
    """DeepSeek-OCR of any size: the 3B model, the nano model and test models differ in `config` alone."""

    config_class = OcrConfig
    base_model_prefix = "model"
    main_input_name = "input_ids"
    input_modalities = ["image", "text"]  # noqa: RUF012
    supports_gradient_checkpointing = True
    _no_split_modules = ["DecoderLayer", "SamBlock", "ClipBlock"]  # noqa: RUF012
    _supports_sdpa = True
    _supports_flash_attn = False

    def __init__(self, config: OcrConfig) -> None:
        super().__init__(config)
        self.model = Backbone(config)
        self.lm_head = nn.Linear(config.decoder_sizes.hidden_size, config.decoder_sizes.vocab_size, bias=False)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Normal, 0.02; position tables too, so that a fresh model can learn where things are."""
        std = 0.02
        if isinstance(module, nn.Linear | nn.Conv2d | nn.Embedding | Router):
            module.weight.normal_(0, std)
            if isinstance(bias := getattr(module, "bias", None), Tensor):
                bias.zero_()
        elif isinstance(module, GroupedExperts):
            for parameter in module.parameters(recurse=False):
                parameter.normal_(0, std)
        elif isinstance(module, SamEncoder):
            module.pos_embed.normal_(0, std)
        elif isinstance(module, SamAttention):
            module.rel_pos_h.normal_(0, std)
            module.rel_pos_w.normal_(0, std)
        elif isinstance(module, ClipEmbeddings):
            module.class_embedding.normal_(0, std)
        elif isinstance(module, Backbone):
            module.image_newline.normal_(0, std)
            module.view_seperator.normal_(0, std)

    def get_input_embeddings(self) -> nn.Embedding:
        return self.model.embed_tokens

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.model.embed_tokens = value

    def get_output_embeddings(self) -> nn.Linear:
        return self.lm_head

    def encode_images(self, views: dict[int, Tensor] | RawImages, image_layouts: list[ImageLayout]) -> Tensor:
        """Runs the DeepEncoder over all views of a batch, one pass per view size.

        Args:
            views: side S → (N_S, S, S, 3) uint8, or (N_S, 3, S, S) normalised floats. Within a size, images
                come in order, the tiles of one (row by row) before its global view. Or the images themselves:
                views are made of them on the model's device.
            image_layouts: one per image, in order.
        Returns:
            (I, H): for every image its tile rows, then its global rows, each row ended by `image_newline`, then
            `view_seperator`.
        """
        if isinstance(views, RawImages):
            views = views.views(self.device)
        asked: dict[int, int] = dict.fromkeys(views, 0)
        for view_size, tile_size, columns, rows in image_layouts:
            asked[view_size] = asked.get(view_size, 0) + 1
            if columns * rows:
                asked[tile_size] = asked.get(tile_size, 0) + columns * rows
        given = {size: len(batch) for size, batch in views.items()}
        if asked != given:
            raise ValueError(f"views hold (side: number) {given}, but image_layouts ask for {asked}")
        tokens = {size: self.model(batch.to(self.device)) for size, batch in views.items()}  # (N_S, g*g, H)
        taken = dict.fromkeys(tokens, 0)

        def take(size: int, count: int) -> Tensor:
            start = taken[size]
            taken[size] = start + count
            return tokens[size][start : start + count]

        parts = []
        for view_size, tile_size, columns, rows in image_layouts:
            if columns * rows:
                parts.append(self._end_rows(grid_of(take(tile_size, columns * rows), columns, rows)))
            parts.append(self._end_rows(grid_of(take(view_size, 1), 1, 1)))
            parts.append(self.model.view_seperator[None])
        return torch.cat(parts)

    def _end_rows(self, grid: Tensor) -> Tensor:
        """(rows, columns, H) → (rows * (columns + 1), H), `image_newline` after every row."""
        newline = self.model.image_newline.expand(grid.shape[0], 1, -1)
        return torch.cat([grid, newline], dim=1).flatten(0, 1)

    def embed(self, input_ids: Tensor, image_features: Tensor | None) -> Tensor:
        """Token embeddings (B, T, H) with image features (I, H) at the `<image>` positions, in order."""
        embeds = self.model.embed_tokens(input_ids)
        if image_features is None:
            return embeds
        places = input_ids == self.config.image_token_id  # (B, T)
        # Gathered by the running count of placeholders: `masked_scatter` would wait for the device backwards.
        number = (places.flatten().cumsum(0) - 1).clamp(min=0)
        features = image_features.to(embeds.dtype).index_select(0, number).view_as(embeds)
        return torch.where(places.unsqueeze(-1), features, embeds)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        label_rows: Tensor | None = None,
        sequence_lengths: Sequence[int] | None = None,
        views: dict[int, Tensor] | RawImages | None = None,
        image_layouts: list[ImageLayout] | None = None,
        image_features: Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        output_hidden_states: bool | None = None,
        num_items_in_batch: Tensor | int | None = None,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """
        Args:
            input_ids: (B, T); each image is a run of `<image>` tokens, one per feature.
            attention_mask: (B, past + T), 0 on padding (either side). Leave it out for right-padded training
                batches: no token sees the padding after it, and plain causal attention is faster.
            position_ids: (B, T); by default counted from the first token that is not padding.
            labels: (B, T), -100 where nothing is to be learnt.
            label_rows: (R,) flat indices b*T + t whose next token has a label. With it the vocabulary head runs
                on these rows only, and `logits` are (R, V); without it on all, and `logits` are (B, T, V). In
                training mode with a frozen head it runs chunk by chunk, and there are no `logits`.
            sequence_lengths: tokens of each sample, where B = 1 and samples lie end to end in the row:
                positions begin anew with each, and none sees another. Neither mask nor cache go with it.
            views, image_layouts: see `encode_images`.
            image_features: (I, H) made by `encode_images` before; then views are not needed.
            logits_to_keep: last rows to compute logits for; 0 all.
            num_items_in_batch: labels of the whole optimiser step, to average over accumulation steps exactly.
        Returns:
            loss (scalar, mean cross entropy, plus the router's loss where the config asks for it), logits,
            past_key_values, hidden_states (embeddings, then each layer's output, then the final norm's).
        """
        if inputs_embeds is None:
            if image_features is None and views is not None and len(views):
                image_features = self.encode_images(views, image_layouts or [])
            if input_ids is None:
                raise ValueError("input_ids or inputs_embeds must be given")
            inputs_embeds = self.embed(input_ids, image_features)
        balance: list[Tensor] | None = [] if self.config.router_aux_loss_alpha and labels is not None else None
        keep = bool(output_hidden_states)
        # The last layer's values at other rows would be seen by nobody.
        rows = label_rows if labels is not None and not keep and balance is None else None
        if sequence_lengths is not None:
            packed = PackedAttention(sequence_lengths, inputs_embeds.device)
            hidden, states = self._decode(inputs_embeds, packed.positions(), packed, balance, keep, rows)
        else:
            if use_cache is None:
                use_cache = not self.training and labels is None
            if use_cache and past_key_values is None:
                past_key_values = DynamicCache(config=self.config)
            past, length = _past_length(past_key_values), inputs_embeds.shape[1]
            if position_ids is None:
                position_ids = _positions(attention_mask, length, past, inputs_embeds.device)
            mask = attention_mask_4d(attention_mask, length, past, inputs_embeds.device)
            attend = CausalAttention(mask, past_key_values)
            hidden, states = self._decode(inputs_embeds, position_ids, attend, balance, keep, rows)
        loss = None
        if labels is None:
            kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
            logits = self.lm_head(hidden[:, kept])
        else:
            learned = hidden if rows is None else hidden[0]  # (B, T, H) or (R, H)
            loss, logits = self._loss(learned, labels, label_rows, num_items_in_batch)
            if balance:
                loss = loss + self.config.router_aux_loss_alpha * torch.stack(balance).sum()
        return CausalLMOutputWithPast(
            loss=loss, logits=logits, past_key_values=past_key_values, hidden_states=states
        )

    def decode(
        self,
        inputs_embeds: Tensor,
        position_ids: Tensor,
        attend: Attend,
        balance: list[Tensor] | None = None,
        rows: Tensor | None = None,
    ) -> Tensor:
        """The decoder alone: (B, T, H) embeddings → (B, T, H) after the final norm.

        Args:
            inputs_embeds: see `embed`.
            position_ids: (B, T) or (1, T).
            attend: how queries meet keys.
            balance: gets each layer's load-balancing loss, where it is wanted.
            rows: (R,) flat positions that alone are wanted; then (1, R, H) comes back, and the last layer does
                less. Not together with `balance`.
        """
        return self._decode(inputs_embeds, position_ids, attend, balance, False, rows)[0]

    def _decode(
        self,
        x: Tensor,
        position_ids: Tensor,
        attend: Attend,
        balance: list[Tensor] | None,
        keep_states: bool,
        rows: Tensor | None,
    ) -> tuple[Tensor, tuple[Tensor, ...] | None]:
        """As `decode`, with the residual stream where asked for."""
        sizes = self.config.decoder_sizes
        rotary = rotary_tables(position_ids, sizes.head_dim, sizes.rope_theta, x.dtype)
        states = [x] if keep_states else []
        last = len(self.model.layers) - 1
        for number, layer in enumerate(self.model.layers):
            x = layer(x, rotary, attend, balance, rows if number == last else None)
            if keep_states:
                states.append(x)
        x = self.model.norm(x)
        return x, (*states, x) if keep_states else None

    def set_checkpointing(self, kind: Checkpointing) -> None:
        """What the decoder's backward pass computes anew, for less memory. The encoder keeps what it needs.

        Args:
            kind: none; selective: the experts' inner activations, the largest part; full: whole layers.
        """
        self._set_gradient_checkpointing(
            enable=kind == "full", gradient_checkpointing_func=partial(checkpoint, use_reentrant=False)
        )
        for module in self.modules():
            if isinstance(module, GroupedExperts):
                module.recompute = kind == "selective"

    def _loss(
        self, hidden: Tensor, labels: Tensor, label_rows: Tensor | None, items: Tensor | int | None
    ) -> tuple[Tensor, Tensor | None]:
        """Cross entropy of the next token, and logits; in float32, of which the Trainer would make a copy.

        `hidden` is (B, T, H), or (R, H) of the label rows alone.
        """
        if label_rows is not None:
            picked = hidden if hidden.ndim == 2 else hidden.flatten(0, 1)[label_rows]
            targets = labels.flatten()[label_rows + 1]
            if self.training and not self.lm_head.weight.requires_grad:
                total = chunked_cross_entropy(picked, self.lm_head.weight, targets)
                return total / (max(1, targets.numel()) if items is None else items), None
            rows = logits = self.lm_head(picked).float()  # (R, V)
        else:
            logits = self.lm_head(hidden).float()  # (B, T, V)
            rows, targets = logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten()
        if items is None:
            return F.cross_entropy(rows, targets, ignore_index=-100), logits
        return F.cross_entropy(rows, targets, ignore_index=-100, reduction="sum") / items, logits

    def prepare_inputs_for_generation(self, input_ids: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Images go in with the prompt; later steps have them in the cache."""
        inputs = super().prepare_inputs_for_generation(input_ids, *args, **kwargs)  # type: ignore[misc]
        cache = kwargs.get("past_key_values")
        if cache is not None and cache.get_seq_length() > 0:
            for name in ("views", "image_layouts", "image_features"):
                inputs[name] = None
        return inputs

    def save_pretrained(self, save_directory: str | PathLike[str], *args: Any, **kwargs: Any) -> None:
        """Writes the folder in hub layout (see `save_model`); of the options only `state_dict` counts."""
        from ocrsmith.model.weights import save_model

        save_model(self, save_directory, state_dict=kwargs.get("state_dict"))

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | PathLike[str] | None, *args: Any, **kwargs: Any
    ) -> OcrModel:
        """Loads a folder in hub layout, a hub id, or "nano"; takes `dtype` (or its name) and `device`.

        Raises:
            SettingsError: `dtype` is none.
            WeightsError: see `load_model`.
        """
        from ocrsmith.model.weights import load_model

        dtype = kwargs.get("dtype") or torch.float32
        dtype = getattr(torch, dtype, dtype) if isinstance(dtype, str) else dtype
        if not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
            raise SettingsError(f"There is no dtype {dtype!r}.", place="dtype", mend="use float32 or bfloat16")
        return load_model(str(pretrained_model_name_or_path), dtype=dtype, device=kwargs.get("device", "cpu"))


def _past_length(cache: Cache | None) -> int:
    return int(cache.get_seq_length()) if cache is not None else 0


def _positions(attention_mask: Tensor | None, length: int, past: int, device: torch.device) -> Tensor:
    """(1, T) or (B, T): places counted from the first token that is not padding."""
    if attention_mask is None:
        return torch.arange(past, past + length, device=device)[None]
    return (attention_mask.cumsum(-1) - 1).clamp(min=0)[:, past : past + length]


def grid_of(tokens: Tensor, columns: int, rows: int) -> Tensor:
    """Lays out tiles row by row: (columns*rows, g*g, H) → (rows*g, columns*g, H)."""
    side = int(tokens.shape[1] ** 0.5)
    tiles = tokens.view(rows, columns, side, side, -1).transpose(1, 2)  # (rows, g, columns, g, H)
    return tiles.reshape(rows * side, columns * side, -1)
