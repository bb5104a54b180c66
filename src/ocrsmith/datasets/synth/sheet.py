"""A sheet of ink that kinds lay their text and lines on."""

from __future__ import annotations

import random
import unicodedata
from dataclasses import dataclass

import numpy as np

from ocrsmith.datasets.synth.font_index import Face
from ocrsmith.datasets.synth.pixels import Picture
from ocrsmith.datasets.synth.scripts import is_wide
from ocrsmith.datasets.synth.typeset import Engine, Run, advance, draw_run

_NOT_FIRST = frozenset("，。、；：？！）》〉】」』〕］｝…—·%‰℃,.;:?!)]}»›”’")
_NOT_LAST = frozenset("（《〈【「『〔［｛([{«‹“‘￥¥$")


@dataclass(frozen=True)
class Strike:
    """How a typewriter hits: lengths in font sizes, chances 0…1."""

    jitter: float
    """Standard deviation of each letter's height on the line."""
    weak: float
    """Chance of a weak strike."""


@dataclass(frozen=True)
class Setter:
    """Sets text in one face and size."""

    face: Face
    size: int
    engine: Engine
    strike: Strike | None
    rng: random.Random
    """For the strikes."""

    def run(self, text: str, rtl: bool | None = None, size: int | None = None) -> Run:
        """One line of ink. A face that cannot be drawn at all raises OSError."""
        run = draw_run(text, self.face, size or self.size, rtl=rtl, engine=self.engine)
        return run if self.strike is None else self._struck(run, self.strike)

    def width(self, text: str, size: int | None = None) -> float:
        """How wide a text stands, in pixels."""
        return advance(text, self.face, size or self.size, self.engine)

    def _struck(self, run: Run, strike: Strike) -> Run:
        """Each stretch of ink between blank columns (a letter, a joined word) at its own height and weight."""
        if not run.ink.size:
            return run
        reach = max(1, round(2.5 * strike.jitter * self.size))
        ink = np.pad(run.ink, ((reach, reach), (0, 0)))
        inked = np.concatenate(([0], (run.ink.max(axis=0) > 32).astype(np.int8), [0]))
        edges = np.flatnonzero(np.diff(inked))
        for start, end in zip(edges[::2], edges[1::2], strict=True):
            rise = self.rng.gauss(0, strike.jitter * self.size)
            shift = max(-reach, min(reach, round(rise)))
            part = np.roll(ink[:, start:end], shift, 0)
            if self.rng.random() < strike.weak:
                part = (part * self.rng.uniform(0.6, 0.85)).astype(np.uint8)
            ink[:, start:end] = part
        return Run(ink, run.left, run.top - reach)

    def wrap(self, text: str, width: float) -> list[str]:
        """`text` broken into lines of at most `width` pixels: at spaces, and between wide characters where no
        mark gets on the wrong side. A word that is longer is broken anywhere."""
        lines: list[str] = []
        line, filled = "", 0.0
        for piece in break_pieces(text):
            wide = self.width(piece.rstrip())
            if line and filled + wide > width:
                lines.append(line.rstrip())
                line, filled = "", 0.0
            while wide > width and len(piece) > 1:
                kept = max(1, int(len(piece) * width / wide))
                lines.append(piece[:kept])
                piece = piece[kept:]
                wide = self.width(piece.rstrip())
            line += piece
            filled += self.width(piece) if piece.endswith(" ") else wide
        return [*lines, line.rstrip()] if line.strip() else lines


def break_pieces(text: str) -> list[str]:
    """What of a text must not be torn apart: words with the space after them; wide characters with the marks
    that belong to them."""
    pieces: list[str] = []
    glued = False
    for character in text:
        joins = pieces and (
            glued
            or character in _NOT_FIRST
            or unicodedata.combining(character) > 0
            or not (is_wide(character) or is_wide(pieces[-1][-1]) or pieces[-1][-1] == " ")
            or character == " "
        )
        if joins:
            pieces[-1] += character
        else:
            pieces.append(character)
        glued = character in _NOT_LAST
    return pieces


class Sheet:
    """A canvas of ink, (height, width) uint8, 0 where nothing is."""

    def __init__(self, width: int, height: int) -> None:
        self.ink: Picture = np.zeros((height, width), np.uint8)

    def put(self, run: Run, x: float, baseline: float) -> None:
        """A run with its origin at (x, baseline)."""
        self.paste(run.ink, round(x) + run.left, round(baseline) + run.top)

    def paste(self, ink: Picture, left: int, top: int) -> None:
        """Ink with its upper left corner at (left, top); what lies outside is cut off."""
        x, y = max(0, left), max(0, top)
        part = ink[y - top : self.ink.shape[0] - top, x - left : self.ink.shape[1] - left]
        if part.size:
            target = self.ink[y : y + part.shape[0], x : x + part.shape[1]]
            np.maximum(target, part, out=target)

    def line(self, x0: float, y0: float, x1: float, y1: float, thick: int = 1, shade: int = 255) -> None:
        """A horizontal or vertical line, or a filled box."""
        left, right = sorted((round(x0), round(x1)))
        top, bottom = sorted((round(y0), round(y1)))
        self.ink[max(0, top) : max(bottom, top + thick), max(0, left) : max(right, left + thick)] = shade

    def box(self, x0: float, y0: float, x1: float, y1: float, thick: int = 1) -> None:
        """A frame."""
        for y in (y0, y1):
            self.line(x0, y, x1 + thick, y, thick)
        for x in (x0, x1):
            self.line(x, y0, x, y1 + thick, thick)
