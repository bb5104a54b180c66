"""Rows of Arrow tables as candidates: shared by the Parquet and the saved-dataset importer."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.types as types

from ocrsmith.datasets.importers.base import Candidate, ImportOptions, resolve_image
from ocrsmith.datasets.importers.columns import TEXT_NAMES, ColumnNames, choose_columns
from ocrsmith.datasets.importers.lines import unescape
from ocrsmith.errors import DataError


def choose_typed_columns(schema: pa.Schema, options: ImportOptions, *, place: str) -> ColumnNames:
    """As `choose_columns`, and checks that images and texts have a type that can be one.

    Columns that hold bytes are not kept in `meta`.

    Raises:
        DataError: a column is missing or of another type; the message says which types there are.
    """
    columns = choose_columns(schema.names, options, place=place)
    image, text = schema.field(columns.image).type, schema.field(columns.text).type
    if not (_is_string(image) or _is_bytes(image) or _is_image_struct(image)):
        raise DataError(
            f"The image column {columns.image!r} holds {image}.",
            place=place,
            mend="It has to hold paths (string), encoded image files (binary) or Hugging Face images "
            "(struct of bytes and path). Name another column with --image-column NAME.",
        )
    guessed = options.text_column is None and columns.text.lower() not in TEXT_NAMES
    if types.is_nested(text) or _is_bytes(text) or (guessed and not _is_string(text)):  # a class's number, say
        raise DataError(
            f"The text column {columns.text!r} holds {text}, not text.",
            place=place,
            mend="Name another column with --text-column NAME.",
        )
    others = tuple(name for name in columns.others if not _holds_bytes(schema.field(name).type))
    return ColumnNames(columns.image, columns.text, columns.id, columns.group, columns.prompt, others)


def wanted_columns(columns: ColumnNames) -> list[str]:
    """The columns to read."""
    named = (columns.image, columns.text, columns.id, columns.group, columns.prompt, *columns.others)
    return [name for name in named if name is not None]


def read_batches(
    batches: Iterable[pa.RecordBatch],
    columns: ColumnNames,
    options: ImportOptions,
    path: Path,
    first_row: int = 1,
) -> Iterator[Candidate]:
    """The rows of the record batches of a file; relative image paths start at the folder of `path`."""
    number = 1
    wanted = wanted_columns(columns)
    for batch in batches:
        for row in batch.select(wanted).to_pylist():
            yield _candidate(row, columns, options, path, number)
            number += 1


def _candidate(
    row: Mapping[str, Any], columns: ColumnNames, options: ImportOptions, path: Path, number: int
) -> Candidate:
    image, written = _image_of(row[columns.image], path.parent)
    text = row[columns.text]
    if text is not None and not isinstance(text, str):
        text = str(text)
    return Candidate(
        image=image,
        image_path=written,
        text=unescape(text) if text and options.escapes else text,
        source=str(path),
        line=number,
        id=_as_text(row, columns.id),
        group=_as_text(row, columns.group),
        prompt=_as_text(row, columns.prompt) or None,
        meta=_meta_of(row, columns.others),
    )


def _image_of(value: Any, folder: Path) -> tuple[bytes | Path | None, str]:
    """Image and path of a cell: a struct of bytes and path, bytes, a path or nothing."""
    if isinstance(value, Mapping):
        written = value.get("path") or ""
        if value.get("bytes"):
            return value["bytes"], written
        return (resolve_image(folder, written) if written else None), written
    if isinstance(value, bytes):
        return value or None, ""
    if isinstance(value, str) and value:
        return resolve_image(folder, value), value
    return None, ""


def _as_text(row: Mapping[str, Any], name: str | None) -> str:
    value = row[name] if name is not None else None
    return "" if value is None else str(value)


def _meta_of(row: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """The other columns; a column `meta` with a JSON object as text (as in our own datasets) is merged in."""
    meta: dict[str, Any] = {}
    for name in names:
        value = row[name]
        if value is None:
            continue
        if name == "meta" and isinstance(value, str):
            try:
                parsed = json.loads(value)
            except ValueError:
                parsed = None
            if isinstance(parsed, dict):
                meta.update(parsed)
                continue
        meta.setdefault(name, _jsonable(value))
    return meta


def _jsonable(value: Any) -> Any:
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        # JSON knows no NaN.
        return value if value - value == 0 else str(value)
    if isinstance(value, Mapping):
        return {str(key): _jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_jsonable(item) for item in value]
    return str(value)


def _is_string(kind: pa.DataType) -> bool:
    if types.is_dictionary(kind):
        kind = kind.value_type
    return types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(
        types.is_binary(kind)
        or types.is_large_binary(kind)
        or types.is_binary_view(kind)
        or types.is_fixed_size_binary(kind)
    )


def _is_image_struct(kind: pa.DataType) -> bool:
    return types.is_struct(kind) and bool({"bytes", "path"} & {field.name for field in kind})


def _holds_bytes(kind: pa.DataType) -> bool:
    if types.is_dictionary(kind):
        return _holds_bytes(kind.value_type)
    if types.is_nested(kind):
        return any(_holds_bytes(kind.field(index).type) for index in range(kind.num_fields))
    return _is_bytes(kind)
