"""When to give up on the candidate: a rule held against its figures, which may not be known yet.

A comparison with a figure that has no value is neither true nor false but undecided. `and` is false with one
false side, `or` true with one true side, whatever the other is; else what is undecided stays so. Only what is
true rolls back.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from ocrsmith.errors import SettingsError
from ocrsmith.evaluation.gate import SHORT, Compared, check_rules
from ocrsmith.evaluation.rules import BASE, Comparison, Name, Rule, Statement, parse_rule
from ocrsmith.serving.canary.figures import NAMES

DEFAULT_AFTER = 50
_PLACE = "--rollback-if"


@dataclass(frozen=True, slots=True)
class Decision:
    """What became of a rule."""

    holds: bool | None
    """None: undecided."""
    compared: tuple[Compared, ...]
    """The comparisons that could be looked at."""
    undecided: tuple[str, ...]
    """Why the others could not."""

    @property
    def because(self) -> str:
        """The comparisons that hold, with their values: `loops > 0.01 (0.031)`."""
        held = [f"{item.text} ({item.left:.4g})" for item in self.compared if item.holds]
        return " and ".join(held)


@dataclass(frozen=True, slots=True)
class RollbackRule:
    """A rule, and from how many answers on it is looked at."""

    rule: Rule
    after: int

    @classmethod
    def parse(cls, text: str, *, after: int = DEFAULT_AFTER) -> RollbackRule:
        """Reads a rule such as `loops > 0.01 or p90 > 0.05`.

        Args:
            after: answers of the candidate, shadows included, below which it is not looked at.

        Raises:
            SettingsError: it is no rule, names a figure that there is not, or always divides by zero.
        """
        if after < 1:
            mend = "Give 1 or more."
            raise SettingsError(
                f"{after} answers are too few to judge by.", place="--rollback-after", mend=mend
            )
        rule = parse_rule(text, place=_PLACE)
        # Odd numbers, all different: whatever still divides by zero does so with every figure.
        probe = {name: math.sqrt(place + 2) for place, name in enumerate(NAMES)}
        check_rules([rule], probe, {name: value + math.pi for name, value in probe.items()})
        return cls(rule, after)

    def decide(self, candidate: Mapping[str, float], base: Mapping[str, float]) -> Decision:
        """Holds the rule against the figures of both arms."""
        count = candidate["n"]
        if count < self.after:
            return Decision(None, (), (f"{count:,.0f} of {self.after:,} answers of the candidate",))
        walk = _Walk(candidate, base)
        return Decision(walk.holds(self.rule.statement), tuple(walk.compared), tuple(dict.fromkeys(walk.why)))


@dataclass(slots=True)
class _Walk:
    candidate: Mapping[str, float]
    base: Mapping[str, float]
    compared: list[Compared] = field(default_factory=list)
    why: list[str] = field(default_factory=list)

    def holds(self, node: Statement) -> bool | None:
        if isinstance(node, Comparison):
            return self._comparison(node)
        first = self.holds(node.left)
        decides = node.word == "or"
        if first is decides:
            return decides
        second = self.holds(node.right)
        if second is decides:
            return decides
        return None if first is None or second is None else not decides

    def _comparison(self, node: Comparison) -> bool | None:
        rule = Rule(str(node), node, _PLACE)
        if missing := list(self._missing(rule)):
            self.why += [f"{name} has no value yet" for name in missing]
            return None
        try:
            outcome = check_rules([rule], self.candidate, self.base)[0]
        except SettingsError as error:  # a division by zero
            self.why.append(error.problem)
            return None
        self.compared += outcome.compared
        return outcome.holds

    def _missing(self, rule: Rule) -> Iterator[Name]:
        for name in rule.names:
            figures, parts = (
                (self.base, name.parts[1:]) if name.parts[0] == BASE else (self.candidate, name.parts)
            )
            plain = ".".join(parts)
            value = figures[plain] if plain in figures else figures[f"{SHORT}.{plain}"]
            if not math.isfinite(value):
                yield name
