"""What scanners, fax machines and files do: resolution, contrast, noise, two levels, compression."""

from __future__ import annotations

import random
from typing import Literal

import numpy as np

from ocrsmith.datasets.synth import pixels
from ocrsmith.datasets.synth.effects.canvas import Canvas, Values, rounded

_LEAST_HEIGHT = 13
"""Letters (font size) are never shrunk under so many pixels."""


def low_resolution(canvas: Canvas, amount: float, rng: random.Random) -> Values:
    """Scanned too coarsely and enlarged again."""
    scale = min(1.0, max(1 - 0.6 * amount, _LEAST_HEIGHT / canvas.text_height))
    if scale < 1:
        ways: tuple[Literal["linear", "cubic"], ...] = ("linear", "cubic")
        canvas.image = pixels.lose_resolution(canvas.image, scale, rng.choice(ways))
    return rounded(scale=scale)


def low_contrast(canvas: Canvas, amount: float, rng: random.Random) -> Values:
    """Black gets grey, white gets dull."""
    gain = 1 - 0.5 * amount
    offset = rng.uniform(0.3, 1) * 255 * (1 - gain)
    canvas.image = pixels.contrast(canvas.image, gain, offset)
    return rounded(gain=gain, offset=offset)


def noise(canvas: Canvas, amount: float, rng: random.Random) -> Values:
    """The sensor's noise."""
    grain = rng.choice((1, 1, 2))
    deviation = 2 + 16 * amount
    start = rng.randrange(pixels.noise_places(canvas.image.shape, grain))
    canvas.image = pixels.add_noise(canvas.image, deviation, grain, start)
    return rounded(deviation=deviation, grain=grain)


def fax(canvas: Canvas, amount: float, rng: random.Random) -> Values:
    """Black and white at a fax's coarse lines, with specks, slipped rows and streaks across the whole sheet.

    No row is lost and no streak ends within the text: either could turn 二 into 一 or 三."""
    grey = pixels.to_grey(canvas.image)
    height, width = grey.shape
    scale = min(1.0, max(1 - 0.5 * amount, (_LEAST_HEIGHT + 5) / canvas.text_height))
    grey = pixels.resize(grey, max(8, int(width * scale)), max(8, int(height * scale)))
    deviation = 4 + 14 * amount
    grey = pixels.add_noise(grey, deviation, 1, rng.randrange(pixels.noise_places(grey.shape, 1)))
    ink, paper = (float(level) for level in np.percentile(grey[:: max(1, len(grey) // 64)], (2, 90)))
    threshold = paper - rng.uniform(0.3, 0.42) * (paper - ink)
    sent = np.where(grey > threshold, 255, 0).astype(np.uint8)
    slips = rng.randint(0, round(4 * amount))
    for _ in range(slips):
        y = rng.randrange(len(sent))
        sent[y] = np.roll(sent[y], rng.choice((-2, -1, 1, 2)))
    streaks = int(rng.random() < 0.5 * amount)
    if streaks:
        sent[:, rng.randrange(sent.shape[1])] = 0  # dirt on the glass
    canvas.image = np.repeat(np.repeat(sent, 2, 0), 2, 1) if scale < 0.6 else sent
    canvas.two_levels = True
    return rounded(scale=scale, noise=deviation, slips=slips, streaks=streaks)


def jpeg(canvas: Canvas, amount: float, rng: random.Random) -> Values:
    """Saved as JPEG, quality 95 down to 25. The sample's file is that JPEG."""
    canvas.quality = round(95 - 70 * amount)
    return rounded(quality=canvas.quality)
