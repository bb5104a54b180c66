"""Light, fast damage to a grayscale text image, as scanning and compression do it. Needs OpenCV."""

from __future__ import annotations

import random

import numpy as np

from ocrsmith.datasets.synth import pixels
from ocrsmith.datasets.synth.pixels import Picture


def degrade(image: Picture, rng: random.Random, strength: float, text_height: float) -> Picture:
    """`image` (H, W) uint8 with random damage.

    Args:
        strength: 0 (unchanged) … 1 (several kinds of damage, each still readable).
        text_height: the font size in pixels; blur and loss of resolution scale with it.
    """
    if strength <= 0:
        return image

    def chance(p: float) -> bool:
        return rng.random() < p * strength

    if chance(0.45):
        image = tilt(image, rng, strength)
    if text_height >= 26 and chance(0.3):
        image = _thicken_or_thin(image, rng)
    if chance(0.35):
        image = _lose_resolution(image, rng, strength, text_height)
    if chance(0.45):
        sigma = rng.uniform(0.2, 0.3 + 0.9 * strength) * text_height / 36
        image = pixels.blur(image, max(0.2, sigma))
    if chance(0.35):
        image = _uneven_light(image, rng, strength)
    if chance(0.3):
        gain = rng.uniform(1 - 0.55 * strength, 1.0)
        image = pixels.contrast(image, gain, rng.uniform(0, 255 * (1 - gain)))
    if chance(0.45):
        grain = rng.choice((1, 1, 2))
        start = rng.randrange(pixels.noise_places(image.shape, grain))
        image = pixels.add_noise(image, rng.uniform(2, 4 + 18 * strength), grain, start)
    if chance(0.35):
        image = pixels.compress(image, rng.randint(int(80 - 55 * strength), 92))
    return image


def tilt(image: Picture, rng: random.Random, strength: float) -> Picture:
    """Rotate and shear a little; the canvas grows so that nothing leaves it."""
    height, width = image.shape
    slope = rng.uniform(-0.025, 0.025) * strength
    if abs(slope) * width > 0.35 * height:
        slope *= 0.35 * height / (abs(slope) * width)
    return pixels.tilt(image, slope, rng.uniform(-0.18, 0.18) * strength)


def _thicken_or_thin(image: Picture, rng: random.Random) -> Picture:
    kernel = rng.choice(((1, 2), (2, 1), (2, 2)))
    return pixels.widen(image, kernel, 0.6, bright=rng.random() >= 0.6)


def _lose_resolution(image: Picture, rng: random.Random, strength: float, text_height: float) -> Picture:
    scale = max(rng.uniform(1 - 0.6 * strength, 1.0), 15 / text_height)
    if scale >= 1:
        return image
    way_back: tuple[pixels.WayBack, ...] = ("linear", "cubic", "nearest")
    return pixels.lose_resolution(image, scale, rng.choice(way_back))


def _uneven_light(image: Picture, rng: random.Random, strength: float) -> Picture:
    low = 1 - 0.45 * strength
    patch = np.array(
        [[rng.uniform(low, 1.0) for _ in range(rng.randint(2, 5))]] * rng.randint(1, 2), dtype=np.float32
    )
    if rng.random() < 0.5:
        patch[-1] *= rng.uniform(low, 1.0)
    return pixels.shade(image, pixels.spread(patch, image.shape))
