"""Folders of images, each with a text file of the same name: `page.png` with `page.txt` or `page.gt.txt`.

Subfolders are gone through too, in the order of their names; of each folder only the names are held in memory.
Where both text files are there, `.gt.txt` is the truth. An image without a text and a text without an image go
to the ledger. Files of other kinds and those whose names begin with a dot are not looked at; links to folders
are not followed.
"""

from __future__ import annotations

import os
import stat
import unicodedata
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from ocrsmith.datasets.importers.base import Candidate, Format, ImportOptions, Source
from ocrsmith.datasets.importers.file_names import IMAGE_SUFFIXES, readable
from ocrsmith.datasets.importers.lines import check_encoding, guess_encoding
from ocrsmith.errors import DataError
from ocrsmith.records import Excluded

TEXT_SUFFIXES = (".gt.txt", ".txt")
"""The first that is there is the truth."""

MAX_TEXT_BYTES = 4 << 20
_LOOK_AT = 2000


def recognises(path: Path, head: bytes) -> bool:
    """A folder with a pair among the first names that are found in it."""
    if head or not path.is_dir():
        return False
    images: set[str] = set()
    texts: set[str] = set()
    for folder, name in islice(_some_files(path), _LOOK_AT):
        stem, role = _split_name(name)
        if role:
            (images if role == "image" else texts).add(f"{folder}/{stem}")
    return bool(images & texts)


def open_pairs(path: Path, options: ImportOptions) -> Source:
    """The pairs of a folder and its subfolders as a source.

    Raises:
        DataError: it is no folder.
    """
    check_encoding(options.encoding)
    if not path.is_dir():
        raise DataError(
            "Pairs of images and text files are read from a folder, and this is a file.",
            place=str(path),
            mend="Give the folder that holds both.",
        )
    rows = sum(_split_name(name)[1] == "image" for _, _, names in os.walk(path) for name in names)
    return Source(path, "pairs", rows, lambda: _read(path, options))


def _read(root: Path, options: ImportOptions) -> Iterator[Candidate | Excluded]:
    real_root = os.path.join(os.path.realpath(root), "")
    for folder, folders, names in os.walk(root, onerror=_refuse_folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        place = Path(folder)
        for name in folders:
            if os.path.islink(place / name):
                detail = "It is a link to a folder, which is not followed: give that folder as a source."
                yield _excluded("outside", detail, place / name, root)
        yield from _read_folder(place, names, root, None if options.allow_outside else real_root, options)


def _read_folder(
    folder: Path, names: list[str], root: Path, real_root: str | None, options: ImportOptions
) -> Iterator[Candidate | Excluded]:
    """The pairs of one folder, by name.

    Args:
        real_root: where text files must lie, links followed; None: anywhere.
    """
    images: dict[str, list[str]] = {}
    texts: dict[str, list[str]] = {}
    for name in sorted(names):
        stem, role = _split_name(name)
        if role:
            (images if role == "image" else texts).setdefault(stem, []).append(name)
    for stem in sorted(images.keys() | texts.keys()):
        # ".gt.txt" sorts before ".txt".
        text_names = texts.get(stem, [])
        for name in images.get(stem, []):
            if not text_names:
                detail = f"There is no text file {stem}.txt or {stem}.gt.txt beside it: add it."
                yield _excluded("unpaired", detail, folder / name, root)
                continue
            text = _read_text(folder / text_names[0], real_root, options.encoding)
            if isinstance(text, _Unreadable):
                yield _excluded(text.reason, f"{text_names[0]}: {text.detail}", folder / name, root)
                continue
            yield Candidate(
                image=folder / name,
                image_path=readable(str((folder / name).relative_to(root))),
                text=text,
                source=str(root),
                line=None,
            )
        for name in text_names if stem not in images else text_names[1:]:
            why = "there is no image of its name" if stem not in images else f"{text_names[0]} is there too"
            yield _excluded("unpaired", f"The text is not used: {why}.", folder / name, root)


class _Unreadable:
    """Why a text file cannot be used."""

    def __init__(self, detail: str, reason: str = "unreadable") -> None:
        self.detail = detail
        self.reason = reason


def _read_text(path: Path, real_root: str | None, encoding: str) -> str | _Unreadable:
    try:
        if real_root is not None and not os.path.realpath(path).startswith(real_root):
            return _Unreadable(
                "It is a link that leads out of the folder (--allow-outside follows it).", "outside"
            )
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            return _Unreadable("It is no regular file.")
        if status.st_size > MAX_TEXT_BYTES:
            detail = f"It has {status.st_size:,} bytes; at most {MAX_TEXT_BYTES:,} are read."
            return _Unreadable(detail, "too_large")
        text = path.read_bytes().decode(encoding).removeprefix("\ufeff")
    except UnicodeError as error:
        guess = guess_encoding(path)
        mend = f"it looks like {guess} (--encoding {guess})" if guess else "save it as UTF-8"
        return _Unreadable(f"It is not {encoding} ({error}): {mend}.", "malformed")
    except OSError as error:
        return _Unreadable(f"It cannot be read: {error.strerror or error}.")
    if "\x00" in text:
        return _Unreadable("It is binary or of another encoding (zero bytes): save it as UTF-8.", "malformed")
    return text.replace("\r\n", "\n")


def _split_name(name: str) -> tuple[str, str]:
    """What a pair has in common, and `image`, `text` or nothing. Names written with composed and with separate
    accents are the same."""
    if name.startswith("."):
        return "", ""
    lower = name.lower()
    for suffix in TEXT_SUFFIXES:
        if lower.endswith(suffix):
            return unicodedata.normalize("NFC", name[: -len(suffix)]), "text"
    stem, suffix = os.path.splitext(name)
    return (unicodedata.normalize("NFC", stem), "image") if suffix.lower() in IMAGE_SUFFIXES else ("", "")


def _some_files(root: Path) -> Iterator[tuple[str, str]]:
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))[:50]
        for name in names:
            yield folder, name


def _refuse_folder(error: OSError) -> None:
    raise DataError(
        f"The folder cannot be read: {error.strerror or error}.",
        place=str(error.filename),
        mend="Check its permissions.",
    ) from error


def _excluded(reason: str, detail: str, path: Path, root: Path) -> Excluded:
    return Excluded(reason, readable(detail), readable(str(path.relative_to(root))), str(root))


FORMAT = Format(
    "pairs", "folders of images with a text file each (a.png, a.txt or a.gt.txt)", recognises, open_pairs
)
