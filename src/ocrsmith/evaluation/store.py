"""Evaluation folders on disk: the journal of a run under way, predictions.parquet and metrics.json.

    OUT/journal.jsonl         while pages are read: a header, then one line a page, flushed at once
    OUT/predictions.parquet   when all is done: one row a page, in the dataset's order
    OUT/metrics.json          figures and provenance
    OUT/report.html

Finished files are written under a temporary name in the same folder and renamed, so there is never half a file.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, get_args

import pyarrow as pa
import pyarrow.parquet as pq

from ocrsmith.engines.confidence import page_confidence
from ocrsmith.errors import DataError, OutputError
from ocrsmith.evaluation.metrics.cer import PageScore, score_page
from ocrsmith.evaluation.statistics import Metrics, summarize
from ocrsmith.records import FinishReason, PageSample, Prediction
from ocrsmith.settings.files import write_file, write_text, writing

PREDICTIONS = "predictions.parquet"
METRICS = "metrics.json"
REPORT = "report.html"
COMPARISON = "comparison.json"
COMPARISON_REPORT = "comparison.html"
JOURNAL = "journal.jsonl"
JOURNAL_FORMAT = 2

SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("group", pa.string()),
        ("image_path", pa.string()),
        ("reference", pa.string()),
        ("prediction", pa.string()),
        ("cer", pa.float64()),
        ("edits", pa.int64()),
        ("tokens", pa.int64()),
        ("logprob_mean", pa.float64()),
        ("logprob_min", pa.float64()),
        ("confidence", pa.float64()),
        ("finish_reason", pa.string()),
        ("error", pa.string()),
        ("seconds", pa.float64()),
        ("source", pa.string()),
        ("meta", pa.string()),
        ("mode", pa.string()),
        ("attempts", pa.int64()),
        ("token_ends", pa.list_(pa.int32())),
        ("token_logprobs", pa.list_(pa.float32())),
    ]
)
LATER_COLUMNS = ("source", "meta", "mode", "attempts", "token_ends", "token_logprobs")
"""What folders of earlier versions lack."""


@dataclass(frozen=True, slots=True)
class PageResult:
    """A page, its reference and what an engine read in it. Images stay in the dataset."""

    index: int
    """Position in the split, from 0."""
    id: str
    group: str
    image_path: str
    reference: str
    prediction: str
    finish_reason: FinishReason
    tokens: int = 0
    logprob_mean: float | None = None
    logprob_min: float | None = None
    error: str | None = None
    seconds: float = 0.0
    source: str = ""
    meta: Mapping[str, Any] = field(default_factory=dict)
    """What the dataset says of the page besides: language, font, region …"""
    mode: str = ""
    attempts: int = 1
    token_ends: tuple[int, ...] = ()
    token_logprobs: tuple[float, ...] = ()
    """See `Prediction` for these four."""

    @classmethod
    def join(cls, index: int, sample: PageSample, prediction: Prediction) -> PageResult:
        """Puts a sample and its prediction together."""
        return cls(
            index=index,
            id=sample.id,
            group=sample.group,
            image_path=sample.image_path,
            reference=sample.text,
            prediction=prediction.text,
            finish_reason=prediction.finish_reason,
            tokens=prediction.tokens,
            logprob_mean=prediction.logprob_mean,
            logprob_min=prediction.logprob_min,
            error=prediction.error,
            seconds=prediction.seconds,
            source=sample.source,
            meta=sample.meta,
            mode=prediction.mode,
            attempts=prediction.attempts,
            token_ends=prediction.token_ends,
            token_logprobs=prediction.token_logprobs,
        )

    def to_row(self) -> dict[str, Any]:
        """The fields by name."""
        return {name: getattr(self, name) for name in _FIELDS}

    @property
    def score(self) -> PageScore:
        """The page's score, computed anew on each call."""
        return score_page(self.reference, self.prediction, failed=self.finish_reason == "error")

    @property
    def confidence(self) -> float | None:
        """How sure the model was of the page, 0 to 1, before any calibration; None if unknown.

        See `engines.confidence.page_confidence`.
        """
        return page_confidence(self)


_FIELDS = tuple(item.name for item in fields(PageResult))


@dataclass(frozen=True)
class Evaluation:
    """A finished evaluation: every page with its score, the figures, and where they come from."""

    results: Sequence[PageResult]
    scores: Sequence[PageScore]
    metrics: Metrics
    provenance: Mapping[str, Any]

    @classmethod
    def of(cls, results: Sequence[PageResult], provenance: Mapping[str, Any]) -> Evaluation:
        """Scores the pages. `results`: at least one, in the dataset's order."""
        scores = [result.score for result in results]
        metrics = summarize(
            scores,
            [result.finish_reason for result in results],
            [result.group for result in results],
            seconds=sum(result.seconds for result in results),
        )
        return cls(results, scores, metrics, provenance)


# --- writing -----------------------------------------------------------------------------------------------


def check_folder(out: Path) -> None:
    """Proves that the evaluation folder can be written to, or made, and leaves everything as it is.

    Raises:
        OutputError: it is a file, or cannot be written to.
    """
    if out.exists() and not out.is_dir():
        raise OutputError(
            "The output is a file, but an evaluation is a folder.",
            place=str(out),
            mend="Name a folder with -o.",
        )
    nearest = next(folder for folder in (out, *out.absolute().parents) if folder.exists())
    with writing(out), tempfile.TemporaryFile(dir=nearest):
        pass


def prepare_folder(out: Path) -> None:
    """Makes the evaluation folder. Raises as `check_folder`."""
    check_folder(out)
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Writes a JSON object, readable by people."""
    text = json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False) + "\n"
    write_text(path, text)


def save(evaluation: Evaluation, out: Path, analysis: Mapping[str, Any] | None = None) -> None:
    """Writes predictions.parquet, then metrics.json: its presence says that the evaluation is complete.

    Args:
        analysis: further keys of metrics.json (see `analysis.Analysis.to_json`).
    """
    table = _table(evaluation)
    write_file(out / PREDICTIONS, lambda file: pq.write_table(table, file, compression="zstd"))
    figures = {**evaluation.metrics.to_json(), **(analysis or {})}
    write_json(out / METRICS, {**figures, "provenance": dict(evaluation.provenance)})


def _table(evaluation: Evaluation) -> pa.Table:
    columns: dict[str, list[Any]] = {name: [] for name in SCHEMA.names}
    for result, score in zip(evaluation.results, evaluation.scores, strict=True):
        row = result.to_row() | {"cer": score.cer, "edits": score.edits, "confidence": result.confidence}
        row["meta"] = json.dumps(row["meta"], ensure_ascii=False)
        for name, column in columns.items():
            column.append(row[name])
    return pa.table(columns, schema=SCHEMA)


# --- reading -----------------------------------------------------------------------------------------------


def load(folder: Path) -> Evaluation:
    """Reads a finished evaluation; the figures are those of metrics.json.

    Raises:
        DataError: no such folder, not a finished evaluation, or a damaged file.
    """
    metrics, provenance = load_metrics(folder)
    results = load_predictions(folder / PREDICTIONS)
    if len(results) != metrics.n:
        raise DataError(
            f"{PREDICTIONS} has {len(results)} pages, {METRICS} speaks of {metrics.n}.",
            place=str(folder),
            mend="Run the evaluation again with --overwrite.",
        )
    return Evaluation(results, [result.score for result in results], metrics, provenance)


def load_metrics(folder: Path) -> tuple[Metrics, dict[str, Any]]:
    """Figures and provenance of an evaluation folder. Raises DataError."""
    path = folder / METRICS
    if not path.is_file():
        raise _not_finished(folder)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return Metrics.from_json(content), dict(content.get("provenance") or {})
    except OSError as error:
        problem = f"It cannot be read: {error.strerror}."
    except KeyError as error:
        problem = f"The figure {error} is missing."
    except (ValueError, TypeError, AttributeError):  # not text, not JSON, or not an object of numbers
        problem = "This file cannot be read as an evaluation's figures."
    raise DataError(problem, place=str(path), mend="Run the evaluation again with --overwrite.")


def load_figures(folder: Path) -> dict[str, Any]:
    """All of metrics.json but the provenance: the figures, and the analysis of errors. Raises DataError."""
    load_metrics(folder)
    content = json.loads((folder / METRICS).read_text(encoding="utf-8"))
    return {key: value for key, value in content.items() if key != "provenance"}


def load_predictions(path: Path) -> list[PageResult]:
    """Reads predictions.parquet. Raises DataError."""
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        size = path.stat().st_size if path.is_file() else None
        problem = "It is empty (0 bytes)." if size == 0 else f"It cannot be read ({_first_line(error)})."
        raise DataError(problem, place=str(path), mend="Run the evaluation again with --overwrite.") from error
    names = [name for name in _FIELDS if name != "index"]
    missing = [name for name in names if name not in (*table.column_names, *LATER_COLUMNS)]
    if missing:
        raise DataError(
            f"Columns are missing: {', '.join(missing)}.",
            place=str(path),
            mend="Give a folder written by `ocrsmith eval`.",
        )
    rows = table.select([name for name in names if name in table.column_names]).to_pylist()
    return [check_result({**row, "index": index}, path, index + 1) for index, row in enumerate(rows)]


def _not_finished(folder: Path) -> DataError:
    if not folder.exists():
        return DataError(
            "No such evaluation folder.", place=str(folder), mend="Run `ocrsmith eval … -o FOLDER`."
        )
    if (folder / JOURNAL).is_file():
        return DataError(
            "This evaluation is not finished.",
            place=str(folder),
            mend="Run the same `ocrsmith eval` command again: it goes on where it stopped.",
        )
    return DataError(
        f"This is not an evaluation folder: it has no {METRICS}.",
        place=str(folder),
        mend="Give a folder written by `ocrsmith eval`.",
    )


def check_result(row: Mapping[str, Any], path: Path, line: int) -> PageResult:
    """A record from a file, checked. Raises DataError."""
    try:
        meta = row.get("meta", {})
        meta = json.loads(meta) if isinstance(meta, str) else meta
        tokens = {name: tuple(row.get(name) or ()) for name in ("token_ends", "token_logprobs")}
        result = PageResult(**{**row, "meta": meta, **tokens})
        good = _is_result(result)
    except (TypeError, ValueError):
        good = False
    if not good:
        raise DataError(
            "This is not a page's result.", place=f"{path}, line {line}", mend="Start afresh with --overwrite."
        )
    return result


def _is_result(result: PageResult) -> bool:
    texts = (result.id, result.group, result.image_path, result.reference, result.prediction)
    others = (result.source, result.mode)
    return (
        all(isinstance(text, str) for text in (*texts, *others))
        and result.finish_reason in get_args(FinishReason)
        and all(isinstance(number, int) for number in (result.index, result.attempts, *result.token_ends))
        and isinstance(result.seconds, (int, float))
        and isinstance(result.meta, Mapping)
        and len(result.token_ends) == len(result.token_logprobs)
    )


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
