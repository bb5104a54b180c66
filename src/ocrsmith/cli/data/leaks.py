"""`ocrsmith data leaks`: parse → search → print."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ocrsmith.cli import output
from ocrsmith.cli.progress import CountBar

if TYPE_CHECKING:
    from ocrsmith.datasets.leakage import LeakReport


def leaks(
    dataset: Annotated[
        Path, typer.Argument(metavar="DIR", help="A dataset folder, or the prefix of its files.")
    ],
    against: Annotated[
        Path | None,
        typer.Option(metavar="OTHER", help="Also what it has in common with this dataset, in any split."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")] = False,
) -> None:
    """Find what is on two sides of a split: documents, copies, near copies, long texts.

    Exit code 1 if there is any. A model that has seen a page in training, even scanned anew, is not tested by
    it.
    """
    from ocrsmith.datasets import open_dataset
    from ocrsmith.datasets.leakage import find_leaks

    opened = open_dataset(dataset)
    other = None if against is None else open_dataset(against)
    with CountBar("samples", "Comparing", "compared") as bar:
        report = find_leaks(opened, other, progress=bar)
    if as_json:
        output.print_json(report.to_json())
    else:
        _print(report)
    if report.found:
        raise typer.Exit(output.EXIT_CHECK_FAILED)


def _print(report: LeakReport) -> None:
    """A table of what was found, then everything line by line."""
    from rich.markup import escape
    from rich.table import Table

    from ocrsmith.datasets.leakage import LEAK_KINDS, TITLES

    console = output.console()
    console.print(
        ", ".join(f"{count:,} in {side}" for side, count in report.sides.items()), markup=False, soft_wrap=True
    )
    sides = list(dict.fromkeys((leak.known, leak.tested) for leak in report.leaks))
    if sides:
        table = Table(box=None, pad_edge=False)
        table.add_column("samples that share")
        for known, tested in sides:
            table.add_column(escape(f"{tested} ← {known}"), justify="right")
        counts = {(leak.kind, leak.known, leak.tested): leak.count for leak in report.leaks}
        for kind in LEAK_KINDS:
            table.add_row(TITLES[kind], *(f"{counts.get((kind, *pair), 0):,}" for pair in sides))
        console.print(table)
    console.print("\n".join(report.report_lines()), markup=False, emoji=False, soft_wrap=True)
