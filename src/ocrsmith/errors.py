"""Errors a user can mend. The tree:

OcrsmithError                 exit code 2; printed as problem, place and mend, never as a traceback
├── InputError                a file, folder or value given by the user
│   ├── ImageError            an image that cannot be opened safely
│   ├── DataError             a dataset, source or label file
│   ├── WeightsError          a checkpoint that does not fit its config
│   └── AdapterError          an adapter that does not fit its base
├── SettingsError             an option or recipe value
├── OutputError               cannot write: permission, full disk, already there
├── MissingExtraError         a part of ocrsmith that is not installed
└── TrainingError             training cannot go on: NaN loss, out of memory …
"""

from __future__ import annotations

import importlib
from types import ModuleType


class OcrsmithError(Exception):
    """Base of all errors that a user can mend.

    Args:
        problem: what is wrong, one sentence with the offending value in it.
        place: file, line, field or option where it is wrong.
        mend: what to do about it, in the imperative.
    """

    exit_code = 2

    def __init__(self, problem: str, *, place: str | None = None, mend: str | None = None) -> None:
        super().__init__(problem)
        self.problem = problem
        self.place = place
        self.mend = mend

    def __str__(self) -> str:
        parts = [self.problem]
        if self.place:
            parts.append(f"  where: {self.place}")
        if self.mend:
            parts.append(f"  mend:  {self.mend}")
        return "\n".join(parts)


class InputError(OcrsmithError):
    """Something the user gave cannot be used."""


class ImageError(InputError):
    """An image cannot be opened safely. `reason` is a ledger code (see `records.Excluded`)."""

    def __init__(
        self, problem: str, *, reason: str = "unreadable", place: str | None = None, mend: str | None = None
    ) -> None:
        super().__init__(problem, place=place, mend=mend)
        self.reason = reason


class DataError(InputError):
    """A dataset, source or label file cannot be used."""


class WeightsError(InputError):
    """A checkpoint does not fit its config; lists the tensors."""


class AdapterError(InputError):
    """An adapter does not fit its base model."""


class SettingsError(OcrsmithError):
    """An option or recipe value is wrong."""


class OutputError(OcrsmithError):
    """A result cannot be written."""


class MissingExtraError(OcrsmithError):
    """A part of ocrsmith is not installed."""


class TrainingError(OcrsmithError):
    """Training cannot go on."""


def require(module: str, *, extra: str, why: str) -> ModuleType:
    """Imports `module`, or says which extra brings it.

    Args:
        module: dotted module name, e.g. "torch".
        extra: the extra of ocrsmith that installs it, e.g. "train".
        why: what needs it, e.g. "Fine-tuning".
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(
            f"{why} needs the package {module.split('.')[0]!r}, which is not installed ({error}).",
            mend=f"pip install 'ocrsmith[{extra}]'",
        ) from error
