"""Runs an engine over a split and writes the evaluation folder; stopped runs go on where they stopped."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from ocrsmith.engines.base import Engine, PageRequest, failed
from ocrsmith.errors import DataError, SettingsError
from ocrsmith.evaluation import store
from ocrsmith.evaluation.conclude import Conclusions, conclude, report
from ocrsmith.evaluation.journal import Journal, other_settings
from ocrsmith.evaluation.page_images import find_images
from ocrsmith.evaluation.statistics import METHODS, Metrics
from ocrsmith.evaluation.store import Evaluation, PageResult
from ocrsmith.records import SPLITS, PageSample, SplitName
from ocrsmith.settings.differences import differences
from ocrsmith.settings.files import writing
from ocrsmith.settings.provenance import environment

EvaluationProgress = Callable[[int, int], None]
"""Called with (pages done, pages in all), first with what a stopped run had done."""

WINDOW_PAGES = 512
WINDOW_BYTES = 256 * 2**20


class EvaluationData(Protocol):
    """What evaluation asks of a dataset (`ocrsmith.datasets.Dataset` has it)."""

    @property
    def content_hash(self) -> str: ...

    @property
    def prompt(self) -> str: ...

    def count(self, split: SplitName) -> int: ...

    def iter_samples(self, split: SplitName) -> Iterator[PageSample]: ...


def evaluate(
    engine: Engine,
    dataset: EvaluationData,
    split: SplitName,
    out: Path,
    *,
    limit: int | None = None,
    overwrite: bool = False,
    conclusions: Conclusions | None = None,
    progress: EvaluationProgress | None = None,
    warn: Callable[[str], None] | None = None,
) -> Metrics:
    """Reads every page of a split, scores it, and writes predictions.parquet, metrics.json and report.html.

    Pages are kept as they are read. When `out` holds a stopped evaluation with the same settings and data, only
    the missing pages are read; when it holds a finished one, nothing is read again, but with other conclusions
    figures and report are made anew.

    Args:
        engine: reads the pages; its `describe()` goes into the provenance.
        dataset: the pages and their true texts.
        split: `train`, `val` or `test`.
        out: the evaluation folder, made if missing.
        limit: only the first pages of the split.
        overwrite: throw away what `out` holds of an earlier evaluation.
        conclusions: what the pages are held against: calibration, CER to accept, an earlier evaluation.
        progress: is told how far it is.
        warn: is told what speaks against the conclusions; a sentence each.

    Raises:
        SettingsError: no such split, a limit below 1, an impossible CER to accept.
        DataError: the split has no samples; calibration or earlier evaluation cannot be read.
        OutputError: `out` cannot be written to, or holds an evaluation with other settings.
        KeyboardInterrupt: passed on; what was read is kept.
    """
    total = check_request(dataset, split, out, limit=limit)
    conclusions = conclusions or Conclusions()
    conclusions.check()
    settings, runtime = _settings(engine, dataset, split, limit)
    store.prepare_folder(out)
    if overwrite:
        _discard(out)
    finished = _finished(out, settings)
    asked = conclusions.to_json()
    if finished is None:
        journal = Journal.open(out / store.JOURNAL, settings)
        _read_pages(engine, dataset, split, limit, total, journal, progress)
        results = sorted(journal.results.values(), key=lambda result: result.index)
        provenance = {**_provenance(settings, runtime, dataset), "conclusions": asked}
        finished = Evaluation.of(results, provenance)
        warnings = conclude(finished, out, conclusions)
        journal.close()
    else:
        warnings = []
        if progress:
            progress(total, total)
        if (finished.provenance.get("conclusions") or {}) != asked:
            finished = replace(finished, provenance={**finished.provenance, "conclusions": asked})
            warnings = conclude(finished, out, conclusions)
    if warn:
        for warning in warnings:
            warn(warning)
    if not (out / store.REPORT).is_file():
        report(finished, out, lambda ids: find_images(dataset, split, ids), base=conclusions.base)
    return finished.metrics


def check_request(dataset: EvaluationData, split: SplitName, out: Path, *, limit: int | None = None) -> int:
    """Finds what would stop an evaluation before a model is loaded for it.

    Returns:
        How many pages there are to read.

    Raises:
        SettingsError, DataError, OutputError: as `evaluate`.
    """
    if split not in SPLITS:
        raise SettingsError(
            f"There is no split {split!r}.", place="--split", mend=f"Use one of {', '.join(SPLITS)}."
        )
    if limit is not None and limit < 1:
        raise SettingsError(f"The limit is {limit}.", place="--limit", mend="Give 1 or more, or leave it out.")
    total = dataset.count(split)
    if total == 0:
        there = ", ".join(f"{name}: {dataset.count(name)}" for name in SPLITS)
        raise DataError(
            f"The split {split!r} has no samples ({there}).",
            place="--split",
            mend="Take another split, or build the dataset again with more samples.",
        )
    store.check_folder(out)
    return min(total, limit or total)


def _settings(
    engine: Engine, dataset: EvaluationData, split: SplitName, limit: int | None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """All that decides the predictions, and apart from it what only decides the speed."""
    described = dict(engine.describe())
    runtime = described.pop("runtime", {})
    data = {
        "content_hash": dataset.content_hash,
        "prompt": dataset.prompt,
        "split": split,
        "limit": limit,
    }
    settings = {"engine": {"name": engine.name, **described}, "dataset": data}
    return json.loads(json.dumps(settings)), runtime  # tuples become lists, as they will when read back


def _discard(out: Path) -> None:
    for name in (store.METRICS, store.PREDICTIONS, store.REPORT, store.JOURNAL):
        with writing(out / name):
            (out / name).unlink(missing_ok=True)


def _finished(out: Path, settings: Mapping[str, Any]) -> Evaluation | None:
    """The finished evaluation in `out`, if there is one with the same settings. Raises OutputError."""
    if not (out / store.METRICS).is_file():
        return None
    _, provenance = store.load_metrics(out)
    old = {key: provenance.get(key) or {} for key in settings}
    differing = differences(
        {**old, "dataset": {key: old["dataset"].get(key) for key in settings["dataset"]}}, dict(settings)
    )
    if differing:
        raise other_settings(out, "a finished evaluation", differing)
    return store.load(out)


def _read_pages(
    engine: Engine,
    dataset: EvaluationData,
    split: SplitName,
    limit: int | None,
    total: int,
    journal: Journal,
    progress: EvaluationProgress | None,
) -> None:
    if progress:
        progress(len(journal.results), total)
    for window in _windows(dataset, split, limit, journal):
        requests = [
            PageRequest(sample.id, sample.image, sample.prompt or dataset.prompt, len(sample.text))
            for _, sample in window
        ]
        waiting = {sample.id: (index, sample) for index, sample in window}
        for prediction in engine.read(requests):
            index, sample = waiting.pop(prediction.id)
            journal.add([PageResult.join(index, sample, prediction)])
            if progress:
                progress(len(journal.results), total)
        for request in requests:
            if request.id in waiting:
                index, sample = waiting[request.id]
                answer = failed(request, "the engine gave no answer")
                journal.add([PageResult.join(index, sample, answer)])


def _windows(
    dataset: EvaluationData, split: SplitName, limit: int | None, journal: Journal
) -> Iterator[list[tuple[int, PageSample]]]:
    """Stretches of the split that fit in memory, without the pages that were read before.

    The engine sorts within a stretch, so it is long enough for even batches and short enough for memory.
    """
    window: list[tuple[int, PageSample]] = []
    size = 0
    for index, sample in enumerate(dataset.iter_samples(split)):
        if limit is not None and index >= limit:
            break
        if sample.id in journal.results:
            continue
        window.append((index, sample))
        size += len(sample.image)
        if len(window) >= WINDOW_PAGES or size >= WINDOW_BYTES:
            yield window
            window, size = [], 0
    if window:
        yield window


def _provenance(
    settings: Mapping[str, Any], runtime: Mapping[str, Any], dataset: EvaluationData
) -> dict[str, Any]:
    path = getattr(dataset, "path", None)
    return {
        "engine": settings["engine"],
        "dataset": {**settings["dataset"], "path": str(path) if path else None},
        "runtime": dict(runtime),
        "methods": METHODS,
        **environment(),
    }
