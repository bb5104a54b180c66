"""Lays out the report of an evaluation: chooses the samples, prepares what the template shows."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ocrsmith.engines.confidence import has_probabilities, page_confidence
from ocrsmith.evaluation.error_kinds import KINDS
from ocrsmith.evaluation.report import sections
from ocrsmith.evaluation.report.before import Before, headline, pair_pages
from ocrsmith.evaluation.report.cards import LOW_CONFIDENCE, Card, make_card, make_reading
from ocrsmith.evaluation.report.catalogue import Source, catalogue, find_page_errors, priority, script_json
from ocrsmith.evaluation.report.chart import chart, confidence_chart
from ocrsmith.evaluation.report.diff import CHARACTER_NAMES, visible
from ocrsmith.evaluation.report.filters import Filters, useful
from ocrsmith.evaluation.report.layout import environment
from ocrsmith.evaluation.report.picture import Album, Picture
from ocrsmith.evaluation.report.wording import (
    FIGURES,
    FINISH,
    KIND_WORDS,
    data_name,
    duration,
    figure,
    figure_change,
    figure_value,
    flat,
    model_name,
    percent,
    points,
    seen,
    signed,
)
from ocrsmith.evaluation.statistics import Metrics
from ocrsmith.evaluation.store import Evaluation
from ocrsmith.evaluation.strata import assign, in_order

__all__ = [
    "FIGURES",
    "KIND_WORDS",
    "ImageSource",
    "duration",
    "figure",
    "figure_change",
    "figure_value",
    "percent",
    "points",
    "render_evaluation",
    "signed",
]

_SURROGATES = re.compile("[\ud800-\udfff]")

ImageSource = Callable[[Sequence[str]], Mapping[str, bytes]]
"""Gives the image files of samples by id; what it does not have is shown as missing."""

WORST = 10
BEST = 5
IMAGES = 80
"""Images in a report, where it has so many pages."""
LARGEST = 15_000_000
"""Bytes of a whole report."""
_ROWS_SHARE, _IMAGES_SHARE = 0.3, 0.55  # what is left is for the figures and the cards


@dataclass(frozen=True)
class Material:
    """What a report is made from, computed once however often it has to be laid out anew."""

    evaluation: Evaluation
    figures: Mapping[str, Any]
    base: Mapping[str, Any] | None
    before: Before | None
    source: Source
    filters: Filters
    worst: Sequence[int]
    best: Sequence[int]
    order: Sequence[int]
    files: Mapping[str, bytes]


def render_evaluation(
    evaluation: Evaluation,
    figures: Mapping[str, Any],
    images: ImageSource,
    *,
    base: tuple[Evaluation, Mapping[str, Any]] | None = None,
) -> str:
    """The report of one evaluation, as HTML of at most `LARGEST` bytes.

    Args:
        evaluation: at least one page.
        figures: what metrics.json holds of it (`store.load_figures`); sections without a key are left out.
        images: gives the images of the samples shown.
        base: an earlier evaluation of the same pages and its figures, to show before and after.
    """
    material = _material(evaluation, figures, images, base)
    for share in (1.0, 0.5, 0.25, 0.1, 0.0):
        page = _SURROGATES.sub("\ufffd", _lay_out(material, share))
        if len(page.encode("utf-8")) <= LARGEST:
            break
    return page


def _material(
    evaluation: Evaluation,
    figures: Mapping[str, Any],
    images: ImageSource,
    base: tuple[Evaluation, Mapping[str, Any]] | None,
) -> Material:
    before = pair_pages(evaluation, base[0]) if base else None
    results = evaluation.results
    known = any(has_probabilities(result) for result in results)
    confidences = [page_confidence(result) if known else None for result in results]
    pairs = [(row["reference"], row["prediction"]) for row in figures.get("confusions") or ()]
    errors = find_page_errors(evaluation)
    labels = useful(assign(results))
    source = Source(evaluation, confidences, errors, labels, pairs, before.pages if before else {})
    filters = Filters.of(
        sorted({span.kind for page in errors for span in page.spans}),
        [(seen(true), seen(read)) for true, read in pairs],
        {name: in_order(name, found) for name, found in labels.items()},
        ended=[result.finish_reason for result in results],
        before=before is not None,
        confidence=known,
    )
    worst, best = choose(evaluation)
    order = priority(source, [*worst, *best])
    files = images([results[place].id for place in order[:IMAGES]])
    whole = (
        base is not None and before is not None and len(before.pages) == len(results) == len(base[0].results)
    )
    earlier = base[1] if base and whole else None
    return Material(evaluation, figures, earlier, before, source, filters, worst, best, order, files)


def _lay_out(material: Material, share: float) -> str:
    """The page, with `share` of the usual room for images and rows."""
    evaluation, figures, before = material.evaluation, material.figures, material.before
    listed = catalogue(material.source, material.order, int(LARGEST * _ROWS_SHARE * share))
    pictures = _pictures(material, int(LARGEST * _IMAGES_SHARE * share))
    cards = {place: _card(material, place, pictures.get(place)) for place in (*material.worst, *material.best)}
    known = [value for value in material.source.confidences if value is not None]
    drawn = [[score.cer for score in evaluation.scores]]
    if before is not None:
        pairs = before.pages.items()
        drawn = [[old for _, (old, _) in pairs], [evaluation.scores[place].cer for place, _ in pairs]]
    return (
        environment()
        .get_template("evaluation.html")
        .render(
            title=visible(f"{model_name(evaluation.provenance)} on {data_name(evaluation.provenance)}"),
            script="report.js",
            headline=headline(evaluation.metrics, before),
            before=before,
            whole=material.base is not None,
            metrics=evaluation.metrics,
            rows=_rows(evaluation.metrics, before),
            chart=chart(drawn),
            confidence_chart=confidence_chart(known) if known else None,
            **_sections(figures, material.base),
            catalogue=listed,
            filters=material.filters,
            threshold=LOW_CONFIDENCE if any(result.token_ends for result in evaluation.results) else None,
            images=pictures,
            worst=[cards[place] for place in material.worst],
            best=[cards[place] for place in material.best],
            provenance=flat(evaluation.provenance),
            created=evaluation.provenance.get("created", ""),
            data=script_json(
                {
                    "rows": listed.rows,
                    "names": CHARACTER_NAMES,
                    "finish": {str(key): words for key, words in FINISH.items()},
                    "kinds": KINDS,
                }
            ),
            image_data=script_json(
                {place: [made.uri, made.width] for place, made in pictures.items() if place not in cards}
            ),
        )
    )


def _sections(figures: Mapping[str, Any], base: Mapping[str, Any] | None) -> dict[str, Any]:
    """What the template shows of the figures besides CER."""
    found = sections.kinds(figures)
    return {
        "retries": figures.get("retries"),
        "measures": sections.measures(figures, base),
        "dimensions": sections.strata(figures, base),
        "kinds": None if found is None else found[0],
        "kind_notes": [] if found is None else found[1],
        "confusions": sections.confusions(figures),
        "confidence": sections.confidence(figures),
        "spelling": sections.spelling(figures),
    }


def _pictures(material: Material, budget: int) -> dict[int, Picture]:
    """The images that fit, by place; those of the cards come first."""
    wanted = [place for place in material.order if material.evaluation.results[place].id in material.files]
    album = Album(len(wanted), budget)
    made = {place: album.add(material.files[material.evaluation.results[place].id]) for place in wanted}
    return {place: found for place, found in made.items() if found is not None}


def _card(material: Material, place: int, image: Picture | None) -> Card:
    result, score = material.evaluation.results[place], material.evaluation.scores[place]
    card = make_card(result, [make_reading("Prediction", result, score)], {})
    found = {span.kind for span in material.source.errors[place].spans}
    said = () if result.finish_reason == "stop" else ("loop", "truncation")  # the mark of a bad end says these
    kinds = [kind for kind in KINDS if kind in found and kind not in said]
    return replace(card, image=image, place=place, kinds=kinds)


def choose(evaluation: Evaluation) -> tuple[list[int], list[int]]:
    """Places of the worst pages (worst first) and of the best (longest first among equals); none is in both."""
    places = range(len(evaluation.results))
    order = sorted(places, key=lambda place: (evaluation.scores[place].cer, -evaluation.scores[place].length))
    best = order[: min(BEST, (len(order) + 1) // 2)]
    rest = [place for place in reversed(order[len(best) :]) if evaluation.scores[place].cer > 0]
    return rest[:WORST], best


@dataclass(frozen=True, slots=True)
class Row:
    """A figure as the table shows it."""

    name: str
    words: str
    value: str
    interval: str = ""
    before: str = ""
    change: str = ""
    tone: str = ""


def _rows(metrics: Metrics, before: Before | None) -> list[Row]:
    if before is None:
        return [
            Row(label, words, figure(key, figure_value(metrics, key)), _interval(metrics, key))
            for key, label, words in FIGURES
        ]
    rows = []
    for key, label, words in FIGURES:
        old, new = figure_value(before.metrics, key), figure_value(before.now, key)
        change = new - old
        tone = "" if change == 0 else "good" if (change > 0) == (key == "exact_match") else "bad"
        rows.append(Row(label, words, figure(key, new), "", figure(key, old), figure_change(key, change), tone))
    return rows


def _interval(metrics: Metrics, key: str) -> str:
    """The 95 % interval of a CER figure; empty where there is none."""
    bounds = getattr(metrics.cer, f"{key.removeprefix('cer.')}_ci95", None) if key.startswith("cer.") else None
    return "" if bounds is None else f"{percent(bounds[0])} – {percent(bounds[1])}".replace(" ", "\u00a0")
