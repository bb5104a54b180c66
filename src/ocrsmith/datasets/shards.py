"""Parquet shards: written row group by row group, and the staging area that samples wait in for their split.

A sample's split is known only when the last one has been checked. So samples are first appended to staging
files, and then go through once more into the shards of their split. Each staging file is deleted when it is
used up: the disk never holds much more than the dataset once.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ocrsmith.datasets.schema import SCHEMA, to_batch
from ocrsmith.records import PageSample
from ocrsmith.settings.files import writing

ROW_GROUP_ROWS = 128
ROW_GROUP_BYTES = 4 << 20
"""A row group is the unit of random access: small enough to be read for one sample in a millisecond or two."""
SHARD_BYTES = 512 << 20
STAGING_BYTES = 128 << 20


class Staging:
    """Keeps samples on disk in their order, to be gone through once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: list[Path] = []
        self._stream: pa.RecordBatchStreamWriter | None = None
        self._sink: pa.NativeFile | None = None
        self._written = 0
        self._waiting: list[PageSample] = []
        self._waiting_bytes = 0

    def add(self, sample: PageSample) -> None:
        """Appends a sample."""
        self._waiting.append(sample)
        self._waiting_bytes += len(sample.image) + 4 * len(sample.text)
        if len(self._waiting) >= ROW_GROUP_ROWS or self._waiting_bytes >= ROW_GROUP_BYTES:
            self._flush()

    def drain(self) -> Iterator[pa.RecordBatch]:
        """All batches in order; each file is deleted after its last batch. Ends the staging."""
        if self._waiting:
            self._flush()
        self.close()
        for path in self._files:
            with writing(path):
                with pa.OSFile(str(path)) as file, pa.ipc.open_stream(file) as stream:
                    yield from stream
                path.unlink()

    def close(self) -> None:
        """Closes the file that is being written."""
        with writing(self._folder):
            if self._stream is not None:
                self._stream.close()
            if self._sink is not None:
                self._sink.close()
        self._stream = self._sink = None

    def _flush(self) -> None:
        batch, size = to_batch(self._waiting), self._waiting_bytes
        self._waiting, self._waiting_bytes = [], 0
        with writing(self._folder):
            if self._stream is None:
                path = self._folder / f"staging-{len(self._files):05d}.arrow"
                self._files.append(path)
                self._sink = pa.OSFile(str(path), "wb")
                self._stream = pa.ipc.new_stream(self._sink, SCHEMA)
                self._written = 0
            self._stream.write_batch(batch)
            self._written += size
        if self._written >= STAGING_BYTES:
            self.close()


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
