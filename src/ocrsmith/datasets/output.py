"""Puts a finished folder in its place, whole or not at all.

What is written goes into a hidden folder on the same disk and is renamed at the end. Whatever stops the work
before leaves the target as it was.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ocrsmith.datasets.schema import CARD_FILE, DATA_FOLDER, FORMAT_NAME, LEDGER_FILE, MANIFEST_FILE
from ocrsmith.errors import OutputError
from ocrsmith.settings.files import umask, write_text, writing

_OURS = {MANIFEST_FILE, LEDGER_FILE, CARD_FILE, DATA_FOLDER}
PLAN_FILE = "in-place.json"
"""What `put_in_place` has to move; stands beside the finished folder until that is done."""
_SPARE_BYTES = 32 << 20


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Gives a temporary folder to fill; when the block ends without an error, it becomes `target`.

    Args:
        target: does not exist, or is an empty folder.

    Raises:
        OutputError: the target holds something, or cannot be written.
    """
    check_new(target)
    with writing(target):
        made = make_parents(target.parent)
        # An existing folder may be a mount point: then only its inside can be renamed into.
        parent = target if target.is_dir() else target.parent
        temporary = Path(tempfile.mkdtemp(prefix=f".{target.resolve().name}.writing-", dir=parent))
    done = False
    try:
        result = temporary / "result"
        with writing(target):
            result.mkdir()
        yield result
        put_in_place(result, target)
        done = True
    except OutputError as error:
        speak_of(target, temporary, error)
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        if not done:
            remove_empty(made)


def check_new(target: Path) -> None:
    """Raises `OutputError` unless `target` does not exist or is an empty folder."""
    if not os.path.lexists(target):
        return
    if not target.is_dir():
        raise OutputError(
            "The output is not a folder.", place=str(target), mend="Choose another folder with -o."
        )
    with writing(target):
        entries = sorted(entry.name for entry in target.iterdir())
    if entries:
        raise OutputError(
            f"The folder is not empty (it has {_listing(entries)}).",
            place=str(target),
            mend="Choose a new folder with -o; nothing there is touched.",
        )


def check_target(target: Path, *, overwrite: bool, ignore: str) -> None:
    """Raises `OutputError` if a dataset must not be written at `target`: known before the work begins.

    Args:
        overwrite: a dataset that ocrsmith wrote may be there.
        ignore: name of an entry that may be there: what an interrupted build left.
    """
    if not os.path.lexists(target):
        return
    place = str(target)
    if not target.is_dir():
        raise OutputError("The output is not a folder.", place=place, mend="Choose another folder with -o.")
    with writing(target):
        entries = sorted(entry.name for entry in target.iterdir() if entry.name != ignore)
    if not entries:
        return
    manifest = target / MANIFEST_FILE
    is_ours = manifest.is_file() and FORMAT_NAME in manifest.read_text(encoding="utf-8", errors="replace")
    if not is_ours:
        raise OutputError(
            f"The folder is not empty and holds no dataset of ocrsmith (it has {_listing(entries)}).",
            place=place,
            mend="Choose a new folder with -o; nothing there is touched.",
        )
    if not overwrite:
        raise OutputError(
            "There is a dataset already.",
            place=place,
            mend="Add --overwrite to replace it, or choose another folder.",
        )
    strangers = [name for name in entries if name not in _OURS and not name.endswith(".parquet")]
    if strangers:
        raise OutputError(
            f"The dataset folder also holds what ocrsmith did not write: {_listing(strangers)}.",
            place=place,
            mend="Move that away first, or choose another folder with -o.",
        )


def put_in_place(result: Path, target: Path) -> None:
    """Makes `result` become `target`; what both hold is on the same disk.

    Where the target exists, its entries go into the folder that `result` lies in, and those of `result` take
    their place; if that fails, everything goes back. A second call finishes what a crash stopped: `PLAN_FILE`
    beside `result` says what was to be done.
    """
    plan = result.parent / PLAN_FILE
    with writing(target):
        if not plan.is_file():
            old = [entry.name for entry in target.iterdir()] if target.is_dir() else []
            names = {"old": old, "new": [entry.name for entry in result.iterdir()]}
            names["old"] = [name for name in old if name != result.parent.name]
            write_text(plan, json.dumps(names))
        if target.is_dir():
            _replace_content(result, target, json.loads(plan.read_text(encoding="utf-8")))
        elif result.is_dir():
            result.chmod(0o777 & ~umask())
            result.rename(target)


def _replace_content(result: Path, target: Path, names: dict[str, list[str]]) -> None:
    aside = result.parent / "replaced"
    aside.mkdir(exist_ok=True)
    away = [(target / name, aside / name) for name in names["old"] if not os.path.lexists(aside / name)]
    here = [(result / name, target / name) for name in names["new"] if os.path.lexists(result / name)]
    moved: list[tuple[Path, Path]] = []
    try:
        for origin, destination in away + here:
            origin.rename(destination)
            moved.append((origin, destination))
    except BaseException:
        for origin, destination in reversed(moved):
            destination.rename(origin)
        (result.parent / PLAN_FILE).unlink()
        raise


def require_space(folder: Path, needed: int, *, mend: str) -> None:
    """Raises `OutputError` if the disk of `folder` has not `needed` bytes left (and a few to spare)."""
    with writing(folder):
        free = shutil.disk_usage(folder).free
    if free < needed + _SPARE_BYTES:
        raise OutputError(
            f"The disk is full, or will be: {needed / 1e9:,.2f} GB more are needed, "
            f"{free / 1e9:,.2f} GB are free.",
            place=str(folder),
            mend=mend,
        )


def make_parents(folder: Path) -> list[Path]:
    """Makes missing folders; gives those that it made, deepest first."""
    missing: list[Path] = []
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    for path in reversed(missing):
        path.mkdir(exist_ok=True)
    return missing


def remove_empty(folders: list[Path]) -> None:
    """Removes those that are empty, in the order given."""
    for folder in folders:
        with suppress(OSError):
            folder.rmdir()


def speak_of(target: Path, temporary: Path, error: OutputError) -> None:
    """Lets an error name the target: the temporary folder is nobody's concern."""
    if error.place is not None and error.place.startswith(str(temporary)):
        error.place = str(target)


def _listing(names: list[str]) -> str:
    return ", ".join(names[:6]) + (f" … ({len(names)} entries)" if len(names) > 6 else "")
