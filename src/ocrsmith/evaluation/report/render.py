"""Lays out reports: chooses the samples, prepares what the templates show. No figures are computed here."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2

from ocrsmith.evaluation.metrics.cer import PageScore
from ocrsmith.evaluation.report.chart import chart
from ocrsmith.evaluation.report.diff import Segment, language, segments
from ocrsmith.evaluation.report.picture import Picture, picture
from ocrsmith.evaluation.statistics import Metrics
from ocrsmith.evaluation.store import Evaluation, PageResult
from ocrsmith.records import FinishReason

if TYPE_CHECKING:
    from ocrsmith.evaluation.analysis import Analysis
    from ocrsmith.evaluation.compare import Comparison, PagePair

ImageSource = Callable[[Sequence[str]], Mapping[str, bytes]]
"""Gives the image files of samples by id; what it does not have is shown as missing."""

WORST = 10
BEST = 5
CHANGED = 10
LONGEST_TEXT = 3000
"""Characters of a text that a report shows; how many were cut is said in the report."""
RUN_ON = 400
"""Characters by which a shown prediction may exceed its reference: the rest of a loop tells nothing more."""

FIGURES = (
    ("cer.mean", "Mean CER", "Average over pages (macro): every page counts the same."),
    ("cer.micro", "Micro CER", "All errors over all characters: long pages count more."),
    ("cer.median", "Median CER", "Half of the pages are read better than this."),
    ("cer.p90", "90th percentile", "Nine pages in ten are read better than this."),
    ("cer.p95", "95th percentile", "Nineteen pages in twenty are read better than this."),
    ("cer.max", "Largest CER", "The worst page; above 100 % where a loop wrote more than the page has."),
    ("cer.std", "Standard deviation", "Spread of CER over pages."),
    ("exact_match", "Exact pages", "Pages read without a single error."),
    ("loops", "Loops", "Pages on which the reading fell into endless repetition."),
    ("truncated", "Cut off", "Pages that reached the token limit."),
    ("failed", "Failed", "Pages without a result; each counts as a CER of 100 %."),
    ("seconds", "Reading time", "Engine time over all pages."),
)
"""Key, name and explanation of each figure, in the order of the tables."""

FINISH: dict[FinishReason, str] = {
    "stop": "finished",
    "length": "cut off",
    "loop": "loop",
    "error": "failed",
}
KIND_WORDS: Mapping[str, str] = {
    "loop": "endless repetition, and what was not read because of it",
    "truncation": "cut off by the token limit",
    "structure": "order of lines, tags, marks or line breaks",
    "hallucination": "text that stands nowhere on the page",
    "normalisation": "nothing but width, punctuation, scripts of digits, joiners or white space",
    "substitution": "a known word that does not look like the true one: guessed",
    "confusion": "characters read as others",
    "insertion": "a few characters too many, or a line read twice",
    "omission": "characters or lines missing",
}
"""What each kind of error is; a test holds it to `error_kinds.KINDS`."""
_COUNTS = ("loops", "truncated", "failed")


@dataclass(frozen=True)
class Reading:
    """One prediction of a page beside its reference, as a template shows it."""

    title: str
    text: str
    cut: int
    """Characters of the prediction that are not shown."""
    score: PageScore
    result: PageResult
    finish: str
    segments: Sequence[Segment]


@dataclass(frozen=True)
class Card:
    """One sample in a report."""

    id: str
    group: str
    image_path: str
    image: Picture | None
    reference: str
    reference_cut: int
    language: str
    readings: Sequence[Reading]
    change: float | None = None


def render_evaluation(evaluation: Evaluation, analysis: Analysis, images: ImageSource) -> str:
    """The report of one evaluation, as HTML.

    Args:
        evaluation: at least one page.
        analysis: of its pages.
        images: gives the images of the samples shown.
    """
    worst, best = choose(evaluation)
    shown = [*worst, *best]
    files = images([evaluation.results[place].id for place in shown])
    cards = {place: _card_of(evaluation, place, files) for place in shown}
    return (
        _environment()
        .get_template("evaluation.html")
        .render(
            title=f"{_model(evaluation.provenance)} on {_data(evaluation.provenance)}",
            metrics=evaluation.metrics,
            rows=_rows(evaluation.metrics),
            chart=chart([[score.cer for score in evaluation.scores]]),
            kinds=[item for item in analysis.kinds.kinds if item.spans],
            kind_words=KIND_WORDS,
            kind_notes=analysis.kinds.notes,
            confusions=[(_seen(item.reference), _seen(item.prediction), item) for item in analysis.confusions],
            normalised=[(item.policy.replace("+", " + "), item) for item in analysis.normalised],
            worst=[cards[place] for place in worst],
            best=[cards[place] for place in best],
            provenance=_flat(evaluation.provenance),
            created=evaluation.provenance.get("created", ""),
        )
    )


def render_comparison(comparison: Comparison, names: tuple[str, str], images: ImageSource) -> str:
    """The report of a comparison, as HTML.

    Args:
        comparison: at least one page.
        names: how A and B are called, e.g. their folders.
        images: gives the images of the samples shown.
    """
    improved, worsened = comparison.improved, comparison.worsened
    shown = [*improved[:CHANGED], *worsened[:CHANGED]]
    files = images([pair.a.id for pair in shown])
    changes = {change.name: change for change in comparison.changes}
    rates = [[pair.score_a.cer for pair in comparison.pairs], [pair.score_b.cer for pair in comparison.pairs]]
    same = len(comparison.pairs) - len(improved) - len(worsened)
    return (
        _environment()
        .get_template("comparison.html")
        .render(
            title=f"{names[0]} → {names[1]}",
            names=names,
            comparison=comparison,
            models=[_model(comparison.provenance_a), _model(comparison.provenance_b)],
            rows=[(label, text, changes[key], key) for key, label, text in FIGURES],
            chart=chart(rates),
            counts={"improved": len(improved), "worsened": len(worsened), "same": same},
            improved=[_card_of_pair(pair, files) for pair in improved[:CHANGED]],
            worsened=[_card_of_pair(pair, files) for pair in worsened[:CHANGED]],
            flips=[("Now exact", comparison.became_exact), ("No longer exact", comparison.lost_exact)],
            provenance=[_flat(comparison.provenance_a), _flat(comparison.provenance_b)],
        )
    )


def _seen(text: str) -> str:
    """A character or group as a table shows it; an empty side and invisible ones by name."""
    if not text:
        return "nothing"
    return " ".join(
        char if char.isprintable() and char != " " else unicodedata.name(char, f"U+{ord(char):04X}").lower()
        for char in text
    )


def choose(evaluation: Evaluation) -> tuple[list[int], list[int]]:
    """Places of the worst pages (worst first) and of the best (longest first among equals); none is in both."""
    places = range(len(evaluation.results))
    order = sorted(places, key=lambda place: (evaluation.scores[place].cer, -evaluation.scores[place].length))
    best = order[: min(BEST, (len(order) + 1) // 2)]
    rest = [place for place in reversed(order[len(best) :]) if evaluation.scores[place].cer > 0]
    return rest[:WORST], best


def percent(rate: float | None, digits: int = 2) -> str:
    """0.0512 → `5.12 %`; a fraction too small to show is not shown as zero."""
    if rate is None or not math.isfinite(rate):
        return "–"
    if rate and abs(rate) < 0.5 * 10 ** -(digits + 2):
        return f"{'<' if rate > 0 else '>'} {'−' if rate < 0 else ''}{10**-digits:.{digits}f} %"
    return f"{rate * 100:,.{digits}f} %".replace("-", "−")


def signed(rate: float | None, digits: int = 1) -> str:
    """A relative change with its sign: 0.667 → `+66.7 %`."""
    return f"+{percent(rate, digits)}" if rate is not None and rate > 0 else percent(rate, digits)


def points(change: float, digits: int = 2) -> str:
    """A change of a rate in percentage points, with its sign: −0.0512 → `−5.12`."""
    return f"{change * 100:+,.{digits}f}".replace("-", "−")


def duration(seconds: float) -> str:
    """93.4 → `1 min 33 s`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def figure_value(metrics: Metrics, key: str) -> float:
    """A figure by its key in `FIGURES`."""
    holder = metrics.cer if key.startswith("cer.") else metrics
    return float(getattr(holder, key.removeprefix("cer.")))


def figure(key: str, value: float) -> str:
    """A figure as it is written in a table."""
    if key in _COUNTS:
        return f"{value:,.0f}"
    return duration(value) if key == "seconds" else percent(value)


def figure_change(key: str, change: float) -> str:
    """A figure's change, with its sign and unit."""
    if key in _COUNTS:
        return f"{change:+,.0f}".replace("-", "−") if change else "0"
    if key == "seconds":
        return ("+" if change >= 0 else "−") + duration(abs(change))
    return f"{points(change)} pp"


def _environment() -> jinja2.Environment:
    folder = Path(__file__).parent / "templates"
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters: dict[str, Callable[..., str]] = {
        "percent": percent,
        "points": points,
        "signed": signed,
        "duration": duration,
    }
    environment.filters |= {name: _unbroken(write) for name, write in filters.items()}
    environment.globals |= {"figure": _unbroken(figure), "figure_change": _unbroken(figure_change)}
    return environment


def _unbroken(write: Callable[..., str]) -> Callable[..., str]:
    """Keeps number and unit on one line."""
    return lambda *values: write(*values).replace(" ", "\u00a0")


def _card_of(evaluation: Evaluation, place: int, files: Mapping[str, bytes]) -> Card:
    result, score = evaluation.results[place], evaluation.scores[place]
    return _card(result, [_reading("Prediction", result, score)], files, None)


def _card_of_pair(pair: PagePair, files: Mapping[str, bytes]) -> Card:
    readings = [_reading("A", pair.a, pair.score_a), _reading("B", pair.b, pair.score_b)]
    return _card(pair.a, readings, files, pair.change)


def _card(
    result: PageResult, readings: Sequence[Reading], files: Mapping[str, bytes], change: float | None
) -> Card:
    reference, cut = _shorten(result.reference)
    image = files.get(result.id)
    return Card(
        id=result.id,
        group=result.group,
        image_path=result.image_path,
        image=picture(image) if image is not None else None,
        reference=reference,
        reference_cut=cut,
        language=language(result.reference),
        readings=readings,
        change=change,
    )


def _reading(title: str, result: PageResult, score: PageScore) -> Reading:
    text, cut = _shorten(result.prediction, len(result.reference) + RUN_ON)
    reference, _ = _shorten(result.reference)
    return Reading(title, text, cut, score, result, FINISH[result.finish_reason], segments(reference, text))


def _shorten(text: str, longest: int = LONGEST_TEXT) -> tuple[str, int]:
    longest = min(longest, LONGEST_TEXT)
    return text[:longest], max(0, len(text) - longest)


def _rows(metrics: Metrics) -> list[tuple[str, str, str]]:
    """(name, value, explanation) of each figure."""
    return [(label, figure(key, figure_value(metrics, key)), text) for key, label, text in FIGURES]


def _model(provenance: Mapping[str, Any]) -> str:
    engine = provenance.get("engine") or {}
    model, adapter = engine.get("model"), engine.get("adapter")
    name = _name(model) or str(engine.get("name", "engine"))
    return f"{name} + {_name(adapter)}" if adapter else name


def _name(thing: object) -> str:
    name = thing.get("name") if isinstance(thing, Mapping) else thing
    return Path(str(name)).name if name else ""


def _data(provenance: Mapping[str, Any]) -> str:
    data = provenance.get("dataset") or {}
    name = Path(str(data["path"])).name if data.get("path") else "a dataset"
    return f"{name}, {data['split']}" if data.get("split") else name


def _flat(value: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested settings as rows: `engine.decoding.ngram_size`, `30`."""
    rows: list[tuple[str, str]] = []
    for key, item in value.items():
        if isinstance(item, Mapping):
            rows += _flat(item, f"{prefix}{key}.")
        elif item is not None:
            rows.append((f"{prefix}{key}", str(item)))
    return rows
