"""Views made on the model's device: workers only decode images, the GPU resizes, pads and cuts them into tiles.

The pixels are Pillow's, bit for bit. Its bicubic resize of 8-bit images is integer arithmetic: weights as whole
numbers of 2⁻²², a sum of products for every output value, rounded and clipped to 8 bits after each of two
passes. So the same integers come out on any device (Pillow, src/libImaging/Resample.c, `precompute_coeffs` and
the `_8bpc` functions; the order of the passes is that of the installed Pillow, see `pass_order`).

Letters: H, W size of an image, C channels (1 or 3), S side of a view.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal, Self

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ocrsmith.errors import ImageError
from ocrsmith.images.resize import GREY, Mode, count_tokens, fit_within, image_layout
from ocrsmith.model import kernels

ImageLayout = tuple[int, int, int, int]
"""(side of the global view, side of a tile, tile columns, tile rows) of an image; without tiles three zeros."""
PassOrder = Literal["across first", "down first where it shrinks most"]

_BITS = 32 - 8 - 2
"""Fractional bits of a weight: 32, less 8 of a value, less 2 since weights may be negative or above 1."""
_SUPPORT = 2.0
"""Reach of the bicubic filter to either side, in pixels of the smaller scale."""


# --- images on their way -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RawImage:
    """A decoded image that is still to be resized; stands in for `ImageViews` in `Encoded.views`."""

    pixels: np.ndarray
    """(H, W, C) uint8, grey or RGB."""
    layout: ImageLayout
    keep_aspect: bool
    """See `Mode.keep_aspect`."""

    @property
    def num_tokens(self) -> int:
        """Image tokens that this image takes in the sequence."""
        return count_tokens(*self.layout)


def raw_image(image: Image.Image, mode: Mode, *, min_tiles: int = 2, max_tiles: int = 9) -> RawImage:
    """What `images.make_views` would make views of, with the layout that they will have.

    Args:
        image: mode "RGB" or "L", upright (`open_image` or `flatten_image` make such).
        mode, min_tiles, max_tiles: as for `make_views`.
    """
    if image.mode not in ("RGB", "L"):
        raise ValueError(f"raw_image takes RGB or L images, not {image.mode}")
    layout = image_layout(*image.size, mode, min_tiles=min_tiles, max_tiles=max_tiles)
    pixels = np.asarray(image).reshape(image.height, image.width, -1)
    return RawImage(pixels, layout, mode.keep_aspect)


@dataclass(frozen=True, slots=True)
class RawImages:
    """The images of a batch before resizing; stands in for the batch's `views`."""

    pixels: tuple[Tensor, ...]
    """Each (H, W, C) uint8."""
    layouts: tuple[ImageLayout, ...]
    keep_aspect: tuple[bool, ...]

    @classmethod
    def of(cls, images: Sequence[RawImage]) -> Self:
        """The images in order."""
        return cls(
            # Pillow's arrays may not be written to, which torch dislikes; a copy also owns its memory.
            tuple(torch.from_numpy(np.array(image.pixels)) for image in images),
            tuple(image.layout for image in images),
            tuple(image.keep_aspect for image in images),
        )

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, part: slice) -> Self:
        """Some of the images."""
        return replace(
            self, pixels=self.pixels[part], layouts=self.layouts[part], keep_aspect=self.keep_aspect[part]
        )

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Self:
        """The same on another device."""
        return self.map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self, *_: object) -> Self:
        """The same in memory that a GPU can copy from by itself."""
        return self.map(lambda tensor: tensor.pin_memory())

    def record_stream(self, stream: torch.cuda.Stream) -> None:
        """Keeps the tensors' memory until that stream is done with them."""
        for tensor in self.pixels:
            tensor.record_stream(stream)

    def views(self, device: torch.device | str | None = None) -> dict[int, Tensor]:
        """What `OcrModel.encode_images` takes: side S → (N_S, S, S, 3) uint8, an image's tiles before its view.

        Made on `device`, or where the pixels are.
        """
        there = self if device is None else self.to(device, non_blocking=True)
        return make_batch_views(there.pixels, self.layouts, self.keep_aspect)

    def map(self, change: Callable[[Tensor], Tensor]) -> Self:
        """The same with every pixel tensor changed."""
        return replace(self, pixels=tuple(change(tensor) for tensor in self.pixels))


# --- views ---------------------------------------------------------------------------------------------------


def make_device_views(pixels: Tensor, layout: ImageLayout, keep_aspect: bool) -> tuple[Tensor, Tensor]:
    """The global view and the tiles of an image, as `images.make_views` makes them.

    Args:
        pixels: (H, W), (H, W, 1) or (H, W, 3) uint8, on any device.
        layout: as `image_layout` gives it for W × H.
        keep_aspect: pad to a square; False: stretch.
    Returns:
        (S, S, 3) and (rows * columns, T, T, 3) uint8 on that device; without tiles (0, 0, 0, 3).
    """
    image = pixels.view(*pixels.shape[:2], -1)
    view_size, tile_size, columns, rows = layout
    global_view = image.new_empty((view_size, view_size, 3))
    tiles = image.new_empty((rows * columns, tile_size, tile_size, 3))
    _fill_view(global_view, image, keep_aspect)
    if tile_size:
        _fill_tiles(tiles, image, columns, rows)
    return global_view, tiles


def make_batch_views(
    pixels: Sequence[Tensor], layouts: Sequence[ImageLayout], keep_aspect: Sequence[bool]
) -> dict[int, Tensor]:
    """Side S → (N_S, S, S, 3) uint8 of all images; see `make_device_views` and `RawImages.views`."""
    counts: dict[int, int] = {}
    for view_size, tile_size, columns, rows in layouts:
        if tile_size:
            counts[tile_size] = counts.get(tile_size, 0) + columns * rows
        counts[view_size] = counts.get(view_size, 0) + 1
    views = {side: pixels[0].new_empty((count, side, side, 3)) for side, count in counts.items()}
    filled = dict.fromkeys(counts, 0)

    def take(side: int, count: int) -> Tensor:
        start = filled[side]
        filled[side] = start + count
        return views[side][start : start + count]

    for tensor, (view_size, tile_size, columns, rows), keep in zip(pixels, layouts, keep_aspect, strict=True):
        image = tensor.view(*tensor.shape[:2], -1)
        if tile_size:
            _fill_tiles(take(tile_size, columns * rows), image, columns, rows)
        _fill_view(take(view_size, 1)[0], image, keep)
    return views


def _fill_view(view: Tensor, image: Tensor, keep_aspect: bool) -> None:
    """(S, S, 3) ← (H, W, C), stretched, or scaled to fit and centred on grey (an odd rest: half to even)."""
    side = view.shape[0]
    if not keep_aspect:
        view.copy_(resize(image, side, side))
        return
    width, height = fit_within(image.shape[1], image.shape[0], side)
    left, top = round((side - width) * 0.5), round((side - height) * 0.5)
    if (width, height) != (side, side):
        view.fill_(GREY)
    view[top : top + height, left : left + width].copy_(resize(image, width, height))


def _fill_tiles(tiles: Tensor, image: Tensor, columns: int, rows: int) -> None:
    """(rows * columns, T, T, 3) ← (H, W, C), stretched over the whole grid, then cut, row by row."""
    side = tiles.shape[1]
    pixels = resize(image, columns * side, rows * side)
    grid = pixels.view(rows, side, columns, side, -1).transpose(1, 2)
    tiles.view(rows, columns, side, side, 3).copy_(grid)  # one channel spreads over three


# --- resampling ----------------------------------------------------------------------------------------------


def resize(image: Tensor, width: int, height: int, order: PassOrder | None = None) -> Tensor:
    """Pillow's bicubic resize: (H, W, C) uint8 → (height, width, C) uint8.

    Args:
        order: of the passes; None: as the installed Pillow has it.
    Raises:
        ImageError: the installed Pillow resizes in a way that is not known here.
    """
    before_height, before_width, channels = image.shape
    image = image.contiguous()

    def across(pixels: Tensor) -> Tensor:
        return pixels if before_width == width else resample(pixels, width)

    def down(pixels: Tensor) -> Tensor:
        if before_height == height:
            return pixels
        flat = pixels.view(1, before_height, -1)
        return resample(flat, height).view(height, -1, channels)

    if (order or pass_order()) == "across first":
        down_first = before_height > height and before_height > 100 * before_width
    else:
        down_first = before_height > height and before_height - height > 2 * (before_width - width)
    return across(down(image)) if down_first else down(across(image))


def resample(pixels: Tensor, size: int) -> Tensor:
    """One pass, along the middle axis: (A, n, B) uint8 → (A, size, B) uint8."""
    first, weights = _taps_on(pixels.shape[1], size, pixels.device)
    if kernels.has_triton(pixels):
        from ocrsmith.model.resample_triton import resample_triton

        return resample_triton(pixels, first, weights, _BITS)
    return _resample_plain(pixels, first, weights)


def _resample_plain(pixels: Tensor, first: Tensor, weights: Tensor) -> Tensor:
    """Tap after tap, so that nothing larger than the result in 32 bits is held."""
    last = pixels.shape[1] - 1
    total = torch.full(
        (pixels.shape[0], len(first), pixels.shape[2]),
        1 << (_BITS - 1),
        dtype=torch.int32,
        device=pixels.device,
    )
    for tap, weight in enumerate(weights):
        # Past the edge the weight is 0, but the index has to be sound.
        values = pixels.index_select(1, (first + tap).clamp(max=last))
        total.addcmul_(values.to(torch.int32), weight[:, None])
    return (total >> _BITS).clamp_(0, 255).to(torch.uint8)


@lru_cache(maxsize=1024)
def _taps_on(before: int, after: int, device: torch.device) -> tuple[Tensor, Tensor]:
    first, weights = resampling_taps(before, after)
    on_device = torch.from_numpy(first).to(device), torch.from_numpy(weights).to(device)
    if device.type == "cuda":
        torch.cuda.current_stream(device).synchronize()  # other streams will use them too
    return on_device


def resampling_taps(before: int, after: int) -> tuple[np.ndarray, np.ndarray]:
    """Where each output value begins to read, and with which weights: (after,) int32 and (taps, after) int32.

    In float64 with the operations in Pillow's order, since a weight must not differ in its last bit.
    """
    scale = before / after
    filter_scale = max(scale, 1.0)
    support = _SUPPORT * filter_scale
    centre = (np.arange(after) + 0.5) * scale
    # Casts cut towards zero, as C does.
    first = np.maximum((centre - support + 0.5).astype(np.int64), 0)
    count = np.minimum((centre + support + 0.5).astype(np.int64), before) - first
    weights = np.zeros((int(count.max()), after))
    total = np.zeros(after)
    inverse = 1.0 / filter_scale
    for tap in range(len(weights)):
        weights[tap] = np.where(tap < count, _bicubic((tap + first - centre + 0.5) * inverse), 0.0)
        total += weights[tap]
    weights = np.divide(weights, total, out=weights, where=total != 0)
    rounded = np.where(weights < 0, -0.5, 0.5) + weights * (1 << _BITS)
    return first.astype(np.int32), rounded.astype(np.int32)


def _bicubic(x: np.ndarray) -> np.ndarray:
    """Keys' cubic convolution with a = -0.5 (Keys 1981, IEEE Trans. ASSP 29:1153)."""
    x = np.abs(x)
    near = ((-0.5 + 2.0) * x - (-0.5 + 3.0)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * -0.5
    return np.where(x < 1.0, near, np.where(x < 2.0, far, 0.0))


def can_resize() -> bool:
    """Whether the installed Pillow's pixels can be made on a device."""
    try:
        pass_order()
    except ImageError:
        return False
    return True


@lru_cache(maxsize=1)
def pass_order() -> PassOrder:
    """Which pass the installed Pillow does first: found by trying, since that is what counts.

    Up to Pillow 12 the one across, but for images a hundred times as high as wide. From 13 on the one down,
    where the height shrinks by more than twice as many pixels as the width does.

    Raises:
        ImageError: neither gives its pixels (another resampler under Pillow's name).
    """
    values = (np.arange(200)[:, None] * 89 % 251 + np.arange(24)[None, :] * 157 % 239) % 256
    tall = values.astype(np.uint8)
    image = torch.from_numpy(tall)[..., None]
    orders: tuple[PassOrder, ...] = ("across first", "down first where it shrinks most")
    for order in orders:
        sound = True
        for width, height, turned in ((18, 40, False), (36, 18, True)):
            given = Image.fromarray(tall.T.copy() if turned else tall)
            ours = image.transpose(0, 1) if turned else image
            expected = np.asarray(given.resize((width, height), Image.Resampling.BICUBIC))
            sound = sound and np.array_equal(resize(ours, width, height, order)[..., 0].numpy(), expected)
        if sound:
            return order
    raise ImageError(
        "The installed Pillow resizes images in a way that cannot be repeated on a GPU.",
        mend="install Pillow from PyPI, or let the workers resize (resize: host)",
    )
