"""Arabic script for renderers without a shaping engine: joined letters and right-to-left order.

Letters are written as Unicode's Arabic presentation forms (U+FB50…U+FEFC), whose tables come from Python's
`unicodedata`; order follows the Unicode bidirectional algorithm (UAX #9, revision 48) without explicit
embeddings and isolates: their marks are taken out.
"""

from __future__ import annotations

import unicodedata
from functools import cache

ZWNJ, ZWJ = "\u200c", "\u200d"
_FORM_NAMES = ("isolated", "final", "initial", "medial")
_TATWEEL = "ـ"
_LAM = "ل"
_MIRRORED = str.maketrans("()[]{}<>«»‹›《》〈〉「」『』【】〔〕", ")(][}{><»«›‹》《〉〈」「』『】【〕〔")
_PAIRS = dict(zip("([{《〈「『【〔", ")]}》〉」』】〕", strict=True))
_NEUTRAL = {"B", "S", "WS", "ON", "BN", "ET", "ES", "CS"}
_EXPLICIT = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
_UNSEEN = ("Cf", "Cc")


@cache
def presentation_forms() -> dict[str, dict[str, str]]:
    """Of every letter (or lam-alef pair) its forms by name: {"ب": {"isolated": "ﺏ", "final": …}, …}."""
    forms: dict[str, dict[str, str]] = {}
    for code in (*range(0xFB50, 0xFDD0), *range(0xFE80, 0xFEFD)):
        name, *base = unicodedata.decomposition(chr(code)).split() or [""]
        letters = "".join(chr(int(b, 16)) for b in base)
        wanted = len(letters) == 1 or (len(letters) == 2 and letters[0] == _LAM and letters[1] in "اأإآ")
        if name.strip("<>") in _FORM_NAMES and wanted:
            forms.setdefault(letters, {}).setdefault(name.strip("<>"), chr(code))
    return forms


def joins_forward(letter: str) -> bool:
    """Whether a letter joins to the one after it (so that a ZWNJ after it can be seen)."""
    return letter in (_TATWEEL, ZWJ) or "initial" in presentation_forms().get(letter, {})


def _joins_backward(letter: str) -> bool:
    return letter in (_TATWEEL, ZWJ) or "final" in presentation_forms().get(letter, {})


def _next(text: str, i: int, step: int) -> int:
    """The place of the next character that takes part in joining: marks upon letters do not."""
    i += step
    while 0 <= i < len(text) and unicodedata.category(text[i]) in ("Mn", "Me"):
        i += step
    return i


def shape(text: str) -> str:
    """`text` in logical order with every Arabic letter replaced by its contextual form and lam-alef by its
    ligature; ZWNJ breaks joins, ZWJ makes them, and both are removed. Characters of other scripts stay as they
    are."""
    forms_of = presentation_forms()
    out = []
    passed = -1  # the alef that a ligature has taken
    for i, letter in enumerate(text):
        if i == passed:
            continue
        ahead = _next(text, i, 1)
        unit = letter
        if letter == _LAM and ahead < len(text) and letter + text[ahead] in forms_of:
            unit, passed = letter + text[ahead], ahead
            ahead = _next(text, ahead, 1)
        forms = forms_of.get(unit)
        if forms is None:
            if unit not in (ZWNJ, ZWJ):
                out.append(unit)
            continue
        before = _next(text, i, -1)
        back = before >= 0 and joins_forward(text[before]) and "final" in forms
        on = ahead < len(text) and _joins_backward(text[ahead]) and "initial" in forms
        name = ("medial" if on else "final") if back else ("initial" if on else "isolated")
        out.append(forms.get(name, unit))
    return "".join(out)


def is_rtl(text: str) -> bool:
    """Whether a text runs right to left: its first strong character decides (rules P2, P3).

    Without one, Persian or Arabic digits and marks do, as they stand in right-to-left pages."""
    for character in text:
        kind = unicodedata.bidirectional(character)
        if kind in ("R", "AL"):
            return True
        if kind == "L":
            return False
    return any("\u0600" <= c <= "\u06ff" for c in text)


def _resolve_weak(kinds: list[str], base: str) -> list[str]:
    """Rules W1–W7 on one level run. Separators left over become neutral (ON)."""
    kinds = list(kinds)
    strong, previous = base, base
    for i, kind in enumerate(kinds):
        if kind == "NSM":
            kinds[i] = kind = previous
        previous = kind
        if kind in ("L", "R", "AL"):
            strong = kind
        elif kind == "EN" and strong == "AL":
            kinds[i] = "AN"
    kinds = ["R" if k == "AL" else k for k in kinds]
    for i in range(1, len(kinds) - 1):
        around = kinds[i - 1], kinds[i + 1]
        if (kinds[i] == "ES" and around == ("EN", "EN")) or (
            kinds[i] == "CS" and around in (("EN", "EN"), ("AN", "AN"))
        ):
            kinds[i] = around[0]
    for order in (range(len(kinds)), range(len(kinds) - 1, -1, -1)):
        beside = ""
        for i in order:
            if kinds[i] == "ET" and beside == "EN":
                kinds[i] = "EN"
            beside = kinds[i] if kinds[i] != "BN" else beside
    strong = base
    for i, kind in enumerate(kinds):
        if kind in ("L", "R"):
            strong = kind
        elif kind == "EN" and strong == "L":
            kinds[i] = "L"
    return kinds


def _bracket_pairs(text: str, kinds: list[str]) -> list[tuple[int, int]]:
    """The places of brackets that belong together (BD16), in the order of the opening ones."""
    open_ones: list[tuple[str, int]] = []
    pairs = []
    for i, character in enumerate(text):
        if kinds[i] != "ON":
            continue
        if character in _PAIRS:
            open_ones.append((_PAIRS[character], i))
        for depth in range(len(open_ones) - 1, -1, -1):
            if open_ones[depth][0] == character:
                pairs.append((open_ones[depth][1], i))
                del open_ones[depth:]
                break
    return sorted(pairs)


def _strong(kind: str) -> str:
    """L, R, or nothing; numbers count as R (N0, N1)."""
    return "R" if kind in ("R", "EN", "AN") else kind if kind == "L" else ""


def _resolve_brackets(text: str, kinds: list[str], base: str) -> list[str]:
    """Rule N0: a pair of brackets takes one direction, by what stands in it and before it."""
    kinds = list(kinds)
    for start, end in _bracket_pairs(text, kinds):
        inside = {_strong(kind) for kind in kinds[start + 1 : end]} - {""}
        if not inside:
            continue
        direction = base
        if base not in inside:
            before = next((s for k in reversed(kinds[:start]) if (s := _strong(k))), base)
            direction = before if before in inside else base
        kinds[start] = kinds[end] = direction
    return kinds


def _resolve_neutral(kinds: list[str], base: str) -> list[str]:
    """Rules N1 and N2: a neutral stretch takes the direction of both its neighbours, else the line's."""
    kinds = list(kinds)
    i = 0
    while i < len(kinds):
        if kinds[i] not in _NEUTRAL:
            i += 1
            continue
        end = i
        while end < len(kinds) and kinds[end] in _NEUTRAL:
            end += 1
        left = base if i == 0 else ("L" if kinds[i - 1] == "L" else "R")
        right = base if end == len(kinds) else ("L" if kinds[end] == "L" else "R")
        kinds[i:end] = [left if left == right else base] * (end - i)
        i = end
    return kinds


def _levels(text: str, rtl: bool) -> list[int]:
    base = "R" if rtl else "L"
    classes = [unicodedata.bidirectional(c) or "L" for c in text]
    classes = ["BN" if kind in _EXPLICIT else kind for kind in classes]
    kinds = _resolve_neutral(_resolve_brackets(text, _resolve_weak(classes, base), base), base)
    if rtl:
        levels = [1 if k == "R" else 2 for k in kinds]
    else:
        levels = [{"L": 0, "R": 1}.get(k, 2) for k in kinds]
    for i in range(len(text) - 1, -1, -1):  # L1: white space at the end of a line
        if classes[i] not in ("WS", "B", "S", "BN"):
            break
        levels[i] = int(rtl)
    return levels


def visual_order(text: str, *, rtl: bool | None = None) -> str:
    """The characters of one line from left to right as the eye meets them (rule L2), brackets mirrored
    where they stand in right-to-left text (L4). `rtl` is the line's direction; None: as `is_rtl` says."""
    if rtl is None:
        rtl = is_rtl(text)
    if not rtl and all(unicodedata.bidirectional(c) not in ("R", "AL", "AN") for c in text):
        return text
    levels = _levels(text, rtl)
    cells = [c.translate(_MIRRORED) if level % 2 else c for c, level in zip(text, levels, strict=True)]
    for level in range(max(levels, default=0), 0, -1):
        i = 0
        while i < len(cells):
            end = i
            while end < len(cells) and levels[end] >= level:
                end += 1
            if end > i:
                cells[i:end] = cells[i:end][::-1]
                levels[i:end] = levels[i:end][::-1]
            i = max(end, i + 1)
    return "".join(cells)


def for_drawing(text: str, *, rtl: bool | None = None) -> str:
    """One line as it is handed to a renderer that draws left to right, character by character; what cannot be
    seen (joiners, direction marks) is taken out."""
    ordered = visual_order(shape(text), rtl=is_rtl(text) if rtl is None else rtl)
    return "".join(c for c in ordered if unicodedata.category(c) not in _UNSEEN)
