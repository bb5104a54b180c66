"""A file of image features: written whole, checked when opened, mapped into memory.

It is a safetensors file: key → (tokens, H), and in its metadata the collection that it belongs to and a
checksum of every entry. A file is never changed once it has its name.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple

import torch
from torch import Tensor

from ocrsmith.settings.files import write_file

FORMAT = "ocrsmith features 1"

_ALIGNMENT = 64
_DTYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}


class DamagedShardError(Exception):
    """A shard whose content is not what was written."""


class ForeignShardError(Exception):
    """A sound file that belongs to another program, version or collection."""


class _Entry(NamedTuple):
    start: int
    """First byte in the file."""
    shape: tuple[int, int]
    checksum: int


class Shard:
    """A file of features, mapped into memory; goes on working when the file's name is removed."""

    def __init__(self, path: Path, collection: str, dtype: torch.dtype, hidden_size: int) -> None:
        """
        Raises:
            DamagedShardError: cut off, overwritten, or no shard at all.
            ForeignShardError: of another collection or format.
            OSError: it is gone, or may not be read.
        """
        self.path = path
        self.dtype = dtype
        self.collection = collection
        self.hidden_size = hidden_size
        self._map()

    def _map(self) -> None:
        self.size = self.path.stat().st_size
        if self.size < 8:
            raise DamagedShardError(f"{self.size} bytes")
        try:
            # Private pages: the file can never change through them. Keeps no file descriptor open.
            self._bytes = torch.from_file(str(self.path), shared=False, size=self.size, dtype=torch.uint8)
        except RuntimeError as error:
            raise OSError(f"it cannot be mapped into memory: {str(error).splitlines()[0]}") from error
        self.entries = self._read_header()

    def _read_header(self) -> dict[str, _Entry]:
        content = self._bytes.numpy().data
        length = int.from_bytes(content[:8], "little")
        if not 2 <= length <= self.size - 8:
            raise DamagedShardError(f"a header of {length} bytes in a file of {self.size}")
        try:
            header = json.loads(bytes(content[8 : 8 + length]))
            about = header.pop("__metadata__")
            if about.get("format") != FORMAT or about.get("collection") != self.collection:
                raise ForeignShardError(f"it is of {about.get('format')!r}, not of this collection")
            checksums = json.loads(about["checksums"])
            entries = {key: self._entry(key, line, 8 + length, checksums) for key, line in header.items()}
            ends = [entry.start + math.prod(entry.shape) * self.dtype.itemsize for entry in entries.values()]
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise DamagedShardError(f"a broken header ({type(error).__name__}: {error})") from error
        if max(ends, default=0) != self.size:
            raise DamagedShardError(f"{self.size} bytes where its header asks for {max(ends, default=0)}")
        return entries

    def _entry(self, key: str, line: Any, data: int, checksums: dict[str, int]) -> _Entry:
        tokens, hidden = line["shape"]
        begin, end = line["data_offsets"]
        sound = (
            _DTYPES.get(line["dtype"]) is self.dtype
            and hidden == self.hidden_size
            and tokens > 0
            and begin >= 0
            and end - begin == tokens * hidden * self.dtype.itemsize
            and data + end <= self.size
        )
        if not sound:
            raise ValueError(f"entry {key[:8]}: {line}")
        return _Entry(data + begin, (tokens, hidden), int(checksums[key]))

    def __getitem__(self, key: str) -> Tensor:
        """(tokens, H), a view of the mapped file."""
        entry = self.entries[key]
        return self._content(entry).view(self.dtype).view(entry.shape)

    def is_whole(self, key: str) -> bool:
        """Whether the entry's bytes are those that were written."""
        entry = self.entries[key]
        return _checksum(key, self._content(entry).numpy().data) == entry.checksum

    def _content(self, entry: _Entry) -> Tensor:
        """The entry's bytes, (n,) uint8."""
        return self._bytes[entry.start : entry.start + math.prod(entry.shape) * self.dtype.itemsize]

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in ("_bytes", "entries")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._map()


def _checksum(key: str, content: Any) -> int:
    """Of key and content together, so that features can never be taken for those of another image."""
    return zlib.crc32(content, zlib.crc32(key.encode()))


def _as_bytes(features: Tensor) -> memoryview:
    return features.reshape(-1).view(torch.uint8).numpy().data


def write_shard(path: Path, collection: str, features: Mapping[str, Tensor]) -> None:
    """Writes a safetensors file whose metadata hold collection and checksums.

    Raises:
        OutputError: it cannot be written; nothing is left behind.
    """
    header: dict[str, Any] = {}
    checksums, end = {}, 0
    for key, tensor in features.items():
        header[key] = {
            "dtype": _NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [end, end + tensor.nbytes],
        }
        checksums[key] = _checksum(key, _as_bytes(tensor))
        end += tensor.nbytes
    about = {"format": FORMAT, "collection": collection, "checksums": json.dumps(checksums)}
    text = json.dumps({"__metadata__": about, **header}).encode()
    text += b" " * (-(8 + len(text)) % _ALIGNMENT)

    def write(file: IO[bytes]) -> None:
        file.write(len(text).to_bytes(8, "little"))
        file.write(text)
        for tensor in features.values():
            file.write(_as_bytes(tensor))

    write_file(path, write)
