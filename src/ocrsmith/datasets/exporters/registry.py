"""Writes a dataset in one of the formats of others, or in our own."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ocrsmith.datasets.exporters import content, paddle, parquet, sharegpt
from ocrsmith.datasets.exporters.base import ExportFormat, Job, Progress
from ocrsmith.datasets.ledger import Ledger
from ocrsmith.datasets.output import new_folder
from ocrsmith.datasets.reader import Dataset, open_dataset
from ocrsmith.datasets.schema import LEDGER_FILE, split_name
from ocrsmith.errors import DataError, SettingsError
from ocrsmith.records import SPLITS, SplitName
from ocrsmith.settings.files import writing

EXPORT_FORMATS: tuple[ExportFormat, ...] = (
    content.FORMAT,
    sharegpt.FORMAT,
    paddle.FORMAT,
    parquet.FOLDER_FORMAT,
    parquet.PREFIX_FORMAT,
)
"""All formats that a dataset can be written in."""

_LOSSES = {
    "group": "{count} samples have a document (group), which the format has no place for",
    "prompt": "{count} samples have a prompt of their own, which the format has no place for",
    "meta": "{count} samples have further details (meta), which the format has no place for",
}


@dataclass(frozen=True)
class ExportSummary:
    """What came of an export."""

    folder: Path
    format: str
    counts: dict[SplitName, int]
    """Samples written of each split."""
    excluded: dict[str, int]
    """Samples that the format cannot hold, by reason; each stands in the ledger."""
    notes: tuple[str, ...]
    """What was lost, and what a reader of the files has to know."""

    @property
    def samples(self) -> int:
        """Samples written in all."""
        return sum(self.counts.values())


def export_dataset(
    dataset: Dataset | str | Path,
    out: str | Path,
    format: str,
    *,
    splits: Sequence[str] | None = None,
    progress: Progress | None = None,
) -> ExportSummary:
    """Writes a dataset in another format. Streams: memory does not grow with the dataset.

    Args:
        dataset: an open one, or what `open_dataset` takes.
        out: a folder that does not exist or is empty; it is filled when all is written, or not at all.
        format: name of one of `EXPORT_FORMATS`.
        splits: which to write; None: all that have samples.

    Raises:
        SettingsError: there is no such format or split.
        DataError: the dataset cannot be read, or the splits have no samples.
        OutputError: the folder is not empty, or cannot be written.
    """
    chosen = find_export_format(format)
    opened = dataset if isinstance(dataset, Dataset) else open_dataset(dataset)
    names = _choose(opened, splits)
    out = Path(out)
    with new_folder(out) as folder:
        path = folder / LEDGER_FILE
        with Ledger(path) as ledger:
            job = Job(opened, out.resolve().name, names, folder, ledger, progress)
            with writing(out):
                chosen.write(job)
        if not ledger.counts:
            os.unlink(path)
    return ExportSummary(
        folder=out,
        format=chosen.name,
        counts={split: job.counts[split] for split in SPLITS},
        excluded=dict(ledger.counts.most_common()),
        notes=tuple(_notes(job)),
    )


def find_export_format(name: str) -> ExportFormat:
    """The export format of that name.

    Raises:
        SettingsError: there is none; lists those that there are.
    """
    found = next((one for one in EXPORT_FORMATS if one.name == name.lower()), None)
    if found is None:
        known = [one.name for one in EXPORT_FORMATS]
        close = difflib.get_close_matches(name, known, n=1)
        hint = f" (did you mean {close[0]}?)" if close else ""
        raise SettingsError(
            f"There is no export format {name!r}{hint}.",
            place="--format",
            mend=f"Use one of: {', '.join(known)}.",
        )
    return found


def _choose(dataset: Dataset, splits: Sequence[str] | None) -> list[SplitName]:
    wanted = {split_name(name) for name in splits} if splits else set(SPLITS)
    if None in wanted:
        unknown = next(name for name in splits or () if split_name(name) is None)
        raise SettingsError(
            f"There is no split {unknown!r}.", place="--split", mend=f"Use one of {', '.join(SPLITS)}."
        )
    chosen: list[SplitName] = [name for name in SPLITS if name in wanted and dataset.count(name)]
    if not chosen:
        asked = " and ".join(name for name in SPLITS if name in wanted)
        raise DataError(
            f"There are no samples in {asked}.",
            place=str(dataset.path),
            mend="Export a split that has some; `ocrsmith data show` lists them.",
        )
    return chosen


def _notes(job: Job) -> Iterator[str]:
    for name, count in job.lost.items():
        yield _LOSSES[name].format(count=f"{count:,}") + "."
    columns = job.foreign_columns()
    if columns:
        yield f"Columns of the dataset that are none of ocrsmith's are not exported: {', '.join(columns)}."
    yield from job.notes
