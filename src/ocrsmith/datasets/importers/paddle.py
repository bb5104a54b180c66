"""PaddleOCR's label files.

`rec_gt*.txt`, for recognition: `path<tab>text`, or a JSON list of paths before the tab for pictures that share
a text. `Label.txt` and others of its shape, for detection and from PPOCRLabel: `path<tab>` and a JSON list of
`{"transcription", "points", "difficult"}`.

Paths are relative to the label file, or to a folder above it as far up as the source reaches; where only the
file is given, `rec/train/1.jpg` in a folder `…/rec` means `train/1.jpg`.

`###` and `*` mark illegible texts, as in PaddleOCR's own training. A page that has one goes to the ledger,
since its text would be incomplete; `--unit line` keeps the page's other lines.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatch
from math import isfinite
from pathlib import Path, PurePosixPath
from typing import Any

from ocrsmith.datasets.importers.base import Candidate, Format, ImportOptions, Source, resolve_image
from ocrsmith.datasets.importers.file_trees import leads_out, some_files, walk_files
from ocrsmith.datasets.importers.lines import count_lines, iterate_lines, read_head, require_text, unescape
from ocrsmith.datasets.importers.regions import ILLEGIBLE, Region, candidates
from ocrsmith.errors import DataError
from ocrsmith.records import Excluded

_ILLEGIBLE_TEXTS = ("###", "*")
_REC_NAME = "rec_gt*.txt"
_LABEL_NAME = "label.txt"
_LABEL_LINE = re.compile(rb"[^\t\n]+\t\s*\[\s*(?:\]|\{[^\n]{0,8000}?\"(?:points|transcription)\"\s*:)")
_HEAD = 8192


@dataclass(frozen=True, slots=True)
class _Row:
    """A line of a label file."""

    written: str
    """What stands before the tab."""
    rest: str
    """What stands after it."""
    file: Path
    number: int

    def exclude(self, detail: str) -> Excluded:
        return Excluded("malformed", detail, self.written, str(self.file), self.number)


ReadRow = Callable[[_Row, "_Folders", ImportOptions], Iterator[Candidate | Excluded]]


def open_rec(path: Path, options: ImportOptions) -> Source:
    """A `rec_gt` file, or all of that name in a folder and below it.

    Raises:
        DataError: the folder holds none, or the file is no text.
    """
    return _open(path, options, REC_FORMAT, _is_rec_name, _read_rec_row)


def open_label(path: Path, options: ImportOptions) -> Source:
    """A `Label.txt`, or all of that name in a folder and below it.

    Raises:
        DataError: the folder holds none, or the file is no text.
    """
    return _open(path, options, LABEL_FORMAT, _is_label_name, _read_label_row)


def _open(
    path: Path, options: ImportOptions, kind: Format, is_name: Callable[[str], bool], read_row: ReadRow
) -> Source:
    files = [file for file in walk_files(path, (".txt",)) if file == path or is_name(file.name)]
    if not files:
        raise DataError(
            f"The folder holds no label file of the format {kind.name}.",
            place=str(path),
            mend="Give the label file itself.",
        )
    for file in files:
        if file == path or file.stat().st_size > 0:
            require_text(file, read_head(file), options.encoding)
    rows = None if kind is LABEL_FORMAT and options.unit == "line" else sum(map(count_lines, files))
    root = path if path.is_dir() else path.parent

    def read() -> Iterator[Candidate | Excluded]:
        for file in files:
            if file != path and not options.allow_outside and leads_out(file, root):
                detail = f"It is a link that leads out of {root}: copy it there, or add --allow-outside."
                yield Excluded("outside", detail, "", str(file))
            else:
                yield from _read_rows(file, root, options, read_row)

    return Source(path, kind.name, rows, read)


def _read_rows(
    file: Path, root: Path, options: ImportOptions, read_row: ReadRow
) -> Iterator[Candidate | Excluded]:
    if file.stat().st_size == 0:
        yield Excluded("malformed", "The label file is empty: write it again, or remove it.", "", str(file))
    folders = _Folders(file.parent, root)
    for number, line in iterate_lines(file, options.encoding):
        written, tab, rest = line.partition("\t")
        row = _Row(written.strip(), rest, file, number)
        if tab:
            yield from read_row(row, folders, options)
        elif line.strip():
            yield row.exclude("The line has no tab: write `path<tab>text`.")


class _Folders:
    """The folders that a label file's paths may start from; the one that served last is tried first."""

    def __init__(self, folder: Path, root: Path) -> None:
        self._folder = folder
        above = [parent for parent in folder.parents if parent.is_relative_to(root)]
        self._bases = [folder, *above]
        self._tail = folder.resolve().parts

    def find(self, written: str) -> Path:
        """The file that is meant; where none is, the path seen from the label file."""
        for base in self._bases:
            path = resolve_image(base, written)
            if _is_file(path):
                if base is not self._bases[0]:
                    self._bases.remove(base)
                    self._bases.insert(0, base)
                return path
        parts = PurePosixPath(written.replace("\\", "/")).parts
        for count in range(len(parts) - 1, 0, -1):
            if self._tail[-count:] == parts[:count]:
                path = self._folder.joinpath(*parts[count:])
                if _is_file(path):
                    return path
        return resolve_image(self._folder, written)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def _read_rec_row(row: _Row, folders: _Folders, options: ImportOptions) -> Iterator[Candidate | Excluded]:
    names: Any = [row.written]
    if row.written.startswith("["):
        with suppress(ValueError, RecursionError):  # a file's name may begin with a bracket
            names = json.loads(row.written)
    text = unescape(row.rest) if options.escapes else row.rest
    for name in names:
        if isinstance(name, str) and name:
            yield Candidate(folders.find(name), name, text, str(row.file), row.number)
        else:
            yield row.exclude(f"The list of images has {name!r} in it, which is no path.")


def _read_label_row(row: _Row, folders: _Folders, options: ImportOptions) -> Iterator[Candidate | Excluded]:
    try:
        entries = json.loads(row.rest)
    except (ValueError, RecursionError) as error:
        yield row.exclude(f"The JSON after the tab cannot be read ({error}): save the labels again.")
        return
    if not isinstance(entries, list):
        yield row.exclude(f"After the tab stands {_shorten(entries)}, not the JSON list of the page's lines.")
        return
    regions: list[Region] = []
    problems: list[str] = []
    for place, entry in enumerate(entries, start=1):
        region = read_entry(entry, place)
        if isinstance(region, Region):
            regions.append(region)
        else:
            problems.append(region)
    page = Candidate(folders.find(row.written), row.written, None, str(row.file), row.number)
    yield from candidates(page, regions, options.unit or "page", problems)


def read_entry(entry: Any, place: int) -> Region | str:
    """A line of a page, or what is wrong with it.

    Args:
        entry: an element of the JSON list.
        place: its place in the list, from 1.
    """
    if not isinstance(entry, dict):
        return f"Entry {place} is {_shorten(entry)}, not an object with `transcription` and `points`."
    text, points = entry.get("transcription"), entry.get("points")
    if not isinstance(text, str):
        return f"The `transcription` of entry {place} is {_shorten(text)}, not a text."
    try:
        polygon = tuple((float(x), float(y)) for x, y in points or ())
    except (TypeError, ValueError, OverflowError):
        return f"The `points` of entry {place} are {_shorten(points)}, not a list of [x, y]."
    if len(polygon) < 2 or not all(isfinite(number) for point in polygon for number in point):
        return f"The `points` of entry {place} are {_shorten(points)}: at least two finite ones are needed."
    kind = ILLEGIBLE if text.strip() in _ILLEGIBLE_TEXTS else "line"
    meta = {"difficult": True} if entry.get("difficult") is True else {}
    return Region(text, polygon, f"line_{place}", kind, meta=meta)


def _shorten(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + " …"


def _is_rec_name(name: str) -> bool:
    return fnmatch(name.lower(), _REC_NAME)


def _is_label_name(name: str) -> bool:
    return name.lower() == _LABEL_NAME


def _recognises_rec(path: Path, head: bytes) -> bool:
    if not head:
        return any(_is_rec_name(file.name) for file in some_files(path, (".txt",)))
    first = head.lstrip().split(b"\n", 1)[0]
    return _is_rec_name(path.name) and b"\t" in first and not _LABEL_LINE.match(first)


def _recognises_label(path: Path, head: bytes) -> bool:
    if head:
        first = head.lstrip(b"\xef\xbb\xbf \r\n")
        return path.suffix.lower() == ".txt" and _LABEL_LINE.match(first) is not None
    file = path / "Label.txt"
    try:
        with file.open("rb") as stream:
            return file.is_file() and _recognises_label(file, stream.read(_HEAD) or b" ")
    except OSError:
        return False


REC_FORMAT = Format(
    "paddle_rec",
    "PaddleOCR's recognition labels (rec_gt*.txt), or folders of them",
    _recognises_rec,
    open_rec,
)
LABEL_FORMAT = Format(
    "paddle_label",
    "PaddleOCR's detection labels (Label.txt of PPOCRLabel), or folders of them",
    _recognises_label,
    open_label,
)
