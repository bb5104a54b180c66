"""A page's text in reading order: columns, tables, and what stands around them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from ocrsmith.datasets.pdf.bidi import mostly_rtl
from ocrsmith.datasets.pdf.cells import Table
from ocrsmith.datasets.pdf.columns import in_reading_order
from ocrsmith.datasets.pdf.furniture import EDGE, take_apart, words_outside
from ocrsmith.datasets.pdf.page import Char, PageContent
from ocrsmith.datasets.pdf.paragraphs import Block, make_blocks
from ocrsmith.datasets.pdf.tables import ruled_tables, table_finder
from ocrsmith.datasets.pdf.turned import turned_texts, turned_words
from ocrsmith.datasets.pdf.words import Line, Word, common_size, fixed_fonts, make_lines, make_words


@dataclass(frozen=True, slots=True)
class Layout:
    """What a page says, in reading order."""

    head: list[Line]
    """Running heads, from top to bottom."""
    body: list[list[Block] | Table]
    """Columns and tables in reading order."""
    turned: list[str]
    """Text that does not run along the page's width."""
    foot: list[Line]
    size: float
    """Of the running text, points."""
    rtl: bool
    """Most letters run from right to left."""


def lay_out(page: PageContent, *, known: frozenset[str] = frozenset()) -> Layout:
    """Orders what a page says.

    Args:
        page: as read.
        known: running heads and feet of the document (`furniture.repeated`).
    """
    chars = shown(page)
    words = make_words([char for char in chars if char.angle == 0 and not char.artifact])
    marked = make_words([char for char in chars if char.angle == 0 and char.artifact])
    aside = turned_words([char for char in chars if char.angle != 0])
    rtl = mostly_rtl("".join(word.text for word in words))
    size = common_size(words)
    code_fonts = _code_fonts(chars, words)
    words += _drawn_bullets(page, words, rtl)
    parts = take_apart(words, page, known)
    tables, rest = ruled_tables([*parts.body, *aside], page.rules)
    upright = words_outside(rest, aside)
    pieces = in_reading_order([*upright, *tables], size, rtl=rtl, table_at=table_finder(page.rules))
    columns = [piece[0] if isinstance(piece[0], Table) else make_lines(piece) for piece in pieces]
    text_size = _text_size(_all_lines(columns), size)
    left = words_outside(aside, words_outside(aside, rest))
    turned = [word for word in left if not _in_margin(word, page)]
    above = [word for word in marked if word.bottom < page.height / 2]
    return Layout(
        head=make_lines([*above, *parts.head]),
        body=[
            lines if isinstance(lines, Table) else make_blocks(lines, text_size, rtl=rtl, code_fonts=code_fonts)
            for lines in columns
        ],
        turned=turned_texts(turned),
        foot=make_lines([*parts.foot, *words_outside(marked, above)]),
        size=text_size,
        rtl=rtl,
    )


def _all_lines(columns: Sequence[Table | list[Line]]) -> list[Line]:
    return [line for lines in columns if not isinstance(lines, Table) for line in lines]


def _code_fonts(chars: Sequence[Char], words: Sequence[Word]) -> frozenset[str]:
    """Fonts that code is set in: of one width, unless all is, as on a typewriter. Keeps lines of code whole."""
    fonts = fixed_fonts(chars)
    coded = [word for word in words if all(glyph.font in fonts for glyph in word.glyphs)]
    if len(coded) > 0.9 * len(words):
        return frozenset()
    for line in make_lines(coded):
        for word, after in pairwise(line.words):
            if after.x0 - word.x1 < 12 * word.size:
                word.reach = after.x0
    return fonts


def _drawn_bullets(page: PageContent, words: Sequence[Word], rtl: bool) -> list[Word]:
    """Small shapes before the first word of a line, as words."""
    bullets = []
    for dot in page.dots:
        height, em = (dot.top + dot.bottom) / 2, dot.bottom - dot.top
        line = [word for word in words if word.top < height < word.bottom]
        behind = [word for word in line if (word.x1 <= dot.x0 if rtl else word.x0 >= dot.x1)]
        first = min(behind, key=lambda word: abs((word.x1 if rtl else word.x0) - dot.x0), default=None)
        if first is None or em > 0.7 * first.size:
            continue
        gap = dot.x0 - first.x1 if rtl else first.x0 - dot.x1
        before = [word for word in line if word not in behind and abs(word.x0 - dot.x0) < 4 * first.size]
        if 0.1 * first.size < gap < 2.2 * first.size and not before:
            glyph = replace(first.glyphs[0], text="•", x0=dot.x0, x1=dot.x1)
            bullets.append(Word([glyph]))
    return bullets


def _text_size(lines: Sequence[Line], usual: float) -> float:
    """The largest type size that running text is set in, against which headings are large."""
    letters: dict[float, int] = defaultdict(int)
    running: dict[float, int] = defaultdict(int)
    for line in lines:
        letters[line.size] += sum(len(word.text) for word in line.words)
        running[line.size] += len(line.words) >= 5
    total = sum(letters.values())
    return max(
        [size for size in letters if running[size] >= 4 and letters[size] >= 0.15 * total], default=usual
    )


def shown(page: PageContent) -> list[Char]:
    """Characters on the page that can be seen; hidden ones where there are no others, as over a scan."""
    inside = [
        char
        for char in page.chars
        if char.size > 0.2
        and 0 <= (char.x0 + char.x1) / 2 <= page.width
        and 0 <= (char.top + char.bottom) / 2 <= page.height
    ]
    seen = [char for char in inside if not char.hidden]
    return seen if any(not char.text.isspace() for char in seen) else inside


def _in_margin(word: Word, page: PageContent) -> bool:
    """Whether turned text stands in a side margin, as stamps of archives do."""
    return word.x1 < 0.6 * EDGE * page.width or word.x0 > (1 - 0.6 * EDGE) * page.width
