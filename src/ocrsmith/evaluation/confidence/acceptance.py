"""Which pages may pass unseen: the lowest threshold whose accepted pages keep their CER below a target.

**What is guaranteed.** With probability `level` over the draw of the documents that the threshold was chosen
on, the pages of new documents whose confidence is at least the threshold have an expected mean CER of at most
the target. The mean counts each page alike and a page's CER above 1 as 1. It is a statement about the mean of
all accepted pages, not about each of them. It holds whatever the confidences are worth and however CER is
spread, on three conditions: the documents are drawn independently from the same source as those to come;
neither they nor the model were chosen by how well they were read; none to come has more pages than the longest
here. Pages of one document may be alike.

**How.** A fifth of the documents, drawn by seed, propose thresholds and where to begin. The others test them
from there on, from strict to loose, until one fails: fixed-sequence testing as in Learn then Test (Angelopoulos
et al. 2021), so that trying many costs nothing. Each test is a bet against "the CER is at least the target": a
document with the accepted pages' errors S and their number n multiplies the stake by 1 - lambda · (S - target ·
n), whose expectation is at most 1 if the claim is true, so that a stake of 1 / (1 - level) refutes it (Markov;
Waudby-Smith and Ramdas 2024). The stake is spread over a few fixed lambdas: no order of the documents, no
tuning, no approximation.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ocrsmith.engines.confidence import AcceptRule
from ocrsmith.errors import SettingsError
from ocrsmith.evaluation.confidence.estimate import Likely, likely_threshold
from ocrsmith.evaluation.confidence.observations import (
    SEED,
    Floats,
    Whole,
    capped,
    documents_of,
    raw_confidences,
)
from ocrsmith.evaluation.metrics.cer import PageScore
from ocrsmith.evaluation.store import PageResult

LEVEL = 0.95
TUNING = 0.2
"""Share of the documents that propose thresholds."""
GRID = 50
STAKES = ((0.95, 1 / 2), (0.7, 1 / 4), (0.4, 1 / 8), (0.15, 1 / 16), (0.04, 1 / 16))
"""Lambda as a share of the largest that cannot lose more than the stake, and how much of the stake is put on
it. Most goes to high ones: they pay where CER is low and even, which is where pages are accepted."""
METHOD = "fixed-sequence testing by betting on documents"


@dataclass(frozen=True, slots=True)
class Acceptance:
    """Which pages pass, and what is known about them.

    Attributes:
        target: the CER that the accepted pages keep below.
        level: how sure that is.
        threshold: lowest page confidence, before calibration, that passes; None: no page passes.
        coverage: share of these pages that pass.
        pages, documents: how many pass, and from how many documents.
        cer: mean CER of those, a page's CER above 1 taken as 1; None if none passes.
        cer_upper: upper bound on their expected CER at `level` for this threshold; from the documents that
            tested, if the threshold was chosen here.
        chosen_on: "these pages", or "calibration": a threshold from elsewhere is held against these pages.
        reason: why there is no threshold, or none of the pages passes.
        needs_documents: about how many documents would show that pages like the surest ones may pass; None if
            there is a threshold, or no number of documents would.
        likely: where there is no threshold: what would likely pass, which is no guarantee.
    """

    target: float
    level: float
    threshold: float | None
    coverage: float
    pages: int
    documents: int
    cer: float | None
    cer_upper: float | None
    chosen_on: Literal["these pages", "calibration"]
    reason: str | None = None
    needs_documents: int | None = None
    likely: Likely | None = None

    def to_json(self) -> dict[str, Any]:
        """{"cer": target, "level", "threshold", "coverage", "pages", "documents", "accepted_cer", "cer_upper",
        "method", "chosen_on", "reason", "needs_documents", "likely"}"""
        return {
            "cer": self.target,
            "level": self.level,
            "threshold": self.threshold,
            "coverage": self.coverage,
            "pages": self.pages,
            "documents": self.documents,
            "accepted_cer": self.cer,
            "cer_upper": self.cer_upper,
            "method": METHOD,
            "chosen_on": self.chosen_on,
            "reason": self.reason,
            "needs_documents": self.needs_documents,
            "likely": None if self.likely is None else self.likely.to_json(),
        }


def accept(
    results: Sequence[PageResult], scores: Sequence[PageScore], *, target: float = 0.02, level: float = LEVEL
) -> Acceptance:
    """Chooses the threshold on these pages. See the module for what it guarantees.

    Pages that failed, fell into a loop, were cut off, or have no confidence never pass.

    Raises:
        SettingsError: target or level are not between 0 and 1.
    """
    check_target(target)
    _check("level", "level", level)
    pages = _Pages.of(results, scores)
    threshold = choose_threshold(pages.confidence, pages.rates, pages.documents, target, level)
    if threshold is None:
        reason, needed = _why_none(pages, target, level)
        grid = _grid(pages.confidence)
        likely = likely_threshold(pages.confidence, pages.rates, pages.documents, grid, target, level)
        return Acceptance(target, level, None, 0.0, 0, 0, None, None, "these pages", reason, needed, likely)
    tested = ~_tuning(pages.documents)
    return _describe(pages, threshold, target, level, "these pages", tested)


def apply_rule(results: Sequence[PageResult], scores: Sequence[PageScore], rule: AcceptRule) -> Acceptance:
    """Holds a threshold that was chosen elsewhere against these pages."""
    pages = _Pages.of(results, scores)
    if rule.threshold is None:
        reason = str(rule.figures.get("reason") or "The calibration has no threshold for it.")
        return Acceptance(rule.cer, rule.level, None, 0.0, 0, 0, None, None, "calibration", reason)
    everything = np.ones(len(pages.rates), dtype=bool)
    return _describe(pages, rule.threshold, rule.cer, rule.level, "calibration", everything)


def choose_threshold(
    confidence: Floats, rates: Floats, documents: Whole, target: float, level: float, *, seed: int = SEED
) -> float | None:
    """The loosest threshold that passes, or None.

    Args:
        confidence: (n,) of each page; 0 never passes.
        rates: (n,) CER, 0 to 1.
        documents: (n,) number of each page's document, from 0 without gaps.
    """
    tuning = _tuning(documents, seed=seed)
    grid = _grid(confidence[tuning])
    if not len(grid):
        return None
    longest = int(np.bincount(documents).max())
    promise = [
        _growth(confidence[tuning], rates[tuning], documents[tuning], threshold, target, longest)
        for threshold in grid.tolist()
    ]
    passed = None
    for threshold in grid[int(np.argmax([item[0] for item in promise])) :].tolist():
        excess = _excess(confidence[~tuning], rates[~tuning], documents[~tuning], threshold)
        if _log_stake(*excess, target, longest) < -math.log(1.0 - level):
            break
        passed = threshold
    return passed


def upper_bound(errors: Floats, pages: Floats, longest: int, level: float) -> float:
    """Upper bound on the expected mean CER of accepted pages: the least that the bets refute.

    Args:
        errors: (documents,) sum of the accepted pages' CERs in each document.
        pages: (documents,) how many they are.
        longest: pages that a document has at most.
        level: how sure the bound is.

    Returns:
        At most 1.
    """
    low, high = 0.0, 1.0
    for _ in range(40):  # the stake rises with the CER that is claimed
        middle = (low + high) / 2
        if _log_stake(errors, pages, middle, longest) >= -math.log(1.0 - level):
            high = middle
        else:
            low = middle
    return high


# --- tests -------------------------------------------------------------------------------------------------


def _excess(confidence: Floats, rates: Floats, documents: Whole, threshold: float) -> tuple[Floats, Floats]:
    """For each document with accepted pages: the sum of their CERs, and how many they are."""
    taken = confidence >= threshold
    pages: Floats = np.bincount(documents[taken]).astype(np.float64)
    errors: Floats = np.bincount(documents[taken], rates[taken]).astype(np.float64)
    return errors[pages > 0], pages[pages > 0]


def _log_stakes(errors: Floats, pages: Floats, claim: float, longest: int) -> Iterator[tuple[float, float]]:
    """For each of `STAKES`: the logarithm of what 1 has become, and of the share put on it."""
    for share, part in STAKES:
        rate = share / (longest * (1.0 - claim))
        yield float(np.log1p(-rate * (errors - claim * pages)).sum()), math.log(part)


def _log_stake(errors: Floats, pages: Floats, claim: float, longest: int) -> float:
    """Logarithm of what a stake of 1 has become in bets against "the CER is at least `claim`"."""
    return float(np.logaddexp.reduce([a + b for a, b in _log_stakes(errors, pages, claim, longest)]))


def _growth(
    confidence: Floats, rates: Floats, documents: Whole, threshold: float, target: float, longest: int
) -> tuple[float, float]:
    """How much the best of the bets gains on these pages, and what it has to make up for; both logarithms."""
    excess = _excess(confidence, rates, documents, threshold)
    gain, part = max(_log_stakes(*excess, target, longest))
    return gain, -part


def _tuning(documents: Whole, *, seed: int = SEED) -> NDArray[np.bool_]:
    """(n,) whether a page's document is one of those that propose thresholds."""
    count = int(documents.max()) + 1
    chosen = np.zeros(count, dtype=bool)
    chosen[np.random.default_rng(seed).permutation(count)[: max(1, round(TUNING * count))]] = True
    return chosen[documents]


def _grid(confidence: Floats) -> Floats:
    """Thresholds from strict to loose."""
    values = confidence[confidence > 0]
    if not len(values):
        return values
    return np.unique(np.quantile(values, np.linspace(0.0, 1.0, GRID), method="lower"))[::-1]


# --- words -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Pages:
    """(n,) each: raw confidence (unknown: 0), CER of at most 1, number of the document."""

    confidence: Floats
    rates: Floats
    documents: Whole

    @classmethod
    def of(cls, results: Sequence[PageResult], scores: Sequence[PageScore]) -> _Pages:
        return cls(raw_confidences(results), capped(scores), documents_of(results))


def _describe(
    pages: _Pages,
    threshold: float,
    target: float,
    level: float,
    chosen_on: Literal["these pages", "calibration"],
    tested: NDArray[np.bool_],
) -> Acceptance:
    taken = (pages.confidence >= threshold) & (pages.confidence > 0)
    count = int(taken.sum())
    longest = int(np.bincount(pages.documents).max())
    excess = _excess(pages.confidence[tested], pages.rates[tested], pages.documents[tested], threshold)
    return Acceptance(
        target=target,
        level=level,
        threshold=threshold,
        coverage=count / len(taken),
        pages=count,
        documents=len(np.unique(pages.documents[taken])),
        cer=float(pages.rates[taken].mean()) if count else None,
        cer_upper=upper_bound(*excess, longest, level) if count else None,
        chosen_on=chosen_on,
        reason=None if count else "No page here is that sure.",
    )


def _why_none(pages: _Pages, target: float, level: float) -> tuple[str, int | None]:
    """Why there is no threshold, and about how many documents there would have to be."""
    count = int(pages.documents.max()) + 1
    longest = int(np.bincount(pages.documents).max())
    unit = "pages" if longest == 1 else "documents"
    if not (pages.confidence > 0).any():
        return "No page was read to its end.", None
    best, needed = 0.0, math.inf
    for threshold in _grid(pages.confidence).tolist():
        gain, part = _growth(pages.confidence, pages.rates, pages.documents, threshold, target, longest)
        if gain > best:
            wanted = (part - math.log(1.0 - level)) * count / gain / (1.0 - TUNING)
            best, needed = gain, wanted
    if not math.isfinite(needed):
        return f"Even the surest pages do not have a CER clearly below {target:.3g}.", None
    about = _round_up(max(needed, 1.25 * count))
    return (
        f"{count:,} {unit} are too few to show, {level * 100:.3g} % sure, that the CER of the surest pages is "
        f"below {target:.3g}: it needs about {about:,} {unit} like these.",
        about,
    )


def _round_up(number: float) -> int:
    """To two digits."""
    step = 10 ** max(0, math.floor(math.log10(number)) - 1)
    return int(math.ceil(number / step) * step)


def check_target(cer: float) -> None:
    """Refuses a CER to accept that is not between 0 and 1. Raises SettingsError."""
    _check("--accept-cer", "CER to accept", cer)


def _check(place: str, name: str, value: float) -> None:
    if not 0.0 < value < 1.0:
        raise SettingsError(
            f"The {name} is {value}.",
            place=place,
            mend="Give a number between 0 and 1; 0.02 is two errors in a hundred characters.",
        )
