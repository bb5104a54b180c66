"""Files of predictions made elsewhere, a row at a time: JSONL, CSV, TSV, parquet, or a folder of `ID.txt`.

A row that cannot be used comes back with its problem; a file that cannot be used at all is a `DataError`.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ocrsmith.errors import DataError

TEXT_COLUMNS = ("prediction", "text")
"""Names under which the text is looked for, the first that is there wins."""
MAX_TEXT_BYTES = 16 * 2**20
"""Longest line or text file; no page is so long."""
KINDS = ".jsonl, .ndjson, .csv, .tsv, .parquet or a folder of ID.txt"
_BATCH = 256


@dataclass(frozen=True, slots=True)
class Row:
    """One prediction, or why there is none."""

    line: int | None
    """1-based, as an editor counts; rows of a parquet file from 1; None for files of a folder."""
    id: str | None
    text: str | None = None
    finish: str | None = None
    """The finish reason, where the file says it."""
    problem: str | None = None
    """Why the row cannot be used."""


def iter_rows(path: Path, *, id_column: str = "id", text_column: str | None = None) -> Iterator[Row]:
    """All rows of a file or folder of predictions, in its order.

    Args:
        path: kind by suffix, see `KINDS`.
        id_column: name of the column or key with the page's id.
        text_column: that of the text; None takes the first of `TEXT_COLUMNS` that is there.

    Raises:
        DataError: missing, of another kind, damaged, or without these columns.
    """
    try:
        if path.is_dir():
            yield from _folder(path)
            return
        if not path.is_file():
            raise DataError("There is no such file of predictions.", place=str(path), mend="Check the path.")
        suffix = path.suffix.lower()
        if suffix in (".jsonl", ".ndjson"):
            yield from _jsonl(path, id_column, text_column)
        elif suffix in (".csv", ".tsv"):
            yield from _table(path, "\t" if suffix == ".tsv" else ",", id_column, text_column)
        elif suffix == ".parquet":
            yield from _parquet(path, id_column, text_column)
        else:
            raise DataError(
                f"A file of predictions cannot be a {suffix or 'file without suffix'}.",
                place=str(path),
                mend=f"Give {KINDS}.",
            )
    except OSError as error:
        raise DataError(f"The predictions cannot be read ({error}).", place=str(path)) from error


def _jsonl(path: Path, id_column: str, text_column: str | None) -> Iterator[Row]:
    with path.open("rb") as file:
        for number, (line, whole) in enumerate(_lines(file), 1):
            if not whole:
                yield Row(number, None, problem=f"longer than {MAX_TEXT_BYTES:,} bytes")
            elif line.strip():
                yield _json_row(number, line.removeprefix(b"\xef\xbb\xbf"), id_column, text_column)


def _lines(file: Any) -> Iterator[tuple[bytes, bool]]:
    """Lines, and whether they are whole; of one that is too long, only the beginning is kept."""
    while line := file.readline(MAX_TEXT_BYTES):
        whole = line.endswith(b"\n") or len(line) < MAX_TEXT_BYTES
        rest = line
        while not rest.endswith(b"\n") and rest:
            rest = file.readline(MAX_TEXT_BYTES)
        yield line, whole


def _json_row(number: int, line: bytes, id_column: str, text_column: str | None) -> Row:
    try:
        value = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        return Row(number, None, problem=f"not a JSON object in UTF-8 ({type(error).__name__})")
    if not isinstance(value, dict):
        return Row(number, None, problem=f"{_type(value)}, not a JSON object")
    if id_column not in value:
        return Row(number, None, problem=f"has no {id_column!r}")
    name = text_column or next((column for column in TEXT_COLUMNS if column in value), TEXT_COLUMNS[0])
    if name not in value:
        return _row(number, value[id_column], None, None, f"has no {name!r}")
    return _row(number, value[id_column], value[name], value.get("finish_reason"))


def _row(number: int | None, id_: object, text: object, finish: object, problem: str | None = None) -> Row:
    """A row of values of any type."""
    if isinstance(id_, int) and not isinstance(id_, bool) and abs(id_) < 10**18:
        id_ = str(id_)
    if not isinstance(id_, str) or not id_:
        return Row(number, None, problem=f"the id is {_type(id_)}, not a name")
    if problem is None and not isinstance(text, str):
        problem = f"the text is {_type(text)}"
    known = finish if isinstance(finish, str) else None
    return Row(
        number, _clean(id_), _clean(text) if isinstance(text, str) and not problem else None, known, problem
    )


def _type(value: object) -> str:
    if value is None or value == "":
        return "empty"
    names = {bool: "true or false", int: "a number", float: "a number", list: "a list", dict: "an object"}
    return names.get(type(value), f"of type {type(value).__name__}")


def _clean(text: str) -> str:
    """The text without half surrogate pairs, which are legal in JSON but no text."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _table(path: Path, delimiter: str, id_column: str, text_column: str | None) -> Iterator[Row]:
    csv.field_size_limit(max(csv.field_size_limit(), MAX_TEXT_BYTES))
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, delimiter=delimiter, strict=True)
        try:
            header = next(reader, [])
            names = _columns(path, header, id_column, text_column)
            places = [header.index(name) if name in header else None for name in names]
            for fields in reader:
                if fields:
                    yield _fields_row(reader.line_num, fields, len(header), places)
        except UnicodeDecodeError as error:
            raise DataError(
                "The predictions are not UTF-8.",
                place=f"{path}, after line {reader.line_num}",
                mend="Convert them.",
            ) from error
        except csv.Error as error:
            raise DataError(
                f"The table is damaged ({error}).",
                place=f"{path}, line {reader.line_num}",
                mend="Put fields with quotes or line breaks in quotes, and double the quotes in them.",
            ) from error


def _fields_row(line: int, fields: Sequence[str], width: int, places: Sequence[int | None]) -> Row:
    id_, text, finish = (
        fields[place] if place is not None and place < len(fields) else None for place in places
    )
    if len(fields) != width:
        return _row(line, id_, None, None, f"has {len(fields)} fields, the header {width}")
    return _row(line, id_, text, finish)


def _columns(path: Path, there: Sequence[str], id_column: str, text_column: str | None) -> tuple[str, str, str]:
    """Names of the columns with id, text and finish reason. Raises DataError."""
    text = text_column or next((name for name in TEXT_COLUMNS if name in there), " or ".join(TEXT_COLUMNS))
    for name, option in ((id_column, "id_column"), (text, "text_column")):
        if there.count(name) != 1:
            what = "has no column" if name not in there else "has more than one column"
            raise DataError(
                f"The file {what} {name}; it has {', '.join(map(repr, there[:20])) or 'none'}.",
                place=str(path),
                mend=f"Name the column with {option}.",
            )
    return id_column, text, "finish_reason"


def _parquet(path: Path, id_column: str, text_column: str | None) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        with pq.ParquetFile(path) as file:
            there = file.schema_arrow.names
            names = _columns(path, there, id_column, text_column)
            wanted = [name for name in names if name in there]
            for batch in file.iter_batches(_BATCH, columns=wanted):
                columns = [
                    batch.column(name).to_pylist() if name in wanted else [None] * batch.num_rows
                    for name in names
                ]
                for values in zip(*columns, strict=True):
                    number += 1
                    yield _row(number, *values)
    except (pa.ArrowException, UnicodeDecodeError) as error:
        detail = " ".join(str(error).split())[:200]
        raise DataError(
            f"The parquet file is damaged ({detail}).",
            place=f"{path}, after row {number}",
            mend="Write it again.",
        ) from error


def _folder(path: Path) -> Iterator[Row]:
    """`ID.txt` at any depth: the id of `a/b.txt` is `a/b`. Links that lead out are not followed."""
    root = path.resolve()
    for folder, folders, names in os.walk(path):
        folders.sort()
        files = (Path(folder, name) for name in sorted(names) if name.endswith(".txt"))
        yield from _texts(root, path, files)


def _texts(root: Path, path: Path, files: Iterable[Path]) -> Iterator[Row]:
    for file in files:
        id_ = _clean(file.relative_to(path).as_posix().removesuffix(".txt"))
        try:
            if not file.resolve().is_relative_to(root) or not file.is_file():
                yield Row(None, id_, problem=f"{file.name} is not a file of this folder")
            elif file.stat().st_size > MAX_TEXT_BYTES:
                yield Row(None, id_, problem=f"{file.name} is longer than {MAX_TEXT_BYTES:,} bytes")
            else:
                yield Row(None, id_, text=file.read_bytes().decode("utf-8-sig"))
        except (OSError, ValueError) as error:
            yield Row(None, id_, problem=f"{file.name} cannot be read ({type(error).__name__})")
