"""How to build a dataset: every option with its meaning, checked when made."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from ocrsmith.datasets.groups import GroupRule
from ocrsmith.datasets.importers import ImportOptions
from ocrsmith.datasets.importers.base import Labels, Unit
from ocrsmith.datasets.split import SplitPlan
from ocrsmith.errors import SettingsError
from ocrsmith.text import FREE_OCR, find_prompt

Layout = Literal["folder", "prefix"]


@dataclass(frozen=True)
class BuildSettings:
    """How to build a dataset; checked when made.

    Raises:
        SettingsError: a value that cannot be.
    """

    splits: str = "80/10/10"
    """Train, val and test: shares (80/10/10, 0.8/0.1/0.1) or counts (rest/500/500)."""
    seed: int = 42
    group_by: str | None = None
    """Keeps the samples of a document on one side; see `GroupRule`. None: auto."""
    layout: Layout = "folder"
    prefix: str | None = None
    """File names of the prefix layout begin with it; None: the name of the output folder."""
    format: str | None = None
    unit: Unit | None = None
    labels: Labels = "fields"
    allow_outside: bool = False
    image_column: str | None = None
    text_column: str | None = None
    encoding: str = "utf-8"
    escapes: bool | None = None
    quotes: bool | None = None
    """See `ImportOptions`."""
    prompt: str = FREE_OCR
    """The dataset's prompt, for samples without one of their own."""
    min_side: int = 10
    """Images with fewer pixels along a side are left out."""
    limit: int | None = None
    """Takes only the first so many usable samples."""
    strict: bool = False
    """Anything that would be left out is an error."""
    keep_splits: str | None = None
    """An earlier dataset: its documents stay in the splits that they have there."""
    overwrite: bool = False
    """Replace a dataset that is there."""
    fresh: bool = False
    """Begin anew where an interrupted build has left its work."""

    def __post_init__(self) -> None:
        SplitPlan.parse(self.splits)
        GroupRule.parse(self.group_by)
        find_prompt(self.prompt)
        if self.layout not in ("folder", "prefix"):
            raise _wrong(f"{self.layout!r} is no layout.", "--layout", "Use folder or prefix.")
        if self.prefix is not None and not re.fullmatch(r"\w[\w.-]*", self.prefix):
            raise _wrong(
                f"{self.prefix!r} cannot begin a file name.", "--prefix", "Use letters, digits, _ and -."
            )
        if self.prefix is not None and self.layout != "prefix":
            raise _wrong("A prefix needs the prefix layout.", "--prefix", "Add --layout prefix.")
        if self.min_side < 1:
            raise _wrong(f"{self.min_side} is not a size in pixels.", "--min-side", "Use 1 or more.")
        if self.limit is not None and self.limit < 1:
            raise _wrong(f"{self.limit} samples are none.", "--limit", "Use 1 or more.")

    @property
    def import_options(self) -> ImportOptions:
        """What importers need of it."""
        return ImportOptions(
            format=self.format,
            unit=self.unit,
            labels=self.labels,
            allow_outside=self.allow_outside,
            image_column=self.image_column,
            text_column=self.text_column,
            group_column=GroupRule.parse(self.group_by).column,
            encoding=self.encoding,
            escapes=self.escapes,
            quotes=self.quotes,
        )


def _wrong(problem: str, option: str, mend: str) -> SettingsError:
    return SettingsError(problem, place=option, mend=mend)
