"""The hidden folder that a dataset is built in: it outlives an interrupted build; the next goes on in it.

.NAME.building/            beside the target, or inside it where it exists already
    lock                   held while a build is at work; free as soon as its process is gone
    build.json             what the build reads, and how
    staging-00000.arrow …  samples as they were read (`staging`)
    staging-00000.index …  checkpoints
    excluded.jsonl         the ledger
    result/                the finished dataset's content, made anew whenever writing begins

Reading takes nearly all the time, so it alone has checkpoints.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

from ocrsmith.datasets.importers import Source
from ocrsmith.datasets.manifest import versions
from ocrsmith.datasets.output import (
    PLAN_FILE,
    check_target,
    make_parents,
    put_in_place,
    remove_empty,
    speak_of,
)
from ocrsmith.datasets.settings import BuildSettings
from ocrsmith.datasets.staging import Staging
from ocrsmith.errors import InputError, OutputError, SettingsError
from ocrsmith.settings.files import write_text, writing

try:
    import fcntl
except ImportError:  # Windows has no such locks: there, two builds at once are not noticed
    fcntl = None  # type: ignore[assignment]

UNSTABLE = ("hub",)
"""Kinds of sources that may give their rows in another order next time: a build of them cannot go on."""

_BUILD_FILE = "build.json"
_LOCK_FILE = "lock"

_LATER = frozenset(
    {"splits", "seed", "keep_splits", "layout", "prefix", "prompt", "strict", "overwrite", "fresh"}
)
"""Settings that matter only once all samples have been read: they may change before a build goes on."""


@dataclass(frozen=True)
class Work:
    """What a build works in."""

    folder: Path
    result: Path
    """To be filled; becomes the target."""
    staging: Staging


def work_folder(target: Path) -> Path:
    """Where a dataset for `target` is built; an existing target may be a mount point, so that is inside it."""
    parent = target if target.is_dir() else target.parent
    return parent / _work_name(target)


def kept_work(target: str | Path) -> str | None:
    """A sentence about what an interrupted build left, and how to go on; None if it left nothing."""
    folder = work_folder(Path(target))
    rows = _rows_in(folder)
    if not rows:
        return None
    return (
        f"{rows:,} samples that were read are kept in {folder}. To go on, run the same command again; to begin "
        "anew, add --fresh."
    )


@contextmanager
def build_folder(
    target: Path, fingerprint: Mapping[str, Any], *, overwrite: bool, fresh: bool, keep: bool
) -> Iterator[Work]:
    """Gives the folder to build in, with what an earlier build with the same fingerprint left there.

    When the block ends well, `result` becomes `target`. When bad input ends it, nothing is left. When anything
    else does (Ctrl-C, a full disk), what was read up to the last checkpoint is left for the next build.

    Args:
        overwrite: the target may hold a dataset.
        fresh: begin anew, whatever is there.
        keep: leave anything for a next build.

    Raises:
        OutputError: the target holds something else or cannot be written, another build is at work on it, or
            an unfinished one of other sources or settings is there.
    """
    _finish_earlier(target)
    check_target(target, overwrite=overwrite, ignore=_work_name(target))
    folder = work_folder(target)
    with writing(target):
        made = make_parents(folder.parent)
    done = False
    try:
        with _locked(folder):
            try:
                yield _open(folder, fingerprint, fresh=fresh or not keep)
                put_in_place(folder / "result", target)
                done = True
            except OutputError as error:
                speak_of(target, folder, error)
                _say_what_is_kept(error, _rows_in(folder) if keep else 0)
                raise
            except (InputError, SettingsError):
                keep = False
                raise
            finally:
                if done or not keep or not _rows_in(folder):
                    shutil.rmtree(folder, ignore_errors=True)
                elif not (folder / PLAN_FILE).exists():
                    shutil.rmtree(folder / "result", ignore_errors=True)
    except OutputError as error:
        speak_of(target, folder, error)
        raise
    finally:
        if not done:
            remove_empty(made)


def fingerprint_of(sources: Sequence[Source], settings: BuildSettings, length_check: str) -> dict[str, Any]:
    """What decides which samples are read: builds that agree in it can go on with each other's work.

    Label files and folders are known by path, size and time of change, not by content; images that a label file
    names are not looked at.
    """
    reading = {name: value for name, value in asdict(settings).items() if name not in _LATER}
    return {
        "sources": [_describe(source) for source in sources],
        "settings": {**reading, "length": length_check},
        "versions": versions(),
    }


def _open(folder: Path, fingerprint: Mapping[str, Any], *, fresh: bool) -> Work:
    wanted = json.loads(json.dumps(fingerprint))
    path, result = folder / _BUILD_FILE, folder / "result"
    with writing(folder):
        if fresh:
            _empty(folder)
        elif path.is_file() and _rows_in(folder):
            _require_same(_read(path), wanted, folder)
        else:
            _empty(folder)
        write_text(path, json.dumps(wanted, ensure_ascii=True, indent=2) + "\n")
        shutil.rmtree(result, ignore_errors=True)
        result.mkdir()
    return Work(folder, result, Staging(folder))


def _require_same(there: dict[str, Any], wanted: dict[str, Any], folder: Path) -> None:
    if there == wanted:
        return
    raise OutputError(
        f"An unfinished build is there ({_rows_in(folder):,} samples read), but of something else: "
        f"{'; '.join(_differences(there, wanted)) or 'it cannot be read'}.",
        place=str(folder),
        mend="Run it as it was begun to go on, or add --fresh to begin anew.",
    )


def _differences(there: dict[str, Any], wanted: dict[str, Any]) -> Iterator[str]:
    if there.get("sources") != wanted["sources"]:
        yield "other sources, or they have changed"
    for kind, name in (("settings", "--{}"), ("versions", "{}")):
        old, new = there.get(kind, {}), wanted[kind]
        for key in sorted({*old, *new}):
            if old.get(key) != new.get(key):
                yield f"{name.format(key.replace('_', '-'))} was {old.get(key)!r}, is {new.get(key)!r}"


def _read(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _empty(folder: Path) -> None:
    for entry in folder.iterdir():
        if entry.is_dir():
            shutil.rmtree(entry)
        elif entry.name != _LOCK_FILE:
            entry.unlink()


def _rows_in(folder: Path) -> int:
    """Samples up to the last checkpoint in a work folder."""
    return Staging.count(folder) if folder.is_dir() else 0


def _say_what_is_kept(error: OutputError, rows: int) -> None:
    if rows and "--fresh" not in (error.mend or ""):
        kept = f"The {rows:,} samples that were read are kept: the same command goes on with them."
        error.mend = f"{error.mend}. {kept}" if error.mend else kept


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Holds the folder's lock, which the system frees when the process ends, however it ends."""
    descriptor = _lock(folder)
    try:
        yield
    finally:
        os.close(descriptor)


def _lock(folder: Path) -> int:
    path = folder / _LOCK_FILE
    while True:
        with writing(folder):
            folder.mkdir(exist_ok=True)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except FileNotFoundError:
            continue  # another build has just ended and removed the folder
        try:
            _hold(descriptor, folder)
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), path.stat()):
                    os.ftruncate(descriptor, 0)
                    os.pwrite(descriptor, str(os.getpid()).encode(), 0)
                    return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # the folder was removed between opening and locking


def _hold(descriptor: int, folder: Path) -> None:
    if fcntl is None:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        process = os.pread(descriptor, 20, 0).decode("ascii", "replace") or "unknown"
        raise OutputError(
            f"Another build (process {process}) is at work on this dataset.",
            place=str(folder),
            mend="Wait for its end or stop it, or choose another folder with -o.",
        ) from error


def _finish_earlier(target: Path) -> None:
    """Ends what a crash stopped while a finished dataset was put in its place."""
    for folder in (target / _work_name(target), target.parent / _work_name(target)):
        if (folder / PLAN_FILE).is_file():
            with _locked(folder):
                if (folder / PLAN_FILE).is_file():
                    put_in_place(folder / "result", target)
                shutil.rmtree(folder, ignore_errors=True)


def _work_name(target: Path) -> str:
    return f".{target.resolve().name}.building"


def _describe(source: Source) -> dict[str, Any]:
    path = source.path.resolve()
    entry: dict[str, Any] = {"path": str(path), "kind": source.kind, **source.options}
    if path.is_dir():
        return entry | _describe_tree(path)
    if path.is_file():
        status = path.stat()
        entry |= {"bytes": status.st_size, "changed": status.st_mtime_ns}
    return entry


def _describe_tree(folder: Path) -> dict[str, int]:
    """Count, bytes and a sum of hashes (in any order) of all files; hidden ones, such as our own, left out."""
    count = size = total = 0
    waiting = [str(folder)]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
                    continue
                with suppress(FileNotFoundError):
                    status = entry.stat()
                    name = os.path.relpath(entry.path, folder)
                    line = f"{name}\0{status.st_size}\0{status.st_mtime_ns}".encode("utf-8", "surrogateescape")
                    total += int.from_bytes(blake2b(line, digest_size=8).digest(), "big")
                    size += status.st_size
                    count += 1
    return {"files": count, "bytes": size, "changed": total % 2**64}
