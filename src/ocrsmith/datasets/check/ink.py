"""Measures the writing in an image: how much ink there is, and how tall its letters are.

Only rows and columns of a black-and-white copy are counted, no letter is recognised. The page is cut into
upright strips a few letters wide, so that skewed lines still leave gaps between them; in each strip every line
of writing shows as a band of rows with ink. The letter height of a band goes from its top to the base line, the
last row that is about as full of ink as the middle of the letters: the height of a capital or of a Chinese
character. Descenders do not count.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

MAX_PIXELS = 4_000_000
"""Larger images are reduced by a whole factor before they are measured."""

_LEAST_CONTRAST = 8
"""Grey levels between paper and ink below which an image counts as blank; faded carbon copies have 15."""
_CLEAR_CONTRAST = 40
_MOST_INK = 0.45
"""Share of pixels above which the darker part is no writing unless its contrast is clear: noise divides in
halves."""
_LEAST_BAND = 3
"""Rows; lower bands are specks and rules."""
_TALLEST = 200
"""Rows; taller bands are pictures, unless the image is a line as tall as that."""
_GAP = 0.05
"""Share of the fullest rows' ink below which a row is a gap: in tightly set pages descenders reach into it."""
_RULE = 0.85
"""Share of a strip's width from which a row of ink is a rule."""
_SOLID = 0.75
"""Share of its rectangle that a dash, a blot or a picture fills; bold letters fill half."""
_FIRST_STRIPS = 24
"""Strips across a page in the first look, which only finds how wide strips should be."""
_STRIP_HEIGHTS = 6
"""Width of a strip in letter heights: eight letters or so, one of which is tall enough to tell the height."""
_BASE_LINE = 0.4
"""Share of the fullest rows' ink from which a row belongs to the body of the letters."""


@dataclass(frozen=True, slots=True)
class Writing:
    """What was measured, in pixels of the upright image."""

    ink: int
    """Dark pixels on light paper, or light ones on dark paper."""
    letter_height: float | None
    """Median height of capitals; None where no line of writing was found."""
    extent: float
    """Length of all lines of writing together, gaps between words included."""


BLANK = Writing(0, None, 0.0)


def measure(image: Image.Image) -> Writing:
    """Measures an upright image of mode "L" or "RGB"; never raises for one that has pixels."""
    grey = image if image.mode == "L" else image.convert("L")
    factor = 1
    while grey.width * grey.height > MAX_PIXELS * factor * factor:
        factor += 1
    if factor > 1:
        grey = grey.reduce(factor)
    ink = find_ink(grey)
    if ink is None:
        return BLANK
    height, width = ink.shape
    narrow = width // 8 if width > 4 * height else width // _FIRST_STRIPS
    first = _bands(ink, max(32, narrow))
    if len(first) == 0:
        return Writing(int(ink.sum()) * factor * factor, None, 0.0)
    strip = round(_STRIP_HEIGHTS * _typical(first))
    bands = _bands(ink, min(width, max(16, strip)))
    if len(bands) == 0:
        bands = first
    letters = _typical(bands)
    # Bands much lower or taller than the rest are rules, specks and pictures, not lines of writing.
    lines = bands[(bands[:, 0] > letters / 3) & (bands[:, 0] < letters * 3)]
    return Writing(int(ink.sum()) * factor * factor, letters * factor, float(lines[:, 1].sum()) * factor)


def find_ink(grey: Image.Image) -> np.ndarray | None:
    """(H, W) bool, True where there is ink; None for a blank image.

    Slow changes of the paper (shadows, stains, gradients) are evened out first, then Otsu's threshold divides.
    """
    radius = max(8, min(min(grey.size) // 2, 48))
    paper = _blurred(grey, radius)
    difference = np.asarray(grey, np.int16) - paper
    levels = np.clip(128 - difference, 0, 255).astype(np.uint8)
    dark = levels > _otsu(np.bincount(levels.ravel(), minlength=256))
    share = np.count_nonzero(dark) / dark.size
    if not 0 < share < 1:
        return None
    contrast = float(levels[dark].mean()) - float(levels[~dark].mean())
    noise = min(share, 1 - share) > _MOST_INK and contrast < _CLEAR_CONTRAST
    if contrast < _LEAST_CONTRAST or noise:
        return None
    return dark if share <= 0.5 else ~dark  # writing covers the lesser part, also where it is light on dark


def _blurred(grey: Image.Image, radius: int) -> np.ndarray:
    """(H, W) int16: the image seen from afar, by way of a small copy since blurs that wide are slow."""
    shrink = max(1, min(radius // 8, *grey.size))
    small = grey.reduce(shrink) if shrink > 1 else grey
    small = small.filter(ImageFilter.BoxBlur(radius / shrink))
    if shrink > 1:
        small = small.resize(grey.size, Image.Resampling.BILINEAR)
    return np.asarray(small, np.int16)


def _otsu(counts: np.ndarray) -> int:
    """The level that divides a histogram of 256 levels into two groups that differ most (Otsu, 1979)."""
    levels = np.arange(256)
    below = np.cumsum(counts)
    sum_below = np.cumsum(counts * levels)
    above = below[-1] - below
    with np.errstate(divide="ignore", invalid="ignore"):
        gap = sum_below / below - (sum_below[-1] - sum_below) / above
        between = np.nan_to_num(below.astype(float) * above * gap * gap)
    return int(between.argmax())


def _typical(bands: np.ndarray) -> float:
    """Median letter height by ink: remains of rules and neighbouring lines have many bands but little ink."""
    order = bands[:, 0].argsort()
    weights = bands[order, 2].cumsum()
    return float(bands[order[np.searchsorted(weights, weights[-1] / 2)], 0])


def _bands(ink: np.ndarray, strip: int) -> np.ndarray:
    """(bands, 3): letter height, length and ink of each band of writing in strips of that width."""
    found: list[tuple[float, float, float]] = []
    width = ink.shape[1]
    for start in range(0, width, strip):
        part = ink[:, start : start + strip]
        if part.shape[1] < min(width, strip) / 2:
            break  # a narrow rest at the edge tells little
        found += _bands_of_strip(_without_frames(part))
    return np.array(found, float).reshape(-1, 3)


def _without_frames(part: np.ndarray) -> np.ndarray:
    """Drops columns that are ink almost from top to bottom: frames, table rules, black edges of scans."""
    full = part.sum(axis=0) > 0.8 * len(part)
    return part[:, ~full] if full.any() and not full.all() else part


def _bands_of_strip(part: np.ndarray) -> list[tuple[float, float, float]]:
    rows = part.sum(axis=1)
    width = part.shape[1]
    ruled = rows > _RULE * width
    fullest = np.sort(rows)[-max(1, len(rows) // 10)]
    inked = np.concatenate(([False], rows >= max(1, width // 64, _GAP * fullest), [False]))
    edges = np.flatnonzero(inked[1:] != inked[:-1])
    found = []
    for top, bottom in zip(edges[::2], edges[1::2], strict=True):
        profile = np.where(ruled[top:bottom], 0, rows[top:bottom])  # a rule through letters hides their shape
        columns = np.flatnonzero(part[top:bottom][~ruled[top:bottom]].any(axis=0))
        if not _LEAST_BAND <= bottom - top <= max(_TALLEST, len(rows) // 4) or len(columns) == 0:
            continue
        length = int(columns[-1] - columns[0] + 1)
        body = np.sort(profile)[-max(1, len(profile) // 4) :]
        full = body.sum() / len(body)
        height = int(np.flatnonzero(profile >= _BASE_LINE * full)[-1] + 1)
        ink = float(profile.sum())
        if height >= _LEAST_BAND and ink <= _SOLID * height * len(columns):
            found.append((float(height), float(length), ink))
    return found
