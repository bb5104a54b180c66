"""What a PDF page holds, without pdfminer's or pdfplumber's classes: characters, rules, pictures.

Everything is in points from the top left corner of the page as a viewer shows it: cut to its crop box, turned.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ocrsmith.datasets.pdf.letters import real_letters
from ocrsmith.errors import require

if TYPE_CHECKING:
    from ocrsmith.datasets.pdf.device import Box, Drawing


@dataclass(frozen=True, slots=True)
class Char:
    """A glyph as the page draws it."""

    text: str
    """Its letters (a ligature has several); U+FFFD where the file does not say what it is."""
    x0: float
    top: float
    x1: float
    bottom: float
    size: float
    """Of the type, in points."""
    font: str
    """Name without the subset's prefix."""
    bold: bool
    italic: bool
    upright: bool
    hidden: bool
    """Drawn invisibly (text rendering mode 3 or 7), or fully transparent."""
    mapped: bool
    """Has a real Unicode value: not missing, not private, not a control character."""
    angle: int = 0
    """Direction in which the text runs, degrees counter-clockwise: 0, 90 (upwards), 180, 270 (downwards, as
    also vertical Chinese) or what lies between."""
    artifact: bool = False
    """The file marks it as no part of the text: running heads, page numbers, watermarks of tagged PDFs."""
    origin: float = math.nan
    """Height of the line that it stands on; not a number where that is not known."""

    @property
    def base(self) -> float:
        """The line that it stands on, or about so."""
        return self.bottom - 0.22 * self.size if math.isnan(self.origin) else self.origin


@dataclass(frozen=True, slots=True)
class Rule:
    """A straight line, or the edge of a drawn rectangle, along the page's sides."""

    x0: float
    top: float
    x1: float
    bottom: float

    @property
    def horizontal(self) -> bool:
        return self.x1 - self.x0 >= self.bottom - self.top

    @property
    def length(self) -> float:
        return max(self.x1 - self.x0, self.bottom - self.top)


@dataclass(frozen=True, slots=True)
class Picture:
    """The place of a picture."""

    x0: float
    top: float
    x1: float
    bottom: float


@dataclass(frozen=True, slots=True)
class PageContent:
    """What a page shows."""

    number: int
    """From 1."""
    width: float
    height: float
    """In points, after it was turned."""
    rotation: int
    """Degrees clockwise that the page was turned: 0, 90, 180 or 270."""
    chars: list[Char]
    """In the order of drawing; some may lie outside the page."""
    rules: list[Rule]
    pictures: list[Picture]
    dots: list[Picture] = field(default_factory=list)
    """Small shapes, which may be drawn bullets."""


def read_page(plumber_page: Any, rotation: int | None = None) -> PageContent:
    """Reads a page's characters, rules and pictures.

    Args:
        plumber_page: a page of pdfplumber.
        rotation: degrees clockwise to turn it, a multiple of 90; None: what the page itself says.

    Raises:
        MissingExtraError: pdfminer is not installed.
        Exception: whatever pdfminer raises on a damaged page.
    """
    require("pdfplumber", extra="pdf", why="Reading PDF pages")
    from ocrsmith.datasets.pdf.device import draw

    page = plumber_page.page_obj
    turn = (page.rotate if rotation is None else rotation) % 360
    drawing = draw(plumber_page.pdf.rsrcmgr, page, turn)
    left, _, right, upper = drawing.box
    return PageContent(
        number=plumber_page.page_number,
        width=right - left,
        height=upper - drawing.box[1],
        rotation=turn,
        chars=[char for glyph in drawing.glyphs if (char := _char(glyph, left, upper))],
        rules=_rules(drawing, left, upper),
        pictures=_places(drawing.pictures, left, upper),
        dots=_places(drawing.dots, left, upper),
    )


def _places(boxes: Iterable[Box], left: float, upper: float) -> list[Picture]:
    return [Picture(x0 - left, upper - y1, x1 - left, upper - y0) for x0, y0, x1, y1 in boxes]


def _char(glyph: Any, left: float, upper: float) -> Char | None:
    item = glyph.item
    text, mapped = real_letters(item.get_text())
    numbers = (item.x0, item.y0, item.x1, item.y1)
    if not text or not all(map(math.isfinite, numbers)):
        return None
    a, b, c, d = item.matrix[:4]
    return Char(
        text=text,
        x0=item.x0 - left,
        top=upper - item.y1,
        x1=item.x1 - left,
        bottom=upper - item.y0,
        size=abs(glyph.fontsize) * math.hypot(c, d),
        font=glyph.font,
        bold=glyph.bold,
        italic=glyph.italic,
        upright=item.upright,
        hidden=glyph.hidden,
        mapped=mapped,
        angle=270 if glyph.vertical else round(math.degrees(math.atan2(b, a))) % 360,
        artifact=glyph.artifact,
        origin=upper - item.matrix[5],
    )


def _rules(drawing: Drawing, left: float, upper: float) -> list[Rule]:
    """Straight strokes along the sides, edges of stroked boxes, and filled boxes thin enough to be lines."""
    rules = []
    for line in drawing.lines:
        (x0, x1), (y0, y1) = sorted((line[0], line[2])), sorted((line[1], line[3]))
        if all(map(math.isfinite, line)):
            rules.append(Rule(x0 - left, upper - y1, x1 - left, upper - y0))
    return rules
