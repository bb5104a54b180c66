"""Chooses a face that covers a text."""

from __future__ import annotations

import random
import re
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import accumulate
from pathlib import Path

from ocrsmith.datasets.synth.font_index import Face
from ocrsmith.datasets.synth.scripts import script_of
from ocrsmith.datasets.synth.typeset import Engine, draws

_TRIES = 24
_KEPT_WAYS = 4096


class FaceSet:
    """Faces in a fixed order, asked for by the characters they have.

    A set of faces is an integer with a bit for each: of every character it is known once which faces have it,
    and the faces for a text are the bits that all its characters share.
    """

    def __init__(self, faces: Sequence[Face]) -> None:
        self.faces = list(faces)
        self._all = (1 << len(self.faces)) - 1
        self._joining = sum(1 << i for i, face in enumerate(self.faces) if face.joins)
        self._fixed = sum(1 << i for i, face in enumerate(self.faces) if face.fixed)
        self._of_character: dict[str, int] = {}
        groups: dict[str, int] = {}
        for i, face in enumerate(self.faces):
            name = _design(face)
            groups[name] = groups.get(name, 0) | 1 << i
        self._groups = list(groups.values())
        self._ways: dict[int, tuple[list[int], list[float]]] = {}

    def covering(self, characters: Iterable[str]) -> int:
        """The faces that have all of `characters`, as bits."""
        bits = self._all
        known = self._of_character
        for character in characters:
            found = known.get(character)
            if found is None:
                found = known[character] = self._faces_of(character)
            bits &= found
        return bits

    def choose(
        self, characters: frozenset[str], rng: random.Random, engine: Engine, *, fixed: bool = False
    ) -> Face | None:
        """A face that draws all of `characters`; None if there is none, or none was found in some tries.

        With `fixed` it is one whose characters are all of one width, if there is such a one.

        Every design (a family in all its weights) is as likely as its faces' number to the power of a half.
        """
        bits = self.covering(characters)
        if fixed and bits & self._fixed:
            bits &= self._fixed
        for _ in range(_TRIES):
            if not bits:
                return None
            groups, weights = self._weighted_groups(bits)
            group = rng.choices(groups, cum_weights=weights)[0]
            number = _nth_bit(group, rng.randrange(group.bit_count()))
            if draws(self.faces[number], characters, engine):
                return self.faces[number]
            bits &= ~(1 << number)
        return None

    def _faces_of(self, character: str) -> int:
        point = ord(character)
        bits = 0
        for i, face in enumerate(self.faces):
            if bisect_right(face.ranges, point) % 2:
                bits |= 1 << i
        if character < "\ufb50" and script_of(character) == "Arabic":
            bits &= self._joining
        return bits or (self._all if character.isspace() else 0)

    def _weighted_groups(self, bits: int) -> tuple[list[int], list[float]]:
        ways = self._ways.get(bits)
        if ways is None:
            if len(self._ways) >= _KEPT_WAYS:
                self._ways.clear()
            groups = [group & bits for group in self._groups if group & bits]
            ways = self._ways[bits] = groups, list(accumulate(group.bit_count() ** 0.5 for group in groups))
        return ways


def _design(face: Face) -> str:
    """What faces of one design share: the file's name up to its weight, e.g. `NotoSansCJK`."""
    return re.split(r"[-_ ]", Path(face.path).stem)[0]


def _nth_bit(bits: int, number: int) -> int:
    """The place of the `number`th bit that is set, from the lowest."""
    for _ in range(number):
        bits &= bits - 1
    return (bits & -bits).bit_length() - 1
