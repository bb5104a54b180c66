"""`ocrsmith data diff`: parse → compare → print."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ocrsmith.cli import output
from ocrsmith.cli.progress import CountBar

if TYPE_CHECKING:
    from ocrsmith.datasets.diff import DatasetDiff

_SHOWN = 5


def diff(
    a: Annotated[Path, typer.Argument(metavar="A", help="Dataset before: a folder, or a prefix.")],
    b: Annotated[Path, typer.Argument(metavar="B", help="Dataset after.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")] = False,
) -> None:
    """Say what changed between two datasets: samples, splits, texts, images, settings.

    Samples are matched by id, then by image and text. Exit code 0 if nothing differs, else 1.
    """
    from ocrsmith.datasets import open_dataset
    from ocrsmith.datasets.diff import diff_datasets

    first, second = open_dataset(a), open_dataset(b)
    with CountBar("samples", "Comparing", "compared") as bar:
        result = diff_datasets(first, second, progress=bar)
    if as_json:
        output.print_json(result.to_json())
    else:
        output.console().print("\n".join(_lines(result)), markup=False, emoji=False, soft_wrap=True)
    if not result.same:
        raise typer.Exit(output.EXIT_CHECK_FAILED)


def _lines(result: DatasetDiff) -> list[str]:
    from ocrsmith.datasets.diff import TITLES

    lines = [f"{result.a}: {result.samples[0]:,} samples", f"{result.b}: {result.samples[1]:,} samples"]
    if result.same:
        return [*lines, "Nothing differs."]
    for kind, count in result.counts.items():
        if not count:
            continue
        lines += ["", f"{count:,} {TITLES[kind]}"]
        if kind == "moved":
            lines += [f"  {number:,} {move}" for move, number in result.moves.items()]
        lines += [f"    {change.id}  {change.detail}".rstrip() for change in result.examples[kind][:_SHOWN]]
        if count > _SHOWN:
            lines.append(f"    … and {count - _SHOWN:,} more")
    if result.settings:
        lines += ["", "Settings:"]
        lines += [f"  {name}: {old!r} → {new!r}" for name, (old, new) in result.settings.items()]
    return lines
