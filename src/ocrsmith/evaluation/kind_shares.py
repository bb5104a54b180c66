"""Error kinds over all pages: how many, what share of all edits, on how many pages, and examples to look at."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from ocrsmith.evaluation.error_spans import KINDS, ErrorKind, ErrorSpan, PageErrors

EXAMPLES = 5
"""Examples kept of each kind, at most one from a page."""
CONTEXT = 20
"""Characters shown on either side of an example."""
SHOWN = 80
"""Characters shown of each side of an example; the middle of longer ones is left out."""


@dataclass(frozen=True, slots=True)
class Example:
    """An error with its surroundings, short enough to print; line breaks and marks as they are in the text."""

    page: str
    """The page's id."""
    reference: str
    prediction: str
    before: str
    """What stands before it in the reference."""
    after: str
    edits: int


@dataclass(frozen=True, slots=True)
class KindShare:
    """One kind over all pages."""

    kind: ErrorKind
    spans: int
    edits: int
    share: float
    """Of all edits, 0 to 1; 0 where there are none."""
    pages: int
    """Pages that have at least one."""
    examples: tuple[Example, ...]


@dataclass(frozen=True, slots=True)
class KindShares:
    """All kinds, in the order of `KINDS`.

    Attributes:
        pages: all pages.
        wrong: pages with at least one edit.
        failed: pages without a result; their references count as `omission`.
        edits: of all pages; those of the kinds sum to it.
        kinds: every kind, those with none too.
        notes: what a reader of these figures must know; a sentence each.
    """

    pages: int
    wrong: int
    failed: int
    edits: int
    kinds: tuple[KindShare, ...]
    notes: tuple[str, ...]

    def __getitem__(self, kind: ErrorKind) -> KindShare:
        return self.kinds[KINDS.index(kind)]

    def to_json(self) -> dict[str, Any]:
        """{"pages": …, "kinds": {"loop": {"spans": …, "edits": …, "share": …, "pages": …, "examples": […]}}}"""
        figures: Mapping[str, Any] = asdict(self)
        kinds = {item["kind"]: {k: v for k, v in item.items() if k != "kind"} for item in figures["kinds"]}
        return {**figures, "kinds": kinds, "notes": list(self.notes)}


@dataclass
class _Tally:
    spans: Counter[ErrorKind] = field(default_factory=Counter)
    edits: Counter[ErrorKind] = field(default_factory=Counter)
    pages: Counter[ErrorKind] = field(default_factory=Counter)
    examples: dict[ErrorKind, list[Example]] = field(default_factory=dict)

    def add(self, page: PageErrors, examples: int) -> None:
        seen: set[ErrorKind] = set()
        for span in page.spans:
            self.spans[span.kind] += 1
            self.edits[span.kind] += span.edits
            if span.kind not in seen:
                seen.add(span.kind)
                self.pages[span.kind] += 1
                kept = self.examples.setdefault(span.kind, [])
                if len(kept) < examples:
                    kept.append(example(page, span))


def summarise(pages: Iterable[PageErrors], *, examples: int = EXAMPLES) -> KindShares:
    """Figures over all pages. Pages are taken one at a time and not kept."""
    tally = _Tally()
    count = wrong = failed = inexact = 0
    notes: dict[str, int] = {}
    for page in pages:
        count += 1
        wrong += page.edits > 0
        failed += page.failed
        inexact += not page.exact
        if page.note:
            notes[page.note] = notes.get(page.note, 0) + 1
        tally.add(page, examples)
    edits = tally.edits.total()
    kinds = tuple(
        KindShare(
            kind,
            tally.spans[kind],
            tally.edits[kind],
            tally.edits[kind] / edits if edits else 0.0,
            tally.pages[kind],
            tuple(tally.examples.get(kind, ())),
        )
        for kind in KINDS
    )
    sentences = list(notes)
    if failed:
        sentences.append(f"Pages that failed: {failed:,}. All their text counts as omission.")
    if inexact:
        sentences.append(f"Pages too long for an exact alignment: {inexact:,}. They may count too many edits.")
    return KindShares(count, wrong, failed, edits, kinds, tuple(sentences))


def example(page: PageErrors, span: ErrorSpan) -> Example:
    """An error with its surroundings, cut to `SHOWN` and `CONTEXT` characters."""
    return Example(
        page.id,
        _shorten(page.reference[span.ref_start : span.ref_end]),
        _shorten(page.prediction[span.pred_start : span.pred_end]),
        page.reference[max(0, span.ref_start - CONTEXT) : span.ref_start],
        page.reference[span.ref_end : span.ref_end + CONTEXT],
        span.edits,
    )


def _shorten(text: str) -> str:
    half = SHOWN // 2
    return text if len(text) <= SHOWN else f"{text[:half]} … {text[-half:]}"
