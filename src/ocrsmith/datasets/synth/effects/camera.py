"""What a camera, or a sheet that lies crooked, does: skew, perspective, shadow, light, blur."""

from __future__ import annotations

import math
import random

import numpy as np

from ocrsmith.datasets.synth import pixels
from ocrsmith.datasets.synth.effects.canvas import Canvas, Values, rounded


def skew(canvas: Canvas, amount: float, rng: random.Random) -> Values:
    """Turns by up to 3° and leans a little. Long lines turn less: their crop would be mostly paper."""
    height, width = canvas.image.shape[:2]
    slope = rng.choice((-1, 1)) * rng.uniform(0.2, 1) * 0.052 * amount
    slope = math.copysign(min(abs(slope), 0.6 * height / width), slope)
    shear = rng.uniform(-0.12, 0.12) * amount
    canvas.image = pixels.tilt(canvas.image, slope, shear)
    return rounded(degrees=math.degrees(math.atan(slope)), shear=shear)


def perspective(canvas: Canvas, amount: float, rng: random.Random) -> Values:
    """Seen from aside: each corner moves by up to 6 % of the picture's width or height (of a line's, 20 %)."""
    height, width = canvas.image.shape[:2]
    across = 0.06 * amount * min(width, 3 * height)
    down = (0.2 if width > 4 * height else 0.06) * amount * min(height, 3 * width)
    corners = [
        (x + rng.uniform(-1, 1) * across, y + rng.uniform(-1, 1) * down)
        for x, y in ((0, 0), (width, 0), (width, height), (0, height))
    ]
    canvas.image = pixels.move_corners(canvas.image, corners)
    return rounded(across=across, down=down)


def shadow(canvas: Canvas, amount: float, rng: random.Random) -> Values:
    """A shadow with a soft edge falls from one side: a hand, a book's fold."""
    height, width = canvas.image.shape[:2]
    rows, columns = max(4, height // 8), max(4, width // 8)
    angle = rng.uniform(0, 2 * math.pi)
    y, x = np.mgrid[0 : 1 : rows * 1j, 0 : 1 : columns * 1j].astype(np.float32) - 0.5
    along = x * math.cos(angle) + y * math.sin(angle)
    depth, place, soft = 0.15 + 0.45 * amount, rng.uniform(-0.25, 0.3), rng.uniform(0.05, 0.3)
    dark = 1 / (1 + np.exp(-(along - place) / (0.25 * soft)))
    factors = pixels.spread((1 - depth * dark).astype(np.float32), canvas.image.shape)
    canvas.image = pixels.shade(canvas.image, factors)
    return rounded(depth=depth, degrees=math.degrees(angle), edge=soft)


def uneven_light(canvas: Canvas, amount: float, rng: random.Random) -> Values:
    """Light that falls off across the picture."""
    low = 1 - 0.4 * amount
    columns = rng.randint(2, 5)
    patch = np.array([[rng.uniform(low, 1) for _ in range(columns)] for _ in range(2)], np.float32)
    canvas.image = pixels.shade(canvas.image, pixels.spread(patch, canvas.image.shape))
    return rounded(darkest=float(patch.min()))


def blur(canvas: Canvas, amount: float, rng: random.Random) -> Values:
    """Out of focus: up to a twentieth of the letters' size."""
    sigma = max(0.25, (0.012 + 0.035 * amount) * canvas.text_height)
    canvas.image = pixels.blur(canvas.image, sigma)
    return rounded(sigma=sigma)


def motion_blur(canvas: Canvas, amount: float, rng: random.Random) -> Values:
    """The camera moved."""
    length = max(2, round((0.04 + 0.14 * amount) * canvas.text_height))
    degrees = rng.uniform(0, 180)
    canvas.image = pixels.smear(canvas.image, length, degrees)
    return rounded(length=length, degrees=degrees)
