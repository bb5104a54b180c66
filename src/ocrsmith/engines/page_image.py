"""Page images as other programs want them: checked, upright, without transparency."""

from __future__ import annotations

from io import BytesIO

from PIL import Image

from ocrsmith.errors import ImageError
from ocrsmith.images import open_image

_MEDIA_TYPES = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp"}
_PLAIN_MODES = {"1", "L", "RGB", "P"}
_ORIENTATION = 0x0112
_UPRIGHT = 1


def as_png(image: bytes) -> bytes:
    """The page as a plain PNG: 8 bits a channel, upright, on white.

    Raises:
        ImageError: it cannot be opened safely.
    """
    buffer = BytesIO()
    open_image(image, keep_grey=True).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def as_web_image(image: bytes, *, max_bytes: int) -> tuple[str, bytes]:
    """The page as every server reads it alike: the file as it is where that is certain, else a plain PNG.

    Certain are PNG, JPEG and WebP with one upright frame, 8 bits a channel and no transparency; with the rest,
    each reader does something else. Every image is decoded here first, so that none that is damaged or too
    large reaches the server.

    Args:
        image: the encoded file.
        max_bytes: the longest file that may be sent.

    Returns:
        Media type and bytes.

    Raises:
        ImageError: it cannot be opened safely, or is too large to be sent.
    """
    opened = open_image(image, keep_grey=True)
    media_type = _plain_type(image)
    if media_type is None or len(image) > max_bytes:
        buffer = BytesIO()
        opened.save(buffer, "PNG")
        media_type, image = "image/png", buffer.getvalue()
    if len(image) > max_bytes:
        raise ImageError(
            f"The image takes {len(image):,} bytes as PNG, the limit for sending is {max_bytes:,}.",
            reason="too_large",
            mend="Scale it down, or raise max_image_bytes.",
        )
    return media_type, image


def _plain_type(image: bytes) -> str | None:
    """The media type of a file that all readers show alike, else None."""
    with Image.open(BytesIO(image)) as header:  # `open_image` has let it through
        if header.format not in _MEDIA_TYPES or header.mode not in _PLAIN_MODES:
            return None
        if getattr(header, "is_animated", False) or header.has_transparency_data:
            return None
        try:
            upright = header.getexif().get(_ORIENTATION, _UPRIGHT) == _UPRIGHT
        except Exception:  # the EXIF parser raises whatever the damage causes
            return None
        return _MEDIA_TYPES[header.format] if upright else None
