"""The report on a canary in words and tables: one content, written as Markdown or as an HTML page."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape

from ocrsmith.evaluation.report.wording import count, duration, percent, points
from ocrsmith.serving.canary.choice import ARMS, BASE, CANDIDATE
from ocrsmith.serving.canary.comparison import ArmReport, CanaryReport
from ocrsmith.serving.canary.figures import WINDOW

_ROWS: Sequence[tuple[str, str]] = (
    ("n", "answers"),
    ("loops", "fell into a loop"),
    ("truncated", "cut off by the token limit"),
    ("failed", "failed"),
    ("empty", "empty"),
    ("seconds.p50", "seconds, median"),
    ("seconds.p90", "seconds, P90"),
    ("seconds.p99", "seconds, P99"),
    ("tokens.mean", "tokens, mean"),
    ("confidence.mean", "confidence, mean"),
    ("n_corrected", "corrected pages"),
    ("cer.mean", "mean CER"),
    ("cer.micro", "micro CER"),
    ("cer.p90", "P90 of CER"),
)
_SHARES = ("loops", "truncated", "failed", "empty", "confidence.mean")
_STYLE = (
    ":root{color-scheme:light dark}body{font:16px/1.5 system-ui,sans-serif;max-width:56rem;margin:auto;"
    "padding:1.5rem 1rem}table{border-collapse:collapse;margin:1rem 0}th,td{padding:.3rem .8rem;"
    "text-align:left;border-bottom:1px solid #8885;overflow-wrap:anywhere}h1{font-size:1.6rem}"
    "h2{font-size:1.2rem}"
)


@dataclass(frozen=True, slots=True)
class Table:
    """A heading row and others."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the report."""

    title: str
    lines: Sequence[str]
    table: Table | None = None


def sections(report: CanaryReport) -> list[Section]:
    """The report's content; the verdict first."""
    return [_verdict(report), _standing(report), _figures(report), *_agreement(report)]


def to_markdown(report: CanaryReport) -> str:
    """The report for a pull request or a terminal."""
    found = [f"# Canary: {_md(report.arms[CANDIDATE].model)} against {_md(report.arms[BASE].model)}"]
    for section in sections(report):
        found.append(f"## {section.title}")
        found += [_md(line) for line in section.lines]
        if section.table is not None:
            rows = [section.table.head, ["---"] * len(section.table.head), *section.table.rows]
            found.append("\n".join("| " + " | ".join(map(_md, row)) + " |" for row in rows))
    return "\n\n".join(found) + "\n"


def to_html(report: CanaryReport) -> str:
    """The report as one page in which nothing runs and nothing is loaded."""
    title = f"Canary: {report.arms[CANDIDATE].model} against {report.arms[BASE].model}"
    found = [
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width"><meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>{escape(title)}</title><style>{_STYLE}</style><h1>{escape(title)}</h1>"
    ]
    for section in sections(report):
        found.append(f"<h2>{escape(section.title)}</h2>")
        found += [f"<p>{_html(line)}</p>" for line in section.lines]
        if section.table is not None:
            found.append(_html_table(section.table))
    return "\n".join(found) + "\n"


def say_time(moment: float) -> str:
    """Seconds since 1970 → `2026-03-01 12:30:00 UTC`."""
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def settings_line(report: CanaryReport) -> str:
    """What the last server was started with."""
    settings = report.settings
    share = percent(_number(settings.get("share")), 1)
    shadow = ", the other model reads along" if settings.get("shadow") else ""
    kept = percent(_number(settings.get("keep")), 1)
    return f"Set: {share} of the pages to the candidate{shadow}; {kept} of all pages kept for review."


def rule_lines(report: CanaryReport) -> Iterator[str]:
    """Whether the rollback rule has held, holds, or is undecided."""
    if (event := report.rolled_back) is not None:
        because, answers = event.detail.get("because"), _number(event.detail.get("answers"))
        yield (
            f"Rolled back at {say_time(event.time)}: {because}, over {count(round(answers), 'answer')}. All "
            "requests go to the base until `ocrsmith canary resume`."
        )
    if report.rule is None or report.decision is None:
        yield "There is no rollback rule."
        return
    holds = {True: "holds", False: "does not hold", None: "is undecided"}[report.decision.holds]
    why = f": {'; '.join(report.decision.undecided)}" if report.decision.undecided else ""
    yield f"Rollback rule `{report.rule}` {holds} now{why}."


def _verdict(report: CanaryReport) -> Section:
    judgement = report.judgement
    lines = [judgement.sentence]
    if judgement.change is not None and judgement.ci95 is not None:
        low, high = judgement.ci95
        lines.append(
            f"Mean CER of the base {percent(judgement.base)} ({count(judgement.pages[0], 'page')}), of the "
            f"candidate {percent(judgement.candidate)} ({count(judgement.pages[1], 'page')}): "
            f"{points(judgement.change)} points, 95 % interval {points(low)} to {points(high)}."
        )
    return Section("Verdict", [*lines, judgement.caution])


def _standing(report: CanaryReport) -> Section:
    totals = report.totals
    arms = ", ".join(f"{totals.requests.get(arm, 0):,} to the {arm}" for arm in ARMS)
    lines = [f"Round {report.round} of {report.rounds} in {report.place}.", settings_line(report)]
    if totals.first is not None and totals.last is not None:
        lines.append(f"From {say_time(totals.first)} to {say_time(totals.last)}.")
    fell = count(totals.fallbacks, "time")
    lines.append(f"Requests: {arms}; the base stood in for the candidate {fell}.")
    size = totals.kept_bytes / 2**20
    lines.append(
        f"Kept: {count(totals.kept, 'page')} ({size:,.1f} MiB); corrected: {count(totals.corrections, 'page')}."
    )
    lines += list(rule_lines(report))
    if totals.counts:
        lines.append(
            f"Lost: {count(totals.counts.records_dropped, 'answer')} were not recorded and "
            f"{count(totals.counts.shadows_dropped, 'shadow reading')} left out, too many being under way."
        )
    return Section("How it stands", lines)


def _figures(report: CanaryReport) -> Section:
    head = ["", *(f"{arm} ({report.arms[arm].model})" for arm in ARMS)]
    rows = [[label, *(_cell(report.arms[arm], name) for arm in ARMS)] for name, label in _ROWS]
    lines = [
        "Shadow readings are counted among the answers of the model that read. In brackets 95 % intervals: "
        "Wilson's of shares, bootstrap over pages of times."
    ]
    if not all(arm.of_all for arm in report.arms.values()):
        lines.append(f"Of each model the latest {WINDOW:,} answers are looked at.")
    return Section("Figures", lines, Table(head, rows))


def _agreement(report: CanaryReport) -> Iterator[Section]:
    found = report.agreement
    if found is None:
        return
    lines = [
        f"Both read {count(found.n, 'page')}; {percent(found.same, 1)} alike to the letter. CER between the "
        f"two answers: mean {percent(found.mean)}, P90 {percent(found.p90)}. It does not say who is right.",
    ]
    table = None
    if found.most:
        lines.append(
            "Most different, the first to look at (`ocrsmith canary review` shows those that are kept):"
        )
        rows = [
            [item.request, percent(item.difference), "kept" if item.kept else "not kept"] for item in found.most
        ]
        table = Table(["request", "CER between answers", "for review"], rows)
    yield Section("Agreement", lines, table)


def _cell(arm: ArmReport, name: str) -> str:
    value = arm.figures[name]
    if not math.isfinite(value):
        return "–"
    written = _written(name, value)
    if name in arm.intervals:
        low, high = arm.intervals[name]
        written += f" ({_written(name, low)} to {_written(name, high)})"
    return written


def _written(name: str, value: float) -> str:
    if name in _SHARES or name.startswith("cer."):
        return percent(value)
    if name.startswith("seconds"):
        return duration(value) if value >= 10 else f"{value:.3g} s"
    return f"{value:,.0f}" if name.startswith("n") else f"{value:,.1f}"


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else math.nan


def _md(text: str) -> str:
    """Keeps names from being read as markup or as the end of a cell; code in backquotes stays."""
    parts = text.split("`")
    parts[::2] = [re.sub(r"<(?=[A-Za-z/!?])", "&lt;", part) for part in parts[::2]]
    return "`".join(parts).replace("|", r"\|")


def _html(text: str) -> str:
    """Escaped; code in backquotes as such."""
    return re.sub(r"`([^`]*)`", r"<code>\1</code>", escape(text))


def _html_table(table: Table) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in table.head)
    rows = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in table.rows)
    return f"<table><tr>{head}</tr>{rows}</table>"
