"""`ocrsmith eval`: parse → evaluate → print. Loads torch only when it runs."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ocrsmith.cli import output
from ocrsmith.cli.progress import PageBar
from ocrsmith.cli.tables import print_metrics
from ocrsmith.errors import require

if TYPE_CHECKING:
    from ocrsmith.evaluation import Metrics
    from ocrsmith.records import SplitName


class Split(StrEnum):
    """A split of a dataset."""

    train = "train"
    val = "val"
    test = "test"


class Mode(StrEnum):
    """A resolution mode."""

    tiny = "tiny"
    small = "small"
    base = "base"
    large = "large"
    gundam = "gundam"


class Device(StrEnum):
    """Where the model runs."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


class Dtype(StrEnum):
    """The precision the model runs in."""

    auto = "auto"
    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


def eval_(
    model: Annotated[str, typer.Option(help="nano, a model folder in hub layout, or a hub id.")],
    data: Annotated[Path, typer.Option(help="Dataset: its folder or prefix.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Evaluation folder to write.")],
    adapter: Annotated[Path | None, typer.Option(help="Adapter folder, e.g. RUN/adapter.")] = None,
    split: Annotated[Split, typer.Option(help="Split to read.")] = Split.test,
    limit: Annotated[int | None, typer.Option(min=1, help="Read only the first pages of the split.")] = None,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Pages decoded at a time.", show_default="by device")
    ] = None,
    max_new_tokens: Annotated[
        int | None, typer.Option(min=1, help="Longest answer in tokens.", show_default="as saved, or 8192")
    ] = None,
    mode: Annotated[Mode | None, typer.Option(help="Resolution mode.", show_default="as saved")] = None,
    device: Annotated[Device, typer.Option(help="Where to run.")] = Device.auto,
    dtype: Annotated[Dtype, typer.Option(help="Precision.")] = Dtype.auto,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Throw away what the folder holds of an earlier evaluation.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")] = False,
) -> None:
    """Let a model read a dataset, and score what it read.

    Writes predictions.parquet, metrics.json and report.html. Pages are kept
    as they are read: after Ctrl-C or a crash, the same command goes on where
    it stopped.
    """
    require("torch", extra="train", why="Reading pages with a model")
    from torch import cuda

    from ocrsmith.datasets import open_dataset
    from ocrsmith.engines.native import NativeEngine
    from ocrsmith.evaluation import evaluate
    from ocrsmith.evaluation.evaluate import check_request
    from ocrsmith.evaluation.store import METRICS, PREDICTIONS, REPORT, load_metrics
    from ocrsmith.model.host_memory import keep_freed_memory

    name: SplitName = split.value
    dataset = open_dataset(data)
    check_request(dataset, name, out, limit=limit)
    if device.value == "cpu" or not cuda.is_available():
        keep_freed_memory()
    with output.notes().status(f"Loading {model}"):
        engine = NativeEngine.load(
            model,
            adapter=adapter,
            mode=mode.value if mode else None,
            max_new_tokens=max_new_tokens,
            batch_size=batch_size,
            device=device.value,
            dtype=dtype.value,
        )
    bar = PageBar()
    try:
        with bar:
            metrics = evaluate(engine, dataset, name, out, limit=limit, overwrite=overwrite, progress=bar)
    except KeyboardInterrupt:
        if bar.done:
            kept = f"{bar.done:,} of {bar.total:,} pages are kept in {out}"
            output.notes().print(f"{kept}. To go on, run the same command again.", markup=False, soft_wrap=True)
        raise
    _, provenance = load_metrics(out)
    if metrics.failed:
        output.warn(_failure(out / PREDICTIONS, metrics))
    if as_json:
        files = {"metrics": out / METRICS, "predictions": out / PREDICTIONS, "report": out / REPORT}
        output.print_json({**metrics.to_json(), "provenance": provenance, "out": out, "files": files})
    else:
        print_metrics(metrics, out / REPORT)


def _failure(predictions: Path, metrics: Metrics) -> str:
    """What failed most, so that nobody has to search for it."""
    from collections import Counter

    from ocrsmith.evaluation.store import load_predictions

    errors = Counter(result.error or "" for result in load_predictions(predictions) if result.error)
    reason, count = errors.most_common(1)[0]
    pages = "1 page" if metrics.failed == 1 else f"{metrics.failed:,} pages"
    return f"{pages} of {metrics.n:,} failed and count as CER 100 %. Most often ({count:,}): {reason}"
