"""Joins lines of a paragraph: hyphens that only the line's end brought are taken out, real ones stay."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable

HYPHENS = "-\u2010\u00ad"
_TAIL = re.compile(rf"([^\W\d_]+)[{HYPHENS}]$")
_HEAD = re.compile(r"[^\W\d_]+")
_WORD = re.compile(r"[^\W\d_]+(?:[-\u2010][^\W\d_]+)*")
_BEFORE = re.compile(
    "all|anti|best|cross|even|ever|far|fast|first|five|four|free|full|half|hand|hard|head|high|ill|in|large|late|"
    "left|light|long|low|man|mid|middle|multi|near|new|nine|non|odd|off|old|on|one|open|out|post|pre|pseudo|"
    "quasi|real|right|second|self|semi|seven|short|single|six|slow|small|so|state|strong|sub|ten|third|three|top|"
    "two|ultra|user|well|wide|work|world"
)
"""Words that make compounds with a hyphen in English."""
_AFTER = re.compile(
    "aided|aware|based|borne|bound|class|controlled|dependent|derived|dimensional|driven|fold|free|friendly|"
    "going|grade|grained|headed|induced|intensive|level|like|looking|made|making|minded|oriented|quality|range|"
    "related|rich|scale|sensitive|sided|size|sized|solving|specific|style|term|type|weighted|wide|world|year"
)


def words_of(texts: Iterable[str]) -> Counter[str]:
    """How often each word occurs, lower-cased; those a line's end may have cut are left out."""
    found: Counter[str] = Counter()
    for text in texts:
        words = [word.lower() for word in _WORD.findall(text.rstrip())]
        found.update(words[1:-1] if text.rstrip()[-1:] in HYPHENS else words[1:])
    return found


def join_lines(first: str, second: str, known: Counter[str] | None = None) -> str:
    """Two lines of a paragraph as one.

    Args:
        first: text so far.
        second: text of the next line.
        known: words of the document (`words_of`), which tell `co-operate` from `cooper-ate`.
    """
    left, right = first.rstrip(), second.lstrip()
    if not left or not right:
        return left + right
    if (end := _TAIL.search(left)) and (start := _HEAD.match(right)):
        return _join_at_hyphen(left, right, end[1], start[0], known or Counter())
    if left[-1] == "\u00ad":
        return left[:-1] + right
    if left[-1] in "-\u2010–—/" and not left[-2:-1].isspace() and len(left) > 1:
        return left + right  # 1990–|1995, and/|or, http://|www
    if _unspaced(left[-1]) or _unspaced(right[0]):
        return left + right
    return f"{left} {right}"


def _join_at_hyphen(left: str, right: str, end: str, start: str, known: Counter[str]) -> str:
    hyphen, bare = left[-1], left[:-1]
    if hyphen == "\u00ad":
        return bare + right
    whole, compound = (end + start).lower(), f"{end}-{start}".lower()
    if start[0].isupper() and not end.isupper():  # Jackson-Henderson
        return left + right
    if known[whole] or known[compound]:
        return bare + right if known[whole] >= known[compound] else left + right
    if (
        _BEFORE.fullmatch(end.lower())
        or _AFTER.fullmatch(start.lower())
        or re.search(r"[^\W\d_][-\u2010][^\W\d_]+$", bare)
    ):
        return left + right  # well-known; state-of-the-art
    return bare + right


def is_cjk(letter: str) -> bool:
    """Whether a character is Chinese, Japanese, or punctuation of theirs, which take no spaces between them."""
    return (
        "\u2e80" <= letter <= "\u312f"
        or "\u31a0" <= letter <= "\u9fff"
        or "\uf900" <= letter <= "\ufaff"
        or "\ufe30" <= letter <= "\ufe4f"
        or "\uff00" <= letter <= "\uffef"
        or "\U00020000" <= letter <= "\U0003ffff"
    )


def _unspaced(letter: str) -> bool:
    return is_cjk(letter) or (letter in "“”‘’…—" and unicodedata.east_asian_width(letter) == "W")
