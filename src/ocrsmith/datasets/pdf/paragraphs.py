"""Lines of one column to blocks: headings, paragraphs, items of lists, formulas."""

from __future__ import annotations

import re
import statistics
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from ocrsmith.datasets.pdf.columns import MARKER
from ocrsmith.datasets.pdf.words import Line, Word

BlockKind = Literal["heading", "paragraph", "item", "formula", "code"]

_MATH_FONT = re.compile(
    r"^(?:CM(?:SY|MI|EX|BSY|MIB)|MS[AB]M|EU[FSR]M|MT(?:SY|MI|EX)|RSFS|TXSY|PXSY|LASY|STMARY|WASY)|math|symbol|stix",
    re.IGNORECASE,
)
_FUNCTION = re.compile(
    r"(?:sin|cos|tan|cot|sec|csc|log|ln|exp|lim|sup|inf|max|min|det|dim|ker|gcd|lcm|mod|arg|deg|Ann|Hom|Pr|Var|Cov)+"
)
_BULLET = re.compile(r"[•◦▪■□●○‣⁃∙·–—\-*\uf0b7✓➢►]")
_ENDS = (".", "!", "?", ":", ";", "。", "！", "？", "：", "；", "؟", "”", "’’", '"', ")", "]")


@dataclass(slots=True)
class Block:
    """Lines that belong together."""

    kind: BlockKind
    lines: list[Line]
    level: int = 0
    """Of a heading, from 1."""
    close: bool = False
    """Follows the block before as its next line does, without the space of a new paragraph."""


def make_blocks(
    lines: Sequence[Line], body: float, *, rtl: bool = False, code_fonts: frozenset[str] = frozenset()
) -> list[Block]:
    """Blocks from top to bottom.

    Args:
        lines: of one column.
        body: type size of the page's running text, points.
        rtl: the text runs from right to left.
        code_fonts: two lines and more in them are code.
    """
    if not lines:
        return []
    pitch = _pitch(lines)
    formulas = _formula_lines(lines)
    code = _code_lines(lines, pitch, code_fonts)
    blocks: list[Block] = []
    for number, line in enumerate(lines):
        block = blocks[-1] if blocks else None
        if code[number]:
            if number and code[number - 1] and line.base - lines[number - 1].base < 2.6 * pitch:
                blocks[-1].lines.append(line)
            else:
                blocks.append(Block("code", [line]))
            continue
        if formulas[number]:
            if block is None or block.kind != "formula" or is_item(line):
                blocks.append(Block("formula", [line]))
            else:
                block.lines.append(line)
            continue
        item = is_item(line, rtl)
        if (
            block is None
            or block.kind in ("formula", "code")
            or item
            or _breaks(lines, number, block, pitch, rtl)
        ):
            soft = block is not None and _is_soft(lines, number, block, pitch)
            blocks.append(Block("item" if item else "paragraph", [line], close=soft))
        else:
            block.lines.append(line)
    for number, block in enumerate(blocks):
        if block.kind in ("paragraph", "item") and _is_heading(blocks, number, body, pitch):
            block.kind, block.level = "heading", _level(block, body)
    return _whole_headings(blocks, body)


def _whole_headings(blocks: Sequence[Block], body: float) -> list[Block]:
    """Joins the lines of a large heading, wherever it was broken."""
    whole: list[Block] = []
    for block in blocks:
        last = whole[-1] if whole else None
        if last is not None and last.kind == block.kind == "heading" and last.level == block.level:
            above, below = last.lines[-1], block.lines[0]
            large = min(above.size, below.size) >= 1.15 * body and above.bold == below.bold
            same = abs(above.size - below.size) < 0.5 and below.base - above.base < 1.4 * below.size
            if large and same and not is_item(below) and len(last.lines) < 4:
                last.lines.extend(block.lines)
                continue
        whole.append(block)
    return whole


def _pitch(lines: Sequence[Line]) -> float:
    """Usual distance from line to line."""
    steps = [
        low.base - high.base for high, low in pairwise(lines) if abs(low.size - high.size) < 0.1 * low.size
    ]
    near = [step for step, line in zip(steps, lines, strict=False) if 0 < step < 2.2 * line.size]
    return statistics.median(near) if near else 1.2 * lines[0].size


def _code_lines(lines: Sequence[Line], pitch: float, fonts: frozenset[str]) -> list[bool]:
    """Which lines are code: two and more in fonts of one width."""
    found = [line.set_in(fonts) for line in lines]

    def beside(number: int, other: int) -> bool:
        inside = 0 <= other < len(lines) and found[other]
        return inside and abs(lines[other].base - lines[number].base) < 2.6 * pitch

    return [found[n] and (beside(n, n - 1) or beside(n, n + 1)) for n in range(len(lines))]


def _start(line: Line, rtl: bool) -> float:
    return -line.x1 if rtl else line.x0


def _end(line: Line, rtl: bool) -> float:
    return -line.x0 if rtl else line.x1


def _breaks(lines: Sequence[Line], number: int, block: Block, pitch: float, rtl: bool) -> bool:
    """Whether a line begins a new block."""
    line, before = lines[number], lines[number - 1]
    em = line.size
    if abs(line.size - before.size) > 0.12 * max(line.size, before.size) or line.bold != before.bold:
        return not (_is_inside(line, before, block) and abs(line.size - before.size) < 0.12 * before.size)
    step = line.base - before.base
    if step > 1.4 * pitch:
        goes_on = line.words[0].text[0].islower() and not before.words[-1].text.endswith(_ENDS)
        return not (goes_on and step < 1.9 * pitch and not _ends_early(lines, number - 1, rtl))
    shift = _start(line, rtl) - _start(before, rtl)
    if block.kind == "item":
        hanging = _start(block.lines[0], rtl)
        if _start(line, rtl) <= hanging + 0.2 * em and len(block.lines) > 1 and shift < -0.5 * em:
            return True
    elif shift > 0.8 * em:
        return len(block.lines) > 1 or _ends_early(lines, number - 1, rtl)
    elif shift < -0.8 * em and len(block.lines) > 1 and not block.lines[0].words[0].drop_cap:
        return True
    return _ends_early(lines, number - 1, rtl)


def _is_inside(line: Line, before: Line, block: Block) -> bool:
    """Whether bold words fill a line by chance: the last line of a paragraph, the first of a caption."""
    return line.bold != before.bold and len(block.lines) > 1 and not before.bold and len(line.words) < 3


def _ends_early(lines: Sequence[Line], number: int, rtl: bool) -> bool:
    """Whether the next line's first word would have fitted into a line."""
    line, after = lines[number], lines[number + 1]
    around = lines[max(0, number - 6) : number + 8]
    edge = max(_end(other, rtl) for other in around)
    first = after.words[-1 if rtl else 0]
    return edge - _end(line, rtl) > first.x1 - first.x0 + 1.1 * line.size


def _is_soft(lines: Sequence[Line], number: int, block: Block, pitch: float) -> bool:
    """Whether a new block only begins because the line before is short, as in addresses and verse."""
    line, before = lines[number], lines[number - 1]
    text = before.words[-1].text
    same = abs(line.size - before.size) < 0.1 * line.size and line.bold == before.bold
    return (
        same
        and block.kind == "paragraph"
        and len(block.lines) == 1
        and line.base - before.base < 1.3 * pitch
        and abs(line.x0 - before.x0) < 0.3 * line.size
        and not text.endswith(_ENDS)
    )


def is_item(line: Line, rtl: bool = False) -> bool:
    """Whether a line begins with the mark of a list item."""
    if len(line.words) < 2:
        return False
    first, second = (line.words[-1], line.words[-2]) if rtl else line.words[:2]
    if not MARKER.fullmatch(first.text):
        return False
    gap = (first.x0 - second.x1 if rtl else second.x0 - first.x1) / line.size
    if _BULLET.fullmatch(first.text):
        return gap > 0.15
    if first.text.isdigit() or re.fullmatch(r"[A-Z]\.|[ivxlcIVXLC]+\.|[a-z]", first.text):
        return gap > 0.45  # a number in the text, an initial
    return gap > 0.2


def _is_heading(blocks: Sequence[Block], number: int, body: float, pitch: float) -> bool:
    block = blocks[number]
    words = [word.text for line in block.lines for word in line.words]
    text = " ".join(words)
    if len(block.lines) > 4 or len(words) > 25 or not re.search(r"[^\W\d_]{2}", text):
        return False
    size = max(line.size for line in block.lines)
    if size >= 1.15 * body:
        return len(words) <= 12 or not text.endswith((".", ","))
    if text.endswith((".", ",", ";", ":")) or len(words) > 14 or len(block.lines) > 2:
        return False
    if size >= 0.95 * body and all(line.bold for line in block.lines):
        return True
    letters = [letter for letter in text if letter.isalpha()]
    highest = max(glyph.size for line in block.lines for word in line.words for glyph in word.glyphs)
    capitals = all(map(str.isupper, letters)) and len(letters) > 3 and highest >= 0.95 * body
    return capitals and _stands_alone(blocks, number, pitch, lead=0.9 if highest > 1.03 * body else 1.05)


def _stands_alone(blocks: Sequence[Block], number: int, pitch: float, *, lead: float) -> bool:
    """Whether there is room above a block, and at least `lead` pitches to the line below."""
    first, last = blocks[number].lines[0], blocks[number].lines[-1]
    above = first.base - blocks[number - 1].lines[-1].base if number else 2 * pitch
    below = blocks[number + 1].lines[0].base - last.base if number + 1 < len(blocks) else 2 * pitch
    return above > 1.4 * pitch and below > lead * pitch


def _level(block: Block, body: float) -> int:
    ratio = max(line.size for line in block.lines) / body
    return 1 if ratio >= 1.7 else 2 if ratio >= 1.3 else 3


def _formula_lines(lines: Sequence[Line]) -> list[bool]:
    """Which lines are set-off formulas, with the limits and denominators above and below."""
    sure = [_is_formula(line) and not _runs_on(lines, number) for number, line in enumerate(lines)]
    found = list(sure)
    for number, line in enumerate(lines):
        if sure[number] or _has_words(line.words) or is_item(line):
            continue
        for other in (number - 1, number + 1):
            if 0 <= other < len(lines) and sure[other]:
                near = abs(lines[other].base - line.base) < 1.6 * max(line.size, lines[other].size)
                beside = max(lines[other].x0, line.x0) - min(lines[other].x1, line.x1) < 1.5 * line.size
                found[number] = found[number] or (near and beside)
    return found


def _runs_on(lines: Sequence[Line], number: int) -> bool:
    """Whether a line goes on with the sentence before it, from the same edge: then it stands in the text."""
    if number == 0:
        return False
    line, before = lines[number], lines[number - 1]
    aligned = abs(line.x0 - before.x0) < 0.6 * line.size or (is_item(before) and line.x0 > before.x0)
    near = line.base - before.base < 1.9 * line.size
    after = lines[number + 1] if number + 1 < len(lines) else None
    stacked = after is not None and not _has_words(after.words) and after.base - line.base < 1.3 * line.size
    return (
        aligned
        and near
        and not stacked
        and _has_words(before.words)
        and not before.words[-1].text.endswith(_ENDS)
    )


def _is_formula(line: Line) -> bool:
    words = line.words[1:] if is_item(line) else line.words
    glyphs = [glyph for word in words for glyph in word.glyphs]
    if not glyphs or _has_words(words):
        return False
    relation = any(unicodedata.category(glyph.text[0]) == "Sm" or glyph.text in "−" for glyph in glyphs)
    special = sum(
        bool(_MATH_FONT.search(glyph.font))
        or "\u0370" <= glyph.text[0] <= "\u03ff"
        or (unicodedata.category(glyph.text[0]) == "Sm" and glyph.text not in "+|~<>")
        or (glyph.italic and len(glyph.text) == 1 and glyph.text.isalpha())
        for glyph in glyphs
    )
    return relation and special >= 0.25 * len(glyphs)


def _has_words(words: Sequence[Word]) -> bool:
    """Whether there are ordinary words among them, functions' names left out."""
    for word in words:
        if any(unicodedata.category(letter) == "Sm" or "\u0370" <= letter <= "\u03ff" for letter in word.text):
            continue
        for piece in re.findall(r"[^\W\d_]{3,}", word.text):
            letters = [glyph for glyph in word.glyphs if glyph.text.isalpha()]
            plain = not all(_MATH_FONT.search(glyph.font) for glyph in letters)
            function = _FUNCTION.match(piece)
            if plain and not (function and len(piece) - function.end() < 3) and not _is_product(word):
                return True
    return False


def _is_product(word: Word) -> bool:
    """Whether a word's letters are single italic ones between signs: `f(x)dx=F(b)`."""
    signs = sum(not glyph.text.isalpha() for glyph in word.glyphs)
    return 3 * signs >= len(word.glyphs)
