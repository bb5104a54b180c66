"""From a model's answer to a page: the marks that carry boxes go, and every character keeps its confidence."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ocrsmith.engines.confidence import (
    Calibration,
    character_confidence,
    low_confidence_spans,
    page_confidence,
)
from ocrsmith.reading.document import Block, Box, Page, Span
from ocrsmith.reading.readings import PageReading
from ocrsmith.text.boxes import REF_OPEN, GroundedSpan, parse_boxes

DEFAULT_BELOW = 0.8

PICTURES = frozenset({"image", "figure", "chart", "picture"})
"""Kinds of blocks that are pictures and have no text."""
KINDS = PICTURES | {
    *("title", "sub_title", "text", "list", "table", "equation", "formula", "code", "header", "footer"),
    *("image_caption", "figure_caption", "table_caption", "image_footnote", "table_footnote"),
    *("page_number", "reference", "abstract", "caption", "footnote", "aside"),
}
"""Labels that say what a block is; its text follows the mark. Any other label is itself what stands there, as
the prompts `ground` and `locate` have it."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """From where on a character counts as uncertain, and how probabilities are made true."""

    below: float = DEFAULT_BELOW
    calibration: Calibration | None = None


def to_page(reading: PageReading, bounds: Bounds) -> Page:
    """The page of a reading."""
    prediction = reading.prediction
    text, blocks, origin = _without_marks(prediction.text, reading.width, reading.height)
    spans: tuple[Span, ...] = ()
    if prediction.token_ends:
        values = character_confidence(
            prediction.text, prediction.token_ends, prediction.token_logprobs, bounds.calibration
        )
        found = low_confidence_spans(text, _moved(values, origin), bounds.below)
        spans = tuple(Span(s.start, s.end, text[s.start : s.end], s.confidence) for s in found)
    return Page(
        number=reading.number,
        text=text,
        answer=prediction.text,
        width=reading.width,
        height=reading.height,
        dpi=reading.dpi,
        blocks=blocks,
        confidence=page_confidence(prediction, bounds.calibration),
        low_confidence=spans,
        finish_reason=prediction.finish_reason,
        seconds=prediction.seconds,
        tokens=prediction.tokens,
        mode=prediction.mode,
        attempts=prediction.attempts,
        error=prediction.error,
    )


def _moved(values: NDArray[np.float64], origin: NDArray[np.int64]) -> NDArray[np.float64]:
    """Confidence by character of the answer → by character of the page's text; NaN for what was put in."""
    moved = np.full(len(origin), np.nan)
    taken = origin >= 0
    moved[taken] = values[origin[taken]]
    return moved


class _Text:
    """The text of a page as it grows, with the place in the answer of each of its characters."""

    def __init__(self, answer: str) -> None:
        self._answer = answer
        self._pieces: list[str] = []
        self._origin: list[NDArray[np.int64]] = []
        self.length = 0

    def add(self, start: int, end: int, *, before: str) -> tuple[int, int]:
        """Adds `answer[start:end]` without white space around it, `before` between it and what stands there.

        Returns:
            Start and end of what was added; the same where that is nothing.
        """
        body = self._answer[start:end]
        start += len(body) - len(body.lstrip())
        body = body.strip()
        if not body:
            return self.length, self.length
        if self.length:
            self._append(before, np.full(len(before), -1))
        begin = self.length
        self._append(body, np.arange(start, start + len(body)))
        return begin, self.length

    def _append(self, text: str, origin: NDArray[np.int64]) -> None:
        self._pieces.append(text)
        self._origin.append(origin)
        self.length += len(text)

    def done(self) -> tuple[str, NDArray[np.int64]]:
        """The text, and for each character its place in the answer, -1 where it has none."""
        return "".join(self._pieces), np.concatenate([np.empty(0, np.int64), *self._origin])


def _without_marks(answer: str, width: int, height: int) -> tuple[str, tuple[Block, ...], NDArray[np.int64]]:
    """Text, blocks, and for each character of the text its place in the answer."""
    spans = parse_boxes(answer)
    if not spans:
        return answer, (), np.arange(len(answer))
    text = _Text(answer)
    places: list[tuple[str, int, int, tuple[Box, ...]]] = []
    text.add(0, spans[0].start, before="")
    for span, following in zip(spans, [*spans[1:], None], strict=True):
        stop = following.start if following else len(answer)
        label = span.label.strip()
        if label.lower() in KINDS:
            start, end = text.add(span.end, stop, before="\n\n")
            kind = label.lower()
        else:
            begin = span.start + len(REF_OPEN)
            start, end = text.add(begin, begin + len(span.label), before="\n")
            kind = "text"
            text.add(span.end, stop, before=" ")
        places.append((kind, start, end, _boxes(span, width, height)))
    whole, origin = text.done()
    blocks = tuple(Block(kind, whole[start:end], start, end, boxes) for kind, start, end, boxes in places)
    return whole, blocks, origin


def _boxes(span: GroundedSpan, width: int, height: int) -> tuple[Box, ...]:
    areas = (box.crop_area(width, height) for box in span.boxes)
    return tuple(Box(*area) for area in areas if area is not None)
