"""What was read as what, how often: the confusion table, and the characters that a model never writes."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from ocrsmith.evaluation.error_spans import PageErrors
from ocrsmith.settings.files import write_text

MAX_PAIRS = 500_000
"""Different pairs kept. Beyond it those met once go, so that memory stays bounded; `dropped` counts them."""

_ESCAPES = MappingProxyType({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})


@dataclass(frozen=True, slots=True)
class Confusion:
    """`reference` was read as `prediction`. One side is empty where a character was left out or added."""

    reference: str
    prediction: str
    count: int
    rate: float | None
    """`count` over the times that `reference` stands in the references; None where it is empty or a group."""


@dataclass
class ConfusionTable:
    """Counts confusions page by page.

    Taken are spans of the kinds `confusion` (of equally long ones character by character, but for swapped
    neighbours such as 12 and 21, which stay a pair; of others the group: rn and m), and `insertion` and
    `omission` of one character. Longer ones are no confusions of characters.
    """

    pairs: Counter[tuple[str, str]] = field(default_factory=Counter)
    references: Counter[str] = field(default_factory=Counter)
    """How often each character stands in the references."""
    predictions: Counter[str] = field(default_factory=Counter)
    dropped: int = 0

    @classmethod
    def of(cls, pages: Iterable[PageErrors]) -> ConfusionTable:
        """The table of all pages, taken one at a time."""
        table = cls()
        for page in pages:
            table.add(page)
        return table

    def add(self, page: PageErrors) -> None:
        """Counts a page. A failed one counts for nothing: nobody looked at its characters."""
        if page.failed:
            return
        self.references.update(page.reference)
        self.predictions.update(page.prediction)
        for span in page.spans:
            true = page.reference[span.ref_start : span.ref_end]
            read = page.prediction[span.pred_start : span.pred_end]
            if span.kind == "confusion":
                self.pairs.update(_pairs(true, read))
            elif span.kind in ("insertion", "omission") and len(true) + len(read) == 1:
                self.pairs[true, read] += 1
        if len(self.pairs) > MAX_PAIRS:
            once = [pair for pair, count in self.pairs.items() if count == 1]
            for pair in once:
                del self.pairs[pair]
            self.dropped += len(once)

    def top(self, n: int | None = None) -> list[Confusion]:
        """The commonest pairs, commonest first, equally common ones in the order of their characters."""
        ordered = sorted(self.pairs.items(), key=lambda item: (-item[1], item[0]))
        return [Confusion(*pair, count, self._rate(pair[0], count)) for pair, count in ordered[:n]]

    def _rate(self, reference: str, count: int) -> float | None:
        return count / self.references[reference] if len(reference) == 1 else None

    def never_written(self, least: int = 1) -> list[tuple[str, int]]:
        """Characters that stand at least `least` times in the references and in no prediction, commonest first:
        what the model does not know, or has no token for."""
        missing = [
            (character, count)
            for character, count in self.references.items()
            if count >= least and character not in self.predictions and not character.isspace()
        ]
        return sorted(missing, key=lambda item: (-item[1], item[0]))

    def write_for_synthesis(self, path: Path, n: int | None = None) -> int:
        """Writes the file that `ocrsmith data synth --confusions` takes: `reference<tab>prediction<tab>count`
        a line, no header, single characters; one side may be empty.

        Groups, spaces and characters that nobody sees are left out: they cannot be rendered as one character.

        Returns:
            Lines written; where it is 0, there is no file (`data synth` refuses an empty one).

        Raises:
            OutputError: it cannot be written.
        """
        counts: Counter[tuple[str, str]] = Counter()
        for pair, count in self.pairs.items():
            true, read = (unicodedata.normalize("NFC", side) for side in pair)
            if true != read and all(map(_renderable, (true, read))):
                counts[true, read] += count
        ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:n]
        if ordered:
            write_text(path, "".join(f"{true}\t{read}\t{count}\n" for (true, read), count in ordered))
        return len(ordered)


def write_table(path: Path, confusions: Iterable[Confusion]) -> None:
    """Writes all pairs, groups too: `reference<tab>prediction<tab>count` under a header line, with backslash,
    tab and line ends escaped as in label files. Raises OutputError."""
    lines = (f"{_escape(c.reference)}\t{_escape(c.prediction)}\t{c.count}\n" for c in confusions)
    write_text(path, "reference\tprediction\tcount\n" + "".join(lines))


def write_characters(path: Path, characters: Mapping[str, int] | Iterable[tuple[str, int]]) -> int:
    """Writes the file that `ocrsmith data synth --chars` takes: `character<tab>weight` a line.

    Returns:
        Lines written; where it is 0, there is no file.
    """
    pairs = characters.items() if isinstance(characters, Mapping) else characters
    lines = [f"{one}\t{count}\n" for one, count in pairs if one and count > 0 and _renderable(one)]
    if lines:
        write_text(path, "".join(lines))
    return len(lines)


def _pairs(true: str, read: str) -> Iterator[tuple[str, str]]:
    if len(true) != len(read) or (len(true) == 2 and true == read[::-1]):
        yield true, read
        return
    yield from ((one, other) for one, other in zip(true, read, strict=True) if one != other)


def _renderable(side: str) -> bool:
    """Whether a side is empty, or one visible character that the reader of the file takes as one."""
    if not side:
        return True
    return (
        len(unicodedata.normalize("NFC", side)) == 1
        and not side.isspace()
        and (unicodedata.category(side)[0] not in "CZ")
    )


def _escape(text: str) -> str:
    return "".join(_ESCAPES.get(character, character) for character in text)
