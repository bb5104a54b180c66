"""Base against candidate: everything that `ocrsmith canary report` tells, as figures."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ocrsmith.evaluation.metrics.cer import cer
from ocrsmith.evaluation.statistics import percentile_intervals
from ocrsmith.serving.canary.choice import ARMS, BASE, CANDIDATE, Arm, PageKey
from ocrsmith.serving.canary.figures import (
    SHARES,
    WINDOW,
    arm_figures,
    flags,
    score_corrected,
)
from ocrsmith.serving.canary.judgement import Judgement, judge
from ocrsmith.serving.canary.records import Answer, Correction, Event
from ocrsmith.serving.canary.rollback import Decision, RollbackRule
from ocrsmith.serving.canary.store import Store, Totals, last_of_each_page

SHOWN = 20
"""Pages that are named, of those on which the models differ most."""
_PERCENTILES = (50, 90, 99)
_SIGMAS = 1.959963984540054

Interval = tuple[float, float]


@dataclass(frozen=True, slots=True)
class ArmReport:
    """One model."""

    model: str
    figures: Mapping[str, float]
    """As rules name them; NaN: no value."""
    intervals: Mapping[str, Interval]
    """95 %: Wilson's of shares, bootstrap over pages of percentiles."""
    of_all: bool
    """False: of the latest `WINDOW` answers."""

    def to_json(self) -> dict[str, Any]:
        """Each figure with its interval."""
        figures = {
            name: {"value": value if math.isfinite(value) else None, "ci95": self.intervals.get(name)}
            for name, value in self.figures.items()
        }
        return {"model": self.model, "figures": figures, "of_all": self.of_all}


@dataclass(frozen=True, slots=True)
class Differing:
    """A page that the models read differently."""

    request: str
    page: str
    difference: float
    kept: bool
    """Whether it can be reviewed."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """How alike the two models' answers are, over shadowed pages: CER, the base's answer taken as true."""

    n: int
    same: float
    """Share of pages with the same text."""
    mean: float
    p90: float
    most: Sequence[Differing]
    """The most different first."""


@dataclass(frozen=True, slots=True)
class CanaryReport:
    """A round of a canary."""

    place: str
    round: int
    rounds: int
    settings: Mapping[str, object]
    totals: Totals
    arms: Mapping[Arm, ArmReport]
    judgement: Judgement
    agreement: Agreement | None
    """None: no page was shadowed to the end."""
    rolled_back: Event | None
    rule: str | None
    decision: Decision | None
    """What the rule says now."""

    def to_json(self) -> dict[str, Any]:
        """The report as a JSON object."""
        decision = None
        if self.decision is not None:
            decision = {"holds": self.decision.holds, "undecided": list(self.decision.undecided)}
        return {
            "store": self.place,
            "round": self.round,
            "rounds": self.rounds,
            "settings": dict(self.settings),
            "totals": asdict(self.totals),
            "verdict": self.judgement.to_json(),
            "arms": {arm: item.to_json() for arm, item in self.arms.items()},
            "agreement": None if self.agreement is None else asdict(self.agreement),
            "rule": self.rule,
            "rule_now": decision,
            "rolled_back": None if self.rolled_back is None else asdict(self.rolled_back),
        }


def make_report(store: Store, *, corrections: Iterable[Correction] = ()) -> CanaryReport | None:
    """The report on the latest round; None if no server ever started with this store.

    Args:
        corrections: that the store need not know.
    """
    events = store.events()
    if not events:
        return None
    last = events[-1]
    number, own = last.round, [event for event in events if event.round == last.round]
    names: dict[Arm, str] = {BASE: last.base, CANDIDATE: last.candidate}
    settings = next((event.detail for event in reversed(events) if event.kind == "start"), {})
    known = store.corrections() | {item.key: item for item in corrections}
    with_text = {arm: store.answers(number, arm, latest=WINDOW, texts=True) for arm in ARMS}
    texts = last_of_each_page(answer for answers in with_text.values() for answer in answers)
    scores = score_corrected(texts.values(), known)
    answers = {arm: store.answers(number, arm, latest=WINDOW) for arm in ARMS}
    arms = {arm: _arm(names[arm], answers[arm], arm_figures(answers[arm], scores[arm])) for arm in ARMS}
    rule, decision = _rule_now(settings, arms)
    return CanaryReport(
        place=store.place,
        round=number,
        rounds=len({event.round for event in events}),
        settings=settings,
        totals=store.totals(number),
        arms=arms,
        judgement=judge(scores),
        agreement=_agreement([*answers[BASE], *answers[CANDIDATE]], store.kept_keys()),
        rolled_back=next((event for event in own if event.kind == "rollback"), None),
        rule=rule,
        decision=decision,
    )


def differences(texts: Mapping[tuple[Arm, PageKey], Answer]) -> dict[PageKey, float]:
    """How far the answers of the two arms lie apart, of pages that both read to an end."""
    found = {}
    for (arm, key), answer in texts.items():
        other = texts.get((CANDIDATE, key)) if arm == BASE else None
        if other is not None and answer.complete and other.complete:
            found[key] = cer((answer.text or "").strip(), (other.text or "").strip())
    return found


def wilson(count: int, total: int) -> Interval:
    """The 95 % interval of a share. E. B. Wilson, Probable inference (1927); no total: nothing is known."""
    if not total:
        return 0.0, 1.0
    share, square = count / total, _SIGMAS**2
    middle = (share + square / (2 * total)) / (1 + square / total)
    half = _SIGMAS * math.sqrt(share * (1 - share) / total + square / (4 * total**2)) / (1 + square / total)
    return (0.0 if not count else middle - half), (1.0 if count == total else middle + half)


def _arm(model: str, answers: Sequence[Answer], figures: Mapping[str, float]) -> ArmReport:
    counted = [answer for answer in answers if answer.counts]
    intervals = {name: wilson(sum(flags(counted, name)), len(counted)) for name in SHARES} if counted else {}
    complete = [answer for answer in counted if answer.complete]
    if complete:
        seconds = np.array([answer.seconds for answer in complete], dtype=np.float64)
        found = percentile_intervals(seconds, [answer.key.page for answer in complete], _PERCENTILES)
        intervals |= {f"seconds.p{rank}": item for rank, item in zip(_PERCENTILES, found, strict=True)}
    return ArmReport(model, figures, intervals, of_all=len(answers) < WINDOW)


def _agreement(answers: Sequence[Answer], kept: set[PageKey]) -> Agreement | None:
    pages = {answer.key: answer for answer in answers if answer.difference is not None}
    if not pages:
        return None
    values = np.array([answer.difference for answer in pages.values()], dtype=np.float64)
    ranked = sorted(pages.values(), key=lambda answer: (-(answer.difference or 0.0), answer.request))
    most = [
        Differing(item.request, item.key.page, item.difference or 0.0, item.key in kept)
        for item in ranked[:SHOWN]
        if item.difference
    ]
    p90 = float(np.percentile(values, 90, method="linear"))
    return Agreement(len(values), float((values == 0).mean()), float(values.mean()), p90, most)


def _rule_now(
    settings: Mapping[str, object], arms: Mapping[Arm, ArmReport]
) -> tuple[str | None, Decision | None]:
    text = settings.get("rollback_if")
    if not isinstance(text, str):
        return None, None
    rule = RollbackRule.parse(text, after=int(str(settings.get("rollback_after", 1))))
    return text, rule.decide(arms[CANDIDATE].figures, arms[BASE].figures)
