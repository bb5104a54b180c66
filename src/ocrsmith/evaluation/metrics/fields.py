"""Field accuracy: how many of the named values of a form, receipt or certificate were read right.

Two notations are read, each on its own or with other text around the tags:

* tags: `<name>张三</name>`, or a name, a colon and a value tag: `姓名:<value>张三</value>`. Of nested tags the
  innermost name the field; tags of HTML tables and text (`td`, `b` …) are no fields.
* a JSON object, also within a Markdown code fence: nested names are joined by full stops, list entries numbered
  (`items[0].price`). Numbers stay as they are written; true, false and null are these words.

A name may come several times: its first value is compared with the first of the prediction, and so on.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from ocrsmith.text.normalise import Policy, parse_policy

Fields = tuple[tuple[str, str], ...]
"""(name, value) in the order of the text."""

NORMALISATION = parse_policy("nfkc+casefold+whitespace")
"""What "normalised" means unless another policy is given."""

MAX_FIELDS = 10_000
"""Fields of one text; what follows is left out."""

_TAGGED = re.compile(r"<([^\s<>/]{1,100})>([^<]*)</\1>")
_NAME_BEFORE = re.compile(r"([^\n<>:：]{1,100})[:：][ \t]*\Z")
_NO_FIELDS = frozenset(
    (
        *("table", "caption", "colgroup", "col", "thead", "tbody", "tfoot", "tr", "td", "th"),
        *("b", "i", "u", "s", "em", "strong", "sup", "sub", "del", "ins", "code", "span", "a"),
        *("br", "p", "div", "li", "ul", "ol", "html", "body", "h1", "h2", "h3", "h4", "h5", "h6"),
    )
)
_FENCE = re.compile(r"\A```[^\n`]*\n(.*?)\n?```\s*\Z", re.DOTALL)
_MAX_DEPTH = 50
"""Of nested JSON; what lies deeper is not looked at."""


@dataclass(frozen=True, slots=True)
class FieldScore:
    """How a field was read, over all texts that have it."""

    reference: int = 0
    """Times it is in the references."""
    exact: int = 0
    """Times its value was read right, character for character."""
    normalised: int = 0
    """Times it was read right under the normalisation policy."""
    missing: int = 0
    """Times it is in the reference, but not in the prediction."""
    invented: int = 0
    """Times it is in the prediction, but not in the reference."""

    @property
    def accuracy(self) -> float:
        """Share of its values that were read right; 1 where there are none, unless it was invented."""
        return self.exact / self.reference if self.reference else float(not self.invented)

    @property
    def normalised_accuracy(self) -> float:
        """The same under the normalisation policy."""
        return self.normalised / self.reference if self.reference else float(not self.invented)

    def __add__(self, other: FieldScore) -> FieldScore:
        """Of both together."""
        return FieldScore(
            self.reference + other.reference,
            self.exact + other.exact,
            self.normalised + other.normalised,
            self.missing + other.missing,
            self.invented + other.invented,
        )


@dataclass(frozen=True, slots=True)
class FieldsScore:
    """Field accuracy of one text or many."""

    by_name: Mapping[str, FieldScore]
    policy: str
    """Name of the normalisation policy."""
    unreadable: int = 0
    """Predictions without any field for references that have some: all their fields are missing."""

    @property
    def micro(self) -> FieldScore:
        """All fields together: each value counts the same."""
        return sum(self.by_name.values(), FieldScore())

    @property
    def macro_accuracy(self) -> float:
        """Mean accuracy of the fields that references have: each name counts the same; 1 of none."""
        return _mean([field.accuracy for field in self.by_name.values() if field.reference])

    @property
    def macro_normalised_accuracy(self) -> float:
        """The same under the normalisation policy."""
        return _mean([field.normalised_accuracy for field in self.by_name.values() if field.reference])

    @property
    def f1(self) -> float:
        """2 · right / (fields of references + of predictions): invented fields cost; 1 of none."""
        total = self.micro
        both = 2 * total.reference - total.missing + total.invented
        return 2 * total.exact / both if both else 1.0


def parse_fields(text: str) -> Fields:
    """The fields of a text; none where there are none or the JSON is damaged. Never raises."""
    fenced = _FENCE.match(text.strip())
    content = fenced[1].strip() if fenced else text.strip()
    if content.startswith("{"):
        return _from_json(content)
    return _from_tags(text)


def score_fields(
    references: Sequence[str], predictions: Sequence[str], *, policy: Policy = NORMALISATION
) -> FieldsScore:
    """Field accuracy of a set of texts, of one as well.

    Args:
        references: the true texts.
        predictions: what was read, in the same order.
        policy: what does not count in the normalised figures.

    Raises:
        ValueError: there are not as many references as predictions.
    """
    scores: defaultdict[str, FieldScore] = defaultdict(FieldScore)
    unreadable = 0
    for reference, prediction in zip(references, predictions, strict=True):
        true, read = _by_name(parse_fields(reference)), _by_name(parse_fields(prediction))
        unreadable += bool(true) and not read
        for name in {**true, **read}:
            scores[name] += _score(true.get(name, []), read.get(name, []), policy)
    return FieldsScore(MappingProxyType(dict(scores)), policy.name, unreadable)


def _score(true: list[str], read: list[str], policy: Policy) -> FieldScore:
    pairs = list(zip(true, read, strict=False))
    return FieldScore(
        reference=len(true),
        exact=sum(a == b for a, b in pairs),
        normalised=sum(policy.apply(a) == policy.apply(b) for a, b in pairs),
        missing=max(0, len(true) - len(read)),
        invented=max(0, len(read) - len(true)),
    )


def _by_name(fields: Fields) -> dict[str, list[str]]:
    values: defaultdict[str, list[str]] = defaultdict(list)
    for name, value in fields:
        values[name].append(value)
    return dict(values)


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else 1.0


def _from_tags(text: str) -> Fields:
    fields: list[tuple[str, str]] = []
    end = 0
    for tagged in _TAGGED.finditer(text):
        name = tagged[1]
        before = _NAME_BEFORE.search(text, max(end, tagged.start() - 110), tagged.start())
        end = tagged.end()
        if name.lower() in _NO_FIELDS or len(fields) == MAX_FIELDS:
            continue
        if name == "value" and before:
            name = before[1].strip() or name
        fields.append((name, tagged[2].strip()))
    return tuple(fields)


def _from_json(content: str) -> Fields:
    try:
        value = json.loads(
            content, object_pairs_hook=_Object, parse_int=str, parse_float=str, parse_constant=str
        )
    except (ValueError, RecursionError):  # damaged, or nested without end
        return ()
    fields: list[tuple[str, str]] = []
    for field in _leaves(value, "", 0):
        if len(fields) == MAX_FIELDS:
            break
        fields.append(field)
    return tuple(fields)


class _Object(list[tuple[str, object]]):
    """A JSON object, names that come twice kept."""


def _leaves(value: object, name: str, depth: int) -> Iterator[tuple[str, str]]:
    if isinstance(value, list) and depth == _MAX_DEPTH:
        yield name, "…"  # as good as unread
    elif isinstance(value, _Object):
        for key, inner in value:
            yield from _leaves(inner, f"{name}.{key}" if name else key, depth + 1)
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _leaves(inner, f"{name}[{number}]", depth + 1)
    elif isinstance(value, str):
        yield name, value.strip()
    else:
        yield name, json.dumps(value)  # null, true, false: numbers were read as strings
