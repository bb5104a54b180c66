"""Cuts a line out of a page.

Coordinates are pixels of the upright page: (0, 0) is its top left corner, (width, height) its bottom right.

A column of vertical writing stays upright. PaddleOCR turns crops that are 1.5 times as high as wide, because
its recogniser takes strips of a fixed height; a model that reads pages meets such columns as they stand, and in
a turned one every character would lie on its side.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from ocrsmith.errors import ImageError

Point = tuple[float, float]

_OVERHANG = 0.1
"""Share of the page's longer side by which a quadrilateral may stand out and still be rectified. Further out it
is cut to the page instead, so that no picture gets larger than about the page."""

_FAR = 1e7
_MANY_POINTS = 1000
_SQUARE = 1.0  # pixels by which corners may miss those of their bounding box and still make an upright box


def cut(page: Image.Image, polygon: Sequence[Point]) -> Image.Image:
    """The part of a page within a polygon, as a picture of its own.

    Two points are the opposite corners of a box. Four points are the corners of a quadrilateral: an upright box
    is cut out as it is, any other is rectified with a homography, so that the first point becomes the top left
    corner and the first side the top (points against the clock or in the order of a Z are put in order, so that
    nothing is mirrored). Any other number: the bounding box, with the paper's colour outside the polygon; the
    colour is the median of the box's border. What lies beyond the page is cut off, or filled with that colour
    where a quadrilateral is rectified.

    Args:
        page: upright, mode "RGB" or "L"; others become RGB. Not changed.
        polygon: (x, y) in pixels, y downwards.

    Raises:
        ImageError: `reason` is "outside_page" (nothing of it lies on the page), "too_small" (narrower or lower
            than a pixel: a line without area) or "malformed" (one point, or no finite numbers).
    """
    points = _read_points(polygon)
    if page.mode not in ("L", "RGB"):
        page = page.convert("RGB")
    if len(points) == 4 and not _is_upright(points):
        corners = _in_order(points)
        if corners is not None and _fits(corners, page):
            return _rectify(page, corners)
        return _cut_out(page, points if corners is None else corners)
    if len(points) in (2, 4):
        return page.crop(_bounds(page, points))
    return _cut_out(page, points)


def _read_points(polygon: Sequence[Point]) -> np.ndarray:
    """(n, 2) float64, n ≥ 2."""
    try:
        points = np.array(polygon, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        points = np.empty(0)
    if points.ndim != 2 or points.shape[0] < 2 or points.shape[1] != 2 or not np.isfinite(points).all():
        raise ImageError(
            f"The polygon {_excerpt(polygon)} is no list of two or more points.",
            reason="malformed",
            mend="Give (x, y) in pixels for each point.",
        )
    # Absurd numbers stay far outside any page, but their products stay finite.
    return np.clip(points, -_FAR, _FAR)


def _bounds(page: Image.Image, points: np.ndarray) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) in whole pixels: what the polygon touches of the page, at least one pixel."""
    (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
    if right <= 0 or bottom <= 0 or left >= page.width or top >= page.height:
        raise ImageError(
            f"The box from ({left:g}, {top:g}) to ({right:g}, {bottom:g}) lies outside the page, "
            f"which has {page.width}×{page.height} pixels.",
            reason="outside_page",
            mend="Check that the coordinates belong to this image and are pixels.",
        )
    left, top = max(0.0, left), max(0.0, top)
    right, bottom = min(float(page.width), right), min(float(page.height), bottom)
    if right - left < 1 or bottom - top < 1:
        raise _too_small(right - left, bottom - top)
    return math.floor(left), math.floor(top), math.ceil(right), math.ceil(bottom)


def _too_small(width: float, height: float) -> ImageError:
    return ImageError(
        f"The part of the page is {width:.3g}×{height:.3g} pixels.",
        reason="too_small",
        mend="Check its coordinates: a line without height or width cannot be cut out.",
    )


def _is_upright(corners: np.ndarray) -> bool:
    """Whether four points are the corners of their bounding box, each once, in whatever order."""
    low, high = corners.min(axis=0), corners.max(axis=0)
    at_low, at_high = np.abs(corners - low) <= _SQUARE, np.abs(corners - high) <= _SQUARE
    if not (at_low | at_high).all() or (high - low < 2 * _SQUARE).any():
        return False
    return len({(bool(x), bool(y)) for x, y in at_high}) == 4


def _in_order(corners: np.ndarray) -> np.ndarray | None:
    """The corners clockwise from the first one; None if they make no convex quadrilateral with an area."""
    centre = corners.mean(axis=0)
    angles = np.arctan2(corners[:, 1] - centre[1], corners[:, 0] - centre[0])
    # y points down, so growing angles go clockwise.
    order = np.argsort(np.mod(angles - angles[0], 2 * np.pi), kind="stable")
    ordered = np.roll(corners[order], -int(np.argmin(order)), axis=0)
    sides = np.roll(ordered, -1, axis=0) - ordered
    after = np.roll(sides, -1, axis=0)
    turns = sides[:, 0] * after[:, 1] - sides[:, 1] * after[:, 0]
    return ordered if (turns > 1e-6 * max(1.0, float(np.abs(turns).max()))).all() else None


def _fits(corners: np.ndarray, page: Image.Image) -> bool:
    """Whether all corners lie on the page or at most a little beside it."""
    slack = _OVERHANG * max(page.size)
    return bool((corners >= -slack).all() and (corners <= np.array(page.size) + slack).all())


def _rectify(page: Image.Image, corners: np.ndarray) -> Image.Image:
    """Maps corners, clockwise from the top left, to those of a rectangle that has the longer opposite sides."""
    bounds = _bounds(page, corners)
    sides = np.linalg.norm(np.roll(corners, -1, axis=0) - corners, axis=1)
    width, height = max(sides[0], sides[2]), max(sides[1], sides[3])
    if width < 1 or height < 1:
        raise _too_small(width, height)
    size = (round(width), round(height))
    return page.transform(
        size,
        Image.Transform.PERSPECTIVE,
        _homography(size, corners),
        resample=Image.Resampling.BICUBIC,
        fillcolor=_paper(page.crop(bounds)),
    )


def _homography(size: tuple[int, int], corners: np.ndarray) -> list[float]:
    """a … h of x' = (ax + by + c) / (gx + hy + 1), y' = (dx + ey + f) / (gx + hy + 1): picture → page."""
    width, height = size
    rows, values = [], []
    for (x, y), (u, v) in zip(((0, 0), (width, 0), (width, height), (0, height)), corners, strict=True):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
        values += [u, v]
    return [float(value) for value in np.linalg.solve(np.array(rows, dtype=np.float64), np.array(values))]


def _cut_out(page: Image.Image, points: np.ndarray) -> Image.Image:
    """The bounding box of a polygon on the page, with paper outside the polygon."""
    bounds = _bounds(page, points)
    part = page.crop(bounds)
    if len(points) < 3:
        return part
    if len(points) > _MANY_POINTS or _crosses_itself(points):
        points = _hull(points)
    # Far points are brought near: the drawing counts in 32 bits.
    shifted = np.clip(points - np.array(bounds[:2]), -32000, 32000)
    inside = Image.new("L", part.size, 0)
    ImageDraw.Draw(inside).polygon([(float(x), float(y)) for x, y in shifted], fill=255, outline=255)
    paper = Image.new(part.mode, part.size, _paper(part))
    paper.paste(part, mask=inside)
    return paper


def _paper(part: Image.Image) -> int | tuple[int, ...]:
    """The median colour of a picture's border."""
    pixels = np.asarray(part)
    border = [pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]]
    colour = np.median(np.concatenate(border), axis=0).astype(int)
    return int(colour) if colour.ndim == 0 else tuple(int(channel) for channel in colour)


def _crosses_itself(points: np.ndarray) -> bool:
    """Whether two sides of the polygon cross, which would leave holes when it is filled."""
    ends = np.roll(points, -1, axis=0)

    def side_of(of: np.ndarray) -> np.ndarray:
        """(side, point) → on which side of the line through a side a point lies: −1, 0, 1."""
        along, to = (ends - points)[:, None], of[None] - points[:, None]
        return np.sign(along[..., 0] * to[..., 1] - along[..., 1] * to[..., 0])

    apart = side_of(points) * side_of(ends) < 0
    return bool((apart & apart.T).any())


def _hull(points: np.ndarray) -> np.ndarray:
    """The convex hull (Andrew's monotone chain)."""
    ordered = np.unique(points, axis=0).tolist()
    chains: list[list[list[float]]] = []
    for direction in (ordered, ordered[::-1]):
        chain: list[list[float]] = []
        for point in direction:
            while len(chain) > 1 and _turn(chain[-2], chain[-1], point) <= 0:
                chain.pop()
            chain.append(point)
        chains.append(chain[:-1])
    return np.array(chains[0] + chains[1] or ordered, dtype=np.float64)


def _turn(a: list[float], b: list[float], c: list[float]) -> float:
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])


def _excerpt(polygon: object) -> str:
    text = repr(polygon)
    return text if len(text) <= 60 else text[:57] + " …"
