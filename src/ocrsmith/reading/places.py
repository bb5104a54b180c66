"""Where on a page each line of its text stands: by the model's boxes, by the lines of ink, or evenly spread."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal
from unicodedata import east_asian_width

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ocrsmith.reading.document import Block, Box, Page
from ocrsmith.reading.glyphless import width_of
from ocrsmith.reading.tables import find_tables

Placing = Literal["boxes", "ink", "even"]
PLACED_BY: Mapping[Placing, str] = MappingProxyType(
    {"boxes": "the model's boxes", "ink": "the lines of ink, in order", "even": "even spacing"}
)
"""Even spacing: one line below the other over the part of the page that has ink."""

_CONTRAST = 48
"""Grey levels by which ink differs from paper."""
_MAX_SIDE = 2000
_MOST_LINES = 400
"""A page with more lines of ink has none: it is a picture, or noise."""
_LONGEST_LINE = 250
"""More characters to a line of ink, and text and ink do not belong together."""
_HEADING = re.compile(r"\s*#{1,6}\s+")
_WIDEST = 2.0
"""Pixels to an em, in heights of a line of ink."""


@dataclass(frozen=True, slots=True)
class PlacedLine:
    """A line of text and the rectangle that it fills, in pixels of the page image."""

    text: str
    left: float
    top: float
    right: float
    bottom: float


Area = tuple[float, float, float, float]
"""Left, top, right, bottom."""


def place_lines(page: Page, image: Image.Image) -> tuple[list[PlacedLine], Placing | None]:
    """The lines of a page in reading order, without the markup of tables and titles.

    Args:
        page: with its blocks.
        image: of the page, upright, of the size that the page says.

    Returns:
        The lines, and what they were placed by; no lines and None for a page without text.
    """
    if not page.text.strip():
        return [], None
    if any(block.text.strip() and block.boxes for block in page.blocks):
        return list(_in_boxes(page)), "boxes"
    texts = text_lines(page.text)
    ink = ink_lines(image)
    if len(texts) == len(ink):
        return [PlacedLine(text, *area) for text, area in zip(texts, ink, strict=True)], "ink"
    if ink and len(ink) > 1 and sum(map(len, texts)) <= _LONGEST_LINE * len(ink):
        return list(_flow(texts, ink)), "ink"
    return list(_spread(texts, _around(ink) or (0.0, 0.0, float(page.width), float(page.height)))), "even"


def text_lines(text: str) -> list[str]:
    """The lines of a text that are not blank, with the cells of tables instead of their markup."""
    parts, at = [], 0
    for table in find_tables(text):
        rows = "\n".join(" ".join(filter(None, row.cells)) for row in table.rows)
        parts += [text[at : table.start], "\n", rows, "\n"]
        at = table.end
    lines = "".join([*parts, text[at:]]).split("\n")
    return [line for line in (" ".join(line.split()) for line in lines) if line]


def _in_boxes(page: Page) -> Iterator[PlacedLine]:
    """Every block in its box; what stands between blocks, or in one without a box, below the one before it."""
    at = 0
    last: Area = (0.0, 0.0, float(page.width), page.height / 40)
    for block in page.blocks:
        if not block.text.strip() or not block.boxes:
            continue
        yield from _spread(text_lines(page.text[at : block.start]), _below(last, page.height))
        areas = [_area(box) for box in block.boxes]
        lines = _block_lines(block)
        if len(areas) == len(lines):
            yield from (PlacedLine(text, *area) for text, area in zip(lines, areas, strict=True))
        else:
            yield from _spread(lines, _around(areas) or last)
        last, at = areas[-1], block.end
    yield from _spread(text_lines(page.text[at:]), _below(last, page.height))


def _block_lines(block: Block) -> list[str]:
    title = block.kind in ("title", "sub_title")
    return text_lines(_HEADING.sub("", block.text, count=1) if title else block.text)


def _area(box: Box) -> Area:
    return float(box.left), float(box.top), float(box.right), float(box.bottom)


def _around(areas: Sequence[Area]) -> Area | None:
    if not areas:
        return None
    lefts, tops, rights, bottoms = zip(*areas, strict=True)
    return min(lefts), min(tops), max(rights), max(bottoms)


def _below(area: Area, height: float) -> Area:
    """A narrow strip at the lower edge of an area."""
    left, top, right, bottom = area
    strip = max(2.0, min((bottom - top) / 4, height / 60))
    return left, bottom - strip, right, bottom


def _spread(texts: Sequence[str], area: Area) -> Iterator[PlacedLine]:
    """Lines of the same height one below the other, as wide as their text."""
    left, top, right, bottom = area
    step = (bottom - top) / max(1, len(texts))
    longest = max(map(width_of, texts), default=0.0)
    for number, text in enumerate(texts):
        width = (right - left) * width_of(text) / longest
        yield PlacedLine(text, left, top + number * step, left + width, top + (number + 1) * step)


def _flow(texts: Sequence[str], ink: Sequence[Area]) -> Iterator[PlacedLine]:
    """Text runs along the lines of ink, each of which takes as much of it as its share of their length.

    A line of text that is longer than its line of ink (a model writes paragraphs, paper has lines) is parted
    between words, or between ideographs. Letters are not drawn wider than they can be: too little text ends
    before the ink does.
    """
    heights = sorted(bottom - top for _, top, _, bottom in ink)
    room = sum(right - left for left, _, right, _ in ink)
    scale = min(room / sum(map(width_of, texts)), _WIDEST * heights[len(heights) // 2])  # pixels to an em
    number, used = 0, 0.0
    for text in texts:
        while text:
            left, top, right, bottom = ink[number]
            length = right - left
            part, text = _parted(text, (1.1 * length - used) / scale, begun=used > 0)
            if number == len(ink) - 1:
                part, text = f"{part} {text}".strip(), ""
            width = min(width_of(part) * scale, length - used)
            if part:
                yield PlacedLine(part, left + used, top, left + used + width, bottom)
            used += width
            if (text or used >= 0.9 * length) and number < len(ink) - 1:
                number, used = number + 1, 0.0


def _parted(text: str, width: float, *, begun: bool) -> tuple[str, str]:
    """The words that fit into a width in ems, and the rest; at least one where the line has not `begun`."""
    end, at = 0, 0.0
    for place, letter in enumerate(text):
        at += width_of(letter)
        if at > width:
            break
        if place + 1 == len(text):
            return text, ""
        if letter == " " or text[place + 1] == " " or "W" in map(east_asian_width, text[place : place + 2]):
            end = place + 1
    if not end and not begun:
        end = text.find(" ") if " " in text else len(text)
    return text[:end].strip(), text[end:].strip()


def ink_lines(image: Image.Image) -> list[Area]:
    """The lines of text that a projection of the page's ink onto its left edge shows, from top to bottom.

    Page-wide: columns that stand side by side are one line. Empty where there are none that one can tell.
    """
    scale = min(1.0, _MAX_SIDE / max(image.size))
    grey = image.convert("L")
    if scale < 1:
        grey = grey.resize((max(1, round(grey.width * scale)), max(1, round(grey.height * scale))))
    pixels = np.asarray(grey, dtype=np.int16)
    ink = np.abs(pixels - np.median(pixels)) > _CONTRAST
    rows = ink.sum(axis=1) > max(1, 0.003 * grey.width)
    areas = [_measured(ink, top, bottom) for top, bottom in _runs(rows)]
    heights = [bottom - top for _, top, _, bottom in areas]
    if not areas or len(areas) > _MOST_LINES:
        return []
    low = max(3.0, 0.35 * float(np.median(heights)))
    return [
        (left / scale, top / scale, right / scale, bottom / scale)
        for left, top, right, bottom in areas
        if bottom - top >= low and (len(areas) == 1 or bottom - top <= grey.height / 4)
    ]


def _runs(flags: NDArray[np.bool_]) -> Iterator[tuple[int, int]]:
    """Start and end of each run of true values."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    for start, end in edges.reshape(-1, 2):
        yield int(start), int(end)


def _measured(ink: NDArray[np.bool_], top: int, bottom: int) -> Area:
    columns = np.flatnonzero(ink[top:bottom].any(axis=0))
    return float(columns[0]), float(top), float(columns[-1] + 1), float(bottom)
