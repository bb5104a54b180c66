"""Pages of image files: one each, but as many as a TIFF has."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from PIL import Image, TiffImagePlugin

from ocrsmith.errors import ImageError
from ocrsmith.images import DEFAULT_MAX_PIXELS, flatten_image, open_image
from ocrsmith.images.open import FORMATS

MAX_FILE_BYTES = 1 << 30
"""Above every page there is: uncompressed, the most pixels allowed take half of it."""
_TIFF = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")
_CONVERT = "Split it into files of one page."


@dataclass(frozen=True, slots=True)
class EncodedPage:
    """A page as an encoded image file."""

    data: bytes
    width: int
    height: int
    """In pixels, turned upright."""


def is_tiff(head: bytes) -> bool:
    """Whether the first bytes of a file are those of a TIFF."""
    return head.startswith(_TIFF)


def count_frames(path: Path) -> int:
    """How many pages a TIFF has.

    Raises:
        ImageError: it is damaged.
    """
    try:
        with warnings.catch_warnings(), path.open("rb") as stream:
            warnings.simplefilter("ignore")  # damage that does not hinder is not told
            return int(TiffImagePlugin.TiffImageFile(stream).n_frames)
    except Exception as error:  # Pillow's parsers raise whatever the damage causes
        raise _damaged(error, path, 1) from error


def check_image(path: Path) -> None:
    """Finds out by its first bytes whether a file is an image; nothing is decoded.

    Raises:
        ImageError: it is not, or it may not be read.
    """
    try:
        with warnings.catch_warnings(), path.open("rb") as stream:
            warnings.simplefilter("ignore")
            Image.open(stream, formats=FORMATS).close()
    except Exception:  # Pillow's parsers raise whatever the damage causes; `open_image` says what it is
        open_image(path)


def read_image(path: Path) -> EncodedPage:
    """An image file as it is, once it has shown that it can be opened safely.

    Raises:
        ImageError: it cannot, or it may not be read.
    """
    try:
        size = path.stat().st_size if path.is_file() else 0
        if size > MAX_FILE_BYTES:
            raise ImageError(
                f"The file has {size:,} bytes; no page needs so many.", place=str(path), mend=_CONVERT
            )
        width, height = open_image(path, keep_grey=True).size  # says what is wrong with it, missing included
        return EncodedPage(path.read_bytes(), width, height)
    except OSError as error:
        raise ImageError(f"The image cannot be read ({error.strerror}).", place=str(path)) from error


def read_frame(path: Path, number: int) -> EncodedPage:
    """Page `number` (from 1) of a TIFF, as PNG that says its resolution. Its size is checked before a pixel is
    decoded.

    Raises:
        ImageError: the page is damaged or too large.
    """
    try:
        with path.open("rb") as stream, TiffImagePlugin.TiffImageFile(stream) as image:
            image.seek(number - 1)
            pixels = image.width * image.height
            if pixels > DEFAULT_MAX_PIXELS:
                raise ImageError(
                    f"The page is too large to be decoded safely ({image.width}×{image.height} = {pixels:,} "
                    f"pixels, the limit is {DEFAULT_MAX_PIXELS:,}).",
                    reason="too_large",
                    place=f"{path}, page {number}",
                    mend="Scale it down.",
                )
            page: Image.Image = flatten_image(image, keep_grey=True)
            buffer = BytesIO()
            page.save(buffer, "PNG", compress_level=1, **_resolution(image))
            return EncodedPage(buffer.getvalue(), page.width, page.height)
    except ImageError:
        raise
    except Exception as error:  # Pillow's parsers raise whatever the damage causes
        raise _damaged(error, path, number) from error


def _resolution(image: Image.Image) -> dict[str, tuple[float, float]]:
    """The pixels per inch that a TIFF's page says it has, along the upright page's sides."""
    try:
        across, down = map(float, image.info["dpi"])
        turned = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
    except Exception:  # missing or damaged fields say nothing
        return {}
    known = all(1 <= value <= 10_000 for value in (across, down))  # NaN is not
    return {"dpi": (down, across) if turned else (across, down)} if known else {}


def _damaged(error: Exception, path: Path, number: int) -> ImageError:
    detail = " ".join(str(error).split()) or type(error).__name__
    return ImageError(
        f"The page is damaged or cut short ({detail}).",
        place=f"{path}, page {number}",
        mend="Copy or download the file again, or leave the page out.",
    )
