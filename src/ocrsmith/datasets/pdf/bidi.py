"""From the order in which letters stand on paper to the order in which they are read.

PDF files place glyphs; a line with Arabic or Hebrew letters, sorted from left to right, is read backwards
except for its numbers and Latin words. This undoes the Unicode bidirectional algorithm for such a line, as far
as that can be done without the marks that only the author knew: one level of embedding, numbers kept together,
brackets mirrored.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

_PAIRS = tuple(map(tuple, ("()", "[]", "{}", "<>", "«»", "‹›", "“”", "‘’")))
_COMMON = frozenset(".,:/٫٬\u00a0")
"""Between two digits, part of the number."""
_EUROPEAN = frozenset("-−+")
"""The same after Hebrew; after Arabic letters they part it."""
_TERMINATORS = frozenset("%٪$€£¥°")
"""Beside a digit, part of the number after Hebrew."""


def is_rtl(letter: str) -> bool:
    """Whether a character is written from right to left."""
    return unicodedata.bidirectional(letter) in ("R", "AL")


def has_rtl(text: str) -> bool:
    """Whether any character is written from right to left."""
    return not text.isascii() and any(map(is_rtl, text))


def mostly_rtl(text: str) -> bool:
    """Whether more letters run from right to left than from left to right."""
    right = sum(map(is_rtl, text))
    return right > 0 and right > sum(unicodedata.bidirectional(letter) == "L" for letter in text)


def plain_letters(text: str) -> str:
    """Arabic letters instead of their joined shapes (presentation forms), which PDF files often name."""
    if not any("\ufb1d" <= letter <= "\ufdff" or "\ufe70" <= letter <= "\ufefc" for letter in text):
        return text
    return "".join(
        unicodedata.normalize("NFKC", letter)
        if "\ufb1d" <= letter <= "\ufdff" or "\ufe70" <= letter <= "\ufefc"
        else letter
        for letter in text
    )


def reading_order(units: Sequence[str], *, rtl: bool) -> str:
    """The text of a line.

    Args:
        units: glyphs and spaces from left to right; a glyph of several letters has them in reading order.
        rtl: whether the line as a whole runs from right to left.
    """
    kinds = _kinds(units)
    levels = _levels_in_rtl(kinds) if rtl else _levels_in_ltr(kinds)
    order = list(range(len(units)))
    for level in range(1, max(levels, default=0) + 1):  # outer runs first: the algorithm's last step, backwards
        start = 0
        while start < len(order):
            end = start
            while end < len(order) and levels[order[end]] >= level:
                end += 1
            order[start:end] = order[start:end][::-1]
            start = max(end, start + 1)
    turned = [place for place in order if levels[place] % 2]
    mirror = _mirrored([units[place] for place in turned])
    return "".join(mirror.get(units[at], units[at]) if levels[at] % 2 else units[at] for at in order)


def _mirrored(units: Sequence[str]) -> dict[str, str]:
    """Brackets to exchange among units in reading order.

    A file names the shape it draws, which is the mirrored one, or the character that was written; where both
    brackets of a kind occur, the opening one comes first.
    """
    exchanged: dict[str, str] = {}
    for left, right in _PAIRS:
        found = [unit for unit in units if unit in (left, right)]
        written = left in found and right in found and found[0] == left
        if found and not written and (left not in "“‘" or len(set(found)) == 2):
            exchanged |= {left: right, right: left}
    return exchanged


def _kinds(units: Sequence[str]) -> list[str]:
    """R, L, N (number) or a blank for what has no direction; signs within numbers belong to them."""
    kinds = []
    for unit in units:
        found = [unicodedata.bidirectional(letter) for letter in unit]
        if any(kind in ("R", "AL") for kind in found):
            kinds.append("R")
        elif "L" in found:
            kinds.append("L")
        else:
            kinds.append("N" if any(kind in ("EN", "AN") for kind in found) else " ")
    hebrew = not any(unicodedata.bidirectional(letter) == "AL" for unit in units for letter in unit)
    for place, unit in enumerate(units):
        around = kinds[max(0, place - 1) : place] + kinds[place + 1 : place + 2]
        within = around == ["N", "N"] and (unit in _COMMON or (hebrew and unit in _EUROPEAN))
        if kinds[place] == " " and (within or (hebrew and unit in _TERMINATORS and "N" in around)):
            kinds[place] = "N"
    return kinds


def _levels_in_rtl(kinds: list[str]) -> list[int]:
    """1 for what runs from right to left, 2 for Latin words, with what stands between two, and numbers."""
    levels = [2 if kind in "LN" else 1 for kind in kinds]
    return _bridge(kinds, levels, ends=("LL", "LN"), level=2)


def _levels_in_ltr(kinds: list[str]) -> list[int]:
    levels = [1 if kind == "R" else 0 for kind in kinds]
    levels = _bridge(kinds, levels, ends=("RR",), level=1)
    for place, kind in enumerate(kinds):
        if kind == "N" and levels[place] == 1:  # a number amid right-to-left words
            levels[place] = 2
    return levels


def _bridge(kinds: list[str], levels: list[int], *, ends: tuple[str, ...], level: int) -> list[int]:
    """Gives what lies between two strong characters the level of both."""
    last: int | None = None
    for place, kind in enumerate(kinds):
        if kind == " " or (kind == "N" and ends == ("RR",)):
            continue
        if last is not None and kinds[last] + kind in ends:
            levels[last + 1 : place] = [level] * (place - last - 1)
        last = place
    return levels
