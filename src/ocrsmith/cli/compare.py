"""`ocrsmith compare`: parse → compare → print."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ocrsmith.cli import output
from ocrsmith.cli.tables import print_comparison


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
    from ocrsmith.evaluation import save_comparison
    from ocrsmith.evaluation.store import COMPARISON_REPORT

    result = compare_folders(a, b, intersect=intersect)
    if out is not None:
        save_comparison(result, out, names=_names(a, b))
    if as_json:
        output.print_json(result.to_json())
    else:
        print_comparison(result, out / COMPARISON_REPORT if out is not None else None)


def _names(a: Path, b: Path) -> tuple[str, str]:
    """What to call the two: the folders' own names, or more of their paths where those are alike."""
    first, second = a.resolve(), b.resolve()
    if first.name != second.name:
        return first.name, second.name
    return str(a), str(b)
