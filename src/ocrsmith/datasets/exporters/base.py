"""What every exporter gets and gives: samples one by one, a folder to fill, and an account of what was lost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow.parquet as pq

from ocrsmith.datasets.exporters.names import ImageNames
from ocrsmith.datasets.ledger import Ledger
from ocrsmith.datasets.reader import Dataset
from ocrsmith.datasets.schema import SCHEMA
from ocrsmith.records import Excluded, PageSample, SplitName

Progress = Callable[[int, int], None]
"""Called with the samples that are done, and how many there are."""


@dataclass(frozen=True, slots=True)
class ExportFormat:
    """A way to write a dataset."""

    name: str
    """For `--format`."""
    title: str
    """For help: what is written."""
    write: Callable[[Job], None]
    """Fills the job's folder."""


@dataclass
class Job:
    """An export at work."""

    dataset: Dataset
    name: str
    """Of the export: its folder's."""
    splits: Sequence[SplitName]
    folder: Path
    """To be filled; exists and is empty."""
    ledger: Ledger
    progress: Progress | None = None
    counts: Counter[SplitName] = field(default_factory=Counter)
    """Samples written."""
    lost: Counter[str] = field(default_factory=Counter)
    """What the format has no place for: what is lost → of how many samples."""
    notes: list[str] = field(default_factory=list)
    names: ImageNames = field(default_factory=ImageNames)

    @property
    def total(self) -> int:
        """Samples in the splits that are exported."""
        return sum(self.dataset.count(split) for split in self.splits)

    def samples(self) -> Iterator[tuple[SplitName, PageSample]]:
        """All samples, split by split."""
        total = self.total
        done = 0
        for split in self.splits:
            for sample in self.dataset.iter_samples(split):
                yield split, sample
                done += 1
                if self.progress is not None:
                    self.progress(done, total)

    def texts(self) -> Iterator[str]:
        """All texts alone: much faster than all samples."""
        for split in self.splits:
            for path in self.dataset.files.get(split, ()):
                with pq.ParquetFile(path) as file:
                    for batch in file.iter_batches(columns=["text"], use_threads=False):
                        yield from (text or "" for text in batch.column(0).to_pylist())

    def prompt_of(self, sample: PageSample) -> str:
        """The sample's prompt, or the dataset's."""
        return self.dataset.prompt if sample.prompt is None else sample.prompt

    def write_image(self, sample: PageSample) -> str:
        """Writes a sample's image with its own bytes; its path from the folder on."""
        name = self.names.take(sample)
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(sample.image)
        return name

    def refuse(self, sample: PageSample, reason: str, detail: str) -> None:
        """Puts a sample that the format cannot hold into the ledger."""
        self.ledger.add(Excluded(reason, detail, sample.image_path or sample.id, str(self.dataset.path)))

    def count(self, split: SplitName, sample: PageSample, *, loses: Sequence[str]) -> None:
        """Counts a sample as written, and which of its fields `loses` are not empty."""
        self.counts[split] += 1
        for name in loses:
            if getattr(sample, name):
                self.lost[name] += 1

    def foreign_columns(self) -> list[str]:
        """Columns of the dataset's files that are none of ocrsmith's."""
        names: set[str] = set()
        for split in self.splits:
            for path in self.dataset.files.get(split, ()):
                names.update(pq.read_schema(path).names)
        return sorted(names - set(SCHEMA.names))
