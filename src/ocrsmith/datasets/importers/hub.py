"""Datasets of the Hugging Face hub, by their name, read as a stream through the package `datasets`.

Names are `owner/name`, `owner/name:config`, `owner/name:config:split` or `owner/name::split`. Images are taken
as the encoded files that they are. Code of a dataset is never run: one that needs it is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow as pa

from ocrsmith.datasets.importers.arrow_rows import choose_typed_columns, read_batches
from ocrsmith.datasets.importers.base import Candidate, Format, ImportOptions, Source
from ocrsmith.errors import DataError, OcrsmithError, require
from ocrsmith.records import Excluded

MAX_IMAGE_BYTES = 64 << 20
_BATCH_ROWS = 16
_OLDEST = 4
_NAME = re.compile(
    r"(?P<repository>[\w-][\w.-]*/[\w-][\w.-]*)(?::(?P<config>[\w.@ -]*))?(?::(?P<split>[\w.-]+))?"
)
_HUB_FILE = re.compile(r"(?:[\w+]+://[^:]*::)?hf://")


@dataclass(frozen=True, slots=True)
class HubName:
    """What a name means."""

    repository: str
    config: str | None
    split: str | None


def looks_like_hub(name: str) -> bool:
    """Whether a name may be one of the hub, and is surely no file that was misspelt."""
    match = _NAME.fullmatch(name)
    return match is not None and not _has_file_suffix(match["repository"])


def open_hub(name: str, options: ImportOptions) -> Source:
    """A dataset of the hub as a source; all its splits, unless one is named.

    Raises:
        MissingExtraError: the package `datasets` is not installed.
        DataError: it is no name of the hub, there is no such dataset, the hub cannot be reached, the dataset
            needs its own code, or lacks a column.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        raise DataError(
            f"{name!r} is no name of a dataset of the hub.",
            place=name,
            mend="Write owner/name, owner/name:config or owner/name:config:split.",
        )
    wanted = HubName(match["repository"], match["config"] or None, match["split"])
    package = require("datasets", extra="datasets", why="Reading a dataset of the hub")
    if int(str(package.__version__).split(".")[0]) < _OLDEST:
        # Older versions may run code that lies in the dataset.
        raise DataError(
            f"The package datasets {package.__version__} is too old to read the hub safely.",
            place=name,
            mend=f"pip install 'datasets>={_OLDEST}'",
        )
    splits = _load(package, name, wanted)
    for split, stream in splits.items():
        choose_typed_columns(_schema(stream, name), options, place=f"{name}, split {split}")
    pooled = f"{name}: its splits ({', '.join(splits)}) are pooled and split anew."
    notes = (pooled,) if len(splits) > 1 else ()
    return Source(Path(name), "hub", _rows(splits), lambda: _read(splits, name, options), notes=notes)


def _load(package: ModuleType, name: str, wanted: HubName) -> dict[str, Any]:
    """Streams by split, with images left encoded."""
    try:
        loaded = package.load_dataset(wanted.repository, wanted.config, split=wanted.split, streaming=True)
        splits = {wanted.split: loaded} if wanted.split is not None else dict(loaded)
        return {str(split): _encoded(package, stream) for split, stream in splits.items()}
    except Exception as error:  # the package lets through whatever its many parts raise
        raise _failed(name, error) from error


def _encoded(package: ModuleType, stream: Any) -> Any:
    if stream.features is None:
        stream = stream._resolve_features()
    for column, feature in (stream.features or {}).items():
        if isinstance(feature, package.Image):
            stream = stream.cast_column(column, package.Image(decode=False))
    return stream


def _schema(stream: Any, name: str) -> pa.Schema:
    if stream.features is None:
        raise DataError(
            "The dataset does not say which columns it has.", place=name, mend="Save it as Parquet first."
        )
    return stream.features.arrow_schema


def _rows(splits: dict[str, Any]) -> int | None:
    counts = [(stream.info.splits or {}).get(split) for split, stream in splits.items()]
    return None if None in counts else sum(count.num_examples for count in counts if count) or None


def _read(splits: dict[str, Any], name: str, options: ImportOptions) -> Iterator[Candidate | Excluded]:
    for split, stream in splits.items():
        columns = choose_typed_columns(_schema(stream, name), options, place=f"{name}, split {split}")
        done = [0]
        batches = _batches(stream, f"{name}, split {split}", done)
        for candidate in read_batches(batches, columns, options, Path(name) / split):
            yield _with_bytes(candidate)


def _batches(stream: Any, place: str, done: list[int]) -> Iterator[pa.RecordBatch]:
    tables = iter(stream.with_format("arrow").iter(batch_size=_BATCH_ROWS))
    while True:
        try:
            table = next(tables)
        except StopIteration:
            return
        except Exception as error:
            raise _failed(f"{place}, after {done[0]:,} rows", error) from error
        done[0] += table.num_rows
        yield from table.to_batches()


def _with_bytes(candidate: Candidate) -> Candidate | Excluded:
    """Images that lie in the dataset's repository as files of their own are fetched from there, from nowhere
    else."""
    if isinstance(candidate.image, bytes) or not _HUB_FILE.match(candidate.image_path):
        return candidate
    try:
        with require("fsspec", extra="datasets", why="Reading a file of the hub").open(
            candidate.image_path
        ) as file:
            data = file.read(MAX_IMAGE_BYTES + 1)
    except OcrsmithError:
        raise
    except Exception as error:
        detail = f"The image cannot be fetched: {_first_line(error)}. Try again."
        return Excluded("unreadable", detail, candidate.image_path, candidate.source, candidate.line)
    if len(data) > MAX_IMAGE_BYTES:
        detail = f"The image has more than {MAX_IMAGE_BYTES:,} bytes: save it smaller."
        return Excluded("too_large", detail, candidate.image_path, candidate.source, candidate.line)
    return replace(candidate, image=data)


def _failed(place: str, error: Exception) -> DataError:
    if isinstance(error, DataError):
        return error
    kind, message = type(error).__name__, _first_line(error)
    lower = f"{kind} {error}".lower()
    if "offline" in lower or isinstance(error, ConnectionError) or "connect" in lower or "resolve" in lower:
        mend = (
            "Check the network (and HF_HUB_OFFLINE, HTTPS_PROXY, HF_ENDPOINT), or fetch the dataset where "
            "there is one, with datasets.load_dataset(…).save_to_disk(FOLDER), and give that folder."
        )
        return DataError(f"The hub cannot be reached: {message}.", place=place, mend=mend)
    if "script" in lower or "trust_remote_code" in lower:
        return DataError(
            f"The dataset needs code of its own, which is not run: {message}.",
            place=place,
            mend="Use its version in Parquet, which the hub makes of many (branch refs/convert/parquet).",
        )
    if "config" in lower:
        mend = "Name one of its configs: owner/name:config."
    elif "split" in lower:
        mend = "Name one of its splits: owner/name:config:split, or owner/name::split."
    else:
        mend = "Check the name and, if it is private or gated, log in (hf auth login)."
    return DataError(f"The dataset cannot be read: {message}.", place=place, mend=mend)


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:3]).rstrip(".")[:500] or type(error).__name__


def _has_file_suffix(repository: str) -> bool:
    """`labels/train.csv` is a file that is not there, `owner/model-v1.5` a name."""
    suffix = Path(repository).suffix.lower()
    return suffix[1:].isalpha() and len(suffix) <= 6


FORMAT = Format(
    "hub",
    "datasets of the Hugging Face hub: owner/name, owner/name:config, owner/name:config:split",
    lambda path, head: False,  # a name, not a path that is there: see `looks_like_hub`
    lambda path, options: open_hub(str(path), options),
)
