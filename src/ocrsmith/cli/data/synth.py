"""`ocrsmith data synth`: make a dataset of drawn texts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ocrsmith.cli import output
from ocrsmith.cli.progress import BuildBar, CountBar

KIND_NAMES = "lines, paragraphs, forms, receipts, tables"
LOOK_NAMES = "clean, scan, fax, photo, archive, typewriter"
"""A test holds both to those of `datasets.synth`."""


def synth(
    out: Annotated[Path, typer.Option("-o", "--out", metavar="DIR", help="The dataset's folder.")],
    texts: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE", help="Texts to draw: a file with one a line, or a dataset. May be given again."
        ),
    ] = None,
    words: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Make texts from words: lines `word<tab>count`. May be given again."),
    ] = None,
    wordfreq: Annotated[
        list[str] | None,
        typer.Option(
            metavar="LANG",
            help="Make texts from the frequent words of a language (en, zh, fa …) in the package wordfreq, "
            "whose data are under CC BY-SA 4.0. May be given again.",
        ),
    ] = None,
    count: Annotated[int, typer.Option(metavar="N", help="How many samples.")] = 1000,
    kind: Annotated[
        list[str], typer.Option(metavar="KIND", help=f"{KIND_NAMES}. May be given again: then mixed.")
    ] = ["lines"],  # noqa: B006
    look: Annotated[
        list[str], typer.Option(metavar="LOOK", help=f"{LOOK_NAMES}. May be given again: then mixed.")
    ] = ["scan"],  # noqa: B006
    strength: Annotated[
        float, typer.Option(help="Of the look: 0 clean, 0.5 as it is meant, 1 twice as strong.")
    ] = 0.5,
    fonts: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="PATH",
            help="Font files or folders, instead of the system's. May be given again.",
            show_default="the system's",
        ),
    ] = None,
    vertical: Annotated[
        float, typer.Option(metavar="SHARE", help="Of Chinese and Japanese lines and paragraphs, in columns.")
    ] = 0.0,
    language: Annotated[
        str | None,
        typer.Option(metavar="LANG", help="Of labels where the script leaves a choice: en or fr, fa or ar."),
    ] = None,
    chars: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="More of these characters: one a line, and a tab and its weight."),
    ] = None,
    confusions: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="More of what was confused: lines `reference<tab>prediction<tab>count`.",
        ),
    ] = None,
    emphasis: Annotated[
        float, typer.Option(metavar="SHARE", help="Of the texts that are made for --chars and --confusions.")
    ] = 0.5,
    seed: Annotated[int, typer.Option(help="Decides every pixel, and which samples go where.")] = 42,
    splits: Annotated[
        str, typer.Option(help="Train/val/test: shares such as 80/10/10, or counts such as rest/500/500.")
    ] = "80/10/10",
    prompt: Annotated[
        str | None, typer.Option(metavar="P", help="The dataset's prompt: a name such as free_ocr, or a text.")
    ] = None,
    encoding: Annotated[str, typer.Option(metavar="NAME", help="Encoding of text files.")] = "utf-8",
    workers: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Processes that draw.", show_default="one a core, at most 8"),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a dataset that is there.")] = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Begin anew where an interrupted build has left its work.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")] = False,
) -> None:
    """Make a dataset of drawn texts: lines, paragraphs, forms, receipts, tables.

    Each text is drawn in a font that has all its characters, and made to look scanned, faxed, photographed …
    The same seed, texts and fonts give the same pixels; `meta` of a sample says what was applied.
    """
    from ocrsmith.cli.data.build import print_summary, summary_json
    from ocrsmith.datasets import BuildSettings, build_dataset
    from ocrsmith.datasets.synth import SynthSettings, synth_source
    from ocrsmith.text import FREE_OCR, find_prompt

    build = BuildSettings(
        splits=splits,
        seed=seed,
        prompt=FREE_OCR if prompt is None else find_prompt(prompt),
        overwrite=overwrite,
        fresh=fresh,
    )
    settings = SynthSettings(
        texts=tuple(texts or ()),
        words=tuple(words or ()),
        wordfreq=tuple(wordfreq or ()),
        count=count,
        kinds=tuple(kind),
        looks=tuple(look),
        strength=strength,
        fonts=tuple(fonts or ()),
        vertical=vertical,
        language=language,
        chars=tuple(chars or ()),
        confusions=tuple(confusions or ()),
        emphasis=emphasis,
        encoding=encoding,
        seed=seed,
    )
    with CountBar("font files", "Looking at fonts", "looked at") as bar:
        source = synth_source(settings, workers=workers, told=bar)
    with BuildBar() as bar:
        summary = build_dataset([source], out, build, progress=bar)
    if as_json:
        output.print_json(summary_json(summary))
    print_summary(summary)
