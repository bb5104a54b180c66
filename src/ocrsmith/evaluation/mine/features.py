"""What makes two hard pages alike, without a model: their errors, their stratum and their text.

A page is a vector of four blocks, each of length 1 and weighted by `WEIGHTS`, so that the product of two
vectors is their likeness: 1 for pages that agree in everything, 0 for pages that share nothing.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from math import log1p, sqrt

import numpy as np
from numpy.typing import NDArray

from ocrsmith.evaluation.mine.cases import Case

WEIGHTS = {"kinds": 0.25, "confusions": 0.35, "strata": 0.15, "text": 0.25}
"""Share of each block in the likeness of two pages:

- `kinds`: which share of its edits is of which kind of error
- `confusions`: which characters were read as which
- `strata`: source, language, length, mode and columns of meta (`evaluation.strata`)
- `text`: runs of three characters of the reference
"""
WIDTHS = {"kinds": 32, "confusions": 512, "strata": 128, "text": 512}
"""Numbers of a block; features are hashed into them."""
_RUN = 3
_TEXT = 4000  # characters of a page that are looked at


def features_of(cases: Sequence[Case], strata: Sequence[Iterable[tuple[str, str]]]) -> NDArray[np.float32]:
    """(cases, sum of `WIDTHS`) non-negative vectors of length 1.

    Args:
        strata: for each case its (dimension, label) pairs.
    """
    matrix = np.zeros((len(cases), sum(WIDTHS.values())), dtype=np.float32)
    for row, case, labels in zip(matrix, cases, strata, strict=True):
        start = 0
        for name, counts in _blocks(case, labels).items():
            width = WIDTHS[name]
            _fill(row[start : start + width], counts, sqrt(WEIGHTS[name]))
            start += width
    return matrix


def _blocks(case: Case, labels: Iterable[tuple[str, str]]) -> dict[str, Mapping[str, float]]:
    text = " ".join(case.result.reference[:_TEXT].split())
    runs: dict[str, float] = {}
    for start in range(max(1, len(text) - _RUN + 1)):
        run = text[start : start + _RUN]
        runs[run] = runs.get(run, 0) + 1
    return {
        "kinds": dict(case.edits),
        "confusions": {f"{true}\0{read}": sqrt(count) for (true, read), count in case.pairs.items()},
        "strata": {f"{dimension}\0{label}": 1.0 for dimension, label in labels},
        "text": {run: log1p(count) for run, count in runs.items()},
    }


def _fill(block: NDArray[np.float32], counts: Mapping[str, float], length: float) -> None:
    """Pages that have nothing in a block are alike in it."""
    for feature, count in (counts or {"": 1.0}).items():
        block[zlib.crc32(feature.encode("utf-8", "surrogatepass")) % len(block)] += count
    block *= length / float(np.linalg.norm(block))
