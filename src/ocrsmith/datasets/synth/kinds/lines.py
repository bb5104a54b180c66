"""Lines: one line of text, or one column of Chinese."""

from __future__ import annotations

import random
from dataclasses import dataclass

from ocrsmith.datasets.synth.kinds.content import Kind
from ocrsmith.datasets.synth.sheet import Setter, Sheet
from ocrsmith.datasets.synth.vertical import can_stand, draw_column
from ocrsmith.datasets.synth.writer import Cut, Writer


@dataclass(frozen=True)
class Line:
    """The content of a line."""

    cut: Cut
    vertical: bool

    @property
    def text(self) -> str:
        """The line itself."""
        return self.cut.text

    @property
    def strings(self) -> list[str]:
        """The line itself."""
        return [self.cut.text]

    @property
    def cuts(self) -> list[Cut]:
        """The line itself."""
        return [self.cut]

    def draw(self, setter: Setter, rng: random.Random) -> Sheet:
        """The line with narrow margins, as line detection cuts it out."""
        size = setter.size
        margins = [max(2, round(rng.uniform(0.08, 0.5) * size)) for _ in range(4)]
        left, top, right, bottom = margins
        if self.vertical:
            ink = draw_column(self.text, setter.face, size, gap=rng.uniform(0, 0.15), engine=setter.engine)
        else:
            ink = setter.run(self.text).ink
        height, width = ink.shape
        if not self.vertical and height < 0.6 * size:  # a lone dash must not fill the whole crop
            top += round((0.6 * size - height) / 2)
            bottom += round((0.6 * size - height) / 2)
        sheet = Sheet(left + max(1, width) + right, top + max(1, height) + bottom)
        sheet.paste(ink, left, top)
        return sheet


def write_line(writer: Writer, rng: random.Random, vertical: bool) -> Line:
    """A line of 1 to 80 units; columns are at most half as long."""
    cut = writer.line(rng, rng.randint(8, 40 if vertical else 80))
    return Line(cut, vertical and can_stand(cut.text))


LINES = Kind("lines", "one line of text", (20, 52), write_line)
