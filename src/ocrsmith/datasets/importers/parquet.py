"""Parquet files: images as paths, as bytes, or as Hugging Face image structs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ocrsmith.datasets.importers.arrow_rows import choose_typed_columns, read_batches, wanted_columns
from ocrsmith.datasets.importers.base import Candidate, Format, ImportOptions, Source
from ocrsmith.datasets.importers.lines import read_head
from ocrsmith.datasets.schema import FORMAT_NAME, MANIFEST_FILE
from ocrsmith.errors import DataError

_BATCH_BYTES = 8 << 20
_READ_BUFFER = 1 << 20


def open_parquet(files: Sequence[Path], options: ImportOptions, *, root: Path, kind: str = "parquet") -> Source:
    """One or many Parquet files, read one after the other, as one source.

    Raises:
        DataError: a file that is empty, truncated or not Parquet, or lacks a column.
    """
    rows = 0
    for path in files:
        with open_parquet_file(path) as file:
            choose_typed_columns(file.schema_arrow, options, place=str(path))
            rows += file.metadata.num_rows
    notes: tuple[str, ...] = ()
    if len({_split_of(path) for path in files}) > 1:
        notes = (f"{root}: its files are pooled and split anew.",)
    return Source(root, kind, rows, lambda: _read(files, options), notes=notes)


def open_parquet_file(path: Path) -> pq.ParquetFile:
    """Opens a Parquet file so that reading it in batches takes little memory, however large its row groups.

    Raises:
        DataError: it is missing, empty, truncated or no Parquet file.
    """
    read_head(path)
    try:
        return pq.ParquetFile(path, buffer_size=_READ_BUFFER, pre_buffer=False)
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(
            f"The Parquet file cannot be read: {reason}",
            place=str(path),
            mend="It is damaged or was not written to its end: copy or make it again.",
        ) from error


def _read(files: Sequence[Path], options: ImportOptions) -> Iterator[Candidate]:
    for path in files:
        with open_parquet_file(path) as file:
            columns = choose_typed_columns(file.schema_arrow, options, place=str(path))
            yield from read_batches(_batches(file, wanted_columns(columns), path), columns, options, path)


def _batches(file: pq.ParquetFile, columns: list[str], path: Path) -> Iterator[pa.RecordBatch]:
    batches = file.iter_batches(batch_size=_batch_rows(file.metadata), columns=columns, use_threads=False)
    while True:
        try:
            yield next(batches)
        except StopIteration:
            return
        except (pa.ArrowException, OSError) as error:
            raise DataError(
                f"The Parquet file is damaged: {str(error).splitlines()[0]}",
                place=str(path),
                mend="Copy or make it again.",
            ) from error


def _batch_rows(metadata: pq.FileMetaData) -> int:
    """Rows in a batch of about `_BATCH_BYTES`."""
    total = sum(metadata.row_group(index).total_byte_size for index in range(metadata.num_row_groups))
    row_bytes = max(1, total // max(1, metadata.num_rows))
    return max(1, min(1024, _BATCH_BYTES // row_bytes))


def _split_of(path: Path) -> str:
    return path.stem.split("-")[0]


def parquet_files(folder: Path) -> list[Path]:
    """The Parquet files of a dataset folder."""
    return sorted(folder.glob("*.parquet")) + sorted(folder.glob("data/**/*.parquet"))


def _is_own(folder: Path) -> bool:
    manifest = folder / MANIFEST_FILE
    return manifest.is_file() and FORMAT_NAME in manifest.read_text(encoding="utf-8", errors="replace")


def _open_folder(path: Path, options: ImportOptions, kind: str) -> Source:
    files = parquet_files(path) if path.is_dir() else [path]
    if not files:
        raise DataError("The folder holds no Parquet file.", place=str(path), mend="Name another folder.")
    return open_parquet(files, options, root=path, kind=kind)


DATASET_FORMAT = Format(
    "dataset",
    "dataset folders of ocrsmith",
    lambda path, head: not head and bool(parquet_files(path)) and _is_own(path),
    lambda path, options: _open_folder(path, options, "dataset"),
)
PARQUET_FORMAT = Format(
    "parquet",
    "Parquet files, or folders of them, with paths, encoded images or Hugging Face images",
    lambda path, head: (
        head.startswith(b"PAR1") or path.suffix.lower() == ".parquet" if head else bool(parquet_files(path))
    ),
    lambda path, options: _open_folder(path, options, "parquet"),
)
