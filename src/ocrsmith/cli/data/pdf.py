"""`ocrsmith data pdf`: make a dataset of page pictures and their Markdown from PDFs."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ocrsmith.cli import output


class TableForm(StrEnum):
    """How tables stand in the text."""

    html = "html"
    markdown = "markdown"


def pdf(
    sources: Annotated[list[Path], typer.Argument(metavar="SOURCE…", help="PDFs, or folders of PDFs.")],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="DIR", help="The dataset's folder.")],
    dpi: Annotated[float, typer.Option(help="Pixels per inch of the pictures.")] = 144,
    max_side: Annotated[
        int, typer.Option(metavar="PIXELS", help="Longest side of a picture; larger pages are drawn smaller.")
    ] = 3000,
    pages: Annotated[
        str | None, typer.Option(metavar="RANGE", help="Only these pages of each PDF: 3, 1-5, 1-5,8 or 10-.")
    ] = None,
    trust: Annotated[
        float, typer.Option(help="Leave out pages whose text scores less: 0 takes all, 1 only the spotless.")
    ] = 0.8,
    tables: Annotated[TableForm, typer.Option(help="How tables stand in the text.")] = TableForm.html,
    keep_furniture: Annotated[
        bool, typer.Option("--keep-furniture", help="Keep headers, footers and page numbers in the text.")
    ] = False,
    jpeg: Annotated[
        int | None, typer.Option(metavar="QUALITY", help="Pictures as JPEG of this quality, else PNG.")
    ] = None,
    password: Annotated[
        str | None,
        typer.Option(metavar="P", envvar="OCRSMITH_PDF_PASSWORD", help="Opens encrypted PDFs."),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(metavar="N", help="Processes that read pages; else one a core.")
    ] = None,
    page_seconds: Annotated[float, typer.Option(help="Give up a page that takes longer.")] = 60,
    page_memory: Annotated[
        int, typer.Option(metavar="MIB", help="Give up a page that takes more memory.")
    ] = 2048,
    splits: Annotated[
        str, typer.Option(help="Train/val/test: shares such as 80/10/10, or counts such as rest/500/500.")
    ] = "80/10/10",
    seed: Annotated[int, typer.Option(help="Decides which documents go where.")] = 42,
    prompt: Annotated[
        str | None, typer.Option(metavar="P", help="The dataset's prompt: a name such as free_ocr, or a text.")
    ] = None,
    limit: Annotated[int | None, typer.Option(metavar="N", help="Take only the first N usable pages.")] = None,
    allow_outside: Annotated[
        bool, typer.Option("--allow-outside", help="Follow links that lead out of a source's folder.")
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Leave nothing out: what cannot be used is an error.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a dataset that is there.")] = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Begin anew where an interrupted build has left its work.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")] = False,
) -> None:
    """Make a dataset from PDFs: a picture of each page, and its text as Markdown.

    Every page's text is judged before it becomes a label: scans with the layer of an OCR program, fonts
    without Unicode values, garbled words, invisible text and the like are left out and listed with page, reason
    and score in DIR/excluded.jsonl. The pages of a PDF stay in one split.
    """
    from ocrsmith.cli.data.build import print_summary, run_build, summary_json
    from ocrsmith.datasets import BuildSettings
    from ocrsmith.datasets.importers.pdf import open_pdf
    from ocrsmith.datasets.pdf.document import PdfOptions
    from ocrsmith.text import FREE_OCR, find_prompt

    options = PdfOptions(
        dpi=dpi,
        max_side=max_side,
        pages=pages,
        trust=trust,
        tables=tables.value,
        keep_furniture=keep_furniture,
        jpeg=jpeg,
        password=password,
        workers=workers,
        page_seconds=page_seconds,
        page_memory=page_memory,
    )
    settings = BuildSettings(
        splits=splits,
        seed=seed,
        prompt=FREE_OCR if prompt is None else find_prompt(prompt),
        limit=limit,
        allow_outside=allow_outside,
        strict=strict,
        overwrite=overwrite,
        fresh=fresh,
    )
    opened = [open_pdf(source, settings.import_options, options) for source in sources]
    summary = run_build(opened, out, settings)
    if as_json:
        output.print_json(summary_json(summary))
    print_summary(summary)
