"""Images for a report: opened safely, made small, as data that the page carries with it."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

from ocrsmith.errors import ImageError
from ocrsmith.images import open_image

LONGEST_SIDE = 1600
"""Pixels; a page stays legible, a report of 15 pages stays below a few megabytes."""

LEGIBLE_HEIGHT = 52
"""CSS pixels; lower images (text lines) are shown enlarged, three times at most."""

_PNG_PIXELS = 300_000
"""Up to here lossless: text lines stay sharp, and are small anyway."""


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
    try:
        pixels = open_image(image)
    except ImageError:
        return None
    pixels.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    lossless = pixels.width * pixels.height <= _PNG_PIXELS
    buffer = io.BytesIO()
    if lossless:
        pixels.save(buffer, format="PNG", optimize=True)
    else:
        pixels.save(buffer, format="JPEG", quality=82, optimize=True)
    kind = "png" if lossless else "jpeg"
    enlarged = min(3.0, max(1.0, LEGIBLE_HEIGHT / pixels.height))
    return Picture(
        f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}",
        round(pixels.width * enlarged),
    )
