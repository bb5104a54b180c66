"""`ocrsmith compare`: parse → compare → print."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ocrsmith.cli import output
from ocrsmith.cli.compare.tables import print_comparison, print_comparisons
from ocrsmith.errors import SettingsError

if TYPE_CHECKING:
    from ocrsmith.evaluation.compare import Comparison


def compare(
    base: Annotated[Path, typer.Argument(metavar="BASE", help="Evaluation folder before.")],
    tuned: Annotated[
        list[Path], typer.Argument(metavar="TUNED", help="Evaluation folder after; several: each against BASE.")
    ],
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="Folder for comparison.json and comparison.html.")
    ] = None,
    intersect: Annotated[
        bool, typer.Option("--intersect", help="Compare the pages that all have, whatever else differs.")
    ] = False,
    forgetting: Annotated[
        list[Path] | None,
        typer.Option(
            "--forgetting",
            metavar="EVAL",
            help="Evaluation of the same model on other pages; once for each folder, in the same order.",
        ),
    ] = None,
    max_forgetting: Annotated[
        float,
        typer.Option("--max-forgetting", help="Rise of mean CER there that is allowed (0.01: one point)."),
    ] = 0.01,
    fail_if_worse: Annotated[
        bool,
        typer.Option("--fail-if-worse", help="Exit code 1 if one is worse than BASE, or has forgotten."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")] = False,
) -> None:
    """Put evaluations side by side: what changed, how sure that is, and the samples that flipped.

    All must be of the same dataset and split. The verdict is on mean CER: the
    95 % interval of its change (paired bootstrap over documents) and a
    permutation test have to agree. With more than two evaluations the
    p-values are corrected for their number (Holm).

    With --forgetting, the same models are compared on other pages, too:

      ocrsmith compare base tuned --forgetting base2 --forgetting tuned2

    Exit code 0; with --fail-if-worse 1 where a verdict is worse, or where a
    model has forgotten. What is unclear does not fail.
    """
    from ocrsmith.evaluation.compare import Comparisons, compare_all, save_comparison, save_comparisons
    from ocrsmith.evaluation.store import COMPARISON_REPORT

    if not 0 <= max_forgetting <= 1:
        raise SettingsError(
            f"{max_forgetting:g} is no share of characters.",
            place="--max-forgetting",
            mend="Give a number from 0 to 1: 0.01 allows one percentage point of CER.",
        )
    folders = [base, *tuned]
    found = compare_all(
        folders, intersect=intersect, forgetting=forgetting or (), max_forgetting=max_forgetting
    )
    names = _names(folders)
    report = out / COMPARISON_REPORT if out is not None else None
    together = Comparisons(names, found)
    if out is not None and len(found) == 1:
        save_comparison(found[0], out, names=(names[0], names[1]))
    elif out is not None:
        save_comparisons(together, out)
    if as_json:
        output.print_json(found[0].to_json() if len(found) == 1 else together.to_json())
    elif len(found) == 1:
        print_comparison(found[0], report)
    else:
        print_comparisons(together, report)
    if fail_if_worse and _any_worse(found):
        raise typer.Exit(output.EXIT_CHECK_FAILED)


def _any_worse(found: Sequence[Comparison]) -> bool:
    return any(
        item.verdict == "worse" or (item.forgetting is not None and item.forgetting.forgot == "yes")
        for item in found
    )


def _names(folders: Sequence[Path]) -> tuple[str, ...]:
    """What to call them: the folders' own names, or their paths where two of those are alike."""
    names = tuple(folder.resolve().name for folder in folders)
    return names if len(set(names)) == len(names) else tuple(str(folder) for folder in folders)
