"""Tables in the manner of PubTabNet and FinTabNet: JSON Lines with the tokens of an HTML table.

The text is `<table><tr><td>…</td></tr></table>` with `colspan` and `rowspan` as they are. `<thead>` and
`<tbody>` are left out, as the model writes tables without them. In cells `<sup>` and `<sub>` are kept, as they
change the meaning; other tags (bold, italic …) are dropped, what they hold stays. `&`, `<` and `>` are written
as entities.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path
from typing import Any

from ocrsmith.datasets.importers.base import Candidate, Format, ImportOptions, Source, resolve_image
from ocrsmith.datasets.importers.json_stream import Item, first_object, open_json
from ocrsmith.errors import DataError
from ocrsmith.records import Excluded

_SPAN = re.compile(r'\s*((?:col|row)span)\s*=\s*"?\s*(\d{1,4})\s*"?\s*')
_DROPPED = ("<thead>", "</thead>", "<tbody>", "</tbody>", "<table>", "</table>")
_ENDS = ("</td>", "</th>")
_TAG = re.compile(r"</?([a-zA-Z][a-zA-Z0-9]*)[^<>]*>")
_KEPT_TAGS = ("sup", "sub")


class TableError(Exception):
    """Tokens that are no table; the message says why."""


def recognises(path: Path, head: bytes) -> bool:
    """JSON whose first item has a file name and the structure of a table."""
    first = first_object(path, head, ()) if head else None
    return first is not None and isinstance(first.get("filename"), str) and _structure(first) is not None


def open_pubtabnet(path: Path, options: ImportOptions) -> Source:
    """The tables of a file as a source; images lie in a folder named after their split, or beside the file.

    Raises:
        DataError: it is no JSON, or none of its first items is a table.
    """
    file = open_json(path, options.encoding, ())
    if not any(_structure(item.value) for item in file.head):
        names = ", ".join(repr(name) for name in file.head[0].value)
        raise DataError(
            f"The items have no html.structure.tokens, but: {names}.",
            place=f"{path}, line {file.head[0].line}",
            mend="Name another format with --format.",
        )
    splits = {item.value.get("split") for item in file.head} - {None}
    notes = (f"{path.name}: its splits are pooled and split anew.",) if splits else ()

    def read() -> Iterator[Candidate | Excluded]:
        for item in file.items():
            yield item if isinstance(item, Excluded) else _candidate(item, path)

    return Source(path, "pubtabnet", file.rows, read, notes=notes)


def table_html(structure: list[Any], cells: list[Any]) -> str:
    """The HTML of a table.

    Args:
        structure: tags in their order, a cell with spans in parts: `<td`, ` colspan="2"`, `>`, `</td>`.
        cells: for each cell in the order of the structure an object with `tokens`: characters and tags.

    Raises:
        TableError: an unknown token, or another number of cells than the structure has.
    """
    parts = ["<table>"]
    waiting = iter(cells)
    used = 0
    for token in structure:
        if token in _ENDS:
            used += 1
            cell = next(waiting, None)
            if cell is not None:
                parts.append(_cell_html(cell, used))
        parts.append(_structure_html(token))
    if used != len(cells):
        raise TableError(f"The structure has {used} cells, but there are {len(cells)}: correct the row.")
    html = "".join([*parts, "</table>"])
    for opened, closed in (("<tr>", "</tr>"), ("<td", "</td>"), ("<th", "</th>")):
        if html.count(opened) != html.count(closed):
            raise TableError(
                f"The structure has {html.count(opened)} {opened} and {html.count(closed)} {closed}."
            )
    return html


def _structure_html(token: Any) -> str:
    if token in _DROPPED:
        return ""
    if token in ("<tr>", "</tr>", "<td>", "<td", "<th>", "<th", ">", *_ENDS):
        return str(token)
    match = _SPAN.fullmatch(token) if isinstance(token, str) else None
    if match is None:
        raise TableError(f"The structure has the unknown token {token!r}: correct the row.")
    return f' {match[1]}="{match[2]}"'


def _cell_html(cell: Any, number: int) -> str:
    tokens = cell.get("tokens") if isinstance(cell, Mapping) else None
    if not isinstance(tokens, list) or not all(isinstance(token, str) for token in tokens):
        raise TableError(f"Cell {number} has no list of tokens: correct the row.")
    parts = []
    for token in tokens:
        tag = _TAG.fullmatch(token) if len(token) > 1 else None
        if tag is None:
            parts.append(escape(token, quote=False))
        elif tag[1].lower() in _KEPT_TAGS:
            parts.append(token)
    return "".join(parts).strip()


def _candidate(item: Item, path: Path) -> Candidate | Excluded:
    row = item.value
    written = row.get("filename")
    structure = _structure(row)
    if not isinstance(written, str) or not written:
        return Excluded("missing", "The row has no 'filename': add it.", "", str(path), item.line)
    if structure is None:
        detail = "The row has no html.structure.tokens, so its table is not known (as in the test split)."
        return Excluded("empty_text", detail, written, str(path), item.line)
    cells = row["html"].get("cells")
    cells = cells if isinstance(cells, list) else []
    try:
        html = table_html(structure, cells)
    except TableError as error:
        return Excluded("malformed", str(error), written, str(path), item.line)
    split = row.get("split")
    meta = {"split": split, "imgid": row.get("imgid")}
    return Candidate(
        image=_find_image(path.parent, written, split),
        image_path=written,
        text=html if any(_has_text(cell) for cell in cells) else "",
        source=str(path),
        line=item.line,
        meta={name: value for name, value in meta.items() if isinstance(value, (str, int))},
    )


def _find_image(folder: Path, written: str, split: Any) -> Path:
    in_split = resolve_image(folder / split, written) if isinstance(split, str) and split else None
    beside = resolve_image(folder, written)
    if in_split is not None and (in_split.is_file() or not beside.is_file()):
        return in_split
    return beside


def _has_text(cell: Mapping[str, Any]) -> bool:
    return any(not _TAG.fullmatch(token) and token.strip() for token in cell["tokens"])


def _structure(row: Mapping[str, Any]) -> list[Any] | None:
    html = row.get("html")
    structure = html.get("structure") if isinstance(html, dict) else None
    tokens = structure.get("tokens") if isinstance(structure, dict) else None
    return tokens if isinstance(tokens, list) else None


FORMAT = Format("pubtabnet", "tables in the manner of PubTabNet (JSON Lines)", recognises, open_pubtabnet)
