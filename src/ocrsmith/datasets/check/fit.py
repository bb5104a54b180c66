"""Texts that do not fit the writing in their image: much longer or much shorter, so likely of another image."""

from __future__ import annotations

import heapq
import math
import re
from collections import Counter
from dataclasses import dataclass

from ocrsmith.datasets.check.findings import Example, Finding, Part, finding
from ocrsmith.datasets.check.ink import Writing
from ocrsmith.datasets.check.picture import thumbnail
from ocrsmith.records import PageSample
from ocrsmith.text.characters import visible

SHOWN = 24
"""Samples that are kept of each kind of misfit."""

_DENSE = re.compile(r"[\u1100-\u11ff\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\uff01-\uff60\U00020000-\U0003ffff]")
_THIN = re.compile(r"[^\w\s]|_")
_LEAST_UNITS = 2.5
"""Letter widths of text below which its length says nothing: page numbers, dots."""
_LEAST_SAMPLES = 20
"""A class with fewer samples is judged by the spread of all."""
_LEAST_SIGMA = 0.12
"""Smallest spread (of logarithms) assumed: fonts differ by that much."""
_LIMIT = 5.0
"""Robust z-score from which a text does not fit."""
_LEAST_FACTOR = math.log(2.2)
"""And it must be off by this factor: more than twice or less than half of what the writing suggests."""
_LEAST_FACTOR_SHORT = math.log(2.5)
"""Of short texts: a stamped number is written wider or narrower than words."""


def width_units(text: str) -> float:
    """How wide a text is written, in letter heights: 1 for a Chinese character, about half for a letter."""
    seen = visible(text)
    dense = len(_DENSE.findall(seen))
    thin = len(_THIN.findall(seen)) - len(re.findall(r"[\uff01-\uff60\u3000-\u303f]", seen))
    thin = max(0, thin)
    return dense + 0.3 * thin + 0.55 * max(0, len(seen) - dense - thin)


@dataclass(frozen=True, slots=True, order=True)
class _Case:
    """A sample at one end of the scale, for a heap."""

    distance: float
    number: int
    example: Example
    size_class: str
    value: float


class Fit:
    """Compares the length of each text with the length of the writing in its image.

    The measure is log(length of the writing ÷ (letter height · width of the text)). Unlike the mere amount of
    ink it does not depend on resolution, font size or boldness. Each sample is judged among those of its class
    (script, length of text, shape of image) by median and median deviation.
    """

    def __init__(self) -> None:
        self._values: dict[str, Counter[float]] = {}
        self._extremes: dict[tuple[str, bool], list[_Case]] = {}
        self._number = 0

    def add(self, sample: PageSample, split: Part, width: int, height: int, writing: Writing) -> None:
        """Takes a sample; those without letters or without text cannot be judged."""
        units = width_units(sample.text)
        if writing.letter_height is None or units < _LEAST_UNITS or writing.extent <= 0:
            return
        self._number += 1
        value = math.log(writing.extent / (writing.letter_height * units))
        name = _class_of(sample.text, units, width, height)
        self._values.setdefault(name, Counter())[round(value, 2)] += 1
        for above in (True, False):
            heap = self._extremes.setdefault((name, above), [])
            distance = value if above else -value
            if len(heap) >= SHOWN and distance <= heap[0].distance:
                continue
            note = f"about {_expected(writing):,.0f} letter widths of writing, {units:,.0f} of text"
            example = Example.of(sample, split, note=note, thumbnail=thumbnail(sample.image))
            case = _Case(distance, self._number, example, name, value)
            if len(heap) < SHOWN:
                heapq.heappush(heap, case)
            else:
                heapq.heapreplace(heap, case)

    def findings(self, total: int) -> list[Finding]:
        """Texts that are much too long or too short, the farthest first."""
        whole: Counter[float] = Counter()
        for counts in self._values.values():
            whole += counts
        found = []
        for code, above in (("text_too_short", True), ("text_too_long", False)):
            count = 0
            ranked: list[tuple[float, Example]] = []
            for name, counts in self._values.items():
                centre, sigma = _centre(counts if counts.total() >= _LEAST_SAMPLES else whole)
                limit = max(_LIMIT * sigma, _LEAST_FACTOR_SHORT if "short" in name else _LEAST_FACTOR)
                sign = 1 if above else -1
                count += sum(n for value, n in counts.items() if sign * (value - centre) > limit)
                for case in self._extremes[name, above]:
                    off = sign * (case.value - centre)
                    if off > limit:
                        ranked.append((off / sigma, _with_factor(case.example, off, above)))
            if count and whole.total() >= _LEAST_SAMPLES:
                ranked.sort(key=lambda item: -item[0])
                found.append(finding(code, count, total, [example for _, example in ranked[:SHOWN]]))
        return found


def _expected(writing: Writing) -> float:
    return writing.extent / (writing.letter_height or 1.0)


def _with_factor(example: Example, off: float, above: bool) -> Example:
    factor = math.exp(off)
    words = f"{factor:.1f} times {'less' if above else 'more'} text than the writing suggests"
    return Example(example.id, example.split, example.text, None, words, example.thumbnail)


def _class_of(text: str, units: float, width: int, height: int) -> str:
    dense = len(_DENSE.findall(text)) * 2 >= len(text)
    arabic = not dense and len(re.findall(r"[\u0600-\u06ff]", text)) * 2 >= len(text)
    script = "dense" if dense else "arabic" if arabic else "letters"
    length = "short" if units < 5 else "line" if units < 60 else "page"
    return f"{script} {length}" + (" upright" if height > 2 * width else "")


def _centre(counts: Counter[float]) -> tuple[float, float]:
    """Median, and the standard deviation as the median deviation tells it."""
    centre = _median(counts)
    deviations = Counter[float]()
    for value, count in counts.items():
        deviations[abs(value - centre)] += count
    return centre, max(_LEAST_SIGMA, 1.4826 * _median(deviations))


def _median(counts: Counter[float]) -> float:
    below, half = 0, counts.total() / 2
    for value in sorted(counts):
        below += counts[value]
        if below >= half:
            return value
    return 0.0
