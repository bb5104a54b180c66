"""`ocrsmith compare`: parse → compare → print."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ocrsmith.cli import output

if TYPE_CHECKING:
    from ocrsmith.evaluation import Comparison


def compare(
    a: Annotated[Path, typer.Argument(metavar="A", help="Evaluation folder before.")],
    b: Annotated[Path, typer.Argument(metavar="B", help="Evaluation folder after.")],
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="Folder for comparison.json and comparison.html.")
    ] = None,
    intersect: Annotated[
        bool, typer.Option("--intersect", help="Compare the pages that both have, whatever else differs.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")] = False,
) -> None:
    """Put two evaluations side by side: figures, and the samples that flipped.

    Both must be of the same dataset and split. The interval of the change in
    mean CER is a paired bootstrap over documents.
    """
    from ocrsmith.evaluation import compare as compare_folders
    from ocrsmith.evaluation.compare import save_comparison
    from ocrsmith.evaluation.store import COMPARISON_REPORT

    result = compare_folders(a, b, intersect=intersect)
    if out is not None:
        save_comparison(result, out, names=_names(a, b))
    if as_json:
        output.print_json(result.to_json())
    else:
        _print(result, out / COMPARISON_REPORT if out is not None else None)


def _names(a: Path, b: Path) -> tuple[str, str]:
    """What to call the two: the folders' own names, or more of their paths where those are alike."""
    first, second = a.resolve(), b.resolve()
    if first.name != second.name:
        return first.name, second.name
    return str(a), str(b)


def _print(result: Comparison, report: Path | None) -> None:
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
    console.print(f"Mean CER {render.points(interval.estimate)} points, {bounds}: {verdict}.")
    console.print(
        f"Pages: {len(result.improved):,} improved, {len(result.worsened):,} worsened; "
        f"{len(result.became_exact):,} became exact, {len(result.lost_exact):,} are no longer exact."
    )
    if report is not None:
        console.print(f"Report: {report}", markup=False, soft_wrap=True)
