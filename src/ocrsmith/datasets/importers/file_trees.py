"""Sources that are many small files in a folder: going through them, each at its own risk."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator
from itertools import islice
from pathlib import Path

from ocrsmith.datasets.importers.base import Candidate, ImportOptions, Source
from ocrsmith.errors import DataError
from ocrsmith.records import Excluded

ReadFile = Callable[[Path, Path, ImportOptions], Iterator[Candidate | Excluded]]
"""(file, folder that images must lie in, options) → the candidates of one file. Raises DataError if the file is
damaged; what was given before that stays."""

_HEAD = 8192
_LOOKED_AT = 5000


def open_files(
    path: Path,
    options: ImportOptions,
    *,
    name: str,
    suffixes: Collection[str],
    read_file: ReadFile,
    folder: Path | None = None,
) -> Source:
    """A file, or all files with one of the suffixes in a folder and below it, as a source.

    A file that is damaged costs itself only: it goes to the ledger. So does a link that leads out of the source
    unless the options allow it, as it would bring texts into the dataset that nobody meant to give.

    Args:
        name: of the format.
        suffixes: in lower case, with the dot.
        folder: where the files lie, if not in `path` itself.

    Raises:
        DataError: the folder holds no such file.
    """
    start = folder or path
    if start.is_dir() and next(walk_files(start, suffixes), None) is None:
        raise DataError(
            f"The folder holds no file that ends in {' or '.join(sorted(suffixes))}.",
            place=str(start),
            mend="Give the folder that holds them, at whatever depth.",
        )
    root = path if path.is_dir() else path.parent

    def read() -> Iterator[Candidate | Excluded]:
        for file in walk_files(start, suffixes):
            if file != path and not options.allow_outside and leads_out(file, root):
                detail = f"It is a link that leads out of {root}: copy it there, or add --allow-outside."
                yield Excluded("outside", detail, "", str(file))
                continue
            try:
                yield from read_file(file, root, options)
            except DataError as error:
                detail = f"{error.problem} {error.mend or ''}".strip()
                yield Excluded("malformed", detail, "", str(file))

    rows = sum(1 for _ in walk_files(start, suffixes)) if options.unit != "line" else None
    notes = (f"{path.name}: whole pages (--unit line cuts out their lines).",) if options.unit is None else ()
    return Source(path, name, rows, read, notes)


def walk_files(path: Path, suffixes: Collection[str]) -> Iterator[Path]:
    """`path` itself if it is a file, else the files below it in a stable order; links to folders are not
    followed, hidden folders and files left out."""
    if not path.is_dir():
        yield path
        return
    for folder, folders, files in os.walk(path):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith(".") and _suffix(name) in suffixes:
                yield Path(folder, name)


def leads_out(file: Path, root: Path) -> bool:
    """Whether a file is a link to what does not lie in `root`."""
    return file.is_symlink() and not file.resolve().is_relative_to(root.resolve())


def some_files(path: Path, suffixes: Collection[str]) -> Iterator[Path]:
    """For recognising: files in a folder and below, the nearest first, among its first few thousand entries."""
    folders, budget = [path], _LOOKED_AT
    while folders and budget > 0:
        try:
            with os.scandir(folders.pop(0)) as entries:
                for entry in islice(entries, budget):
                    budget -= 1
                    if entry.name.startswith("."):
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(Path(entry.path))
                    elif _suffix(entry.name) in suffixes and entry.is_file():
                        yield Path(entry.path)
        except OSError:
            continue


def some_heads(path: Path, head: bytes, suffixes: Collection[str]) -> Iterator[bytes]:
    """For recognising: `head` if `path` is a file, else the beginnings of the first files with the suffixes."""
    if head:
        if path.suffix.lower() in suffixes:
            yield head
        return
    for file in islice(some_files(path, suffixes), 8):
        try:
            with file.open("rb") as stream:
                yield stream.read(_HEAD)
        except OSError:
            continue


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()
