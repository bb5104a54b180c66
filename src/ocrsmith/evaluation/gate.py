"""The gate: rules held against the figures of an evaluation, and of a base if there is one."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from ocrsmith.errors import DataError, InputError, SettingsError
from ocrsmith.evaluation import rules
from ocrsmith.evaluation.rules import BASE, Comparison, Name, Negative, Number, Rule, Statement, Sum, parse_rule

SHORT = "cer"
"""A name that is not there is looked for among these figures: `p90` is `cer.p90`."""
LISTED = 60
"""Figures that a message lists one by one; of more, it gives the beginnings of their names."""
_SAYABLE = str.maketrans('"\n', "' ")
MAX_FILE = 1_000_000
"""Bytes of a file of rules; a larger one is something else."""

Figures = Mapping[str, float]
"""Name → value, as `flatten` makes it. NaN: a figure without a value."""

_RELATIONS: dict[rules.Relation, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}
_ARITHMETIC: dict[rules.Arithmetic, Callable[[float, float], float]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
}


@dataclass(frozen=True, slots=True)
class Compared:
    """A comparison that was looked at, with the values of both sides."""

    text: str
    left: float
    relation: rules.Relation
    right: float
    holds: bool

    @property
    def off(self) -> float:
        """How far apart the sides are; where it fails: by how much."""
        return abs(self.left - self.right)


@dataclass(frozen=True, slots=True)
class Outcome:
    """A rule, whether it holds, and the comparisons that decided it."""

    rule: str
    holds: bool
    compared: tuple[Compared, ...]

    def to_json(self) -> dict[str, Any]:
        """{"rule": …, "holds": …, "comparisons": [{"text", "left", "relation", "right", "holds"}]}"""
        names = ("text", "left", "relation", "right", "holds")
        compared = [{name: getattr(item, name) for name in names} for item in self.compared]
        return {"rule": self.rule, "holds": self.holds, "comparisons": compared}


def check_rules(checked: Sequence[Rule], figures: Figures, base: Figures | None = None) -> list[Outcome]:
    """Holds rules against figures. All names are looked up before anything is computed.

    Raises:
        SettingsError: an unknown name (names near matches and what is known), a base that was not given, a
            figure without a value, or a division by zero.
    """
    for rule in checked:
        for name in rule.names:
            _find(name, figures, base, rule)
    return [_Checker(rule, figures, base).outcome() for rule in checked]


def flatten(metrics: Mapping[str, Any]) -> dict[str, float]:
    """The figures of `Metrics.to_json` (or metrics.json) by name: numbers only, nested ones as `a.b`, the two
    ends of an interval as `.low` and `.high`, a figure without a value as NaN. Provenance is no figure.

    What a rule cannot say within double quotes is replaced: a double quote by a single one, a line end by a
    space.
    """
    figures: dict[str, float] = {}
    todo: list[tuple[str, Any]] = [(key, value) for key, value in metrics.items() if key != "provenance"]
    while todo:
        name, value = todo.pop(0)
        if isinstance(value, bool | str):
            continue
        if isinstance(value, int | float):
            figures[name] = float(value)
        elif value is None:
            figures[name] = math.nan
        elif isinstance(value, Mapping):
            todo += [(f"{name}.{key.translate(_SAYABLE)}", item) for key, item in value.items()]
        elif isinstance(value, list | tuple) and len(value) == 2 and _are_numbers(value):
            todo += [(f"{name}.{end}", item) for end, item in zip(("low", "high"), value, strict=True)]
    return figures


def _are_numbers(values: Sequence[Any]) -> bool:
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)


def read_rules(path: Path) -> list[Rule]:
    """The rules of a file: one a line; blank lines and comments (`#`) are skipped.

    Raises:
        InputError: no such file.
        DataError: not UTF-8, larger than a megabyte, or without a rule.
        SettingsError: a line that is no rule; names file and line.
    """
    if not path.is_file():
        raise InputError("There is no such file of rules.", place=str(path), mend="Correct the path.")
    if path.stat().st_size > MAX_FILE:
        raise DataError("This is too large to be a file of rules.", place=str(path), mend="Correct the path.")
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        problem = f"Byte {error.start + 1} is not UTF-8."
        raise DataError(problem, place=str(path), mend="Save the file as UTF-8.") from error
    written = [(number, line.strip()) for number, line in enumerate(lines, start=1)]
    found = [
        parse_rule(line, place=f"{path}, line {number}")
        for number, line in written
        if line and not line.startswith("#")
    ]
    if not found:
        raise DataError("The file has no rules.", place=str(path), mend="Write one a line: p90 < 0.05")
    return found


# --- names -------------------------------------------------------------------------------------------------


def _find(name: Name, figures: Figures, base: Figures | None, rule: Rule) -> float:
    """The value of a name. Raises as `check_rules`."""
    parts, among = name.parts, figures
    if parts[0] == BASE:
        if base is None:
            problem = f"The rule speaks of {str(name)!r}, but no base was given."
            raise SettingsError(problem, place=rule.place, mend="Name the base: --base EVAL.")
        parts, among = parts[1:], base
    for known in (".".join(parts), ".".join((SHORT, *parts))):
        if known in among:
            value = among[known]
            if not math.isfinite(value):
                problem = f"{str(name)!r} has no value in this evaluation."
                raise SettingsError(problem, place=rule.place, mend="Leave the rule out, or evaluate again.")
            return value
    raise _unknown(name, ".".join(parts), among, rule)


def _unknown(name: Name, wanted: str, figures: Figures, rule: Rule) -> SettingsError:
    prefix = f"{BASE}." if name.parts[0] == BASE else ""
    short = {figure.removeprefix(f"{SHORT}."): figure for figure in figures}
    near = [short.get(item, item) for item in get_close_matches(wanted, [*figures, *short], n=4, cutoff=0.6)]
    meant = " or ".join(f"{prefix}{_spelt(item)}" for item in dict.fromkeys(near))
    known = ", ".join(_listed(wanted, figures))
    mend = f"Did you mean {meant}? Known: {known}." if meant else f"Known: {known}."
    return SettingsError(f"There is no figure {str(name)!r}.", place=rule.place, mend=mend)


def _listed(wanted: str, figures: Figures) -> list[str]:
    """The known names; of many, those that go on from where `wanted` is right: `strata.language.zh.…`."""
    if len(figures) <= LISTED:
        return sorted(map(_spelt, figures))
    path = wanted.split(".")[:-1]
    while path and not any(figure.startswith(".".join(path) + ".") for figure in figures):
        path.pop()
    prefix = "".join(f"{part}." for part in path)
    names = set()
    for figure in figures:
        if figure.startswith(prefix):
            part, inner, _ = figure[len(prefix) :].partition(".")
            names.add(f"{_spelt(prefix + part)}.…" if inner and part != SHORT else _spelt(figure))
    return sorted(names)


def _spelt(figure: str) -> str:
    """A figure's name as a rule says it, with double quotes where it needs them."""
    return str(Name(tuple(figure.split("."))))


# --- computing ---------------------------------------------------------------------------------------------


class _Checker:
    """Walks a rule once."""

    def __init__(self, rule: Rule, figures: Figures, base: Figures | None) -> None:
        self.rule, self.figures, self.base = rule, figures, base
        self.compared: list[Compared] = []

    def outcome(self) -> Outcome:
        holds = self.holds(self.rule.statement)
        return Outcome(self.rule.text, holds, tuple(self.compared))

    def holds(self, node: Statement) -> bool:
        if isinstance(node, Comparison):
            left, right = self.value(node.left), self.value(node.right)
            holds = _RELATIONS[node.relation](left, right)
            self.compared.append(Compared(str(node), left, node.relation, right, holds))
            return holds
        if self.holds(node.left) == (node.word == "or"):  # decided
            return node.word == "or"
        return self.holds(node.right)

    def value(self, node: Sum) -> float:
        if isinstance(node, Number):
            return node.value
        if isinstance(node, Name):
            return _find(node, self.figures, self.base, self.rule)
        if isinstance(node, Negative):
            return -self.value(node.of)
        left, right = self.value(node.left), self.value(node.right)
        if node.sign == "/" and right == 0:
            mend = f"Guard it: {node.right} != 0 and …"
            raise SettingsError(f"{str(node)!r} divides by zero.", place=self.rule.place, mend=mend)
        result = _ARITHMETIC[node.sign](left, right)
        if not math.isfinite(result):
            problem = f"{str(node)!r} is too large a number."
            raise SettingsError(problem, place=self.rule.place, mend="Correct the rule.")
        return result


def all_hold(outcomes: Iterable[Outcome]) -> bool:
    """The verdict of the gate."""
    return all(outcome.holds for outcome in outcomes)
