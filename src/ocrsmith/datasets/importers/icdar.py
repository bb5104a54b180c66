"""Boxes of the ICDAR competitions, 2015 and later, and SROIE's receipts with their key fields.

A file for each image, a line for each text: `x1,y1,x2,y2,x3,y3,x4,y4,text`, clockwise from the text's top left
corner; commas and quotes in the text are text. Files of ICDAR 2017 and 2019 MLT have the script before the text
(`…,Latin,text`): taken for such if every line of the file has one of the scripts there. `###` is illegible: the
line goes to the ledger, and with `--unit page` the page, since its text would be incomplete.

Folders: images beside their files (`img_1.jpg`, `gt_img_1.txt`) or in a folder with `img` or `image` in its
name, or SROIE's `img/`, `box/` and `key/` (or `entities/`: JSON with company, date, address, total). Where
there are keys and whole pages are asked for, `labels` says what becomes the text:

- `fields`: `<company>…</company>`, a line for each key in the order of the JSON. Values stand as they are,
  without escapes; line breaks become a space; empty ones are kept, `null` left out. A value that holds `<key>`
  or `</key>` of its record cannot be told from the marks: such a page goes to the ledger.
- `text`: the texts of the boxes in reading order.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ocrsmith.datasets.importers.base import Candidate, Format, ImportOptions, Source
from ocrsmith.datasets.importers.file_trees import open_files, some_files
from ocrsmith.datasets.importers.lines import iterate_lines
from ocrsmith.datasets.importers.page_files import image_of_stem
from ocrsmith.datasets.importers.regions import ILLEGIBLE, Region, candidates
from ocrsmith.errors import DataError
from ocrsmith.records import Excluded

_SUFFIXES = (".txt", ".csv")
_KEY_SUFFIXES = (".json", ".txt")
_BOX_FOLDERS = ("box", "boxes", "gt")
_KEY_FOLDERS = ("key", "keys", "entities")
_IMAGE_FOLDERS = ("img", "image")
"""Parts of names."""
_SCRIPTS = ("Arabic", "Latin", "Chinese", "Japanese", "Korean", "Bangla", "Hindi", "Symbols", "Mixed", "None")
_LINE = re.compile(r"\s*" + r"\s*,\s*".join([r"(-?\d+(?:\.\d+)?)"] * 8) + r"\s*,(.*)", re.DOTALL)
_FIRST_LINE = re.compile(rb"(?:\xef\xbb\xbf)?\s*(?:-?\d{1,6}(?:\.\d+)?\s*,\s*){8}[^\s,]")
_KEY = re.compile(r"[^\W\d][\w.-]*")
_MAX_FILE = 16 << 20


def open_icdar(path: Path, options: ImportOptions) -> Source:
    """A file of boxes, or a folder of them, or a folder with SROIE's parts.

    Raises:
        DataError: the folder holds neither boxes nor keys.
    """
    layout = _layout_of(path)
    both = layout.keys is not None and layout.boxes is not None and options.unit != "line"
    fields = layout.keys is not None and options.unit != "line" and (options.labels == "fields" or not both)
    read_file = _read_key_file if fields else _read_box_file
    folder = layout.keys if fields else layout.boxes
    if folder is None:
        raise DataError(
            "The folder holds no files of boxes, which --unit line needs.",
            place=str(path),
            mend="Give the folder that has img/ and box/, or use --unit page.",
        )
    source = open_files(
        path,
        options,
        name="icdar",
        suffixes=_KEY_SUFFIXES if fields else _SUFFIXES,
        read_file=lambda file, _, options: read_file(file, layout, options),
        folder=folder,
    )
    if not both:
        return source
    what = "the key fields are the text (--labels text takes that of the boxes)"
    if not fields:
        what = "the text is that of the boxes (--labels fields takes the key fields)"
    return replace(source, notes=(*source.notes, f"{path.name}: {what}."))


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where the parts of a dataset lie."""

    root: Path
    images: tuple[Path, ...]
    """Looked into after the folder of the file itself."""
    boxes: Path | None
    keys: Path | None


def _layout_of(path: Path) -> _Layout:
    if not path.is_dir():
        folder = path.parent
        around = folder.parent if folder.name.lower() in _BOX_FOLDERS else folder
        return _Layout(folder, _image_folders(around), path, None)
    boxes, keys = _subfolder(path, _BOX_FOLDERS), _subfolder(path, _KEY_FOLDERS)
    return _Layout(path, (path, *_image_folders(path)), boxes if boxes or keys else path, keys)


def _image_folders(folder: Path) -> tuple[Path, ...]:
    """Folders in a folder whose name says that they hold images."""
    with os.scandir(folder) as entries:
        found = [Path(entry.path) for entry in entries if entry.is_dir()]
    return tuple(sorted(path for path in found if any(part in path.name.lower() for part in _IMAGE_FOLDERS)))


def _subfolder(folder: Path, names: tuple[str, ...]) -> Path | None:
    return next((folder / name for name in names if (folder / name).is_dir()), None)


def _read_box_file(file: Path, layout: _Layout, options: ImportOptions) -> Iterator[Candidate | Excluded]:
    page = _page_of(file, layout)
    regions, problems = read_boxes(file, options.encoding)
    yield from candidates(page, regions, options.unit or "page", problems)


def _page_of(file: Path, layout: _Layout) -> Candidate:
    """The page that a file of boxes or keys belongs to.

    Raises:
        DataError: more than one image has its name.
    """
    stems = tuple(dict.fromkeys((file.stem, re.sub(r"^gt_", "", file.stem, flags=re.IGNORECASE))))
    folders = dict.fromkeys((file.parent, *layout.images))
    found = [image for folder in folders for stem in stems if (image := image_of_stem(folder, stem))]
    if len(found) > 1:
        names = ", ".join(_relative(image, layout.root) for image in found)
        raise DataError(
            f"There are several images of this name: {names}.",
            place=str(file),
            mend="Give the folders of training and test data apart.",
        )
    # Where there is none: named as it should be called, so that the ledger says what is missing.
    image = found[0] if found else (*layout.images, file.parent)[-1] / f"{stems[-1]}.jpg"
    name = _relative(image, layout.root)
    return Candidate(image, name, None, str(file), None, id=_relative(file, layout.root))


def _relative(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)


def read_boxes(file: Path, encoding: str) -> tuple[list[Region], list[str]]:
    """The lines of a page, and what is wrong with those that cannot be read.

    Raises:
        DataError: it is too large, or no text in this encoding.
    """
    _require_small(file)
    rows: list[tuple[int, tuple[tuple[float, float], ...], str]] = []
    problems: list[str] = []
    for number, line in iterate_lines(file, encoding):
        match = _LINE.fullmatch(line)
        if match:
            numbers = [float(value) for value in match.groups()[:8]]
            points = tuple(zip(numbers[::2], numbers[1::2], strict=True))
            rows.append((number, points, match[9]))
        elif line.strip():
            problems.append(f"Line {number} is not `x1,y1,x2,y2,x3,y3,x4,y4,text`: {line.strip()[:60]!r}.")
    scripts = bool(rows) and all(
        comma and script in _SCRIPTS for script, comma, _ in (text.partition(",") for _, _, text in rows)
    )
    regions: list[Region] = []
    for number, points, text in rows:
        meta: dict[str, Any] = {}
        if scripts:
            meta["script"], _, text = text.partition(",")
        kind = ILLEGIBLE if text.strip() == "###" else "line"
        regions.append(Region(text.strip(), points, f"line_{number}", kind, meta=meta))
    return regions, problems


def _read_key_file(file: Path, layout: _Layout, options: ImportOptions) -> Iterator[Candidate | Excluded]:
    page = _page_of(file, layout)
    _require_small(file)
    encoding = "utf-8-sig" if options.encoding.lower() == "utf-8" else options.encoding
    try:
        values = json.loads(file.read_bytes().decode(encoding))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(
            f"The keys cannot be read as JSON: {error}.", place=str(file), mend="Correct or remove the file."
        ) from error
    text = write_fields(values, place=str(file))
    yield Candidate(page.image, page.image_path, text, page.source, None, id=page.id)


def write_fields(values: Any, *, place: str) -> str:
    """Key fields as text: `<key>value</key>`, a line for each, by the rules at the top of this module.

    Args:
        values: a JSON object of texts, numbers, booleans and nulls.
        place: for messages.

    Raises:
        DataError: it is no such object, or a value holds one of the marks.
    """
    if not isinstance(values, dict):
        raise DataError("The keys are no JSON object.", place=place, mend='Write {"key": "value", …}.')
    marks = [mark for key in values for mark in (f"<{key}>", f"</{key}>")]
    lines = []
    for key, value in values.items():
        if value is None:
            continue
        if not _KEY.fullmatch(key) or isinstance(value, dict | list):
            raise DataError(
                f"The field {key!r} cannot be written as <{key}>…</{key}>.",
                place=place,
                mend="Keys are letters, digits, `_`, `.` and `-`; values are texts, not lists or objects.",
            )
        written = value if isinstance(value, str) else json.dumps(value)
        if any(mark in written for mark in marks):
            raise DataError(
                f"The value of {key!r} holds one of the marks of the fields: {written[:60]!r}.",
                place=place,
                mend="Rename the key, or correct the value.",
            )
        lines.append(f"<{key}>{' '.join(written.splitlines()).strip()}</{key}>")
    return "\n".join(lines)


def _require_small(file: Path) -> None:
    if not file.is_file():
        raise DataError("This is not a regular file.", place=str(file), mend="Leave it out.")
    size = file.stat().st_size
    if size > _MAX_FILE:
        raise DataError(
            f"The file has {size:,} bytes; the boxes of a page have at most {_MAX_FILE:,}.",
            place=str(file),
            mend="Give a file for each page.",
        )


def _recognises(path: Path, head: bytes) -> bool:
    if head:
        return path.suffix.lower() in _SUFFIXES and _FIRST_LINE.match(head) is not None
    try:
        if _image_folders(path) and _subfolder(path, _KEY_FOLDERS):
            return True
        return _has_boxes(_subfolder(path, _BOX_FOLDERS) or path)
    except OSError:
        return False


def _has_boxes(folder: Path) -> bool:
    """Whether one of the first text files in a folder begins with a box."""
    for count, file in enumerate(some_files(folder, _SUFFIXES)):
        if count >= 3:
            return False
        with file.open("rb") as stream:
            if _FIRST_LINE.match(stream.read(200)):
                return True
    return False


FORMAT = Format(
    "icdar",
    "boxes of ICDAR 2015 and SROIE (x1,y1,…,x4,y4,text), with key fields where there are any",
    _recognises,
    open_icdar,
)
