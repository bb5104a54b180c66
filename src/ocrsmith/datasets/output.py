"""Writes a folder whole or not at all.

Everything goes into a hidden temporary folder on the same disk and is renamed at the end. Whatever stops the
work before (an error, Ctrl-C, a full disk) removes the temporary folder and leaves the target as it was.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ocrsmith.datasets.schema import CARD_FILE, DATA_FOLDER, FORMAT_NAME, LEDGER_FILE, MANIFEST_FILE
from ocrsmith.errors import OutputError
from ocrsmith.settings.files import umask, writing

_OURS = {MANIFEST_FILE, LEDGER_FILE, CARD_FILE, DATA_FOLDER}


@contextmanager
def new_folder(target: Path, *, overwrite: bool) -> Iterator[Path]:
    """Gives a temporary folder to fill; when the block ends without an error, it becomes `target`.

    Args:
        target: does not exist, is empty, or with `overwrite` holds a dataset that ocrsmith wrote.

    Raises:
        OutputError: the target holds something else, or cannot be written.
    """
    check_target(target, overwrite=overwrite)
    with writing(target):
        made = _make_parents(target.parent)
        exists = target.is_dir()
        # An existing folder may be a mount point: then only its inside can be renamed into.
        parent = target if exists else target.parent
        temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.building-", dir=parent))
    done = False
    try:
        yield temporary
        with writing(target):
            if exists:
                _replace_content(temporary, target)
            else:
                temporary.chmod(0o777 & ~umask())  # mkdtemp gives no access to others
                temporary.rename(target)
        done = True
    except OutputError as error:
        if error.place is not None and error.place.startswith(str(temporary)):
            error.place = str(target)  # the temporary folder is nobody's concern, and gone by now
        raise
    finally:
        if not done or exists:
            shutil.rmtree(temporary, ignore_errors=True)
        if not done:
            for folder in made:
                with suppress(OSError):
                    folder.rmdir()


def check_target(target: Path, *, overwrite: bool) -> None:
    """Raises `OutputError` if a dataset must not be written at `target`: known before the work begins."""
    if not os.path.lexists(target):
        return
    place = str(target)
    if not target.is_dir():
        raise OutputError("The output is not a folder.", place=place, mend="Choose another folder with -o.")
    with writing(target):
        entries = sorted(entry.name for entry in target.iterdir())
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


def _make_parents(folder: Path) -> list[Path]:
    """Makes missing folders; gives those that it made, deepest first."""
    missing: list[Path] = []
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    for path in reversed(missing):
        path.mkdir(exist_ok=True)
    return missing


def _replace_content(temporary: Path, target: Path) -> None:
    """Moves the old entries aside, the new ones in; if that fails, everything back."""
    aside = Path(tempfile.mkdtemp(prefix=".old-", dir=temporary))
    old = [entry for entry in target.iterdir() if entry != temporary]
    new = [entry for entry in temporary.iterdir() if entry != aside]
    moved: list[tuple[Path, Path]] = []
    try:
        for entry, folder in [(entry, aside) for entry in old] + [(entry, target) for entry in new]:
            destination = folder / entry.name
            entry.rename(destination)
            moved.append((entry, destination))
    except BaseException:
        for origin, destination in reversed(moved):
            destination.rename(origin)
        raise


def _listing(names: list[str]) -> str:
    return ", ".join(names[:6]) + (f" … ({len(names)} entries)" if len(names) > 6 else "")
