"""A seal over the text: round and red with hanzi around a star, as Chinese offices use them, or square.

What a seal says is not part of a sample's text.
"""

from __future__ import annotations

import math
import random

import numpy as np
from PIL import Image, ImageDraw

from ocrsmith.datasets.synth import pixels
from ocrsmith.datasets.synth.effects.canvas import Canvas, Values, rounded, spots
from ocrsmith.datasets.synth.font_index import Face
from ocrsmith.datasets.synth.typeset import Gray, load_font

_RED = np.array((0.12, 0.85, 0.8), np.float32)  # what red ink takes from red, green and blue light
_PLACES = "华中东南西北海江城新安长天平京"
_BODIES = ("有限公司", "贸易公司", "人民医院", "档案馆", "管理局", "实业公司", "出版社", "委员会")
_ROLES = ("专用章", "财务章", "合同章", "")
SEAL_CHARACTERS = frozenset("".join((_PLACES, *_BODIES, *_ROLES)))
"""What a face must have for the hanzi of seals."""
_BOLD = 2  # drawn at twice the size, then shrunk


def stamp(canvas: Canvas, amount: float, rng: random.Random) -> Values:
    """Puts a red seal somewhere over the text, unevenly inked."""
    height, width = canvas.image.shape[:2]
    radius = max(8, int(min(rng.uniform(1.6, 3.2) * canvas.text_height, 0.48 * max(height, width))))
    words = _words(rng)
    square = rng.random() < 0.25
    mark = _square(radius, words, canvas.seal_face) if square else _round(radius, words, canvas.seal_face)
    mark = pixels.turned(mark, rng.uniform(-25, 25))
    x = rng.randint(0, max(0, width - mark.shape[1] // 2)) - mark.shape[1] // 4
    y = rng.randint(0, max(0, height - mark.shape[0] // 2)) - mark.shape[0] // 4
    density = 0.35 + 0.4 * amount
    ink = np.zeros((height, width), np.float32)
    top, left = max(0, y), max(0, x)
    part = mark[top - y : height - y, left - x : width - x]
    ink[top : top + part.shape[0], left : left + part.shape[1]] = part * np.float32(density / 255)
    ink *= np.clip(0.85 + 0.3 * spots((height, width), 0.25 * radius, rng), 0.2, 1)
    canvas.image = pixels.shade(pixels.to_colour(canvas.image), 1 - ink[..., None] * _RED)
    said = "".join(words) if canvas.seal_face else ""
    return {**rounded(x=x, y=y, radius=radius, density=density), "words": said}


def _words(rng: random.Random) -> tuple[str, str]:
    name = "".join(rng.sample(_PLACES, rng.randint(2, 4))) + rng.choice(_BODIES)
    return name, rng.choice(_ROLES)


def _round(radius: int, words: tuple[str, str], face: Face | None) -> Gray:
    side = 2 * radius * _BOLD
    image = Image.new("L", (side, side))
    pen = ImageDraw.Draw(image)
    middle = side / 2
    pen.ellipse((2, 2, side - 3, side - 3), outline=255, width=max(2, side // 28))
    star = [
        (middle + r * math.sin(angle), middle - r * math.cos(angle))
        for angle, r in ((k * math.pi / 5, side * (0.16 if k % 2 == 0 else 0.064)) for k in range(10))
    ]
    pen.polygon(star, fill=255)
    name, role = words
    if face is not None:
        size = max(6, round(side * min(0.15, 1.35 / len(name))))
        spread = math.radians(min(250, 30 * len(name)))
        for k, character in enumerate(name):
            angle = spread * (k / max(1, len(name) - 1) - 0.5)
            glyph = Image.new("L", (2 * size, 2 * size))
            font = load_font(face.path, face.number, size, "own")
            ImageDraw.Draw(glyph).text((size, size), character, fill=255, font=font, anchor="mm")
            glyph = glyph.rotate(-math.degrees(angle), Image.Resampling.BILINEAR)
            r = side * 0.375
            place = round(middle + r * math.sin(angle)) - size, round(middle - r * math.cos(angle)) - size
            image.paste(255, place, glyph)
        if role:
            font = load_font(face.path, face.number, max(6, round(side * 0.1)), "own")
            pen.text((middle, side * 0.76), role, fill=255, font=font, anchor="mm")
    return np.asarray(image.resize((2 * radius, 2 * radius), Image.Resampling.BOX))


def _square(radius: int, words: tuple[str, str], face: Face | None) -> Gray:
    """A name seal: four characters in two columns, read from the right."""
    side = round(1.3 * radius) * _BOLD
    image = Image.new("L", (side, side))
    pen = ImageDraw.Draw(image)
    pen.rectangle((2, 2, side - 3, side - 3), outline=255, width=max(2, side // 20))
    if face is not None:
        font = load_font(face.path, face.number, max(6, round(0.4 * side)), "own")
        for k, character in enumerate(words[0][:4]):
            place = side * (0.7 if k < 2 else 0.3), side * (0.3 if k % 2 == 0 else 0.7)
            pen.text(place, character, fill=255, font=font, anchor="mm")
    return np.asarray(image.resize((side // _BOLD, side // _BOLD), Image.Resampling.BOX))
