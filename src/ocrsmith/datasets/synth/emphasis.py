"""What a model gets wrong, to make more of: files of characters and of confusions, and texts made from them.

`--chars FILE`: one character a line, and after a tab (or space) its weight, 1 if there is none.
`--confusions FILE`: TSV lines `reference<tab>prediction<tab>count`: what stands on the page, what was read
instead, and how often. Both sides come more often, in places where the other could stand.
"""

from __future__ import annotations

import random
import unicodedata
from bisect import bisect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import accumulate
from math import isfinite
from pathlib import Path

from ocrsmith.datasets.importers.lines import iterate_lines
from ocrsmith.datasets.synth.scripts import script_of
from ocrsmith.errors import DataError


@dataclass(frozen=True)
class Emphasis:
    """Characters that shall come often."""

    weights: Mapping[str, float]
    """Character → how often it comes, beside the others."""
    partners: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Character → those it is confused with."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "_order", tuple(self.weights))
        object.__setattr__(self, "_sums", tuple(accumulate(self.weights.values())))

    _order: tuple[str, ...] = field(init=False, repr=False, compare=False)
    _sums: tuple[float, ...] = field(init=False, repr=False, compare=False)

    def choose(self, rng: random.Random) -> str:
        """A character by weight."""
        return self._order[min(bisect(self._sums, rng.random() * self._sums[-1]), len(self._order) - 1)]

    def without(self, characters: frozenset[str]) -> Emphasis:
        """The same, but for `characters`."""
        kept = {c: weight for c, weight in self.weights.items() if c not in characters}
        partners = {c: tuple(p for p in self.partners.get(c, ()) if p not in characters) for c in kept}
        return Emphasis(kept, {c: found for c, found in partners.items() if found})


def read_emphasis(chars: Sequence[Path], confusions: Sequence[Path]) -> Emphasis | None:
    """What the files ask for; None if there are no files.

    Raises:
        DataError: a file that is not there, is empty, or has a line that cannot be meant.
    """
    weights: dict[str, float] = {}
    partners: dict[str, dict[str, None]] = {}
    for path in chars:
        for character, weight in _read_chars(path):
            weights[character] = weights.get(character, 0) + weight
    for path in confusions:
        for reference, prediction, count in _read_confusions(path):
            for one, other in ((reference, prediction), (prediction, reference)):
                if one:
                    weights[one] = weights.get(one, 0) + count
                    partners.setdefault(one, {}).update({other: None} if other else {})
    if not weights:
        return None
    return Emphasis(weights, {c: tuple(found) for c, found in partners.items() if found})


def _rows(path: Path, mend: str) -> Iterator[tuple[int, str]]:
    """Numbered lines that are not blank.

    Raises:
        DataError: no file, or no line.
    """
    if not path.is_file():
        raise DataError(f"There is no file {path}.", place=str(path), mend="Correct the path.")
    empty = True
    for number, line in iterate_lines(path, "utf-8"):
        if line.strip():
            empty = False
            yield number, line
    if empty:
        raise DataError("The file has no lines.", place=str(path), mend=mend)


def _read_chars(path: Path) -> Iterator[tuple[str, float]]:
    mend = "Write one character a line, and if you like a tab and its weight, such as `一<tab>3`."
    for number, line in _rows(path, mend):
        character, *rest = line.strip(" ").split("\t") if "\t" in line else line.split()
        place = f"{path}, line {number}"
        if len(rest) > 1:
            raise DataError(f"There are {len(rest) + 1} values: {line!r}.", place=place, mend=mend)
        yield _character(character, place, mend), _weight(rest[0], place, mend) if rest else 1.0


def _read_confusions(path: Path) -> Iterator[tuple[str, str, float]]:
    mend = "Write `reference<tab>prediction<tab>count` a line: the true character, what was read, how often."
    for number, line in _rows(path, mend):
        place = f"{path}, line {number}"
        cells = line.split("\t")
        if len(cells) != 3:
            raise DataError(f"There are {len(cells)} values, not three: {line!r}.", place=place, mend=mend)
        # one side may be empty: characters that were left out, or made up
        sides = [_character(cell, place, mend) if cell.strip() else "" for cell in cells[:2]]
        if not any(sides) or sides[0] == sides[1]:
            raise DataError(f"This is no confusion: {line!r}.", place=place, mend=mend)
        yield sides[0], sides[1], _weight(cells[2], place, mend)


def _character(written: str, place: str, mend: str) -> str:
    character = unicodedata.normalize("NFC", written.strip())
    if len(character) != 1:
        raise DataError(f"{written!r} is not one character.", place=place, mend=mend)
    return character


def _weight(written: str, place: str, mend: str) -> float:
    try:
        weight = float(written)
    except ValueError:
        weight = 0.0
    if not isfinite(weight) or weight <= 0:
        raise DataError(f"{written!r} is no weight; it must be above 0.", place=place, mend=mend)
    return weight


def put_in(text: str, target: str, partners: Sequence[str], rng: random.Random) -> tuple[str, int] | None:
    """`text` with one character turned into `target`, and where: one that it is confused with if there is
    such a one, else one of its kind (a digit for a digit, a hanzi for a hanzi). None if there is none."""
    places = [i for i, c in enumerate(text) if c in partners]
    if not places:
        places = [i for i, c in enumerate(text) if kind_of(c) == kind_of(target) and c != target]
    if not places:
        return None
    place = rng.choice(places)
    return text[:place] + target + text[place + 1 :], place


def string_of(target: str, partners: Sequence[str], longest: int, rng: random.Random) -> str:
    """A short string in which only looking helps: the character among those it is confused with and others of
    its kind, as in codes and numbers."""
    others = list(partners) or _neighbours(target)
    drawn = rng.choices((target, *others), k=min(longest, rng.randint(3, 8)))
    drawn[rng.randrange(len(drawn))] = target
    return "".join(drawn)


def _neighbours(character: str) -> list[str]:
    around = (ord(character) + step for step in range(-4, 5))
    return [chr(c) for c in around if 32 < c < 0x110000 and kind_of(chr(c)) == kind_of(character)]


@lru_cache(maxsize=65536)
def kind_of(character: str) -> tuple[str, str, int]:
    """Characters of one kind can stand in each other's place: category, script, and of digits which ones."""
    digit = unicodedata.decimal(character, None)
    zero = ord(character) - digit if digit is not None else 0
    return unicodedata.category(character), script_of(character), zero
