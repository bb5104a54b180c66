"""What OpenCV does to pictures here, each with given values. Pictures are uint8: (H, W) grey, or (H, W, 3) RGB.

OpenCV is the extra `synth`; it is imported when the first picture is worked on.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ocrsmith.errors import require

Picture = npt.NDArray[np.uint8]
Field = npt.NDArray[np.float32]
"""(H, W) factors or densities."""
WayBack = Literal["linear", "cubic", "nearest"]
_BANK_SIZE = 1 << 21


@cache
def opencv() -> Any:
    """OpenCV on one thread: the processes that draw have a core each already.

    Raises:
        MissingExtraError: it is not installed.
    """
    cv2 = require("cv2", extra="synth", why="Making pictures look scanned")
    cv2.setNumThreads(1)
    return cv2


@cache
def _noise_bank() -> Field:
    """Standard normal noise, drawn once; pictures take stretches of it."""
    return np.random.default_rng(20240229).standard_normal(_BANK_SIZE, dtype=np.float32)


def _picture(image: Any) -> Picture:
    return np.asarray(image).astype(np.uint8, copy=False)


def _field(image: Any) -> Field:
    return np.asarray(image).astype(np.float32, copy=False)


def blur(image: Picture, sigma: float) -> Picture:
    """Gaussian blur; `sigma` in pixels."""
    return _picture(opencv().GaussianBlur(image, (0, 0), sigma))


def smear(image: Picture, length: int, degrees: float) -> Picture:
    """Blur along a line of `length` pixels, as a moving camera makes it."""
    cv2 = opencv()
    kernel = np.zeros((length, length), np.float32)
    kernel[length // 2] = 1
    middle = ((length - 1) / 2, (length - 1) / 2)
    kernel = cv2.warpAffine(kernel, cv2.getRotationMatrix2D(middle, degrees, 1), (length, length))
    return _picture(cv2.filter2D(image, -1, kernel / max(kernel.sum(), 1e-6)))


def widen(image: Picture, kernel: tuple[int, int], share: float, *, bright: bool) -> Picture:
    """Lets bright (or dark) parts grow by `kernel` (rows, columns), mixed by `share` with the picture."""
    cv2 = opencv()
    operation = cv2.dilate if bright else cv2.erode
    grown = operation(image, np.ones(kernel, np.uint8))
    return _picture(cv2.addWeighted(image, 1 - share, grown, share, 0))


def lose_resolution(image: Picture, scale: float, way_back: WayBack) -> Picture:
    """Shrinks by `scale` and enlarges to the size it had."""
    cv2 = opencv()
    height, width = image.shape[:2]
    small = cv2.resize(
        image, (max(2, int(width * scale)), max(2, int(height * scale))), interpolation=cv2.INTER_AREA
    )
    ways = {"linear": cv2.INTER_LINEAR, "cubic": cv2.INTER_CUBIC, "nearest": cv2.INTER_NEAREST}
    return _picture(cv2.resize(small, (width, height), interpolation=ways[way_back]))


def resize(image: Picture, width: int, height: int) -> Picture:
    """Stretched to a size; averages where it shrinks."""
    cv2 = opencv()
    return _picture(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA))


def spread(coarse: Field, shape: Sequence[int], *, smooth: bool = False) -> Field:
    """A small field stretched over a picture of `shape`, linearly or (`smooth`) by cubic curves."""
    cv2 = opencv()
    way = cv2.INTER_CUBIC if smooth else cv2.INTER_LINEAR
    return _field(cv2.resize(coarse, (shape[1], shape[0]), interpolation=way))


def shade(image: Picture, factors: Field) -> Picture:
    """Each pixel times its factor: (H, W), or (H, W, 3) to colour."""
    cv2 = opencv()
    if image.ndim == 3 and factors.ndim == 2:
        factors = _field(cv2.merge([factors, factors, factors]))
    return _picture(cv2.multiply(image, factors, dtype=cv2.CV_8U))


def contrast(image: Picture, gain: float, offset: float) -> Picture:
    """gain · image + offset."""
    return _picture(opencv().convertScaleAbs(image, alpha=gain, beta=offset))


def add_noise(image: Picture, deviation: float, grain: int, start: int) -> Picture:
    """Normal noise of `deviation` grey levels, in spots of `grain` pixels, from place `start` of the bank."""
    cv2 = opencv()
    height, width = image.shape[:2]
    h, w = -(-height // grain), -(-width // grain)
    noise = _noise_bank()[start : start + h * w]
    if noise.size < h * w:
        noise = np.resize(_noise_bank(), h * w)
    field: Field = noise.reshape(h, w)
    if grain > 1:
        field = spread(field, (height, width))
    if image.ndim == 3:
        field = cv2.merge([field, field, field])
    return _picture(cv2.scaleAdd(field, deviation, image.astype(np.float32)).clip(0, 255))


def noise_places(shape: Sequence[int], grain: int) -> int:
    """How many starts `add_noise` can take for a picture of `shape`; at least one."""
    return max(1, _BANK_SIZE - -(-shape[0] // grain) * -(-shape[1] // grain))


def tilt(image: Picture, slope: float, shear: float) -> Picture:
    """Turns (by `slope`, rise over run) and shears; the canvas grows so that nothing leaves it, its border is
    continued."""
    cv2 = opencv()
    height, width = image.shape[:2]
    rise, lean = abs(slope) * width, abs(shear) * height
    matrix = np.array(
        [[1, shear, lean if shear < 0 else 0], [slope, 1, rise if slope < 0 else 0]], dtype=np.float32
    )
    size = (int(width + lean + 1), int(height + rise + 1))
    return _picture(
        cv2.warpAffine(image, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    )


def move_corners(image: Picture, corners: Sequence[tuple[float, float]]) -> Picture:
    """Perspective: the corners (upper left, then clockwise) go to these places, in pixels; the canvas holds
    them all, its border is continued."""
    cv2 = opencv()
    height, width = image.shape[:2]
    places = np.array(corners, np.float32)
    places -= places.min(axis=0)
    size = (int(places[:, 0].max()) + 1, int(places[:, 1].max()) + 1)
    before = np.array([(0, 0), (width, 0), (width, height), (0, height)], np.float32)
    matrix = cv2.getPerspectiveTransform(before, places)
    way = {"flags": cv2.INTER_LINEAR, "borderMode": cv2.BORDER_REPLICATE}
    return _picture(cv2.warpPerspective(image, matrix, size, **way))


def turned(image: Picture, degrees: float) -> Picture:
    """Turned about its middle on a canvas that holds all of it; new parts are 0."""
    cv2 = opencv()
    height, width = image.shape[:2]
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1)
    cos, sin = abs(matrix[0, 0]), abs(matrix[0, 1])
    size = int(height * sin + width * cos) + 1, int(height * cos + width * sin) + 1
    matrix[:, 2] += (size[0] - width) / 2, (size[1] - height) / 2
    return _picture(cv2.warpAffine(image, matrix, size, flags=cv2.INTER_LINEAR))


def count_parts(mask: npt.NDArray[np.bool_]) -> int:
    """How many separate parts the True pixels make; touching at corners does not count."""
    return int(opencv().connectedComponents(mask.astype(np.uint8), connectivity=4)[0]) - 1


def through_table(grey: Picture, table: Picture) -> Picture:
    """Each grey level replaced by `table[level]`: (256,) gives grey, (256, 3) RGB."""
    cv2 = opencv()
    if table.ndim == 1:
        return _picture(cv2.LUT(grey, table))
    return _picture(cv2.LUT(cv2.merge([grey, grey, grey]), table.reshape(1, 256, 3)))


def to_grey(image: Picture) -> Picture:
    """Luminance, (H, W)."""
    cv2 = opencv()
    return image if image.ndim == 2 else _picture(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))


def to_colour(image: Picture) -> Picture:
    """RGB, (H, W, 3)."""
    cv2 = opencv()
    return _picture(cv2.merge([image, image, image])) if image.ndim == 2 else image


def compress(image: Picture, quality: int) -> Picture:
    """As it comes back from JPEG of `quality`."""
    cv2 = opencv()
    decoded = cv2.imdecode(np.frombuffer(encode_jpeg(image, quality), np.uint8), cv2.IMREAD_UNCHANGED)
    return image if decoded is None else _picture(decoded)


def encode_jpeg(image: Picture, quality: int) -> bytes:
    """A JPEG file."""
    cv2 = opencv()
    return _encoded(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])


def encode_png(image: Picture, *, two_levels: bool = False) -> bytes:
    """A PNG file, packed fast rather than small; `two_levels` of black and white with one bit a pixel."""
    cv2 = opencv()
    if two_levels:
        return _encoded(".png", image, [cv2.IMWRITE_PNG_BILEVEL, 1, cv2.IMWRITE_PNG_COMPRESSION, 1])
    return _encoded(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, 1])


def _encoded(kind: str, image: Picture, options: list[int]) -> bytes:
    cv2 = opencv()
    pixels = cv2.cvtColor(image, cv2.COLOR_RGB2BGR) if image.ndim == 3 else image
    done, data = cv2.imencode(kind, pixels, options)
    assert done, f"OpenCV cannot encode {image.shape} as {kind}"
    return bytes(data)
