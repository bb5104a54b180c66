"""Where samples wait for their split, and where a build that was stopped goes on.

A sample's split is known only when the last one has been checked. So samples are first appended to staging
files (Arrow streams), and then go through once more into the shards of their split. A staging file that is full
is closed, and an index is written beside it: what the build remembers of its samples, and how far the sources
had been read. File and index together are a checkpoint. A file without its index is what was being written when
the build was stopped, and counts for nothing.

Batches are cut by rows and bytes alone, and files end where batches end. So a build that went on has the
batches, and the shards, of one that was never stopped.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import pyarrow as pa

from ocrsmith.datasets.schema import SCHEMA, from_row, to_batch
from ocrsmith.datasets.traits import Traits
from ocrsmith.records import PageSample
from ocrsmith.settings.files import write_file, writing

BATCH_ROWS = 128
BATCH_BYTES = 4 << 20

FILE_BYTES = 64 << 20
FILE_ROWS = 8192
FILE_SECONDS = 10.0
"""A staging file ends after the batch that reaches one of these: so much is done again after a crash."""

_TYPES = {"str": pa.string(), "bytes": pa.binary(), "int": pa.uint64(), "float": pa.float64()}


@dataclass(frozen=True, slots=True)
class Facts:
    """What a build remembers of a sample while the others come: no image and no text."""

    id: str
    """As the source has it: not yet made unique."""
    group: str
    path: str
    """Of its image, as the source has it."""
    origin: str
    """What was imported: the file or folder that was named as a source."""
    width: int
    height: int
    """In pixels, upright."""
    digest: bytes
    """From `content_hash.sample_digest`."""
    traits: Traits


_OWN = [item.name for item in fields(Facts) if item.name != "traits"]


@dataclass(frozen=True, slots=True)
class Position:
    """How far the sources had been read when a staging file was closed."""

    candidates: int = 0
    """Items of the sources that are done with, left-out ones included."""
    ledger_bytes: int = 0
    complete: bool = False
    """The sources have been read to their end, or as far as was wanted."""


class Staging:
    """The samples of a build on disk, in their order.

    Takes up the checkpoints that an earlier build left in the folder; what came after the last one is deleted.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.position = Position()
        """Of the last checkpoint."""
        self.rows = 0
        """Samples up to the last checkpoint."""
        self.bytes = 0
        """Bytes of the staging files up to the last checkpoint."""
        self._closed = 0
        self._sink: pa.NativeFile | None = None
        self._stream: pa.RecordBatchStreamWriter | None = None
        self._waiting: list[PageSample] = []
        self._waiting_bytes = 0
        self._facts: list[Facts] = []
        self._file_bytes = 0
        self._since = time.monotonic()
        with writing(folder):
            while self._take_up(self._closed):
                self._closed += 1
            self._delete_rest()

    @staticmethod
    def count(folder: Path) -> int:
        """Samples up to the last checkpoint that a build left in `folder`."""
        rows = number = 0
        with suppress(pa.ArrowException, OSError, ValueError, KeyError):
            while (path := _index(folder, number)).is_file():
                rows += _read_state(path)[1]
                number += 1
        return rows

    def facts(self) -> Iterator[Facts]:
        """Of all samples up to the last checkpoint."""
        for number in range(self._closed):
            yield from _read_facts(_index(self.folder, number))

    def add(self, sample: PageSample, facts: Facts) -> None:
        """Appends a sample."""
        self._waiting.append(sample)
        self._facts.append(facts)
        self._waiting_bytes += len(sample.image) + 4 * len(sample.text)
        if len(self._waiting) >= BATCH_ROWS or self._waiting_bytes >= BATCH_BYTES:
            self._flush()

    @property
    def due(self) -> bool:
        """Whether it is time for a checkpoint: a batch has just been written, and the file is large or old."""
        return (
            not self._waiting
            and bool(self._facts)
            and (
                self._file_bytes >= FILE_BYTES
                or len(self._facts) >= FILE_ROWS
                or time.monotonic() - self._since >= FILE_SECONDS
            )
        )

    def checkpoint(self, position: Position) -> None:
        """Closes the file that is being written; from here a later build can go on."""
        if self._waiting:
            self._flush()
        self.close()
        path = _file(self.folder, self._closed)
        with writing(self.folder):
            size = path.stat().st_size if self._facts else 0
        _write_facts(_index(self.folder, self._closed), self._facts, position, size)
        self.position = position
        self.rows += len(self._facts)
        self.bytes += size
        self._closed += 1
        self._facts, self._file_bytes, self._since = [], 0, time.monotonic()

    def batches(self) -> Iterator[pa.RecordBatch]:
        """All samples up to the last checkpoint, in `SCHEMA`; can be gone through again."""
        for number in range(self._closed):
            path = _file(self.folder, number)
            if path.exists():
                with writing(path), pa.OSFile(str(path)) as file, pa.ipc.open_stream(file) as stream:
                    yield from stream

    def first(self) -> PageSample:
        """The first sample; there must be one."""
        batches = self.batches()
        row = next(batches).slice(0, 1).to_pylist()[0]
        batches.close()  # type: ignore[attr-defined]
        return from_row(row, image=row["image"]["bytes"], fallback_id="")

    def close(self) -> None:
        """Closes the file that is being written; without a checkpoint it counts for nothing."""
        with writing(self.folder):
            if self._stream is not None:
                self._stream.close()
            if self._sink is not None:
                self._sink.close()
        self._stream = self._sink = None

    def _flush(self) -> None:
        batch, size = to_batch(self._waiting), self._waiting_bytes
        self._waiting, self._waiting_bytes = [], 0
        with writing(self.folder):
            if self._stream is None:
                self._sink = pa.OSFile(str(_file(self.folder, self._closed)), "wb")
                self._stream = pa.ipc.new_stream(self._sink, SCHEMA)
            self._stream.write_batch(batch)
        self._file_bytes += size

    def _take_up(self, number: int) -> bool:
        """Whether there is a checkpoint of that number: its index, and the file as long as the index says."""
        index, path = _index(self.folder, number), _file(self.folder, number)
        if self.position.complete or not index.is_file():
            return False
        try:
            state, rows = _read_state(index)
            position, size = Position(**state["position"]), int(state["bytes"])
        except (pa.ArrowException, OSError, ValueError, KeyError, TypeError):
            return False
        if size and (not path.is_file() or path.stat().st_size != size):
            return False
        self.position = position
        self.rows += rows
        self.bytes += size
        return True

    def _delete_rest(self) -> None:
        for path in self.folder.glob("staging-*"):
            with suppress(ValueError):
                if int(path.stem.partition("-")[2]) >= self._closed:
                    path.unlink()


def _file(folder: Path, number: int) -> Path:
    return folder / f"staging-{number:05d}.arrow"


def _index(folder: Path, number: int) -> Path:
    return folder / f"staging-{number:05d}.index"


def _index_schema() -> pa.Schema:
    own = [(item.name, item.type) for item in fields(Facts) if item.name in _OWN]
    traits = [(f"traits.{item.name}", item.type) for item in fields(Traits)]
    return pa.schema([pa.field(name, _TYPES[str(kind)]) for name, kind in own + traits])


def _write_facts(path: Path, facts: Sequence[Facts], position: Position, size: int) -> None:
    state = {"position": asdict(position), "bytes": size}
    columns: dict[str, list[Any]] = {name: [getattr(fact, name) for fact in facts] for name in _OWN}
    for item in fields(Traits):
        columns[f"traits.{item.name}"] = [getattr(fact.traits, item.name) for fact in facts]
    schema = _index_schema().with_metadata({"state": json.dumps(state), "rows": str(len(facts))})
    table = pa.Table.from_pydict(columns, schema=schema)

    def write(file: Any) -> None:
        with pa.ipc.new_stream(file, schema) as stream:
            stream.write_table(table)

    write_file(path, write)


def _read_state(path: Path) -> tuple[dict[str, Any], int]:
    with pa.OSFile(str(path)) as file, pa.ipc.open_stream(file) as stream:
        metadata = stream.schema.metadata or {}
        if not stream.schema.equals(_index_schema()):
            raise ValueError("written by another version")
        return json.loads(metadata[b"state"]), int(metadata[b"rows"])


def _read_facts(path: Path) -> Iterator[Facts]:
    with writing(path), pa.OSFile(str(path)) as file, pa.ipc.open_stream(file) as stream:
        table = stream.read_all()
    own = [table[name].to_pylist() for name in _OWN]
    traits = [table[f"traits.{item.name}"].to_pylist() for item in fields(Traits)]
    for row in zip(*own, *traits, strict=True):
        values = (*row[: len(own)], Traits(*row[len(own) :]))
        yield Facts(*values)
