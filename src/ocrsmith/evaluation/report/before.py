"""Before and after: an evaluation beside the one it is to improve on, over the pages that both have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ocrsmith.evaluation.report.wording import count, model_name, percent, points
from ocrsmith.evaluation.statistics import Metrics, summarize
from ocrsmith.evaluation.store import Evaluation

if TYPE_CHECKING:
    from ocrsmith.evaluation.compare.effects import Effect


@dataclass(frozen=True)
class Before:
    """The base evaluation, paired page by page.

    Attributes:
        name: its model.
        pages: place in the present evaluation → (CER, prediction) of the base.
        metrics, now: figures of the base and of the present evaluation, over the common pages.
        effect: what changed in mean CER, and how sure that is.
        better, worse: pages whose CER fell, or rose.
    """

    name: str
    pages: Mapping[int, tuple[float, str]]
    metrics: Metrics
    now: Metrics
    effect: Effect
    better: int
    worse: int

    @property
    def tone(self) -> str:
        """How the verdict is coloured."""
        return {"better": "good", "worse": "bad", "unclear": ""}[self.effect.verdict]


def pair_pages(now: Evaluation, base: Evaluation) -> Before | None:
    """Pairs the pages of two evaluations by id and reference; None where they have none in common."""
    from ocrsmith.evaluation.compare.effects import measure  # its package shows comparisons with this one

    earlier = {result.id: place for place, result in enumerate(base.results)}
    pairs = {
        place: other
        for place, result in enumerate(now.results)
        if (other := earlier.get(result.id)) is not None and base.results[other].reference == result.reference
    }
    if not pairs:
        return None
    old = [base.scores[other].cer for other in pairs.values()]
    new = [now.scores[place].cer for place in pairs]
    return Before(
        model_name(base.provenance),
        {place: (base.scores[other].cer, base.results[other].prediction) for place, other in pairs.items()},
        _figures(base, list(pairs.values())),
        _figures(now, list(pairs)),
        measure(old, new, [now.results[place].group for place in pairs]),
        sum(b < a for a, b in zip(old, new, strict=True)),
        sum(b > a for a, b in zip(old, new, strict=True)),
    )


def headline(now: Metrics, before: Before | None) -> str:
    """What the figures say, in a sentence or two."""
    if before is not None:
        effect = before.effect
        words = {"better": "Better than", "worse": "Worse than", "unclear": "Not clearly different from"}
        low, high = points(effect.interval.low), points(effect.interval.high)
        return (
            f"{words[effect.verdict]} {before.name}: mean CER {percent(effect.a)} → {percent(effect.b)}, a "
            f"change of {points(effect.change)} points (95 % interval {low} to {high}). "
            f"{count(before.better, 'page')} better, {before.worse:,} worse."
        )
    low, high = (percent(bound) for bound in now.cer.mean_ci95)
    lost = now.loops + now.truncated + now.failed
    ended = f" {count(lost, 'page')} did not end well." if lost else ""
    return (
        f"Mean CER {percent(now.cer.mean)} (95 % interval {low} to {high}); "
        f"{percent(now.exact_match, 1)} of the pages are read without an error.{ended}"
    )


def _figures(evaluation: Evaluation, places: Sequence[int]) -> Metrics:
    if len(places) == len(evaluation.results):
        return evaluation.metrics
    results = [evaluation.results[place] for place in places]
    return summarize(
        [evaluation.scores[place] for place in places],
        [result.finish_reason for result in results],
        [result.group for result in results],
        seconds=sum(result.seconds for result in results),
    )
