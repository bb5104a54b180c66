"""Opens datasets: folders and prefix files that `build_dataset` wrote, and Parquet files of the same columns.

`SampleTable` gives any sample by its number and keeps little in memory, for training; `Dataset.iter_samples`
goes through a split once.
"""

from __future__ import annotations

import os
import re
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ocrsmith.datasets import manifest as manifests
from ocrsmith.datasets.content_hash import combine, image_digest, sample_digest
from ocrsmith.datasets.importers.parquet import open_parquet_file
from ocrsmith.datasets.schema import DATA_FOLDER, SCHEMA, from_row, split_name
from ocrsmith.errors import DataError
from ocrsmith.records import SPLITS, PageSample, SplitName
from ocrsmith.text import FREE_OCR

_SHARD = re.compile(r"(?P<split>[a-z]+)(-(?P<index>\d+)-of-(?P<count>\d+))?")
_CACHED_GROUPS = 4


class SampleTable(Sequence[PageSample]):
    """The samples of a split, by number, read from disk when asked for.

    Only row groups (128 to 255 rows, or about 4 MB, in our own files) are read, and the last few are kept.
    Can be pickled and used in forked processes: each process opens the files for itself.
    """

    def __init__(self, files: Sequence[Path], split: SplitName) -> None:
        self.split = split
        self._files = list(files)
        self._groups: list[tuple[int, int]] = []  # (file, row group in it)
        self._starts: list[int] = []
        self._columns: list[list[str]] = []
        self._count = 0
        for number, path in enumerate(self._files):
            with open_parquet_file(path) as file:
                self._columns.append(_usable_columns(file.schema_arrow, path))
                for group in range(file.num_row_groups):
                    rows = file.metadata.row_group(group).num_rows
                    if rows:
                        self._groups.append((number, group))
                        self._starts.append(self._count)
                        self._count += rows
        self._forget()

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> PageSample:  # type: ignore[override]
        """The sample with that number, from 0; negative numbers count from the end.

        Raises:
            IndexError: there are not so many.
            DataError: the file is damaged.
        """
        if not -self._count <= index < self._count:
            raise IndexError(f"sample {index} of {self._count}")
        index %= self._count
        position = bisect_right(self._starts, index) - 1
        row = self._rows(position)[index - self._starts[position]]
        return self._sample(row, position, index)

    def __iter__(self) -> Iterator[PageSample]:
        for position, start in enumerate(self._starts):
            for offset, row in enumerate(self._rows(position)):
                yield self._sample(row, position, start + offset)

    def _sample(self, row: dict[str, Any], position: int, index: int) -> PageSample:
        path = self._files[self._groups[position][0]]
        fallback = f"{self.split}-{index}"
        return from_row(row, image=_image_bytes(row["image"], path, index), fallback_id=fallback)

    def _rows(self, position: int) -> list[dict[str, Any]]:
        if self._process != os.getpid():
            self._forget()
        if position in self._cache:
            self._cache.move_to_end(position)
            return self._cache[position]
        number, group = self._groups[position]
        path = self._files[number]
        try:
            if number not in self._open:
                self._open[number] = pq.ParquetFile(path)
            table = self._open[number].read_row_group(group, columns=self._columns[number], use_threads=False)
            rows = table.to_pylist()
        except (pa.ArrowException, OSError) as error:
            raise DataError(
                f"The dataset cannot be read: {str(error).splitlines()[0]}",
                place=str(path),
                mend="The file was changed or damaged: build the dataset again.",
            ) from error
        self._cache[position] = rows
        if len(self._cache) > _CACHED_GROUPS:
            self._cache.popitem(last=False)
        return rows

    def _forget(self) -> None:
        """Drops open files and rows: they belong to one process."""
        self._open: dict[int, pq.ParquetFile] = {}
        self._cache: OrderedDict[int, list[dict[str, Any]]] = OrderedDict()
        self._process = os.getpid()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in ("_open", "_cache")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._forget()


@dataclass(frozen=True)
class Dataset:
    """A dataset on disk."""

    path: Path
    """The folder, or the prefix of its files."""
    files: dict[SplitName, tuple[Path, ...]]
    prompt: str
    """For samples without a prompt of their own."""
    manifest: dict[str, Any] | None
    """None for Parquet files that another program wrote."""
    _tables: dict[SplitName, SampleTable] = field(default_factory=dict, repr=False, compare=False)

    @property
    def content_hash(self) -> str:
        """Of ids, images, texts and splits; computed from the files where there is no manifest."""
        if self.manifest is not None:
            return str(self.manifest["content_hash"])
        return self.compute_content_hash()

    def compute_content_hash(self) -> str:
        """Reads every sample; equal to the manifest's unless the files were changed."""
        return combine(
            (split, sample_digest(sample.id, image_digest(sample.image), sample.text))
            for split in SPLITS
            for sample in self.iter_samples(split)
        )

    def count(self, split: SplitName) -> int:
        """Samples in a split."""
        return len(self.table(split))

    def iter_samples(self, split: SplitName) -> Iterator[PageSample]:
        """All samples of a split, in the order of the sources."""
        return iter(self.table(split))

    def table(self, split: SplitName) -> SampleTable:
        """The samples of a split by number.

        Raises:
            DataError: there is no such split.
        """
        name = split_name(split)
        if name is None:
            raise DataError(
                f"There is no split {split!r}.", place=str(self.path), mend=f"Use one of {', '.join(SPLITS)}."
            )
        if name not in self._tables:
            self._tables[name] = SampleTable(self.files.get(name, ()), name)
        return self._tables[name]


def open_dataset(path: str | Path) -> Dataset:
    """Opens a dataset.

    Args:
        path: a dataset folder, the prefix of `PREFIX_train.parquet` …, or one of these files.

    Raises:
        DataError: there is no dataset, files of it are missing or damaged, or rows are missing.
    """
    path = Path(path)
    if path.is_dir():
        files, root = _files_of_folder(path), path
    else:
        path, files = _files_of_prefix(path)
        root = path.parent
    manifest = manifests.read(root)
    if manifest is not None and not _describes(manifest, root, files):
        manifest = None
    dataset = Dataset(path, files, manifest["prompt"] if manifest else FREE_OCR, manifest)
    for split in SPLITS:
        _check_count(dataset, split)
    return dataset


def _files_of_folder(folder: Path) -> dict[SplitName, tuple[Path, ...]]:
    """Shards in `data/` or beside the card; else the files of the one prefix that the folder has."""
    for place in (folder / DATA_FOLDER, folder):
        shards = _shards(place)
        if shards:
            return shards
    prefixes = sorted({found for path in folder.glob("*.parquet") if (found := _prefix_of(path)) is not None})
    if len(prefixes) == 1:
        return _files_of_prefix(folder / prefixes[0])[1]
    if prefixes:
        raise DataError(
            f"The folder holds several datasets: {', '.join(prefixes)}.",
            place=str(folder),
            mend=f"Name one, e.g. {folder / prefixes[0]}.",
        )
    raise DataError(
        "There is no dataset in this folder.",
        place=str(folder),
        mend=f"Build one with `ocrsmith data build SOURCE -o {folder}`.",
    )


def _shards(folder: Path) -> dict[SplitName, tuple[Path, ...]]:
    """Files named `SPLIT-00000-of-0000N.parquet` or `SPLIT.parquet`; all N have to be there."""
    found: dict[SplitName, dict[int, Path]] = {}
    for path in sorted(folder.glob("*.parquet")):
        match = _SHARD.fullmatch(path.stem)
        split = split_name(match["split"]) if match else None
        if match is None or split is None:
            continue
        shards = found.setdefault(split, {})
        shards[int(match["index"] or 0)] = path
        wanted = int(match["count"] or 1)
        missing = [index for index in range(wanted) if not _sibling(path, index, match).is_file()]
        if missing:
            raise DataError(
                f"{len(missing)} of {wanted} files of the split {split} are missing.",
                place=str(_sibling(path, missing[0], match)),
                mend="Copy the dataset again with all its files.",
            )
    return {split: tuple(shards[index] for index in sorted(shards)) for split, shards in found.items()}


def _sibling(path: Path, index: int, match: re.Match[str]) -> Path:
    if match["index"] is None:
        return path
    width = len(match["index"])
    return path.with_name(f"{match['split']}-{index:0{width}d}-of-{match['count']}.parquet")


def _prefix_of(path: Path) -> str | None:
    """`my` of `my_train.parquet`, `my_validation.parquet` …"""
    head, separator, tail = path.stem.rpartition("_")
    return head if separator and split_name(tail) is not None else None


def _files_of_prefix(path: Path) -> tuple[Path, dict[SplitName, tuple[Path, ...]]]:
    """The prefix and its files; `path` is the prefix or one of the files."""
    if path.suffix == ".parquet" and path.is_file():
        prefix = _prefix_of(path)
        if prefix is None:
            raise DataError(
                "The name does not say which split the file is.",
                place=str(path),
                mend="Name it PREFIX_train.parquet (or _val, _test), or build a dataset from it with "
                f"`ocrsmith data build {path} -o DIR`.",
            )
        path = path.with_name(prefix)
    files: dict[SplitName, tuple[Path, ...]] = {}
    for other in sorted(path.parent.glob("*.parquet")):
        if _prefix_of(other) == path.name:
            split = split_name(other.stem.rpartition("_")[2])
            if split is not None:
                files[split] = (other,)
    if not files and path.is_file():
        raise DataError(
            "This is a file, not a dataset.",
            place=str(path),
            mend=f"Build a dataset from it with `ocrsmith data build {path} -o DIR`, and give DIR.",
        )
    if not files:
        raise DataError(
            "There is no dataset here: no such folder, and no files with this prefix "
            f"({path.name}_train.parquet …).",
            place=str(path),
            mend=f"Check the path, or build one with `ocrsmith data build SOURCE -o {path}`.",
        )
    return path, files


def _describes(manifest: dict[str, Any], root: Path, files: dict[SplitName, tuple[Path, ...]]) -> bool:
    """Whether the manifest in `root` is that of `files`; a named file that is not there is an error."""
    named = {root / name for entry in manifest["splits"].values() for name in entry["files"]}
    used = {path for paths in files.values() for path in paths}
    if not named & used:
        return False
    missing = sorted(named - used)
    if missing:
        raise DataError(
            f"{len(missing)} of the dataset's {len(named)} files are missing.",
            place=str(missing[0]),
            mend="Copy the dataset again with all its files.",
        )
    return True


def _check_count(dataset: Dataset, split: SplitName) -> None:
    found = dataset.count(split)
    if dataset.manifest is None:
        return
    expected = dataset.manifest["splits"].get(split, {}).get("samples", 0)
    if found != expected:
        raise DataError(
            f"The split {split} has {found} samples, its manifest says {expected}.",
            place=str(dataset.path),
            mend="Files were changed or mixed up: build the dataset again.",
        )


def _usable_columns(schema: pa.Schema, path: Path) -> list[str]:
    for name in ("image", "text"):
        if name not in schema.names:
            raise DataError(
                f"The file has no column {name!r}; its columns are: {', '.join(schema.names) or 'none'}.",
                place=str(path),
                mend=f"Build a dataset from it with `ocrsmith data build {path} -o DIR --{name}-column NAME`.",
            )
    return [name for name in SCHEMA.names if name in schema.names]


def _image_bytes(value: Any, path: Path, index: int) -> bytes:
    """The encoded image of a cell; a path is read relative to the Parquet file."""
    if isinstance(value, dict):
        value = value.get("bytes") or value.get("path")
    if isinstance(value, bytes) and value:
        return value
    try:
        if isinstance(value, str) and value:
            return (path.parent / value).read_bytes()
        reason = "it holds neither bytes nor a path"
    except (OSError, ValueError) as error:
        reason = str(error)
    raise DataError(
        f"The image of sample {index} cannot be read: {reason}.",
        place=str(path),
        mend=f"Build a dataset from it with `ocrsmith data build {path} -o DIR`, which lists what is missing.",
    )
