"""The rules of a gate: `p90 < 0.05`, `cer.p95 <= base.cer.p95 * 1.02 + 0.001`, `loops == 0 and n >= 200`.

    rule       = all { "or" all }
    all        = statement { "and" statement }
    statement  = sum [ ( "<" | "<=" | ">" | ">=" | "==" | "!=" ) sum ]
    sum        = product { ( "+" | "-" ) product }
    product    = factor { ( "*" | "/" ) factor }
    factor     = "-" factor | number [ "%" ] | name | "(" rule ")"
    name       = part { "." part }          part = letters, digits, "_", or anything in double quotes

Rules are parsed here and never handed to an interpreter. `#` begins a comment. A name stands for a figure of
the evaluation, with `base.` before it for one of the base; `p90` is short for `cer.p90`. What `and` and `or`
have decided is not looked at any further, so `n > 0 and failed / n < 1%` divides only where it can.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, cast, get_args

from ocrsmith.errors import SettingsError

MAX_TOKENS = 120
"""Names, numbers and signs of a rule. With MAX_DEPTH it bounds the stack that a rule needs."""
MAX_DEPTH = 30
"""Brackets and minus signs within one another."""
BASE = "base"

Arithmetic = Literal["+", "-", "*", "/"]
Relation = Literal["<", "<=", ">", ">=", "==", "!="]
Connective = Literal["and", "or"]


@dataclass(frozen=True, slots=True)
class Number:
    """A number, finite and at least 0; a percentage is divided by 100."""

    value: float

    def __str__(self) -> str:
        return repr(self.value).removesuffix(".0")


@dataclass(frozen=True, slots=True)
class Name:
    """A figure's name in its parts, `base` among them."""

    parts: tuple[str, ...]

    def __str__(self) -> str:
        return ".".join(part if _is_plain(part) else f'"{part}"' for part in self.parts)


@dataclass(frozen=True, slots=True)
class Negative:
    """The negative of a number."""

    of: Sum

    def __str__(self) -> str:
        return f"-{_bracketed(self.of, Operation)}"


@dataclass(frozen=True, slots=True)
class Operation:
    """Two numbers and what is done with them."""

    left: Sum
    sign: Arithmetic
    right: Sum

    def __str__(self) -> str:
        left, right = (_bracketed(side, Operation) for side in (self.left, self.right))
        return f"{left} {self.sign} {right}"


@dataclass(frozen=True, slots=True)
class Comparison:
    """A statement about two numbers."""

    left: Sum
    relation: Relation
    right: Sum

    def __str__(self) -> str:
        return f"{self.left} {self.relation} {self.right}"


@dataclass(frozen=True, slots=True)
class Connection:
    """Two statements joined."""

    left: Statement
    word: Connective
    right: Statement

    def __str__(self) -> str:
        left, right = (_bracketed(side, Connection) for side in (self.left, self.right))
        return f"{left} {self.word} {right}"


Sum = Number | Name | Negative | Operation
Statement = Comparison | Connection
Node = Sum | Statement


@dataclass(frozen=True, slots=True)
class Rule:
    """A parsed rule."""

    text: str
    """As written, without comment and outer space."""
    statement: Statement
    place: str
    """Where it was written, for messages."""

    @property
    def names(self) -> list[Name]:
        """All names in it, in order."""
        return list(_names(self.statement))


def parse_rule(text: str, *, place: str = "") -> Rule:
    """Parses a rule.

    Args:
        text: the rule, e.g. "p90 < 5%".
        place: file and line, if it comes from a file.

    Raises:
        SettingsError: it is no rule; names the character, and what would be right there.
    """
    parser = _Parser(text, place or f"rule {_clip(text)!r}")
    statement = parser.whole()
    return Rule(text[: parser.tokens[-1].at].strip(), statement, parser.place)


def _bracketed(node: Node, kind: type) -> str:
    # brackets wherever an operation stands in an operation: no reader has to know what binds more tightly
    return f"({node})" if isinstance(node, kind) else str(node)


def _names(node: Node) -> Iterator[Name]:
    if isinstance(node, Name):
        yield node
    elif isinstance(node, Negative):
        yield from _names(node.of)
    elif not isinstance(node, Number):
        yield from _names(node.left)
        yield from _names(node.right)


# --- parsing -----------------------------------------------------------------------------------------------

_CONNECTIVES = frozenset(get_args(Connective))
_RELATIONS = frozenset(get_args(Relation))
_PLAIN = re.compile(r"[^\W\d]\w*")
_TOKEN = re.compile(
    r"""
    (?P<number>(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)
    |(?P<name>(?:[^\W\d]\w*|"[^"\n]*")(?:\.(?:\w+|"[^"\n]*"))*)
    |(?P<sign><=|>=|==|!=|[-+*/<>()%])
    """,
    re.VERBOSE,
)
_PART = re.compile(r'"([^"\n]*)"|(\w+)')
_MISTAKEN = {
    "=": "write == to compare",
    "≤": "write <=",
    "≥": "write >=",
    "≠": "write !=",
    "&": "write and",
    "|": "write or",
    "!": "there is no not; turn the comparison round",
    ",": "decimals have a point; several rules are several arguments",
    "'": "names with odd characters stand in double quotes",
    '"': "close the double quotes",
}


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    """`number`, `name`, `sign`, or `end`."""
    text: str
    at: int


def _tokens(text: str, place: str) -> Iterator[_Token]:
    at = 0
    while at < len(text) and text[at] != "#":
        if text[at].isspace():
            at += 1
            continue
        match = _TOKEN.match(text, at)
        if match is None:
            raise _error(f"{text[at]!r} has no meaning in a rule", at, place, _MISTAKEN.get(text[at], ""))
        yield _Token(match.lastgroup or "", match[0], at)
        at = match.end()
    yield _Token("end", "", at)


class _Parser:
    """Recursive descent, one method for each line of the grammar."""

    def __init__(self, text: str, place: str) -> None:
        self.place = place
        self.tokens: list[_Token] = []
        for token in _tokens(text, place):
            self.tokens.append(token)
            if len(self.tokens) > MAX_TOKENS:
                problem = f"The rule has more than {MAX_TOKENS} names, numbers and signs"
                raise _error(problem, token.at, place, "write several rules: all of them must hold")
        self.index = 0
        self.depth = 0

    @property
    def next(self) -> _Token:
        return self.tokens[self.index]

    def take(self, *texts: str) -> _Token | None:
        """The next token, if it is one of these signs or words."""
        token = self.next
        if token.kind in ("sign", "name") and token.text in texts:
            self.index += 1
            return token
        return None

    def fail(self, problem: str, mend: str = "", token: _Token | None = None) -> SettingsError:
        return _error(problem, (token or self.next).at, self.place, mend)

    def whole(self) -> Statement:
        if self.next.kind == "end":
            raise self.fail("There is no rule here")
        node = self.rule()
        if self.next.kind != "end":
            raise self.fail(
                f"{_clip(self.next.text)!r} is not expected here", "put a sign before it, or a bracket"
            )
        return self.statement_of(node, self.tokens[0])

    def rule(self) -> Node:
        return self.connection(("or",), self.all)

    def all(self) -> Node:
        return self.connection(("and",), self.statement)

    def connection(self, words: tuple[Connective, ...], inner: Callable[[], Node]) -> Node:
        first = self.next
        node = inner()
        while word := self.take(*words):
            after = self.next
            right = self.statement_of(inner(), after)
            node = Connection(self.statement_of(node, first), cast(Connective, word.text), right)
        return node

    def statement(self) -> Node:
        first = self.next
        node = self.sum()
        sign = self.take(*_RELATIONS)
        if sign is None:
            return node
        left, after = self.sum_of(node, first), self.next
        right = self.sum_of(self.sum(), after)
        if self.next.text in _RELATIONS:
            raise self.fail("A comparison has two sides", "write `a < b and b < c`")
        return Comparison(left, cast(Relation, sign.text), right)

    def sum(self) -> Node:
        return self.operation(("+", "-"), self.product)

    def product(self) -> Node:
        return self.operation(("*", "/"), self.factor)

    def operation(self, signs: tuple[Arithmetic, ...], inner: Callable[[], Node]) -> Node:
        first = self.next
        node = inner()
        while sign := self.take(*signs):
            after = self.next
            right = self.sum_of(inner(), after)
            node = Operation(self.sum_of(node, first), cast(Arithmetic, sign.text), right)
        return node

    def factor(self) -> Node:
        token = self.next
        if self.take("-", "("):
            self.depth += 1
            if self.depth > MAX_DEPTH:
                raise self.fail(f"More than {MAX_DEPTH} brackets or minus signs within one another")
            after = self.next
            node = Negative(self.sum_of(self.factor(), after)) if token.text == "-" else self.rule()
            self.depth -= 1
            if token.text == "(" and not self.take(")"):
                raise self.fail("A closing bracket is missing")
            return node
        if token.kind == "number":
            self.index += 1
            return self.number(token)
        if token.kind == "name" and token.text not in _CONNECTIVES:
            self.index += 1
            return Name(tuple(quoted or plain for quoted, plain in _PART.findall(token.text)))
        found = f"{_clip(token.text)!r}" if token.text else "the end"
        raise self.fail(f"A number, a name or a bracket should be where {found} is")

    def number(self, token: _Token) -> Number:
        value = float(token.text)
        if self.take("%"):
            value /= 100
        if not math.isfinite(value):
            raise self.fail(f"{_clip(token.text)!r} is too large a number", token=token)
        return Number(value)

    def statement_of(self, node: Node, token: _Token) -> Statement:
        if isinstance(node, Comparison | Connection):
            return node
        raise self.fail(
            "A rule says what is to hold, and this is only a number", f"write `{node} < 0.05`", token
        )

    def sum_of(self, node: Node, token: _Token) -> Sum:
        if isinstance(node, Comparison | Connection):
            raise self.fail("A number should be here, not a comparison", "join comparisons by and, or", token)
        return node


def _is_plain(part: str) -> bool:
    return _PLAIN.fullmatch(part) is not None and part not in _CONNECTIVES


def _clip(text: str) -> str:
    return text if len(text) <= 60 else text[:60] + "…"


def _error(problem: str, at: int, place: str, mend: str = "") -> SettingsError:
    advice = mend or "a rule looks like `p90 < 0.05` or `cer.mean < base.cer.mean`"
    return SettingsError(
        f"{problem}.", place=f"{place}, character {at + 1}", mend=f"{advice[0].upper()}{advice[1:]}."
    )
