"""Reads the boxes in grounded answers: `<|ref|>label<|/ref|><|det|>[[x1, y1, x2, y2], …]<|/det|>`.

What stands between the marks comes from a model that copied it from a picture, so it is hostile until proven
otherwise: a scanner for nested lists of plain numbers reads it, and nothing is ever evaluated.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

REF_OPEN = "<|ref|>"
DET_CLOSE = "<|/det|>"
BETWEEN = "<|/ref|><|det|>"

UNITS = 999
"""Coordinates run from 0 to this, whatever the size of the image."""

Number = int | float

_SPACE = re.compile(r"\s*")
# Numbers are bounded in length: converting a digit string takes time that grows with its square.
_NUMBER = re.compile(r"[+-]?(?:0|[1-9]\d{0,15})(?:\.\d{0,20})?(?:[eE][+-]?\d{1,3})?(?![\w.])", re.ASCII)
_STRING = re.compile(r"'[^'\\\n]*'|\"[^\"\\\n]*\"")
_CLOSERS = {"[": "]", "(": ")"}
_MAX_DEPTH = 8
_LARGEST = 1e15


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle in 0–999 units relative to the image, exactly as the model wrote it.

    Nothing is clipped or put in order here: values below 0 or above 999 and x1 > x2 happen.
    """

    x1: Number
    y1: Number
    x2: Number
    y2: Number

    def to_pixels(self, width: int, height: int) -> tuple[int, int, int, int]:
        """(left, top, right, bottom) in pixels of an image of that size: v / 999 · size, towards zero."""
        return (
            int(self.x1 / UNITS * width),
            int(self.y1 / UNITS * height),
            int(self.x2 / UNITS * width),
            int(self.y2 / UNITS * height),
        )

    def crop_area(self, width: int, height: int) -> tuple[int, int, int, int] | None:
        """Like `to_pixels`, put in order and clipped to the image; None if nothing of it lies inside."""
        x1, y1, x2, y2 = self.to_pixels(width, height)
        left, right = max(0, min(x1, x2)), min(width, max(x1, x2))
        top, bottom = max(0, min(y1, y2)), min(height, max(y1, y2))
        return (left, top, right, bottom) if left < right and top < bottom else None


@dataclass(frozen=True, slots=True)
class GroundedSpan:
    """One label with its boxes."""

    label: str
    """As written, surrounding white space included."""
    boxes: tuple[Box, ...]
    """The well-formed boxes; empty where the coordinates cannot be read."""
    start: int
    end: int
    """The span is `text[start:end]`, marks included."""
    coordinates: str
    """What stands between `<|det|>` and `<|/det|>`, for messages."""


def parse_boxes(text: str) -> list[GroundedSpan]:
    """All grounded spans of a model's answer, in order; never raises, in time linear in the text.

    A span reaches from `<|ref|>` to the next `<|/ref|><|det|>` and on to the next `<|/det|>`, as the
    published code takes it. Coordinates that are not a list of lists of plain numbers give no boxes; within a
    readable list, entries that are not four numbers are left out.
    """
    spans: list[GroundedSpan] = []
    position = 0
    while True:
        start = text.find(REF_OPEN, position)
        middle = text.find(BETWEEN, start + len(REF_OPEN)) if start >= 0 else -1
        close = text.find(DET_CLOSE, middle + len(BETWEEN)) if middle >= 0 else -1
        if close < 0:
            return spans
        coordinates = text[middle + len(BETWEEN) : close]
        position = close + len(DET_CLOSE)
        label = text[start + len(REF_OPEN) : middle]
        spans.append(GroundedSpan(label, _read_boxes(coordinates), start, position, coordinates))


class _Unreadable(ValueError):
    """The coordinates are not nested lists of plain values."""


def _read_boxes(coordinates: str) -> tuple[Box, ...]:
    try:
        value = _Scanner(coordinates).read_all()
    except _Unreadable:
        return ()
    if not isinstance(value, list):
        return ()
    return tuple(Box(*entry) for entry in value if _is_box(entry))


def _is_box(entry: object) -> bool:
    return isinstance(entry, list) and len(entry) == 4 and all(isinstance(v, int | float) for v in entry)


class _Scanner:
    """Reads lists and tuples (both as lists) of numbers and of strings without escapes; refuses all else.

    Strings are read only so that one bad entry does not hide the good ones beside it.
    """

    def __init__(self, source: str) -> None:
        self.source = source
        self.position = 0

    def read_all(self) -> object:
        """The whole source as one value; several values with commas between them make a list."""
        values, commas = self._read_values("", depth=0)
        return values[0] if len(values) == 1 and not commas else values

    def _read_values(self, closer: str, depth: int) -> tuple[Sequence, int]:
        """Values up to `closer` ("" is the end of the source), and the number of commas after values."""
        values: list[object] = []
        commas = 0
        while not self._at(closer):
            if len(values) != commas:
                self._expect(",")
                commas += 1
            else:
                values.append(self._read_value(depth))
        return values, commas

    def _read_value(self, depth: int) -> object:
        opener = self.source[self.position : self.position + 1]
        if opener in _CLOSERS and depth < _MAX_DEPTH:
            self.position += 1
            values, commas = self._read_values(_CLOSERS[opener], depth + 1)
            self.position += 1
            if opener == "(" and len(values) == 1 and not commas:
                return values[0]  # brackets around one value make no tuple
            return values
        if match := _NUMBER.match(self.source, self.position):
            self.position = match.end()
            return _to_number(match.group())
        if match := _STRING.match(self.source, self.position):
            self.position = match.end()
            return match.group()
        raise _Unreadable(self.source)

    def _at(self, closer: str) -> bool:
        """Skips white space; whether `closer` comes next."""
        self.position = _SPACE.match(self.source, self.position).end()  # type: ignore[union-attr]
        if self.position == len(self.source):
            if closer:
                raise _Unreadable(self.source)
            return True
        return bool(closer) and self.source[self.position] == closer

    def _expect(self, character: str) -> None:
        if self.source[self.position] != character:
            raise _Unreadable(self.source)
        self.position += 1


def _to_number(digits: str) -> Number:
    if digits.lstrip("+-").isdigit():
        return int(digits)
    value = float(digits)
    if abs(value) > _LARGEST:  # infinity included
        raise _Unreadable(digits)
    return value
