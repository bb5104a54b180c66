"""Collects what pdfminer draws on a page, with what its own device leaves out: invisible and transparent text.

Needs pdfminer: import it inside functions only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, cast

from pdfminer.converter import PDFLayoutAnalyzer
from pdfminer.layout import LTChar, LTContainer, LTCurve, LTFigure, LTImage, LTRect
from pdfminer.pdfinterp import PDFGraphicState, PDFPageInterpreter, PDFResourceManager
from pdfminer.pdfpage import PDFPage
from pdfminer.pdftypes import dict_value, num_value, resolve1
from pdfminer.psparser import literal_name
from pdfminer.utils import apply_matrix_rect

Box = tuple[float, float, float, float]

_BOLD = re.compile(r"bold|black|heavy|demi|cmb|medi\b|-bd|\bbd", re.IGNORECASE)
_ITALIC = re.compile(r"ital|obli|slant|cmti|cmsl|cmmi|-it\b|\bit$", re.IGNORECASE)
_FORCE_BOLD, _ITALIC_FLAG = 1 << 18, 1 << 6
_THIN = 3.0
"""A box up to so many points thick is a rule."""
_INVISIBLE = (3, 7)
"""Text rendering modes that paint nothing: invisible, and clipping only."""


@dataclass(frozen=True, slots=True)
class Glyph:
    """A character of pdfminer, and how it was drawn."""

    item: LTChar
    font: str
    fontsize: float
    bold: bool
    italic: bool
    hidden: bool
    vertical: bool
    artifact: bool


@dataclass(slots=True)
class Drawing:
    """What a page draws. Origin: lower left corner of the turned media box; points."""

    box: Box
    """The crop box."""
    glyphs: list[Glyph] = field(default_factory=list)
    lines: list[Box] = field(default_factory=list)
    """(x0, y0, x1, y1) of strokes along the page's sides, and of thin filled boxes."""
    pictures: list[Box] = field(default_factory=list)
    dots: list[Box] = field(default_factory=list)
    """Small shapes, about as wide as high."""


def draw(resources: PDFResourceManager, page: PDFPage, rotation: int) -> Drawing:
    """Interprets a page.

    Args:
        resources: of the document, so that fonts are read once.
        page: to interpret.
        rotation: degrees clockwise: 0, 90, 180 or 270.
    """
    device = _Device(resources)
    interpreter = _Interpreter(resources, device)
    x0, y0, x1, y1 = page.mediabox
    turns = {0: (1, 0, 0, 1, -x0, -y0), 90: (0, -1, 1, 0, -y0, x1), 180: (-1, 0, 0, -1, x1, y1)}
    matrix = turns.get(rotation, (0, 1, -1, 0, y1, -x0))
    device.begin_page(page, matrix)
    interpreter.render_contents(page.resources, page.contents, ctm=matrix)
    drawing = Drawing(_common(apply_matrix_rect(matrix, page.cropbox), device.cur_item.bbox), device.glyphs)
    for item in _items(device.cur_item):
        if isinstance(item, LTImage):
            drawing.pictures.append(item.bbox)
        elif isinstance(item, LTCurve) and _is_dot(item):
            drawing.dots.append(item.bbox)
        elif isinstance(item, LTCurve):
            drawing.lines.extend(_strokes(item))
    return drawing


class _GraphicState(PDFGraphicState):
    """Knows the opacity of what is filled."""

    opacity = 1.0

    def copy(self) -> _GraphicState:
        other = super().copy()
        state = _GraphicState()
        state.__dict__.update(other.__dict__)
        state.opacity = self.opacity
        return state


class _Interpreter(PDFPageInterpreter):
    """Reads opacities, which pdfminer passes over."""

    def init_state(self, ctm: Any) -> None:
        super().init_state(ctm)
        self.graphicstate: _GraphicState = _GraphicState()

    def do_gs(self, name: Any) -> None:
        named = dict_value(self.resources.get("ExtGState") or {})
        parameters = resolve1(named.get(literal_name(name)))
        if isinstance(parameters, dict) and "ca" in parameters:
            self.graphicstate.opacity = float(num_value(parameters["ca"]))


class _Device(PDFLayoutAnalyzer):
    """Keeps each glyph with its type size, face, visibility and marks."""

    def __init__(self, resources: PDFResourceManager) -> None:
        super().__init__(resources, laparams=None)
        self.glyphs: list[Glyph] = []
        self._tags: list[str] = []
        self._render = 0

    def render_string(self, textstate: Any, seq: Any, ncs: Any, graphicstate: Any) -> None:
        self._render = textstate.render
        super().render_string(textstate, seq, ncs, graphicstate)

    def render_char(
        self,
        matrix: Any,
        font: Any,
        fontsize: float,
        scaling: float,
        rise: float,
        cid: int,
        ncs: Any,
        graphicstate: Any,
    ) -> float:
        advance: float = super().render_char(matrix, font, fontsize, scaling, rise, cid, ncs, graphicstate)
        name = _face(font.fontname)
        self.glyphs.append(
            Glyph(
                item=cast(LTChar, self.cur_item._objs.pop()),
                font=name,
                fontsize=fontsize,
                bold=bool(_BOLD.search(name) or font.flags & _FORCE_BOLD or self._render == 2),
                italic=bool(_ITALIC.search(name) or font.flags & _ITALIC_FLAG),
                hidden=self._render in _INVISIBLE or getattr(graphicstate, "opacity", 1.0) <= 0.0,
                vertical=font.is_vertical(),
                artifact="Artifact" in self._tags,
            )
        )
        return advance

    def begin_tag(self, tag: Any, props: Any = None) -> None:
        self._tags.append(literal_name(tag))

    def end_tag(self) -> None:
        if self._tags:
            self._tags.pop()


def _face(name: Any) -> str:
    """A font's name without the six letters of a subset."""
    text = name.decode("latin-1") if isinstance(name, bytes) else str(getattr(name, "name", name))
    return re.sub(r"^[A-Z]{6}\+", "", text)


def _items(container: LTContainer) -> Iterator[Any]:
    for item in container:
        if isinstance(item, LTFigure):
            yield from _items(item)
        else:
            yield item


def _common(box: Box, other: Box) -> Box:
    """What two boxes share; the second one where they share nothing."""
    x0, y0, x1, y1 = max(box[0], other[0]), max(box[1], other[1]), min(box[2], other[2]), min(box[3], other[3])
    return (x0, y0, x1, y1) if x1 - x0 > 1 and y1 - y0 > 1 else other


def _is_pale(colour: Any) -> bool:
    """Whether a colour is (nearly) that of paper: such boxes keep room or hide, they are no rules."""
    parts = [
        float(part)
        for part in (colour if isinstance(colour, tuple) else (colour,))
        if isinstance(part, int | float)
    ]
    return bool(parts) and (max(parts) <= 0.1 if len(parts) == 4 else min(parts) >= 0.9)


def _is_dot(curve: LTCurve) -> bool:
    small = min(curve.width, curve.height) > 1.2 and max(curve.width, curve.height) < 7
    return small and abs(curve.width - curve.height) < 0.25 * curve.width


def _strokes(curve: LTCurve) -> Iterator[Box]:
    """Straight lines of a path along the page's sides; a thin box counts as one."""
    bent = any(step[0] == "c" for step in curve.original_path or ())
    if min(curve.width, curve.height) <= _THIN and not bent:
        if curve.stroke or (curve.fill and not _is_pale(curve.non_stroking_color)):
            yield curve.bbox
        return
    if not curve.stroke:
        return
    points: Sequence[tuple[float, float]] = curve.pts
    straight = [True] * len(points)
    if isinstance(curve, LTRect):
        points = [*points, points[0]]
    elif bent:
        straight = [step[0] != "c" for step in curve.original_path or ()][1:]
    for ((x0, y0), (x1, y1)), drawn in zip(pairwise(points), straight, strict=False):
        if drawn and min(abs(x1 - x0), abs(y1 - y0)) <= 0.5 < max(abs(x1 - x0), abs(y1 - y0)):
            yield (x0, y0, x1, y1)
