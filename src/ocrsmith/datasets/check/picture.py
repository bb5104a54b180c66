"""Thumbnails for the report: a few kilobytes each, made of pixels alone."""

from __future__ import annotations

import base64
import io

from PIL import Image

from ocrsmith.errors import ImageError
from ocrsmith.images import open_image

_WIDTH, _HEIGHT = 440, 150
_QUALITIES = (60, 40, 20)
MOST_BYTES = 6_000
"""Of an encoded thumbnail; whatever the image is."""


def thumbnail(image: bytes) -> str:
    """An encoded image as a small `data:` address; empty if it cannot be opened.

    Pages are cut below their upper part, where letters would be too small to be recognised anyway.
    """
    try:
        pixels = open_image(image, keep_grey=True)
    except ImageError:
        return ""
    if pixels.height > pixels.width:
        pixels = pixels.crop((0, 0, pixels.width, max(1, pixels.width * _HEIGHT // _WIDTH)))
    pixels.thumbnail((_WIDTH, _HEIGHT), Image.Resampling.LANCZOS)
    for quality in _QUALITIES:
        buffer = io.BytesIO()
        pixels.save(buffer, "JPEG", quality=quality, optimize=True)
        if buffer.tell() <= MOST_BYTES:
            break
    else:
        pixels.thumbnail((_WIDTH // 2, _HEIGHT // 2))
        buffer = io.BytesIO()
        pixels.save(buffer, "JPEG", quality=_QUALITIES[-1], optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
