"""JSON tables: JSON Lines, arrays of objects, or objects with such an array, with columns of any name.

Images are paths relative to the file, or `data:` URIs. Further columns go into the sample's meta.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ocrsmith.datasets.importers.base import Candidate, Format, ImportOptions, Source
from ocrsmith.datasets.importers.columns import ColumnNames, choose_columns
from ocrsmith.datasets.importers.json_images import ImageFolder, ImageValueError, find_folder
from ocrsmith.datasets.importers.json_stream import LINE_SUFFIXES, Item, JsonFile, first_object, open_json
from ocrsmith.datasets.importers.lines import unescape
from ocrsmith.errors import DataError
from ocrsmith.records import Excluded

_SUFFIXES = (".json", *LINE_SUFFIXES)


def recognises(path: Path, head: bytes) -> bool:
    """Any JSON of objects; the formats that are JSON too have to be asked first."""
    if not head:
        return False
    begins = head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] in (b"[", b"{")
    return (begins and path.suffix.lower() in _SUFFIXES) or first_object(path, head) is not None


def open_rows(path: Path, options: ImportOptions) -> Source:
    """The rows of a JSON file as a source.

    Raises:
        DataError: it is no JSON, or its rows have no image or text column; lists the columns that they have.
    """
    file = open_json(path, options.encoding)
    names = dict.fromkeys(name.strip() for item in file.head for name in item.value)
    columns = choose_columns(list(names), options, place=str(path))
    if options.text_column is None:
        _require_text(file, columns.text)
    images = find_folder(path.parent, (item.value.get(columns.image) for item in file.head))
    notes = images.note(path.name)
    return Source(path, "json", file.rows, lambda: _read(file, columns, images, options), notes=notes)


def _require_text(file: JsonFile, column: str) -> None:
    """A column that was found by its name must hold texts: `label` often is the number of a class."""
    values = [item.value[column] for item in file.head if item.value.get(column) is not None]
    if values and not any(isinstance(value, str) for value in values):
        names = ", ".join(repr(name) for name in file.head[0].value)
        raise DataError(
            f"The column {column!r} holds no texts, but e.g. {str(values[0])[:40]}. The columns are: {names}.",
            place=f"{file.path}, line {file.head[0].line}",
            mend="Say which column holds the text with --text-column NAME.",
        )


def _read(
    file: JsonFile, columns: ColumnNames, images: ImageFolder, options: ImportOptions
) -> Iterator[Candidate | Excluded]:
    for item in file.items():
        yield item if isinstance(item, Excluded) else _candidate(item, file.path, columns, images, options)


def _candidate(
    item: Item, path: Path, columns: ColumnNames, images: ImageFolder, options: ImportOptions
) -> Candidate | Excluded:
    row = {name.strip(): value for name, value in item.value.items()}
    try:
        if columns.text not in row:
            names = ", ".join(repr(name) for name in row) or "none"
            raise ImageValueError(f"The row has no {columns.text!r}; its columns are: {names}. Add it.")
        text = _text_of(row[columns.text], columns.text)
        image, written = images.read(row.get(columns.image))
    except ImageValueError as error:
        value = row.get(columns.image)
        shown = value if isinstance(value, str) and len(value) < 1000 else ""
        return Excluded(error.reason, str(error), shown, str(path), item.line)
    id_column, prompt_column = columns.id or "id", columns.prompt or "prompt"
    group_column = columns.group or "group"
    used = {columns.image, columns.text, id_column, prompt_column, group_column}
    return Candidate(
        image=image,
        image_path=written,
        text=unescape(text) if options.escapes else text,
        source=str(path),
        line=item.line,
        id=as_word(row.get(id_column)),
        group=as_word(row.get(group_column)),
        prompt=as_word(row.get(prompt_column)) or None,
        meta=meta_of({name: value for name, value in row.items() if name not in used}),
    )


def _text_of(value: Any, name: str) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    # The digits of 1.50 as written are lost by now.
    shown = str(value)[:60]
    raise ImageValueError(
        f"Its {name!r} is no text but {shown}: write it in quotes, as it stands in the image."
    )


def as_word(value: Any) -> str:
    """An id, group or prompt as text; nothing for what can be none."""
    return "" if value is None or isinstance(value, (dict, list, bool)) else str(value)


def meta_of(others: Mapping[str, Any]) -> dict[str, Any]:
    """The further columns of a row; an object under `meta`, as our own exports have it, is merged in."""
    meta = {name: value for name, value in others.items() if value is not None}
    inner = meta.get("meta")
    if isinstance(inner, dict):
        del meta["meta"]
        meta = {**inner, **meta}
    return meta


FORMAT = Format(
    "json",
    "JSON Lines or JSON lists of objects with an image and a text",
    recognises,
    open_rows,
)
