"""Character differences for people: what was missed, what was added, what was taken for something else."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from rapidfuzz.distance import Levenshtein

Kind = Literal["same", "missing", "extra", "wrong"]

_NAMES = {
    " ": "␣",
    "\t": "⇥",
    "\n": "↵",
    "\r": "CR",
    "\u00a0": "NBSP",
    "\u00ad": "SHY",
    "\u200b": "ZWSP",
    "\u200c": "ZWNJ",
    "\u200d": "ZWJ",
    "\u200e": "LRM",
    "\u200f": "RLM",
    "\u3000": "IDSP",
    "\ufeff": "BOM",
}
_DOTTED_CIRCLE = "\u25cc"


@dataclass(frozen=True, slots=True)
class Piece:
    """Text as it is shown: as written, or the name of a character that cannot be seen."""

    text: str
    named: bool = False


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of the comparison.

    Attributes:
        kind: `same`; `missing` (in the reference, not read); `extra` (read, not in the reference); `wrong`.
        read: pieces of the prediction; empty for `missing`.
        true: pieces of the reference; empty for `extra`.
    """

    kind: Kind
    read: tuple[Piece, ...]
    true: tuple[Piece, ...]


_KINDS: dict[str, Kind] = {"equal": "same", "delete": "missing", "insert": "extra", "replace": "wrong"}


def segments(reference: str, prediction: str) -> list[Segment]:
    """Aligns two texts with the fewest edits (the same alignment that CER counts)."""
    found: list[Segment] = []
    for step in Levenshtein.opcodes(reference, prediction):
        true = reference[step.src_start : step.src_end]
        read = prediction[step.dest_start : step.dest_end]
        if step.tag == "equal":
            found.append(Segment("same", (Piece(read),), (Piece(true),)))
        else:
            found.append(Segment(_KINDS[step.tag], tuple(_pieces(read)), tuple(_pieces(true))))
    return found


def language(text: str) -> str:
    """A language tag by script, so that browsers choose fitting glyphs: zh, ja, ko, fa, ar, or und."""
    if re.search("[\u3040-\u30ff]", text):
        return "ja"
    if re.search("[\uac00-\ud7af]", text):
        return "ko"
    if re.search("[\u3400-\u9fff\U00020000-\U0003ffff]", text):
        return "zh"
    if re.search("[\u0600-\u06ff]", text):
        return "fa" if re.search("[پچژگکی]", text) else "ar"
    return "und"


def _pieces(text: str) -> Iterator[Piece]:
    """Cuts a changed stretch so that each character in it can be seen."""
    plain = ""
    for character in text:
        name = _name(character)
        if name is None:
            # A combining mark alone would sit on the neighbour's last letter: give it a base of its own.
            if not plain and unicodedata.category(character) in ("Mn", "Me"):
                plain = _DOTTED_CIRCLE
            plain += character
            continue
        if plain:
            yield Piece(plain)
            plain = ""
        yield Piece(name, named=True)
        if character == "\n":
            yield Piece("\n")
    if plain:
        yield Piece(plain)


def _name(character: str) -> str | None:
    if character in _NAMES:
        return _NAMES[character]
    if unicodedata.category(character) in ("Cc", "Cf", "Zs", "Zl", "Zp", "Co", "Cn", "Cs"):
        return f"U+{ord(character):04X}"
    return None
