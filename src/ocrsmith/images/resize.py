"""From an image to the views that the encoder sees: modes, tile grid, resizing and padding, token counts.

Sizes, grid rule, padding colour and the order of tiles are those of DeepSeek-OCR. Resizing is Pillow's
bicubic, since other resizers differ from it by grey levels.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Literal

import numpy as np
from PIL import Image, ImageChops

ModeName = Literal["tiny", "small", "base", "large", "gundam"]

PATCH = 16
"""Side of an encoder patch in pixels."""
SHRINK = 4
"""Patches per image token along a side, after the encoder's two strided convolutions."""
GREY = 127
"""Padding colour, the same in all channels."""


@dataclass(frozen=True, slots=True)
class Mode:
    """How an image is shown to the model."""

    name: ModeName
    view_size: int
    """Side of the global view in pixels."""
    tile_size: int = 0
    """Side of a tile in pixels; 0: no tiles."""
    keep_aspect: bool = True
    """Pad to a square; False: stretch."""


MODES = MappingProxyType(
    {
        mode.name: mode
        for mode in (
            Mode("tiny", 512, keep_aspect=False),
            Mode("small", 640, keep_aspect=False),
            Mode("base", 1024),
            Mode("large", 1280),
            Mode("gundam", 1024, tile_size=640),
        )
    }
)


@dataclass(frozen=True, slots=True)
class ImageViews:
    """The pixels of one image as the encoder gets them."""

    global_view: np.ndarray
    """(S, S, 3) uint8 RGB."""
    tiles: np.ndarray
    """(rows * columns, T, T, 3) uint8 RGB, row by row; (0, 0, 0, 3) without tiles."""
    columns: int = 0
    rows: int = 0
    """The tile grid; 0 and 0 without tiles."""

    @property
    def view_size(self) -> int:
        """Side of the global view in pixels."""
        return int(self.global_view.shape[0])

    @property
    def tile_size(self) -> int:
        """Side of a tile in pixels, 0 without tiles."""
        return int(self.tiles.shape[1]) if len(self.tiles) else 0

    @property
    def layout(self) -> tuple[int, int, int, int]:
        """(view_size, tile_size, columns, rows), the last three 0 without tiles."""
        return self.view_size, self.tile_size, self.columns, self.rows

    @property
    def num_tokens(self) -> int:
        """Image tokens that this image takes in the sequence."""
        return count_tokens(*self.layout)


def tokens_per_side(size: int) -> int:
    """Image tokens along one side of a square view of `size` pixels: 1024 → 16."""
    return -(-(size // PATCH) // SHRINK)


def count_tokens(view_size: int, tile_size: int = 0, columns: int = 0, rows: int = 0) -> int:
    """Image tokens of one image: each row of tokens ends in a newline token, the image in a separator.

    Example: gundam with 2×3 tiles: 16·17 + 1 for the global view, (2·10 + 1)·(3·10) for the tiles = 903.
    """
    side = tokens_per_side(view_size)
    tile_side = tokens_per_side(tile_size)
    return side * (side + 1) + 1 + (columns * tile_side + 1) * (rows * tile_side)


@lru_cache(maxsize=64)
def _grids(min_tiles: int, max_tiles: int) -> tuple[tuple[int, int], ...]:
    """All (columns, rows) with an allowed number of tiles, few tiles first, then few columns first."""
    sides = range(1, max_tiles + 1)
    grids = [(c, r) for c in sides for r in sides if min_tiles <= c * r <= max_tiles]
    return tuple(sorted(grids, key=lambda grid: (grid[0] * grid[1], grid[0])))


def tile_grid(
    width: int, height: int, *, min_tiles: int = 2, max_tiles: int = 9, tile_size: int = 640
) -> tuple[int, int]:
    """(columns, rows) of the tiles for an image of `width` × `height` pixels; (1, 1) means no tiles.

    An image that fits into one tile gets none. Otherwise the grid whose shape is nearest to the image's wins;
    of equally near ones the finer, if the image has more than half of its pixels.
    """
    if width <= tile_size and height <= tile_size:
        return 1, 1
    shape = width / height
    best, nearest = (1, 1), float("inf")
    for columns, rows in _grids(min_tiles, max_tiles):
        distance = abs(shape - columns / rows)
        finer = distance == nearest and width * height > 0.5 * tile_size * tile_size * columns * rows
        if distance < nearest or finer:
            best, nearest = (columns, rows), distance
    return best


def image_layout(
    width: int, height: int, mode: Mode, *, min_tiles: int = 2, max_tiles: int = 9
) -> tuple[int, int, int, int]:
    """(view_size, tile_size, columns, rows) that `make_views` will give, from the size alone."""
    if mode.tile_size:
        columns, rows = tile_grid(
            width, height, min_tiles=min_tiles, max_tiles=max_tiles, tile_size=mode.tile_size
        )
        if columns * rows > 1:
            return mode.view_size, mode.tile_size, columns, rows
    return mode.view_size, 0, 0, 0


def make_views(image: Image.Image, mode: Mode, *, min_tiles: int = 2, max_tiles: int = 9) -> ImageViews:
    """The global view and the tiles of an image.

    Args:
        image: mode "RGB" or "L", upright (`open_image` or `flatten_image` make such).
        mode: one of `MODES`.
        min_tiles, max_tiles: bounds of the number of tiles.
    """
    # Most scans are grey, also those stored with three channels. Resizing one channel gives the same bytes as
    # resizing three equal ones, in a third of the time.
    image = _one_channel_if_grey(image)
    _, tile_size, columns, rows = image_layout(*image.size, mode, min_tiles=min_tiles, max_tiles=max_tiles)
    if tile_size:
        tiles = _cut_tiles(image, tile_size, columns, rows)
    else:
        tiles = np.zeros((0, 0, 0, 3), np.uint8)
    global_view = _pad_square(image, mode.view_size) if mode.keep_aspect else _stretch(image, mode.view_size)
    return ImageViews(global_view, tiles, columns, rows)


def fit_within(width: int, height: int, side: int) -> tuple[int, int]:
    """The size of a `width` × `height` image scaled to fit a square; never below one pixel."""
    if width >= height:
        return side, max(1, round(height / width * side))
    return max(1, round(width / height * side)), side


def _one_channel_if_grey(image: Image.Image) -> Image.Image:
    if image.mode == "L":
        return image
    if image.mode != "RGB":
        raise ValueError(f"make_views takes RGB or L images, not {image.mode}")
    # A coarse look first: coloured pages are recognised without reading all of them.
    for look in (image.crop((0, image.height // 2, image.width, image.height // 2 + 1)), image):
        red, green, blue = look.split()
        for other in (green, blue):
            if ImageChops.difference(red, other).getbbox() is not None:
                return image
    return red


def _resize(image: Image.Image, width: int, height: int) -> np.ndarray:
    """(height, width, 1 or 3) uint8."""
    pixels = np.asarray(image.resize((width, height), Image.Resampling.BICUBIC))
    return pixels.reshape(height, width, -1)


def _copy_channels(target: np.ndarray, source: np.ndarray) -> None:
    """target (…, 3) ← source (…, 1 or 3). By channel, since numpy is slow at spreading an inner axis of 3."""
    if source.shape[-1] == 3:
        target[...] = source
        return
    for channel in range(3):
        target[..., channel] = source[..., 0]


def _stretch(image: Image.Image, side: int) -> np.ndarray:
    view = np.empty((side, side, 3), np.uint8)
    _copy_channels(view, _resize(image, side, side))
    return view


def _pad_square(image: Image.Image, side: int) -> np.ndarray:
    """Scaled to fit, centred on grey. An odd rest is split as Python rounds: half to even."""
    width, height = fit_within(*image.size, side)
    left, top = round((side - width) * 0.5), round((side - height) * 0.5)
    view = np.full((side, side, 3), GREY, np.uint8)
    _copy_channels(view[top : top + height, left : left + width], _resize(image, width, height))
    return view


def _cut_tiles(image: Image.Image, tile_size: int, columns: int, rows: int) -> np.ndarray:
    """Stretched over the whole grid, then cut: (rows * columns, T, T, 3), row by row."""
    pixels = _resize(image, columns * tile_size, rows * tile_size)
    grid = pixels.reshape(rows, tile_size, columns, tile_size, -1).swapaxes(1, 2)
    tiles = np.empty((rows, columns, tile_size, tile_size, 3), np.uint8)
    _copy_channels(tiles, grid)
    return tiles.reshape(rows * columns, tile_size, tile_size, 3)
