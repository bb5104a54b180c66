"""Every figure of an evaluation beside CER, each over the pages that it applies to.

    wer, ned, exact, chrf, rouge_l, bleu    all pages
    tables                                  references with tables, in HTML or Markdown
    fields                                  references that are JSON objects, or lines of `<key>value</key>`
    order                                   references that are Markdown documents: two blocks or more
    boxes                                   references with boxes

A page that failed counts as the worst in each. Shares run from 0 to 1, and what `statistics.METHODS`
says of CER holds for all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ocrsmith.evaluation.figures.layout import box_columns, order_section
from ocrsmith.evaluation.figures.section import Section, Texts
from ocrsmith.evaluation.figures.structure import field_section, table_section
from ocrsmith.evaluation.figures.text import score_texts, text_section
from ocrsmith.evaluation.metrics.lines import LineScores
from ocrsmith.evaluation.statistics import Figure, figures_over
from ocrsmith.evaluation.store import PageResult

__all__ = ["Figures", "Texts", "figures_of", "score_texts"]


@dataclass(frozen=True)
class Figures:
    """Figures by name.

    Attributes:
        figures: those that apply to at least one page: "wer", "tables.cells.f1" …
        notes: what else is to be known, by name as well: "tables.skipped", "bleu.tokens" …
    """

    figures: Mapping[str, Figure]
    notes: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Nested objects: {"wer": {"n": …, "mean": …}, "tables": {"teds": {…}, "skipped": 0}, …}."""
        whole: dict[str, Any] = {}
        for name, figure in self.figures.items():
            _put(whole, name, figure.to_json())
        for name, note in self.notes.items():
            _put(whole, name, note)
        return whole


def figures_of(results: Sequence[PageResult], lines: LineScores | None = None) -> Figures:
    """All figures of an evaluation's pages.

    Args:
        results: at least one.
        lines: `score_texts` of their texts as they are, if it is at hand.
    """
    texts = Texts.of(results)
    scores = score_texts(texts) if lines is None else lines
    sections = list(_sections(texts, scores))
    columns = [column for section in sections for column in section.columns]
    figures = figures_over(columns, [result.group for result in results])
    notes = {name: note for section in sections for name, note in section.notes.items()}
    return Figures(figures, notes)


def _sections(texts: Texts, lines: LineScores) -> Iterator[Section]:
    yield text_section(texts, lines)
    yield table_section(texts)
    yield field_section(texts)
    yield order_section(texts)
    yield Section(box_columns(texts))


def _put(whole: dict[str, Any], name: str, value: Any) -> None:
    *path, last = name.split(".")
    for part in path:
        whole = whole.setdefault(part, {})
    whole[last] = value
