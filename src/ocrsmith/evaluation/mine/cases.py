"""What each page says about what to label or to draw next: how wrong it is, and how unsure the model was."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from ocrsmith.evaluation.confusions import ConfusionTable
from ocrsmith.evaluation.error_kinds import PageErrors
from ocrsmith.evaluation.metrics.cer import PageScore
from ocrsmith.evaluation.store import PageResult

CER_SHARE = 0.75
"""What the CER counts in a page's need; the rest is the model's doubt, where it is known."""
LEAST_DOUBT = 0.1
"""A page without an error counts as a case from this doubt on: it may have been luck."""
ENOUGH_EXACT = 20
"""Pages without an error whose median confidence is the typical one; with fewer, that of all pages is."""


@dataclass(frozen=True, slots=True)
class Case:
    """A page that something can be learnt from."""

    result: PageResult
    errors: PageErrors
    pairs: Counter[tuple[str, str]]
    """What was read as what in it, as a `ConfusionTable` counts."""
    cer: float
    doubt: float | None
    """0 to 1: how far its confidence lies below the typical one; None where it has none."""

    @property
    def need(self) -> float:
        """0 to 1: `CER_SHARE` of the CER (1 at most) and the rest of the doubt; the CER alone without it."""
        wrong = min(1.0, self.cer)
        return wrong if self.doubt is None else CER_SHARE * wrong + (1 - CER_SHARE) * self.doubt

    @property
    def edits(self) -> Counter[str]:
        """Edits of each kind of error."""
        found: Counter[str] = Counter()
        for span in self.errors.spans:
            found[span.kind] += span.edits
        return found


def typical_confidence(results: Sequence[PageResult], scores: Sequence[PageScore]) -> float | None:
    """Median confidence of the pages without an error, or of all if those are few; None if no page has one."""
    known = [
        (result.confidence, score.edits == 0)
        for result, score in zip(results, scores, strict=True)
        if result.confidence is not None and result.finish_reason != "error"
    ]
    exact = [confidence for confidence, is_exact in known if is_exact]
    chosen = exact if len(exact) >= ENOUGH_EXACT else [confidence for confidence, _ in known]
    return median(chosen) if chosen else None


def find_cases(
    results: Sequence[PageResult],
    scores: Sequence[PageScore],
    errors: Iterable[PageErrors],
    typical: float | None,
) -> list[Case]:
    """The pages with an error, and those read right with much doubt, in their order. Failed pages are none:
    nobody looked at them."""
    found = []
    for result, score, page in zip(results, scores, errors, strict=True):
        if page.failed:
            continue
        doubt = _doubt(result.confidence, typical)
        if score.edits or (doubt or 0) >= LEAST_DOUBT:
            pairs = ConfusionTable.of([page]).pairs if score.edits else Counter()
            found.append(Case(result, page, pairs, score.cer, doubt))
    return found


def _doubt(confidence: float | None, typical: float | None) -> float | None:
    if confidence is None or not typical:
        return None
    return max(0.0, 1 - confidence / typical)
