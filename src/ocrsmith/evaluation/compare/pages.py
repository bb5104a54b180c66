"""Pages that several evaluations have in common, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ocrsmith.errors import DataError
from ocrsmith.evaluation.metrics.cer import PageScore
from ocrsmith.evaluation.store import Evaluation, PageResult
from ocrsmith.records import FinishReason

_NAMED = 5  # how many ids a message names

BAD_ENDS: tuple[FinishReason, ...] = ("loop", "length", "error")
"""Ways for a reading to end that are not its end."""


@dataclass(frozen=True, slots=True)
class PagePair:
    """One page in both evaluations."""

    a: PageResult
    b: PageResult
    score_a: PageScore
    score_b: PageScore

    @property
    def change(self) -> float:
        """CER of B minus CER of A: below 0 is better."""
        return self.score_b.cer - self.score_a.cer

    def to_json(self) -> dict[str, Any]:
        """Id, and CER before and after."""
        return {"id": self.a.id, "cer_a": self.score_a.cer, "cer_b": self.score_b.cer, "change": self.change}


@dataclass(frozen=True, slots=True)
class EndFlips:
    """Pages that ended in one bad way in one evaluation only, largest change of CER first."""

    reason: FinishReason
    became: tuple[PagePair, ...]
    """Only in B."""
    recovered: tuple[PagePair, ...]
    """Only in A."""

    def to_json(self) -> dict[str, Any]:
        """Both lists, briefly."""
        return {
            "became": [pair.to_json() for pair in self.became],
            "recovered": [pair.to_json() for pair in self.recovered],
        }


def improved(pairs: Sequence[PagePair]) -> list[PagePair]:
    """Pages with a lower CER in B, most improved first."""
    return sorted((pair for pair in pairs if pair.change < 0), key=lambda pair: (pair.change, pair.a.id))


def worsened(pairs: Sequence[PagePair]) -> list[PagePair]:
    """Pages with a higher CER in B, most worsened first."""
    return sorted((pair for pair in pairs if pair.change > 0), key=lambda pair: (-pair.change, pair.a.id))


def end_flips(pairs: Sequence[PagePair]) -> tuple[EndFlips, ...]:
    """For each bad end the pages that fell into it, and those that got out of it."""
    found = []
    for reason in BAD_ENDS:
        became = [p for p in pairs if p.b.finish_reason == reason != p.a.finish_reason]
        recovered = [p for p in pairs if p.a.finish_reason == reason != p.b.finish_reason]
        became.sort(key=lambda pair: (-pair.change, pair.a.id))
        recovered.sort(key=lambda pair: (pair.change, pair.a.id))
        found.append(EndFlips(reason, tuple(became), tuple(recovered)))
    return tuple(found)


def pair_pages(
    folders: Sequence[Path], evaluations: Sequence[Evaluation], *, intersect: bool
) -> tuple[list[list[PagePair]], int]:
    """Pages of the first evaluation beside those of each other one: the same pages, in the first one's order.

    Args:
        folders: where they come from, for messages.
        evaluations: at least two.
        intersect: take the pages that all have (same id and reference), whatever else differs.

    Returns:
        A list of pairs for each evaluation but the first, and how many pages are left out.

    Raises:
        DataError: the evaluations are not of the same pages, or have none in common.
    """
    base = evaluations[0]
    if not intersect:
        for folder, other in zip(folders[1:], evaluations[1:], strict=True):
            _check_same(base, other, f"{folders[0]} and {folder}")
    by_id = [
        {result.id: (result, score) for result, score in zip(item.results, item.scores, strict=True)}
        for item in evaluations
    ]
    common = [
        name
        for name, (result, _) in by_id[0].items()
        if all(name in other and other[name][0].reference == result.reference for other in by_id[1:])
    ]
    if not common:
        raise DataError(
            f"The {'two ' if len(folders) == 2 else ''}evaluations have no page in common.",
            place=_list([str(folder) for folder in folders]),
            mend="Evaluate all on the same dataset and split.",
        )
    pairs = [[_pair(by_id[0][name], other[name]) for name in common] for other in by_id[1:]]
    return pairs, len(set().union(*by_id)) - len(common)


def _pair(first: tuple[PageResult, PageScore], second: tuple[PageResult, PageScore]) -> PagePair:
    return PagePair(first[0], second[0], first[1], second[1])


def _check_same(before: Evaluation, after: Evaluation, place: str) -> None:
    """Refuses evaluations that are not of the same pages, and says which differ."""
    hashes = [_dataset(evaluation, "content_hash") for evaluation in (before, after)]
    splits = [_dataset(evaluation, "split") for evaluation in (before, after)]
    first = {result.id: result.reference for result in before.results}
    second = {result.id: result.reference for result in after.results}
    reasons = []
    if hashes[0] != hashes[1]:
        reasons.append(f"the datasets differ (content hash {hashes[0]} and {hashes[1]})")
    if splits[0] != splits[1]:
        reasons.append(f"the splits differ ({splits[0]} and {splits[1]})")
    for here, there, text in ((first, second, "only in A"), (second, first, "only in B")):
        missing = [name for name in here if name not in there]
        if missing:
            reasons.append(f"{_pages(len(missing))} {text}: {_names(missing)}")
    other = [name for name, text in first.items() if name in second and second[name] != text]
    if other:
        reasons.append(f"{_pages(len(other))} with another reference: {_names(other)}")
    if reasons:
        raise DataError(
            f"The two evaluations are not of the same pages: {'; '.join(reasons)}.",
            place=place,
            mend="Evaluate both on the same dataset and split, or compare the shared pages with --intersect.",
        )


def _dataset(evaluation: Evaluation, key: str) -> object:
    return (evaluation.provenance.get("dataset") or {}).get(key)


def _pages(number: int) -> str:
    return "1 page" if number == 1 else f"{number:,} pages"


def _names(ids: Sequence[str]) -> str:
    shown = ", ".join(repr(name) for name in ids[:_NAMED])
    return f"{shown}, …" if len(ids) > _NAMED else shown


def _list(words: Sequence[str]) -> str:
    return f"{', '.join(words[:-1])} and {words[-1]}"
