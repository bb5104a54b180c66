"""File names for the images of an export: safe on every system, inside their folder, each given once."""

from __future__ import annotations

import re
import unicodedata
from pathlib import PurePosixPath

from ocrsmith.datasets.unique import UniqueNames
from ocrsmith.records import PageSample

IMAGES = "images"
"""The folder of an export's images."""

_SUFFIXES: tuple[tuple[bytes, int, tuple[str, ...]], ...] = (
    (b"\x89PNG", 0, (".png",)),
    (b"\xff\xd8", 0, (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo")),
    (b"WEBP", 8, (".webp",)),
    (b"II*\x00", 0, (".tif", ".tiff")),
    (b"MM\x00*", 0, (".tif", ".tiff")),
    (b"GIF8", 0, (".gif",)),
    (b"BM", 0, (".bmp",)),
    (b"P1", 0, (".pbm", ".pnm")),
    (b"P4", 0, (".pbm", ".pnm")),
    (b"P2", 0, (".pgm", ".pnm")),
    (b"P5", 0, (".pgm", ".pnm")),
    (b"P3", 0, (".ppm", ".pnm")),
    (b"P6", 0, (".ppm", ".pnm")),
    (b"jP  ", 4, (".jp2", ".j2k")),
    (b"\xff\x4f\xff\x51", 0, (".jp2", ".j2k")),
    (b"ftypavi", 4, (".avif",)),
)
"""First bytes, where they stand, and the suffixes of such files; the first is the usual one."""

_KNOWN = {suffix for _, _, suffixes in _SUFFIXES for suffix in suffixes}
_UNSAFE = re.compile(r"[^\w.-]")
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
_PART_BYTES = 120
_DEPTH = 8


class ImageNames:
    """Gives each sample a path `images/….png`, after its id where that can be one.

    An id that is such a path already (`images/a/0001.png`) is kept as it is.
    """

    def __init__(self) -> None:
        self._given = UniqueNames(_again, lambda name: unicodedata.normalize("NFKC", name).casefold())

    def take(self, sample: PageSample) -> str:
        """The path for a sample's image, relative to the export's folder, with `/` between its parts."""
        suffix = suffix_of(sample.image, sample.image_path)
        stem = sample.id.replace("\\", "/")
        path = PurePosixPath(stem)
        if path.suffix.lower() in _KNOWN:
            stem = stem[: -len(path.suffix)]
            suffix = path.suffix if suffix_of(sample.image, stem + path.suffix) == path.suffix else suffix
        *folders, name = [part for part in stem.split("/") if part] or [""]
        if folders[:1] == [IMAGES]:
            folders = folders[1:]
        # No folder has a dot in its name and every image has one, so that none can stand in the other's way.
        safe = [_safe(folder).replace(".", "_") for folder in folders[-_DEPTH:]]
        return self._given.take("/".join([IMAGES, *safe, _safe(name) + suffix]))


def suffix_of(image: bytes, path: str) -> str:
    """The suffix of the file that the image came from if it is right, else the usual one of its kind."""
    written = PurePosixPath(path).suffix
    for signature, offset, suffixes in _SUFFIXES:
        if image[offset : offset + len(signature)] == signature:
            return written if written.lower() in suffixes else suffixes[0]
    return ".img"


def _safe(part: str) -> str:
    """A name of letters, digits, `_`, `-` and dots that no system takes for something else."""
    name = _UNSAFE.sub("_", part).lstrip(".-").rstrip(".") or "_"
    name = name.encode("utf-8", "replace")[:_PART_BYTES].decode("utf-8", "ignore")
    return f"_{name}" if _RESERVED.fullmatch(name) else name


def _again(name: str, number: int) -> str:
    stem, dot, suffix = name.rpartition(".")
    return f"{stem}-{number}{dot}{suffix}"
