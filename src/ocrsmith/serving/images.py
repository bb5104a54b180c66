"""The image of a request: out of its data URI or from an allowed host, and looked at before it is decoded."""

from __future__ import annotations

import asyncio
import base64
import binascii
import re
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO

from PIL import Image, UnidentifiedImageError

from ocrsmith.errors import ImageError
from ocrsmith.images import open_image
from ocrsmith.images.open import FORMATS
from ocrsmith.serving.errors import ApiError, bad_request
from ocrsmith.serving.remote import Fetcher
from ocrsmith.serving.settings import ServerSettings

_HEAD = re.compile(r"data:([\w.+-]+/[\w.+-]+)?((?:;[\w.+-]+=[\w.+-]*)*)(;base64)?", re.ASCII | re.IGNORECASE)
_HEAD_LENGTH = 200
_UNTYPED = "application/octet-stream"
_EACH_PAGE = "Send each page by itself, as an image in a request of its own."
_SEVERAL = {"GIF", "TIFF", "WEBP", "PNG", "AVIF"}
"""Formats whose further frames are pages or pictures of their own. (A JPEG's are thumbnails and depth maps.)"""


class Images:
    """Gets and checks images. What takes long is done by a few threads, so that the server goes on."""

    def __init__(self, settings: ServerSettings) -> None:
        self._settings = settings
        self._fetcher = Fetcher(settings)
        self._threads = ThreadPoolExecutor(settings.image_threads, thread_name_prefix="image")

    async def get(self, url: str, field: str) -> bytes:
        """The encoded file behind `url`, opened once and found good.

        Args:
            url: a data URI with base64, or an address on an allowed host.
            field: where it stands in the request, for messages.

        Raises:
            ApiError: 400; no such address, too large, no image, several pages.
        """
        loop = asyncio.get_running_loop()
        if url[:5].lower() == "data:":
            return await loop.run_in_executor(self._threads, self._from_data, url, field)
        image = await self._fetcher.fetch(url, field)
        return await loop.run_in_executor(self._threads, self._checked, image, field)

    def close(self) -> None:
        """Ends the threads, without waiting for them."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _from_data(self, url: str, field: str) -> bytes:
        return self._checked(decode_data_uri(url, field, self._settings.max_image_bytes), field)

    def _checked(self, image: bytes, field: str) -> bytes:
        try:
            check_image(image, max_pixels=self._settings.max_pixels)
        except ImageError as error:
            raise _refused(error, field) from error
        return image


def decode_data_uri(url: str, field: str, max_bytes: int) -> bytes:
    """The bytes in a data URI; their number is known, and bounded, before they are decoded.

    Raises:
        ApiError: 400; no data URI with base64 in it, another media type than an image's, too large.
    """
    comma = url.find(",", 0, _HEAD_LENGTH)
    head = _HEAD.fullmatch(url[:comma]) if comma >= 0 else None
    if head is None:
        raise bad_request("The data URI has to begin like data:image/png;base64, …", field)
    if head[3] is None:
        raise bad_request("The data URI is not base64: it has to begin like data:image/png;base64, …", field)
    media_type = (head[1] or _UNTYPED).lower()
    if media_type == "application/pdf":
        raise bad_request(f"A PDF is no image. {_EACH_PAGE}", field)
    if not media_type.startswith("image/") and media_type != _UNTYPED:
        raise bad_request(f"The media type {media_type[:80]} is not an image's.", field)
    length = (len(url) - comma - 1) * 3 // 4
    if length > max_bytes + 2:  # with padding, up to two bytes fewer
        raise _too_many_bytes(max_bytes, field)
    try:
        image = base64.b64decode(url[comma + 1 :].encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        raise bad_request("The data URI's base64 is damaged or cut short.", field) from None
    if len(image) > max_bytes:
        raise _too_many_bytes(max_bytes, field)
    return image


def check_image(image: bytes, *, max_pixels: int) -> None:
    """Looks at the header, at the number of pages, then at the pixels.

    Raises:
        ImageError: it cannot be opened safely, or has several pages (`reason` "pages").
    """
    if _has_more_pages(image, max_pixels):
        raise ImageError("The file has several pages or frames.", reason="pages", mend=_EACH_PAGE)
    open_image(image, max_pixels=max_pixels, keep_grey=True)


def _has_more_pages(image: bytes, max_pixels: int) -> bool:
    """False too for files that cannot be read or are too large: `open_image` says what is wrong with them."""
    try:
        with Image.open(BytesIO(image), formats=FORMATS) as header:
            if header.format not in _SEVERAL or header.width * header.height > max_pixels:
                return False
            header.seek(1)
    except Exception:  # a damaged file has no second page; Pillow's parsers raise whatever the damage causes
        return False
    return True


def _refused(error: ImageError, field: str) -> ApiError:
    """What is wrong, without the words of the library that found it."""
    cause = error.__cause__
    ours = cause is None or isinstance(cause, UnidentifiedImageError)
    problem = error.problem if ours else error.problem.partition(" (")[0] + "."
    if error.reason == "pages" or "PDF" in problem:
        problem = f"{problem} {_EACH_PAGE}"
    return bad_request(problem, field, code=f"image_{error.reason}")


def _too_many_bytes(max_bytes: int, field: str) -> ApiError:
    message = f"The image is longer than {max_bytes:,} bytes. Send it as JPEG or WebP, or smaller."
    return bad_request(message, field, code="image_too_large")
