"""Text files in the manner of `content.md`: an image path and its text on each line.

The rule that separates them:

1. A tab on the line: everything before the first tab is the path.
2. Otherwise the longest beginning of the line that ends in an image's file extension before white space and
   is a file (so `my scan 1.jpg Total 5` works if `my scan 1.jpg` is there).
3. Otherwise everything before the first white space.

Paths are relative to the file's folder. Lines that begin with `#` are comments, blank lines are skipped
(a path that begins with `#` can be written `./#1.png`). Texts are taken as they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from ocrsmith.datasets.importers.base import Candidate, Format, ImportOptions, Source, resolve_image
from ocrsmith.datasets.importers.lines import count_lines, iterate_lines, read_head, require_text, unescape
from ocrsmith.errors import DataError

_SUFFIXES = "png|jpe?g|jpe|jfif|webp|bmp|gif|tiff?|jp2|pbm|pgm|ppm|avif|heic"
_PATH_END = re.compile(rf"\.(?:{_SUFFIXES})(?=\s|$)", re.IGNORECASE)
_TEXT_SUFFIXES = (".md", ".txt", ".lst", ".list", "")
_GAP = re.compile(r"\s+")


def open_content(path: Path, options: ImportOptions) -> Source:
    """The lines of a text file as a source.

    Raises:
        DataError: it is no text, or a group column is asked for.
    """
    require_text(path, read_head(path), options.encoding)
    if options.group_column is not None:
        raise DataError(
            f"Lines of path and text have no columns, so there is no column {options.group_column!r}.",
            place=str(path),
            mend="Group by parent or stem-prefix, or give a CSV or Parquet file with that column.",
        )
    return Source(path, "content", count_lines(path), lambda: _read(path, options))


def _read(path: Path, options: ImportOptions) -> Iterator[Candidate]:
    folder = path.parent
    for number, line in iterate_lines(path, options.encoding):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        written, text = split_line(line, folder)
        if options.escapes:
            text = unescape(text)
        yield Candidate(
            image=resolve_image(folder, written) if written else None,
            image_path=written,
            text=text,
            source=str(path),
            line=number,
        )


def split_line(line: str, folder: Path) -> tuple[str, str]:
    """Path and text of a line, by the rule at the top of this module.

    Args:
        line: without surrounding white space, not empty.
        folder: where relative paths start.
    """
    if "\t" in line:
        path, _, text = line.partition("\t")
        return path.strip(), text.strip()
    gap = _GAP.search(line)
    if gap is None:
        return line, ""
    first = line[: gap.start()]
    ends = [match.end() for match in _PATH_END.finditer(line)]
    if ends and ends != [len(first)]:
        for end in reversed(ends):
            if resolve_image(folder, line[:end]).is_file():
                return line[:end], line[end:].strip()
        if not resolve_image(folder, first).is_file():
            return line[: ends[0]], line[ends[0] :].strip()
    return first, line[gap.end() :].strip()


FORMAT = Format(
    "content",
    "text files with a line `image path<tab or space>text` for each image (content.md)",
    # Any text file can be one, so this is what is left when no other format applies.
    lambda path, head: bool(head) and path.suffix.lower() in _TEXT_SUFFIXES,
    open_content,
)
