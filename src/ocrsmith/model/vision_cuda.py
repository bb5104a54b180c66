"""The frozen DeepEncoder on a GPU, forwards only: the same numbers with fewer passes over memory.

SAM's windows are never cut out: one attention kernel reads queries, keys and values where the linear layer left
them, and takes what a window lacks at the map's edge from the layer's bias, which is what padding with zeros
amounts to. Patches are a matrix product, convolutions run on channels-last maps, norms on the last dimension.

Letters: B views, S side of a view in pixels, G = S/16 patches a side, g = G/4 tokens a side, C channels,
h heads, d channels of a head.
"""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ocrsmith.model.kernels import capability, fused, has_triton
from ocrsmith.model.vision import (
    ClipEncoder,
    DeepEncoder,
    SamBlock,
    SamEncoder,
    resize_positions,
    resize_relative,
)

PATCH = 16


def runs_fast(encoder: DeepEncoder, views: Tensor) -> bool:
    """Whether `encode_views` serves: a frozen encoder in half precision on a recent GPU."""
    weight = encoder.sam_model.pos_embed
    if views.dtype != torch.uint8 or not has_triton(views) or torch.is_autocast_enabled("cuda"):
        return False
    if weight.dtype not in (torch.bfloat16, torch.float16) or capability(views.device)[0] < 8:
        return False
    parts = (encoder.sam_model, encoder.vision_model, encoder.projector)
    if torch.is_grad_enabled() and any(p.requires_grad for part in parts for p in part.parameters()):
        return False
    attn = cast(SamBlock, encoder.sam_model.blocks[0]).attn
    head_dim = weight.shape[-1] // attn.heads
    return type(attn.qkv) is nn.Linear and head_dim in (16, 32, 64, 128) and views.shape[1] // PATCH <= 128


@torch.no_grad()
def encode_views(encoder: DeepEncoder, views: Tensor) -> Tensor:
    """(B, S, S, 3) uint8 → (B, g*g, hidden): as `DeepEncoder.forward`."""
    sam = _sam(encoder.sam_model, views)  # (B, g, g, C)
    tokens = sam.flatten(1, 2)  # (B, g*g, C)
    clip = _clip(encoder.vision_model, sam)  # (B, 1 + g*g, C)
    return cast(Tensor, encoder.projector(torch.cat([clip[:, 1:], tokens], dim=-1)))


# --- SAM ------------------------------------------------------------------------------------------------------


def _sam(sam: SamEncoder, views: Tensor) -> Tensor:
    """(B, S, S, 3) → (B, g, g, C)."""
    weight = sam.patch_embed.proj.weight  # (C, 3, 16, 16)
    batch, side = views.shape[:2]
    grid = side // PATCH
    patches = views.view(batch, grid, PATCH, grid, PATCH, 3).transpose(2, 3)
    patches = normalised(patches.reshape(-1, 3 * PATCH * PATCH), sam.pos_embed)  # (B*G*G, 768)
    x = F.linear(patches, weight.permute(0, 2, 3, 1).reshape(weight.shape[0], -1), sam.patch_embed.proj.bias)
    x = x.view(batch, grid, grid, -1) + resize_positions(sam.pos_embed, grid, grid)
    for block in sam.blocks:
        x = _sam_block(cast(SamBlock, block), x)
    neck: list[Any] = list(sam.neck)
    narrow, norm_1, wide, norm_2 = neck
    x = F.linear(x, narrow.weight.flatten(1))  # a 1×1 convolution
    x = F.layer_norm(x, norm_1.weight.shape, norm_1.weight, norm_1.bias, 1e-6)
    x = _convolve(wide, x)
    x = F.layer_norm(x, norm_2.weight.shape, norm_2.weight, norm_2.bias, 1e-6)
    return _convolve(sam.net_3, _convolve(sam.net_2, x))


@fused
def normalised(patches: Tensor, like: Tensor) -> Tensor:
    """uint8 → [-1, 1] in the dtype of `like`, by way of float32."""
    return (((patches.float() / 255) - 0.5) / 0.5).to(like.dtype)


def _convolve(layer: nn.Conv2d, x: Tensor) -> Tensor:
    """A convolution of (B, H, W, C) maps."""
    weight = layer.weight.contiguous(memory_format=torch.channels_last)
    return F.conv2d(
        x.permute(0, 3, 1, 2), weight, layer.bias, layer.stride, layer.padding
    ).permute(0, 2, 3, 1)  # fmt: skip


def _sam_block(block: SamBlock, x: Tensor) -> Tensor:
    """(B, G, G, C) → (B, G, G, C)."""
    from ocrsmith.model.relative_attention_cuda import relative_attention

    attn, width = block.attn, x.shape[-1:]
    normed = F.layer_norm(x, width, block.norm1.weight, block.norm1.bias, block.norm1.eps)
    qkv = attn.qkv(normed)  # (B, G, G, 3C)
    span = block.window or x.shape[1]
    rows, columns = (resize_relative(table, span) for table in (attn.rel_pos_h, attn.rel_pos_w))
    seen = relative_attention(qkv, attn.qkv.bias, rows, columns, heads=attn.heads, span=span)
    x = x + attn.proj(seen)
    normed = F.layer_norm(x, width, block.norm2.weight, block.norm2.bias, block.norm2.eps)
    return x + block.mlp.lin2(F.gelu(block.mlp.lin1(normed)))


# --- CLIP -----------------------------------------------------------------------------------------------------


def _clip(clip: ClipEncoder, sam: Tensor) -> Tensor:
    """(B, g, g, C) → (B, 1 + g*g, C)."""
    x = clip.pre_layrnorm(clip.embeddings(sam.permute(0, 3, 1, 2)))
    layers: list[Any] = list(clip.transformer.layers)
    for layer in layers:
        attn = layer.self_attn
        qkv = attn.qkv_proj(layer.layer_norm1(x)).view(*x.shape[:2], 3, attn.heads, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # (B, h, T, d)
        seen = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(x.shape)
        x = x + attn.out_proj(seen)
        x = x + layer.mlp.fc2(quick_gelu(layer.mlp.fc1(layer.layer_norm2(x))))
    return x


@fused
def quick_gelu(x: Tensor) -> Tensor:
    """x · sigmoid(1.702 x), as CLIP was trained."""
    return x * torch.sigmoid(1.702 * x)
