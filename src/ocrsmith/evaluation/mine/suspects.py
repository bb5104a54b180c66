"""Pages whose reference is likely wrong, kept apart from hard ones: to be looked at, not to be learnt.

The rules, in this order; a page gets the first that fits. Loops, cut-off and failed pages say nothing about
their reference.

1. `swapped`: far from its own reference, and near to that of another page: labels changed places.
2. `length`: the shorter of reference and prediction stands nearly whole in the other, which is half as long
   again or longer: the reference lacks text that is there, or has text that is not. The model must be sure.
3. `confident`: a page that `datasets.check.labels` calls a label error, read by a model that is at least as
   sure as it typically is of pages without an error; and its errors are not those that the model makes
   elsewhere: what recurs is a weakness of the model, a wrong label is wrong alone.
4. `convention`: the two differ only in spelling (width, spaces, Unicode forms): how labels are written.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from rapidfuzz.distance import Levenshtein
from rapidfuzz.fuzz import partial_ratio

from ocrsmith.datasets.check.labels import LEAST_CER, find_label_errors
from ocrsmith.evaluation.error_kinds import weight
from ocrsmith.evaluation.mine.cases import Case
from ocrsmith.evaluation.store import PageResult
from ocrsmith.records import PageSample, Prediction

Rule = Literal["swapped", "length", "confident", "convention"]
RULES: tuple[Rule, ...] = ("swapped", "length", "confident", "convention")

FAR = 0.5
"""CER from which a prediction is of another text than its reference …"""
NEAR = 0.25
"""… and CER up to which it is of the other page's."""
LEAST_WEIGHT = 8
"""Letters and digits (a Chinese character counts two) of a text that can be told from others."""
LONGER = 1.5
LEAST_DIFFERENCE = 8
"""Characters that one text has more than the other."""
CONTAINED = 0.9
"""Share of the shorter text that stands in the longer one."""
_COMPARED = 4000  # characters
RECURS = 3
"""Pages with the same confusion from which it is a weakness of the model."""
_RUN = 4
_COMMON = 200  # pages; runs of characters that more references have tell nothing
_TRIED = 5


@dataclass(frozen=True, slots=True)
class Suspect:
    """A page whose reference may be wrong."""

    case: Case
    rule: Rule
    reason: str
    """For a person."""

    @property
    def score(self) -> float:
        """Confidence (1 where it is unknown) times CER (1 at most): sure and far from the reference first."""
        confidence = self.case.result.confidence
        return (1.0 if confidence is None else confidence) * min(1.0, self.case.cer)


def find_suspects(cases: Sequence[Case], results: Sequence[PageResult], typical: float | None) -> list[Suspect]:
    """The suspected label errors, by rule and then by score.

    Args:
        cases: all pages with errors.
        results: all pages: where a swapped label may have gone.
        typical: see `cases.typical_confidence`.
    """
    wrong = [case for case in cases if case.errors.spans and case.result.finish_reason == "stop"]
    swapped = _swapped(wrong, results)
    recurring = _recurring(cases)
    label_errors = _label_errors(wrong)
    found = []
    for case in wrong:
        sure = typical is None or (case.result.confidence or 0.0) >= typical
        other = swapped.get(case.result.index)
        rule: Rule
        if other is not None:
            rule, reason = "swapped", f"What was read is the reference of {other.id!r}."
        elif sure and (said := _other_length(case.result)):
            rule, reason = "length", said
        elif sure and case.result.index in label_errors and _unexplained(case, recurring) >= LEAST_CER:
            confidence = case.result.confidence
            rule = "confident"
            reason = f"Read otherwise with confidence {confidence:.2f}, and not as the model errs elsewhere."
        elif all(span.kind == "normalisation" for span in case.errors.spans):
            rule, reason = "convention", "Only the spelling differs: width, spaces or Unicode forms."
        else:
            continue
        found.append(Suspect(case, rule, reason))
    return sorted(found, key=lambda one: (RULES.index(one.rule), -one.score, one.case.result.index))


# --- swapped labels ----------------------------------------------------------------------------------------


def _swapped(cases: Sequence[Case], results: Sequence[PageResult]) -> dict[int, PageResult]:
    """Index of a page → the page whose reference was read in it."""
    far = [case.result for case in cases if case.cer >= FAR and weight(case.result.prediction) >= LEAST_WEIGHT]
    wanted = {run for result in far for run in _runs(result.prediction)}
    pages_with: dict[str, list[int]] = defaultdict(list)
    for place, result in enumerate(results if far else ()):
        for run in wanted.intersection(_runs(result.reference)):
            if len(pages_with[run]) <= _COMMON:
                pages_with[run].append(place)
    found = {}
    for result in far:
        votes = Counter(
            place
            for run in _runs(result.prediction)
            if len(pages_with.get(run, ())) <= _COMMON
            for place in pages_with.get(run, ())
        )
        nearest = sorted(votes.items(), key=lambda item: (-item[1], item[0]))[:_TRIED]
        for place, _ in nearest:
            other = results[place]
            if other.reference != result.reference and _rate(other.reference, result.prediction) <= NEAR:
                found[result.index] = other
                break
    return found


def _runs(text: str) -> set[str]:
    text = " ".join(text.casefold().split())[:_COMPARED]
    return {text[start : start + _RUN] for start in range(len(text) - _RUN + 1)}


def _rate(reference: str, prediction: str) -> float:
    if weight(reference) < LEAST_WEIGHT:
        return 1.0
    return Levenshtein.distance(reference, prediction) / len(reference)


# --- length ------------------------------------------------------------------------------------------------


def _other_length(result: PageResult) -> str | None:
    true = " ".join(result.reference.split())
    read = " ".join(result.prediction.split())
    short, long = sorted((true, read), key=len)
    enough = weight(short) >= LEAST_WEIGHT and len(long) >= LONGER * len(short)
    if not enough or len(long) - len(short) < LEAST_DIFFERENCE or len(long) > _COMPARED:
        return None
    if partial_ratio(short, long) < 100 * CONTAINED:
        return None
    more = f"{len(long):,} characters against {len(short):,}"
    if long is true:
        return f"The reference has more text than was seen ({more})."
    return f"More text was seen than the reference has ({more})."


# --- confident ---------------------------------------------------------------------------------------------


def _label_errors(cases: Sequence[Case]) -> set[int]:
    """Indices of the pages that `datasets.check` would call label errors."""
    waiting = iter(cases)

    def read(samples: Sequence[PageSample]) -> Iterator[Prediction]:
        """What was read: the samples come in the order of the cases."""
        for sample, case in zip(samples, waiting, strict=False):
            result = case.result
            yield Prediction(sample.id, result.prediction, "stop", 0.0, logprob_mean=result.logprob_mean)

    samples = ((None, PageSample(str(case.result.index), b"", "", case.result.reference)) for case in cases)
    errors, _ = find_label_errors(samples, read, most=max(1, len(cases)))
    return {int(error.sample.id) for error in errors}


def _recurring(cases: Iterable[Case]) -> frozenset[tuple[str, str]]:
    """Confusions that at least `RECURS` pages have."""
    pages: Counter[tuple[str, str]] = Counter()
    for case in cases:
        pages.update(case.pairs.keys())
    return frozenset(pair for pair, count in pages.items() if count >= RECURS)


def _unexplained(case: Case, recurring: frozenset[tuple[str, str]]) -> float:
    """CER without what the model gets wrong elsewhere too, and without mere spelling."""
    known = sum(max(map(len, pair)) * count for pair, count in case.pairs.items() if pair in recurring)
    return (case.errors.edits - known - case.edits["normalisation"]) / max(1, len(case.result.reference))
