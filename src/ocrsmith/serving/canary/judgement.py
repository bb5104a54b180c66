"""Is the candidate better? On pages that both read and somebody corrected; else on two groups of pages."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any, Literal

import numpy as np

from ocrsmith.evaluation.compare.effects import FEWEST_DOCUMENTS, Verdict, measure
from ocrsmith.evaluation.metrics.cer import PageScore
from ocrsmith.evaluation.statistics import LEVEL, SEED, Floats, bootstrap_means, count_documents
from ocrsmith.serving.canary.choice import Arm, PageKey

FEWEST_APART = 20
"""Corrected pages of each arm below which two groups are not compared."""
MOST_NEEDED = 100_000
"""A difference that takes more pages to show is none in practice."""
POWER = 0.8
_SPREAD = NormalDist().inv_cdf(1 - (1 - LEVEL) / 2) + NormalDist().inv_cdf(POWER)


@dataclass(frozen=True, slots=True)
class Judgement:
    """The verdict on mean CER, and what it rests on.

    Attributes:
        method: `paired`: the same pages; `apart`: different ones; `none`: too few corrections for either.
        pages: corrected pages that it rests on, of base and candidate.
        base, candidate: mean CER; None without corrections.
        change: candidate minus base; below 0 is better.
        ci95: of the change.
        p_value: paired only.
        needed: corrected pages (apart: of each arm) that would show a difference of the size seen four times in
            five; None where it cannot be said.
    """

    method: Literal["paired", "apart", "none"]
    verdict: Verdict
    reason: str
    pages: tuple[int, int]
    base: float | None = None
    candidate: float | None = None
    change: float | None = None
    ci95: tuple[float, float] | None = None
    p_value: float | None = None
    needed: int | None = None

    @property
    def sentence(self) -> str:
        """The verdict in words."""
        if self.verdict != "unclear":
            return f"The candidate is {self.verdict} than the base: {self.reason}."
        return f"Not yet known: {self.reason}. {self._needed}"

    @property
    def caution(self) -> str:
        """What the method cannot say."""
        if self.method == "paired":
            return (
                "Both models read these pages, so that only the models differ. If pages were picked because "
                "they looked doubtful, the rates are those of doubtful pages, not of all traffic."
            )
        if self.method == "apart":
            return (
                "The two models read different pages. A hash chose who reads which, so neither was given the "
                "easier ones on purpose, but by luck one may have them: it takes many more pages than with "
                "--shadow. And it holds only if pages were picked for correction without regard to who had "
                "read them, or how well."
            )
        return "Agreement, loops and confidence say nothing about who is right: that takes corrected pages."

    @property
    def _needed(self) -> str:
        if self.needed is None:
            each = f"{FEWEST_DOCUMENTS} pages that both models read (--shadow), or {FEWEST_APART} of each"
            return f"It takes at least {each}, kept and corrected; hundreds where the difference is small."
        if self.needed > MOST_NEEDED:
            return f"A difference as small as seen would take more than {MOST_NEEDED:,} corrected pages."
        what = "corrected pages" if self.method == "paired" else "corrected pages of each model"
        return (
            f"If the difference is as large as seen, about {self.needed:,} {what} show it four times in five."
        )

    def to_json(self) -> dict[str, Any]:
        """The fields, the sentence and the caution."""
        return asdict(self) | {"sentence": self.sentence, "caution": self.caution}


def judge(scores: Mapping[Arm, Mapping[PageKey, PageScore]]) -> Judgement:
    """Compares the arms on their corrected pages: on those that both read, if these are enough; else on all.

    A page that was read with several prompts counts as one document.
    """
    base, candidate = scores["base"], scores["candidate"]
    both = [key for key in base if key in candidate]
    if count_documents([key.page for key in both]) >= FEWEST_DOCUMENTS:
        return _paired(base, candidate, both)
    groups = [[key.page for key in arm] for arm in (base, candidate)]
    if min(map(count_documents, groups)) >= FEWEST_APART:
        return _apart(list(base.values()), list(candidate.values()), groups)
    counts = (len(base), len(candidate))
    reason = (
        f"{len(both)} corrected {'page was' if len(both) == 1 else 'pages were'} read by both models, "
        f"{counts[0]} by the base, {counts[1]} by the candidate"
    )
    means = [float(_rates(list(arm.values())).mean()) if arm else None for arm in (base, candidate)]
    return Judgement("none", "unclear", reason, counts, means[0], means[1])


def _paired(
    base: Mapping[PageKey, PageScore], candidate: Mapping[PageKey, PageScore], both: Sequence[PageKey]
) -> Judgement:
    first, second = (_rates([arm[key] for key in both]) for arm in (base, candidate))
    effect = measure(first.tolist(), second.tolist(), [key.page for key in both])
    return Judgement(
        method="paired",
        verdict=effect.verdict,
        reason=effect.reason,
        pages=(len(both), len(both)),
        base=effect.a,
        candidate=effect.b,
        change=effect.change,
        ci95=(effect.interval.low, effect.interval.high),
        p_value=effect.p_value,
        needed=_pages_needed(float((second - first).var(ddof=1)), effect.change),
    )


def _apart(
    base: Sequence[PageScore], candidate: Sequence[PageScore], groups: Sequence[Sequence[str]]
) -> Judgement:
    first, second = _rates(base), _rates(candidate)
    # seeds of their own: the draws of the two groups must know nothing of each other
    drawn = bootstrap_means(second, groups[1], seed=SEED + 1) - bootstrap_means(first, groups[0], seed=SEED)
    tail = (1 - LEVEL) / 2 * 100
    low, high = np.percentile(drawn, (tail, 100 - tail), method="linear").tolist()
    change = float(second.mean() - first.mean())
    verdict: Verdict = "better" if high < 0 else "worse" if low > 0 else "unclear"
    side = "includes" if verdict == "unclear" else "is below" if high < 0 else "is above"
    return Judgement(
        method="apart",
        verdict=verdict,
        reason=f"the 95 % interval of the difference of two groups of pages {side} zero",
        pages=(len(first), len(second)),
        base=float(first.mean()),
        candidate=float(second.mean()),
        change=change,
        ci95=(low, high),
        needed=_pages_needed(float(first.var(ddof=1) + second.var(ddof=1)), change),
    )


def _pages_needed(variance: float, change: float) -> int | None:
    """Pages that show a change of this size with 95 % confidence and a power of 80 % (normal approximation)."""
    if not change:
        return None
    return max(FEWEST_DOCUMENTS, math.ceil(_SPREAD**2 * variance / change**2))


def _rates(scores: Sequence[PageScore]) -> Floats:
    return np.array([score.cer for score in scores], dtype=np.float64)
