"""CSV and TSV tables.

With a header, columns are found by name and double quotes are read as in RFC 4180 (so a quoted text may hold
line breaks). Without a header, the first column is the image path and the rest of the line is the text; in such
TSV files quotes are ordinary characters, and `\\n`, `\\t`, `\\\\` are escapes if every backslash of the file
begins one of them.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ocrsmith.datasets.importers.base import Candidate, Format, ImportOptions, Source, resolve_image
from ocrsmith.datasets.importers.columns import (
    IMAGE_NAMES,
    OTHER_IMAGE_NAMES,
    OTHER_TEXT_NAMES,
    TEXT_NAMES,
    ColumnNames,
    choose_columns,
)
from ocrsmith.datasets.importers.lines import (
    count_lines,
    first_bad_escape,
    iterate_lines,
    read_head,
    require_text,
    unescape,
)
from ocrsmith.errors import DataError
from ocrsmith.records import Excluded

_COLUMN_NAMES = frozenset({*IMAGE_NAMES, *TEXT_NAMES, "id", "group", "prompt"})
_OTHER_IMAGES, _OTHER_TEXTS = frozenset(OTHER_IMAGE_NAMES), frozenset(OTHER_TEXT_NAMES)


def open_table(path: Path, options: ImportOptions, delimiter: str) -> Source:
    """The rows of a table as a source.

    Raises:
        DataError: it is no text, or has no image or text column; the message lists the columns that there are.
    """
    require_text(path, read_head(path), options.encoding)
    csv.field_size_limit(sys.maxsize)
    kind = "tsv" if delimiter == "\t" else "csv"
    first = next((line for _, line in iterate_lines(path, options.encoding) if line.strip()), "")
    cells = [cell.strip().strip('"') for cell in first.split(delimiter)]
    if _is_header(cells, options):
        _, header = next(_csv_rows(path, options, delimiter))
        columns = choose_columns(header, options, place=str(path))
        return Source(
            path, kind, count_lines(path), lambda: _read_named(path, options, delimiter, header, columns)
        )
    if len(cells) < 2 or not _looks_like_image(cells[0], path.parent):
        # Not a path either: the error lists what the first row has.
        choose_columns(cells, options, place=f"{path}, line 1")
    escapes, notes = _decide_escapes(path, options) if delimiter == "\t" else (bool(options.escapes), ())
    return Source(
        path, kind, count_lines(path), lambda: _read_unnamed(path, options, delimiter, escapes), notes=notes
    )


def _is_header(cells: Sequence[str], options: ImportOptions) -> bool:
    """Whether the first row names the columns: one is asked for by name, or it has a usual name and no path."""
    if {options.image_column, options.text_column, options.group_column} != {None}:
        return True
    names = {cell.lower() for cell in cells}
    known = bool(_COLUMN_NAMES & names) or bool(names & _OTHER_IMAGES and names & _OTHER_TEXTS)
    return known and not Path(cells[0]).suffix


def _looks_like_image(cell: str, folder: Path) -> bool:
    suffix = Path(cell).suffix.lower()
    return (1 < len(suffix) <= 5 and suffix[1:].isalnum()) or resolve_image(folder, cell).is_file()


def _decide_escapes(path: Path, options: ImportOptions) -> tuple[bool, tuple[str, ...]]:
    """Whether texts are escaped, and a note that says so where a backslash is there at all."""
    if options.escapes is not None:
        return options.escapes, ()
    found = False
    for number, line in iterate_lines(path, options.encoding):
        text = line.partition("\t")[2]
        bad = first_bad_escape(text)
        if bad is not None:
            why = f"since line {number} has {bad}, which is no escape"
            return False, (f"{path.name}: backslashes are taken literally, {why} (--escapes reads them).",)
        found = found or "\\" in text
    note = f"{path.name}: \\n, \\t and \\\\ are read as escapes (--no-escapes takes them literally)."
    return True, (note,) if found else ()


def _csv_rows(path: Path, options: ImportOptions, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Line number of its start, and cells, of each row that is not blank."""
    position = [0]

    def lines() -> Iterator[str]:
        for number, line in iterate_lines(path, options.encoding):
            position[0] = number
            yield line + "\n"

    if options.quotes is False:
        rows = csv.reader(lines(), delimiter=delimiter, quoting=csv.QUOTE_NONE)
    else:
        rows = csv.reader(lines(), delimiter=delimiter, strict=True)
    while True:
        start = position[0] + 1
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            raise DataError(
                f"The quotes of a row do not match ({error}).",
                place=f"{path}, line {start}" + (f" to {position[0]}" if position[0] > start else ""),
                mend='Write a quote inside a quoted cell twice (""), or add --no-quotes if texts have them.',
            ) from error
        if any(cell.strip() for cell in row):
            yield start, row


def _read_named(
    path: Path, options: ImportOptions, delimiter: str, header: list[str], columns: ColumnNames
) -> Iterator[Candidate | Excluded]:
    index = {name.strip(): position for position, name in enumerate(header)}
    rows = _csv_rows(path, options, delimiter)
    next(rows)
    for number, row in rows:
        if len(row) > len(header):
            yield _too_many_cells(path, number, len(row), len(header), delimiter)
            continue
        cells: dict[str, str] = {name: row[at] if at < len(row) else "" for name, at in index.items()}
        text = cells[columns.text]
        yield _candidate(
            path,
            number,
            cells[columns.image].strip(),
            unescape(text) if options.escapes else text,
            id=cells.get(columns.id or "", ""),
            group=cells.get(columns.group or "", ""),
            prompt=cells.get(columns.prompt or "") or None,
            meta={name: cells[name] for name in columns.others if cells[name]},
        )


def _too_many_cells(path: Path, number: int, cells: int, expected: int, delimiter: str) -> Excluded:
    name = "tab" if delimiter == "\t" else "comma"
    return Excluded(
        reason="malformed",
        detail=f"The row has {cells} cells, the header {expected}: put quotes around cells that hold a {name}.",
        image_path="",
        source=str(path),
        line=number,
    )


def _read_unnamed(path: Path, options: ImportOptions, delimiter: str, escapes: bool) -> Iterator[Candidate]:
    if delimiter == "\t" and not options.quotes:
        for number, line in iterate_lines(path, options.encoding):
            written, _, text = line.partition("\t")
            if line.strip():
                yield _candidate(path, number, written.strip(), unescape(text) if escapes else text)
        return
    for number, row in _csv_rows(path, options, delimiter):
        text = delimiter.join(row[1:])
        yield _candidate(path, number, row[0].strip(), unescape(text) if escapes else text)


def _candidate(path: Path, number: int, written: str, text: str, **fields: Any) -> Candidate:
    image = resolve_image(path.parent, written) if written else None
    return Candidate(image=image, image_path=written, text=text, source=str(path), line=number, **fields)


CSV_FORMAT = Format(
    "csv",
    "CSV tables with a column of image paths and one of texts",
    lambda path, head: bool(head) and path.suffix.lower() == ".csv",
    lambda path, options: open_table(path, options, ","),
)
TSV_FORMAT = Format(
    "tsv",
    "TSV tables, with or without a header",
    lambda path, head: bool(head) and path.suffix.lower() in (".tsv", ".tab"),
    lambda path, options: open_table(path, options, "\t"),
)
