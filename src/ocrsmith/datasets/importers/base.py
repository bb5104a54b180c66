"""What every importer produces and takes.

An importer only parses: it says where an image is and which text belongs to it. Reading and judging the image
is the task of `datasets.checks`, so that every source is judged alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ocrsmith.records import Excluded


@dataclass(frozen=True, slots=True)
class Candidate:
    """An item of a source, not yet checked."""

    image: bytes | Path | None
    """The encoded image, or the file that holds it, or None when the source names none."""
    image_path: str
    """The path as the source writes it; empty if there is none."""
    text: str | None
    source: str
    """The file it comes from."""
    line: int | None
    """1-based line or row in that file."""
    id: str = ""
    """The id given by the source; empty: one is made from the path, or from file and row."""
    group: str = ""
    prompt: str | None = None
    meta: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """How to read sources; what a source cannot use, it ignores."""

    image_column: str | None = None
    text_column: str | None = None
    group_column: str | None = None
    encoding: str = "utf-8"
    escapes: bool | None = None
    """Read `\\n`, `\\t` and `\\\\` in texts as escapes. None: only in TSV files without a header, and only
    where every backslash of the file begins one of the three."""
    quotes: bool | None = None
    """Read double quotes as in RFC 4180. None: yes, except in TSV files without a header."""


@dataclass(frozen=True, slots=True)
class Source:
    """A source that was recognised: how many rows it seems to have, and how to go through them."""

    path: Path
    kind: str
    """For the manifest and messages: `content`, `csv`, `tsv`, `parquet`, `saved`, `dataset`."""
    rows: int | None
    """For the progress bar; None if unknown."""
    read: Callable[[], Iterator[Candidate | Excluded]]
    """Goes through the rows, each time from the start; a row that cannot be parsed is an `Excluded`."""
    notes: tuple[str, ...] = ()
    """What a user should know about how the source is read."""


def resolve_image(folder: Path, written: str) -> Path:
    """The file that `written` means, seen from `folder`; backslashes count as separators if that finds it."""
    path = folder / written
    if "\\" in written and not path.exists():
        other = folder / written.replace("\\", "/")
        if other.exists():
            return other
    return path
