"""Names of files in folders and archives: which are images, and how to write names that are no Unicode."""

from __future__ import annotations

IMAGE_SUFFIXES = frozenset(
    (
        *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".jp2"),
        *(".pbm", ".pgm", ".ppm", ".avif", ".heic"),
    )
)
"""In lower case."""


def readable(name: str) -> str:
    """A name as it can be shown and stored: bytes that Python could not decode are written as `\\xff`."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
