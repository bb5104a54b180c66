"""What characters are, as far as a reader of images must care: scripts, look-alikes, invisible marks.

A label is wrong for a reader when it holds what no image shows (zero-width marks, control characters) or the
wrong one of two characters that look alike (a Cyrillic а in a Latin word, a Katakana ロ among Chinese
characters). `oddities` finds both in one text. What is odd only within a set (ي beside ی, full beside plain
width) is counted by the callers, for whom the tables are here.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Literal

Oddness = Literal[
    "replacement",
    "control",
    "carriage_return",
    "unassigned",
    "private_use",
    "zero_width",
    "joiner_out_of_place",
    "direction_mark",
    "soft_hyphen",
    "odd_space",
    "presentation_form",
    "ligature",
    "compatibility_ideograph",
    "half_width_katakana",
    "lookalike_letter",
    "lookalike_ideograph",
    "mixed_digits",
    "surrounding_space",
    "double_space",
]

TWINS = MappingProxyType(
    {
        # Cyrillic → Latin
        **dict(zip("АВЕЅІЈКМНОРСТУХҮԌԚԜ", "ABESIJKMHOPCTYXYGQW", strict=True)),
        **dict(zip("асеһіјорѕухԁԛԝѵ", "acehijopsyxdqwv", strict=True)),
        # Greek → Latin. Letters that formulas and names use (α, β, γ, κ, μ, ρ …) are no mistakes and not here.
        **dict(zip("ΑΒΕΖΗΙΚΜΝΟΡΤΥΧονι", "ABEZHIKMNOPTYXovi", strict=True)),
    }
)
"""Cyrillic and Greek letters that are drawn like a Latin one, and that one."""

IDEOGRAPH_TWINS = MappingProxyType(dict(zip("ロカタトエハニオチーヘ", "口力夕卜工八二才千一へ", strict=True)))
"""Katakana that are drawn nearly like a Chinese character (ヘ: like Hiragana へ), and that one."""

DIGITS = MappingProxyType(
    {
        "ASCII": "0123456789",
        "Arabic": "٠١٢٣٤٥٦٧٨٩",
        "Persian": "۰۱۲۳۴۵۶۷۸۹",
        "full-width": "０１２３４５６７８９",
    }
)
"""Digits that stand for one another in labels. Arabic and Persian ones differ only in 4, 5 and 6."""

ARABIC_FORMS = frozenset("\u064a\u0643")
"""ي and ك as Arabic keyboards write them."""
PERSIAN_FORMS = frozenset("\u06cc\u06a9")
"""ی and ک as Persian keyboards write them; within words they look like the Arabic ones."""
PERSIAN_ONLY = frozenset("\u067e\u0686\u0698\u06af")
"""پ چ ژ گ: letters that Arabic does not have."""
ARABIC_ONLY = frozenset("\u0629\u0623\u0625\u0649")
"""ة أ إ ى: letters that Persian hardly uses."""

ALTERNATIVES = (
    ("apostrophes", ("'", "\u2019", "\u02bc", "\u00b4")),
    ("double quotation marks", ('"', "\u201c")),
    ("hyphens", ("-", "\u2010", "\u2011")),
    ("ellipses", ("...", "\u2026")),
    ("middle dots", ("\u00b7", "\u30fb", "\u2022", "\u2027")),
)
"""Signs that people type for one another, and readers cannot tell from the image."""

_JOINED = frozenset(
    (
        *("Arabic", "Syriac", "Mongolian", "Nko", "Devanagari", "Bengali", "Gurmukhi", "Gujarati", "Oriya"),
        *("Tamil", "Telugu", "Kannada", "Malayalam", "Sinhala", "Khmer", "Myanmar", "Tibetan"),
    )
)
"""Scripts in which ZWNJ and ZWJ change how letters join."""
_UNSPACED = frozenset(("Thai", "Lao", "Khmer", "Myanmar"))
"""Scripts in which a zero-width space parts words."""
_NAMES = MappingProxyType({"CJK": "Han", "KANGXI": "Han", "NKO": "Nko"})
_MIXABLE = ("Latin", "Cyrillic", "Greek")
_WORD = re.compile(r"[^\W\d_]+")
_NUMBER = re.compile(r"\d{2,}")
_SPACES = re.compile(r"(?<=\S) {2,}(?=\S)")
_OUTER_SPACE = re.compile(r"\A[^\S\r]+|[^\S\n\r]+(?=\r?$)|[^\S\r]+\Z", re.MULTILINE)
_MARKUP = re.compile(
    r"</?[a-zA-Z][^<>]{0,200}>|^[ \t]*(?:#{1,6}|[-*+]|>)[ \t]+|(?<=\|)[ \t]*:?-+:?[ \t]*(?=\|)|[|*`]",
    re.MULTILINE,
)


@dataclass(frozen=True, slots=True)
class Oddity:
    """An odd place in a text."""

    kind: Oddness
    start: int
    end: int


@lru_cache(maxsize=1 << 16)
def script_of(character: str) -> str:
    """The script of a letter or combining mark: "Latin", "Han", "Arabic" …; "" for what all scripts share."""
    if unicodedata.category(character)[0] not in "LM":
        return ""
    name = unicodedata.name(character, "")
    if unicodedata.category(character) == "Lm" or name.startswith(("COMBINING", "MODIFIER", "VARIATION")):
        return "Han" if character in "々〆〇" else "Katakana" if character == "ー" else ""
    word = name.partition(" ")[0]
    if name.startswith(("FULLWIDTH", "HALFWIDTH", "MATHEMATICAL", "FEMININE", "MASCULINE", "MICRO", "OHM")):
        return {"FULLWIDTH": "Latin", "HALFWIDTH": "Katakana"}.get(word, "")
    return _NAMES.get(word, word.capitalize())


def main_script(text: str) -> str:
    """The script of most letters; "Japanese" for Han with kana, "" for a text without letters."""
    counts: dict[str, int] = {}
    for character in text:
        script = script_of(character)
        if script:
            counts[script] = counts.get(script, 0) + 1
    if "Hiragana" in counts or (counts.get("Katakana", 0) > counts.get("Han", 0)):
        return "Japanese"
    return max(counts, key=lambda script: counts[script], default="")


def visible(text: str) -> str:
    """The text without what stands for layout: HTML tags, Markdown marks, white space."""
    return "".join(_MARKUP.sub("", text).split())


def name_of(character: str) -> str:
    """`U+200C ZERO WIDTH NON-JOINER`; the code alone where Unicode has no name."""
    name = unicodedata.name(character, "")
    return f"U+{ord(character):04X}" + (f" {name}" if name else "")


def digit_families(characters: Iterable[str]) -> set[str]:
    """Which of `DIGITS` occur."""
    there = set(characters)
    return {name for name, digits in DIGITS.items() if not there.isdisjoint(digits)}


def oddities(text: str) -> list[Oddity]:
    """Everything odd in a text, in no particular order. Quick for the usual text, which has none."""
    found: list[Oddity] = []
    characters = set(text)
    kinds = {character: kind for character in characters if (kind := _kind_of(character)) is not None}
    if kinds:
        found += _single(text, kinds)
    scripts = {script_of(character) for character in characters}
    if len(scripts.intersection(_MIXABLE)) > 1:
        found += _lookalike_letters(text)
    if "Han" in scripts and not characters.isdisjoint(IDEOGRAPH_TWINS):
        found += _lookalike_ideographs(text, characters)
    if len(digit_families(characters)) > 1:
        found += [
            Oddity("mixed_digits", *match.span())
            for match in _NUMBER.finditer(text)
            if len(digit_families(match[0])) > 1
        ]
    found += [Oddity("surrounding_space", *match.span()) for match in _OUTER_SPACE.finditer(text)]
    if "  " in text:
        found += [Oddity("double_space", *match.span()) for match in _SPACES.finditer(text)]
    return found


@lru_cache(maxsize=1 << 16)
def _kind_of(character: str) -> Oddness | None:
    """What is odd about a character wherever it stands; joiners are judged later by their neighbours."""
    if character in " \n\t" or "!" <= character <= "~":
        return None
    code, category = ord(character), unicodedata.category(character)
    if character == "\ufffd":
        return "replacement"
    if category in ("Cc", "Zl", "Zp"):
        return "carriage_return" if character == "\r" else "control"
    if category == "Co":
        return "private_use"
    if category in ("Cn", "Cs"):
        return "unassigned"
    if category == "Zs":
        return "odd_space"
    if category == "Cf":
        return _kind_of_mark(code)
    if 0xFB50 <= code <= 0xFDCF or 0xFE70 <= code <= 0xFEFC:
        return None if character in "\ufd3e\ufd3f" else "presentation_form"
    if 0xFB00 <= code <= 0xFB06:
        return "ligature"
    if 0xFF65 <= code <= 0xFF9F:
        return "half_width_katakana"
    if 0x2E80 <= code <= 0x2FDF or 0xF900 <= code <= 0xFAFF or 0x2F800 <= code <= 0x2FA1F:
        return "compatibility_ideograph" if unicodedata.normalize("NFKC", character) != character else None
    return None


def _kind_of_mark(code: int) -> Oddness | None:
    if code in (0x200C, 0x200D):
        return "joiner_out_of_place"
    if code in (0x200E, 0x200F, 0x061C) or 0x202A <= code <= 0x202E or 0x2066 <= code <= 0x2069:
        return "direction_mark"
    if code == 0xAD:
        return "soft_hyphen"
    drawn = 0x0600 <= code <= 0x0605 or code in (0x06DD, 0x070F, 0x08E2, 0x110BD)
    return None if drawn else "zero_width"


def _single(text: str, kinds: dict[str, Oddness]) -> Iterator[Oddity]:
    for place, character in enumerate(text):
        kind = kinds.get(character)
        if kind is None:
            continue
        if kind == "joiner_out_of_place" and _joins(text, place):
            continue
        if kind == "zero_width" and character == "\u200b" and _script_before(text, place) in _UNSPACED:
            continue
        yield Oddity(kind, place, place + 1)


def _joins(text: str, place: int) -> bool:
    """Whether a ZWNJ or ZWJ stands where it has a meaning: beside a joining script's letter, or in an emoji."""
    before, after = text[place - 1 : place], text[place + 1 : place + 2]
    if not before or not after:
        return False
    if unicodedata.category(before) in ("So", "Sk", "Mn") and unicodedata.category(after) == "So":
        return text[place] == "\u200d"
    written = all(unicodedata.category(side)[0] in "LMN" for side in (before, after))
    return written and not _JOINED.isdisjoint((script_of(before), script_of(after)))


def _script_before(text: str, place: int) -> str:
    return script_of(text[place - 1]) if place else ""


def _lookalike_letters(text: str) -> Iterator[Oddity]:
    """Letters of the lesser script in words of two, if each of them has a twin in the other."""
    for match in _WORD.finditer(text):
        word = match[0]
        scripts = [script_of(character) for character in word]
        present = [script for script in _MIXABLE if script in scripts]
        if len(present) < 2:
            continue
        foreign = _foreign_letters(word, scripts, present)
        for place in foreign:
            yield Oddity("lookalike_letter", match.start() + place, match.start() + place + 1)


def _foreign_letters(word: str, scripts: list[str], present: list[str]) -> list[int]:
    lesser = min(present, key=scripts.count)
    order = [lesser, *(script for script in present if script != lesser)]
    for script in order:
        places = [place for place, found in enumerate(scripts) if found == script]
        if script == "Latin":
            twins = all(word[place] in _LATIN_TWINS for place in places)
        else:
            twins = all(_base(word[place]) in TWINS for place in places)
        if twins:
            return places
    return []


_LATIN_TWINS = frozenset(TWINS.values())


def _base(letter: str) -> str:
    """The letter without accents: ё → е."""
    return unicodedata.normalize("NFD", letter)[0]


def _lookalike_ideographs(text: str, characters: set[str]) -> Iterator[Oddity]:
    """Katakana beside Chinese characters, in a text that has no kana but such as have a twin."""
    kana = {character for character in characters if script_of(character) in ("Hiragana", "Katakana")}
    if not kana <= set(IDEOGRAPH_TWINS):
        return
    for place, character in enumerate(text):
        if character in IDEOGRAPH_TWINS and "Han" in map(script_of, text[max(0, place - 1) : place + 2]):
            yield Oddity("lookalike_ideograph", place, place + 1)
