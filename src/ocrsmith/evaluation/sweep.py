"""The resolution study: one split read in several modes, a folder for each, and what to choose.

OUT/tiny/ …         evaluation folders as `ocrsmith eval` writes them, one for each mode;
                    in each a memory.json, the most memory that reading took, kept over stops
OUT/sweep.json      figures, losses and the choice
OUT/sweep.html      the same with plots
"""

from __future__ import annotations

import gc
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from statistics import fmean
from typing import Any, Protocol

from ocrsmith.engines.base import Adjustable, Engine, PageRequest
from ocrsmith.errors import InputError, SettingsError
from ocrsmith.evaluation import store
from ocrsmith.evaluation.evaluate import EvaluationData, EvaluationProgress, check_request, evaluate
from ocrsmith.evaluation.report.sweep import render_sweep
from ocrsmith.evaluation.sweep_choice import Choices, ModeReading, weigh
from ocrsmith.records import PageSample, SplitName
from ocrsmith.settings.files import write_text, writing

SWEEP = "sweep.json"
SWEEP_REPORT = "sweep.html"
MEMORY = "memory.json"
WITHIN = 0.005
"""Mean CER that may be lost unless told otherwise: half a percentage point."""

TokenCounter = Callable[[Engine, PageRequest], tuple[int, int]]
"""Image tokens and prompt tokens of a page as that engine would read it. Raises ImageError or InputError for a
page that cannot be read."""
Watch = Callable[[str], AbstractContextManager[EvaluationProgress]]
"""Gives what is told how far the reading in a mode is, for the time that it takes."""


class MemoryGauge(Protocol):
    """Measures the most memory taken between `start` and `stop`."""

    @property
    def how(self) -> str:
        """How it is measured, for people."""
        ...

    def start(self) -> None:
        """Begins anew."""
        ...

    def stop(self) -> int | None:
        """The peak since `start` in bytes; None where it cannot be measured."""
        ...


@dataclass(frozen=True)
class Sweep:
    """A finished resolution study."""

    choices: Choices
    notes: tuple[str, ...]
    """What to know before trusting the figures, a sentence each."""
    provenance: Mapping[str, Any]
    """What the modes share (model, data, versions), and how it was measured."""

    def to_json(self) -> dict[str, Any]:
        """The study as a JSON object."""
        return {**self.choices.to_json(), "notes": list(self.notes), "provenance": dict(self.provenance)}


def parse_modes(text: str, known: Sequence[str]) -> tuple[str, ...]:
    """`tiny,small` → ("tiny", "small"). Raises SettingsError: unknown or repeated modes, or one alone."""
    modes = tuple(name.strip() for name in text.split(",") if name.strip())
    for place, name in enumerate(modes):
        if name not in known:
            raise SettingsError(
                f"There is no mode {name!r}.", place="--modes", mend=f"Use some of {', '.join(known)}."
            )
        if name in modes[:place]:
            raise SettingsError(
                f"The mode {name!r} is named twice.", place="--modes", mend="Name each mode once."
            )
    if len(modes) < 2:
        raise SettingsError(
            f"A sweep compares modes, but {modes[0]!r} is alone." if modes else "No mode is named.",
            place="--modes",
            mend=f"Name two or more of {', '.join(known)}, with commas between them; "
            "one mode is read by `ocrsmith eval --mode`.",
        )
    return modes


def check_bound(within: float) -> None:
    """Refuses a loss that makes no sense. Raises SettingsError."""
    if not 0 <= within < 1:
        raise SettingsError(
            f"The bound is {within:g}.",
            place="--within",
            mend="Give a fraction of 1: 0.005 is half a point of CER.",
        )


def sweep(
    engine: Adjustable,
    dataset: EvaluationData,
    split: SplitName,
    out: Path,
    modes: Sequence[str],
    *,
    within: float = WITHIN,
    limit: int | None = None,
    overwrite: bool = False,
    warm_up: int = 1,
    count_tokens: TokenCounter | None = None,
    memory: MemoryGauge | None = None,
    watch: Watch | None = None,
) -> Sweep:
    """Reads a split in each mode, and writes an evaluation folder for each, sweep.json and sweep.html.

    A stopped study goes on where it stopped; modes that are finished are not read again. Every page is read
    once in each mode: a loop counts against the mode that it happened in.

    Args:
        engine: reads in other modes without loading its model again.
        dataset, split, limit, overwrite: as for `evaluate`.
        out: the folder, made if missing.
        modes: at least two, none twice.
        within: mean CER that may be lost against the best mode, as a fraction.
        warm_up: pages that are read and thrown away before a mode is measured, so that none pays for what
            happens once (kernels, buffers).
        count_tokens: counts the tokens that an image takes; None: they stay unknown.
        memory: measures memory; None: it stays unknown.
        watch: is told how far each mode is.

    Raises:
        SettingsError: a mode that the engine cannot honour, or a bound below 0.
        DataError, OutputError, KeyboardInterrupt: as `evaluate`.
    """
    check_bound(within)
    check_request(dataset, split, out, limit=limit)
    engines = {mode: _adjusted(engine, mode) for mode in modes}
    requests = (_request(dataset, sample) for sample in islice(dataset.iter_samples(split), limit))
    first = list(islice(requests, warm_up))
    reader = _Reader(engine, dataset, split, out, limit, first, memory, watch)
    if overwrite:
        _discard(out, modes)
    # Finished modes first, then a stopped one: if they are of other settings, it shows before pages are read.
    for mode in sorted(modes, key=lambda mode: _stage(out / mode), reverse=True):
        reader.read(mode)
    tokens = _count_tokens(engines, chain(first, requests), count_tokens)
    made = _sum_up(engine, modes, out, tokens, within=within, warm_up=len(first))
    store.write_json(out / SWEEP, made.to_json())
    write_text(out / SWEEP_REPORT, render_sweep(made))
    return made


@dataclass(frozen=True)
class _Reader:
    """Reads a split in one mode after the other."""

    engine: Adjustable
    dataset: EvaluationData
    split: SplitName
    out: Path
    limit: int | None
    first: Sequence[PageRequest]
    memory: MemoryGauge | None
    watch: Watch | None

    def read(self, mode: str) -> None:
        """Makes the evaluation folder of a mode, or goes on with it."""
        folder = self.out / mode
        # Nothing keeps the engine of the mode before: its buffers would take this one's room.
        gc.collect()
        engine = _adjusted(self.engine, mode)
        with self.watch(mode) if self.watch else nullcontext() as progress:
            if _stage(folder) == _FINISHED:
                self._evaluate(engine, folder, progress)
                return
            for _ in engine.read(self.first):
                pass
            if self.memory is None:
                self._evaluate(engine, folder, progress)
                return
            peak = _Peak(self.memory, progress)
            try:
                self._evaluate(engine, folder, peak)
            finally:
                peak.keep(folder)

    def _evaluate(self, engine: Engine, folder: Path, progress: EvaluationProgress | None) -> None:
        evaluate(engine, self.dataset, self.split, folder, limit=self.limit, progress=progress)


class _Peak:
    """The most memory that reading takes; scoring and report after it do not count."""

    def __init__(self, gauge: MemoryGauge, progress: EvaluationProgress | None) -> None:
        self._gauge, self._progress = gauge, progress
        self._bytes: int | None = None
        self._told = False
        self._under_way = True
        gauge.start()

    def __call__(self, done: int, total: int) -> None:
        """Hears how far the reading is, and passes it on."""
        self._told = True
        if done >= total:
            self._end()
        if self._progress:
            self._progress(done, total)

    def keep(self, folder: Path) -> None:
        """Ends, and writes the peak beside what was read: of this stretch, or of an earlier one if higher."""
        self._end()
        if self._told:  # else the folder was refused
            earlier = _kept(folder)
            known = [peak for peak in (self._bytes, earlier and earlier[0]) if peak is not None]
            store.write_json(folder / MEMORY, {"peak": max(known, default=None), "how": self._gauge.how})

    def _end(self) -> None:
        if self._under_way:
            self._under_way = False
            self._bytes = self._gauge.stop()


_FINISHED = 2


def _stage(folder: Path) -> int:
    """How far the evaluation in a folder is: 0 not begun, 1 stopped, 2 finished."""
    if (folder / store.METRICS).is_file():
        return _FINISHED
    return int((folder / store.JOURNAL).is_file())


def _kept(folder: Path) -> tuple[int | None, str] | None:
    """Peak in bytes and how it was measured; None where it was not, or the file makes no sense."""
    try:
        content = json.loads((folder / MEMORY).read_text(encoding="utf-8"))
        peak, how = content["peak"], content["how"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    good = isinstance(how, str) and (peak is None or (isinstance(peak, int) and peak >= 0))
    return (peak, how) if good else None


def _discard(out: Path, modes: Sequence[str]) -> None:
    """Throws away what the folders hold of these modes, all at once: a stopped run can then go on."""
    names = (store.METRICS, store.PREDICTIONS, store.REPORT, store.JOURNAL, MEMORY)
    for path in (out / SWEEP, out / SWEEP_REPORT, *(out / mode / name for mode in modes for name in names)):
        with writing(path):
            path.unlink(missing_ok=True)


def _adjusted(engine: Adjustable, mode: str) -> Engine:
    try:
        return engine.adjusted(mode=mode)
    except SettingsError as error:
        raise SettingsError(error.problem, place="--modes", mend=error.mend) from error


def _request(dataset: EvaluationData, sample: PageSample) -> PageRequest:
    return PageRequest(sample.id, sample.image, sample.prompt or dataset.prompt, len(sample.text))


def _count_tokens(
    engines: Mapping[str, Engine], requests: Iterable[PageRequest], count: TokenCounter | None
) -> dict[str, tuple[float, float]]:
    """Mean image and prompt tokens a page for each mode; a mode is missing where no page can be counted."""
    if count is None:
        return {}
    counts: dict[str, list[tuple[int, int]]] = {mode: [] for mode in engines}
    for request in requests:
        for mode, engine in engines.items():
            with suppress(InputError):  # such a page fails in the evaluation too, and is counted there
                counts[mode].append(count(engine, request))
    return {
        mode: (fmean(image for image, _ in pages), fmean(prompt for _, prompt in pages))
        for mode, pages in counts.items()
        if pages
    }


def _sum_up(
    engine: Engine,
    modes: Sequence[str],
    out: Path,
    tokens: Mapping[str, tuple[float, float]],
    *,
    within: float,
    warm_up: int,
) -> Sweep:
    """Figures of all modes from their folders."""
    evaluations = {mode: store.load(out / mode) for mode in modes}
    peaks = {mode: _kept(out / mode) or (None, "not measured") for mode in modes}
    readings = [
        ModeReading(
            mode=mode,
            metrics=evaluation.metrics,
            rates=tuple(score.cer for score in evaluation.scores),
            generated_tokens=fmean(result.tokens for result in evaluation.results),
            image_tokens=tokens[mode][0] if mode in tokens else None,
            prompt_tokens=tokens[mode][1] if mode in tokens else None,
            peak_memory=peaks[mode][0],
        )
        for mode, evaluation in evaluations.items()
    ]
    one = evaluations[modes[0]]
    groups = [result.group for result in one.results]
    runtimes = [evaluation.provenance.get("runtime") for evaluation in evaluations.values()]
    notes = _notes(engine, same_runtime=all(runtime == runtimes[0] for runtime in runtimes))
    provenance = _provenance(engine, one.provenance, peaks, warm_up)
    return Sweep(weigh(readings, groups, within=within), notes, provenance)


def _provenance(
    engine: Engine, of_one: Mapping[str, Any], peaks: Mapping[str, tuple[int | None, str]], warm_up: int
) -> dict[str, Any]:
    """What the modes share, in place of one mode's own."""
    described = dict(engine.describe())
    processing = dict(described.get("processing") or {})
    described["processing"] = {"saved_mode": processing.pop("mode", None), **processing}
    described.pop("runtime", None)
    return {
        **of_one,
        "engine": {"name": engine.name, **described},
        "memory": "; ".join(dict.fromkeys(how for _, how in peaks.values())),
        "warm_up_pages": warm_up,
    }


def _notes(engine: Engine, *, same_runtime: bool) -> tuple[str, ...]:
    notes = []
    described = engine.describe()
    saved = (described.get("processing") or {}).get("mode")
    if described.get("adapter") and saved:
        notes.append(
            f"The adapter was trained in mode {saved}. In another mode it may read worse than an adapter that "
            "was trained in it."
        )
    if not same_runtime:
        notes.append(
            "The modes were not all read on the same device with the same batch size: their times and memory "
            "cannot be compared."
        )
    return tuple(notes)
