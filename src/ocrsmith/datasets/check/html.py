"""Lays out the report as one HTML file: no scripts, nothing loaded from elsewhere, every text escaped."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import jinja2

from ocrsmith.datasets.check.characters import MOST_LISTED, Entry
from ocrsmith.datasets.check.figures import FIGURES, KINDS, Tally
from ocrsmith.datasets.check.findings import Example
from ocrsmith.datasets.check.labels import LabelError
from ocrsmith.datasets.check.legibility import LEGIBLE
from ocrsmith.datasets.check.rules import SEVERITIES
from ocrsmith.datasets.ledger import REASONS
from ocrsmith.text.characters import name_of

if TYPE_CHECKING:
    from ocrsmith.datasets.check.report import CheckReport

_SHOWN_ERRORS = 60
_SHOWN_KINDS = 8


@dataclass(frozen=True, slots=True)
class Column:
    """A bar of a histogram, in the drawing's units; `y` grows downwards."""

    x: float
    y: float
    width: float
    height: float
    label: str


@dataclass(frozen=True, slots=True)
class Plot:
    """A histogram as it is drawn."""

    name: str
    columns: tuple[Column, ...]
    low: str
    high: str
    median: str


@dataclass(frozen=True, slots=True)
class Cell:
    """A character in the inventory."""

    text: str
    """The character, or its code where it cannot be seen."""
    visible: bool
    title: str
    count: int


PLOT_WIDTH, PLOT_HEIGHT = 320.0, 84.0


def render(report: CheckReport) -> str:
    """The report as HTML."""
    entries = report.characters.entries()
    return (
        _environment()
        .get_template("check.html")
        .render(
            title=", ".join(path.name or str(path) for path in report.paths),
            report=report,
            counts={name: report.count(name) for name in SEVERITIES},
            legible=LEGIBLE,
            rows=_rows(report),
            kinds={part: _kinds(report, part) for part in report.figures.parts},
            plots=[plot(label, report.figures.tally(name)) for name, label in FIGURES.items()],
            reasons=REASONS,
            scripts=_shares(report.characters.scripts.most_common()),
            different=len(entries),
            characters=[_cell(entry) for entry in entries[:MOST_LISTED]],
            rare=[_cell(entry) for entry in report.characters.rare()[:MOST_LISTED]],
            unseen=[_cell(entry) for entry in report.characters.unseen()[:MOST_LISTED]],
            errors=_errors(report.label_errors or ()),
            leaks=report.leaks.report_lines() if report.leaks else [],
        )
    )


def plot(name: str, tally: Tally) -> Plot | None:
    """A histogram's bars; None of nothing, or of one value alone."""
    bars = tally.histogram()
    if len(bars) < 2:
        return None
    highest = max(bar.count for bar in bars)
    slot = PLOT_WIDTH / len(bars)
    columns = []
    for place, bar in enumerate(bars):
        if bar.count:
            size = max(1.5, bar.count / highest * (PLOT_HEIGHT - 6))
            label = f"{number(bar.low)} to {number(bar.high)}: {bar.count:,}"
            columns.append(Column(slot * place + 1, PLOT_HEIGHT - size, slot - 2, size, label))
    ends = number(bars[0].low), number(bars[-1].high)
    return Plot(name, tuple(columns), *ends, number(tally.quantile(0.5)))


def number(value: float) -> str:
    """A figure with as many digits as tell something: 0.123, 12.3, 1,234."""
    if value == int(value) or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:,.1f}" if abs(value) >= 10 else f"{value:,.2f}"


def percent(share: float) -> str:
    """A share, rounded down: what is below a goal or below all must not look as if it were not."""
    if 0 < share < 0.001:
        return "< 0.1 %"
    return f"{math.floor(share * 1000 + 1e-6) / 10:.1f} %"


def marked(example: Example) -> tuple[str, str, str]:
    """Text before, in and after the mark; what cannot be seen is named."""
    if example.mark is None:
        return example.text, "", ""
    start, end = example.mark
    inside = example.text[start:end]
    if not inside.strip() or not inside.isprintable():
        inside = " ".join(name_of(character).split(" ")[0] for character in inside[:3])
    return example.text[:start], inside, example.text[end:]


def _rows(report: CheckReport) -> list[tuple[str, list[tuple[str, list[str]]]]]:
    """For each figure its label and, by part, the least, median, mean, 95 %, 99 % and largest value."""
    rows = []
    for name, label in FIGURES.items():
        parts = []
        for part in report.figures.parts:
            tally = report.figures.tally(name, part)
            if tally.n:
                values = [tally.quantile(0), tally.quantile(0.5), tally.mean]
                values += [tally.quantile(0.95), tally.quantile(0.99), tally.quantile(1)]
                parts.append((part, [number(value) for value in values]))
        if parts:
            rows.append((label, parts))
    return rows


def _kinds(report: CheckReport, part: str) -> list[tuple[str, list[tuple[str, str]]]]:
    """For each kind its label and (name, share) of the most frequent ones."""
    counters = report.figures.kinds.get(part, {})
    return [
        (label, _shares(counters[name].most_common(_SHOWN_KINDS), counters[name].total()))
        for name, label in KINDS.items()
        if name in counters
    ]


def _shares(counts: Sequence[tuple[str, int]], total: int | None = None) -> list[tuple[str, str]]:
    whole = total or sum(count for _, count in counts) or 1
    return [(name, percent(count / whole)) for name, count in counts]


def _cell(entry: Entry) -> Cell:
    seen = entry.character.isprintable() and not entry.character.isspace()
    where = f", in {entry.examples[0]}" if entry.examples else ""
    title = f"{entry.name}: {entry.count:,}× in {entry.samples:,} samples{where}"
    return Cell(entry.character if seen else entry.name.split(" ")[0], seen, title, entry.count)


def _errors(errors: Sequence[LabelError]) -> list[tuple[LabelError, Example]]:
    """Beyond those that the finding shows with pictures, in a plain table."""
    return [(error, Example.of(error.sample, error.split)) for error in errors[:_SHOWN_ERRORS]]


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": percent, "number": number, "marked": marked}
    return environment
