"""The DeepEncoder: SAM ViT → 16x compressor → CLIP ViT, and the projector into the decoder's space.

Letters in shape comments: B views, S side of a view in pixels, G = S/16 patches a side, g = G/4 tokens a side,
C channels, h heads, d channels of a head.

Source: DeepSeek-OCR (arXiv 2510.18234), section 3.2; SAM (arXiv 2304.02643); CLIP (arXiv 2103.00020).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ocrsmith.model import fused_cpu
from ocrsmith.model.config import ClipSizes, OcrConfig, SamSizes
from ocrsmith.model.relative_attention import relative_attention


class DeepEncoder(nn.Module):
    """Not a module of the checkpoint: the two encoders hang side by side in it. Here they are one function."""

    def __init__(self, config: OcrConfig) -> None:
        super().__init__()
        self.sam_model = SamEncoder(config.sam_sizes)
        self.vision_model = ClipEncoder(config.clip_sizes)
        self.projector = Projector(config)

    def forward(self, views: Tensor) -> Tensor:
        """Encodes views of one size.

        Args:
            views: (B, S, S, 3) uint8 RGB, or (B, 3, S, S) floats already normalised to [-1, 1].
        Returns:
            (B, g*g, hidden) image tokens, row by row, in the decoder's space.
        """
        if views.is_cuda:
            from ocrsmith.model import vision_cuda

            if vision_cuda.runs_fast(self, views):
                return vision_cuda.encode_views(self, views)
        dtype = self.sam_model.pos_embed.dtype
        pixels = normalise(views).to(dtype) if views.dtype == torch.uint8 else views.to(dtype)
        sam = self.sam_model(pixels)  # (B, C, g, g)
        clip = self.vision_model(sam)  # (B, 1 + g*g, C)
        tokens = torch.cat([clip[:, 1:], sam.flatten(2).transpose(1, 2)], dim=-1)  # (B, g*g, 2C)
        return self.projector(tokens)


def normalise(views: Tensor) -> Tensor:
    """(B, S, S, 3) uint8 → (B, 3, S, S) float32 with mean and standard deviation 0.5, on the views' device."""
    return views.permute(0, 3, 1, 2).float().div_(255).sub_(0.5).div_(0.5)


class Projector(nn.Module):
    """One linear layer 2C → hidden; a module of its own because the checkpoint names it `projector.layers`."""

    def __init__(self, config: OcrConfig) -> None:
        super().__init__()
        self.layers = nn.Linear(
            config.sam_sizes.downsample_channels[1] + config.clip_sizes.width,
            config.decoder_sizes.hidden_size,
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


# --- SAM -----------------------------------------------------------------------------------------------------


class SamEncoder(nn.Module):
    def __init__(self, sizes: SamSizes) -> None:
        super().__init__()
        grid = sizes.image_size // sizes.patch_size
        self.patch_embed = PatchEmbed(sizes)
        self.pos_embed = nn.Parameter(torch.zeros(1, grid, grid, sizes.width))
        self.blocks = nn.ModuleList(
            SamBlock(sizes, window=0 if index in sizes.global_attn_indexes else sizes.window_size)
            for index in range(sizes.layers)
        )
        self.neck = nn.Sequential(
            nn.Conv2d(sizes.width, sizes.out_chans, 1, bias=False),
            ChannelNorm(sizes.out_chans),
            nn.Conv2d(sizes.out_chans, sizes.out_chans, 3, padding=1, bias=False),
            ChannelNorm(sizes.out_chans),
        )
        middle, last = sizes.downsample_channels
        self.net_2 = nn.Conv2d(sizes.out_chans, middle, 3, stride=2, padding=1, bias=False)
        self.net_3 = nn.Conv2d(middle, last, 3, stride=2, padding=1, bias=False)

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, 3, S, S) → (B, C, g, g)."""
        x = self.patch_embed(pixels)  # (B, G, G, C)
        x = x + resize_positions(self.pos_embed, x.shape[1], x.shape[2])
        for block in self.blocks:
            x = block(x)
        x = self.neck(x.permute(0, 3, 1, 2))  # (B, C, G, G)
        return self.net_3(self.net_2(x))


class PatchEmbed(nn.Module):
    def __init__(self, sizes: SamSizes) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, sizes.width, sizes.patch_size, stride=sizes.patch_size)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.proj(pixels).permute(0, 2, 3, 1)


class SamBlock(nn.Module):
    """Pre-norm transformer block; `window` 0 attends over the whole map."""

    def __init__(self, sizes: SamSizes, window: int) -> None:
        super().__init__()
        self.window = window
        self.norm1 = nn.LayerNorm(sizes.width, eps=1e-6)
        span = window or sizes.image_size // sizes.patch_size
        self.attn = SamAttention(sizes, span)
        self.norm2 = nn.LayerNorm(sizes.width, eps=1e-6)
        self.mlp = SamMlp(sizes)

    def forward(self, x: Tensor) -> Tensor:
        if fused_cpu.suits(x) and (out := self._forward_fused(x)) is not None:
            return out
        shortcut, x = x, self.norm1(x)
        if self.window:
            batch, height, width, _ = x.shape
            x = self.attn(split_windows(x, self.window))
            x = join_windows(x, self.window, batch, height, width)
        else:
            x = self.attn(x)
        x = shortcut + x
        return x + self.mlp(self.norm2(x))

    def _forward_fused(self, x: Tensor) -> Tensor | None:
        """The same on a CPU, where weights are frozen and windows fill the map; None elsewhere."""
        batch, height, width, _ = x.shape
        if self.window and (height % self.window or width % self.window):
            return None
        parts = fused_cpu.linear_parts(self.attn.qkv, self.attn.proj, self.mlp.lin1, self.mlp.lin2)
        if parts is None or not (fused_cpu.frozen_norm(self.norm1) and fused_cpu.frozen_norm(self.norm2)):
            return None
        qkv, proj, up, down = parts
        projected = fused_cpu.norm_linear(x, self.norm1, qkv)  # (B, H, W, 3C)
        if self.window:
            attended = self.attn.attend(split_windows(projected, self.window))
            attended = join_windows(attended, self.window, batch, height, width)
        else:
            attended = self.attn.attend(projected)
        x = fused_cpu.linear_add(attended, proj, x)
        return fused_cpu.norm_mlp_add(x, self.norm2, up, down, "gelu")


class SamMlp(nn.Module):
    def __init__(self, sizes: SamSizes) -> None:
        super().__init__()
        self.lin1 = nn.Linear(sizes.width, sizes.width * sizes.mlp_ratio)
        self.lin2 = nn.Linear(sizes.width * sizes.mlp_ratio, sizes.width)

    def forward(self, x: Tensor) -> Tensor:
        return self.lin2(F.gelu(self.lin1(x)))


class SamAttention(nn.Module):
    """Attention with decomposed relative positions (MViTv2, arXiv 2112.01526, eq. 4).

    The bias of query q and key k is R_h[q, row(k)] + R_w[q, column(k)], both inner products of the query.
    """

    def __init__(self, sizes: SamSizes, span: int) -> None:
        super().__init__()
        self.heads = sizes.heads
        head_dim = sizes.width // sizes.heads
        self.qkv = nn.Linear(sizes.width, 3 * sizes.width)
        self.proj = nn.Linear(sizes.width, sizes.width)
        self.rel_pos_h = nn.Parameter(torch.zeros(2 * span - 1, head_dim))
        self.rel_pos_w = nn.Parameter(torch.zeros(2 * span - 1, head_dim))

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(self.attend(self.qkv(x)))

    def attend(self, qkv: Tensor) -> Tensor:
        """(B, H, W, 3C) → (B, H, W, C)."""
        batch, height, width, _ = qkv.shape
        qkv = qkv.reshape(batch, height * width, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)  # (B, h, HW, d)
        grid = q.unflatten(2, (height, width))
        rows = relative_table(self.rel_pos_h, height)  # (H, H, d)
        columns = relative_table(self.rel_pos_w, width)  # (W, W, d)
        per_row = torch.einsum("bnhwd,hkd->bnhwk", grid, rows).flatten(2, 3)  # (B, h, HW, H)
        per_column = torch.einsum("bnhwd,wkd->bnhwk", grid, columns).flatten(2, 3)  # (B, h, HW, W)
        out = relative_attention(q, k, v, per_row, per_column)
        return out.transpose(1, 2).reshape(batch, height, width, -1)


class ChannelNorm(nn.Module):
    """Layer norm over the channels of (B, C, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x.permute(0, 2, 3, 1), self.weight.shape, self.weight, self.bias, 1e-6).permute(
            0, 3, 1, 2
        )


def relative_table(table: Tensor, size: int) -> Tensor:
    """The entry of `table` for every (query, key) distance along one axis: (size, size, d)."""
    table = resize_relative(table, size)
    index = torch.arange(size, device=table.device)
    return table[index[:, None] - index[None, :] + size - 1]


def resize_relative(table: Tensor, span: int) -> Tensor:
    """Relative positions (2·span - 1, d), interpolated in float32 from a table of another span."""
    wanted = 2 * span - 1
    if table.shape[0] == wanted:
        return table
    return F.interpolate(table.float().t()[None], size=wanted, mode="linear")[0].t().to(table.dtype)


def resize_positions(table: Tensor, height: int, width: int) -> Tensor:
    """Bicubic, antialiased resize of a (1, H, W, C) position table, in float32 as in the published code."""
    if table.shape[1:3] == (height, width):
        return table
    resized = F.interpolate(
        table.permute(0, 3, 1, 2).float(),
        size=(height, width),
        mode="bicubic",
        antialias=True,
        align_corners=False,
    )
    return resized.permute(0, 2, 3, 1).to(table.dtype)


def split_windows(x: Tensor, window: int) -> Tensor:
    """(B, H, W, C) → (B * windows, window, window, C), zero-padded at the right and bottom edges."""
    batch, height, width, channels = x.shape
    x = F.pad(x, (0, 0, 0, -width % window, 0, -height % window))
    down, across = x.shape[1] // window, x.shape[2] // window
    x = x.view(batch, down, window, across, window, channels).transpose(2, 3)
    return x.reshape(-1, window, window, channels)


def join_windows(x: Tensor, window: int, batch: int, height: int, width: int) -> Tensor:
    """The inverse of `split_windows`, without the padding."""
    down, across = -(-height // window), -(-width // window)
    x = x.view(batch, down, across, window, window, -1).transpose(2, 3)
    return x.reshape(batch, down * window, across * window, -1)[:, :height, :width]


# --- CLIP ----------------------------------------------------------------------------------------------------


class ClipEncoder(nn.Module):
    def __init__(self, sizes: ClipSizes) -> None:
        super().__init__()
        self.embeddings = ClipEmbeddings(sizes)
        self.pre_layrnorm = nn.LayerNorm(sizes.width, eps=1e-5)  # the checkpoint spells it so
        self.transformer = ClipTransformer(sizes)

    def forward(self, sam: Tensor) -> Tensor:
        """(B, C, g, g) → (B, 1 + g*g, C), class token first."""
        return self.transformer(self.pre_layrnorm(self.embeddings(sam)))


class ClipEmbeddings(nn.Module):
    def __init__(self, sizes: ClipSizes) -> None:
        super().__init__()
        self.class_embedding = nn.Parameter(torch.zeros(sizes.width))
        # In the checkpoint, never used: SAM's map stands in for the patches. Kept for an exact round trip.
        self.patch_embedding = nn.Conv2d(3, sizes.width, sizes.patch_size, stride=sizes.patch_size, bias=False)
        self.patch_embedding.requires_grad_(False)
        self.position_embedding = nn.Embedding(sizes.grid**2 + 1, sizes.width)

    def forward(self, sam: Tensor) -> Tensor:
        batch, channels, height, width = sam.shape
        table = self.position_embedding.weight
        grid = int((table.shape[0] - 1) ** 0.5)
        places = resize_positions(table[1:].view(1, grid, grid, channels), height, width).view(1, -1, channels)
        patches = sam.flatten(2).transpose(1, 2) + places  # (B, g*g, C)
        first = (self.class_embedding + table[0]).expand(batch, 1, -1)
        return torch.cat([first, patches], dim=1)


class ClipTransformer(nn.Module):
    def __init__(self, sizes: ClipSizes) -> None:
        super().__init__()
        self.layers = nn.ModuleList(ClipBlock(sizes) for _ in range(sizes.layers))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


class ClipBlock(nn.Module):
    def __init__(self, sizes: ClipSizes) -> None:
        super().__init__()
        self.layer_norm1 = nn.LayerNorm(sizes.width, eps=1e-5)
        self.self_attn = ClipAttention(sizes)
        self.layer_norm2 = nn.LayerNorm(sizes.width, eps=1e-5)
        self.mlp = ClipMlp(sizes)

    def forward(self, x: Tensor) -> Tensor:
        if fused_cpu.suits(x) and (out := self._forward_fused(x)) is not None:
            return out
        x = x + self.self_attn(self.layer_norm1(x))
        return x + self.mlp(self.layer_norm2(x))

    def _forward_fused(self, x: Tensor) -> Tensor | None:
        """The same on a CPU, where weights are frozen; None elsewhere."""
        attn, mlp = self.self_attn, self.mlp
        parts = fused_cpu.linear_parts(attn.qkv_proj, attn.out_proj, mlp.fc1, mlp.fc2)
        norms = self.layer_norm1, self.layer_norm2
        if parts is None or not all(map(fused_cpu.frozen_norm, norms)):
            return None
        qkv, proj, up, down = parts
        attended = attn.attend(fused_cpu.norm_linear(x, norms[0], qkv))
        x = fused_cpu.linear_add(attended, proj, x)
        return fused_cpu.norm_mlp_add(x, norms[1], up, down, "quick_gelu")


class ClipAttention(nn.Module):
    def __init__(self, sizes: ClipSizes) -> None:
        super().__init__()
        self.heads = sizes.heads
        self.qkv_proj = nn.Linear(sizes.width, 3 * sizes.width)
        self.out_proj = nn.Linear(sizes.width, sizes.width)

    def forward(self, x: Tensor) -> Tensor:
        return self.out_proj(self.attend(self.qkv_proj(x)))

    def attend(self, qkv: Tensor) -> Tensor:
        """(B, T, 3C) → (B, T, C)."""
        q, k, v = qkv.unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)  # (B, h, T, d)
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


class ClipMlp(nn.Module):
    def __init__(self, sizes: ClipSizes) -> None:
        super().__init__()
        self.fc1 = nn.Linear(sizes.width, sizes.width * sizes.mlp_ratio)
        self.fc2 = nn.Linear(sizes.width * sizes.mlp_ratio, sizes.width)

    def forward(self, x: Tensor) -> Tensor:
        x = self.fc1(x)
        return self.fc2(x * torch.sigmoid(1.702 * x))  # quick GELU, as CLIP was trained
