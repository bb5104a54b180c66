"""Draws a run of text in one face: Pillow with Raqm (HarfBuzz, FriBidi) where it is there, else `shaping`.

Both give the same glyphs in the same order. Without Raqm there is no kerning, and texts that need more than
joining (marks upon letters, scripts such as Devanagari or Thai) are not drawn at all: see `needed`.
"""

from __future__ import annotations

import unicodedata
from bisect import bisect_right
from functools import lru_cache
from math import ceil, floor
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont, features

from ocrsmith.datasets.synth import pixels
from ocrsmith.datasets.synth.font_index import Face
from ocrsmith.datasets.synth.scripts import COMPLEX, is_unseen, script_of
from ocrsmith.datasets.synth.shaping import for_drawing, is_rtl, presentation_forms

Gray = npt.NDArray[np.uint8]
Engine = Literal["raqm", "own"]
_PROBE_SIZE = 24
_OPEN_FONTS = 32
"""More would hardly be met again, and each keeps its file in memory."""
_HOLES = {"o": 1, "d": 1, "B": 2, "O": 1, "l": 0, "T": 0}
_UNASSIGNED = "\U0010fffd"  # private, last of all: drawn as .notdef by every font


class Run(NamedTuple):
    """The ink of a run of text."""

    ink: Gray
    """(height, width), 255 where it is full; just what is inked."""
    left: int
    """Of `ink` from the run's origin, in pixels to the right; may be negative."""
    top: int
    """Of `ink` from the baseline, in pixels down; mostly negative."""


@lru_cache(maxsize=1)
def best_engine() -> Engine:
    """Raqm where this Pillow has it and finds FriBidi, else our own shaping."""
    return "raqm" if features.check("raqm") and features.check("fribidi") else "own"


def needed(text: str, engine: Engine) -> frozenset[str] | None:
    """The characters that a face must have to draw one line; None where `engine` cannot draw it.

    For our own shaping these are the presentation forms, not the letters.
    """
    if engine == "raqm":
        return frozenset(c for c in unicodedata.normalize("NFC", text) if not is_unseen(c))
    drawn = frozenset(for_drawing(unicodedata.normalize("NFC", text)))
    return drawn if all(_draws_alone(character) for character in drawn) else None


@lru_cache(maxsize=16384)
def _draws_alone(character: str) -> bool:
    """Whether it can be drawn without a shaping engine, once its form is chosen."""
    if unicodedata.category(character) in ("Mn", "Mc", "Me") or script_of(character) in COMPLEX:
        return False
    if script_of(character) == "Arabic" and character < "\ufb50":
        return character in presentation_forms() or not character.isalpha() or character == "ـ"
    return True


@lru_cache(maxsize=_OPEN_FONTS)
def load_font(path: str, number: int, size: int, engine: Engine) -> ImageFont.FreeTypeFont:
    """A face at a size in pixels; the last few stay open."""
    layout = ImageFont.Layout.RAQM if engine == "raqm" else ImageFont.Layout.BASIC
    return ImageFont.truetype(path, size, index=number, layout_engine=layout)


def draw_run(text: str, face: Face, size: int, *, rtl: bool | None = None, engine: Engine | None = None) -> Run:
    """One line's ink.

    Args:
        text: in logical order, without line breaks.
        size: in pixels.
        rtl: the direction of its paragraph; None: of itself.
    """
    engine = engine or best_engine()
    rtl = is_rtl(text) if rtl is None else rtl
    font = load_font(face.path, face.number, size, engine)
    if engine == "raqm":
        drawn, direction = text, "rtl" if rtl else "ltr"
    else:
        drawn, direction = for_drawing(unicodedata.normalize("NFC", text), rtl=rtl), None
    # measuring costs as much as drawing: draw with room to spare, and measure only what did not fit
    wide = sum(1.05 if character > "\u2e7f" else 0.7 for character in drawn)
    canvas, x, y = Image.new("L", (int((wide + 2) * size), 3 * size)), size, 2 * size
    box = _draw(canvas, drawn, font, direction, x, y)
    if box is not None and not (box[0] > 0 and box[1] > 0 and box[2] < canvas.width and box[3] < canvas.height):
        left, top, right, bottom = font.getbbox(drawn, anchor="ls", direction=direction)
        x, y = 2 - floor(left), 2 - floor(top)
        canvas = Image.new("L", (x + ceil(right) + 2, y + ceil(bottom) + 2))
        box = _draw(canvas, drawn, font, direction, x, y)
    if box is None:
        return Run(np.zeros((0, 0), np.uint8), 0, 0)
    return Run(np.asarray(canvas.crop(box)), box[0] - x, box[1] - y)


def _draw(
    canvas: Image.Image, text: str, font: ImageFont.FreeTypeFont, direction: str | None, x: int, y: int
) -> tuple[int, int, int, int] | None:
    """Draws with the origin at (x, y); gives the box of the ink, None if there is none."""
    ImageDraw.Draw(canvas).text((x, y), text, fill=255, font=font, anchor="ls", direction=direction)
    return canvas.getbbox()


@lru_cache(maxsize=65536)
def advance(text: str, face: Face, size: int, engine: Engine) -> float:
    """How wide `text` stands, in pixels; of letters that stand side by side without regard to kerning."""
    if engine == "raqm" and not any("\u0300" <= c <= "\u036f" or "\u0590" <= c <= "\u1fff" for c in text):
        engine = "own"  # several times faster
    font = load_font(face.path, face.number, size, engine)
    return float(font.getlength(text if engine == "raqm" else for_drawing(text)))


def draws(face: Face, characters: frozenset[str], engine: Engine) -> bool:
    """Whether `face` has something to show for each character, and joins Arabic ones: fonts promise characters
    that they then draw as nothing, as the box of missing ones, or apart."""
    if any("\u0620" <= c <= "\u06ff" or c > "\ufb4f" for c in characters) and not _joins(face, engine):
        return False
    if any(c.isascii() and c.isalnum() for c in characters) and not _is_latin(face):
        return False
    return all(_shows(face, character) for character in characters)


@lru_cache(maxsize=4096)
def _is_latin(face: Face) -> bool:
    """Whether Latin letters look like themselves. Fonts of ornaments have them by name only, and in faces of
    capitals one could not tell small letters. True for faces that lack the letters that are looked at."""
    if not all(bisect_right(face.ranges, ord(c)) % 2 for c in "aegrAEGR" + "".join(_HOLES)):
        return True
    font = load_font(face.path, face.number, 2 * _PROBE_SIZE, "own")
    right = sum(_count_holes(font, letter) == holes for letter, holes in _HOLES.items())
    if right < len(_HOLES) - 1:
        return False
    alike = 0
    for small in "aegr":
        one, other = (_scaled(font, letter) for letter in (small, small.upper()))
        alike += one is not None and other is not None and float(np.abs(one - other).mean()) < 30
    return alike < 3


def _count_holes(font: ImageFont.FreeTypeFont, letter: str) -> int:
    """How many parts of the paper a letter closes off."""
    canvas = Image.new("L", (4 * _PROBE_SIZE, 4 * _PROBE_SIZE))
    ImageDraw.Draw(canvas).text((_PROBE_SIZE, _PROBE_SIZE), letter, fill=255, font=font)
    return pixels.count_parts(np.asarray(canvas) < 80) - 1


def _scaled(font: ImageFont.FreeTypeFont, letter: str) -> npt.NDArray[np.int16] | None:
    """A letter's ink stretched to a square; None if it has none."""
    canvas = Image.new("L", (4 * _PROBE_SIZE, 4 * _PROBE_SIZE))
    ImageDraw.Draw(canvas).text((_PROBE_SIZE, _PROBE_SIZE), letter, fill=255, font=font)
    box = canvas.getbbox()
    return None if box is None else np.asarray(canvas.crop(box).resize((24, 24))).astype(np.int16)


@lru_cache(maxsize=4096)
def _joins(face: Face, engine: Engine) -> bool:
    """Whether the teeth of سسس hang together: no blank column in their ink. True for faces without them."""
    if not bisect_right(face.ranges, ord("س")) % 2:
        return True
    ink = draw_run("سسس", face, 2 * _PROBE_SIZE, engine=engine).ink
    return bool(ink.size) and bool(ink.max(axis=0).min() > 0)


@lru_cache(maxsize=262144)
def _shows(face: Face, character: str) -> bool:
    if character.isspace() or is_unseen(character):
        return True
    font = load_font(face.path, face.number, _PROBE_SIZE, "own")
    ink = font.getmask(character)
    if ink.getbbox() is None or bytes(ink) == _notdef(face):
        return False
    base = unicodedata.normalize("NFD", character)[0]
    if base != character and base.isascii():  # some Chinese faces have é in a square, between narrow letters
        return font.getlength(character) <= 1.3 * font.getlength(base)
    return True


@lru_cache(maxsize=2048)
def _notdef(face: Face) -> bytes:
    return bytes(load_font(face.path, face.number, _PROBE_SIZE, "own").getmask(_UNASSIGNED))
