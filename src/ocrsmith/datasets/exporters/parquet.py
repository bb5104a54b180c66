"""Dataset folders and prefix files, as `ocrsmith data build` writes them: nothing is lost."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from ocrsmith.datasets import card, manifest
from ocrsmith.datasets.content_hash import combine, image_digest, sample_digest
from ocrsmith.datasets.exporters.base import ExportFormat, Job
from ocrsmith.datasets.schema import CARD_FILE, DATA_FOLDER, to_batch
from ocrsmith.datasets.settings import Layout
from ocrsmith.datasets.shards import ROW_GROUP_BYTES, ROW_GROUP_ROWS, ShardWriter
from ocrsmith.datasets.unique import UniqueNames
from ocrsmith.records import SPLITS, PageSample, SplitName


class _SplitFile:
    """The shards of a split, fed sample by sample, and what the manifest says about it."""

    def __init__(self, folder: Path, name: str, *, single_file: bool) -> None:
        self.writer = ShardWriter(folder, name, single_file=single_file)
        self.digests: list[bytes] = []
        self._groups = UniqueNames()
        self._waiting: list[PageSample] = []
        self._bytes = 0

    def add(self, sample: PageSample) -> None:
        self.digests.append(sample_digest(sample.id, image_digest(sample.image), sample.text))
        if sample.group:
            self._groups.take(sample.group)
        self._waiting.append(sample)
        self._bytes += len(sample.image) + len(sample.text)
        if len(self._waiting) >= ROW_GROUP_ROWS or self._bytes >= ROW_GROUP_BYTES:
            self._flush()

    def close(self) -> None:
        self._flush()
        self.writer.close()

    @property
    def groups(self) -> int:
        """Documents; a sample without one counts as one of its own."""
        return len(self.digests) - self._groups.repeated

    def _flush(self) -> None:
        if self._waiting:
            self.writer.add(to_batch(self._waiting))
        self._waiting, self._bytes = [], 0


def _write(job: Job, layout: Layout) -> None:
    single = layout == "prefix"
    prefix = (re.sub(r"[^\w.-]", "_", job.name) or "dataset") if single else None
    target = job.folder if single else job.folder / DATA_FOLDER
    target.mkdir(exist_ok=True)
    splits = {
        split: _SplitFile(target, f"{prefix}_{split}" if single else split, single_file=single)
        for split in SPLITS
    }
    try:
        for split, sample in job.samples():
            splits[split].add(sample)
            job.count(split, sample, loses=())
        for file in splits.values():
            file.close()
    except BaseException:
        for file in splits.values():
            file.writer.abort()
        raise
    groups: dict[SplitName, int] = {split: file.groups for split, file in splits.items()}
    content_hash = combine((split, digest) for split, file in splits.items() for digest in file.digests)
    manifest.write_export(
        job.folder,
        job.dataset,
        layout=layout,
        counts=Counter(job.counts),
        groups=groups,
        files={split: file.writer.files for split, file in splits.items()},
        content_hash=content_hash,
    )
    text = card.render_export(job.name, job.counts, groups, prefix, job.dataset.prompt, content_hash)
    (job.folder / CARD_FILE).write_text(text, encoding="utf-8")


FOLDER_FORMAT = ExportFormat(
    "folder",
    "a dataset folder: data/train-*.parquet … with manifest and card",
    lambda job: _write(job, "folder"),
)
PREFIX_FORMAT = ExportFormat(
    "prefix", "prefix files: NAME_train.parquet …, with manifest and card", lambda job: _write(job, "prefix")
)
