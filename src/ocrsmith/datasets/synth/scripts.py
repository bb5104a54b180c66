"""Which script a character belongs to, as far as fonts, shaping and messages need it."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from functools import lru_cache

_NAMES = {"CJK": "Han", "HIRAGANA": "Kana", "KATAKANA": "Kana"}
_UNSEEN = ("Cc", "Cf", "Zl", "Zp")
# Scripts whose letters change their order or form by their neighbours: they need a shaping engine.
COMPLEX = frozenset(
    {
        *("Devanagari", "Bengali", "Gurmukhi", "Gujarati", "Oriya", "Tamil", "Telugu", "Kannada", "Malayalam"),
        *(
            "Sinhala",
            "Thai",
            "Lao",
            "Tibetan",
            "Myanmar",
            "Khmer",
            "Mongolian",
            "Balinese",
            "Javanese",
            "Syriac",
        ),
        *("Thaana", "Nko", "Hebrew"),
    }
)
"""Hebrew is among them for its points."""
_PACKAGES = {"Han": "fonts-noto-cjk", "Kana": "fonts-noto-cjk", "Hangul": "fonts-noto-cjk"}


@lru_cache(maxsize=65536)
def script_of(character: str) -> str:
    """The script of a letter ("Latin", "Han", "Arabic" …), or "" for what all scripts share."""
    if unicodedata.category(character)[0] not in "LM":
        return ""
    words = unicodedata.name(character, "").split()
    if not words or words[0] in ("COMBINING", "FULLWIDTH", "HALFWIDTH", "MODIFIER", "IDEOGRAPHIC"):
        return ""
    return _NAMES.get(words[0], words[0].capitalize())


def scripts_of(text: Iterable[str]) -> set[str]:
    """The scripts of a text's letters."""
    return {script_of(character) for character in text} - {""}


def main_script(text: str) -> str:
    """The script of most letters of `text`; "" if it has none."""
    counts: dict[str, int] = {}
    for character in text:
        script = script_of(character)
        counts[script] = counts.get(script, 0) + 1
    counts.pop("", None)
    return max(counts, key=counts.__getitem__) if counts else ""


@lru_cache(maxsize=65536)
def is_unseen(character: str) -> bool:
    """Whether nothing is drawn for it: joiners, direction marks, variation selectors, controls."""
    return unicodedata.category(character) in _UNSEEN or "\ufe00" <= character <= "\ufe0f"


def is_wide(character: str) -> bool:
    """Whether it fills a square, as hanzi and their punctuation do."""
    return unicodedata.east_asian_width(character) in "WF"


def font_package(script: str) -> str:
    """A Debian package with a font of the script, for messages."""
    return _PACKAGES.get(script, "fonts-noto-core")
