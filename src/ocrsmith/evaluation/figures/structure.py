"""Figures of pages whose references are, or hold, tables and fields."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ocrsmith.evaluation.figures.section import Section, Texts, affordable
from ocrsmith.evaluation.metrics.documents import Block, match_blocks
from ocrsmith.evaluation.metrics.fields import FieldsScore, parse_fields, score_fields
from ocrsmith.evaluation.metrics.tables import (
    CellScore,
    Table,
    parse_html_tables,
    parse_markdown_tables,
    score_cells,
)
from ocrsmith.evaluation.metrics.teds import MAX_NODES, score_teds
from ocrsmith.evaluation.statistics import Column, Floats

TEDS_WORK = 100_000_000
"""Pairs of nodes that TEDS compares in all: a few minutes at most. Pages that would go beyond, those with the
largest tables, get no TEDS and are counted."""
MAX_TABLES = 500
"""Tables of a page, on either side; the others count as missing, and as made up."""
MAX_NAMES = 200
"""Names of fields that are listed one by one, the commonest first."""

_Pair = tuple[Table | None, Table | None]


# --- tables --------------------------------------------------------------------------------------------------


def tables_in(text: str) -> list[Table]:
    """The tables of a text, in HTML and then in Markdown."""
    return [*parse_html_tables(text), *parse_markdown_tables(text)]


def pair_tables(true: Sequence[Table], read: Sequence[Table]) -> list[_Pair]:
    """Sets tables side by side: the likest first, then what is left in order; None where there is none."""
    first, second = (list(tables[:MAX_TABLES]) for tables in (true, read))
    blocks = ([Block("table", table.text, table) for table in tables] for tables in (first, second))
    partner = dict(match_blocks(*blocks))
    left = [place for place in range(len(second)) if place not in set(partner.values())]
    alone = [place for place in range(len(first)) if place not in partner]
    partner |= dict(zip(alone, left, strict=False))
    rest = [*left[len(alone) :], *range(len(second), len(read))]
    pairs: list[_Pair] = [
        (table, read[partner[place]] if place in partner else None) for place, table in enumerate(true)
    ]
    return [*pairs, *((None, read[place]) for place in rest)]


def teds_work(true: Table | None, read: Table | None) -> int:
    """Pairs of nodes that TEDS compares, about."""
    if true is None or read is None or true == read:
        return 0
    first, second = (min(MAX_NODES, len(table.cells) + table.rows + 1) for table in (true, read))
    return first * second


def table_section(texts: Texts) -> Section:
    """TEDS, TEDS-structure and cells of the pages whose references have tables."""
    pairs: dict[int, list[_Pair]] = {}
    for page, reference in enumerate(texts.references):
        if true := tables_in(reference):
            pairs[page] = pair_tables(true, tables_in(texts.predictions[page]))
    if not pairs:
        return Section()
    count = len(texts.references)
    work = {page: sum(teds_work(*pair) for pair in own) for page, own in pairs.items()}
    compared = affordable(work, TEDS_WORK)
    teds = np.full((count, 3), np.nan)  # sum of TEDS, of TEDS-structure, tables
    cells = np.full((count, 3), np.nan)  # right, in the reference, read
    for page, own in pairs.items():
        total = sum((score_cells(*pair) for pair in own), CellScore(0, 0, 0))
        cells[page] = total.right, total.reference, total.prediction
        if page in compared:
            scores = [score_teds(*pair, sections=_have_sections(*pair)) for pair in own]
            teds[page] = sum(s.teds for s in scores), sum(s.structure for s in scores), len(scores)
    right, in_reference, in_prediction = cells.T
    columns = [
        share("tables.teds", teds[:, 0], teds[:, 2]),
        share("tables.structure", teds[:, 1], teds[:, 2]),
        share("tables.cells.precision", right, in_prediction),
        share("tables.cells.recall", right, in_reference),
        share("tables.cells.f1", 2 * right, in_reference + in_prediction),
    ]
    return Section(columns, {"tables.skipped": len(pairs) - len(compared)})


def _have_sections(true: Table | None, read: Table | None) -> bool:
    """`thead` and `tbody` count only where both have some: Markdown tables always do, a model's HTML rarely."""
    return bool(true and read and true.sections and read.sections)


def share(name: str, above: Floats, below: Floats) -> Column:
    """The column of a share: counts on each page, NaN where it does not apply. Of nothing it is 0."""
    values = above / np.where(below > 0, below, 1)
    return Column(name, values, np.stack([above, below], axis=1))


# --- fields --------------------------------------------------------------------------------------------------


def has_fields(text: str) -> bool:
    """Whether a text is a JSON object or lines of fields, and not a page that has a tag somewhere."""
    fields = parse_fields(text)
    if not fields or text.lstrip().startswith(("{", "```")):
        return bool(fields)
    return 2 * len(fields) >= sum(bool(line.strip()) for line in text.split("\n"))


def field_section(texts: Texts) -> Section:
    """Field accuracy of the pages whose references are fields."""
    pages = [page for page, reference in enumerate(texts.references) if has_fields(reference)]
    if not pages:
        return Section()
    own = texts.at(pages)
    counts = np.full((len(texts.references), 4), np.nan)  # right, right if normalised, fields, of both sides
    for page, true, read in zip(pages, own.references, own.predictions, strict=True):
        score = score_fields([true], [read]).micro
        both = 2 * score.reference - score.missing + score.invented
        counts[page] = score.exact, score.normalised, score.reference, both
    exact, normalised, fields, both_sides = counts.T
    columns = [
        share("fields.exact", exact, fields),
        share("fields.normalised", normalised, fields),
        share("fields.f1", 2 * exact, both_sides),
    ]
    return Section(columns, _field_notes(score_fields(own.references, own.predictions)))


def _field_notes(scores: FieldsScore) -> dict[str, Any]:
    names = sorted(scores.by_name, key=lambda name: (-scores.by_name[name].reference, name))
    by_name = {
        name: {
            "n": field.reference,
            "exact": field.accuracy,
            "normalised": field.normalised_accuracy,
            "missing": field.missing,
            "invented": field.invented,
        }
        for name in names[:MAX_NAMES]
        for field in (scores.by_name[name],)
    }
    return {
        "fields.macro": {"exact": scores.macro_accuracy, "normalised": scores.macro_normalised_accuracy},
        "fields.policy": scores.policy,
        "fields.unreadable": scores.unreadable,
        "fields.names": len(names),
        "fields.by_name": by_name,
    }
