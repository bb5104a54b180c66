"""Two evaluations of the same pages: figures, effects with their intervals, strata, pages that flipped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ocrsmith.evaluation.compare import pages
from ocrsmith.evaluation.compare.effects import Effect, Verdict, measure, relative_interval
from ocrsmith.evaluation.compare.figures import Change, changes_of, line_effects, stored_changes
from ocrsmith.evaluation.compare.forgetting import Forgetting
from ocrsmith.evaluation.compare.pages import EndFlips, PagePair
from ocrsmith.evaluation.compare.strata import StratumEffect, by_stratum, hidden_regressions
from ocrsmith.evaluation.metrics.cer import PageScore
from ocrsmith.evaluation.statistics import Interval, Metrics, summarize
from ocrsmith.evaluation.store import PageResult


@dataclass(frozen=True)
class Comparison:
    """Two evaluations of the same pages.

    Attributes:
        metrics_a, metrics_b: figures over the compared pages.
        provenance_a, provenance_b: where each comes from.
        changes: every figure that both have.
        effect: on mean CER; the verdict is its.
        relative: 95 % interval of the relative change of mean CER; None where A has no errors.
        line_effects: on the means of other figures that each page has, by name (`wer.mean`).
        strata: the change of mean CER by source, language, length …
        pairs: all compared pages, in the dataset's order.
        left_out: pages that not all have, or whose references differ (with `intersect`).
        forgetting: what changed on a second dataset, if one was given.
    """

    metrics_a: Metrics
    metrics_b: Metrics
    provenance_a: Mapping[str, Any]
    provenance_b: Mapping[str, Any]
    changes: tuple[Change, ...]
    effect: Effect
    relative: tuple[float, float] | None
    line_effects: Mapping[str, Effect]
    strata: tuple[StratumEffect, ...]
    pairs: tuple[PagePair, ...]
    left_out: int
    forgetting: Forgetting | None = None

    @property
    def interval(self) -> Interval:
        """Mean CER of B minus mean CER of A, paired bootstrap by document."""
        return self.effect.interval

    @property
    def documents(self) -> int:
        """Documents among the compared pages; a page without a document counts as one."""
        return self.effect.documents

    @property
    def verdict(self) -> Verdict:
        """By mean CER, see `Effect.verdict`."""
        return self.effect.verdict

    @property
    def reason(self) -> str:
        """Why the verdict is what it is, in a few words."""
        return self.effect.reason

    @property
    def warnings(self) -> list[str]:
        """What the verdict alone would hide."""
        hidden = hidden_regressions(self.strata, self.verdict)
        remark = self.forgetting.remark if self.forgetting else None
        return [text for text in (hidden, remark) if text]

    @property
    def improved(self) -> list[PagePair]:
        """Pages with a lower CER in B, most improved first."""
        return pages.improved(self.pairs)

    @property
    def worsened(self) -> list[PagePair]:
        """Pages with a higher CER in B, most worsened first."""
        return pages.worsened(self.pairs)

    @property
    def became_exact(self) -> list[PagePair]:
        """Pages that only B read without an error, largest change first."""
        return [pair for pair in self.improved if pair.score_b.exact and not pair.score_a.exact]

    @property
    def lost_exact(self) -> list[PagePair]:
        """Pages that only A read without an error, largest change first."""
        return [pair for pair in self.worsened if pair.score_a.exact and not pair.score_b.exact]

    @property
    def end_flips(self) -> tuple[EndFlips, ...]:
        """Pages that became loops, were cut off or failed, or recovered from it."""
        return pages.end_flips(self.pairs)

    def to_json(self) -> dict[str, Any]:
        """The comparison as a JSON object."""
        effects = {"cer.mean": self.effect, **self.line_effects}
        return {
            "n": len(self.pairs),
            "left_out": self.left_out,
            "verdict": self.verdict,
            "reason": self.reason,
            "warnings": self.warnings,
            "documents": self.documents,
            "cer_mean_difference": asdict(self.interval),
            "cer_mean_relative_ci95": list(self.relative) if self.relative else None,
            "figures": {change.name: change.to_json() for change in self.changes},
            "effects": {name: effect.to_json() for name, effect in effects.items()},
            "strata": [item.to_json() for item in self.strata],
            "forgetting": self.forgetting.to_json() if self.forgetting else None,
            "ends": {flips.reason: flips.to_json() for flips in self.end_flips},
            "became_exact": [pair.to_json() for pair in self.became_exact],
            "lost_exact": [pair.to_json() for pair in self.lost_exact],
            "worsened": [pair.to_json() for pair in self.worsened],
            "improved": [pair.to_json() for pair in self.improved],
            "a": {**self.metrics_a.to_json(), "provenance": dict(self.provenance_a)},
            "b": {**self.metrics_b.to_json(), "provenance": dict(self.provenance_b)},
        }


def compare_pairs(
    pairs: Sequence[PagePair],
    left_out: int,
    provenance_a: Mapping[str, Any],
    provenance_b: Mapping[str, Any],
    *,
    stored: tuple[Mapping[str, Any], Mapping[str, Any]] = ({}, {}),
) -> Comparison:
    """The comparison of pages that are already put together; at least one.

    Args:
        stored: metrics.json of A and of B, for figures that are not computed here; of these very pages.
    """
    groups = [pair.a.group for pair in pairs]
    first, second = [pair.score_a.cer for pair in pairs], [pair.score_b.cer for pair in pairs]
    metrics_a = _metrics([pair.a for pair in pairs], [pair.score_a for pair in pairs], groups)
    metrics_b = _metrics([pair.b for pair in pairs], [pair.score_b for pair in pairs], groups)
    others = line_effects(pairs)
    return Comparison(
        metrics_a=metrics_a,
        metrics_b=metrics_b,
        provenance_a=provenance_a,
        provenance_b=provenance_b,
        changes=(
            *changes_of(metrics_a, metrics_b),
            *(Change(name, effect.a, effect.b) for name, effect in others.items()),
            *stored_changes(*stored),
        ),
        effect=measure(first, second, groups),
        relative=relative_interval(first, second, groups),
        line_effects=others,
        strata=by_stratum(pairs),
        pairs=tuple(pairs),
        left_out=left_out,
    )


def _metrics(results: Sequence[PageResult], scores: Sequence[PageScore], groups: Sequence[str]) -> Metrics:
    reasons = [result.finish_reason for result in results]
    return summarize(scores, reasons, groups, seconds=sum(result.seconds for result in results))
