"""Folders written by `save_to_disk` of Hugging Face `datasets`: Arrow streams, read without that package."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from ocrsmith.datasets.importers.arrow_rows import choose_typed_columns, read_batches
from ocrsmith.datasets.importers.base import Candidate, Format, ImportOptions, Source
from ocrsmith.datasets.importers.lines import read_head
from ocrsmith.errors import DataError

STATE_FILE = "state.json"
DICT_FILE = "dataset_dict.json"


def is_saved_folder(folder: Path) -> bool:
    """Whether `save_to_disk` wrote the folder: one dataset, or a dictionary of splits."""
    return (folder / STATE_FILE).is_file() or (folder / DICT_FILE).is_file()


def open_saved(folder: Path, options: ImportOptions) -> Source:
    """All splits of a saved dataset as one source.

    Raises:
        DataError: a file is missing or damaged, or a column is not there.
    """
    parts = [folder]
    notes: tuple[str, ...] = ()
    if (folder / DICT_FILE).is_file():
        parts = [folder / str(name) for name in _read_json(folder / DICT_FILE).get("splits", [])]
        if len(parts) > 1:
            notes = (
                f"{folder}: its splits ({', '.join(part.name for part in parts)}) are pooled and split anew.",
            )
    files = [file for part in parts for file in _files_of(part)]
    for path in files:
        with _open_stream(path) as stream:
            choose_typed_columns(stream.schema, options, place=str(path))
    return Source(folder, "saved", None, lambda: _read(files, options), notes=notes)


def _files_of(part: Path) -> list[Path]:
    state = part / STATE_FILE
    try:
        return [part / str(entry["filename"]) for entry in _read_json(state)["_data_files"]]
    except (KeyError, TypeError) as error:
        raise DataError(
            "The file does not name its Arrow files.",
            place=str(state),
            mend="Save the dataset again with save_to_disk.",
        ) from error


def _read(files: Sequence[Path], options: ImportOptions) -> Iterator[Candidate]:
    for path in files:
        with _open_stream(path) as stream:
            columns = choose_typed_columns(stream.schema, options, place=str(path))
            yield from read_batches(_batches(stream, path), columns, options, path)


def _open_stream(path: Path) -> pa.RecordBatchStreamReader:
    read_head(path)
    try:
        # Read, not mapped: mapped pages would count as memory of the process.
        return pa.ipc.open_stream(pa.OSFile(str(path)))
    except (pa.ArrowException, OSError) as error:
        raise _damaged(path, error) from error


def _batches(stream: pa.RecordBatchStreamReader, path: Path) -> Iterator[pa.RecordBatch]:
    while True:
        try:
            yield stream.read_next_batch()
        except StopIteration:
            return
        except (pa.ArrowException, OSError) as error:
            raise _damaged(path, error) from error


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise DataError(
            f"The file of a saved dataset cannot be read: {error}.",
            place=str(path),
            mend="Save the dataset again with save_to_disk.",
        ) from error
    if not isinstance(value, dict):
        raise DataError("The file holds no JSON object.", place=str(path), mend="Save the dataset again.")
    return value


def _damaged(path: Path, error: Exception) -> DataError:
    return DataError(
        f"The Arrow file cannot be read: {str(error).splitlines()[0]}",
        place=str(path),
        mend="It is damaged or was not written to its end: save the dataset again with save_to_disk.",
    )


FORMAT = Format(
    "saved",
    "folders that `save_to_disk` of Hugging Face datasets wrote",
    lambda path, head: not head and is_saved_folder(path),
    open_saved,
)
