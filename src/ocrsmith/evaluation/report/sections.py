"""What each section of an evaluation's report shows, from the figures of metrics.json.

A section whose key is not there is None or empty, and is not shown: older evaluations have fewer.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ocrsmith.evaluation.report.curve import Curve, reliability, risk_coverage
from ocrsmith.evaluation.report.diff import Piece, readable, revealed, visible
from ocrsmith.evaluation.report.wording import KIND_WORDS, seen

Figures = Mapping[str, Any]

MEASURES: Mapping[str, str] = {
    "wer": "Word error rate",
    "ned": "Normalised edit distance",
    "chrf": "chrF",
    "rouge_l": "ROUGE-L",
    "bleu": "BLEU",
    "tables": "Tables",
    "fields": "Fields",
    "order": "Reading order",
    "boxes": "Boxes",
}
"""Further figures and their names, in the order of the report."""
POLICY_FIGURES: Mapping[str, str] = {
    "cer.mean": "Mean CER",
    "cer.micro": "Micro CER",
    "wer.mean": "Mean WER",
    "ned.mean": "Edit distance",
    "chrf.mean": "chrF",
    "exact_match": "Exact pages",
}
"""Figures that are also computed after normalisation."""
LABELS_SHOWN = 30
"""Rows of a table of strata; the rest is in metrics.json."""
CONFUSIONS_SHOWN = 20
EXAMPLES_SHOWN = 3
_FEW_DIGITS = {"f1": "F1", "teds": "TEDS", "iou": "IoU"}


@dataclass(frozen=True, slots=True)
class Measure:
    """A further figure over the pages that it applies to."""

    name: str
    n: int
    mean: float
    interval: tuple[float, float] | None
    median: float | None
    before: float | None


@dataclass(frozen=True, slots=True)
class Example:
    """An error with its surroundings."""

    page: str
    before: Sequence[Piece]
    reference: Sequence[Piece]
    prediction: Sequence[Piece]
    after: Sequence[Piece]


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of error over all pages."""

    name: str
    words: str
    edits: int
    share: float
    pages: int
    examples: Sequence[Example]


@dataclass(frozen=True, slots=True)
class Confusion:
    """A row of the confusion table, as it is shown."""

    reference: str
    prediction: str
    count: int
    rate: float | None
    weight: float
    """Its share of the commonest, 0 to 1: how dark the row is."""


@dataclass(frozen=True, slots=True)
class Whisker:
    """Mean and interval of a stratum in a drawing 100 units wide."""

    low: float
    high: float
    mean: float


@dataclass(frozen=True, slots=True)
class Stratum:
    """One label of a dimension."""

    label: str
    key: str
    """As it stands in metrics.json."""
    n: int
    documents: int | None
    mean: float
    interval: tuple[float, float] | None
    p90: float | None
    exact: float | None
    share: float | None
    before: float | None
    whisker: Whisker


@dataclass(frozen=True, slots=True)
class Dimension:
    """Strata of one dimension: by language, by source …"""

    name: str
    title: str
    rows: Sequence[Stratum]
    left_out: int


@dataclass(frozen=True, slots=True)
class Confidence:
    """Whether the model knows when it is wrong."""

    pages: int
    errors: Sequence[tuple[str, float | None, float | None]]
    """(what, expected calibration error before, after calibration)."""
    calibration: Mapping[str, Any] | None
    risk: Curve | None
    reliability: Curve | None
    aurc: float | None
    accept: Mapping[str, Any] | None


def measures(figures: Figures, base: Figures | None) -> list[Measure]:
    """Further figures, one for each leaf."""
    found = []
    for key in MEASURES:
        for path, leaf in _leaves(figures.get(key), (key,)):
            before = _at(base or {}, path)
            found.append(
                Measure(
                    _title(path),
                    int(leaf.get("n") or 0),
                    float(leaf["mean"]),
                    _pair(leaf.get("mean_ci95")),
                    _number(leaf.get("median")),
                    _number(before.get("mean")) if isinstance(before, Mapping) else None,
                )
            )
    return found


def kinds(figures: Figures) -> tuple[list[Kind], list[str]] | None:
    """Kinds of errors that there are, commonest first, and what a reader of them must know."""
    errors = figures.get("errors")
    if not errors:
        return None
    found = [
        Kind(
            name,
            KIND_WORDS.get(name, ""),
            int(item["edits"]),
            float(item["share"]),
            int(item["pages"]),
            [_example(example) for example in item.get("examples", ())[:EXAMPLES_SHOWN]],
        )
        for name, item in errors["kinds"].items()
        if item["spans"]
    ]
    return sorted(found, key=lambda kind: -kind.edits), [str(note) for note in errors.get("notes", ())]


def confusions(figures: Figures) -> list[Confusion]:
    """The confusion table, commonest first."""
    rows = figures.get("confusions") or ()
    most = max((row["count"] for row in rows), default=1)
    return [
        Confusion(
            seen(row["reference"]),
            seen(row["prediction"]),
            int(row["count"]),
            _number(row.get("rate")),
            row["count"] / most,
        )
        for row in rows[:CONFUSIONS_SHOWN]
    ]


def spelling(figures: Figures) -> tuple[list[str], list[tuple[str, list[float | None]]]] | None:
    """Figures under each normalisation policy: (titles of the columns, (policy, values))."""
    policies = figures.get("normalised")
    if not policies:
        return None
    columns = [key for key in POLICY_FIGURES if any(key in item for item in policies.values())]
    rows = {"none": {key: _plain(figures, key) for key in columns}, **policies}
    return [POLICY_FIGURES[key] for key in columns], [
        (name.replace("+", " + "), [_number(item.get(key)) for key in columns]) for name, item in rows.items()
    ]


def strata(figures: Figures, base: Figures | None) -> list[Dimension]:
    """Tables by source, language and so on; a dimension with a single label tells nothing and is left out."""
    found = []
    for name, labels in (figures.get("strata") or {}).items():
        if len(labels) < 2:
            continue
        rows = sorted(labels.items(), key=lambda item: _order(name, item, list(labels)))
        top = max((_highest(item) for _, item in rows[:LABELS_SHOWN]), default=0.0) or 1.0
        earlier = ((base or {}).get("strata") or {}).get(name) or {}
        found.append(
            Dimension(
                name,
                _dimension(name),
                [_stratum(key, item, top, earlier.get(key) or {}) for key, item in rows[:LABELS_SHOWN]],
                max(0, len(rows) - LABELS_SHOWN),
            )
        )
    return found


def confidence(figures: Figures) -> Confidence | None:
    """Calibration, reliability and the risk–coverage curve."""
    found = figures.get("confidence")
    if not found or not found.get("pages_with"):
        return None
    ece = found.get("ece") or {}
    errors = [
        (what, _number(item.get("before")), _number(item.get("after")))
        for what in ("characters", "pages")
        if isinstance(item := ece.get(what), Mapping)
    ]
    accept = found.get("accept")
    return Confidence(
        int(found["pages_with"]),
        errors,
        found.get("calibration"),
        risk_coverage(found.get("risk_coverage") or (), accept),
        reliability(found.get("reliability") or ()),
        _number(found.get("aurc")),
        accept,
    )


def _leaves(value: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Mapping[str, Any]]]:
    if not isinstance(value, Mapping):
        return
    if _number(value.get("mean")) is not None:
        yield path, value
        return
    for key, item in value.items():
        yield from _leaves(item, (*path, str(key)))


def _at(figures: Any, path: Sequence[str]) -> Any:
    for key in path:
        figures = figures.get(key) if isinstance(figures, Mapping) else None
    return figures


def _title(path: Sequence[str]) -> str:
    rest = [_FEW_DIGITS.get(part, part.replace("_", " ")) for part in path[1:]]
    return ": ".join([MEASURES[path[0]], ", ".join(rest)] if rest else [MEASURES[path[0]]])


def _plain(figures: Figures, key: str) -> Any:
    """A figure by its dotted name, whether it stands flat or nested."""
    return figures[key] if key in figures else _at(figures, key.split("."))


def _order(dimension: str, item: tuple[str, Any], labels: list[str]) -> tuple[float, ...]:
    """Bands and lengths in their own order, all others by what they contribute to the errors."""
    if dimension in ("length", "cer_band"):
        return (labels.index(item[0]),)
    return (-(_number(item[1].get("share_of_edits")) or 0.0), -item[1]["n"])


def _dimension(name: str) -> str:
    titles = {"cer_band": "CER band"}
    return titles.get(name, name.removeprefix("meta.").replace("_", " ").capitalize())


def _stratum(key: str, item: Mapping[str, Any], top: float, earlier: Mapping[str, Any]) -> Stratum:
    mean, interval = float(item["cer.mean"]), _pair(item.get("cer.mean_ci95"))
    low, high = interval or (mean, mean)
    scaled = [100 * min(1.0, max(0.0, value) / top) for value in (low, high, mean)]
    return Stratum(
        visible(key, 80) or "(none)",
        key,
        int(item["n"]),
        item.get("documents"),
        mean,
        interval,
        _number(item.get("cer.p90")),
        _number(item.get("exact_match")),
        _number(item.get("share_of_edits")),
        _number(earlier.get("cer.mean")),
        Whisker(*scaled),
    )


def _highest(item: Mapping[str, Any]) -> float:
    interval = _pair(item.get("cer.mean_ci95"))
    return interval[1] if interval else float(item["cer.mean"])


def _example(item: Mapping[str, Any]) -> Example:
    return Example(
        visible(item["page"]),
        readable(item["before"].replace("\n", "↵")),
        _on_one_line(item["reference"]),
        _on_one_line(item["prediction"]),
        readable(item["after"].replace("\n", "↵")),
    )


def _on_one_line(text: str) -> list[Piece]:
    shown = revealed if len(text) == 1 else readable
    return [piece for piece in shown(text.replace("\n", "↵")) if piece.text]


def _pair(value: Any) -> tuple[float, float] | None:
    if not isinstance(value, Sequence) or len(value) != 2:
        return None
    low, high = (_number(item) for item in value)
    return None if low is None or high is None else (low, high)


def _number(value: Any) -> float | None:
    good = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if good else None
