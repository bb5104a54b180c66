"""Parquet shards, written row group by row group: one file for a split, or several of about `SHARD_BYTES`."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ocrsmith.datasets.schema import SCHEMA
from ocrsmith.settings.files import writing

ROW_GROUP_ROWS = 128
ROW_GROUP_BYTES = 4 << 20
"""A row group is the unit of random access: small enough to be read for one sample in a millisecond or two."""
SHARD_BYTES = 512 << 20


class ShardWriter:
    """Writes the rows of one split into one Parquet file, or into several of about `SHARD_BYTES`."""

    def __init__(self, folder: Path, name: str, *, single_file: bool) -> None:
        self._folder = folder
        self._name = name
        self._single = single_file
        self._waiting: list[pa.RecordBatch] = []
        self._waiting_rows = 0
        self._waiting_bytes = 0
        self._writer: pq.ParquetWriter | None = None
        self._parts: list[Path] = []
        self._written = 0
        self.rows = 0
        self.files: list[Path] = []
        """Final names, known after `close`."""

    def add(self, batch: pa.RecordBatch) -> None:
        """Appends rows in `SCHEMA`; a full row group is written at once."""
        self.rows += batch.num_rows
        self._waiting.append(batch)
        self._waiting_rows += batch.num_rows
        self._waiting_bytes += batch.nbytes
        if self._waiting_rows >= ROW_GROUP_ROWS or self._waiting_bytes >= ROW_GROUP_BYTES:
            self._flush()

    def close(self) -> None:
        """Writes what is left and gives the files their final names. A split without rows gets an empty one."""
        if self._waiting or not self._parts:
            self._flush()
        self._end_part()
        with writing(self._folder):
            for index, part in enumerate(self._parts):
                suffix = "" if self._single else f"-{index:05d}-of-{len(self._parts):05d}"
                self.files.append(part.rename(self._folder / f"{self._name}{suffix}.parquet"))

    def abort(self) -> None:
        """Lets go of the file without finishing the work."""
        with suppress(OSError):
            if self._writer is not None:
                self._writer.close()
        self._writer = None

    def _flush(self) -> None:
        with writing(self._folder):
            if self._writer is None:
                path = self._folder / f".{self._name}.part-{len(self._parts):05d}"
                self._parts.append(path)
                self._writer = _open_writer(path)
                self._written = 0
            if self._waiting:
                table = pa.Table.from_batches(self._waiting, schema=SCHEMA)
                self._writer.write_table(table, row_group_size=table.num_rows)
        self._written += self._waiting_bytes
        self._waiting, self._waiting_rows, self._waiting_bytes = [], 0, 0
        if not self._single and self._written >= SHARD_BYTES:
            self._end_part()

    def _end_part(self) -> None:
        if self._writer is not None:
            with writing(self._folder):
                self._writer.close()
            self._writer = None


def _open_writer(path: Path) -> pq.ParquetWriter:
    """Images are compressed already, and are no dictionary: both would only cost time."""
    texts = [name for name in SCHEMA.names if name != "image"]
    return pq.ParquetWriter(
        path,
        SCHEMA,
        compression={**dict.fromkeys(texts, "zstd"), "image.bytes": "none", "image.path": "zstd"},
        use_dictionary=["group", "source", "prompt"],
        write_statistics=["id", "group", "source"],
        store_schema=True,
    )
