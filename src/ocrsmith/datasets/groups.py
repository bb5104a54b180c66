"""Which document a sample belongs to, and which samples have to stay together.

Besides the groups that the user asks for, exact copies (same image and same text) stay on one side, or the test
split would hold what was trained on.
"""

from __future__ import annotations

import re
from array import array
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np

from ocrsmith.datasets.importers import Candidate
from ocrsmith.datasets.split import hash_key
from ocrsmith.errors import SettingsError

_LAST_PART = re.compile(r"[\W_]*(?:[^\W_]+)$")


@dataclass(frozen=True, slots=True)
class GroupRule:
    """How --group-by says which document a sample belongs to."""

    kind: str
    """`source` (a `group` column where there is one), `parent`, `stem-prefix` or `column`."""
    argument: str = ""
    """For `stem-prefix`: the separator, empty for the last one. For `column`: its name."""

    @classmethod
    def parse(cls, text: str | None) -> GroupRule:
        """Reads `parent`, `stem-prefix`, `stem-prefix:SEPARATOR`, `column:NAME`; None means `source`.

        Raises:
            SettingsError: anything else.
        """
        if text is None:
            return cls("source")
        kind, _, argument = text.partition(":")
        if (kind == "parent" and not argument) or kind == "stem-prefix" or (kind == "column" and argument):
            return cls(kind, argument)
        raise SettingsError(
            f"{text!r} is no way to group samples.",
            place="--group-by",
            mend="Use parent (the image's folder), stem-prefix (its name without the last part: a_12_3.png → "
            "a_12), stem-prefix:__ (its name up to the first __), or column:NAME.",
        )

    @property
    def column(self) -> str | None:
        """The column that holds the group, if the rule names one."""
        return self.argument if self.kind == "column" else None

    def group_of(self, candidate: Candidate) -> str:
        """The group of a candidate; empty if it is one of its own."""
        if self.kind in ("source", "column"):
            return candidate.group
        path = PurePosixPath(candidate.image_path.replace("\\", "/"))
        if not path.name:
            return candidate.group
        parent = str(path.parent)
        if self.kind == "parent":
            return parent
        if self.argument:
            stem = path.stem.partition(self.argument)[0]
        else:
            stem = _LAST_PART.sub("", path.stem) or path.stem
        return stem if parent == "." else f"{parent}/{stem}"


class GroupIndex:
    """Numbers the groups of samples as they come, and joins groups that share a copy of a sample.

    Keeps 20–60 bytes for a sample, no images and no texts.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._numbers: dict[str, int] = {}
        self._of_sample = array("q")
        self._keys = array("q")
        self._joined: dict[int, int] = {}
        self._copies: dict[bytes, int] = {}
        self._texts_of_image: dict[bytes, bytes] = {}
        self.copies = 0
        """Samples that are an exact copy of an earlier one."""
        self.contradictions = 0
        """Samples whose image came before with another text."""

    def add(self, sample_id: str, group: str, image_digest: bytes, text_digest: bytes) -> None:
        """Takes the next sample.

        Args:
            group: its document; empty: one of its own.
            image_digest, text_digest: equal for equal images and texts.
        """
        number = self._numbers.get(group) if group else None
        if number is None:
            number = len(self._keys)
            self._keys.append(hash_key(self._seed, "group" if group else "sample", group or sample_id))
            if group:
                self._numbers[group] = number
        self._of_sample.append(number)
        known = self._texts_of_image.setdefault(image_digest, text_digest)
        if known != text_digest:
            self.contradictions += 1
        first = self._copies.setdefault(image_digest + text_digest, number)
        if len(self._copies) + self.copies < len(self._of_sample):
            self.copies += 1
            self._join(first, number)

    def resolve(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(N,) group of each sample, (G,) samples of each group, (G,) random keys of the groups."""
        roots = np.arange(len(self._keys), dtype=np.int64)
        for number in self._joined:
            roots[number] = self._root(number)
        unique, numbers = np.unique(roots, return_inverse=True)
        of_sample = numbers[np.array(self._of_sample, dtype=np.int64)]
        keys = np.array(self._keys, dtype=np.int64)[unique]
        return of_sample, np.bincount(of_sample, minlength=len(unique)), keys

    @property
    def named(self) -> int:
        """Number of groups that have a name."""
        return len(self._numbers)

    def _root(self, number: int) -> int:
        while number in self._joined:
            number = self._joined[number]
        return number

    def _join(self, first: int, second: int) -> None:
        first, second = self._root(first), self._root(second)
        if first != second:
            self._joined[max(first, second)] = min(first, second)
