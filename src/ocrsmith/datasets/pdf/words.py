"""Glyphs to words, words to lines."""

from __future__ import annotations

import statistics
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from ocrsmith.datasets.pdf.bidi import has_rtl, mostly_rtl, plain_letters, reading_order
from ocrsmith.datasets.pdf.hyphens import is_cjk
from ocrsmith.datasets.pdf.page import Char

SPACE = 0.115
"""Gap between glyphs, in type sizes, from which it is a space."""
_CLOSING, _OPENING = frozenset(",.;)]}”’"), frozenset("([{“‘")
_DOTS = frozenset(".·…‧∙․")
_SPACING_ACCENTS = {
    "´": "\u0301",
    "`": "\u0300",
    "¨": "\u0308",
    "ˆ": "\u0302",
    "^": "\u0302",
    "˜": "\u0303",
    "~": "\u0303",
    "ˇ": "\u030c",
    "˘": "\u0306",
    "¯": "\u0304",
    "˙": "\u0307",
    "˚": "\u030a",
    "¸": "\u0327",
    "˝": "\u030b",
}
_RAISED = str.maketrans("0123456789+-−=()", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁻⁼⁽⁾")
_LOWERED = str.maketrans("0123456789+-−=()", "₀₁₂₃₄₅₆₇₈₉₊₋₋₌₍₎")


@dataclass(slots=True, eq=False)
class Word:
    """Glyphs without a gap between them, from left to right."""

    glyphs: list[Char]
    space_after: bool = False
    """The file has a space behind it."""
    reach: float = 0.0
    """Where the white behind it ends that no column's gutter may go through; at least `x1`."""
    drop_cap: bool = False
    """Begins with a letter as high as several lines."""
    x0: float = 0.0
    top: float = 0.0
    x1: float = 0.0
    bottom: float = 0.0
    size: float = 0.0
    base: float = 0.0
    """Height of the line that it stands on. Its box is made of that and its size: fonts differ in theirs."""
    text: str = ""
    """Letters from left to right."""

    def __post_init__(self) -> None:
        self.glyphs.sort(key=lambda glyph: (glyph.x0, glyph.x1))
        self.x0 = min(glyph.x0 for glyph in self.glyphs)
        self.x1 = max(glyph.x1 for glyph in self.glyphs)
        self.reach = max(self.reach, self.x1)
        self.size = statistics.median(glyph.size for glyph in self.glyphs)
        self.base = statistics.median(glyph.base for glyph in self.glyphs)
        self.top, self.bottom = self.base - 0.78 * self.size, self.base + 0.22 * self.size
        self.text = "".join(glyph.text for glyph in self.glyphs)

    @property
    def bold(self) -> bool:
        return 2 * sum(glyph.bold for glyph in self.glyphs) > len(self.glyphs)


@dataclass(slots=True, eq=False)
class Line:
    """Words on one line, from left to right."""

    words: list[Word]
    x0: float = 0.0
    top: float = 0.0
    x1: float = 0.0
    bottom: float = 0.0
    size: float = 0.0
    """Of most of its letters."""

    def __post_init__(self) -> None:
        self.words.sort(key=lambda word: word.x0)
        self.x0 = min(word.x0 for word in self.words)
        self.x1 = max(word.x1 for word in self.words)
        self.size = common_size(self.words)
        main = [word for word in self.words if word.size >= 0.8 * self.size] or self.words
        self.top = min(word.top for word in main)
        self.bottom = max(word.bottom for word in main)

    @property
    def base(self) -> float:
        """About where its letters stand."""
        return self.bottom - 0.22 * self.size

    def set_in(self, fonts: frozenset[str]) -> bool:
        """Whether all its letters are of these fonts."""
        return all(glyph.font in fonts for word in self.words for glyph in word.glyphs)

    @property
    def bold(self) -> bool:
        """Whether all its letters are bold."""
        lettered = [word for word in self.words if any(map(str.isalnum, word.text))]
        return bool(lettered) and all(word.bold for word in lettered)

    def text(self, *, rtl: bool = False) -> str:
        """What it says, in reading order.

        Args:
            rtl: whether the text around it runs from right to left.
        """
        units = _units(self)
        plain = "".join(units)
        if has_rtl(plain):
            words_rtl = rtl or mostly_rtl(plain)
            plain = plain_letters(reading_order(units, rtl=words_rtl))
        plain = plain.replace("‘‘", "“").replace("’’", "”")  # set so where a font has no double ones
        return unicodedata.normalize("NFC", " ".join(plain.split()))


def common_size(words: Iterable[Word]) -> float:
    """The type size that most letters have, to half a point."""
    count: dict[float, int] = defaultdict(int)
    for word in words:
        count[max(round(2 * word.size) / 2, 0.5)] += len(word.text)
    return max(count, key=lambda size: (count[size], size), default=10.0)


def fixed_fonts(chars: Iterable[Char]) -> frozenset[str]:
    """Fonts whose Latin letters are all as wide as each other, as those of code and typewriters."""
    widths: dict[str, dict[str, float]] = defaultdict(dict)
    for char in chars:
        if char.angle == 0 and char.text.isascii() and char.text.isalnum() and char.size > 0:
            widths[char.font][char.text] = (char.x1 - char.x0) / char.size
    return frozenset(
        font
        for font, known in widths.items()
        if len(known) >= 8
        and max(known.values()) - min(known.values()) < 0.02
        and any(map(known.get, "iljtfr"))
    )


def make_words(chars: Sequence[Char]) -> list[Word]:
    """Glyphs that touch, as words; glyphs drawn twice count once, accents join their letters."""
    runs: list[list[Char]] = []
    spaced: list[bool] = []
    for char in _once(chars):
        if char.text.isspace():
            if spaced:
                spaced[-1] = True
            continue
        if runs and not spaced[-1] and _touch(runs[-1], char):
            if (merged := _accented(runs[-1][-1], char)) is not None:
                runs[-1][-1] = merged
            else:
                runs[-1].append(char)
        else:
            runs.append([char])
            spaced.append(False)
    return _merge([Word(run, space) for run, space in zip(runs, spaced, strict=True)])


def _once(chars: Sequence[Char]) -> Iterable[Char]:
    """Leaves out dotted lines, and glyphs drawn again at their place, as for a shadow or to look bold."""
    dots = _leader_dots(chars)
    seen: dict[str, dict[tuple[int, int], tuple[float, float]]] = defaultdict(dict)
    for place, char in enumerate(chars):
        if char.text.isspace() or place in dots:
            yield _non_joiner(chars, place) or (replace(char, text=" ") if place in dots else char)
            continue
        step = max(0.3 * char.size, 0.5)
        column, row = int(char.x0 / step), int(char.top / step)
        places = seen[char.text]
        around = (places.get((column + i, row + j)) for i in (-1, 0, 1) for j in (-1, 0, 1))
        reach = min(0.12 * char.size, 0.5 * max(char.x1 - char.x0, 0.1))
        if any(spot and max(abs(spot[0] - char.x0), abs(spot[1] - char.top)) < reach for spot in around):
            continue
        places[column, row] = (char.x0, char.top)
        yield char


def _non_joiner(chars: Sequence[Char], place: int) -> Char | None:
    """A zero-width non-joiner: drawn as a space over which the next Arabic letter is set."""
    blank = chars[place]
    around = [*chars[max(place - 1, 0) : place], *chars[place + 1 : place + 2]]
    over = any(min(blank.x1, c.x1) - max(blank.x0, c.x0) > 0.6 * (blank.x1 - blank.x0) for c in around)
    if over and len(around) == 2 and all(has_rtl(char.text) for char in around):
        return replace(blank, text="\u200c", x1=blank.x0)
    return None


def _leader_dots(chars: Sequence[Char]) -> set[int]:
    """Places of dots that only lead the eye over a gap, or draw a dotted line: four and more in a row."""
    found: set[int] = set()
    run: list[int] = []
    for place, char in enumerate(chars):
        if char.text in _DOTS:
            run.append(place)
        elif not char.text.isspace():
            found.update(run if len(run) > 3 else ())
            run = []
    return found | set(run if len(run) > 3 else ())


def _touch(run: list[Char], char: Char) -> bool:
    last = run[-1]
    size = max(last.size, char.size)
    if last.angle != char.angle or min(last.size, char.size) < 0.8 * size:
        return False
    if abs(last.base - char.base) > 0.15 * size and _accented(last, char) is None:
        return False
    reach = _reach(last.text[-1:], char.text[:1]) * size
    ahead, behind = char.x0 - last.x1, last.x0 - char.x1  # a right-to-left font may be drawn in reading order
    return -0.7 * size < ahead < reach or (-0.3 * size < behind < reach and has_rtl(char.text + last.text))


def _reach(first: str, second: str) -> float:
    """Gap, in type sizes, up to which two characters belong together."""
    return 0.5 if first and second and is_cjk(first) and is_cjk(second) else SPACE


def _accented(first: Char, second: Char) -> Char | None:
    """A letter and an accent drawn over it, as one; None where they are something else."""
    for mark, letter in ((first, second), (second, first)):
        combining = _SPACING_ACCENTS.get(mark.text) or (
            mark.text if unicodedata.combining(mark.text[0]) else ""
        )
        middle = (mark.x0 + mark.x1) / 2
        wide = letter.x1 - letter.x0
        if combining and letter.text.isalpha() and abs(middle - (letter.x0 + letter.x1) / 2) < 0.45 * wide:
            text = unicodedata.normalize("NFC", letter.text + combining)
            return replace(letter, text=text)
    return None


def _merge(words: list[Word]) -> list[Word]:
    """Joins pieces of a word that were drawn at different times."""
    rows: dict[tuple[int, int], list[Word]] = defaultdict(list)
    for word in sorted(words, key=lambda word: word.x0):
        angle = word.glyphs[0].angle
        for row in (int(word.base) - 1, int(word.base), int(word.base) + 1):
            if (angle, row) in rows and _abut(last := rows[angle, row][-1], word):
                rows[angle, row][-1] = Word(last.glyphs + word.glyphs, word.space_after)
                break
        else:
            rows[angle, int(word.base)].append(word)
    return [word for row in rows.values() for word in row]


def _abut(first: Word, second: Word) -> bool:
    size = max(first.size, second.size)
    reach = _reach(first.text[-1:], second.text[:1])
    reach = min(reach, 0.05) if first.space_after and not has_rtl(first.text) else reach
    return (
        min(first.size, second.size) > 0.8 * size
        and abs(first.base - second.base) < 0.15 * size
        and -0.15 * size < second.x0 - first.x1 < reach * size
    )


def make_lines(words: Sequence[Word]) -> list[Line]:
    """Words of one column as lines from top to bottom; raised and lowered small ones join theirs."""
    if not words:
        return []
    words = _drop_caps_in_line(list(words), common_size(words))
    rows: list[list[Word]] = []
    bases: list[float] = []
    for word in sorted(words, key=lambda word: (-round(word.size), word.base)):
        near = [number for number, base in enumerate(bases) if abs(base - word.base) < 1.5 * word.size]
        row = next((number for number in near if _is_script(word, rows[number])), None)
        if row is None:
            row = min(near, key=lambda number: abs(bases[number] - word.base), default=None)
            if row is None or abs(bases[row] - word.base) > 0.4 * word.size:
                rows.append([word])
                bases.append(word.base)
                continue
        rows[row].append(word)
    return _whole_lines(sorted(map(Line, rows), key=lambda line: line.base))


def _whole_lines(lines: list[Line]) -> list[Line]:
    """Joins pieces at one height that stand side by side: letters of several sizes, jumping base lines."""
    whole: list[Line] = []
    for line in lines:
        last = whole[-1] if whole else None
        if last is not None and _side_by_side(last, line):
            whole[-1] = Line(last.words + line.words)
        else:
            whole.append(line)
    return whole


def _side_by_side(first: Line, second: Line) -> bool:
    height = min(first.bottom - first.top, second.bottom - second.top)
    if min(first.bottom, second.bottom) - max(first.top, second.top) < 0.6 * height:
        return False
    return all(min(a.x1, b.x1) - max(a.x0, b.x0) < 0.1 * first.size for a in first.words for b in second.words)


def _is_script(word: Word, row: Sequence[Word]) -> bool:
    """Whether a small word is raised or lowered from one of a row, and touches it."""
    for other in row:
        if 0.4 * other.size < word.size < 0.85 * other.size:
            near = max(other.x0 - word.x1, word.x0 - other.x1) < 0.6 * other.size
            shared = min(word.bottom, other.bottom) - max(word.top, other.top)
            if near and shared > 0.3 * (word.bottom - word.top):
                return True
    return False


def _drop_caps_in_line(words: list[Word], usual: float) -> list[Word]:
    """Puts a large first letter, beside which several lines begin, to the first of them."""
    for cap in [word for word in words if word.size > 1.7 * usual and len(word.text) <= 2]:
        beside = [
            word
            for word in words
            if word.size < 1.3 * usual
            and -0.3 * usual < word.x0 - cap.x1 < 1.5 * usual
            and cap.top - 0.3 * usual < (word.top + word.bottom) / 2 < cap.bottom
        ]
        if not cap.text[-1].isalpha() or not beside or max(w.base for w in beside) < cap.top + 1.5 * usual:
            continue
        first = min(beside, key=lambda word: word.base)
        words.remove(cap)
        words[words.index(first)] = Word(
            [_beside(glyph, first) for glyph in cap.glyphs] + first.glyphs, drop_cap=True
        )
    return words


def _beside(glyph: Char, word: Word) -> Char:
    """A glyph moved to a word's line, so that it ends where the word begins."""
    return replace(glyph, origin=word.base, size=word.size, x1=word.x0)


def _units(line: Line) -> list[str]:
    """Glyphs and spaces from left to right; small raised and lowered digits as such."""
    units: list[str] = []
    previous: Word | None = None
    for word in line.words:
        if previous is not None and _spaced(previous, word):
            units.append(" ")
        table = _script(word, previous if previous is not None and not _spaced(previous, word) else line)
        for glyph in _stacked(word.glyphs):
            units.append(glyph.translate(table) if table else glyph)
        previous = word
    return units


def _script(word: Word, beside: Word | Line) -> dict[int, int] | None:
    """How to write the digits of a small word raised or lowered beside another; None if it is neither."""
    if word.size > 0.85 * beside.size or any(ord(letter) not in _RAISED for letter in word.text):
        return None
    shift = (beside.base - word.base) / beside.size
    return (_RAISED if shift > 0 else _LOWERED) if abs(shift) > 0.08 else None


def _stacked(glyphs: Sequence[Char]) -> list[str]:
    """Texts of glyphs; a combining mark goes behind the glyph that it stands over."""
    bases = [glyph for glyph in glyphs if not unicodedata.combining(glyph.text[0])]
    if len(bases) == len(glyphs) or not bases:
        return [glyph.text for glyph in glyphs]
    texts = [glyph.text for glyph in bases]
    for mark in glyphs:
        if unicodedata.combining(mark.text[0]):
            middle = (mark.x0 + mark.x1) / 2
            nearest = min(range(len(bases)), key=lambda i: abs((bases[i].x0 + bases[i].x1) / 2 - middle))
            texts[nearest] += mark.text
    return texts


def _spaced(first: Word, second: Word) -> bool:
    """Whether a space stands between two words of a line."""
    gap = (second.x0 - first.x1) / max(first.size, second.size)
    left, right = is_cjk(first.text[-1]), is_cjk(second.text[0])
    if left and right:
        return gap > 1.5
    if left or right:
        return gap > 0.6 or (first.space_after and gap > 0.1)
    if gap < 0.3 and not first.space_after and (second.text[0] in _CLOSING or first.text[-1] in _OPENING):
        return False  # what leans, reaches over
    return gap > SPACE or (first.space_after and gap > 0.05)
