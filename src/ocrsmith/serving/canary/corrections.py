"""Reads corrections from files and finds the pages they are for: all are good, or none is taken.

    JSONL   {"id": "chatcmpl-…", "text": "the true text", "by": "…", "at": "…"}
            a line each; by and at may lack
    CSV     the same as columns; a column `reviewed`, as review queues have it, leaves out rows without a mark

`id` is the id of an answer (OpenAI's `id`), or the SHA-256 of the image file.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ocrsmith.errors import DataError, InputError
from ocrsmith.evaluation.mine.queue import LABELS
from ocrsmith.serving.canary.choice import PageKey
from ocrsmith.serving.canary.records import Correction
from ocrsmith.serving.canary.store import Store

MAX_FILE = 500_000_000
"""Bytes; a larger file is something else."""
LISTED = 10
REVIEWED = "reviewed"


@dataclass(frozen=True, slots=True)
class Given:
    """A correction as a file has it."""

    line: int
    """Where it begins, from 1."""
    id: str
    text: str
    by: str | None
    at: str | None


@dataclass(frozen=True, slots=True)
class Read:
    """What a file has."""

    given: Sequence[Given]
    unmarked: int
    """Rows of a review queue that nobody marked as reviewed."""


@dataclass(frozen=True, slots=True)
class Resolved:
    """Corrections, each for a page of the store."""

    corrections: Sequence[Correction]
    not_kept: int
    """Of pages whose answers were not kept: there is nothing to hold their texts against."""
    unmarked: int


def load_corrections(store: Store, path: Path) -> Resolved:
    """The corrections of a file, or of a review queue's folder, for a store. Nothing is written.

    Raises:
        InputError: no such file.
        DataError: lines that cannot be read, or name no page of the store; lists them.
    """
    file = path / LABELS if path.is_dir() else path
    read = read_corrections(file)
    keys = store.keys_of([item.id for item in read.given])
    kept = store.keys_with_text()
    found: dict[PageKey, tuple[Given, Correction]] = {}
    wrong: list[str] = []
    not_kept = 0
    for item in read.given:
        pages = keys.get(item.id, set())
        if len(pages) != 1:
            why = (
                "no request or page of this store" if not pages else "read with several prompts: give a request"
            )
            wrong.append(f"line {item.line}: {item.id!r} is {why}")
            continue
        key = next(iter(pages))
        earlier = found.get(key)
        if earlier is not None and earlier[0].text.strip() != item.text.strip():
            wrong.append(f"line {item.line}: {item.id!r} has another text than in line {earlier[0].line}")
        elif key not in kept:
            not_kept += 1
        else:
            found[key] = (item, Correction(key, item.text.strip(), item.by, item.at))
    _refuse(wrong, file)
    return Resolved([correction for _, correction in found.values()], not_kept, read.unmarked)


def read_corrections(file: Path) -> Read:
    """Reads a file of corrections; by its name CSV or JSONL. Raises as `load_corrections`."""
    if not file.is_file():
        raise InputError("There is no such file of corrections.", place=str(file), mend="Correct the path.")
    if file.stat().st_size > MAX_FILE:
        raise DataError("This is too large to be a file of corrections.", place=str(file), mend="Split it.")
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        problem = f"Byte {error.start + 1} is not UTF-8."
        raise DataError(problem, place=str(file), mend="Save the file as UTF-8.") from error
    rows = _csv_rows(text, file) if file.suffix.lower() == ".csv" else _json_rows(text)
    given: list[Given] = []
    wrong: list[str] = []
    unmarked = 0
    for line, row in rows:
        if isinstance(row, dict) and not str(row.get(REVIEWED, "x") or "").strip():
            unmarked += 1
            continue
        made = _given(line, row)
        if isinstance(made, str):
            wrong.append(f"line {line}: {made}")
        else:
            given.append(made)
    _refuse(wrong, file)
    return Read(given, unmarked)


def _given(line: int, row: Any) -> Given | str:
    """A correction, or what is wrong with it."""
    if isinstance(row, str):
        return row
    if not isinstance(row, dict):
        return "not a JSON object"
    number, text, by, at = (row.get(name) for name in ("id", "text", "by", "at"))
    for name, value in (("id", number), ("text", text)):
        if not isinstance(value, str):
            return f"{name} is missing" if value is None else f"{name} is no string"
    if not (isinstance(by, str | None) and isinstance(at, str | None)):
        return "by or at is no string"
    if not (written := str(number).strip()):
        return "id is empty"
    return Given(line, written, str(text), by or None, at or None)


def _json_rows(text: str) -> Iterator[tuple[int, Any]]:
    for line, written in enumerate(text.split("\n"), start=1):
        if written.strip():
            try:
                yield line, json.loads(written)
            except (ValueError, RecursionError):
                yield line, "not JSON"


def _csv_rows(text: str, file: Path) -> Iterator[tuple[int, Any]]:
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    csv.field_size_limit(MAX_FILE)
    line = 2
    try:
        missing = [name for name in ("id", "text") if name not in (reader.fieldnames or ())]
        if missing:
            columns = ", ".join(reader.fieldnames or ()) or "nothing"
            problem = f"The table has no column {' and no column '.join(missing)}; it has {columns}."
            raise DataError(problem, place=f"{file}, line 1", mend="Name the columns id and text.")
        for row in reader:
            yield line, {name: value for name, value in row.items() if name is not None}
            line = reader.line_num + 1
    except csv.Error as error:
        mend = "Save it as CSV with commas and double quotes."
        raise DataError(
            f"The table cannot be read: {error}.", place=f"{file}, line {line}", mend=mend
        ) from error


def _refuse(wrong: Sequence[str], file: Path) -> None:
    if not wrong:
        return
    shown = "\n".join(f"  {text}" for text in wrong[:LISTED])
    more = f"\n  … and {len(wrong) - LISTED:,} more" if len(wrong) > LISTED else ""
    count = "1 line" if len(wrong) == 1 else f"{len(wrong):,} lines"
    mend = "Correct or remove them: nothing was taken."
    raise DataError(f"{count} cannot be used:\n{shown}{more}", place=str(file), mend=mend)
