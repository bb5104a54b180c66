"""`ocrsmith canary`: parse → read or write the store → print."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ocrsmith.cli import output
from ocrsmith.errors import InputError, SettingsError, require

if TYPE_CHECKING:
    from ocrsmith.serving.canary import Store
    from ocrsmith.serving.canary.comparison import CanaryReport

app = typer.Typer(help="Watch a candidate model beside the one that serves: report, review, correct, resume.")

StoreArgument = Annotated[
    str,
    typer.Argument(metavar="STORE", help="What `ocrsmith serve --store` names: a file, or a postgresql URL."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]


@app.command()
def status(store: StoreArgument, as_json: AsJson = False) -> None:
    """Say how a canary stands: traffic, rollback rule, what is kept and corrected."""
    from ocrsmith.serving.canary.report import sections

    with _opened(store) as opened:
        report = _report(opened)
    if as_json:
        told = report.to_json()
        output.print_json({name: told[name] for name in told if name not in ("arms", "agreement")})
        return
    for section in sections(report)[:2]:
        for line in section.lines:
            output.console().print(line, markup=False, soft_wrap=True)


@app.command()
def report(
    store: StoreArgument,
    out: Annotated[
        Path | None,
        typer.Option(
            "-o", "--out", metavar="FILE", help="File.html or .md.", show_default="Markdown on stdout"
        ),
    ] = None,
    corrections: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Corrections (JSONL, CSV or a review queue) to count without storing them."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compare candidate and base: errors on corrected pages, loops, failures, times, agreement.

    With --shadow both models read the same pages, and the corrected ones among
    them are compared as `ocrsmith compare` does (paired bootstrap and
    permutation test). Without, two groups of pages are compared, which takes
    many more corrections. The report says better, worse, or how many
    corrected pages it would take to know.
    """
    from ocrsmith.serving.canary.report import to_html, to_markdown
    from ocrsmith.settings.files import write_text

    if out is not None and out.suffix.lower() not in (".html", ".md"):
        raise SettingsError(f"{out.name!r} ends in neither .html nor .md.", place="-o", mend="Rename it.")
    with _opened(store) as opened:
        made = _report(opened, corrections)
    if out is not None:
        write_text(out, to_html(made) if out.suffix.lower() == ".html" else to_markdown(made))
        output.notes().print(f"Written: {out}", markup=False, soft_wrap=True)
    if as_json:
        output.print_json(made.to_json())
    elif out is None:
        output.console().print(to_markdown(made), markup=False, emoji=False, soft_wrap=True, end="")


@app.command()
def review(
    store: StoreArgument,
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder to write.")],
    count: Annotated[int, typer.Option(metavar="N", help="Pages at most.")] = 200,
    as_json: AsJson = False,
) -> None:
    """Write kept pages for review, most doubtful first: images, a table to correct, a page to read.

    In OUT/labels.csv correct the column `text`, and put a mark into `reviewed`
    for every page that you have checked, also where nothing was wrong. Which
    model a text is from is not told. Then `ocrsmith canary correct STORE OUT`
    takes the marked rows, and `ocrsmith data build OUT` makes a dataset.
    """
    from ocrsmith.serving.canary.review import write_review

    with _opened(store) as opened:
        pages = write_review(opened, out, count=count)
        place = "STORE" if "://" in opened.place else opened.place
    if as_json:
        output.print_json({"out": out if pages else None, "pages": pages})
    elif not pages:
        output.console().print("There is no kept page without a correction. Nothing was written.")
    else:
        console = output.console()
        console.print(f"{_pages(pages)}: {out / 'review.html'}", markup=False, soft_wrap=True)
        console.print(f"Next: correct and mark {out / 'labels.csv'}, then", markup=False, soft_wrap=True)
        console.print(f"  ocrsmith canary correct {place} {out}", markup=False, soft_wrap=True)


@app.command()
def correct(
    store: StoreArgument,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="JSONL, CSV, or a reviewed queue's folder.")],
    as_json: AsJson = False,
) -> None:
    """Bring in true texts, by the id of the answer or the SHA-256 of the image: all, or none.

    JSONL: {"id": "chatcmpl-…", "text": "…"} a line each, with "by" and "at"
    if you like; CSV: the same as columns. Only pages whose answers were kept
    can be held against them (--keep of `ocrsmith serve`); others are counted
    and left out. A running server looks at its rollback rule again.
    """
    from ocrsmith.serving.canary.corrections import load_corrections

    with _opened(store) as opened:
        found = load_corrections(opened, file)
        opened.correct(found.corrections)
    taken = len(found.corrections)
    if as_json:
        output.print_json({"corrected": taken, "not_kept": found.not_kept, "not_reviewed": found.unmarked})
        return
    output.console().print(f"{_pages(taken)} corrected.")
    if found.not_kept:
        output.warn(f"{_pages(found.not_kept)} left out: their answers were not kept.")
    if found.unmarked:
        output.warn(f"{_pages(found.unmarked)} left out: no mark in the column reviewed.")


@app.command()
def resume(store: StoreArgument, as_json: AsJson = False) -> None:
    """Give the candidate its share again after a rollback; its figures begin anew.

    Running servers notice within seconds.
    """
    with _opened(store) as opened:
        event = opened.resume({})
    if as_json:
        output.print_json({"resumed": event is not None, "round": event.round if event else None})
    elif event is None:
        output.console().print("Nothing was rolled back; nothing changed.")
    else:
        output.console().print(f"Resumed: round {event.round} of {event.candidate} begins.", markup=False)


@contextmanager
def _opened(place: str) -> Iterator[Store]:
    require("sqlalchemy", extra="serve", why="A canary's store")
    from ocrsmith.serving.canary.store import open_store

    with open_store(place) as store:
        yield store


def _report(store: Store, corrections: Path | None = None) -> CanaryReport:
    from ocrsmith.serving.canary.comparison import make_report
    from ocrsmith.serving.canary.corrections import load_corrections

    more: Any = () if corrections is None else load_corrections(store, corrections).corrections
    made = make_report(store, corrections=more)
    if made is None:
        mend = "Start a server with --candidate and this --store."
        raise InputError("No canary was ever started with this store.", place=store.place, mend=mend)
    return made


def _pages(count: int) -> str:
    return "1 page" if count == 1 else f"{count:,} pages"
