"""What happens to ink: it fades, dries, spreads, wears off, and is struck twice."""

from __future__ import annotations

import random

import numpy as np

from ocrsmith.datasets.synth import pixels
from ocrsmith.datasets.synth.effects.canvas import Canvas, Values, rounded, spots


def fade(canvas: Canvas, amount: float, rng: random.Random) -> Values:
    """All ink gets weaker: down to 35 % of its density."""
    density = 1 - 0.65 * amount
    canvas.ink = pixels.contrast(canvas.ink, density, 0)
    return rounded(density=density)


def uneven_ink(canvas: Canvas, amount: float, rng: random.Random) -> Values:
    """Some words are weaker than others: a dry ribbon, a bad toner, uneven pressure."""
    size = rng.uniform(1.5, 5) * canvas.text_height
    factors = 1 - 0.45 * amount * np.clip(0.5 + spots(canvas.ink.shape, size, rng), 0, 1.3)
    canvas.ink = pixels.shade(canvas.ink, factors)
    return rounded(depth=0.45 * amount, spot=size)


def wear(canvas: Canvas, amount: float, rng: random.Random) -> Values:
    """Fine specks are missing from the letters."""
    size = max(1.0, 0.045 * canvas.text_height)
    specks = spots(canvas.ink.shape, size, rng, smooth=False)
    factors = 1 - 0.75 * amount * np.clip(specks - 0.5, 0, 1)
    canvas.ink = pixels.shade(canvas.ink, factors)
    return rounded(depth=0.75 * amount, speck=size)


def bleed(canvas: Canvas, amount: float, rng: random.Random) -> Values:
    """Ink runs into the paper: strokes get wider and softer."""
    side = 2 if canvas.text_height < 30 else 3
    sigma = 0.012 * canvas.text_height * (0.5 + amount)
    canvas.ink = pixels.widen(canvas.ink, (side, side), 0.25 + 0.5 * amount, bright=True)
    canvas.ink = pixels.blur(canvas.ink, max(0.3, sigma))
    return rounded(sigma=sigma)


def double_strike(canvas: Canvas, amount: float, rng: random.Random) -> Values:
    """Everything is printed a second time, weaker and a little aside."""
    reach = 0.03 + 0.05 * amount
    x = round(rng.choice((-1, 1)) * rng.uniform(0.02, reach) * canvas.text_height)
    y = round(rng.uniform(-0.5, 0.5) * reach * canvas.text_height)
    density = 0.25 + 0.35 * amount
    again = pixels.contrast(np.roll(canvas.ink, (y, x), (0, 1)), density, 0)
    canvas.ink = np.maximum(canvas.ink, again)
    return rounded(x=x, y=y, density=density)
