"""What paper brings: colour, texture, stains, ruled lines, and the writing on its back."""

from __future__ import annotations

import random

import numpy as np

from ocrsmith.datasets.synth import pixels
from ocrsmith.datasets.synth.effects.canvas import Canvas, Values, rounded, spots

_PAPERS = ((246, 238, 214), (240, 228, 196), (232, 232, 228), (250, 246, 236), (224, 236, 226), (238, 222, 222))
_INKS = ((16, 16, 18), (20, 24, 66), (40, 30, 24), (60, 20, 40), (10, 40, 90))
_RULES = ((120, 140, 190), (140, 140, 140), (200, 110, 110))


def paper_colour(canvas: Canvas, amount: float, rng: random.Random) -> Values:
    """Paper that is not white and ink that is not black; mostly both stay grey.

    Chooses the colours only; `Canvas.lay_on_paper` comes next."""
    if rng.random() < 0.5:
        paper = (round(255 - 80 * amount * rng.random()),) * 3
        ink = (round(70 * amount * rng.random()),) * 3
    else:
        share = 0.3 + 0.7 * amount
        darker = 1 - 0.2 * amount * rng.random()
        paper = _mixed((255, 255, 255), rng.choice(_PAPERS), share, darker)
        ink = _mixed((0, 0, 0), rng.choice(_INKS), share, 1)
    canvas.paper_colour, canvas.ink_colour = paper, ink
    return {"paper": _written(paper), "ink": _written(ink)}


def texture(canvas: Canvas, amount: float, rng: random.Random) -> Values:
    """The paper's grain, and clouds in it."""
    depth = 0.09 * amount
    factors = 1 + 0.5 * depth * spots(canvas.image.shape, rng.uniform(1, 3), rng, smooth=False)
    factors += 0.5 * depth * spots(canvas.image.shape, 40, rng)
    canvas.image = pixels.shade(canvas.image, np.clip(factors, 0, 1.1))
    return rounded(depth=depth)


def stains(canvas: Canvas, amount: float, rng: random.Random) -> Values:
    """One to three brownish stains with soft or dark rims."""
    height, width = canvas.image.shape[:2]
    count = rng.randint(1, 3)
    rows, columns = max(8, height // 8), max(8, width // 8)
    y, x = np.ogrid[:rows, :columns]
    depth = np.zeros((rows, columns), np.float32)
    for _ in range(count):
        radius = rng.uniform(0.2, 0.7) * max(min(rows, columns), 12)
        far = np.hypot(y - rng.uniform(0, rows), x - rng.uniform(0, columns)) / radius
        blot = np.clip(3 * (1 - far), 0, 1) * 0.6
        rim = np.exp(-(((far - 1) / 0.12) ** 2)) if rng.random() < 0.5 else 0.0
        depth = np.maximum(depth, blot + rim)
    strongest = 0.15 + 0.3 * amount
    field = pixels.spread(depth.astype(np.float32), canvas.image.shape, smooth=True)
    weights = np.array((0.5, 0.75, 1.0), np.float32) * strongest  # what is left is brown
    canvas.image = pixels.shade(pixels.to_colour(canvas.image), 1 - np.clip(field, 0, 1)[..., None] * weights)
    return rounded(count=count, depth=strongest)


def ruled(canvas: Canvas, amount: float, rng: random.Random) -> Values:
    """Writing lines across the paper."""
    step = rng.uniform(1.3, 1.9) * canvas.text_height
    colour = rng.choice(_RULES)
    weight = 0.25 + 0.45 * amount
    thick = max(1, round(canvas.text_height / 28))
    height = canvas.image.shape[0]
    rows = np.ones((height, 1, 3), np.float32)
    y = rng.uniform(0.1, 1) * step
    while y < height:
        rows[int(y) : int(y) + thick] = 1 - weight * (1 - np.array(colour, np.float32) / 255)
        y += step
    factors = np.broadcast_to(rows, (height, canvas.image.shape[1], 3))
    canvas.image = pixels.shade(pixels.to_colour(canvas.image), np.ascontiguousarray(factors))
    return {**rounded(step=step, weight=weight), "colour": _written(colour)}


def bleed_through(canvas: Canvas, amount: float, rng: random.Random) -> Values:
    """The other side's text shines through, in mirror writing."""
    down = round(rng.uniform(-0.6, 0.6) * canvas.text_height)
    back = np.roll(canvas.ink[:, ::-1], down, 0)
    back = pixels.blur(np.ascontiguousarray(back), 0.05 * canvas.text_height)
    weight = 0.06 + 0.2 * amount
    canvas.image = pixels.shade(canvas.image, 1 - back.astype(np.float32) * np.float32(weight / 255))
    return rounded(weight=weight)


def _mixed(
    start: tuple[int, int, int], end: tuple[int, int, int], share: float, factor: float
) -> tuple[int, int, int]:
    red, green, blue = (round((a + (b - a) * share) * factor) for a, b in zip(start, end, strict=True))
    return red, green, blue


def _written(colour: tuple[int, int, int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)
