"""`ocrsmith data build`: sources → a dataset."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ocrsmith.cli import output
from ocrsmith.cli.data.sample_lines import print_lines, sample_lines
from ocrsmith.cli.progress import BuildBar

if TYPE_CHECKING:
    from ocrsmith.datasets import BuildSettings, BuildSummary, LengthCheck
    from ocrsmith.datasets.importers import Source


FORMAT_NAMES = (
    "content, csv, tsv, json, sharegpt, label_studio, pubtabnet, parquet, saved, dataset, hub, webdataset, "
    "paddle_rec, paddle_label, icdar, alto, page_xml, hocr, pdf, pairs"
)
"""A test holds them to those of the importers, which take long to import."""


class Unit(StrEnum):
    """What becomes a sample."""

    page = "page"
    line = "line"


class Labels(StrEnum):
    """What becomes the text of a receipt."""

    fields = "fields"
    text = "text"


class Layout(StrEnum):
    """How a dataset lies on disk."""

    folder = "folder"
    prefix = "prefix"


def build(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE…",
            help="Label files (content.md, CSV, TSV, JSON, JSON Lines, Parquet, PaddleOCR), folders of images "
            "with texts, of ALTO, PAGE XML or hOCR files, of PDFs, tar shards, datasets, a hub id: the format "
            "is recognised (--format says it).",
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
    format_: Annotated[
        str | None,
        typer.Option("--format", metavar="NAME", help=f"Format of the sources: {FORMAT_NAMES}."),
    ] = None,
    unit: Annotated[
        Unit | None,
        typer.Option(
            help="For sources that know where lines are: whole pages, or line images cut from them.",
            show_default="as the format is mostly used",
        ),
    ] = None,
    labels: Annotated[
        Labels, typer.Option(help="For receipts with key fields: learn the fields, or the text of the page.")
    ] = Labels.fields,
    allow_outside: Annotated[
        bool,
        typer.Option(
            "--allow-outside", help="Take images outside the source's folder (absolute paths, .., links)."
        ),
    ] = False,
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
    workers: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Threads for images.", show_default="one a core, at most 8"),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Leave nothing out: what cannot be used is an error.")
    ] = False,
    keep_splits: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="An earlier dataset: its documents keep their splits."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a dataset that is there.")] = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Begin anew instead of going on with an interrupted build.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")] = False,
) -> None:
    """Build a dataset: check every image and text, split by document, write Parquet files.

    What cannot be used is left out and listed with file, line and reason in DIR/excluded.jsonl.
    After Ctrl-C or a crash, the same command goes on where it stopped.
    """
    from ocrsmith.datasets import BuildSettings
    from ocrsmith.text import FREE_OCR, find_prompt

    settings = BuildSettings(
        splits=splits,
        seed=seed,
        group_by=group_by,
        layout=layout.value,
        prefix=prefix,
        format=format_,
        unit=unit.value if unit else None,
        labels=labels.value,
        allow_outside=allow_outside,
        image_column=image_column,
        text_column=text_column,
        encoding=encoding,
        escapes=escapes,
        quotes=quotes,
        prompt=FREE_OCR if prompt is None else find_prompt(prompt),
        min_side=min_side,
        limit=limit,
        strict=strict,
        keep_splits=str(keep_splits) if keep_splits else None,
        overwrite=overwrite,
        fresh=fresh,
    )
    length = length_check(model) if model is not None else None
    summary = run_build(sources, out, settings, length, workers)
    if as_json:
        output.print_json(summary_json(summary))
    print_summary(summary)


def run_build(
    sources: Sequence[str | Source],
    out: Path,
    settings: BuildSettings,
    length: LengthCheck | None = None,
    workers: int | None = None,
) -> BuildSummary:
    """Builds with a progress bar; after Ctrl-C it says how to go on."""
    from ocrsmith.datasets import build_dataset
    from ocrsmith.datasets.resume import kept_work

    try:
        with BuildBar() as bar:
            return build_dataset(sources, out, settings, length=length, progress=bar, workers=workers)
    except KeyboardInterrupt:
        if hint := kept_work(out):
            output.notes().print(hint, markup=False, soft_wrap=True)
        raise


def length_check(model: str) -> LengthCheck:
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


def summary_json(summary: BuildSummary) -> dict[str, Any]:
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


def print_summary(summary: BuildSummary) -> None:
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
    lines += ["", "First sample:", *sample_lines(summary.example)]
    lines += ["", "Load it:", f"  datasets.load_dataset({str(summary.folder)!r})", "Next:"]
    lines += [f"  ocrsmith train --model nano --data {summary.folder} -o RUN"]
    print_lines(lines)
