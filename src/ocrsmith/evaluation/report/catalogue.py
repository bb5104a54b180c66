"""The pages of an evaluation as data that a report carries with it: what its script lists, filters and opens.

All pages are listed as long as their texts stay within a number of bytes. Where there are too many, texts are
cut first; then pages are left out, and those that are worst, best, least confident and most changed stay, with
a random choice of the others.
"""

from __future__ import annotations

import json
import random
import re
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from markupsafe import Markup

from ocrsmith.evaluation.confusions import ConfusionTable
from ocrsmith.evaluation.error_kinds import KINDS, classify
from ocrsmith.evaluation.error_spans import PageErrors
from ocrsmith.evaluation.lexicon import Lexicon
from ocrsmith.evaluation.report.cards import RUN_ON, low_confidence
from ocrsmith.evaluation.report.chart import EDGES
from ocrsmith.evaluation.report.diff import direction, edits, language, visible
from ocrsmith.evaluation.store import Evaluation
from ocrsmith.evaluation.strata import in_order

LENGTHS = (3000, 2000, 1400, 1000, 700, 500, 400)
"""Characters at which texts are cut: the first with which all pages fit, else the last."""
SEED = 3407
_ROW = 260  # bytes of a row besides its texts, about


@dataclass(frozen=True)
class Source:
    """What rows are made from.

    Attributes:
        confidences: of each page; None where unknown.
        errors: of each page.
        labels: dimension → a label for each page.
        confusions: (reference, prediction) of each row of the confusion table.
        before: pages of the base evaluation, by place here: (CER, prediction).
    """

    evaluation: Evaluation
    confidences: Sequence[float | None]
    errors: Sequence[PageErrors]
    labels: Mapping[str, Sequence[str]]
    confusions: Sequence[tuple[str, str]]
    before: Mapping[int, tuple[float, str]]


@dataclass(frozen=True)
class Catalogue:
    """Rows for the script, in the dataset's order.

    Attributes:
        rows: JSON objects; what is empty or as usual is left out of them.
        choices: dimension → its labels, to which the rows' `labels` are indices.
        longest: characters at which texts were cut.
        total: pages of the evaluation.
    """

    rows: Sequence[Mapping[str, Any]]
    choices: Mapping[str, Sequence[str]]
    longest: int
    total: int


def find_page_errors(evaluation: Evaluation) -> list[PageErrors]:
    """The errors of each page; the vocabulary is that of the references."""
    lexicon = Lexicon.of(result.reference for result in evaluation.results)
    return list(classify(evaluation.results, lexicon=lexicon))


def priority(source: Source, first: Sequence[int]) -> list[int]:
    """Places of all pages, those first that people want to see.

    Args:
        first: places that come before all others.
    """
    scores, pages = source.evaluation.scores, range(len(source.evaluation.scores))
    worst = sorted(pages, key=lambda place: (-scores[place].cer, place))
    unsure = [place for place in pages if source.confidences[place] is not None]
    unsure.sort(key=lambda place: (source.confidences[place], place))
    changed = [place for place in pages if place in source.before]
    changed.sort(key=lambda place: (-abs(scores[place].cer - source.before[place][0]), place))
    anyhow = list(pages)
    random.Random(SEED).shuffle(anyhow)
    turns = zip_longest(worst, unsure, changed, anyhow, worst[::-1])
    rest = (place for turn in turns for place in turn if place is not None)
    return list(dict.fromkeys((*first, *rest)))


def catalogue(source: Source, order: Sequence[int], budget: int) -> Catalogue:
    """The rows of as many pages as fit.

    Args:
        order: places, most wanted first.
        budget: bytes of all rows as JSON.
    """
    evaluation = source.evaluation
    longest = next(
        (length for length in LENGTHS if _estimate(evaluation, length, budget) <= budget), LENGTHS[-1]
    )
    choices = {name: in_order(name, labels) for name, labels in source.labels.items()}
    numbers = {name: {label: n for n, label in enumerate(labels)} for name, labels in choices.items()}
    pairs = {pair: n for n, pair in enumerate(source.confusions)}
    rows: dict[int, Mapping[str, Any]] = {}
    left = budget
    for place in order:
        row = _row(source, place, longest) | {
            "labels": [numbers[name][labels[place]] for name, labels in source.labels.items()],
            "confusions": sorted(
                pairs[pair] for pair in ConfusionTable.of([source.errors[place]]).pairs if pair in pairs
            ),
        }
        row = {key: value for key, value in row.items() if value or key in ("cer", "confidence")}
        left -= len(script_json(row).encode("utf-8", "replace"))
        if left < 0:
            break
        rows[place] = row
    return Catalogue([rows[place] for place in sorted(rows)], choices, longest, len(evaluation.results))


def script_json(value: object) -> Markup:
    """JSON that can stand in a `script` element: nothing in it ends the element or begins another."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return Markup(re.sub("[<>&\u2028\u2029]", lambda found: f"\\u{ord(found.group()):04x}", text))


def _row(source: Source, place: int, longest: int) -> dict[str, Any]:
    result, score = source.evaluation.results[place], source.evaluation.scores[place]
    confidence = source.confidences[place]
    reference = result.reference[:longest]
    prediction = _cut(result.prediction, len(reference), longest)
    cut = [len(result.reference) - len(reference), len(result.prediction) - len(prediction)]
    before = source.before.get(place)
    return {
        "place": place,
        "id": visible(result.id),
        "group": visible(result.group) if result.group != result.id else "",
        "path": visible(result.image_path),
        "cer": round(score.cer, 5),
        "band": bisect_left(EDGES, score.cer),
        "length": score.length,
        "ended": "" if result.finish_reason == "stop" else result.finish_reason,
        "error": visible(result.error, 400) if result.error else "",
        "confidence": None if confidence is None else round(confidence, 4),
        "kinds": sorted({KINDS.index(span.kind) for span in source.errors[place].spans}),
        "language": language(reference),
        "direction": "rtl" if direction(reference) == "rtl" else "",
        "reference": reference,
        "edits": edits(reference, prediction),
        "cut": cut if any(cut) else [],
        "low": [
            number
            for span in low_confidence(result)
            if span.end <= len(prediction)
            for number in (span.start, span.end, round(span.confidence * 100))
        ],
        "before": before and [round(before[0], 5), edits(reference, _cut(before[1], len(reference), longest))],
    }


def _cut(prediction: str, reference: int, longest: int) -> str:
    return prediction[: min(longest, reference + RUN_ON)]


def _estimate(evaluation: Evaluation, length: int, enough: int) -> int:
    """Bytes of all rows with texts cut at `length`, about; stops counting at `enough`."""
    total = 0
    for result in evaluation.results:
        texts = (result.reference, result.prediction)
        total += _ROW + sum(len(text[:length].encode("utf-8", "replace")) for text in texts)
        if total > enough:
            break
    return total
