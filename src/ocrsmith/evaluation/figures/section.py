"""What the files of this folder hand to one another: the pages' texts, and the figures of a kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ocrsmith.evaluation.statistics import Column
from ocrsmith.evaluation.store import PageResult
from ocrsmith.text.normalise import Policy


@dataclass(frozen=True)
class Texts:
    """References and predictions of all pages, in order. What a failed page gave is empty."""

    references: Sequence[str]
    predictions: Sequence[str]
    failed: NDArray[np.bool_]

    @classmethod
    def of(cls, results: Sequence[PageResult]) -> Texts:
        """The texts of an evaluation's pages."""
        failed = [result.finish_reason == "error" for result in results]
        predictions = [
            "" if wrong else result.prediction for result, wrong in zip(results, failed, strict=True)
        ]
        return cls([result.reference for result in results], predictions, np.array(failed, np.bool_))

    def normalised(self, policy: Policy) -> Texts:
        """Both sides under a normalisation policy."""
        return Texts(policy.apply_all(self.references), policy.apply_all(self.predictions), self.failed)

    def at(self, pages: Sequence[int]) -> Texts:
        """Some of the pages."""
        references = [self.references[page] for page in pages]
        predictions = [self.predictions[page] for page in pages]
        return Texts(references, predictions, self.failed[list(pages)])


@dataclass(frozen=True)
class Section:
    """Figures that belong together."""

    columns: Sequence[Column] = ()
    notes: Mapping[str, Any] = field(default_factory=dict)
    """Further entries by name; nothing but what JSON knows."""


def affordable(work: Mapping[int, int], most: int) -> set[int]:
    """Pages whose work together is within a bound: the cheapest first, of equal ones the first.

    Args:
        work: of each page.
        most: units of work in all.
    """
    kept: set[int] = set()
    for page in sorted(work, key=lambda page: (work[page], page)):
        most -= work[page]
        if most < 0:
            break
        kept.add(page)
    return kept
