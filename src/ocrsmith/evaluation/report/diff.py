"""Character differences for people: what was missed, what was added, what was taken for something else.

Texts come from models: what would turn its surroundings around, and what nobody sees, is shown by name.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from rapidfuzz.distance import Levenshtein

Kind = Literal["same", "missing", "extra", "wrong"]

CHARACTER_NAMES = {
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
UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u206f\ufff9-\ufffb\ud800-\udfff]"
)
"""Control characters, marks and overrides of direction, and halves of characters."""


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
            found.append(Segment("same", readable(read), readable(true)))
        else:
            found.append(Segment(_KINDS[step.tag], revealed(read), revealed(true)))
    return found


def edits(reference: str, prediction: str) -> list[int | str]:
    """The same alignment as data, flat: characters that agree, characters of the reference that were not read,
    what was read instead; and so on. What agrees behind the last edit is not said."""
    found: list[int | str] = []
    same = 0
    for step in Levenshtein.opcodes(reference, prediction):
        if step.tag == "equal":
            same = step.src_end - step.src_start
        else:
            found += [same, step.src_end - step.src_start, prediction[step.dest_start : step.dest_end]]
            same = 0
    return found


def readable(text: str) -> tuple[Piece, ...]:
    """Text that is right, or only shown: nothing in it can turn its surroundings around."""
    pieces = []
    start = 0
    for found in UNSAFE.finditer(text):
        if found.start() > start:
            pieces.append(Piece(text[start : found.start()]))
        pieces.append(Piece(_name(found.group()) or "", named=True))
        start = found.end()
    return (*pieces, Piece(text[start:])) if start < len(text) or not pieces else tuple(pieces)


def revealed(text: str) -> tuple[Piece, ...]:
    """A changed stretch: whatever in it cannot be seen is shown by name."""
    return tuple(_pieces(text))


def direction(text: str) -> Literal["ltr", "rtl"]:
    """Which way a text runs, by its first letter that has a direction.

    A difference takes that of the reference: a single wrong letter must not turn its line around.
    """
    for character in text:
        kind = unicodedata.bidirectional(character)
        if kind in ("L", "R", "AL"):
            return "ltr" if kind == "L" else "rtl"
    return "ltr"


def visible(text: object, longest: int = 200) -> str:
    """A name (id, path, label) as one line of plain text; too long ones lose their middle."""
    line = re.sub("[\t\n]", " ", str(text))
    line = UNSAFE.sub(lambda found: f"⟨{_name(found.group())}⟩", line)
    return line if len(line) <= longest else f"{line[: longest // 2]} … {line[-(longest // 2) :]}"


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
    if character in CHARACTER_NAMES:
        return CHARACTER_NAMES[character]
    if unicodedata.category(character) in ("Cc", "Cf", "Zs", "Zl", "Zp", "Co", "Cn", "Cs"):
        return f"U+{ord(character):04X}"
    return None
