"""Which files are to be read, and what their outputs are called."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import IO, Any

from ocrsmith.errors import InputError

STDIN = "-"
MAX_STDIN_BYTES = 1 << 30
SUFFIXES = frozenset(
    {
        *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".tif", ".tiff", ".bmp", ".gif"),
        *(".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".j2k", ".avif", ".pdf"),
    }
)
"""Files that are taken from folders; one that is named is taken whatever it is called."""


@dataclass(frozen=True, slots=True)
class Input:
    """A file to read."""

    path: Path
    name: str
    """Of its outputs, without ending: relative to the output folder, with `/`."""
    shown: str
    """What it is called in messages and outputs."""
    sha256: str | None = None
    """Tells whether it is still the same; None: its size and time do."""

    def identity(self) -> dict[str, Any]:
        """What changes when the file does."""
        if self.sha256 is not None:
            return {"sha256": self.sha256}
        status = self.path.stat()
        return {"size": status.st_size, "modified": status.st_mtime_ns}


@dataclass(slots=True)
class Inputs:
    """All files to read."""

    files: list[Input] = field(default_factory=list)
    ignored: int = 0
    """Files in folders that are neither images nor PDFs by their names."""
    repeated: int = 0
    """Files that were named more than once, by whatever path: each is read once."""
    unreadable: list[str] = field(default_factory=list)
    """Folders that may not be read."""


def spool_stdin(stream: IO[bytes], folder: Path) -> Input:
    """Keeps standard input in a file.

    Raises:
        InputError: it is empty, or has no end.
    """
    path = folder / "stdin"
    digest = hashlib.sha256()
    size = 0
    with path.open("wb") as file:
        while piece := stream.read(1 << 20):
            size += len(piece)
            if size > MAX_STDIN_BYTES:
                raise InputError(
                    f"More than {MAX_STDIN_BYTES:,} bytes come in.", place="standard input", mend="Give a file."
                )
            digest.update(piece)
            file.write(piece)
    if not size:
        raise InputError("Nothing comes in.", place="standard input", mend="Pipe an image or a PDF into it.")
    return Input(path, "stdin", "standard input", digest.hexdigest())


@dataclass(slots=True)
class _Found:
    path: Path
    relative: PurePath


def find_inputs(given: Sequence[Path], *, out: Path | None) -> Inputs:
    """The files themselves, and those in folders and their subfolders by suffix, in the order of their names.

    Hidden files and folders are left out, links to folders not followed, and `out` is not looked into.

    Args:
        given: files and folders that exist, in the order to read them.
        out: where outputs go.

    Raises:
        InputError: one does not exist, or there is nothing to read.
    """
    inputs = Inputs()
    found: list[_Found] = []
    seen: set[tuple[int, int]] = set()
    for path in given:
        if not path.exists():
            raise InputError("There is no such file or folder.", place=str(path), mend="Check the path.")
        for item in _walk(path, out, inputs) if path.is_dir() else [_Found(path, PurePath(path.name))]:
            key = _identity(item.path)
            if key in seen:
                inputs.repeated += 1
                continue
            seen.add(key)
            found.append(item)
    if not found:
        raise InputError(
            "There is nothing to read: no images and no PDFs.",
            place=", ".join(map(str, given)),
            mend=f"Files are taken by their endings: {', '.join(sorted(SUFFIXES))}.",
        )
    inputs.files = [
        Input(item.path, name, str(item.path)) for item, name in zip(found, _names(found, given), strict=True)
    ]
    return inputs


def _walk(root: Path, out: Path | None, inputs: Inputs) -> Iterator[_Found]:
    avoid = out.resolve() if out is not None else None

    def refuse(error: OSError) -> None:
        inputs.unreadable.append(f"{error.filename}: {error.strerror}")

    for folder, folders, files in os.walk(root, onerror=refuse):
        here = Path(folder)
        folders[:] = sorted(
            name for name in folders if not name.startswith(".") and (here / name).resolve() != avoid
        )
        for name in sorted(files):
            if name.startswith("."):
                continue
            if os.path.splitext(name)[1].lower() in SUFFIXES:
                yield _Found(here / name, (here / name).relative_to(root))
            else:
                inputs.ignored += 1


def _identity(path: Path) -> tuple[int, int]:
    """The same for two paths of one file, links included."""
    try:
        status = path.stat()
    except OSError:  # a broken link: told when it is opened
        return (-1, hash(str(path.absolute())))
    return (status.st_dev, status.st_ino)


def _names(found: Sequence[_Found], given: Sequence[Path]) -> list[str]:
    """Names that differ: `report` for report.pdf; with folders where files of two folders have one name, and
    with the ending where two in one folder do (`report.pdf`, `report.png`)."""
    names = [item.relative for item in found]
    if _clash(names):
        absolute = [item.path.absolute() for item in found]
        base = os.path.commonpath([str(path.parent) for path in absolute])
        names = [PurePath(os.path.relpath(path, base)) for path in absolute]
    stems = Counter(_key(name.with_suffix("")) for name in names)
    chosen = [name if stems[_key(name.with_suffix(""))] > 1 else name.with_suffix("") for name in names]
    taken = Counter(map(_key, chosen))
    # A file "a.png" without ending is "a.png" too where "a.png.jpg" lies beside it.
    return [
        (name if taken[_key(name)] > 1 else short).as_posix() for name, short in zip(names, chosen, strict=True)
    ]


def _clash(names: Sequence[PurePath]) -> bool:
    return max(Counter(map(_key, names)).values()) > 1


def _key(name: PurePath) -> str:
    """Alike for names that some file systems take for one."""
    return name.as_posix().casefold()
