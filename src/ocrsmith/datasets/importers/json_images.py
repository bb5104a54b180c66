"""Where a JSON item has its image: a path, an object with a path, or base64 that holds the file itself.

The base64 stands in a `data:` URI, or alone if it begins as a PNG or JPEG file does.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote

from ocrsmith.datasets.importers.base import resolve_image

_PATH_KEYS = ("path", "image_path", "image_url", "image", "url", "file_name", "value")
_DATA = re.compile(r"data:(?P<kind>[\w.+/-]*)(?:;[\w=.+-]+)*?(?P<base64>;base64)?,", re.IGNORECASE)
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]+:", re.IGNORECASE)
_BARE_BASE64 = ("iVBORw0KGgo", "/9j/")
_LONGEST_NAME = 255
_DEEPEST = 4


class ImageValueError(Exception):
    """A value that means no image; the message says why and what to do. `reason` is a ledger code."""

    def __init__(self, detail: str, reason: str = "malformed") -> None:
        super().__init__(detail)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class ImageFolder:
    """Where the paths of a file start."""

    folder: Path
    prefix: str = ""
    """What is taken off the paths that begin with it; paths without it are taken as they are."""

    def find(self, written: str) -> Path:
        """The file that a path means."""
        if self.prefix and written.startswith(self.prefix):
            written = written.removeprefix(self.prefix)
        return _resolve(self.folder, written)

    def read(self, value: Any) -> tuple[bytes | Path | None, str]:
        """Image, and path as it is written ("" for base64), of a value; (None, "") if it is empty.

        Raises:
            ImageValueError: it is no image, or several.
        """
        written = _written(value)
        if not written:
            return None, ""
        if _holds_file(written):
            return _decode(written), ""
        if written[:7].lower() == "file://":
            written = unquote(written[7:])
        return self.find(written), written

    def note(self, name: str) -> tuple[str, ...]:
        """What a user should know about it."""
        text = f"{name}: no image lies where its path says; they are found without {self.prefix!r} before it."
        return (text,) if self.prefix else ()


def find_folder(folder: Path, values: Iterable[Any]) -> ImageFolder:
    """Looks where the first images of a file lie.

    Often paths start at another folder than the file's (`data/images/1.png` in `data/labels.json`). If no image
    is found as it is written, but one is without its first folders, then just these are taken off, from every
    path that begins with them: so two folders are never confused.

    Args:
        values: some values that mean images.
    """
    paths = []
    for value in values:
        try:
            written = _written(value)
        except ImageValueError:
            continue
        if written and not _SCHEME.match(written) and not _holds_file(written):
            paths.append(written)
    if any(_is_file(_resolve(folder, path)) for path in paths):
        return ImageFolder(folder)
    for path in paths:
        parts = PurePosixPath(path).parts
        for count in range(1, len(parts)):
            rest = str(PurePosixPath(*parts[count:]))
            if ".." not in parts[count:] and path.endswith(rest) and _is_file(folder / rest):
                return ImageFolder(folder, path.removesuffix(rest))
    return ImageFolder(folder)


def _written(value: Any, depth: int = 0) -> str:
    if isinstance(value, list) and value:
        if len(value) > 1:
            raise ImageValueError(
                f"It has {len(value)} images; a sample has one: give each image an item of its own.",
                "several_images",
            )
        value = value[0]
    if isinstance(value, Mapping) and depth < _DEEPEST:
        inner = next((value[key] for key in _PATH_KEYS if value.get(key)), None)
        if inner is not None:
            return _written(inner, depth + 1)
    if value is None or value == [] or isinstance(value, str):
        return (value or "").strip()
    raise ImageValueError("Its image is no path: give the path of a file, or a data: URI with base64.")


def _resolve(folder: Path, written: str) -> Path:
    try:
        return resolve_image(folder, written)
    except OSError:  # a name that is too long for the file system
        return folder / written


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:
        return False


def _holds_file(written: str) -> bool:
    bare = len(written) > _LONGEST_NAME and written.startswith(_BARE_BASE64)
    return bare or written[:5].lower() == "data:"


def _decode(written: str) -> bytes:
    start = 0
    if not written.startswith(_BARE_BASE64):
        match = _DATA.match(written)
        if match is None or not match["base64"]:
            raise ImageValueError("Its data: URI is not base64: write it as data:image/png;base64,….")
        start = match.end()
    try:
        return base64.b64decode(re.sub(r"\s+", "", written[start:]), validate=True)
    except (binascii.Error, ValueError) as error:
        raise ImageValueError(f"The base64 of its image is damaged ({error}): encode it again.") from error
