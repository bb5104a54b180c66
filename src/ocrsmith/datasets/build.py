"""Builds a dataset: sources → candidates → checks → staging → split → shards, manifest, ledger and card.

Everything streams. In memory there is for each sample only what the split needs: hashes and numbers, no image
and no text. A build that was stopped, even by `kill -9`, goes on where its last checkpoint is (`staging`,
`resume`), and writes the bytes that it would have written anyway.
"""

from __future__ import annotations

import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from ocrsmith.datasets import card, manifest
from ocrsmith.datasets.checks import ESTIMATED_LENGTH, LengthCheck, examine_all
from ocrsmith.datasets.content_hash import combine
from ocrsmith.datasets.groups import Groups
from ocrsmith.datasets.importers import Candidate, Source, find_source
from ocrsmith.datasets.intake import Intake
from ocrsmith.datasets.ledger import Ledger, describe
from ocrsmith.datasets.output import require_space
from ocrsmith.datasets.reader import Dataset, open_dataset
from ocrsmith.datasets.resume import UNSTABLE, Work, build_folder, fingerprint_of
from ocrsmith.datasets.schema import CARD_FILE, DATA_FOLDER, LEDGER_FILE
from ocrsmith.datasets.settings import BuildSettings
from ocrsmith.datasets.shards import ShardWriter
from ocrsmith.datasets.split import Assignment, KeptSplits, SplitPlan, assign
from ocrsmith.datasets.staging import Position, Staging
from ocrsmith.datasets.strata import stratum_table
from ocrsmith.datasets.summary import BuildSummary, Distribution, find_notes
from ocrsmith.errors import DataError
from ocrsmith.records import SPLITS, Excluded, SplitName
from ocrsmith.settings.files import writing

Progress = Callable[[str, int, int | None], None]
"""Called with the phase (`read`, `write`), how many are done, and how many there are if that is known. The
first call of a build that goes on says what was done before."""


def build_dataset(
    sources: Sequence[str | Path | Source],
    out: str | Path,
    settings: BuildSettings | None = None,
    *,
    length: LengthCheck | None = None,
    progress: Progress | None = None,
    workers: int | None = None,
) -> BuildSummary:
    """Builds a dataset at `out` from label files, tables, Parquet files and dataset folders.

    Goes on with what an interrupted build of the same sources has left beside `out` (see `resume`). On the way
    the disk holds the dataset twice.

    Args:
        sources: what to read, in this order; paths are opened as the format that they have.
        out: the dataset's folder; it appears when all is written, or not at all.
        settings: None takes the defaults.
        length: finds samples that are longer than the model's context; None estimates without a tokenizer.
        progress: told how far the work is.
        workers: threads that decode images; None takes one a core, eight at most.

    Raises:
        DataError: a source that cannot be read, no usable sample, or with `strict` anything left out.
        SettingsError: a value that cannot be.
        OutputError: the folder is there already or cannot be written, another build is at work on it, or an
            unfinished one of something else is in the way.
    """
    settings = settings or BuildSettings()
    length = length or ESTIMATED_LENGTH
    out = Path(out)
    if settings.layout == "prefix" and settings.prefix is None:
        settings = replace(settings, prefix=re.sub(r"[^\w.-]", "_", out.resolve().name) or "dataset")
    if not sources:
        raise DataError("There is no source.", mend="Give a label file, table, Parquet file or dataset folder.")
    opened = [
        source if isinstance(source, Source) else find_source(Path(source), settings.import_options)
        for source in sources
    ]
    earlier = None if settings.keep_splits is None else open_dataset(settings.keep_splits)
    with build_folder(
        out,
        fingerprint_of(opened, settings, length.describe),
        overwrite=settings.overwrite,
        fresh=settings.fresh,
        keep=all(source.kind not in UNSTABLE for source in opened),
    ) as work:
        return _build_in(work, out, opened, settings, length, earlier, progress, workers)


def _build_in(
    work: Work,
    out: Path,
    sources: Sequence[Source],
    settings: BuildSettings,
    length: LengthCheck,
    earlier: Dataset | None,
    progress: Progress | None,
    workers: int | None,
) -> BuildSummary:
    """Reads, splits and writes; leaves the dataset in `work.result`."""
    resumed = work.staging.rows
    with Ledger(work.folder / LEDGER_FILE, work.staging.position.ledger_bytes) as ledger:
        intake = Intake(work.staging, settings)
        reading = _Reading(sources, settings, intake, ledger, work.staging, progress)
        with closing(work.staging):
            reading.run(length, workers)
    _require_samples(intake, ledger, settings)
    split = _Split.of(intake, settings, earlier)
    writers = _write(work, split, settings, progress)
    summary = _summarise(out, settings, sources, intake, ledger, length, split, work.staging)
    files = {name: writers[name].files for name in SPLITS}
    with writing(out):
        shutil.copyfile(work.folder / LEDGER_FILE, work.result / LEDGER_FILE)
        manifest.write(work.result, settings, sources, summary, files)
        (work.result / CARD_FILE).write_text(card.render(summary, settings), encoding="utf-8")
    return replace(summary, resumed=resumed)


@dataclass
class _Reading:
    """Checks candidates from the last checkpoint on: into staging what passes, into the ledger the rest."""

    sources: Sequence[Source]
    settings: BuildSettings
    intake: Intake
    ledger: Ledger
    staging: Staging
    progress: Progress | None
    origins: list[tuple[int, str]] = field(default_factory=list)
    """(number of its first candidate, its name) of each source so far."""

    def run(self, length: LengthCheck, workers: int | None) -> None:
        """Reads to the end of the sources, or to the limit."""
        known = [source.rows for source in self.sources]
        total = None if None in known else sum(rows or 0 for rows in known)
        done, limit = self.staging.position.candidates, self.settings.limit
        if self.progress is not None and done:
            self.progress("read", done, total)
        if self.staging.position.complete:
            return
        items = examine_all(
            self._candidates(done), min_side=self.settings.min_side, length=length, workers=workers
        )
        with closing(items) as checked:  # ends its threads, also when the limit or an error ends the loop
            for item in checked:
                if isinstance(item, Excluded):
                    self.ledger.add(item)
                else:
                    self.intake.add(item, self._origin(done))
                done += 1
                if self.progress is not None:
                    self.progress("read", done, total)
                if len(self.intake) == limit:
                    break
                if self.staging.due:
                    self._checkpoint(done)
                    _require_space(self.staging)
        self._checkpoint(done, complete=True)

    def _candidates(self, skip: int) -> Iterator[Candidate | Excluded]:
        """All but the first `skip`."""
        number = 0
        for source in self.sources:
            self.origins.append((number, str(source.path)))
            within = None if self.settings.allow_outside else source.root
            items = source.read()
            with closing(items) if hasattr(items, "close") else nullcontext():  # type: ignore[type-var]
                if number < skip and hasattr(items, "skip"):
                    number += items.skip(skip - number)
                for item in items:
                    number += 1
                    if number > skip:
                        yield item if isinstance(item, Excluded) else replace(item, within=within)

    def _origin(self, number: int) -> str:
        """The source that a candidate comes from: candidates are fetched ahead of those that are done."""
        return next(name for first, name in reversed(self.origins) if first <= number)

    def _checkpoint(self, done: int, *, complete: bool = False) -> None:
        self.ledger.flush()
        self.staging.checkpoint(Position(done, self.ledger.bytes, complete))


@dataclass(frozen=True)
class _Split:
    """Which sample goes where."""

    groups: Groups
    assignment: Assignment

    @classmethod
    def of(cls, intake: Intake, settings: BuildSettings, earlier: Dataset | None) -> _Split:
        """Raises `SettingsError` if val and test together want all there is."""
        groups = intake.groups.resolve()
        kept = groups.kept(None if earlier is None else KeptSplits.of(earlier, settings.seed))
        return cls(groups, assign(groups.keys, groups.sizes, SplitPlan.parse(settings.splits), kept))

    @property
    def of_group(self) -> np.ndarray:
        """(G,) uint8 positions in `SPLITS`."""
        return self.assignment.of_group

    @property
    def of_sample(self) -> np.ndarray:
        """(N,) uint8 positions in `SPLITS`."""
        return self.of_group[self.groups.of_sample]

    def with_documents(self, batch: pa.RecordBatch, start: int) -> pa.RecordBatch:
        """The rows from sample `start` on, with the documents that were inferred in their column `group`."""
        if not self.groups.inferred:
            return batch
        names = [self.groups.sources[n] for n in self.groups.of_source[start : start + batch.num_rows]]
        rows = zip(batch["group"], batch["image"].field("path"), batch["id"], names, strict=True)
        groups = [
            group.as_py() or self.groups.document_of(name, path.as_py() or "", sample_id.as_py())
            for group, path, sample_id, name in rows
        ]
        return batch.set_column(batch.schema.get_field_index("group"), "group", pa.array(groups, pa.string()))


def _require_space(staging: Staging) -> None:
    """The staged samples have to stand on the disk a second time: better known early than at the end."""
    mend = "Free some space, or choose a folder on another disk with -o"
    require_space(staging.folder, staging.bytes, mend=mend)


def _require_samples(intake: Intake, ledger: Ledger, settings: BuildSettings) -> None:
    count, left_out = len(intake), ledger.counts.total()
    listing = "\n".join(f"    {describe(item)}" for item in ledger.first[:10])
    more = f"\n    … and {left_out - 10} more" if left_out > 10 else ""
    if settings.strict and left_out:
        raise DataError(
            f"--strict: {left_out} of {count + left_out} items cannot be used ({_counted(ledger.counts)}); "
            f"nothing was written.\n{listing}{more}",
            mend="Mend these, or build without --strict: then they are left out and listed in the ledger.",
        )
    if count == 0:
        found = (
            f"all {left_out} items were left out ({_counted(ledger.counts)})" if left_out else "it has no rows"
        )
        raise DataError(
            f"There is no usable sample: {found}." + (f"\n{listing}{more}" if left_out else ""),
            mend="Mend the items above and build again."
            if left_out
            else "Add lines with an image path and a text.",
        )
    plan = SplitPlan.parse(settings.splits)
    if count == 1 and (plan.wants("val") or plan.wants("test")):
        left = f" ({left_out} left out: {_counted(ledger.counts)})" if left_out else ""
        raise DataError(
            f"There is only one usable sample{left}; train, val and test ({settings.splits}) need three.",
            mend="Add samples, or put it into train alone with --splits 100/0/0.",
        )


def _counted(counts: Counter[str]) -> str:
    return ", ".join(f"{reason} {count}" for reason, count in counts.most_common())


def _write(
    work: Work, split: _Split, settings: BuildSettings, progress: Progress | None
) -> dict[SplitName, ShardWriter]:
    """Brings every staged sample into the shards of its split, in the order of the sources."""
    _require_space(work.staging)
    single = settings.layout == "prefix"
    target = work.result if single else work.result / DATA_FOLDER
    target.mkdir(exist_ok=True)
    writers = {
        name: ShardWriter(target, f"{settings.prefix}_{name}" if single else name, single_file=single)
        for name in SPLITS
    }
    splits = split.of_sample
    start = 0
    try:
        for batch in work.staging.batches():
            part = splits[start : start + batch.num_rows]
            named = split.with_documents(batch, start)
            start += batch.num_rows
            for index, name in enumerate(SPLITS):
                rows = np.flatnonzero(part == index)
                if len(rows):
                    writers[name].add(named.take(rows))
            if progress is not None:
                progress("write", start, len(splits))
        for writer in writers.values():
            writer.close()
    except BaseException:
        for writer in writers.values():
            writer.abort()
        raise
    return writers


def _summarise(
    out: Path,
    settings: BuildSettings,
    sources: Sequence[Source],
    intake: Intake,
    ledger: Ledger,
    length: LengthCheck,
    split: _Split,
    staging: Staging,
) -> BuildSummary:
    splits = split.of_sample
    digests = ((SPLITS[index], digest) for index, digest in zip(splits.tolist(), intake.digests(), strict=True))
    strata = stratum_table(split.groups, split.of_group)
    notes = find_notes(settings, sources, split.groups, intake.repeated_ids, split.assignment, strata)
    return BuildSummary(
        folder=out,
        layout=settings.layout,
        counts={name: int((splits == index).sum()) for index, name in enumerate(SPLITS)},
        groups={name: int((split.of_group == index).sum()) for index, name in enumerate(SPLITS)},
        excluded=dict(ledger.counts.most_common()),
        content_hash=combine(digests),
        text_length=Distribution.of(intake.text_lengths),
        image_width=Distribution.of(intake.widths),
        image_height=Distribution.of(intake.heights),
        strata=tuple(strata),
        length_check=length.describe,
        notes=tuple(notes),
        first_excluded=tuple(ledger.first),
        example=staging.first(),
    )
