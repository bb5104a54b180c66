"""What the command line prints, and where: results, remarks, JSON and errors.

    stdout    the result: for people, or with --json exactly one JSON object
    stderr    everything else: progress, remarks, warnings, errors

The one place where an `OcrsmithError` becomes a message. Without torch; rich is loaded on first use.
"""

from __future__ import annotations

import dataclasses
import errno
import json
import logging
import math
import os
import platform
import shlex
import sys
import tempfile
import traceback
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ocrsmith
from ocrsmith.errors import InputError, OcrsmithError, OutputError

if TYPE_CHECKING:
    from rich.console import Console

EXIT_OK = 0
EXIT_CHECK_FAILED = 1
EXIT_USAGE = 2
EXIT_BUG = 70  # EX_SOFTWARE of sysexits.h
EXIT_INTERRUPTED = 130  # 128 + SIGINT


@dataclasses.dataclass
class _State:
    """How this process was asked to print; set once by `cli.main`."""

    as_json: bool = False
    verbosity: int = 0
    json_printed: bool = False


_state = _State()


def configure(*, as_json: bool = False, verbosity: int = 0) -> None:
    """Sets how to print: JSON or for people; verbosity -1 (quiet), 0, 1 (verbose), 2 (debug)."""
    _state.as_json = as_json
    _state.json_printed = False
    set_verbosity(verbosity)


def set_verbosity(verbosity: int) -> None:
    """Sets the verbosity, and with it the level of `logging`."""
    _state.verbosity = verbosity
    levels = {-1: logging.ERROR, 0: logging.WARNING, 1: logging.INFO}
    logging.basicConfig(format="%(name)s: %(message)s", stream=sys.stderr)
    logging.getLogger("ocrsmith").setLevel(levels.get(verbosity, logging.DEBUG))


def verbosity() -> int:
    """-1 quiet, 0 normal, 1 verbose, 2 debug."""
    return _state.verbosity


def console() -> Console:
    """For results: stdout, or stderr where --json keeps stdout for the one object."""
    from rich.console import Console

    return Console(stderr=_state.as_json, quiet=_state.as_json and _state.verbosity < 0, highlight=False)


def notes() -> Console:
    """For progress and remarks: stderr, silent with -q."""
    from rich.console import Console

    return Console(stderr=True, quiet=_state.verbosity < 0, highlight=False)


def warn(message: str) -> None:
    """Prints a warning to stderr, also with -q: what a user must know is not progress."""
    _print_stderr("Warning:", "yellow", message)


def print_json(result: Mapping[str, Any]) -> None:
    """Prints the one JSON object of a command to stdout. NaN and infinity, which JSON lacks, become null."""
    text = json.dumps(_plain(result), ensure_ascii=False, indent=2, allow_nan=False)
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
    _state.json_printed = True


def _plain(value: Any) -> Any:
    """Reduces paths, dataclasses, pydantic models and numpy values to what JSON has."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | int):
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {item.name: _plain(getattr(value, item.name)) for item in dataclasses.fields(value)}
    if hasattr(value, "model_dump"):
        return _plain(value.model_dump(mode="json"))
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    return str(value)


def report_error(error: OcrsmithError) -> int:
    """Prints problem, place and mend to stderr, with --json also as `{"error": …}` to stdout.

    Returns:
        The exit code.
    """
    message = error.problem
    if error.place:
        message += f"\n  where: {error.place}"
    if error.mend:
        message += f"\n  mend:  {error.mend}"
    _print_stderr("Error:", "bold red", message)
    _print_error_json(type(error).__name__, error.problem, error.place, error.mend, error.exit_code)
    if _state.verbosity > 0:
        traceback.print_exception(error, file=sys.stderr)
    return error.exit_code


def report_interrupt() -> int:
    """Says that Ctrl-C ended the command. Returns the exit code."""
    _print_stderr("Interrupted.", "yellow", "")
    _print_error_json("Interrupted", "Interrupted by the user.", None, None, EXIT_INTERRUPTED)
    return EXIT_INTERRUPTED


def report_bug(error: BaseException, arguments: list[str]) -> int:
    """Says that ocrsmith itself is at fault, and keeps the traceback in a file. Returns the exit code."""
    summary = "".join(traceback.format_exception_only(error)).strip().splitlines()[-1]
    problem = f"This is a bug in ocrsmith, not a mistake of yours: {summary}"
    file = _keep_traceback(error, arguments)
    mend = f"Please report it with the file {file}" if file else "Run again with -v and report the traceback"
    _print_stderr("Error:", "bold red", f"{problem}\n  mend:  {mend}")
    if _state.verbosity > 0 or file is None:
        traceback.print_exception(error, file=sys.stderr)
    _print_error_json("Bug", problem, None, mend, EXIT_BUG)
    return EXIT_BUG


def as_user_error(error: Exception) -> OcrsmithError | None:
    """The user error behind an exception that no command foresaw, or None if it looks like a bug of ours."""
    if isinstance(error, OcrsmithError):
        return error
    if isinstance(error, OSError):
        return _from_os_error(error)
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # torch's, without torch
        return OcrsmithError(
            f"Memory ran out: {str(error).splitlines()[0] if str(error) else 'no more to be had'}",
            mend="Use a smaller batch or mode; `ocrsmith doctor` shows what this machine has.",
        )
    return None


def _from_os_error(error: OSError) -> OcrsmithError | None:
    place = str(error.filename) if error.filename is not None else None
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return OutputError("The disk is full.", place=place, mend="Free some space, or write to another disk.")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS) and place:
        return OutputError(
            "No permission.", place=place, mend="Change its permissions, or choose another place."
        )
    if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG) and place:
        return InputError(f"{error.strerror}.", place=place, mend="Check the path.")
    return None


def _print_stderr(label: str, style: str, message: str) -> None:
    """Writes plain text: a path with brackets is no markup, and long lines are not broken."""
    from rich.console import Console
    from rich.text import Text

    text = Text.assemble((label, style), f" {message}" if message else "")
    Console(stderr=True, highlight=False).print(text, soft_wrap=True)


def _print_error_json(kind: str, problem: str, place: str | None, mend: str | None, exit_code: int) -> None:
    if _state.as_json and not _state.json_printed:
        error = {"type": kind, "problem": problem, "where": place, "mend": mend, "exit_code": exit_code}
        print_json({"error": error})


def _keep_traceback(error: BaseException, arguments: list[str]) -> Path | None:
    """Writes the traceback with what a maintainer asks first; None where even that cannot be written."""
    head = (
        f"ocrsmith {ocrsmith.__version__}, Python {platform.python_version()}, {platform.platform()}\n"
        f"{datetime.now().astimezone().isoformat(timespec='seconds')}\n"
        f"ocrsmith {shlex.join(arguments)}\n\n"
    )
    try:
        handle, name = tempfile.mkstemp(prefix="ocrsmith-error-", suffix=".txt")
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(head + "".join(traceback.format_exception(error)))
    except OSError:
        return None
    return Path(name)
