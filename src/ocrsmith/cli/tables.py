"""Tables of figures for people, which more than one command prints."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ocrsmith.cli import output

if TYPE_CHECKING:
    from ocrsmith.evaluation import Metrics


def print_metrics(metrics: Metrics, report: Path, figures: Mapping[str, Any] | None = None) -> None:
    """The figures of one evaluation, what metrics.json says besides (`figures`), and where its report is."""
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
    for line in remarks(figures or {}):
        console.print(line, markup=False, soft_wrap=True)
    console.print(f"Report: {report}", markup=False, soft_wrap=True)


def remarks(figures: Mapping[str, Any]) -> Iterator[str]:
    """What the further figures of metrics.json say, a line each: hardest strata, retries, acceptance."""
    from ocrsmith.evaluation.report.render import percent

    overall = figures.get("cer", {}).get("mean", 0.0)
    for dimension, strata in figures.get("strata", {}).items():
        if dimension == "cer_band":
            continue  # of course the pages with the most errors are the worst
        known = {label: item for label, item in strata.items() if item["n"] >= FEWEST_PAGES}
        label, worst = max(known.items(), key=lambda item: item[1]["cer.mean"], default=("", None))
        if worst is not None and worst["cer.mean_ci95"][0] > overall:
            yield f"Hardest {dimension}: {label}, mean CER {percent(worst['cer.mean'])} on {worst['n']:,} pages"
    retries = figures.get("retries", {})
    if retries.get("pages"):
        ended = f"{retries['rescued']:,} then ended well, {retries['still_looping']:,} looped again"
        yield f"Read again after a loop: {retries['pages']:,} pages; {ended}"
    accepted = (figures.get("confidence") or {}).get("accept")
    if accepted:
        yield _accepted(accepted)


FEWEST_PAGES = 10
"""Of a stratum that is named as the hardest."""


def _accepted(accept: Mapping[str, Any]) -> str:
    from ocrsmith.evaluation.report.render import percent

    goal = f"CER below {percent(accept['cer'])}, {accept['level']:.0%} sure"
    if accept["threshold"] is None or not accept["pages"]:
        return f"May pass unseen ({goal}): no page. {accept['reason'] or ''}".rstrip()
    return (
        f"May pass unseen ({goal}): {accept['pages']:,} pages ({percent(accept['coverage'], 1)}), those with a "
        f"confidence of {accept['threshold']:.4f} or more; their CER here is {percent(accept['accepted_cer'])}"
    )
