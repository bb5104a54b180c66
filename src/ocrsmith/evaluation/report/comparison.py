"""Reports of comparisons: two evaluations page by page, and several side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from ocrsmith.evaluation.report.cards import Card, make_card, make_reading
from ocrsmith.evaluation.report.chart import chart
from ocrsmith.evaluation.report.layout import environment
from ocrsmith.evaluation.report.wording import FIGURES, FINISH, figure, flat, model_name

if TYPE_CHECKING:
    from ocrsmith.evaluation.compare import Comparison, Comparisons, PagePair
    from ocrsmith.evaluation.compare.strata import StratumEffect
    from ocrsmith.evaluation.report.render import ImageSource

CHANGED = 10
"""Pages shown with their images, of those that worsened and of those that improved."""
WORST = 5
"""Regressions named at the top."""
LABELS = 12
"""Strata of a dimension that are shown, the largest rises of CER first."""

_WORDS: Mapping[str, tuple[str, str]] = {
    **{key: (name, text) for key, name, text in FIGURES},
    "wer.mean": ("WER", "Word error rate."),
    "ned.mean": ("Edit distance", "Edits over the length of the longer text."),
    "chrf.mean": ("chrF", "Character n-grams in common; the higher the better."),
    "rouge_l.mean": ("ROUGE-L", "Words in common, in order; the higher the better."),
    "bleu.mean": ("BLEU", "Word n-grams in common; the higher the better."),
    "tables.teds.mean": ("Tables: TEDS", "Likeness of tables, cells included; the higher the better."),
    "tables.structure.mean": ("Tables: structure", "Likeness of tables without what the cells say."),
    "tables.cells.f1.mean": ("Table cells: F1", "Cells with the right text in the right place."),
    "tables.cells.precision.mean": ("Table cells: precision", "Of the cells read, those that are right."),
    "tables.cells.recall.mean": (
        "Table cells: recall",
        "Of the page's cells, those that were read right.",
    ),
    "fields.exact.mean": ("Fields right", "Fields whose value is right to the character."),
    "fields.normalised.mean": ("Fields right, normalised", "The same, with spelling normalised."),
    "fields.f1.mean": ("Fields: F1", "The same, invented fields charged, too."),
    "order.text.mean": ("Text blocks: distance", "Edits over matched and unmatched blocks of text."),
    "order.formulas.mean": ("Formulas: distance", "The same for display formulas."),
    "order.reading.mean": ("Reading order: distance", "Blocks out of their order."),
    "boxes.f1.mean": ("Boxes: F1", "Boxes with the right label in the right place."),
    "boxes.precision.mean": ("Boxes: precision", "Of the boxes given, those that are right."),
    "boxes.recall.mean": ("Boxes: recall", "Of the boxes of the page, those that were found."),
    "boxes.iou.mean": ("Boxes: overlap", "Common area over area of both."),
}
"""Name and explanation of figures; others go by their key. Those without `cer.` are averages over pages."""


def figure_name(key: str) -> str:
    """How a figure is called in the tables of comparisons."""
    return _WORDS.get(key, (key, ""))[0]


def render_comparison(comparison: Comparison, names: tuple[str, str], images: ImageSource) -> str:
    """The report of a comparison, as HTML.

    Args:
        comparison: at least one page.
        names: how A and B are called, e.g. their folders.
        images: gives the images of the samples shown.
    """
    improved, worsened = comparison.improved, comparison.worsened
    files = images([pair.a.id for pair in (*worsened[:CHANGED], *improved[:CHANGED])])
    rates = [[pair.score_a.cer for pair in comparison.pairs], [pair.score_b.cer for pair in comparison.pairs]]
    same = len(comparison.pairs) - len(improved) - len(worsened)
    effects = {"cer.mean": comparison.effect, **comparison.line_effects}
    return (
        environment()
        .get_template("comparison.html")
        .render(
            title=f"{names[0]} → {names[1]}",
            names=names,
            comparison=comparison,
            models=[model_name(comparison.provenance_a), model_name(comparison.provenance_b)],
            rows=[
                (*_WORDS.get(item.name, (item.name, "")), item, effects.get(item.name))
                for item in comparison.changes
            ],
            strata=_shown(comparison.strata),
            chart=chart(rates),
            counts={"improved": len(improved), "worsened": len(worsened), "same": same},
            worst=worsened[:WORST],
            worsened=[_card(pair, files) for pair in worsened[:CHANGED]],
            improved=[_card(pair, files) for pair in improved[:CHANGED]],
            flips=_flips(comparison),
            provenance=[flat(comparison.provenance_a), flat(comparison.provenance_b)],
        )
    )


def render_comparisons(comparisons: Comparisons, files: Sequence[str]) -> str:
    """Several evaluations side by side, as HTML.

    Args:
        comparisons: every evaluation against the same base.
        files: name of the report of each comparison, in the same folder.
    """
    rows = [
        (
            *_WORDS.get(row.name, (row.name, "")),
            [(figure(row.name, value), place in row.best) for place, value in enumerate(row.values)],
        )
        for row in comparisons.rows
    ]
    return (
        environment()
        .get_template("comparisons.html")
        .render(
            title=f"{comparisons.names[0]} and {len(comparisons.comparisons)} more",
            names=comparisons.names,
            first=comparisons.comparisons[0],
            items=list(zip(comparisons.names[1:], comparisons.comparisons, files, strict=True)),
            rows=rows,
        )
    )


def _shown(strata: Sequence[StratumEffect]) -> list[tuple[str, list[StratumEffect], int]]:
    """For each dimension the strata to show, and how many are not."""
    found = []
    for dimension, items in groupby(strata, key=lambda item: item.dimension):
        members = list(items)
        found.append((dimension, members[:LABELS], max(0, len(members) - LABELS)))
    return found


def _flips(comparison: Comparison) -> list[tuple[str, list[PagePair]]]:
    """What flipped, in words, with its pages; what got worse comes first."""
    ends = comparison.end_flips
    return [
        ("No longer exact", comparison.lost_exact),
        *((f"Now {FINISH[flips.reason]}", list(flips.became)) for flips in ends if flips.became),
        ("Now exact", comparison.became_exact),
        *((f"No longer {FINISH[flips.reason]}", list(flips.recovered)) for flips in ends if flips.recovered),
    ]


def _card(pair: PagePair, files: Mapping[str, bytes]) -> Card:
    readings = [make_reading("A", pair.a, pair.score_a), make_reading("B", pair.b, pair.score_b)]
    return make_card(pair.a, readings, files, pair.change)
