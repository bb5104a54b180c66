"""Has the model forgotten how to read other pages? A second dataset, judged against a margin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ocrsmith.evaluation.compare.effects import FEWEST_DOCUMENTS, Effect, measure
from ocrsmith.evaluation.compare.pages import PagePair, worsened
from ocrsmith.evaluation.report.wording import data_name

Provenances = tuple[Mapping[str, Any], Mapping[str, Any]]
"""Where A and B come from."""

MAX_FORGETTING = 0.01
"""Rise of mean CER on other pages that is still no forgetting: one percentage point."""


@dataclass(frozen=True)
class Forgetting:
    """Mean CER of A and B on pages of another kind.

    Attributes:
        data: what was read.
        effect: on mean CER.
        margin: the rise of mean CER that is still allowed.
        worsened: pages with a higher CER in B, most worsened first.
        remark: what makes the check doubtful; None if nothing does.
    """

    data: str
    effect: Effect
    margin: float
    worsened: tuple[PagePair, ...]
    remark: str | None = None

    @property
    def forgot(self) -> Literal["yes", "no", "unclear"]:
        """No only if the whole interval lies below the margin, yes only if it lies above."""
        if self.effect.documents < FEWEST_DOCUMENTS:
            return "unclear"
        if self.effect.interval.high < self.margin:
            return "no"
        return "yes" if self.effect.interval.low > self.margin else "unclear"

    @property
    def reason(self) -> str:
        """Why, in a few words."""
        if self.effect.documents < FEWEST_DOCUMENTS:
            return self.effect.reason
        side = {
            "no": "whole interval is below",
            "yes": "whole interval is above",
            "unclear": "interval includes",
        }
        return f"the {side[self.forgot]} the {self.margin * 100:g} pp allowed"

    def to_json(self) -> dict[str, Any]:
        """The check as a JSON object."""
        return {
            "data": self.data,
            "forgot": self.forgot,
            "reason": self.reason,
            "max_forgetting": self.margin,
            "cer_mean": self.effect.to_json(),
            "worsened": [pair.to_json() for pair in self.worsened],
            "remark": self.remark,
        }


def check_forgetting(
    pairs: Sequence[PagePair],
    compared: Provenances,
    provenances: Provenances,
    margin: float = MAX_FORGETTING,
) -> Forgetting:
    """Judges what the two evaluations read on other pages.

    Args:
        pairs: the other pages; at least one.
        compared: provenance of the evaluations A and B of the comparison itself.
        provenances: of the two evaluations of the other pages.
        margin: rise of mean CER that is still allowed.
    """
    first = [pair.score_a.cer for pair in pairs]
    second = [pair.score_b.cer for pair in pairs]
    effect = measure(first, second, [pair.a.group for pair in pairs])
    remark = _other_model(compared, provenances)
    return Forgetting(data_name(provenances[0]), effect, margin, tuple(worsened(pairs)), remark)


def _other_model(
    compared: Provenances,
    provenances: Provenances,
) -> str | None:
    """Says so if the other pages were not read by the model of the comparison: two folders swapped, perhaps."""
    for side, here, there in zip("AB", compared, provenances, strict=True):
        if any(_part(here, part) != _part(there, part) for part in ("model", "adapter")):
            return f"On the other pages, {side} is another model or adapter than in the comparison itself."
    return None


def _part(provenance: Mapping[str, Any], part: str) -> object:
    """What identifies a model or adapter: its hash, else its name."""
    thing = (provenance.get("engine") or {}).get(part)
    return thing.get("hash") or thing.get("name") if isinstance(thing, Mapping) else thing
