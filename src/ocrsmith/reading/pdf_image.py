"""A page image as an object of a PDF: JPEG and PNG files keep their bytes, all else is packed anew."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO

from PIL import Image

from ocrsmith.images.open import FORMATS

JPEG_QUALITY = 85
"""Of pages that are packed anew, where that is smaller than packing them without loss."""
_ORIENTATION = 0x0112
_PLACED = {
    1: (1, 0, 0, 1, 0, 0),
    2: (-1, 0, 0, 1, 1, 0),
    3: (-1, 0, 0, -1, 1, 1),
    4: (1, 0, 0, -1, 0, 1),
    5: (0, -1, -1, 0, 1, 1),
    6: (0, -1, 1, 0, 0, 1),
    7: (0, 1, 1, 0, 0, 0),
    8: (0, 1, -1, 0, 1, 0),
}
"""EXIF's orientations as matrices of the unit square: a picture that is stored turned is turned when shown."""


@dataclass(frozen=True, slots=True)
class PdfImage:
    """A picture for a PDF."""

    entries: str
    """Of the stream's dictionary."""
    data: bytes
    matrix: tuple[int, int, int, int, int, int] = _PLACED[1]
    """Of the unit square, that shows it upright."""


def pdf_image(data: bytes, image: Image.Image, *, keep: bool) -> PdfImage:
    """What shows a page image in a PDF.

    Args:
        data: the encoded image, which `open_image` can open.
        image: what that gave, upright.
        keep: keep the bytes of JPEG and PNG files, pixel for pixel; else they are packed as is smallest.
    """
    if keep:
        with Image.open(BytesIO(data), formats=FORMATS) as opened:
            kept = _jpeg(data, opened) if opened.format in ("JPEG", "MPO") else _png(data, opened)
        if kept is not None:
            return kept
    return _packed(image)


def _jpeg(data: bytes, image: Image.Image) -> PdfImage | None:
    """Colours that every viewer shows alike: not CMYK, of which there are several kinds."""
    if image.mode not in ("L", "RGB"):
        return None
    return PdfImage(_entries(image.size, image.mode) + " /Filter /DCTDecode", data, _matrix(image))


def _png(data: bytes, image: Image.Image) -> PdfImage | None:
    """PNG packs pixels as PDF does, unless they are interlaced, deep or transparent."""
    if image.format != "PNG" or image.has_transparency_data:
        return None
    chunks = dict[bytes, list[bytes]]()
    for name, body in _chunks(data):
        chunks.setdefault(name, []).append(body)
    width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", chunks[b"IHDR"][0])
    if interlaced or depth > 8 or colour not in (0, 2, 3):
        return None
    if colour == 3:
        palette = chunks[b"PLTE"][0]
        space = f"[/Indexed /DeviceRGB {len(palette) // 3 - 1} <{palette.hex()}>]"
    else:
        space = "/DeviceRGB" if colour == 2 else "/DeviceGray"
    entries = (
        f"/Type /XObject /Subtype /Image /Width {width} /Height {height} /ColorSpace {space} "
        f"/BitsPerComponent {depth} /Filter /FlateDecode /DecodeParms << /Predictor 15 "
        f"/Colors {3 if colour == 2 else 1} /BitsPerComponent {depth} /Columns {width} >>"
    )
    return PdfImage(entries, b"".join(chunks[b"IDAT"]), _matrix(image))


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 8
    while at + 8 <= len(data):
        size, name = struct.unpack_from(">I4s", data, at)
        yield name, data[at + 8 : at + 8 + size]
        at += size + 12


def _packed(image: Image.Image) -> PdfImage:
    """Without loss, or as JPEG where that is smaller; colour that is all grey becomes grey."""
    grey = _as_grey(image)
    head = _entries(grey.size, grey.mode)
    stream = BytesIO()
    grey.save(stream, "JPEG", quality=JPEG_QUALITY)
    whole = zlib.compress(grey.tobytes(), 6)
    if len(whole) <= stream.tell():
        return PdfImage(f"{head} /Filter /FlateDecode", whole)
    return PdfImage(f"{head} /Filter /DCTDecode", stream.getvalue())


def _as_grey(image: Image.Image) -> Image.Image:
    if image.mode == "L":
        return image
    red, green, blue = image.split()
    return red if red.tobytes() == green.tobytes() == blue.tobytes() else image


def _entries(size: tuple[int, int], mode: str) -> str:
    space = "/DeviceGray" if mode == "L" else "/DeviceRGB"
    width, height = size
    return (
        f"/Type /XObject /Subtype /Image /Width {width} /Height {height} /ColorSpace {space} "
        "/BitsPerComponent 8"
    )


def _matrix(image: Image.Image) -> tuple[int, int, int, int, int, int]:
    try:
        return _PLACED.get(image.getexif().get(_ORIENTATION, 1), _PLACED[1])
    except Exception:  # as `open_image` does: a damaged EXIF block turns nothing
        return _PLACED[1]
