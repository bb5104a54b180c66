"""Image preparation as one writes it first with Pillow: what ours is measured against.

Decode, turn upright, RGB, resize, pad, cut tiles one by one; then floats, normalised, on the CPU.
"""

from __future__ import annotations

import io

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

MEAN, STD, GREY = 0.5, 0.5, (127, 127, 127)


def best_grid(width: int, height: int, least: int = 2, most: int = 9, tile: int = 640) -> tuple[int, int]:
    """(columns, rows) nearest in shape; of equals the larger where the picture has the pixels for it."""
    grids = {(c, r) for c in range(1, most + 1) for r in range(1, most + 1) if least <= c * r <= most}
    best, nearest = (1, 1), float("inf")
    for columns, rows in sorted(grids, key=lambda grid: (grid[0] * grid[1], grid[0])):
        distance = abs(width / height - columns / rows)
        large = width * height > 0.5 * tile * tile * columns * rows
        if distance < nearest or (distance == nearest and large):
            best, nearest = (columns, rows), distance
    return best


def prepare_pixels(file: bytes, view: int = 1024, tile: int = 640) -> tuple[Image.Image, list[Image.Image]]:
    """The padded global view, and the tiles (none for a picture that fits into one)."""
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(file))).convert("RGB")
    tiles = []
    if image.width > tile or image.height > tile:
        columns, rows = best_grid(*image.size)
        stretched = image.resize((columns * tile, rows * tile), Image.Resampling.BICUBIC)
        for number in range(columns * rows):
            left, top = number % columns * tile, number // columns * tile
            tiles.append(stretched.crop((left, top, left + tile, top + tile)))
    return ImageOps.pad(image, (view, view), method=Image.Resampling.BICUBIC, color=GREY), tiles


def prepare(file: bytes) -> tuple[Tensor, Tensor]:
    """(1, 3, S, S) and (tiles, 3, T, T) float32 in [-1, 1]."""
    view, tiles = prepare_pixels(file)
    pixels = [_normalised(picture) for picture in (view, *tiles)]
    return pixels[0][None], torch.stack(pixels[1:]) if tiles else torch.zeros(0)


def _normalised(picture: Image.Image) -> Tensor:
    channels = torch.from_numpy(np.array(picture))  # (H, W, 3)
    return (channels.permute(2, 0, 1).float() / 255 - MEAN) / STD
