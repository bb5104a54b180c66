"""Writing that is complete or not there at all: a temporary name in the target's folder, then a rename."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ocrsmith.errors import OutputError


def cannot_write(error: OSError, place: Path) -> OutputError:
    """The user's view of a failed write: full disk, no permission, a file where a folder should be."""
    return OutputError(
        f"Cannot write {place.name!r}: {error.strerror or error}.",
        place=str(place),
        mend="free disk space, or choose a folder that you may write to",
    )


def write_text(path: Path, text: str) -> None:
    """Writes a text file (UTF-8) at once.

    Raises:
        OutputError: it cannot be written; nothing is left behind and an older file stays as it was.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
        try:
            with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
                file.write(text)
            os.chmod(name, 0o644)
            os.replace(name, path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise cannot_write(error, path) from error


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """A scratch folder beside `target` that takes its place when the block ends well.

    An existing `target` is replaced as a whole; on an error or an interruption it stays as it was.

    Raises:
        OutputError: it cannot be written.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    except OSError as error:
        raise cannot_write(error, target) from error
    try:
        yield scratch
        scratch.chmod(0o755)
        if target.exists():
            old = scratch.with_name(f"{scratch.name}-old")
            os.replace(target, old)
            os.replace(scratch, target)
            shutil.rmtree(old, ignore_errors=True)
        else:
            os.replace(scratch, target)
    except OSError as error:
        raise cannot_write(error, target) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
