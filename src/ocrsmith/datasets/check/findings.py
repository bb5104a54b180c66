"""What a check can find: a code, how bad it is, how often it was seen, examples, and what to do about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from ocrsmith.datasets.check.picture import thumbnail
from ocrsmith.datasets.check.rules import RULES, SEVERITIES, Severity
from ocrsmith.records import SPLITS, PageSample, SplitName

Part = SplitName | None
"""The split of a sample; None for sources that are not split yet."""
PARTS: tuple[Part, ...] = (*SPLITS, None)

MOST_EXAMPLES = 6
_EXCERPT = 90
"""Characters of a text that an example shows, around the marked place if there is one."""


@dataclass(frozen=True, slots=True)
class Example:
    """A sample in which something was found."""

    id: str
    split: Part
    text: str
    """The text, or an excerpt around the place."""
    mark: tuple[int, int] | None = None
    """Start and end of the place within `text`."""
    note: str = ""
    """What was found, where the text does not show it."""
    thumbnail: str = ""
    """A small picture as a `data:` address; only in the HTML report."""

    @classmethod
    def of(
        cls,
        sample: PageSample,
        split: Part,
        *,
        place: tuple[int, int] | None = None,
        note: str = "",
        thumbnail: str = "",
    ) -> Example:
        """An example with an excerpt of the sample's text.

        Args:
            place: start and end of what was found.
        """
        text, mark = excerpt(sample.text, place)
        return cls(sample.id, split, text, mark, note, thumbnail)

    def to_json(self) -> dict[str, Any]:
        """Without the picture."""
        value = {"id": self.id, "split": self.split, "text": self.text, "mark": self.mark, "note": self.note}
        return {key: item for key, item in value.items() if item not in ("", None)}


@dataclass(frozen=True, slots=True)
class Finding:
    """One kind of thing that is wrong or worth knowing."""

    code: str
    """Short and stable, for scripts."""
    severity: Severity
    title: str
    """One line for a person."""
    detail: str
    """Figures and characters, where there are any to tell; else empty."""
    count: int
    """Samples concerned; 0 where it is about the set as a whole."""
    share: float
    """Of all samples."""
    mend: str
    """What to do, in the imperative."""
    examples: Sequence[Example] = field(default_factory=tuple)

    def to_json(self) -> dict[str, Any]:
        """As JSON."""
        return {**asdict(self), "examples": [example.to_json() for example in self.examples]}


def finding(
    code: str,
    count: int,
    total: int,
    examples: Sequence[Example] = (),
    *,
    severity: Severity | None = None,
    detail: str = "",
) -> Finding:
    """A finding of a known code.

    Args:
        count: samples concerned, of `total`; 0 where it is about the set as a whole.
        severity: instead of the usual one.
        detail: figures and characters to tell.
    """
    rule = RULES[code]
    share = count / total if total else 0.0
    examples = tuple(examples)
    return Finding(code, severity or rule.severity, rule.title, detail, count, share, rule.mend, examples)


def ordered(findings: Sequence[Finding]) -> list[Finding]:
    """Errors first, then as in `RULES`."""
    codes = list(RULES)
    return sorted(findings, key=lambda item: (SEVERITIES.index(item.severity), codes.index(item.code)))


def excerpt(text: str, place: tuple[int, int] | None = None) -> tuple[str, tuple[int, int] | None]:
    """A part of a text around `place`, and where `place` lies in it."""
    if place is None:
        return (text if len(text) <= _EXCERPT else text[:_EXCERPT] + " …"), None
    start, end = place
    end = min(end, start + _EXCERPT // 2)
    first = 0 if end < _EXCERPT else max(0, start - _EXCERPT // 2)
    last = min(len(text), max(end, first + _EXCERPT))
    head = "… " if first else ""
    shown = head + text[first:last] + (" …" if last < len(text) else "")
    shift = len(head) - first
    return shown, (start + shift, end + shift)


class Group:
    """Counts the samples of one kind, and keeps the first few as examples."""

    __slots__ = ("count", "examples")

    def __init__(self) -> None:
        self.count = 0
        self.examples: list[Example] = []

    def add(
        self,
        sample: PageSample,
        split: Part,
        *,
        place: tuple[int, int] | None = None,
        note: str = "",
        picture: bool = False,
    ) -> None:
        """Counts a sample; with `picture`, an example gets a thumbnail."""
        self.count += 1
        if len(self.examples) < MOST_EXAMPLES:
            small = thumbnail(sample.image) if picture else ""
            self.examples.append(Example.of(sample, split, place=place, note=note, thumbnail=small))
