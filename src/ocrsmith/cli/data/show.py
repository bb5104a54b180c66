"""`ocrsmith data show`: look at a dataset."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ocrsmith.cli import output
from ocrsmith.cli.data.sample_lines import print_lines, shorten

if TYPE_CHECKING:
    from ocrsmith.datasets import Dataset
    from ocrsmith.records import PageSample


def show(
    dataset: Annotated[
        Path, typer.Argument(metavar="DIR", help="A dataset folder, or the prefix of its files.")
    ],
    split: Annotated[str | None, typer.Option(help="Only this split: train, val or test.")] = None,
    number: Annotated[
        int, typer.Option("-n", "--number", metavar="N", min=0, help="Samples of each split.")
    ] = 3,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")] = False,
) -> None:
    """Show what a dataset holds: counts, what was left out, and the first samples."""
    from ocrsmith.datasets import open_dataset
    from ocrsmith.datasets.schema import split_name
    from ocrsmith.errors import SettingsError
    from ocrsmith.records import SPLITS

    if split is not None and split_name(split) is None:
        raise SettingsError(f"There is no split {split!r}.", place="--split", mend=f"Use {', '.join(SPLITS)}.")
    opened = open_dataset(dataset)
    result = _show_json(opened, split, number)
    if as_json:
        output.print_json(result)
    else:
        _print_show(result)


def _show_json(opened: Dataset, split: str | None, number: int) -> dict[str, Any]:
    from itertools import islice

    from ocrsmith.datasets.schema import split_name
    from ocrsmith.records import SPLITS

    names = [name for name in SPLITS if split is None or name == split_name(split)]
    manifest = opened.manifest or {}
    return {
        "dataset": str(opened.path),
        "prompt": opened.prompt,
        "content_hash": opened.content_hash,
        "splits": {name: opened.count(name) for name in SPLITS},
        "excluded": manifest.get("excluded", {}),
        "notes": manifest.get("notes", []),
        "sources": [source["path"] for source in manifest.get("sources", [])],
        "samples": {
            name: [_sample_json(sample) for sample in islice(opened.iter_samples(name), number)]
            for name in names
        },
    }


def _sample_json(sample: PageSample) -> dict[str, Any]:
    from ocrsmith.images import open_image

    width, height = open_image(sample.image).size
    values = {
        name: getattr(sample, name)
        for name in ("id", "text", "image_path", "group", "source", "prompt", "meta")
    }
    return {**values, "image_bytes": len(sample.image), "width": width, "height": height}


def _print_show(result: dict[str, Any]) -> None:
    from ocrsmith.datasets.ledger import REASONS

    lines = [f"Dataset {result['dataset']}: {sum(result['splits'].values())} samples"]
    lines += [f"  {name:<6}{count:>8}" for name, count in result["splits"].items()]
    lines += [f"Prompt:  {result['prompt']!r}", f"Hash:    {result['content_hash']}"]
    lines += [f"Source:  {path}" for path in result["sources"]]
    lines += [
        f"Left out: {count} {name}: {REASONS.get(name, '')}" for name, count in result["excluded"].items()
    ]
    lines += [f"Note: {note}" for note in result["notes"]]
    for name, samples in result["samples"].items():
        lines += ["", f"{name}, the first {len(samples)}:"] if samples else []
        for sample in samples:
            lines += [
                f"  {sample['id']}  {sample['width']}×{sample['height']}"
                + (f"  document {sample['group']}" if sample["group"] else ""),
                f"    {shorten(sample['text'])}",
            ]
    print_lines(lines)
