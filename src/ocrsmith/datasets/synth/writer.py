"""Writes the texts of samples: pieces of the given lines, or sentences of drawn words, with the characters that
are to come often put where they count."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ocrsmith.datasets.synth.emphasis import Emphasis, put_in, string_of
from ocrsmith.datasets.synth.locales import LOCALES, Locale, locale_of
from ocrsmith.datasets.synth.scripts import is_wide, main_script
from ocrsmith.datasets.synth.sheet import break_pieces
from ocrsmith.datasets.synth.texts import LineStore, Piece, WordList

_PATTERNS = ("date", "amount", "number", "name", "phone", "serial")
_TRIES = 6
_MARKS = {"Han": ("，，，、；：", "。。。！？"), "Arabic": ("،،،؛:", "...؟!"), "": (",,,;:", "...!?")}


class Cut(NamedTuple):
    """A piece as long as it was asked for."""

    text: str
    origin: str
    emphasised: str = ""
    """The character that this text was chosen or made for."""


@dataclass(frozen=True)
class Writer:
    """Where texts come from."""

    lines: LineStore | None
    words: Sequence[WordList]
    emphasis: Emphasis | None
    share: float
    """Of the texts that are made for an emphasised character."""
    language: str | None

    def line(self, rng: random.Random, units: int) -> Cut:
        """A text of at most `units` (a hanzi counts two) in one line."""
        if self.emphasis is not None and rng.random() < self.share:
            made = self._emphasised(self.emphasis, rng, units)
            if made is not None:
                return made
        piece = self._piece(rng, units)
        return Cut(shorten(piece.text, units, rng)[0], piece.origin)

    def like(self, first: Cut, rng: random.Random, units: int) -> Cut:
        """A text in the script of `first`, so that both can stand on one page; `first` again if some tries find
        none."""
        script = main_script(first.text)
        for _ in range(_TRIES):
            cut = self.line(rng, units)
            if main_script(cut.text) in (script, ""):
                return cut
        return first

    def locale(self, text: str) -> Locale:
        """The locale for labels beside `text`."""
        return locale_of(text, main_script(text), self.language)

    def _piece(self, rng: random.Random, units: int) -> Piece:
        sources = (1 if self.lines else 0) + len(self.words)
        number = rng.randrange(sources)
        if self.lines and number == 0:
            return self.lines.draw(rng)
        return self._sentence(self.words[number - sources], rng, units)

    def _emphasised(self, emphasis: Emphasis, rng: random.Random, units: int) -> Cut | None:
        """A text with a character by weight: found, made from one with its rival, or a string of such."""
        target = emphasis.choose(rng)
        partners = emphasis.partners.get(target, ())
        way, longest = rng.random(), max(1, units // 2)
        if way < 0.15:
            return Cut(string_of(target, partners, longest, rng), "", target)
        if self.lines is not None and way < 0.55:
            found = self.lines.draw_with((target,), rng)
            if found is not None:
                return self._around(found, target, units, rng)
        rivals = self.lines.draw_with(partners, rng) if self.lines is not None and partners else None
        for attempt in range(4):
            piece = rivals if rivals is not None and attempt == 0 else self._piece(rng, units)
            changed = put_in(piece.text, target, partners, rng)
            if changed is not None:
                text, place = changed
                return Cut(shorten(text, units, rng, place)[0], piece.origin, target)
        return Cut(string_of(target, partners, longest, rng), "", target)

    @staticmethod
    def _around(piece: Piece, target: str, units: int, rng: random.Random) -> Cut:
        places = [i for i, c in enumerate(piece.text) if c == target]
        text, _ = shorten(piece.text, units, rng, rng.choice(places))
        return Cut(text, piece.origin, target)

    def _sentence(self, words: WordList, rng: random.Random, units: int) -> Piece:
        """Words by frequency with marks and, one in eight, a number, date, amount or name between them."""
        code = words.language or self.language
        locale = LOCALES.get(code or "", locale_of("".join(words.words[:200]), words.script, code))
        wide = 2 if words.script in ("Han", "Kana", "Hangul") else 1
        drawn = words.draw(rng, max(1, units // (2 * wide) + 1))
        if words.script == locale_of_script(locale):
            drawn = [locale.value(rng.choice(_PATTERNS), rng) if rng.random() < 0.12 else w for w in drawn]
        marks, ends = _MARKS.get(words.script, _MARKS[""])
        drawn = [word + rng.choice(marks) if rng.random() < 0.1 else word for word in drawn]
        text, left = "", units
        for word in drawn:
            left -= units_of(word) + len(words.space)
            if text and left < 0:
                break
            text += (words.space if text else "") + word
        if rng.random() < 0.6:
            text = text[:1].upper() + text[1:]
        if rng.random() < 0.4:
            text = text.rstrip("，、；：,;:،؛") + rng.choice(ends)
        return Piece(text, "")


def locale_of_script(locale: Locale) -> str:
    """The script that a locale writes."""
    return main_script(locale.titles[0])


def units_of(text: str) -> int:
    """A text's length: a wide character counts two."""
    return sum(2 if is_wide(character) else 1 for character in text)


def shorten(text: str, units: int, rng: random.Random, keep: int | None = None) -> tuple[str, int]:
    """A stretch of `text` of at most `units`, between words, and where it begins in `text`.

    Args:
        keep: the place of a character that must be in it; None: anywhere. The word around it is taken even if
            it is longer.
    """
    if units_of(text) <= units:
        return text, 0
    pieces = break_pieces(text)
    starts, at = [], 0
    for piece in pieces:
        starts.append(at)
        at += len(piece)
    first = rng.randrange(len(pieces))
    if keep is not None:
        first = max(i for i, start in enumerate(starts) if start <= keep)
    last, left = first, units - units_of(pieces[first].rstrip())
    grow_back = keep is not None
    while left > 0:  # to the end of the text, then before the beginning; around a kept one on both sides
        back = first > 0 and (last + 1 >= len(pieces) or (grow_back and rng.random() < 0.5))
        if back:
            step = units_of(pieces[first - 1])
        elif last + 1 < len(pieces):
            step = units_of(pieces[last + 1].rstrip()) + (1 if pieces[last].endswith(" ") else 0)
        else:
            break
        if step > left:
            break
        left -= step
        first, last = (first - 1, last) if back else (first, last + 1)
    stretch = "".join(pieces[first : last + 1])
    lead = len(stretch) - len(stretch.lstrip())
    if keep is None and units_of(stretch.strip()) > units:  # one endless word
        return stretch.strip()[: max(1, units // 2)], starts[first] + lead
    return stretch.strip(), starts[first] + lead
