"""Paragraphs: a block of running text. Its lines are joined in the sample's text, as Markdown has them; a blank
line parts two paragraphs."""

from __future__ import annotations

import random
from dataclasses import dataclass

from ocrsmith.datasets.synth.kinds.content import Kind
from ocrsmith.datasets.synth.scripts import is_wide
from ocrsmith.datasets.synth.shaping import is_rtl
from ocrsmith.datasets.synth.sheet import Setter, Sheet, break_pieces
from ocrsmith.datasets.synth.vertical import can_stand, draw_column
from ocrsmith.datasets.synth.writer import Cut, Writer, units_of


@dataclass(frozen=True)
class Paragraphs:
    """The content of a block of text."""

    cuts: list[Cut]
    parts: list[str]
    """The paragraphs."""
    vertical: bool

    @property
    def text(self) -> str:
        """The paragraphs, a blank line between them."""
        return "\n\n".join(self.parts)

    @property
    def strings(self) -> list[str]:
        """The paragraphs."""
        return self.parts

    def draw(self, setter: Setter, rng: random.Random) -> Sheet:
        """The block on a page with margins."""
        return self._columns(setter, rng) if self.vertical else self._lines(setter, rng)

    def _lines(self, setter: Setter, rng: random.Random) -> Sheet:
        size = setter.size
        longest = max(setter.width(part) for part in self.parts)
        width = min(longest + size, rng.uniform(16, 34) * size)
        spacing = rng.uniform(1.35, 1.9) * size
        between = rng.choice((0.0, 0.5)) * spacing
        indent = rng.choice((0, 2)) * size if between == 0 and len(self.parts) > 1 else 0
        margin = rng.uniform(0.8, 2.2) * size
        broken = [(part, _first_narrow(setter, part, width, indent)) for part in self.parts]
        count = sum(len(lines) for _, lines in broken)
        height = count * spacing + between * (len(broken) - 1) + 2 * margin
        sheet = Sheet(round(width + 2 * margin), round(height))
        y = margin + size
        for part, lines in broken:
            rtl = is_rtl(part)
            for number, line in enumerate(lines):
                run = setter.run(line, rtl)
                first = indent if number == 0 else 0
                x = margin + (width - first - setter.width(line) if rtl else first)
                sheet.put(run, x, y)
                y += spacing
            y += between
        return sheet

    def _columns(self, setter: Setter, rng: random.Random) -> Sheet:
        """Columns from the right to the left."""
        size, gap = setter.size, rng.uniform(0, 0.15)
        tall = rng.randint(10, 22)
        step = rng.uniform(1.35, 1.9) * size
        columns = [line for part in self.parts for line in _of_height(part, tall)]
        drawn = [draw_column(line, setter.face, size, gap=gap, engine=setter.engine) for line in columns]
        margin = rng.uniform(0.8, 2) * size
        height = max(len(column) for column in drawn)
        sheet = Sheet(round(len(drawn) * step + 2 * margin), round(height + 2 * margin))
        for number, column in enumerate(drawn):
            middle = sheet.ink.shape[1] - margin - (number + 0.5) * step
            sheet.paste(column, round(middle - column.shape[1] / 2), round(margin))
        return sheet


def _first_narrow(setter: Setter, part: str, width: float, indent: float) -> list[str]:
    """The lines of a paragraph whose first one is shorter by `indent`."""
    lines = setter.wrap(part, width - indent)
    if not indent or len(lines) < 2:
        return lines
    rest = part[len(lines[0]) :].lstrip()
    return [lines[0], *setter.wrap(rest, width)]


def _of_height(part: str, tall: int) -> list[str]:
    """A paragraph broken into columns of at most `tall` squares."""
    columns, column, filled = [], "", 0.0
    for piece in break_pieces(part):
        long = sum(1.0 if is_wide(c) else 0.6 for c in piece)
        if column and filled + long > tall:
            columns.append(column.strip())
            column, filled = "", 0.0
        column += piece
        filled += long
    return [*columns, column.strip()] if column.strip() else columns


def write_paragraphs(writer: Writer, rng: random.Random, vertical: bool) -> Paragraphs:
    """One to three paragraphs of 60 to 400 units each, of pieces of text."""
    parts: list[str] = []
    cuts: list[Cut] = []
    for _ in range(rng.choice((1, 1, 2, 3))):
        wanted, units = rng.randint(60, 260 if vertical else 400), 0
        pieces: list[str] = []
        while units < wanted:
            room = max(20, wanted - units)
            cut = writer.like(cuts[0], rng, room) if cuts else writer.line(rng, room)
            cuts.append(cut)
            pieces.append(cut.text)
            units += units_of(cut.text) + 1
        parts.append(_joined(pieces))
    return Paragraphs(cuts, parts, vertical and all(can_stand(part) for part in parts))


def _joined(pieces: list[str]) -> str:
    """Pieces in a row: with a space, but not between wide characters."""
    text = pieces[0]
    for piece in pieces[1:]:
        text += piece if is_wide(text[-1]) and is_wide(piece[0]) else " " + piece
    return text


PARAGRAPHS = Kind("paragraphs", "a block of running text", (20, 32), write_paragraphs)
