"""Light, fast damage to a grayscale text image, as scanning and compression do it. Needs OpenCV."""

from __future__ import annotations

import random
from functools import cache

import cv2
import numpy as np
import numpy.typing as npt

Gray = npt.NDArray[np.uint8]
_BANK_SIZE = 1 << 21


@cache
def _noise_bank() -> npt.NDArray[np.float32]:
    """Standard normal noise, drawn once; images take random stretches of it."""
    return np.random.default_rng(20240229).standard_normal(_BANK_SIZE, dtype=np.float32)


def degrade(image: Gray, rng: random.Random, strength: float, text_height: float) -> Gray:
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
        image = _gray(cv2.GaussianBlur(image, (0, 0), max(0.2, sigma)))
    if chance(0.35):
        image = _uneven_light(image, rng, strength)
    if chance(0.3):
        image = _lower_contrast(image, rng, strength)
    if chance(0.45):
        image = _add_noise(image, rng, strength)
    if chance(0.35):
        image = _compress(image, rng, strength)
    return image


def tilt(image: Gray, rng: random.Random, strength: float) -> Gray:
    """Rotate and shear a little; the canvas grows so that nothing leaves it."""
    height, width = image.shape
    slope = rng.uniform(-0.025, 0.025) * strength
    if abs(slope) * width > 0.35 * height:
        slope *= 0.35 * height / (abs(slope) * width)
    shear = rng.uniform(-0.18, 0.18) * strength
    rise, lean = abs(slope) * width, abs(shear) * height
    matrix = np.array(
        [[1, shear, lean if shear < 0 else 0], [slope, 1, rise if slope < 0 else 0]], dtype=np.float32
    )
    size = (int(width + lean + 1), int(height + rise + 1))
    return _gray(cv2.warpAffine(image, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))


def _thicken_or_thin(image: Gray, rng: random.Random) -> Gray:
    kernel = np.ones(rng.choice(((1, 2), (2, 1), (2, 2))), np.uint8)
    operation = cv2.erode if rng.random() < 0.6 else cv2.dilate
    return _gray(cv2.addWeighted(image, 0.4, operation(image, kernel), 0.6, 0))


def _lose_resolution(image: Gray, rng: random.Random, strength: float, text_height: float) -> Gray:
    scale = max(rng.uniform(1 - 0.6 * strength, 1.0), 15 / text_height)
    if scale >= 1:
        return image
    height, width = image.shape
    small = cv2.resize(
        image, (max(2, int(width * scale)), max(2, int(height * scale))), interpolation=cv2.INTER_AREA
    )
    way_back = rng.choice((cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_NEAREST))
    return _gray(cv2.resize(small, (width, height), interpolation=way_back))


def _uneven_light(image: Gray, rng: random.Random, strength: float) -> Gray:
    height, width = image.shape
    low = 1 - 0.45 * strength
    patch = np.array(
        [[rng.uniform(low, 1.0) for _ in range(rng.randint(2, 5))]] * rng.randint(1, 2), dtype=np.float32
    )
    if rng.random() < 0.5:
        patch[-1] *= rng.uniform(low, 1.0)
    light = cv2.resize(patch, (width, height), interpolation=cv2.INTER_LINEAR)
    return _gray(cv2.multiply(image, light, dtype=cv2.CV_8U))


def _lower_contrast(image: Gray, rng: random.Random, strength: float) -> Gray:
    gain = rng.uniform(1 - 0.55 * strength, 1.0)
    return _gray(cv2.convertScaleAbs(image, alpha=gain, beta=rng.uniform(0, 255 * (1 - gain))))


def _add_noise(image: Gray, rng: random.Random, strength: float) -> Gray:
    height, width = image.shape
    bank = _noise_bank()
    grain = rng.choice((1, 1, 2))
    h, w = -(-height // grain), -(-width // grain)
    start = rng.randrange(max(1, _BANK_SIZE - h * w))
    noise = bank[start : start + h * w]
    if noise.size < h * w:
        noise = np.resize(bank, h * w)
    field: npt.NDArray[np.float32] = noise.reshape(h, w)
    if grain > 1:
        field = np.asarray(cv2.resize(field, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)
    return _gray(cv2.scaleAdd(field, rng.uniform(2, 4 + 18 * strength), image.astype(np.float32)).clip(0, 255))


def _compress(image: Gray, rng: random.Random, strength: float) -> Gray:
    quality = rng.randint(int(80 - 55 * strength), 92)
    done, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    decoded = cv2.imdecode(data, cv2.IMREAD_GRAYSCALE) if done else None
    return image if decoded is None else _gray(decoded)


def _gray(image: npt.NDArray[np.generic] | cv2.typing.MatLike) -> Gray:
    return np.asarray(image).astype(np.uint8, copy=False)
