"""What changed in the mean of a figure, how sure that is, and the verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from ocrsmith.evaluation.permutation import SignFlips, holm, sign_flip_test
from ocrsmith.evaluation.statistics import LEVEL, Interval, bootstrap_sums, count_documents, paired_interval

Verdict = Literal["better", "worse", "unclear"]

FEWEST_DOCUMENTS = 6
"""Below this there is no verdict. Of five documents all change in the same direction once in 16 times by chance
alone, and a bootstrap over so few hardly varies: its interval is too narrow to decide on."""
SIGNIFICANT = 0.05
"""The largest p-value that counts as more than chance; the counterpart of a 95 % interval."""


@dataclass(frozen=True, slots=True)
class Effect:
    """The mean of one figure over pages that A and B both read.

    Attributes:
        n, documents: pages; documents among them (a page without a document counts as one).
        a, b: mean in A and in B.
        interval: of b - a: paired bootstrap over documents.
        test: whether b - a is more than chance: sign flips of whole documents.
        higher_is_better: what a rise means.
        family: how many such comparisons are made at once; `p_value` is corrected for them.
        p_value: as the verdict takes it.
    """

    n: int
    documents: int
    a: float
    b: float
    interval: Interval
    test: SignFlips
    p_value: float
    higher_is_better: bool = False
    family: int = 1

    @property
    def change(self) -> float:
        """b - a."""
        return self.interval.estimate

    @property
    def relative(self) -> float | None:
        """(b - a) / a; None where a is 0."""
        return None if self.a == 0 else self.change / self.a

    @property
    def verdict(self) -> Verdict:
        """Better or worse only if the whole interval lies on one side of zero, the permutation test agrees, and
        there are enough documents for either to mean something."""
        if self.documents < FEWEST_DOCUMENTS or not self._apart or self.p_value > SIGNIFICANT:
            return "unclear"
        return "better" if (self.interval.low > 0) == self.higher_is_better else "worse"

    @property
    def reason(self) -> str:
        """Why the verdict is what it is, in a few words."""
        if self.documents < FEWEST_DOCUMENTS:
            noun = "document is" if self.documents == 1 else "documents are"
            return f"{self.documents} {noun} too few to tell (at least {FEWEST_DOCUMENTS})"
        side = f"whole interval is {'above' if self.interval.low > 0 else 'below'} zero"
        interval = f"the {side if self._apart else 'interval includes zero'}"
        if self._apart == (self.p_value <= SIGNIFICANT):
            return f"{interval}, {self.chance}"
        doubt = "not enough to rule out chance" if self._apart else "which alone would do"
        return f"{interval}, but flipping signs by document gives {self.chance}, {doubt}"

    @property
    def chance(self) -> str:
        """The p-value in words: `p = 0.012`."""
        text = f"p = {self.p_value:.2g}" if self.p_value >= 0.001 else "p < 0.001"
        return text if self.family == 1 else f"{text} (Holm, {self.family} comparisons)"

    @property
    def _apart(self) -> bool:
        return self.interval.low > 0 or self.interval.high < 0

    def to_json(self) -> dict[str, Any]:
        """The effect as a JSON object."""
        return {
            "n": self.n,
            "documents": self.documents,
            "a": self.a,
            "b": self.b,
            "change": self.change,
            "ci95": [self.interval.low, self.interval.high],
            "relative": self.relative,
            "p_value": self.test.p_value,
            "p_value_holm": self.p_value if self.family > 1 else None,
            "flips": self.test.flips,
            "exact": self.test.exact,
            "verdict": self.verdict,
            "reason": self.reason,
        }


def measure(
    first: Sequence[float], second: Sequence[float], groups: Sequence[str], *, higher_is_better: bool = False
) -> Effect:
    """What changed from A to B.

    Args:
        first, second: (n,) a value for each page in A and in B; at least one.
        groups: (n,) the document of each page; an empty name is a document of its own.
        higher_is_better: what a rise means.
    """
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    test = sign_flip_test((b - a).tolist(), groups)
    return Effect(
        n=len(groups),
        documents=count_documents(groups),
        a=float(a.mean()),
        b=float(b.mean()),
        interval=paired_interval(first, second, groups),
        test=test,
        p_value=test.p_value,
        higher_is_better=higher_is_better,
    )


def relative_interval(
    first: Sequence[float], second: Sequence[float], groups: Sequence[str]
) -> tuple[float, float] | None:
    """95 % interval of (mean(second) - mean(first)) / mean(first), both from the same draws of documents.

    None where some draw has a mean of 0 in A, of which nothing is a share.
    """
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    before, change = bootstrap_sums(np.stack([a, b - a], axis=1), groups).T
    if not before.all():
        return None
    tail = (1 - LEVEL) / 2 * 100
    low, high = np.percentile(change / before, (tail, 100 - tail), method="linear")
    return float(low), float(high)


def correct(effects: Sequence[Effect]) -> list[Effect]:
    """The same effects, their p-values corrected for being several (Holm). A single one stays as it is."""
    if len(effects) < 2:
        return list(effects)
    corrected = holm([effect.test.p_value for effect in effects])
    return [
        replace(effect, p_value=p_value, family=len(effects))
        for effect, p_value in zip(effects, corrected, strict=True)
    ]
