"""Words that a reader might write without seeing them, and how far apart two words look.

A language model that cannot read a word writes one that it knows. Such a word is in the vocabulary and does not
look like what stands on the page; a misread one looks like it and is often no word at all.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise

from ocrsmith.text.characters import DIGITS, IDEOGRAPH_TWINS, TWINS, script_of

MIN_WORDS = 1000
"""Running words below which a vocabulary says nothing: most right words would not be in it."""
MIN_HAN_PAIRS = 3000
"""The same for pairs of Chinese characters; there are more different ones of them."""
MIN_LETTERS = 3
"""Shorter words are in every vocabulary by chance."""
MIN_HAN_COUNT = 3
"""Times that two Chinese characters must stand together to count as a word."""
HAN_COHESION = 4.0
"""And how much more often than by the frequencies of both: 的 stands beside everything."""
MAX_ENTRIES = 1_000_000
"""Different words or pairs kept; those met once go when there are more, so that memory stays bounded."""
LOOKALIKE = 0.25
"""Cost of taking a character for one of its look-alikes; any other costs 1."""
MAX_WORD = 64
"""Longer texts are no words; their shape is not compared."""

WORD = re.compile(r"[^\W\d_]+(?:['’\u200c\u200d-]?[^\W\d_\u4e00-\u9fff]|[\u0300-\u036f\u064b-\u0652])*")
_HAN = re.compile("[\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]+")

_CLASSES = (
    *("O0oDQCcG", "l1I|!i7ıtjfT/", "S5s$8B36", "Z2z7", "B8E3R", "6bG", "9gqy4", "uvnrhUVμ", "ceoag", "mnwMWN"),
    *("kKxX", "pPqF", "adoq", "tf+", ".,'`:;·،۰٠", "-_—–一~", "ijl", "hbk", "HNM", "UVY"),
    *("一二三", "未末朱", "己已巳", "土士", "日曰目白", "人入八", "大太犬丈", "千干于", "田由甲申", "王玉主"),
    *("天夫无", "木本术", "戊戌戍", "口囗回", "力刀刁", "又叉", "贝见", "鸟乌", "兔免", "令今", "住往", "侯候"),
    *("拔拨", "折拆析", "末未", "币巾", "几儿九", "问间闷", "右石古", "束東東", "么公", "厂广", "万方", "牛午"),
    *("بپتثنیيئىں", "جچحخ", "دذ", "رزژو", "سش", "صض", "طظ", "عغ", "فقڤ", "کگكل", "اآأإٱل", "هةۀه", "مه"),
    *("۰٠٥۵oO.", "۱١اl1I|", "۲٢۳٣", "۴٤۶٦", "۶٦۷٧", "۷٧۸٨", "۹٩۸٨"),
    *("かがカガ", "はばぱほ", "ハバパ", "シツソン", "ねれわ", "るろ", "さきち", "ニ二", "ェエ工", "ーー一"),
)
"""Characters that are taken for one another because they are drawn alike, beside those of `text.characters`."""
_GROUPS = (
    *(("rn", "m"), ("cl", "d"), ("vv", "w"), ("li", "h"), ("ii", "u"), ("nn", "m"), ("lo", "b"), ("ol", "d")),
    *(("iii", "m"), ("IVI", "M"), ("l-", "t"), ("fi", "h"), ("tt", "H"), ("日月", "明"), ("女子", "好")),
    *(("木木", "林"), ("一一", "二"), ("一二", "三"), ("亻也", "他"), ("口口", "吕"), ("王里", "理")),
)
"""Short groups drawn like one character."""


@dataclass
class Lexicon:
    """A vocabulary with frequencies. Letters' case does not count."""

    words: Counter[str] = field(default_factory=Counter)
    han: Counter[str] = field(default_factory=Counter)
    """Chinese characters, and pairs of neighbours."""
    running_words: int = 0
    running_pairs: int = 0

    @classmethod
    def of(cls, texts: Iterable[str]) -> Lexicon:
        """Counts the words of texts, one at a time: an evaluation's references, and training texts if there
        are any."""
        lexicon = cls()
        for text in texts:
            lexicon.add(text)
        return lexicon

    def add(self, text: str) -> None:
        """Counts a text's words."""
        for match in _HAN.finditer(text):
            run = match[0]
            self.han.update(run)
            self.han.update(map("".join, pairwise(run)))
            self.running_pairs += len(run) - 1
        words = [fold(match[0]) for match in WORD.finditer(_HAN.sub(" ", text))]
        self.words.update(words)
        self.running_words += len(words)
        for counts in (self.words, self.han):
            if len(counts) > MAX_ENTRIES:
                for entry in [entry for entry, count in counts.items() if count == 1]:
                    del counts[entry]

    @property
    def judges_words(self) -> bool:
        """Whether there are enough words to call one of them known or not."""
        return self.running_words >= MIN_WORDS

    @property
    def judges_han(self) -> bool:
        """The same for Chinese."""
        return self.running_pairs >= MIN_HAN_PAIRS

    @property
    def note(self) -> str:
        """Says what it is too small for; empty if for nothing."""
        if self.judges_words and self.judges_han:
            return ""
        small = []
        if not self.judges_words:
            small.append(f"{self.running_words:,} running words, {MIN_WORDS:,} needed")
        if not self.judges_han:
            small.append(f"{self.running_pairs:,} pairs of Chinese characters, {MIN_HAN_PAIRS:,} needed")
        return f"The vocabulary is too small to judge substitutions of words ({'; '.join(small)})."

    def knows(self, text: str) -> bool:
        """Whether a text is a known word of at least `MIN_LETTERS` letters, or is made of known Chinese pairs.

        False for everything where the vocabulary is too small to judge.
        """
        if len(text) > MAX_WORD:
            return False
        if _HAN.fullmatch(text):
            return self.judges_han and len(text) > 1 and self._made_of_pairs(text)
        letters = sum(character.isalpha() for character in text)
        return self.judges_words and letters >= MIN_LETTERS and fold(text) in self.words

    def _made_of_pairs(self, text: str) -> bool:
        known = [self._is_word(first + second) for first, second in pairwise(text)]
        return all(before or after for before, after in zip([False, *known], [*known, False], strict=True))

    def _is_word(self, pair: str) -> bool:
        count = self.han[pair]
        chance = self.han[pair[0]] * self.han[pair[1]] / max(1, self.running_pairs)
        return count >= MIN_HAN_COUNT and count >= HAN_COHESION * chance


def fold(word: str) -> str:
    """A word as the vocabulary has it: compatibility forms, case and typographic apostrophes put aside."""
    return unicodedata.normalize("NFKC", word).casefold().replace("’", "'")


# --- shape -------------------------------------------------------------------------------------------------


def shape_distance(first: str, second: str) -> float:
    """How far apart two short texts look, 0 (drawn alike) to the longer one's length.

    An edit distance in which a look-alike costs `LOOKALIKE`, and so does a group drawn like one character.

    Raises:
        ValueError: a text is longer than `MAX_WORD`.
    """
    if max(len(first), len(second)) > MAX_WORD:
        raise ValueError(f"shape_distance is for words of up to {MAX_WORD} characters")
    rows = [[float(column) for column in range(len(second) + 1)]]
    for row in range(1, len(first) + 1):
        rows.append([float(row)])
        for column in range(1, len(second) + 1):
            rows[row].append(_cheapest(first, second, rows, row, column))
    return rows[-1][-1]


def _cheapest(first: str, second: str, rows: list[list[float]], row: int, column: int) -> float:
    best = min(
        rows[row - 1][column] + 1,
        rows[row][column - 1] + 1,
        rows[row - 1][column - 1] + _cost(first[row - 1], second[column - 1]),
    )
    for group, one in _GROUPS_BY_END.get(first[row - 1], ()):
        if second[column - 1] == one and first[:row].endswith(group):
            best = min(best, rows[row - len(group)][column - 1] + LOOKALIKE)
    for group, one in _GROUPS_BY_END.get(second[column - 1], ()):
        if first[row - 1] == one and second[:column].endswith(group):
            best = min(best, rows[row - 1][column - len(group)] + LOOKALIKE)
    return best


@lru_cache(maxsize=1 << 16)
def _cost(first: str, second: str) -> float:
    if first == second or _plain(first) == _plain(second):
        return 0.0
    a, b = _plain(first), _plain(second)
    # a letter's other case, and a letter with other accents, keep much of its shape
    if a.casefold() == b.casefold() or _base(a) == _base(b):
        return LOOKALIKE
    alike = any(b in _ALIKE.get(one, ()) for one in {a, _base(a)})
    return LOOKALIKE if alike else 1.0


def _plain(character: str) -> str:
    """The character that is drawn the same: Cyrillic а is Latin a, full-width １ is 1."""
    character = unicodedata.normalize("NFKC", character)
    character = _SAME_DIGIT.get(character, character)
    return TWINS.get(character, IDEOGRAPH_TWINS.get(character, character))


def _base(text: str) -> str:
    return unicodedata.normalize("NFD", text)[:1].casefold()


def _alike() -> dict[str, frozenset[str]]:
    found: dict[str, set[str]] = {}
    for group in _CLASSES:
        for character in group:
            found.setdefault(character, set()).update(group)
    return {character: frozenset(others) for character, others in found.items()}


_ALIKE = _alike()
_SAME_DIGIT = {
    arabic: persian
    for arabic, persian in zip(DIGITS["Arabic"], DIGITS["Persian"], strict=True)
    if arabic not in "٤٥٦"  # these three are drawn differently
}
_GROUPS_BY_END: dict[str, list[tuple[str, str]]] = {}
for _group, _one in _GROUPS:
    _GROUPS_BY_END.setdefault(_group[-1], []).append((_group, _one))


def is_han(character: str) -> bool:
    """Whether a character is a Chinese one."""
    return script_of(character) == "Han"
