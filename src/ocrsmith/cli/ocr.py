"""`ocrsmith ocr`: parse → read → print. Loads torch only when it runs."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import unicodedata
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ocrsmith.cli import output
from ocrsmith.cli.options import (
    Adapter,
    AllowHttp,
    ApiKeyEnv,
    AsJson,
    BaseUrl,
    BatchSize,
    Concurrency,
    DeviceOption,
    DialectOption,
    DtypeOption,
    Language,
    MaxNewTokens,
    ModeOption,
    Psm,
    RapidocrModels,
    Timeout,
    open_reader,
)
from ocrsmith.cli.progress import PageBar
from ocrsmith.errors import InputError, OcrsmithError, SettingsError, require

if TYPE_CHECKING:
    from ocrsmith.engines.base import Engine
    from ocrsmith.reading.inputs import Input, Inputs
    from ocrsmith.reading.job import Job, Outcome, Run, Trouble
    from ocrsmith.reading.sources import Opener, Source

PDF = "PDFs"
_LISTED = 20


class EngineName(StrEnum):
    """Who reads the pages; a test holds it to the engines that read images."""

    native = "native"
    vllm = "vllm"
    openai = "openai"
    tesseract = "tesseract"
    rapidocr = "rapidocr"


def ocr(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE…", help="Images, TIFFs, PDFs, folders of them; - for stdin.")
    ],
    out: Annotated[
        Path | None, typer.Option("-o", "--out", metavar="DIR", help="Folder to write; else stdout.")
    ] = None,
    format_: Annotated[
        str | None,
        typer.Option(
            "--format", metavar="F", help="md, txt, json, pdf, or several: md,json.", show_default="md"
        ),
    ] = None,
    prompt: Annotated[
        str | None,
        typer.Option(
            metavar="P",
            help="free, markdown, ground, figure, describe, locate:TEXT, or a prompt in full.",
            show_default="as saved",
        ),
    ] = None,
    mark_below: Annotated[
        float | None,
        typer.Option(metavar="C", help="Mark words less sure than this (0 to 1) in Markdown and text."),
    ] = None,
    calibration: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Makes confidences true: a calibration.json.")
    ] = None,
    pictures: Annotated[
        bool,
        typer.Option("--pictures", help="Cut out the pictures that the prompt markdown finds, and link them."),
    ] = False,
    draw_boxes: Annotated[
        bool, typer.Option("--draw-boxes", help="Write each page with the model's boxes drawn on it.")
    ] = False,
    join: Annotated[
        bool,
        typer.Option("--join-tables", help="Tables that run over pages stand on the page they begin on."),
    ] = False,
    model: Annotated[
        str | None, typer.Option(help="nano, a model folder, a hub id; for openai, the server's name.")
    ] = None,
    adapter: Adapter = None,
    engine: Annotated[
        EngineName, typer.Option(help="Who reads: the model in this process, vLLM, a server, a baseline.")
    ] = EngineName.native,
    mode: ModeOption = None,
    max_new_tokens: MaxNewTokens = None,
    batch_size: BatchSize = None,
    device: DeviceOption = None,
    dtype: DtypeOption = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Read again what DIR holds, and replace files that are there.")
    ] = False,
    pages: Annotated[
        str | None,
        typer.Option(
            metavar="RANGE", help="Only these, of TIFFs too: 3, 1-5, 1-5,8 or 10-.", rich_help_panel=PDF
        ),
    ] = None,
    dpi: Annotated[float, typer.Option(help="Pixels per inch.", rich_help_panel=PDF)] = 144,
    max_side: Annotated[
        int,
        typer.Option(
            metavar="PIXELS", help="Longest side; larger pages are drawn smaller.", rich_help_panel=PDF
        ),
    ] = 3000,
    password: Annotated[
        str | None,
        typer.Option(
            metavar="P", envvar="OCRSMITH_PDF_PASSWORD", help="Opens encrypted PDFs.", rich_help_panel=PDF
        ),
    ] = None,
    base_url: BaseUrl = None,
    dialect: DialectOption = None,
    api_key_env: ApiKeyEnv = None,
    allow_http: AllowHttp = False,
    concurrency: Concurrency = None,
    timeout: Timeout = None,
    language: Language = None,
    psm: Psm = None,
    rapidocr_models: RapidocrModels = None,
    as_json: AsJson = False,
) -> None:
    """Read images and PDFs to Markdown, text, JSON or searchable PDFs.

    Pages are kept as they are read: after Ctrl-C or a crash, the same command goes on where it stopped. A
    page that cannot be read is listed and does not stop the others; the exit code is 1 then. On a terminal,
    uncertain words are coloured.
    """
    from ocrsmith.reading.answers import DEFAULT_BELOW
    from ocrsmith.reading.formats import check_formats
    from ocrsmith.reading.job import Job
    from ocrsmith.reading.pdf import PdfOptions
    from ocrsmith.reading.prompts import choose_prompt
    from ocrsmith.reading.reader import make_bounds
    from ocrsmith.reading.sources import Opener

    if out is None and (pictures or draw_boxes):
        option = "--pictures" if pictures else "--draw-boxes"
        raise SettingsError("There is no folder for pictures.", place=option, mend="Give one with -o.")
    on_stdout = _stdout_format(format_, as_json) if out is None else None
    formats = (on_stdout,) if on_stdout else check_formats((format_ or "md").split(","))
    chosen = None if prompt is None else choose_prompt(prompt)
    bounds = make_bounds(DEFAULT_BELOW if mark_below is None else mark_below, calibration)
    pdf = PdfOptions(dpi=dpi, max_side=max_side, password=password)
    if engine is EngineName.native:
        require("torch", extra="train", why="Reading pages with a model")
    with tempfile.TemporaryDirectory(prefix="ocrsmith-ocr-") as scratch, Opener(pdf) as opener:
        inputs, sources = _look(files, out, Path(scratch), opener, pages)
        job = Job(
            inputs=inputs,
            sources=sources,
            out=Path(scratch, "out") if out is None else out,
            formats=formats,
            bounds=bounds,
            marked=mark_below is not None,
            prompt=chosen,
            pictures=pictures,
            boxes=draw_boxes,
            join_tables=join,
            overwrite=overwrite,
        )
        job.check()
        reader = open_reader(
            engine.value,
            model=model,
            adapter=adapter,
            mode=mode,
            max_new_tokens=max_new_tokens,
            batch_size=batch_size,
            device=device,
            dtype=dtype,
            base_url=base_url,
            dialect=dialect,
            api_key_env=api_key_env,
            allow_http=allow_http or None,
            concurrency=concurrency,
            timeout=timeout,
            language=language,
            psm=psm,
            models=rapidocr_models,
        )
        for what, why in reader.describe().get("not_honoured", {}).items():
            _note(f"{reader.name}: {what}: {why}.")
        outcome = _read(job, reader, opener, keeps=out is not None)
        if on_stdout:
            _print_document(job, as_json)
        elif as_json:
            output.print_json(_summary(job, outcome))
        else:
            output.console().print(_sentence(job, outcome), markup=False, soft_wrap=True)
    _say_placed(outcome)
    _say_trouble(outcome)
    if outcome.failed:
        raise typer.Exit(output.EXIT_CHECK_FAILED)


def _stdout_format(given: str | None, as_json: bool) -> str:
    """What goes to stdout; on a terminal the pages themselves, which are coloured there."""
    from ocrsmith.reading.formats import PDF as PDF_FORMAT
    from ocrsmith.reading.formats import check_formats

    names = check_formats((given or ("json" if as_json else "md")).split(","))
    if len(names) > 1 or (as_json and names != ("json",)):
        raise SettingsError(
            f"{', '.join(names)}{' and --json' if as_json else ''} cannot all go to stdout.",
            place="--format",
            mend="Give a folder with -o, or one format.",
        )
    if names == (PDF_FORMAT,) and sys.stdout.isatty():
        raise SettingsError(
            "A terminal cannot show a PDF.",
            place="--format",
            mend="Give a folder with -o, or write > NAME.pdf.",
        )
    return "json" if sys.stdout.isatty() else names[0]


def _look(
    files: Sequence[Path], out: Path | None, scratch: Path, opener: Opener, pages: str | None
) -> tuple[list[Input], list[Source]]:
    """The files to read and what they are. Raises InputError if none of them can be opened."""
    from ocrsmith.reading.inputs import STDIN, find_inputs, spool_stdin
    from ocrsmith.reading.pdf import PageRange
    from ocrsmith.reading.sources import Kind

    wanted = PageRange.parse(pages)
    with output.notes().status("Looking at the files"):
        named = [path for path in files if str(path) != STDIN]
        inputs = [spool_stdin(sys.stdin.buffer, scratch)] if len(named) < len(files) else []
        if named:
            found = find_inputs(named, out=out)
            _say_left_out(found)
            inputs = [*found.files, *inputs]
        if out is None and len(inputs) > 1:
            raise SettingsError(
                f"{len(inputs):,} documents cannot go to stdout.", place="-o", mend="Give a folder with -o."
            )
        sources = [opener.inspect(item.path, wanted) for item in inputs]
    if not any(source.numbers for source in sources):
        more = f" The same or similar goes for {len(sources) - 1:,} more." if len(sources) > 1 else ""
        raise InputError(f"{sources[0].problem}{more}", place=inputs[0].shown)
    if pages is not None and all(source.kind is Kind.IMAGE for source in sources):
        raise SettingsError(
            "None of the files can have several pages.", place="--pages", mend="Leave it out: it is for PDFs."
        )
    return inputs, sources


def _say_left_out(found: Inputs) -> None:
    for folder in found.unreadable:
        output.warn(f"A folder is left out: {folder}")
    if found.ignored:
        _note(f"{_count(found.ignored, 'file')} left out: neither image nor PDF by name.")
    if found.repeated:
        _note(f"{_count(found.repeated, 'file')} named more than once, read once.")


def _read(job: Job, engine: Engine, opener: Opener, *, keeps: bool) -> Outcome:
    from ocrsmith.reading.job import Run

    run = Run(job, engine, opener)
    try:
        with PageBar(then="Writing") as bar:
            return run.read(bar)
    except (KeyboardInterrupt, OcrsmithError):
        opener.close()  # pages that are being drawn need not be waited for
        if keeps:
            _say_kept(run)
        raise


def _say_kept(run: Run) -> None:
    if run.done:
        kept = f"{run.done:,} of {_count(run.total, 'page')} are kept in {run.job.out}"
        _note(f"{kept}. To go on, run the same command again.")


def _print_document(job: Job, as_json: bool) -> None:
    """The one document, to stdout."""
    path = job.outputs(0)[0]
    if path.suffix == ".pdf":
        with path.open("rb") as file:
            shutil.copyfileobj(file, sys.stdout.buffer)
        sys.stdout.flush()
        return
    text = path.read_text(encoding="utf-8")
    if as_json:
        output.print_json(json.loads(text))
    elif sys.stdout.isatty():
        _print_coloured(json.loads(text)["pages"])
    else:
        sys.stdout.write(text)
        sys.stdout.flush()


def _print_coloured(pages: list[dict[str, Any]]) -> None:
    """Pages for a terminal: uncertain words in yellow, those that are less likely than not in red. Nothing in
    the text can steer the terminal."""
    from rich.text import Text

    for page in pages:
        text = Text("".join(map(_visible, page["text"])))
        for span in page["low_confidence"]:
            text.stylize("red" if span["confidence"] < 0.5 else "yellow", span["start"], span["end"])
        if len(pages) > 1:
            output.console().rule(f"page {page['page']}")
        output.console().print(text, soft_wrap=True)


def _visible(letter: str) -> str:
    """A character, or what stands for one that a terminal might obey."""
    return "\ufffd" if unicodedata.category(letter) == "Cc" and letter not in "\n\t" else letter


def _summary(job: Job, outcome: Outcome) -> dict[str, Any]:
    def listed(troubles: list[Trouble]) -> list[dict[str, Any]]:
        return [{"source": item.source, "page": item.page, "reason": item.reason} for item in troubles]

    return {
        "documents": outcome.documents,
        "pages": outcome.pages,
        "failed": listed(outcome.failed),
        "cut": listed(outcome.cut),
        "text_placed_by": dict(outcome.placed),
        "out": job.out,
        "files": [path for paths in outcome.files for path in paths],
    }


def _sentence(job: Job, outcome: Outcome) -> str:
    written = f"{_count(outcome.pages, 'page')} of {_count(outcome.documents, 'document')}"
    return f"{written} read into {job.out} ({', '.join(job.formats)})"


def _say_trouble(outcome: Outcome) -> None:
    for troubles, what in ((outcome.failed, "could not be read"), (outcome.cut, "not all there")):
        if not troubles:
            continue
        lines = [_line(item) for item in troubles[:_LISTED]]
        if len(troubles) > _LISTED:
            lines.append(f"… and {len(troubles) - _LISTED:,} more")
        output.warn(f"{len(troubles):,} {what}:\n  " + "\n  ".join(lines))


def _say_placed(outcome: Outcome) -> None:
    """What the places in the PDF's layer of text rest on."""
    from ocrsmith.reading.places import PLACED_BY

    counts = [
        f"{_count(outcome.placed[how], 'page')} by {what}"
        for how, what in PLACED_BY.items()
        if how in outcome.placed
    ]
    if counts:
        _note(f"The PDFs' text is placed on {', on '.join(counts)}.")


def _line(item: Trouble) -> str:
    place = item.source if item.page is None else f"{item.source}, page {item.page}"
    return f"{place}: {item.reason}"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _note(text: str) -> None:
    output.notes().print(text, markup=False, soft_wrap=True)
