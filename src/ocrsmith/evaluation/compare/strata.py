"""What changed where: by source, language, length … An improvement overall may hide a part that got worse."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ocrsmith.evaluation import strata
from ocrsmith.evaluation.compare.effects import Effect, Verdict, measure
from ocrsmith.evaluation.compare.pages import PagePair

_NAMED = 4  # how many strata the warning names


@dataclass(frozen=True, slots=True)
class StratumEffect:
    """What changed in mean CER among the pages of one label."""

    dimension: str
    label: str
    effect: Effect

    @property
    def name(self) -> str:
        """`language fa`."""
        return f"{self.dimension} {self.label}"

    def to_json(self) -> dict[str, Any]:
        """The stratum as a JSON object; `a`, `b` and `change` are of mean CER."""
        return {"dimension": self.dimension, "label": self.label, **self.effect.to_json()}


def by_stratum(pairs: Sequence[PagePair]) -> tuple[StratumEffect, ...]:
    """The change of each stratum: dimension after dimension, in each the largest rise of CER first.

    Strata are those of A (`evaluation.strata.assign`). A dimension with one label for all pages is left out:
    its only stratum is the whole.
    """
    found: list[StratumEffect] = []
    for dimension, labels in strata.assign([pair.a for pair in pairs]).items():
        members: dict[str, list[PagePair]] = {}
        for label, pair in zip(labels, pairs, strict=True):
            members.setdefault(label, []).append(pair)
        if len(members) > 1:
            effects = [StratumEffect(dimension, label, _effect(some)) for label, some in members.items()]
            found += sorted(effects, key=lambda item: (-item.effect.change, item.label))
    return tuple(found)


def regressions(found: Sequence[StratumEffect]) -> list[StratumEffect]:
    """The strata that are worse in B, worst first."""
    worse = [item for item in found if item.effect.verdict == "worse"]
    return sorted(worse, key=lambda item: (-item.effect.change, item.name))


def hidden_regressions(found: Sequence[StratumEffect], overall: Verdict) -> str | None:
    """One sentence on strata that are worse though the whole is not; None if there are none."""
    worse = regressions(found)
    if overall == "worse" or not worse:
        return None
    named = [f"{item.name}: {item.effect.change * 100:+.1f} points" for item in worse[:_NAMED]]
    more = [f"{len(worse) - _NAMED} more"] if len(worse) > _NAMED else []
    start = "Improved overall" if overall == "better" else "No clear change overall"
    return f"{start}, but worse on {'; '.join(named + more)}."


def _effect(pairs: Sequence[PagePair]) -> Effect:
    first = [pair.score_a.cer for pair in pairs]
    second = [pair.score_b.cer for pair in pairs]
    return measure(first, second, [pair.a.group for pair in pairs])
