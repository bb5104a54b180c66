"""The images that candidates name: read with bounds, inside their source's folder; lines cut from pages."""

from __future__ import annotations

import os
import re
import threading
from collections import OrderedDict
from functools import lru_cache
from io import BytesIO
from pathlib import Path

from PIL import Image

from ocrsmith.datasets.importers.base import Candidate, LineCrop
from ocrsmith.errors import ImageError
from ocrsmith.images import cut, open_image

MAX_FILE_BYTES = 256 << 20
"""Encoded files above this are refused unread: no page needs it, and each worker holds one in memory."""

_URL = re.compile(r"[a-z][a-z0-9+.-]{1,9}://", re.IGNORECASE)
_KEPT_PAGES = 4


class PageImages:
    """Reads the images of candidates. Pages that lines are cut from are kept decoded for the lines that follow.

    Safe to use from several threads.
    """

    def __init__(self) -> None:
        self._pages: OrderedDict[bytes | Path, Image.Image] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, candidate: Candidate) -> tuple[bytes, Image.Image]:
        """The encoded image as it is to be kept, and its pixels, upright and RGB.

        Raises:
            ImageError: none is named, it is missing, lies outside, is too large or cannot be read.
        """
        source = candidate.image
        if isinstance(source, LineCrop):
            line = cut(self._page(source.page, candidate), source.polygon)
            stream = BytesIO()
            line.save(stream, "PNG")
            return stream.getvalue(), line
        data = _read(source, candidate)
        return data, open_image(data)

    def _page(self, page: bytes | Path, candidate: Candidate) -> Image.Image:
        with self._lock:
            known = self._pages.get(page)
            if known is not None:
                self._pages.move_to_end(page)
                return known
        image = open_image(_read(page, candidate))
        with self._lock:
            self._pages[page] = image
            while len(self._pages) > _KEPT_PAGES:
                self._pages.popitem(last=False)
        return image


def _read(source: bytes | Path | None, candidate: Candidate) -> bytes:
    if isinstance(source, bytes):
        return source
    if source is None:
        raise ImageError("The row names no image.", reason="missing", mend="Add its path, or remove the row.")
    if _URL.match(candidate.image_path):
        raise ImageError(
            f"The image is an address on the web ({candidate.image_path}), which is not fetched.",
            reason="missing",
            mend="Download it and give the path of the file.",
        )
    try:
        if candidate.within is not None:
            _require_inside(source, candidate.within)
        return _read_file(source)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ImageError(
            f"There is no file {source}.", reason="missing", mend="Correct the path, or add the file."
        ) from error
    except (OSError, ValueError) as error:
        # ValueError: a zero byte in the path.
        reason = getattr(error, "strerror", None) or str(error)
        raise ImageError(
            f"The file {source!s} cannot be read: {reason}.", mend="Check the path and its permissions."
        ) from error


def _require_inside(path: Path, folder: Path) -> None:
    """Links are followed first: a foreign source must not bring its reader's private files into a dataset."""
    real = os.path.realpath(path)
    if not real.startswith(_real_folder(folder)):
        link = "" if os.path.normpath(os.path.abspath(path)) == real else f" (it is {real})"
        raise ImageError(
            f"The image {path}{link} lies outside the source's folder {folder}.",
            reason="outside",
            mend="Move it there, or add --allow-outside if you trust the source.",
        )


@lru_cache(maxsize=64)
def _real_folder(folder: Path) -> str:
    """With a separator at its end."""
    return os.path.join(os.path.realpath(folder), "")


def _read_file(path: Path) -> bytes:
    if path.is_dir():
        raise ImageError(f"{path} is a folder, not an image.", mend="Name the image file.")
    if not path.is_file():
        path.stat()  # says why, if it is not there
        raise ImageError(f"{path} is not a regular file.", mend="Name an image file.")
    size = path.stat().st_size
    if size > MAX_FILE_BYTES:
        raise ImageError(
            f"The file {path} has {size:,} bytes; at most {MAX_FILE_BYTES:,} are read.",
            reason="too_large",
            mend="Save it smaller, e.g. as JPEG or PNG.",
        )
    return path.read_bytes()
