"""Tables of figures for people, which more than one command prints."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ocrsmith.cli import output

if TYPE_CHECKING:
    from ocrsmith.evaluation import Comparison, Metrics


def print_metrics(metrics: Metrics, report: Path) -> None:
    """The figures of one evaluation, and where its report is."""
    from rich.table import Table

    from ocrsmith.evaluation.report.render import FIGURES, figure, figure_value

    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column()
    table.add_column(justify="right")
    for key, label, _ in FIGURES:
        table.add_row(label, figure(key, figure_value(metrics, key)), style="bold" if key == "cer.mean" else "")
    console = output.console()
    console.print(f"{metrics.n:,} pages")
    console.print(table)
    console.print(f"Report: {report}", markup=False, soft_wrap=True)


def print_comparison(result: Comparison, report: Path | None) -> None:
    """Two evaluations side by side, the verdict, and where the report is (None: nowhere)."""
    from rich.table import Table

    from ocrsmith.evaluation.report import render

    table = Table(box=None, pad_edge=False)
    table.add_column("")
    for name in ("A", "B", "change", "relative"):
        table.add_column(name, justify="right")
    table.add_column("")
    changes = {change.name: change for change in result.changes}
    for key, label, _ in render.FIGURES:
        change = changes[key]
        table.add_row(
            label,
            render.figure(key, change.a),
            render.figure(key, change.b),
            render.figure_change(key, change.absolute),
            render.signed(change.relative),
            change.verdict,
        )
    console = output.console()
    left_out = f", {result.left_out:,} left out" if result.left_out else ""
    console.print(f"{len(result.pairs):,} pages{left_out}")
    console.print(table)
    interval = result.interval
    verdict = {"better": "B is better", "worse": "B is worse", "unclear": "no clear difference"}[result.verdict]
    bounds = f"95 % interval {render.points(interval.low)} to {render.points(interval.high)}"
    console.print(f"Mean CER {render.points(interval.estimate)} points, {bounds}: {verdict} ({result.reason}).")
    console.print(
        f"Pages: {len(result.improved):,} improved, {len(result.worsened):,} worsened; "
        f"{len(result.became_exact):,} became exact, {len(result.lost_exact):,} are no longer exact."
    )
    if report is not None:
        console.print(f"Report: {report}", markup=False, soft_wrap=True)
