"""Image features on disk: shards that are written whole, checked when opened, mapped into memory, never copied.

    ROOT/NAME/collection.json           what the features were made with: encoder, processing, number format
    ROOT/NAME/shard-<random>.safetensors   key → (tokens, H), and a checksum of every entry

NAME is a hash of what is in `collection.json`, so features of another model or preparation lie elsewhere. Any
number of processes may read and write at once: a shard is written under a temporary name and renamed, its name
is never used again, and it is never changed. ROOT is bounded: the shards that were not used for longest go
first, those that the asking run needs never.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
import uuid
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ocrsmith.errors import DataError, OutputError
from ocrsmith.settings.files import cannot_write, scratch_prefix, write_text, writing
from ocrsmith.training.feature_shards import DamagedShardError, ForeignShardError, Shard, write_shard

try:
    import fcntl
except ImportError:  # Windows: shards are safe all the same, only the bound is then checked without a lock
    fcntl = None  # type: ignore[assignment]

COLLECTION_FILE = "collection.json"
SHARD_BYTES = 128 * 2**20
"""A shard is written when so much waits: few files, and little lost when a run is killed."""

_DAY = 24 * 3600


def default_folder() -> Path:
    """`features` in `$OCRSMITH_CACHE`, else in `$XDG_CACHE_HOME/ocrsmith`, else in `~/.cache/ocrsmith`."""
    if chosen := os.environ.get("OCRSMITH_CACHE"):
        return Path(chosen).expanduser() / "features"
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    # The XDG base directory specification has relative paths ignored.
    return (base if base.is_absolute() else Path.home() / ".cache") / "ocrsmith" / "features"


class FeatureStore:
    """Features of one collection, by key: read from its shards, added to new ones.

    Adding goes through a thread, so that encoding does not wait for the disk. Can be pickled (for worker
    processes that only read).
    """

    def __init__(
        self,
        root: Path,
        about: Mapping[str, Any],
        *,
        dtype: torch.dtype,
        hidden_size: int,
        limit: int | None = None,
        spare_memory: int = 0,
        shard_bytes: int = SHARD_BYTES,
    ) -> None:
        """
        Args:
            root: folder of all collections; made when something is added.
            about: what the features are made with; JSON. Another `about` is another collection.
            dtype, hidden_size: of the features.
            limit: most bytes of all shards under `root`; None: no bound.
            spare_memory: bytes that may be kept in memory when the disk takes no more; 0: that is an error.
            shard_bytes: how much is written at once.
        Raises:
            DataError: the folder holds features of another collection.
            OutputError: `root` is, or lies below, a file.
        """
        self.root = root
        self.about = {**about, "dtype": str(dtype), "hidden_size": hidden_size}
        self.collection = hashlib.sha256(_canonical(self.about).encode()).hexdigest()
        self.folder = root / self.collection[:32]
        self.dtype, self.hidden_size = dtype, hidden_size
        self.limit, self.spare_memory, self.shard_bytes = limit, spare_memory, shard_bytes
        self.notes: list[str] = []
        """What a user should know: damaged files, features that were not kept on disk."""
        self._shards: dict[Path, Shard] = {}
        self._where: dict[str, Shard] = {}
        self._memory: dict[str, Tensor] = {}  # waiting, being written, or refused by the disk
        self._waiting: list[str] = []
        self._waiting_bytes = 0
        self._refusal: OutputError | None = None
        self._needed: set[Path] = set()
        self._writer: ThreadPoolExecutor | None = None
        self._writing: deque[tuple[list[str], Future[Shard]]] = deque()
        self._open()

    # --- reading ----------------------------------------------------------------------------------------------

    def __contains__(self, key: str) -> bool:
        return key in self._where or key in self._memory

    def __getitem__(self, key: str) -> Tensor:
        """(tokens, H); shares the cache's memory: not to be changed."""
        shard = self._where.get(key)
        return self._memory[key] if shard is None else shard[key]

    def __len__(self) -> int:
        return len(self._where.keys() | self._memory.keys())

    def _open(self) -> None:
        self._check_collection()
        for path in sorted(self.folder.glob("shard-*.safetensors")):
            try:
                self._register(Shard(path, self.collection, self.dtype, self.hidden_size))
            except DamagedShardError as error:
                self._discard(path, str(error))
            except ForeignShardError as error:
                self.notes.append(f"{path} is left alone: {error}.")
            except OSError as error:  # another process made room for its own meanwhile
                if not isinstance(error, FileNotFoundError):
                    self.notes.append(f"{path} cannot be read: {error.strerror}.")

    def _check_collection(self) -> None:
        file = self.folder / COLLECTION_FILE
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return
        except NotADirectoryError as error:
            raise cannot_write(error, self.root) from error
        except (OSError, ValueError) as error:
            found = f"something that cannot be read ({error})"
        if found != self.about:
            raise DataError(
                f"The feature cache does not say that it is of this model and this image preparation: {found}.",
                place=str(file),
                mend="delete that folder, or choose another cache folder",
            )

    def _register(self, shard: Shard) -> None:
        self._shards[shard.path] = shard
        for key in shard.entries:
            self._where.setdefault(key, shard)

    def _discard(self, path: Path, why: str) -> None:
        """Removes a damaged shard; what was in it will be encoded again."""
        self.notes.append(f"{path} is damaged ({why}): it is removed, its images are encoded again.")
        self._shards.pop(path, None)
        self._where = {}
        for shard in self._shards.values():
            self._register(shard)
        with suppress(OSError):
            path.unlink()

    def require(self, tokens: Mapping[str, int]) -> set[str]:
        """Checks what a run needs, and holds on to it.

        Args:
            tokens: key → image tokens that its features must have.
        Returns:
            The keys that are not there, or not sound.
        """
        for _ in range(len(self._shards) + 1):  # a damaged shard goes, and another may hold the same keys
            found = sorted(
                (shard.path, shard.entries[key].start, key)
                for key, shard in self._where.items()
                if key in tokens
            )
            with ThreadPoolExecutor(max(1, min(8, os.cpu_count() or 1))) as pool:
                sound = list(pool.map(lambda item: self._is_sound(item[2], tokens[item[2]]), found))
            damaged = {path for (path, *_), whole in zip(found, sound, strict=True) if not whole}
            if not damaged:
                break
            for path in sorted(damaged):
                self._discard(path, "a checksum is wrong")
        self._needed |= {path for path, *_ in found}
        for path in self._needed:
            with suppress(OSError):
                os.utime(path)  # so that it counts as used
        return {key for key in tokens if key not in self}

    def _is_sound(self, key: str, tokens: int) -> bool:
        shard = self._where[key]
        return shard.entries[key].shape[0] == tokens and shard.is_whole(key)

    # --- adding -----------------------------------------------------------------------------------------------

    def add(self, key: str, features: Tensor) -> None:
        """Keeps (tokens, H) features, which nobody may change afterwards. On disk after `flush`.

        Raises:
            OutputError: an earlier write failed or went over the bound, and there is no spare memory.
        """
        if key in self:
            return
        self._memory[key] = features.detach().to("cpu", self.dtype).contiguous()
        if self._refusal is None:
            self._waiting.append(key)
            self._waiting_bytes += self._memory[key].nbytes
            if self._waiting_bytes >= self.shard_bytes:
                self._submit()
        else:
            self._check_spare()

    def flush(self) -> None:
        """Writes what waits, and waits until all is written. Raises as `add`."""
        if self._waiting and self._refusal is None:
            self._submit()
        while self._writing:
            self._absorb()

    def close(self) -> None:
        """Ends the writing thread; what waits is written. Raises as `add`."""
        try:
            self.flush()
        finally:
            if self._writer is not None:
                self._writer.shutdown()
                self._writer = None

    def __enter__(self) -> FeatureStore:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Writes what waits, also when the work was interrupted; the interruption is the error then."""
        if kind is None:
            self.close()
        else:
            with suppress(OutputError):
                self.close()

    def _submit(self) -> None:
        keys, self._waiting, self._waiting_bytes = self._waiting, [], 0
        self._writer = self._writer or ThreadPoolExecutor(1, thread_name_prefix="features")
        self._writing.append((keys, self._writer.submit(self._write, {k: self._memory[k] for k in keys})))
        while len(self._writing) > 2:  # memory stays bounded where the disk is slower than the encoder
            self._absorb()

    def _absorb(self) -> None:
        keys, future = self._writing.popleft()
        try:
            shard = future.result()
        except OutputError as error:
            self._refuse(error)
            return
        self._needed.add(shard.path)
        self._register(shard)
        for key in keys:
            del self._memory[key]

    def _refuse(self, error: OutputError) -> None:
        if self._refusal is None:
            self._refusal = error
            where = f" ({error.place})" if error.place else ""
            self.notes.append(
                f"{error.problem}{where} Features from here on are kept in memory, for this run only."
            )
        self._check_spare()

    def _check_spare(self) -> None:
        if self._refusal is not None and sum(t.nbytes for t in self._memory.values()) > self.spare_memory:
            raise self._refusal

    def _write(self, features: dict[str, Tensor]) -> Shard:
        path = self.folder / f"shard-{uuid.uuid4().hex}.safetensors"
        with writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        if not (self.folder / COLLECTION_FILE).is_file():
            write_text(self.folder / COLLECTION_FILE, json.dumps(self.about, indent=2, sort_keys=True))
        with self._locked():
            problem = self._make_room(sum(tensor.nbytes for tensor in features.values()))
            if problem is not None:
                raise OutputError(problem, place=str(self.root), mend=_MEND_ROOM)
            write_shard(path, self.collection, features)
            try:
                return Shard(path, self.collection, self.dtype, self.hidden_size)
            except (OSError, DamagedShardError) as error:
                raise OutputError(f"What was written cannot be read back: {error}.", place=str(path)) from error

    # --- the bound --------------------------------------------------------------------------------------------

    def room_for(self, size: int) -> str | None:
        """Why `size` more bytes cannot be kept, or None; evicts nothing."""
        problem = self._over_limit(size, self._all_shards())[0]
        if problem is None and (free := _free_disk(self.root)) < size:
            problem = f"{_gb(size)} of image features do not fit on the disk: {_gb(free)} are free."
        return problem

    def reserve(self, size: int) -> None:
        """Says before the work whether `size` more bytes fit; otherwise they are kept in memory.

        Raises:
            OutputError: they fit neither on disk nor into the spare memory.
        """
        problem = self.room_for(size)
        if problem is not None:
            error = OutputError(problem, place=str(self.root), mend=_MEND_ROOM)
            if size > self.spare_memory:
                raise error
            self._refuse(error)

    def _all_shards(self) -> list[tuple[float, int, Path]]:
        """(time of last use, bytes, path) of all shards under the root, the longest unused first."""
        found = []
        for path in self.root.glob("*/shard-*.safetensors"):
            with suppress(OSError):
                status = path.stat()
                found.append((status.st_mtime, status.st_size, path))
        return sorted(found)

    def _over_limit(self, size: int, shards: list[tuple[float, int, Path]]) -> tuple[str | None, int]:
        """The problem, if any, and the bytes that have to be freed."""
        if self.limit is None:
            return None, 0
        wanted = sum(item[1] for item in shards) + size - self.limit
        kept = sum(item[1] for item in shards if item[2] in self._needed)
        if kept + size > self.limit:
            return (
                f"{_gb(kept + size)} of image features would be kept, but the cache may take {_gb(self.limit)}."
            ), 0
        return None, max(0, wanted)

    def _make_room(self, size: int) -> str | None:
        """Removes the shards unused for longest until `size` more fit; never one that this run needs."""
        shards = self._all_shards()
        problem, excess = self._over_limit(size, shards)
        for _, taken, path in shards:
            if excess <= 0:
                break
            if path not in self._needed:
                with suppress(OSError):
                    path.unlink()
                excess -= taken
        for path in self.root.glob(f"*/{scratch_prefix('shard')}*"):  # left by processes that were killed
            with suppress(OSError):
                if time.time() - path.stat().st_mtime > _DAY:
                    path.unlink()
        return problem

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """One process at a time counts, makes room and writes. Where the file system has no locks: without."""
        with writing(self.root), (self.root / ".lock").open("a") as file:
            if fcntl is not None:
                with suppress(OSError):
                    fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_writer": None, "_writing": deque()}


_MEND_ROOM = "raise the bound (cache_gb, --cache-gb), free some space, or set cache_features to off"


def image_key(image: bytes) -> str:
    """The key of an encoded image file: SHA-256 of its bytes, 64 hex digits."""
    return hashlib.sha256(image).hexdigest()


def _canonical(values: Mapping[str, Any]) -> str:
    return json.dumps(values, sort_keys=True, separators=(",", ":"))


def _free_disk(folder: Path) -> int:
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return 0


def _gb(size: int) -> str:
    return f"{size / 2**30:,.1f} GB" if size >= 2**30 / 2 else f"{size / 2**20:,.1f} MB"
