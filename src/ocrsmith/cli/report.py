"""`ocrsmith report`: a finished evaluation, written in the form that is asked for."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ocrsmith.cli import output
from ocrsmith.errors import OcrsmithError, SettingsError

if TYPE_CHECKING:
    from ocrsmith.evaluation import Evaluation


class ReportFormat(StrEnum):
    """What a report is written as."""

    html = "html"
    md = "md"
    json = "json"
    csv = "csv"
    junit = "junit"


def report(
    evaluation: Annotated[Path, typer.Argument(metavar="EVAL", help="Evaluation folder.")],
    format: Annotated[
        ReportFormat, typer.Option("--format", help="The page, a comment's text, or files for machines.")
    ] = ReportFormat.html,
    out: Annotated[
        Path | None,
        typer.Option(
            "-o", "--out", metavar="FILE", help="File to write.", show_default="stdout; html: in EVAL"
        ),
    ] = None,
    fail_above: Annotated[
        float | None,
        typer.Option(
            metavar="CER", help="junit: pages above this fail, too; 0.1 is 10 %.", show_default="none"
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object on stdout: what was written where.")
    ] = False,
) -> None:
    """Write a finished evaluation as HTML, Markdown, JSON, CSV or JUnit XML.

    - html: report.html, made again
    - md: headline, figures, kinds of errors and worst pages, for a pull request
    - json: metrics.json, and a row for each page
    - csv: a row for each page. Texts that begin with = + - @ get an apostrophe
      before them, so that no spreadsheet takes them for formulas
    - junit: each page a test; pages that loop or have no result fail
    """
    from ocrsmith.evaluation import load
    from ocrsmith.evaluation.store import REPORT
    from ocrsmith.settings.files import write_text

    _check(format, out, fail_above, as_json=as_json)
    if format is ReportFormat.html:
        out = out or evaluation / REPORT
    finished = load(evaluation)
    text = _render(format, evaluation, finished, fail_above)
    if out is None:
        _to_stdout(text)
        return
    write_text(out, text)
    if as_json:
        output.print_json({"format": format.value, "file": out, "pages": finished.metrics.n})
    else:
        output.notes().print(f"Written: {out}", markup=False, soft_wrap=True)


def _check(format: ReportFormat, out: Path | None, fail_above: float | None, *, as_json: bool) -> None:
    """Refuses options that do not go together. Raises SettingsError."""
    if fail_above is not None and format is not ReportFormat.junit:
        raise SettingsError(
            f"{format.value} has no tests that could fail.", place="--fail-above", mend="Give --format junit."
        )
    if fail_above is not None and not (math.isfinite(fail_above) and fail_above >= 0):
        raise SettingsError(
            f"The bound is {fail_above:g}.", place="--fail-above", mend="Give a fraction: 0.1 is 10 %."
        )
    if as_json and out is None and format not in (ReportFormat.html, ReportFormat.json):
        raise SettingsError(
            f"Both the report as {format.value} and a JSON object would go to stdout.",
            place="--json",
            mend="Write the report to a file with -o.",
        )


def _render(format: ReportFormat, folder: Path, finished: Evaluation, fail_above: float | None) -> str:
    from ocrsmith.evaluation import formats
    from ocrsmith.evaluation.store import load_figures

    if format is ReportFormat.csv:
        return formats.to_csv(finished)
    if format is ReportFormat.junit:
        return formats.to_junit(finished, fail_above=fail_above)
    figures = load_figures(folder)
    if format is ReportFormat.md:
        return formats.to_markdown(finished, figures)
    if format is ReportFormat.json:
        return formats.to_json(finished, figures)
    from ocrsmith.evaluation.page_images import evaluated_images
    from ocrsmith.evaluation.report import render_evaluation

    def images(ids: Sequence[str]) -> dict[str, bytes]:
        return evaluated_images(finished.provenance, ids)

    return render_evaluation(finished, figures, images, base=_base(finished))


def _base(finished: Evaluation) -> tuple[Evaluation, dict[str, Any]] | None:
    """The earlier evaluation that this one was held against, if it is still there unchanged."""
    from ocrsmith.evaluation import load
    from ocrsmith.evaluation.store import METRICS, load_figures
    from ocrsmith.settings.provenance import file_sha256

    asked = (finished.provenance.get("conclusions") or {}).get("base")
    if not asked:
        return None
    folder = Path(str(asked.get("path")))
    try:
        if file_sha256(folder / METRICS) == asked.get("sha256"):
            return load(folder), load_figures(folder)
    except (OSError, OcrsmithError):
        pass
    output.warn(f"The base {folder} is gone or has changed: before and after are left out.")
    return None


def _to_stdout(text: str) -> None:
    """As UTF-8 and with line feeds, whatever the terminal's own way: the next program reads it."""
    sys.stdout.flush()
    sys.stdout.buffer.write(text.encode("utf-8"))
    sys.stdout.buffer.flush()
