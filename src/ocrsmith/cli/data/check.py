"""`ocrsmith data check`: parse → check → print. Loads torch only with --model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ocrsmith.cli import output
from ocrsmith.cli.progress import CountBar

if TYPE_CHECKING:
    from ocrsmith.datasets.check import CheckReport
    from ocrsmith.records import PageSample, Prediction

_SHOWN = 3
"""Examples of a finding on the terminal."""
_WIDTH = 64
"""Characters of an example's text on the terminal."""


class CheckBar:
    """How far a check is: first all samples, then with --model all pages."""

    def __init__(self) -> None:
        self._bars = {
            "check": CountBar("samples", "Checking", "checked"),
            "read": CountBar("pages", "Reading", "read"),
        }
        self._current: CountBar | None = None

    def __enter__(self) -> CheckBar:
        return self

    def __exit__(self, *_: object) -> None:
        self._show(None)

    def __call__(self, phase: str, done: int, total: int | None) -> None:
        self._show(self._bars[phase])
        self._bars[phase](done, total or 0)

    def _show(self, bar: CountBar | None) -> None:
        if bar is self._current:
            return
        if self._current is not None:
            self._current.__exit__(None, None, None)
        self._current = bar
        if bar is not None:
            bar.__enter__()


def check(
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="DIR…",
            help="Dataset folders or prefixes; also sources as `data build` takes them, before they are built. "
            "Several are checked as one.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", metavar="DIR", help="Write check.html and check.json into this folder."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="M",
            help="Count tokens as this model does, and let it read all pages to find likely label errors.",
        ),
    ] = None,
    adapter: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Adapter for --model, e.g. RUN/adapter.")
    ] = None,
    read: Annotated[
        bool, typer.Option("--read/--no-read", help="Whether --model reads the pages; else it counts tokens.")
    ] = True,
    limit: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Look only at the first N samples of each split.")
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 1 if there are findings of severity error.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")] = False,
) -> None:
    """Check a dataset: sizes, the mode it needs, characters, copies, likely wrong labels.

    Prints what was found and what to do about it; with -o also writes a report
    with examples and pictures. With --model, samples whose label the model
    confidently reads otherwise are ranked for review.
    """
    from ocrsmith.datasets.check import check_dataset
    from ocrsmith.errors import OutputError, SettingsError

    if out is not None and out.exists() and not out.is_dir():
        raise OutputError("The output is not a folder.", place=str(out), mend="Choose another with -o.")
    if adapter is not None and model is None:
        raise SettingsError("An adapter needs its model.", place="--adapter", mend="Add --model.")
    length = None
    reader = None
    if model is not None:
        from ocrsmith.cli.data.build import length_check

        length = length_check(model)
        reader = _reader(model, adapter) if read else None
    with CheckBar() as bar:
        report = check_dataset(paths, length=length, read=reader, limit=limit, progress=bar)
    files = report.write(out) if out is not None else ()
    if as_json:
        output.print_json({**report.to_json(), "files": [str(path) for path in files]})
    else:
        _print(report, files)
    if strict and report.count("error"):
        raise typer.Exit(output.EXIT_CHECK_FAILED)


def _reader(model: str, adapter: Path | None) -> Callable[[Sequence[PageSample]], Iterable[Prediction]]:
    """Reads pages with the native engine."""
    from ocrsmith.errors import require

    require("torch", extra="train", why="Reading pages with a model")
    from ocrsmith.engines import PageRequest
    from ocrsmith.engines.native import NativeEngine

    with output.notes().status(f"Loading {model}"):
        engine = NativeEngine.load(model, adapter=adapter)

    def read(samples: Sequence[PageSample]) -> Iterable[Prediction]:
        requests = [PageRequest(sample.id, sample.image, sample.prompt, len(sample.text)) for sample in samples]
        return engine.read(requests)

    return read


def _print(report: CheckReport, files: Sequence[Path]) -> None:
    """For people: what was found, worst first, with a few examples and what to do."""
    names = ", ".join(f"{name} {count:,}" for name, count in report.splits.items())
    lines = [f"{report.samples:,} samples" + (f": {names}" if names else "")]
    lines += _figures(report)
    if report.left_out:
        parts = ", ".join(f"{reason} {count:,}" for reason, count in report.left_out.items())
        lines += [f"Left out when built: {parts}", *(f"  e.g.  {line}" for line in report.first_left_out[:2])]
    lines += ["", *_modes(report), ""]
    for item in report.findings:
        count = f" ({item.count:,})" if item.count else ""
        detail = f": {item.detail}" if item.detail else ""
        lines.append(f"{item.severity.upper():<8} {item.title}{detail}{count}")
        if item.severity == "info":
            continue
        lines += [f"         {_shown(example)}" for example in item.examples[:_SHOWN]]
        lines.append(f"         → {item.mend}")
    counts = {name: report.count(name) for name in ("error", "warning", "info")}
    plural = {"error": "errors", "warning": "warnings", "info": "remarks"}
    found = ", ".join(f"{count} {name if count == 1 else plural[name]}" for name, count in counts.items())
    lines += ["", f"Found: {found.replace('info', 'remark')}"]
    lines += [f"Report: {files[0]}"] if files else ["With -o DIR: a report with examples and pictures."]
    text = "\n".join(_plain(line) for line in lines)
    output.console().print(text, markup=False, emoji=False, soft_wrap=True)


def _figures(report: CheckReport) -> list[str]:
    figures = report.figures

    def span(name: str) -> str:
        tally = figures.tally(name)
        return f"{tally.quantile(0.5):,.0f} (up to {tally.quantile(1):,.0f})"

    lines = [f"  image   {span('width')} × {span('height')} pixels, median and largest"]
    lines += [
        f"  text    {span('characters')} characters, {span('tokens')} tokens of {report.length.context:,}"
    ]
    languages = figures.kinds.get("all", {}).get("language")
    if languages:
        shares = ", ".join(
            f"{name} {count / languages.total():.0%}" for name, count in languages.most_common(5)
        )
        lines.append(f"  languages  {shares}")
    return lines


def _modes(report: CheckReport) -> list[str]:
    modes = report.modes
    if not modes.measured:
        return ["Mode: no letters could be measured."]
    lines = ["Mode     image tokens   letters of 8 px and more   median letter"]
    lines += [
        f"  {item.mode:<8}{item.tokens_mean:>11,.0f}{item.legible:>24.1%}{item.letter_median:>17.1f} px"
        for item in modes.modes
    ]
    advice = ", ".join(f"{goal:.0%}: {mode or 'none'}" for goal, mode in modes.recommended.items())
    return [*lines, f"Cheapest mode that keeps so many images legible: {advice}"]


def _shown(example: Any) -> str:
    text = example.text if len(example.text) <= _WIDTH else example.text[:_WIDTH] + " …"
    note = f"   [{example.note}]" if example.note else ""
    split = f" ({example.split})" if example.split else ""
    return f"{example.id}{split}: {text}{note}"


def _plain(line: str) -> str:
    """One line; what a terminal would not show or would obey, as escapes, but for joiners of Persian words."""
    return "".join(
        char
        if char.isprintable() or char in "\u200c\u200d"
        else char.encode("unicode_escape", "backslashreplace").decode()
        for char in line
    )
