"""Opens images from unknown hands: bounded before decoding, upright, and always plain RGB (or grey) 8 bit.

Everything that can go wrong with a file ends in one `ImageError` that says what the file is and what to do.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageOps,
    Jpeg2KImagePlugin,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

from ocrsmith.errors import ImageError

Alpha = Literal["white", "drop"]
"""What becomes of transparency: composited on white paper, or dropped as the published model code does."""

DEFAULT_MAX_PIXELS = 89_000_000
"""An A3 page at 600 dpi has 70 million. Just under the size from which Pillow itself warns."""

# Formats that carry pages. The rest of Pillow's list is left out on purpose: some run other programs (EPS),
# some are bombs by design (FITS), and each is one more parser for hostile bytes.
_PLUGINS = (
    PngImagePlugin.PngImageFile,
    JpegImagePlugin.JpegImageFile,  # hands on to MPO where a JPEG holds several pictures
    WebPImagePlugin.WebPImageFile,
    TiffImagePlugin.TiffImageFile,
    BmpImagePlugin.BmpImageFile,
    GifImagePlugin.GifImageFile,
    PpmImagePlugin.PpmImageFile,
    Jpeg2KImagePlugin.Jpeg2KImageFile,
    AvifImagePlugin.AvifImageFile,
)
FORMATS = tuple(str(plugin.format) for plugin in _PLUGINS)
_CONVERT = "convert it to PNG or JPEG"
_FETCH_AGAIN = "Copy or download it again, or leave it out."

_SIGNATURES: tuple[tuple[bytes, int, str, str], ...] = (
    (b"%PDF", 0, "a PDF", "render its pages to PNG first"),
    (b"SIMPLE  =", 0, "a FITS file", _CONVERT),
    (b"%!PS", 0, "a PostScript file", _CONVERT),
    (b"ftyphei", 4, "an HEIC photograph", _CONVERT),
    (b"ftypmif1", 4, "an HEIC photograph", _CONVERT),
    (b"8BPS", 0, "a Photoshop file", _CONVERT),
    (b"\x00\x00\x01\x00", 0, "an icon file", _CONVERT),
    (b"PK\x03\x04", 0, "a ZIP archive", "unpack it and give the images"),
    (b"\x1f\x8b", 0, "a gzip archive", "unpack it and give the images"),
    (b"PAR1", 0, "a parquet file", "give it as a dataset source, not as an image"),
    (b"version https://git-lfs", 0, "a Git LFS pointer", "fetch the real file with `git lfs pull`"),
    (b"<svg", 0, "an SVG drawing", "render it to PNG first"),
    (b"<!DOCTYPE", 0, "a web page", "download the image itself"),
    (b"<html", 0, "a web page", "download the image itself"),
)


def open_image(
    source: Path | str | bytes | BinaryIO,
    *,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    alpha: Alpha = "white",
    keep_grey: bool = False,
) -> Image.Image:
    """Opens, checks and decodes an image, and turns it into upright RGB, 8 bits a channel.

    The number of pixels is read from the header and checked before a pixel is decoded. EXIF orientation is
    applied. Of a file with several pages or frames, the first is taken.

    Args:
        source: a path, an encoded file in memory, or an open binary stream (read from where it stands).
        max_pixels: width × height above which the image is refused as a decompression bomb.
        alpha: what becomes of transparency.
        keep_grey: give images with a single channel as mode "L" instead of three equal channels.

    Returns:
        A decoded image of mode "RGB" ("L" too with `keep_grey`), independent of the source.

    Raises:
        ImageError: `reason` is "missing" (no such file), "too_large" (above `max_pixels`) or "unreadable".
    """
    place = _describe(source)
    with _stream(source, place) as stream:
        image = _decode(stream, max_pixels, place)
        try:
            return flatten_image(image, alpha=alpha, keep_grey=keep_grey)
        except Exception as error:  # damage that shows only in the palette or the colour profile
            raise _damaged(error, place) from error


def flatten_image(image: Image.Image, *, alpha: Alpha = "white", keep_grey: bool = False) -> Image.Image:
    """Upright RGB of any Pillow image: EXIF orientation, palette, transparency, 16 bit, CMYK, bilevel.

    Args:
        image: any mode; not changed.
        alpha: what becomes of transparency.
        keep_grey: give images with a single channel as mode "L".

    Raises:
        ValueError: for a colour space that Pillow cannot convert.
    """
    image = _upright(image)
    if image.mode.startswith("I") or image.mode == "F":
        image = Image.fromarray(_eight_bits(image))
    if alpha == "white" and image.has_transparency_data:
        image = _on_white(image)
    if image.mode in ("1", "L", "LA", "La"):
        image = image if image.mode == "L" else image.convert("L")
        return image if keep_grey else image.convert("RGB")
    if image.mode == "P" and "transparency" in image.info:
        image = image.copy()
        del image.info["transparency"]  # dropped on purpose; Pillow would warn about it
    return image if image.mode == "RGB" else image.convert("RGB")


def _on_white(image: Image.Image) -> Image.Image:
    """Composites on white paper; grey stays grey."""
    grey = image.mode in ("1", "L", "LA", "La")
    layered = image.convert("LA" if grey else "RGBA")
    opacity = layered.getchannel("A")
    colours = layered.convert("L" if grey else "RGB")
    if opacity.getextrema() == (255, 255):
        return colours
    paper = Image.new(colours.mode, colours.size, "white")
    paper.paste(colours, mask=opacity)
    return paper


def _upright(image: Image.Image) -> Image.Image:
    """Applies the EXIF orientation. A damaged EXIF block does not make a readable picture unreadable."""
    try:
        orientation = image.getexif().get(0x0112, 1)
    except Exception:  # the EXIF parser raises whatever the damage causes
        return image
    return ImageOps.exif_transpose(image) if orientation in range(2, 9) else image


def _eight_bits(image: Image.Image) -> np.ndarray:
    """(H, W) uint8 of an image with deep grey values.

    16 bit: the high byte, as Pillow does with 16-bit colour. 32 bit and floats have no fixed range: values
    that fit 0–1 (floats), 0–255 or 0–65,535 are taken for such, others are scaled by their maximum; below 0
    is black.
    """
    values = np.asarray(image)
    if values.dtype.kind == "u" and values.dtype.itemsize == 2:
        return (values >> 8).astype(np.uint8)
    scaled = np.nan_to_num(values.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    top = float(scaled.max(initial=0.0))
    if values.dtype.kind == "f" and top <= 1:
        unit = 255.0
    elif top <= 255 and image.format != "PPM":  # Pillow stretches deep PPM files to 0–65,535
        unit = 1.0
    elif top <= 65535:
        unit = 1 / 256
    else:
        unit = 255.0 / top
    return np.clip(scaled * unit, 0, 255).astype(np.uint8)


def _decode(stream: BinaryIO, max_pixels: int, place: str) -> Image.Image:
    """Reads the header, checks the size, then decodes."""
    start = stream.tell()
    head = stream.read(512)
    stream.seek(start)
    if not head:
        raise ImageError("The image file is empty (0 bytes).", place=place, mend=_FETCH_AGAIN)
    try:
        image = Image.open(stream, formats=FORMATS)
    except UnidentifiedImageError as error:
        raise _not_an_image(head, place) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_large(str(error), place) from error
    except Exception as error:  # Pillow's parsers raise whatever the damage causes
        raise _damaged(error, place) from error
    pixels = image.width * image.height
    if pixels > max_pixels:
        raise _too_large(
            f"{image.width}×{image.height} = {pixels:,} pixels, the limit is {max_pixels:,}", place
        )
    try:
        image.load()
    except Exception as error:
        raise _damaged(error, place) from error
    return image


def _too_large(detail: str, place: str) -> ImageError:
    return ImageError(
        f"The image is too large to be decoded safely ({detail}).",
        reason="too_large",
        place=place,
        mend="Scale it down or cut it into pages.",
    )


def _damaged(error: Exception, place: str) -> ImageError:
    detail = " ".join(str(error).split()) or type(error).__name__
    return ImageError(
        f"The image is damaged or cut short ({detail}).",
        place=place,
        mend=_FETCH_AGAIN,
    )


def _not_an_image(head: bytes, place: str) -> ImageError:
    """Says what the file is instead, as far as its first bytes tell."""
    for signature, offset, name, mend in _SIGNATURES:
        if head[offset:].lstrip()[: len(signature)].lower() == signature.lower():
            return ImageError(
                f"The file is {name}, not an image that can be read.", place=place, mend=_sentence(mend) + "."
            )
    if _is_text(head):
        return ImageError(
            f"The file holds text, not an image: {_excerpt(head)!r} …",
            place=place,
            mend="Check that the image path names the image and not its text.",
        )
    return ImageError(
        f"The file is not an image of a known format (it begins with {head[:8]!r}).",
        place=place,
        mend=f"Known formats are {', '.join(FORMATS)}.",
    )


def _is_text(head: bytes) -> bool:
    if b"\x00" in head:
        return False
    try:
        head.decode("utf-8")
    except UnicodeDecodeError as error:
        return error.start > len(head) - 4 and error.start > 0  # a character cut in two at the end of `head`
    return True


def _excerpt(head: bytes) -> str:
    return " ".join(head.decode("utf-8", errors="ignore").split())[:40]


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _describe(source: Path | str | bytes | BinaryIO) -> str:
    if isinstance(source, bytes | bytearray | memoryview):
        return f"image in memory, {len(source)} bytes"
    if isinstance(source, Path | str):
        return str(source)
    return str(getattr(source, "name", "image stream"))


@contextmanager
def _stream(source: Path | str | bytes | BinaryIO, place: str) -> Iterator[BinaryIO]:
    if isinstance(source, bytes | bytearray | memoryview):
        yield BytesIO(source)
    elif isinstance(source, Path | str):
        stream = _open_file(Path(source), place)
        with stream:
            yield stream
    else:
        yield source


def _open_file(path: Path, place: str) -> BinaryIO:
    try:
        if path.is_file():
            return path.open("rb")
        exists = path.exists()
    except PermissionError as error:
        raise ImageError(
            "The image may not be read (no permission).", place=place, mend="Give read permission."
        ) from error
    except (OSError, ValueError) as error:
        raise ImageError(f"The image cannot be opened ({error}).", reason="missing", place=place) from error
    if exists:
        what = "a folder" if path.is_dir() else "not a regular file"
        raise ImageError(f"The image path names {what}.", place=place, mend="Give the path of an image file.")
    raise ImageError(
        "The image file does not exist.",
        reason="missing",
        place=place,
        mend="Correct the path, or add the file.",
    )
