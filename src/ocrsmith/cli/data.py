"""`ocrsmith data`: build datasets and look at them."""

from __future__ import annotations

import json
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ocrsmith.cli import output
from ocrsmith.cli.encode import encode
from ocrsmith.cli.progress import BuildBar

if TYPE_CHECKING:
    from ocrsmith.datasets import BuildSummary, Dataset, LengthCheck
    from ocrsmith.records import PageSample

app = typer.Typer(help="Build, check and look at datasets; encode their images ahead of a training.")

_SHOWN_CHARACTERS = 100


class Layout(StrEnum):
    """How a dataset lies on disk."""

    folder = "folder"
    prefix = "prefix"


@app.command()
def build(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE…",
            help="Text files with a line `image path<tab or space>text` for each image (content.md), CSV, TSV "
            "or Parquet files, folders of datasets.",
        ),
    ],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="DIR", help="The dataset's folder.")],
    splits: Annotated[
        str, typer.Option(help="Train/val/test: shares such as 80/10/10, or counts such as rest/500/500.")
    ] = "80/10/10",
    seed: Annotated[int, typer.Option(help="Decides which samples go where.")] = 42,
    group_by: Annotated[
        str | None,
        typer.Option(
            metavar="RULE",
            help="Keep the samples of a document in one split: parent (the image's folder), stem-prefix (its "
            "name without the last part), stem-prefix:__ (its name up to the first __), or column:NAME.",
        ),
    ] = None,
    image_column: Annotated[
        str | None, typer.Option(metavar="NAME", help="Column of the image (else image or image_path).")
    ] = None,
    text_column: Annotated[
        str | None, typer.Option(metavar="NAME", help="Column of the text (else text).")
    ] = None,
    layout: Annotated[
        Layout, typer.Option(help="folder: data/train-*.parquet …; prefix: PREFIX_train.parquet …")
    ] = Layout.folder,
    prefix: Annotated[
        str | None, typer.Option(metavar="PREFIX", help="For the prefix layout; else the folder's name.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(metavar="M", help="Measure with this model's tokenizer what is longer than its context."),
    ] = None,
    prompt: Annotated[
        str | None, typer.Option(metavar="P", help="The dataset's prompt: a name such as free_ocr, or a text.")
    ] = None,
    min_side: Annotated[
        int, typer.Option("--min-side", "--min-pixels", help="Leave out images with fewer pixels along a side.")
    ] = 10,
    limit: Annotated[
        int | None, typer.Option(metavar="N", help="Take only the first N usable samples.")
    ] = None,
    encoding: Annotated[str, typer.Option(metavar="NAME", help="Encoding of text files.")] = "utf-8",
    escapes: Annotated[
        bool | None,
        typer.Option(
            "--escapes/--no-escapes",
            help=r"Read \n, \t and \\ in texts as escapes. Otherwise only in TSV files without a header.",
        ),
    ] = None,
    quotes: Annotated[
        bool | None,
        typer.Option(
            "--quotes/--no-quotes",
            help="Double quotes enclose cells. Otherwise so except in TSV files without a header.",
        ),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Leave nothing out: what cannot be used is an error.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a dataset that is there.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")] = False,
) -> None:
    """Build a dataset: check every image and text, split by document, write Parquet files.

    What cannot be used is left out and listed with file, line and reason in DIR/excluded.jsonl.
    """
    from ocrsmith.datasets import BuildSettings, build_dataset
    from ocrsmith.text import FREE_OCR, find_prompt

    settings = BuildSettings(
        splits=splits,
        seed=seed,
        group_by=group_by,
        layout=layout.value,
        prefix=prefix,
        image_column=image_column,
        text_column=text_column,
        encoding=encoding,
        escapes=escapes,
        quotes=quotes,
        prompt=FREE_OCR if prompt is None else find_prompt(prompt),
        min_side=min_side,
        limit=limit,
        strict=strict,
        overwrite=overwrite,
    )
    length = _length_check(model) if model is not None else None
    with BuildBar() as bar:
        summary = build_dataset(sources, out, settings, length=length, progress=bar)
    if as_json:
        output.print_json(_summary_json(summary))
    _print_summary(summary)


@app.command()
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


def _length_check(model: str) -> LengthCheck:
    """Counts tokens as the model's own processor does."""
    from ocrsmith.datasets import LengthCheck
    from ocrsmith.errors import require

    require("torch", extra="train", why="Counting tokens with --model")
    from ocrsmith.model.weights import load_processor, read_config, resolve_model

    processor = load_processor(model)
    config = read_config(resolve_model(model))
    context = min(processor.settings.max_length, config.max_position_embeddings)

    def count(width: int, height: int, text: str, prompt: str | None) -> int:
        return processor.count_tokens([(width, height)], prompt, text)

    return LengthCheck(
        context, count, f"the tokenizer of {model}, for a context of {context:,} tokens", exact=True
    )


def _summary_json(summary: BuildSummary) -> dict[str, Any]:
    from ocrsmith.datasets.schema import LEDGER_FILE

    return {
        "dataset": str(summary.folder),
        "layout": summary.layout,
        "samples": summary.samples,
        "splits": summary.counts,
        "groups": summary.groups,
        "excluded": summary.excluded,
        "excluded_total": sum(summary.excluded.values()),
        "ledger": str(summary.folder / LEDGER_FILE),
        "content_hash": summary.content_hash,
        "text_length": asdict(summary.text_length),
        "image_width": asdict(summary.image_width),
        "image_height": asdict(summary.image_height),
        "length_check": summary.length_check,
        "notes": list(summary.notes),
    }


def _print_summary(summary: BuildSummary) -> None:
    """The summary for people; to stderr where --json keeps stdout."""
    from ocrsmith.datasets.ledger import REASONS, describe
    from ocrsmith.datasets.schema import LEDGER_FILE

    lines = [f"Dataset {summary.folder}: {summary.samples} samples"]
    for name, count in summary.counts.items():
        documents = summary.groups[name]
        lines.append(f"  {name:<6}{count:>8}" + (f"   ({documents} documents)" if documents != count else ""))
    text, width, height = summary.text_length, summary.image_width, summary.image_height
    lines += [
        f"  text    {text.min:.0f} to {text.max:.0f} characters, median {text.median:.0f}",
        f"  images  {width.min:.0f}×{height.min:.0f} to {width.max:.0f}×{height.max:.0f} pixels, median "
        f"{width.median:.0f}×{height.median:.0f}",
    ]
    total = sum(summary.excluded.values())
    lines += ["", f"Left out: {total}" + (f", listed in {summary.folder / LEDGER_FILE}" if total else "")]
    lines += [f"  {count:>6}  {name}: {REASONS.get(name, '')}" for name, count in summary.excluded.items()]
    lines += [f"  e.g.  {describe(item)}" for item in summary.first_excluded[:3]]
    lines += [f"Length: {summary.length_check}."]
    lines += [f"Note: {note}" for note in summary.notes]
    lines += ["", "First sample:", *_sample_lines(summary.example)]
    lines += ["", "Load it:", f"  datasets.load_dataset({str(summary.folder)!r})", "Next:"]
    lines += [f"  ocrsmith train --model nano --data {summary.folder} -o RUN"]
    _print_lines(lines)


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
                f"    {_shorten(sample['text'])}",
            ]
    _print_lines(lines)


app.command()(encode)


def _sample_lines(sample: PageSample) -> list[str]:
    return [f"  {sample.id}", f"    {_shorten(sample.text)}"]


def _shorten(text: str) -> str:
    """One line of a text; line breaks and control characters as escapes."""
    shown = text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + " …"
    return "".join(char if char.isprintable() else json.dumps(char)[1:-1] for char in shown)


def _print_lines(lines: list[str]) -> None:
    """Plain text: brackets in texts and paths are no markup, long lines are not broken."""
    output.console().print("\n".join(lines), markup=False, emoji=False, soft_wrap=True)
