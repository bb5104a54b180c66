"""Writing that is complete or not there at all: a temporary name in the target's folder, then a rename."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from ocrsmith.errors import OutputError


def cannot_write(error: OSError, place: Path, *, mend: str | None = None) -> OutputError:
    """The user's view of a failed write: full disk, no permission, a file where a folder should be."""
    code = error.errno or _code_in_text(str(error))
    if code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        problem, advice = "The disk is full", "free some space, or choose a folder on another disk with -o"
    elif code in (errno.EACCES, errno.EPERM, errno.EROFS):
        problem, advice = "There is no permission to write", "choose a folder that you may write to with -o"
    else:
        problem, advice = f"{place.name!r} cannot be written", "choose another folder with -o"
    return OutputError(f"{problem}: {error.strerror or error}.", place=str(place), mend=mend or advice)


def _code_in_text(text: str) -> int | None:
    """The error number that Arrow, safetensors and torch put into their messages."""
    if any(words in text for words in ("[errno 28]", "[Errno 28]", "os error 28", "No space left")):
        return errno.ENOSPC
    return errno.EFBIG if "File too large" in text else None


@contextmanager
def writing(place: Path) -> Iterator[None]:
    """Turns errors of the file system into an `OutputError` that says what to do."""
    try:
        yield
    except OSError as error:
        raise cannot_write(error, place) from error


def write_file(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Writes a file as a whole or not at all.

    Args:
        path: the file; missing folders above it are made.
        write: gets an open binary file.
    Raises:
        OutputError: it cannot be written; nothing is left behind and an older file stays as it was.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=scratch_prefix(path.name), dir=path.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(name, 0o666 & ~umask())  # mkstemp gives access to the owner alone
            os.replace(name, path)
        except BaseException:
            with suppress(OSError):
                os.unlink(name)
            raise


def write_text(path: Path, text: str) -> None:
    """Writes a text file (UTF-8) as a whole or not at all. Raises as `write_file`."""
    write_file(path, lambda file: file.write(text.encode()))


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """A scratch folder beside `target` that takes its place when the block ends well.

    An existing `target` is replaced as a whole; on an error or an interruption it stays as it was.

    Raises:
        OutputError: it cannot be written.
    """
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=scratch_prefix(target.name), dir=target.parent))
    try:
        with writing(target):
            yield scratch
            scratch.chmod(0o777 & ~umask())
            if target.exists():
                old = scratch.with_name(f"{scratch.name}-old")
                os.replace(target, old)
                os.replace(scratch, target)
                shutil.rmtree(old, ignore_errors=True)
            else:
                os.replace(scratch, target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def scratch_prefix(name: str) -> str:
    """How the temporary name of a file or folder begins; a process that was killed leaves it behind."""
    return f".{name}-"


def umask() -> int:
    """The permissions that this process withholds from what it makes."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
