"""R1: the model as the published code has it, a module an expert, for training with PEFT.

Written anew with that structure, since it is the structure that costs: an MLP of three linears for every
expert, a Python loop over all experts of a layer that picks each one's tokens by a boolean mask (which waits
for the device), one PEFT LoRA pair for every linear, images encoded one after another, SAM's relative
positions as a full (queries × keys) bias, float32 logits of every position. Names are the checkpoint's.
"""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ocrsmith.model.config import DecoderSizes, OcrConfig
from ocrsmith.model.ocr_model import OcrModel
from ocrsmith.model.vision import DeepEncoder, SamAttention, normalise, relative_table
from ocrsmith.model.weights import hub_tensors

LINEARS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
"""What the public recipe adapts; the last three match every expert."""


class BiasedAttention(SamAttention):
    """SAM's attention with its relative positions as an additive bias: (B, heads, HW, HW)."""

    def forward(self, x: Tensor) -> Tensor:
        batch, height, width, channels = x.shape
        qkv = self.qkv(x).view(batch, height * width, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)  # (B, heads, HW, d)
        grid = q.reshape(batch, self.heads, height, width, -1)
        rows = torch.einsum("bnhwd,hkd->bnhwk", grid, relative_table(self.rel_pos_h, height))
        columns = torch.einsum("bnhwd,wkd->bnhwk", grid, relative_table(self.rel_pos_w, width))
        bias = (rows[..., :, None] + columns[..., None, :]).reshape(batch, self.heads, height * width, -1)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(q.dtype))
        return self.proj(out.transpose(1, 2).reshape(batch, height, width, channels))


class Norm(nn.Module):
    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        wide = x.float()
        return self.weight * (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.eps)).to(x.dtype)


class Expert(nn.Module):
    def __init__(self, hidden: int, inner: int) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(hidden, inner, bias=False)
        self.up_proj = nn.Linear(hidden, inner, bias=False)
        self.down_proj = nn.Linear(inner, hidden, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Gate(nn.Module):
    """The router's weight, under the checkpoint's name."""

    def __init__(self, sizes: DecoderSizes) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(sizes.n_routed_experts, sizes.hidden_size))


class ExpertList(nn.Module):
    """The mixture: every expert is asked in turn for the tokens that chose it."""

    def __init__(self, sizes: DecoderSizes) -> None:
        super().__init__()
        self.sizes = sizes
        self.gate = Gate(sizes)
        self.experts = nn.ModuleList(
            Expert(sizes.hidden_size, sizes.moe_intermediate_size) for _ in range(sizes.n_routed_experts)
        )
        self.shared_experts = Expert(sizes.hidden_size, sizes.moe_intermediate_size * sizes.n_shared_experts)

    def forward(self, x: Tensor) -> Tensor:
        k = self.sizes.num_experts_per_tok
        rows = x.view(-1, x.shape[-1])
        with torch.autocast(x.device.type, enabled=False):
            scores = F.linear(rows.float(), self.gate.weight.float()).softmax(-1)
        weights, chosen = scores.topk(k, dim=-1)
        if self.sizes.norm_topk_prob:
            weights = weights / (weights.sum(-1, keepdim=True) + 1e-20)
        weights = weights * self.sizes.routed_scaling_factor
        flat = chosen.flatten()
        repeated = rows.repeat_interleave(k, dim=0)
        out = torch.empty_like(repeated)
        for number, expert in enumerate(self.experts):
            mine = flat == number
            out[mine] = expert(repeated[mine]).to(out.dtype)
        routed = (out.view(len(rows), k, -1) * weights.to(out.dtype).unsqueeze(-1)).sum(1)
        return routed.view_as(x) + self.shared_experts(x)


class Attention(nn.Module):
    def __init__(self, sizes: DecoderSizes) -> None:
        super().__init__()
        self.head_dim, self.theta = sizes.head_dim, sizes.rope_theta
        self.q_proj = nn.Linear(sizes.hidden_size, sizes.hidden_size, bias=False)
        self.k_proj = nn.Linear(sizes.hidden_size, sizes.hidden_size, bias=False)
        self.v_proj = nn.Linear(sizes.hidden_size, sizes.hidden_size, bias=False)
        self.o_proj = nn.Linear(sizes.hidden_size, sizes.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, _ = x.shape
        q, k, v = (
            proj(x).view(batch, length, -1, self.head_dim).transpose(1, 2)
            for proj in (self.q_proj, self.k_proj, self.v_proj)
        )
        steps = torch.arange(0, self.head_dim, 2, device=x.device).float() / self.head_dim
        angles = torch.arange(length, device=x.device).float()[:, None] * self.theta**-steps
        angles = torch.cat([angles, angles], dim=-1)
        cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
        q, k = (part * cos + _turned(part) * sin for part in (q, k))
        out = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.o_proj(out.transpose(1, 2).reshape(batch, length, -1))


class Layer(nn.Module):
    def __init__(self, sizes: DecoderSizes, number: int) -> None:
        super().__init__()
        self.input_layernorm = Norm(sizes.hidden_size, sizes.rms_norm_eps)
        self.self_attn = Attention(sizes)
        self.post_attention_layernorm = Norm(sizes.hidden_size, sizes.rms_norm_eps)
        dense = number < sizes.first_k_dense_replace
        self.mlp = Expert(sizes.hidden_size, sizes.intermediate_size) if dense else ExpertList(sizes)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x))
        return x + self.mlp(self.post_attention_layernorm(x))


class Backbone(DeepEncoder):
    """Everything under `model.` in the checkpoint."""

    def __init__(self, config: OcrConfig) -> None:
        super().__init__(config)
        sam, sizes = config.sam_sizes, config.decoder_sizes
        for number, block in enumerate(self.sam_model.blocks):
            everywhere = number in sam.global_attn_indexes
            span = sam.image_size // sam.patch_size if everywhere else sam.window_size
            block.attn = BiasedAttention(sam, span)
        self.image_newline = nn.Parameter(torch.zeros(sizes.hidden_size))
        self.view_seperator = nn.Parameter(torch.zeros(sizes.hidden_size))
        self.embed_tokens = nn.Embedding(sizes.vocab_size, sizes.hidden_size)
        self.layers = nn.ModuleList(Layer(sizes, number) for number in range(sizes.num_hidden_layers))
        self.norm = Norm(sizes.hidden_size, sizes.rms_norm_eps)


class PerExpertOcr(nn.Module):
    """The whole model. It trains; it does not decode."""

    def __init__(self, config: OcrConfig) -> None:
        super().__init__()
        self.image_token = config.image_token_id
        self.checkpointing = False
        self.model = Backbone(config)
        sizes = config.decoder_sizes
        self.lm_head = nn.Linear(sizes.hidden_size, sizes.vocab_size, bias=False)

    @torch.no_grad()
    def encode_images(self, views: dict[int, Tensor], layouts: list[tuple[int, int, int, int]]) -> list[Tensor]:
        """Features of each image (its tokens, H), one image after another."""
        taken = dict.fromkeys(views, 0)
        features = []
        for view, tile, columns, rows in layouts:
            parts = []
            for size, across, down in ((tile, columns, rows), (view, 1, 1)):
                if not across:
                    continue
                start = taken[size]
                taken[size] += across * down
                grid = self.model(normalise(views[size][start : taken[size]]))  # (tiles, g*g, H)
                side = int(grid.shape[1] ** 0.5)
                grid = grid.view(down, across, side, side, -1).transpose(1, 2)
                grid = grid.reshape(down * side, across * side, -1)
                newlines = self.model.image_newline.expand(len(grid), 1, -1)
                parts.append(torch.cat([grid, newlines], dim=1).flatten(0, 1))
            features.append(torch.cat([*parts, self.model.view_seperator[None]]))
        return features

    def forward(self, input_ids: Tensor, labels: Tensor, features: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Loss, and logits (B, T, V) in float32. Sequences are padded on the right; one image each."""
        x = self.model.embed_tokens(input_ids)
        rows = []
        for row, ids, images in zip(x, input_ids, features, strict=True):
            places = (ids == self.image_token).unsqueeze(-1)
            rows.append(row.masked_scatter(places, images.to(row.dtype)))
        x = torch.stack(rows)
        for layer in self.model.layers:
            x = checkpoint(layer, x, use_reentrant=False) if self.checkpointing else layer(x)
        logits = self.lm_head(self.model.norm(x)).float()
        return F.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten()), logits


class PerExpertPeer:
    """R1 for the training benchmark."""

    name = "r1"

    def __init__(self, model: OcrModel, *, checkpointing: bool = False) -> None:
        """Takes the weights of `model` over."""
        bare = per_expert_copy(model)
        bare.checkpointing = checkpointing
        bare.requires_grad_(False)
        config = LoraConfig(r=16, lora_alpha=16, target_modules=LINEARS)
        self.model: Any = get_peft_model(bare, config)
        self.bare = bare

    def encode(self, batch: dict[str, Any]) -> list[Tensor]:
        return self.bare.encode_images(batch["views"], batch["image_layouts"])

    def loss(self, batch: dict[str, Any], features: list[Tensor]) -> Tensor:
        loss: Tensor = self.model(batch["input_ids"], batch["labels"], features)[0]
        return loss


def per_expert_copy(model: OcrModel) -> PerExpertOcr:
    """R1 with the same weights, on the same device, in the same dtype."""
    parameter = next(model.parameters())
    with torch.device("meta"):
        copy = PerExpertOcr(cast(OcrConfig, model.config))
    copy = copy.to(parameter.dtype).to_empty(device=parameter.device)
    copy.load_state_dict(dict(hub_tensors(model.state_dict())))
    return copy.eval()


def _turned(x: Tensor) -> Tensor:
    first, second = x.chunk(2, dim=-1)
    return torch.cat([-second, first], dim=-1)
