"""Text that runs up, down or askew: turned headings of columns, notes in the margin, vertical Chinese."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from ocrsmith.datasets.pdf.hyphens import is_cjk, join_lines
from ocrsmith.datasets.pdf.page import Char
from ocrsmith.datasets.pdf.words import Word


def turned_words(chars: Sequence[Char]) -> list[Word]:
    """Each run of turned text as one word, set upright where the text stands.

    A run that goes up is put at its lower end, where a turned heading meets its column.
    """
    runs: list[list[Char]] = []
    for char in chars:
        if runs and runs[-1][-1].angle == char.angle and _follows(runs[-1][-1], char):
            runs[-1].append(char)
        elif not char.text.isspace():
            runs.append([char])
    return [_upright(run) for run in runs]


def _middle(char: Char) -> tuple[float, float]:
    return (char.x0 + char.x1) / 2, (char.top + char.bottom) / 2


def _steps(first: Char, second: Char) -> tuple[float, float]:
    """How far the second glyph is from the first, along the text and across it, in type sizes."""
    (x0, y0), (x1, y1) = _middle(first), _middle(second)
    angle = math.radians(first.angle)
    along = (x1 - x0) * math.cos(angle) - (y1 - y0) * math.sin(angle)
    across = (x1 - x0) * math.sin(angle) + (y1 - y0) * math.cos(angle)
    return along / first.size, across / first.size


def _follows(first: Char, second: Char) -> bool:
    along, across = _steps(first, second)
    return -0.2 < along < 1.9 and abs(across) < 0.35


def _text(run: Sequence[Char]) -> str:
    text = run[0].text
    for first, second in pairwise(run):
        wide = is_cjk(first.text) or is_cjk(second.text)
        if (
            not wide
            and _steps(first, second)[0] > 0.95
            and not text.endswith(" ")
            and not second.text.isspace()
        ):
            text += " "
        text += second.text
    return " ".join(text.split())


def _upright(run: Sequence[Char]) -> Word:
    first, size = run[0], run[0].size
    x0, x1 = min(char.x0 for char in run), max(char.x1 for char in run)
    bottom = max(char.bottom for char in run)
    if 0 < first.angle < 90:
        x1 = x0 + size
    elif 90 < first.angle < 180:
        x0 = x1 - size
    place = replace(first, text=_text(run), x0=x0, x1=x1, top=bottom - size, bottom=bottom)
    return Word([place])


def turned_texts(words: Sequence[Word]) -> list[str]:
    """Texts of turned runs, those side by side as one paragraph, in the order of drawing; vertical columns of
    Chinese from right to left."""
    texts: list[str] = []
    last: Word | None = None
    for word in words:
        beside = (
            last is not None
            and last.glyphs[0].angle == word.glyphs[0].angle
            and abs(last.x0 - word.x0) < 2.2 * word.size
        )
        if texts and beside:
            texts[-1] = join_lines(texts[-1], word.text)
        else:
            texts.append(word.text)
        last = word
    return texts
