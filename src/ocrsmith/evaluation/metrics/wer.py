"""Word error rate, normalised edit distance and exact match.

Words are found by a small rule after Unicode's word boundaries (UAX #29), without a dictionary:

* letters, digits, underscores and the marks on them make one word, zero-width joiners and non-joiners included
  (می‌خواهم is one word); an apostrophe, full stop or colon between two letters, and a full stop or comma between
  two digits, stay inside (don't, l'été, 3.14, 1,000);
* Chinese characters and Japanese kana are a word each, and so are the letters of Thai, Lao, Khmer and Burmese,
  which are written without spaces;
* every other visible character (punctuation, a symbol, an emoji with its modifiers, a flag) is a word of its
  own, so wrong punctuation counts;
* white space and the zero-width space only part words.

`boundaries="space"` takes what stands between white space instead, as jiwer and most tools do.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from rapidfuzz.distance import Levenshtein

Boundaries = Literal["unicode", "space"]

_ALONE = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"  # Thai, Lao, Burmese, Khmer
    "\u2e80-\u2fdf\u3005-\u3007\u3021-\u3029\u3038-\u303b\u3041-\u309f\u30a1-\u30ff\u31f0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f\U0001b000-\U0001b16f\U00020000-\U0003ffff"
)
"""Characters that are a word each, as a regular expression's set."""
_FORMAT = "\u00ad\u200c-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufeff\U0001f3fb-\U0001f3ff"
"""Invisible characters and skin tones, which belong to what stands before them."""
_BOTH = ".'\u2018\u2019\u2024\ufe52\uff07\uff0e"
_LETTERS_ONLY = ":\u00b7\u0387\u05f4\u2027\ufe13\ufe55\uff1a"
_DIGITS_ONLY = ",;\u066b\u066c\u060d\ufe10\ufe14\ufe50\ufe54\uff0c\uff1b"


@dataclass(frozen=True, slots=True)
class WordScore:
    """How one page was read, word by word.

    Attributes:
        edits: words inserted, deleted and substituted between prediction and reference.
        length: words of the reference.
        wer: edits / length, at least 0, may exceed 1; of an empty reference 0 if nothing was read, else 1.
    """

    edits: int
    length: int
    wer: float


def words(text: str) -> list[str]:
    """The words of a text by the rule above, in order; empty for white space."""
    return _word_finder()(text)


def score_words(reference: str, prediction: str, *, boundaries: Boundaries = "unicode") -> WordScore:
    """Word error rate of a prediction with what it is made of."""
    split: Callable[[str], list[str]] = words if boundaries == "unicode" else str.split
    true, read = split(reference), split(prediction)
    edits = Levenshtein.distance(true, read)
    length = len(true)
    return WordScore(edits, length, edits / length if length else float(edits > 0))


def wer(reference: str, prediction: str, *, boundaries: Boundaries = "unicode") -> float:
    """Word error rate: see `WordScore.wer`."""
    return score_words(reference, prediction, boundaries=boundaries).wer


def score_words_all(
    references: Sequence[str], predictions: Sequence[str], *, boundaries: Boundaries = "unicode"
) -> list[WordScore]:
    """`score_words` of each pair. Raises ValueError where there are not as many of one as of the other."""
    pairs = zip(references, predictions, strict=True)
    return [score_words(reference, prediction, boundaries=boundaries) for reference, prediction in pairs]


def ned(reference: str, prediction: str) -> float:
    """Normalised edit distance on code points: edits / length of the longer text, 0 (equal) to 1; symmetric.

    Two empty texts are equal: 0.
    """
    longest = max(len(reference), len(prediction))
    return Levenshtein.distance(reference, prediction) / longest if longest else 0.0


def exact(reference: str, prediction: str) -> bool:
    """Whether the prediction is the reference, code point for code point."""
    return reference == prediction


@lru_cache(maxsize=1)
def _word_finder() -> Callable[[str], list[str]]:
    """Made on first use: the marks of all scripts have to be gathered from Unicode's table."""
    marks = f"[{_marks()}{_FORMAT}]"
    letter = f"[^\\W\\d_{_ALONE}]"
    # Nothing here needs possessive quantifiers to be fast, and Python 3.11 before 3.11.4 gets them wrong.
    run = f"(?:[^\\W{_ALONE}]{marks}*)+"
    inside = f"(?:(?<![\\d_])[{_BOTH}{_LETTERS_ONLY}](?={letter})|(?<=\\d)[{_BOTH}{_DIGITS_ONLY}](?=\\d))"
    flag = "[\U0001f1e6-\U0001f1ff]{2}"
    other = f"[^\\s\u200b]{marks}*(?:(?<=\u200d)[^\\w\\s]{marks}*)*"
    return re.compile(f"{run}(?:{inside}{run})*|{flag}|{other}").findall


def _marks() -> str:
    """Combining marks as ranges of a regular expression's set."""
    ranges: list[list[int]] = []
    for code in (*range(0x300, 0x20000), *range(0xE0100, 0xE01F0)):
        if unicodedata.category(chr(code))[0] == "M":
            if ranges and ranges[-1][1] == code - 1:
                ranges[-1][1] = code
            else:
                ranges.append([code, code])
    return "".join(f"{chr(low)}-{chr(high)}" for low, high in ranges)
