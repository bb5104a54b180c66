"""How an old office file looks in a scan: worn type, faded ribbons, carbon copies, stained and crooked sheets.

Lines are composed as a field of ink density (0 none … 1 full) at twice the final size, with the neighbouring
lines, the sheet's other side, ruled lines and stamps, then turned, cut out and laid on paper. Needs OpenCV.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

Field = npt.NDArray[np.float32]
Gray = npt.NDArray[np.uint8]
Cell = tuple[str, ...]
"""What is struck on one place: usually one character; more are struck over each other."""
_SCALE = 2  # composed at twice the final size, so that jitter and skew do not step
_EDGE = 40  # free space around the composed lines, in composed pixels


@dataclass(frozen=True)
class Look:
    """One document's machine, ribbon, paper and scanner. Lengths in final pixels, shades 0…1."""

    font_path: str
    size: int
    wide: bool
    """Square cells (Chinese) instead of a typewriter's narrow pitch."""
    pitch: float
    """Width of a cell, in font sizes."""
    spacing: float
    """Distance of baselines, in font sizes."""
    skew: float
    """Degrees."""
    ink: float
    paper: float
    weak: float
    """Chance of a weak or partly missing strike."""
    double: float
    """Chance of a double strike."""
    jitter: float
    wear: float
    """How much speckle eats into the ink."""
    blur: float
    smear: float
    bleed: float
    ruled: str
    """"", "lines" or "columns"."""
    stamp: float
    """Chance of a stamp on a line."""
    shadow: float
    stain: float
    grain: float


def random_look(font_path: str, wide: bool, rng: random.Random, strength: float) -> Look:
    """A document's look. `strength` 0 is a clean sheet, 1 the archive, above it worse."""

    def up_to(low: float, high: float) -> float:
        return rng.uniform(low, high) * strength

    carbon = rng.random() < 0.35
    skew = rng.choice((-1, 1)) * min(3.0, up_to(0.8, 2.6))
    return Look(
        font_path=font_path,
        size=rng.choice((23, 24, 26)) if wide else rng.choice((20, 21, 22)),
        wide=wide,
        pitch=rng.uniform(1.04, 1.2) if wide else rng.uniform(0.58, 0.63),
        spacing=rng.uniform(1.45, 1.8),
        skew=skew,
        ink=max(0.36, 0.9 - up_to(0.2, 0.5)),
        paper=max(0.55, 0.97 - up_to(0.04, 0.28)),
        weak=up_to(0.04, 0.2),
        double=up_to(0.0, 0.14),
        jitter=up_to(0.3, 1.1),
        wear=min(0.9, up_to(0.1, 0.6)),
        blur=0.35 + (up_to(0.5, 0.85) if carbon else up_to(0.0, 0.35)),
        smear=up_to(0.1, 0.35) if carbon else 0.0,
        bleed=up_to(0.08, 0.26) if rng.random() < 0.5 else 0.0,
        ruled=rng.choice(("", "", "lines", "columns")),
        stamp=min(0.5, up_to(0.0, 0.3)),
        shadow=up_to(0.0, 0.4),
        stain=up_to(0.05, 0.2),
        grain=up_to(0.008, 0.022),
    )


def draw_line(
    line: Sequence[Cell], before: Sequence[Cell], after: Sequence[Cell], look: Look, rng: random.Random
) -> Gray:
    """The crop of one line of a document, (H, W) uint8.

    Args:
        before, after: its neighbours on the sheet, of which corners get into the crop (may be empty).
    """
    step = look.spacing * look.size * _SCALE
    inset = rng.uniform(0.2, 1.5) * look.size * _SCALE
    width = int(_advance(line, look) + inset + rng.uniform(0.3, 2.5) * look.size * _SCALE) + 2 * _EDGE
    height = int(3 * step + 2 * _EDGE)
    field = np.zeros((height, width), np.float32)
    middle = height / 2 + 0.36 * look.size * _SCALE
    for text, offset in ((before, -step), (line, 0.0), (after, step)):
        shift = 0.0 if text is line else rng.uniform(-1.0, 1.0) * look.size
        _strike(field, text, _EDGE + inset + shift, middle + offset, look, rng)
    _wear_off(field, look, rng)
    if look.smear:
        soft = cv2.GaussianBlur(field, (0, 0), 2.2 * _SCALE)
        field = _over(field, _field(soft) * np.float32(look.smear))
    if look.bleed:
        other = np.zeros_like(field)
        _strike(other, line[::-1], _EDGE, middle + rng.uniform(-0.7, 0.7) * step, look, rng)
        _strike(other, after or line, _EDGE, middle + rng.uniform(-1.5, -0.8) * step, look, rng)
        field = _over(field, cv2.GaussianBlur(_field(other[:, ::-1]), (0, 0), 1.3 * _SCALE) * look.bleed)
    _rule(field, look, middle, step)
    if rng.random() < look.stamp:
        field = _over(field, _stamp(field.shape, look, rng))
    field = _cut_out(_turned(field, look.skew), look, width, rng)
    field = _field(cv2.GaussianBlur(field, (0, 0), look.blur * _SCALE))
    size = (field.shape[1] // _SCALE, field.shape[0] // _SCALE)
    return _on_paper(_field(cv2.resize(field, size, interpolation=cv2.INTER_AREA)), look, rng)


def _field(array: npt.NDArray[np.generic] | cv2.typing.MatLike) -> Field:
    return np.asarray(array).astype(np.float32, copy=False)


def _over(below: Field, above: npt.NDArray[np.generic] | cv2.typing.MatLike) -> Field:
    """Two layers of ink on one another."""
    return _field(1 - (1 - below) * (1 - _field(above)))


def _cell_width(cell: Cell, look: Look) -> float:
    narrow = look.wide and ord(cell[0]) < 0x2E80 and cell[0] not in "○×"
    return look.pitch * look.size * _SCALE * (0.55 if narrow else 1.0)


def _advance(line: Sequence[Cell], look: Look) -> float:
    return sum(_cell_width(cell, look) for cell in line)


@lru_cache(maxsize=8192)
def _glyph(path: str, size: int, character: str) -> Field:
    """Ink of one character in a square of twice the font size, its baseline at 3/4 of the height."""
    font = ImageFont.truetype(path, size, layout_engine=ImageFont.Layout.BASIC)
    canvas = Image.new("L", (2 * size, 2 * size))
    ImageDraw.Draw(canvas).text((size, size * 3 // 2), character, fill=255, font=font, anchor="ms")
    return np.asarray(canvas, np.float32) / np.float32(255)


def _strike(
    field: Field, line: Sequence[Cell], x: float, baseline: float, look: Look, rng: random.Random
) -> None:
    """Types a line into `field`: each type hits with its own force, place and part."""
    size = look.size * _SCALE
    phase, period = rng.uniform(0, 6.3), rng.uniform(6, 20)
    sunk = {c: rng.gauss(0, look.jitter) for cell in line for c in cell}  # a bent type bar is bent every time
    for number, cell in enumerate(line):
        width = _cell_width(cell, look)
        for character in cell:
            if character == " ":
                continue
            force = 0.82 + 0.18 * math.sin(phase + number / period * 6.3)
            mask = _glyph(look.font_path, size, character) * np.float32(force * rng.uniform(0.75, 1.0))
            if rng.random() < look.weak:
                mask = mask * _part(2 * size, rng)
            dx = x + width / 2 - size + rng.gauss(0, 0.4 * look.jitter) * _SCALE
            dy = baseline - 1.5 * size + (sunk[character] + rng.gauss(0, 0.35 * look.jitter)) * _SCALE
            _put(field, mask, dx, dy)
            if rng.random() < look.double:
                _put(field, mask * np.float32(0.55), dx + rng.uniform(1.5, 4), dy + rng.uniform(-2.5, 2.5))
        x += width


def _part(side: int, rng: random.Random) -> Field:
    """A ramp across a glyph: one side of the type did not hit the paper well."""
    angle = rng.uniform(0, 6.3)
    across = np.linspace(-1, 1, side, dtype=np.float32)
    ramp = across[None, :] * math.cos(angle) + across[:, None] * math.sin(angle)
    return _field(np.clip(0.6 + 1.4 * ramp + rng.uniform(-0.1, 0.25), 0.3, 1))


def _put(field: Field, mask: Field, x: float, y: float) -> None:
    left, top = round(x), round(y)
    x0, y0 = max(left, 0), max(top, 0)
    x1, y1 = min(left + mask.shape[1], field.shape[1]), min(top + mask.shape[0], field.shape[0])
    if x0 < x1 and y0 < y1:
        part = mask[y0 - top : y1 - top, x0 - left : x1 - left]
        field[y0:y1, x0:x1] = _over(field[y0:y1, x0:x1], part)


def _noise(shape: tuple[int, ...], cell: float, rng: random.Random) -> Field:
    """Smooth noise of unit variance whose spots are about `cell` pixels wide."""
    source = np.random.default_rng(rng.getrandbits(32))
    rows, columns = max(2, round(shape[0] / cell)), max(2, round(shape[1] / cell))
    coarse = source.standard_normal((rows, columns), dtype=np.float32)
    return _field(cv2.resize(coarse, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC))


def _wear_off(field: Field, look: Look, rng: random.Random) -> None:
    """The ribbon's weave and dry patches."""
    weave = _noise(field.shape, 1.6 * _SCALE, rng)
    dry = _noise(field.shape, 3.0 * look.size * _SCALE, rng)
    field *= np.clip(1 - look.wear * np.clip(0.35 * weave + 0.25 * dry + 0.15, 0, 1), 0.3, 1)


def _rule(field: Field, look: Look, baseline: float, step: float) -> None:
    if not look.ruled:
        return
    thick = _SCALE
    for number in (-1, 0, 1):
        y = int(baseline + number * step + 0.3 * look.size * _SCALE)
        field[y : y + thick] = np.maximum(field[y : y + thick], 0.3)
    if look.ruled == "columns":
        for x in range(_EDGE + look.size, field.shape[1] - _EDGE, int(9.5 * look.size) * _SCALE):
            field[:, x : x + thick] = np.maximum(field[:, x : x + thick], 0.28)


def _stamp(shape: tuple[int, ...], look: Look, rng: random.Random) -> Field:
    """A round or square office stamp, unevenly inked."""
    stamp = np.zeros(shape, np.float32)
    radius = int(rng.uniform(1.1, 2.0) * look.size * _SCALE)
    x = rng.randint(_EDGE, shape[1] - _EDGE)
    y = int(shape[0] / 2 + rng.uniform(-1.0, 1.0) * radius)
    if rng.random() < 0.6:
        for share, thick in ((1.0, 3), (0.72, 2)):
            cv2.circle(stamp, (x, y), int(radius * share), 1.0, thick * _SCALE // 2, cv2.LINE_AA)
    else:
        half = int(radius * 1.6), int(radius * 0.6)
        corners = cv2.boxPoints(((x, y), (2 * half[0], 2 * half[1]), rng.uniform(-20, 20)))
        cv2.polylines(stamp, [corners.astype(np.int32)], True, 1.0, 2 * _SCALE, cv2.LINE_AA)
    patchy = np.clip(0.6 + 0.5 * _noise(shape, 8 * _SCALE, rng), 0, 1)
    return _field(stamp * patchy * np.float32(rng.uniform(0.25, 0.45)))


def _turned(field: Field, degrees: float) -> Field:
    height, width = field.shape
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1)
    extra = abs(math.sin(math.radians(degrees))) * width
    matrix[1, 2] += extra / 2
    return _field(cv2.warpAffine(field, matrix, (width, int(height + extra)), flags=cv2.INTER_LINEAR))


def _cut_out(field: Field, look: Look, width: int, rng: random.Random) -> Field:
    """The line's box: as high as the crooked line needs, a little more or less at each side."""
    size = look.size * _SCALE
    rise = abs(math.sin(math.radians(look.skew))) * (width - 2 * _EDGE)
    half = (1.05 * size + rise) / 2
    middle = field.shape[0] / 2
    top = max(0, int(middle - half - rng.uniform(0.0, 0.3) * size))
    bottom = min(field.shape[0], int(middle + half + rng.uniform(0.0, 0.3) * size))
    left = _EDGE - int(rng.uniform(0, 0.4) * _EDGE)
    return field[top:bottom, left : width - _EDGE + int(rng.uniform(0, 0.4) * _EDGE)]


def _on_paper(ink: Field, look: Look, rng: random.Random) -> Gray:
    """Ink on stained, unevenly lit paper."""
    shape = ink.shape
    paper = look.paper + look.stain * 0.5 * np.clip(_noise(shape, 4 * look.size, rng), -1.5, 0.8)
    paper = paper + look.stain * 0.12 * _noise(shape, 7, rng)
    across = np.linspace(0, 1, shape[1], dtype=np.float32)[None, :]
    if rng.random() < 0.5:
        across = 1 - across
    paper = paper * (1 - look.shadow * np.exp(-across * rng.uniform(4, 16)))
    image = paper * (1 - look.ink * ink) + look.grain * _noise(shape, 1.0, rng)
    return np.clip(255 * image, 0, 255).astype(np.uint8)
