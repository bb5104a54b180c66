"""Images for a report: opened safely, made small, as data that the page carries with it."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

from PIL import Image

from ocrsmith.errors import ImageError
from ocrsmith.images import open_image

LONGEST_SIDE = 1600
"""Pixels; a page stays legible, a report of 15 pages stays below a few megabytes."""

LEGIBLE_HEIGHT = 52
"""CSS pixels; lower images (text lines) are shown enlarged, three times at most."""

_LOSSLESS_PIXELS = 300_000
"""Up to here lossless: text lines stay sharp, and are small anyway."""

_STEPS = ((1200, 72), (900, 65), (640, 55), (480, 45), (320, 35))
"""Longest side and quality, each about half of the one before in bytes."""


@dataclass(frozen=True, slots=True)
class Picture:
    """An image in a page: its `data:` address and how wide it is to be shown, in CSS pixels."""

    uri: str
    width: int


def picture(image: bytes) -> Picture | None:
    """An image file made ready for a report; None if it cannot be opened.

    Args:
        image: the encoded file. It is decoded and encoded anew, so that nothing but pixels gets into the page.
    """
    pixels = _opened(image, LONGEST_SIDE)
    if pixels is None:
        return None
    if pixels.width * pixels.height <= _LOSSLESS_PIXELS:
        return _picture(pixels, "png", optimize=True)
    return _picture(pixels, "jpeg", quality=82, optimize=True)


class Album:
    """The images of one report, which together stay within a number of bytes.

    Each image may take its share of what is left, so that those which need little leave more to the others. The
    ones that come first may take more than their share: they are the ones that people look at.
    """

    def __init__(self, pages: int, budget: int) -> None:
        """`pages`: how many will be added; `budget`: bytes of all their `data:` addresses."""
        self._pages = pages
        self._left = budget

    def add(self, image: bytes) -> Picture | None:
        """An image as large and as fine as fits; None if it cannot be opened, or does not fit at all."""
        share = min(self._left, 2 * self._left // max(1, self._pages))
        self._pages -= 1
        pixels = _opened(image, _STEPS[0][0])
        made = None if pixels is None else _fitting(pixels, share)
        if made is not None:
            self._left -= len(made.uri)
        return made


def _fitting(pixels: Image.Image, share: int) -> Picture | None:
    if pixels.width * pixels.height <= _LOSSLESS_PIXELS:
        made = _picture(pixels, "webp", lossless=True, quality=50, method=2)
        if len(made.uri) <= share:
            return made
    for side, quality in _STEPS:
        pixels.thumbnail((side, side), reducing_gap=2.0)
        made = _picture(pixels, "webp", quality=quality, method=2)
        if len(made.uri) <= share:
            return made
    return None


def _opened(image: bytes, longest: int) -> Image.Image | None:
    try:
        pixels = open_image(image)
    except ImageError:
        return None
    pixels.thumbnail((longest, longest), reducing_gap=2.0)
    return pixels


def _picture(pixels: Image.Image, kind: str, **settings: int | bool) -> Picture:
    buffer = io.BytesIO()
    pixels.save(buffer, format=kind.upper(), **settings)
    enlarged = min(3.0, max(1.0, LEGIBLE_HEIGHT / pixels.height))
    return Picture(
        f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}",
        round(pixels.width * enlarged),
    )
