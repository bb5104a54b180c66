"""What every importer produces and takes.

An importer only parses: it says where an image is and which text belongs to it. Reading and judging the image
is the task of `datasets.checks`, so that every source is judged alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ocrsmith.records import Excluded


@dataclass(frozen=True, slots=True)
class LineCrop:
    """A line that is to be cut from the image of a page; that is done when the candidate is checked."""

    page: bytes | Path
    """The encoded page, or the file that holds it."""
    polygon: tuple[tuple[float, float], ...]
    """(x, y) in pixels of the upright page; two points are the opposite corners of a box."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """An item of a source, not yet checked."""

    image: bytes | Path | LineCrop | None
    """The encoded image, or the file that holds it, or a part of one, or None when the source names none."""
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
    within: Path | None = None
    """The folder that the image's file must lie in, links followed; None: it may lie anywhere. Set by the build
    from `Source.root`, not by importers."""


Unit = Literal["page", "line"]
Labels = Literal["fields", "text"]


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """How to read sources; what a source cannot use, it ignores."""

    format: str | None = None
    """Name of the format that all sources have; None: each is recognised."""
    unit: Unit | None = None
    """Of sources that know the lines of a page: whole pages, or line images cut along their polygons. None:
    what the format is mostly used for."""
    labels: Labels = "fields"
    """Of sources that know both the key fields and the text of a page: which becomes the text to learn."""
    allow_outside: bool = False
    """Take images that lie outside the source's folder: absolute paths, `..`, links that lead out of it."""

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
    """For the manifest and messages: the name of its format."""
    rows: int | None
    """For the progress bar; None if unknown."""
    read: Callable[[], Iterator[Candidate | Excluded]]
    """Goes through the rows, each time from the start; a row that cannot be parsed is an `Excluded`. An
    iterator with a method `skip(n) -> int` passes over up to n rows at little cost, and says over how many; one
    with `close` is closed."""
    notes: tuple[str, ...] = ()
    """What a user should know about how the source is read."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """What else decides how it is read (JSON-serialisable), for the manifest and for builds that go on."""

    @property
    def root(self) -> Path:
        """The folder that its images must lie in, unless `ImportOptions.allow_outside`."""
        return self.path if self.path.is_dir() else self.path.parent


@dataclass(frozen=True, slots=True)
class Format:
    """A kind of source: how it is recognised and read. Each importer module has one, named `FORMAT`."""

    name: str
    """For `--format` and the manifest, e.g. `alto`."""
    title: str
    """For help and messages, e.g. "ALTO XML files, or folders of them"."""
    recognises: Callable[[Path, bytes], bool]
    """(path, first 8 KiB of the file; empty for a folder) → whether it is of this format. Must be quick, must
    not raise, and must be sure: when in doubt, no."""
    open: Callable[[Path, ImportOptions], Source]
    """Opens a source of this format, without reading it whole.

    Raises:
        DataError: it is not of this format, or damaged in a way that shows at its beginning.
    """


def resolve_image(folder: Path, written: str) -> Path:
    """The file that `written` means, seen from `folder`; backslashes count as separators if that finds it."""
    path = folder / written
    with suppress(OSError):  # a name too long to be one: reading it says so
        if "\\" in written and not path.exists():
            other = folder / written.replace("\\", "/")
            if other.exists():
                return other
    return path
