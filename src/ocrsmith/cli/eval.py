"""`ocrsmith eval`: parse → evaluate → print. Loads torch only when it runs."""

from __future__ import annotations

import json
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ocrsmith.cli import output
from ocrsmith.cli.options import (
    FILE,
    OPENAI,
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
    Split,
    Timeout,
    open_reader,
)
from ocrsmith.cli.progress import PageBar
from ocrsmith.cli.tables import print_metrics
from ocrsmith.errors import SettingsError, require

if TYPE_CHECKING:
    from ocrsmith.datasets import Dataset
    from ocrsmith.engines.base import Engine
    from ocrsmith.evaluation import Metrics
    from ocrsmith.records import SplitName


VERDICT = "What it is held against"


class EngineName(StrEnum):
    """Who reads the pages; a test holds it to the engines that there are."""

    native = "native"
    vllm = "vllm"
    openai = "openai"
    file = "file"
    tesseract = "tesseract"
    rapidocr = "rapidocr"


def eval_(
    data: Annotated[Path, typer.Option(help="Dataset: its folder or prefix.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Evaluation folder to write.")],
    model: Annotated[
        str | None,
        typer.Option(help="nano, a model folder, a hub id; for openai, the server's name."),
    ] = None,
    adapter: Adapter = None,
    engine: Annotated[
        EngineName, typer.Option(help="Who reads: the model in this process, a server, a file, a baseline.")
    ] = EngineName.native,
    split: Annotated[Split, typer.Option(help="Split to read.")] = Split.test,
    limit: Annotated[int | None, typer.Option(min=1, help="Read only the first pages of the split.")] = None,
    batch_size: BatchSize = None,
    max_new_tokens: MaxNewTokens = None,
    mode: ModeOption = None,
    loop_retries: Annotated[
        bool,
        typer.Option(
            "--loop-retries/--no-loop-retries",
            help="Read pages that loop again: tighter n-gram rule, then another mode.",
        ),
    ] = True,
    device: DeviceOption = None,
    dtype: DtypeOption = None,
    base: Annotated[
        Path | None,
        typer.Option(metavar="EVAL", help="Show before and after in the report.", rich_help_panel=VERDICT),
    ] = None,
    calibration: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Of `ocrsmith calibrate`, or its folder.", rich_help_panel=VERDICT),
    ] = None,
    accept_cer: Annotated[
        float | None,
        typer.Option(
            metavar="CER",
            help="Which pages may pass unseen so that their CER stays below this, e.g. 0.02.",
            rich_help_panel=VERDICT,
        ),
    ] = None,
    base_url: BaseUrl = None,
    dialect: DialectOption = None,
    api_key_env: ApiKeyEnv = None,
    allow_http: AllowHttp = False,
    concurrency: Concurrency = None,
    timeout: Timeout = None,
    retries: Annotated[
        int | None, typer.Option(min=0, help="Further tries of a page.", rich_help_panel=OPENAI)
    ] = None,
    extra_body: Annotated[
        str | None, typer.Option(metavar="JSON", help="Fields added to each request.", rich_help_panel=OPENAI)
    ] = None,
    predictions: Annotated[
        Path | None,
        typer.Option(help="JSONL, CSV, TSV, Parquet, or a folder of ID.txt.", rich_help_panel=FILE),
    ] = None,
    id_column: Annotated[
        str | None, typer.Option(metavar="NAME", help="Column of the pages' ids.", rich_help_panel=FILE)
    ] = None,
    text_column: Annotated[
        str | None, typer.Option(metavar="NAME", help="Column of what was read.", rich_help_panel=FILE)
    ] = None,
    language: Language = None,
    psm: Psm = None,
    rapidocr_models: RapidocrModels = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Throw away what the folder holds of an earlier evaluation.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Let a model read a dataset, and score what it read.

    Writes predictions.parquet, metrics.json and report.html. Pages are kept
    as they are read: after Ctrl-C or a crash, the same command goes on where
    it stopped.
    """
    from ocrsmith.datasets import open_dataset
    from ocrsmith.evaluation import evaluate
    from ocrsmith.evaluation.conclude import Conclusions
    from ocrsmith.evaluation.evaluate import check_request
    from ocrsmith.evaluation.store import METRICS, PREDICTIONS, REPORT, load_figures, load_metrics

    name: SplitName = split.value
    if engine is EngineName.native:
        require("torch", extra="train", why="Reading pages with a model")
    dataset = open_dataset(data)
    check_request(dataset, name, out, limit=limit)
    conclusions = Conclusions(calibration, accept_cer, base)
    conclusions.check()
    reader = open_reader(
        engine.value,
        loop_retries=loop_retries,
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
        retries=retries,
        extra_body=_json_object(extra_body),
        path=predictions,
        id_column=id_column,
        text_column=text_column,
        language=language,
        psm=psm,
        models=rapidocr_models,
    )
    _say_what_is_special(reader, dataset, name, limit)
    bar = PageBar(then="Scoring")
    try:
        with bar:
            metrics = evaluate(
                reader,
                dataset,
                name,
                out,
                limit=limit,
                overwrite=overwrite,
                conclusions=conclusions,
                progress=bar,
                warn=output.warn,
            )
    except KeyboardInterrupt:
        if bar.done:
            kept = f"{bar.done:,} of {bar.total:,} pages are kept in {out}"
            output.notes().print(f"{kept}. To go on, run the same command again.", markup=False, soft_wrap=True)
        raise
    _, provenance = load_metrics(out)
    figures = load_figures(out)
    if metrics.failed:
        output.warn(_failure(out / PREDICTIONS, metrics))
    if as_json:
        files = {"metrics": out / METRICS, "predictions": out / PREDICTIONS, "report": out / REPORT}
        more: dict[str, Any] = {key: figures[key] for key in ("retries", "confidence") if key in figures}
        output.print_json({**metrics.to_json(), **more, "provenance": provenance, "out": out, "files": files})
    else:
        print_metrics(metrics, out / REPORT, figures)


def _json_object(text: str | None) -> dict[str, Any] | None:
    if text is None:
        return None
    try:
        value = json.loads(text)
    except ValueError as error:
        value = error
    if not isinstance(value, dict):
        raise SettingsError(
            f"{text!r} is no JSON object.", place="--extra-body", mend="""Write e.g. '{"top_p": 1}'."""
        )
    return value


def _say_what_is_special(reader: Engine, dataset: Dataset, split: SplitName, limit: int | None) -> None:
    """What the engine cannot do that the recipe asks for, and what of its file does not fit the dataset."""
    for what, why in reader.describe().get("not_honoured", {}).items():
        output.notes().print(f"{reader.name}: {what}: {why}.", markup=False, soft_wrap=True)
    match = getattr(reader, "match", None)
    if match is not None:
        ids = (sample.id for sample in islice(dataset.iter_samples(split), limit))
        for line in (*getattr(reader, "warnings", ()), *match(ids).warnings):
            output.warn(line)


def _failure(predictions: Path, metrics: Metrics) -> str:
    """What failed most, so that nobody has to search for it."""
    from collections import Counter

    from ocrsmith.evaluation.store import load_predictions

    errors = Counter(result.error or "" for result in load_predictions(predictions) if result.error)
    reason, count = errors.most_common(1)[0]
    pages = "1 page" if metrics.failed == 1 else f"{metrics.failed:,} pages"
    return f"{pages} of {metrics.n:,} failed and count as CER 100 %. Most often ({count:,}): {reason}"
