"""`ocrsmith sweep`: parse → read in each mode → print. Loads torch only when it runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from ocrsmith.cli import output
from ocrsmith.cli.options import (
    Adapter,
    AsJson,
    BatchSize,
    Device,
    Dtype,
    MaxNewTokens,
    Mode,
    Split,
    keep_memory,
)
from ocrsmith.cli.progress import CountBar
from ocrsmith.errors import require

if TYPE_CHECKING:
    from ocrsmith.engines.base import Engine, PageRequest
    from ocrsmith.engines.native import NativeEngine
    from ocrsmith.evaluation.sweep import MemoryGauge, Sweep
    from ocrsmith.records import SplitName


def sweep(
    data: Annotated[Path, typer.Option(help="Dataset: its folder or prefix.")],
    model: Annotated[str, typer.Option(help="nano, a model folder, or a hub id.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder to write: a folder for each mode in it.")],
    modes: Annotated[
        str, typer.Option(metavar="MODES", help="Resolution modes, with commas between them.")
    ] = "tiny,small,base,gundam",
    adapter: Adapter = None,
    split: Annotated[Split, typer.Option(help="Split to read.")] = Split.val,
    limit: Annotated[int | None, typer.Option(min=1, help="Read only the first pages of the split.")] = None,
    within: Annotated[
        float, typer.Option(help="Mean CER that may be lost against the best mode: 0.005 is half a point.")
    ] = 0.005,
    batch_size: BatchSize = None,
    max_new_tokens: MaxNewTokens = None,
    device: Annotated[Device, typer.Option(help="Where to run.")] = Device.auto,
    dtype: Annotated[Dtype, typer.Option(help="Precision.")] = Dtype.auto,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Throw away what the folders hold of an earlier sweep.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Say which resolution mode to take: read pages in each, and weigh accuracy against cost.

    Reads a split in every mode with the same model, and tells the cheapest
    mode whose mean CER is within a bound of the best one. Writes an evaluation
    folder for each mode, sweep.json and sweep.html. After Ctrl-C or a crash,
    the same command goes on where it stopped.
    """
    from ocrsmith.datasets import open_dataset
    from ocrsmith.evaluation.evaluate import check_request
    from ocrsmith.evaluation.sweep import SWEEP, SWEEP_REPORT, check_bound, parse_modes
    from ocrsmith.evaluation.sweep import sweep as run_sweep

    wanted = parse_modes(modes, [mode.value for mode in Mode])
    check_bound(within)
    require("torch", extra="train", why="Reading pages with a model")
    dataset = open_dataset(data)
    name: SplitName = split.value
    check_request(dataset, name, out, limit=limit)
    engine = _open(
        model,
        adapter=adapter,
        max_new_tokens=max_new_tokens,
        batch_size=batch_size,
        device=device.value,
        dtype=dtype.value,
    )
    made = run_sweep(
        engine,
        dataset,
        name,
        out,
        wanted,
        within=within,
        limit=limit,
        overwrite=overwrite,
        # On a card graphs are recorded for a whole batch; on a CPU a page may take minutes.
        warm_up=engine.batch_size if engine.device.type == "cuda" else 1,
        count_tokens=count_tokens,
        memory=_gauge(engine),
        watch=lambda mode: _watch(mode, out / mode, overwrite=overwrite),
    )
    if as_json:
        files = {"sweep": out / SWEEP, "report": out / SWEEP_REPORT}
        output.print_json({**made.to_json(), "out": out, "files": files})
    else:
        _print(made, out / SWEEP_REPORT)


def _open(model: str, **options: Any) -> NativeEngine:
    """The engine as `ocrsmith eval` opens it, so that the times are the same."""
    from ocrsmith.engines.native import NativeEngine

    keep_memory(options["device"])
    with output.notes().status(f"Opening {model}"):
        return NativeEngine.load(model, **options)


def _gauge(engine: NativeEngine) -> MemoryGauge:
    from ocrsmith.engines.native.memory import memory_gauge

    return memory_gauge(engine.device)


def count_tokens(engine: Engine, page: PageRequest) -> tuple[int, int]:
    """Image and prompt tokens of a page as a native engine would read it, from the image's size alone.

    Raises:
        ImageError, InputError: it cannot be read.
    """
    from ocrsmith.training.survey import upright_size

    processor = cast("NativeEngine", engine).processor
    size = upright_size(page.image)
    image = processor.count_image_tokens(*size)
    return image, processor.count_tokens([size], prompt=page.prompt) - image


@contextmanager
def _watch(mode: str, folder: Path, *, overwrite: bool) -> Iterator[CountBar]:
    """A bar for each mode; after Ctrl-C it says what is kept."""
    bar = CountBar("pages", f"{mode:<6}", f"{mode}: read")
    try:
        with bar:
            yield bar
        output.notes().print(f"{mode}: {bar.total:,} pages read")
    except KeyboardInterrupt:
        if bar.done:
            kept = f"{mode}: {bar.done:,} of {bar.total:,} pages are kept in {folder}"
            again = "run the same command again" + (", without --overwrite" if overwrite else "")
            output.notes().print(f"{kept}. To go on, {again}.", markup=False, soft_wrap=True)
        raise


def _print(made: Sweep, report: Path) -> None:
    """The modes side by side, the choice, and where the report is."""
    from rich.table import Table

    from ocrsmith.evaluation.report.sweep import seconds, size
    from ocrsmith.evaluation.report.wording import percent

    table = Table(box=None, pad_edge=False)
    table.add_column("")
    for name in ("mean CER", "95 %", "P90", "loops", "a page", "image tokens", "memory"):
        table.add_column(name, justify="right", no_wrap=True)
    choice = made.choices.choice
    for reading in made.choices.readings:
        figures = reading.metrics
        low, high = figures.cer.mean_ci95
        table.add_row(
            reading.mode,
            percent(figures.cer.mean),
            f"{low * 100:.2f}–{high * 100:.2f}",
            percent(figures.cer.p90),
            f"{figures.loops:,}",
            seconds(reading.seconds_per_page),
            f"{reading.image_tokens:,.0f}",
            size(reading.peak_memory),
            style="bold" if choice and reading.mode == choice.mode else "",
        )
    console = output.console()
    console.print(table)
    if choice:
        console.print(f"Take {choice.mode}, {choice.certainty} good enough. {choice.reason}", soft_wrap=True)
    else:
        console.print("No page could be read in any mode: there is nothing to choose.")
    for note in made.notes:
        output.warn(note)
    console.print(f"Report: {report}", markup=False, soft_wrap=True)
