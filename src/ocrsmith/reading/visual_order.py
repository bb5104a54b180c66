"""From the order in which a line is read to the order in which its characters stand on paper, left to right.

PDF files place characters where they are seen, and viewers turn them back when they search and copy: so text
that runs from right to left has to be laid as it is seen. This is the Unicode bidirectional algorithm (UAX 9)
for a line without embeddings: the levels that base direction, letters, numbers and what lies between them give.
"""

from __future__ import annotations

import unicodedata
from itertools import groupby

_STRONG = ("L", "R")


def is_rtl(text: str) -> bool:
    """Whether a line as a whole runs from right to left: its first letter does (rules P2 and P3)."""
    for letter in text:
        kind = unicodedata.bidirectional(letter)
        if kind in ("L", "R", "AL"):
            return kind != "L"
    return False


def visual_order(text: str) -> str:
    """The characters of a line from left to right, brackets mirrored where they run from right to left."""
    if text.isascii() or not any(unicodedata.bidirectional(letter) in ("R", "AL", "AN") for letter in text):
        return text
    levels = _levels(text, int(is_rtl(text)))
    order = list(range(len(text)))
    for level in range(max(levels), 0, -1):  # rule L2
        start = 0
        while start < len(order):
            end = start
            while end < len(order) and levels[order[end]] >= level:
                end += 1
            order[start:end] = order[start:end][::-1]
            start = max(end, start + 1)
    return "".join(_mirrored(text[at]) if levels[at] % 2 else text[at] for at in order)


def _levels(text: str, base: int) -> list[int]:
    kinds = [unicodedata.bidirectional(letter) for letter in text]
    _resolve_weak(kinds, "R" if base else "L")
    _resolve_neutral(kinds, "R" if base else "L")
    step = ({"L": 0, "R": 1, "AN": 2, "EN": 2}, {"R": 0, "L": 1, "AN": 1, "EN": 1})[base]  # I1, I2
    return [base + step[kind] for kind in kinds]


def _resolve_weak(kinds: list[str], base: str) -> None:
    """Rules W1 to W7: marks go with their letters, signs with their numbers."""
    before, strong = base, base
    for at, kind in enumerate(kinds):
        if kind in ("NSM", "BN"):
            kinds[at] = before
        if kind in ("L", "R", "AL"):
            strong = kind
        if kinds[at] == "EN" and strong == "AL":
            kinds[at] = "AN"
        before = kinds[at]
    for at in range(1, len(kinds) - 1):
        left, kind, right = kinds[at - 1 : at + 2]
        if left == right and ((kind == "CS" and left in ("EN", "AN")) or (kind == "ES" and left == "EN")):
            kinds[at] = left
    kinds[:] = ["R" if kind == "AL" else kind for kind in kinds]
    _join_terminators(kinds)
    strong = base
    for at, kind in enumerate(kinds):
        if kind in _STRONG:
            strong = kind
        elif kind == "EN" and strong == "L":
            kinds[at] = "L"


def _join_terminators(kinds: list[str]) -> None:
    """Rule W5: signs of percent and currency beside a European number belong to it."""
    for at in (*range(1, len(kinds)), *range(len(kinds) - 2, -1, -1)):
        neighbour = kinds[at - 1 : at] + kinds[at + 1 : at + 2]
        if kinds[at] == "ET" and "EN" in neighbour:
            kinds[at] = "EN"


def _resolve_neutral(kinds: list[str], base: str) -> None:
    """Rules N1 and N2: what lies between two of one direction has that, else the line's."""
    at = 0
    for neutral, group in groupby(kinds[:], lambda kind: kind not in ("L", "R", "AN", "EN")):
        length = len(list(group))
        if neutral:
            left = _side(kinds[at - 1]) if at else base
            right = _side(kinds[at + length]) if at + length < len(kinds) else base
            kinds[at : at + length] = [left if left == right else base] * length
        at += length


def _side(kind: str) -> str:
    return "L" if kind == "L" else "R"


_PAIRS = "()[]{}<>«»‹›≤≥（）［］｛｝⟨⟩"
_MIRROR = dict(zip(_PAIRS, (_PAIRS[at ^ 1] for at in range(len(_PAIRS))), strict=True))


def _mirrored(letter: str) -> str:
    return _MIRROR.get(letter, letter)
