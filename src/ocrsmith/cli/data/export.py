"""`ocrsmith data export`: a dataset in the formats of others, or in our own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ocrsmith.cli import output
from ocrsmith.cli.progress import CountBar

if TYPE_CHECKING:
    from ocrsmith.datasets.exporters import ExportSummary


def export(
    dataset: Annotated[
        Path, typer.Argument(metavar="DIR", help="A dataset folder, or the prefix of its files.")
    ],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="OUT", help="A new folder to write to.")],
    format: Annotated[
        str,
        typer.Option(
            "--format",
            metavar="NAME",
            help="content (content.md and images), sharegpt (JSON Lines with messages and images), paddle "
            "(rec_gt_train.txt … and images), folder (a dataset folder), prefix (OUT_train.parquet …).",
        ),
    ],
    split: Annotated[
        list[str] | None, typer.Option(help="Only this split (train, val or test); may be given again.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")] = False,
) -> None:
    """Write a dataset in another format.

    Images are written with their own bytes. What the format cannot hold is counted and told; samples that it
    cannot hold at all are left out and listed in OUT/excluded.jsonl.
    """
    from ocrsmith.datasets.exporters import export_dataset

    with CountBar("samples", "Writing", "wrote") as bar:
        summary = export_dataset(dataset, out, format, splits=split, progress=bar)
    if as_json:
        output.print_json(
            {
                "folder": summary.folder,
                "format": summary.format,
                "samples": summary.samples,
                "splits": summary.counts,
                "excluded": summary.excluded,
                "notes": summary.notes,
            }
        )
    _print(summary)


def _print(summary: ExportSummary) -> None:
    from ocrsmith.datasets.ledger import REASONS
    from ocrsmith.datasets.schema import LEDGER_FILE

    lines = [f"{summary.folder}: {summary.samples} samples as {summary.format}"]
    lines += [f"  {name:<6}{count:>8}" for name, count in summary.counts.items() if count]
    if summary.excluded:
        total = sum(summary.excluded.values())
        lines.append(f"Left out: {total}, listed in {summary.folder / LEDGER_FILE}")
        lines += [f"  {count:>6}  {name}: {REASONS.get(name, '')}" for name, count in summary.excluded.items()]
    lines += [f"Note: {note}" for note in summary.notes]
    output.console().print("\n".join(lines), markup=False, emoji=False, soft_wrap=True)
