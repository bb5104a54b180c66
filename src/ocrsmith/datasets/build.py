"""Builds a dataset: sources → candidates → checks → staging → split → shards, manifest, ledger and card.

Everything streams. In memory there is for each sample only what the split needs: hashes and numbers, no image
and no text.
"""

from __future__ import annotations

import re
import shutil
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path, PurePath

import numpy as np

from ocrsmith.datasets import card, manifest
from ocrsmith.datasets.checks import ESTIMATED_LENGTH, Checked, LengthCheck, examine_all
from ocrsmith.datasets.content_hash import combine, sample_digest
from ocrsmith.datasets.groups import GroupIndex, GroupRule
from ocrsmith.datasets.importers import Candidate, Source, find_source
from ocrsmith.datasets.ledger import Ledger, describe
from ocrsmith.datasets.output import new_folder
from ocrsmith.datasets.schema import CARD_FILE, DATA_FOLDER, LEDGER_FILE
from ocrsmith.datasets.settings import BuildSettings
from ocrsmith.datasets.shards import ShardWriter, Staging
from ocrsmith.datasets.split import SplitPlan, assign_splits
from ocrsmith.datasets.summary import BuildSummary, Distribution, find_notes
from ocrsmith.errors import DataError
from ocrsmith.records import SPLITS, Excluded, PageSample, SplitName
from ocrsmith.settings.files import writing

Progress = Callable[[str, int, int | None], None]
"""Called with the phase (`read`, `write`), how many are done, and how many there are if that is known."""


class _Intake:
    """Gathers what is known of the samples while they go into staging."""

    def __init__(self, staging: Staging, settings: BuildSettings) -> None:
        self._staging = staging
        self._rule = GroupRule.parse(settings.group_by)
        self.groups = GroupIndex(settings.seed)
        self.digests: list[bytes] = []
        self.text_lengths, self.widths, self.heights = array("q"), array("q"), array("q")
        self.repeated_ids = 0
        self.example: PageSample | None = None
        self._seen_ids: Counter[str] = Counter()

    def add(self, checked: Checked) -> None:
        """Takes the next sample."""
        candidate = checked.candidate
        sample_id = self._unique(_id_of(candidate))
        sample = PageSample(
            id=sample_id,
            image=checked.image,
            image_path=candidate.image_path,
            text=checked.text,
            group=self._rule.group_of(candidate),
            source=candidate.source,
            prompt=candidate.prompt,
            meta=candidate.meta,
        )
        self._staging.add(sample)
        self.example = self.example or sample
        text_digest = blake2b(checked.text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        self.groups.add(sample.id, sample.group, checked.image_digest, text_digest)
        self.digests.append(sample_digest(sample.id, checked.image_digest, checked.text))
        self.text_lengths.append(len(checked.text))
        self.widths.append(checked.width)
        self.heights.append(checked.height)

    def _unique(self, wanted: str) -> str:
        """The id itself the first time, then `id#2`, `id#3` …"""
        name = wanted
        while name in self._seen_ids:
            self._seen_ids[wanted] += 1
            name = f"{wanted}#{self._seen_ids[wanted]}"
        self._seen_ids[name] = 1
        self.repeated_ids += name != wanted
        return name


def build_dataset(
    sources: Sequence[str | Path],
    out: str | Path,
    settings: BuildSettings | None = None,
    *,
    length: LengthCheck | None = None,
    progress: Progress | None = None,
    workers: int | None = None,
) -> BuildSummary:
    """Builds a dataset at `out` from label files, tables, Parquet files and dataset folders.

    Args:
        sources: what to read, in this order.
        out: the dataset's folder; it appears when all is written, or not at all.
        settings: None takes the defaults.
        length: finds samples that are longer than the model's context; None estimates without a tokenizer.
        progress: told how far the work is.
        workers: threads that decode images; None takes one a core, eight at most.

    Raises:
        DataError: a source that cannot be read, no usable sample, or with `strict` anything left out.
        SettingsError: a value that cannot be.
        OutputError: the folder is there already, or cannot be written.
    """
    settings = settings or BuildSettings()
    length = length or ESTIMATED_LENGTH
    out = Path(out)
    if settings.layout == "prefix" and settings.prefix is None:
        settings = replace(settings, prefix=re.sub(r"[^\w.-]", "_", out.resolve().name) or "dataset")
    if not sources:
        raise DataError("There is no source.", mend="Give a label file, table, Parquet file or dataset folder.")
    with new_folder(out, overwrite=settings.overwrite) as temporary:
        opened = [find_source(Path(source), settings.import_options) for source in sources]
        staging_folder = temporary / ".staging"
        staging_folder.mkdir()
        with ExitStack() as stack:
            staging = Staging(staging_folder)
            stack.callback(staging.close)
            ledger = stack.enter_context(Ledger(temporary / LEDGER_FILE))
            intake = _Intake(staging, settings)
            _take_in(opened, intake, ledger, settings, length, progress, workers)
            _require_samples(intake, ledger, settings, opened)
            of_sample, sizes, keys = intake.groups.resolve()
            plan = SplitPlan.parse(settings.splits)
            of_group = assign_splits(sizes, keys, plan.targets(len(of_sample)))
            writers = _write(temporary, staging, of_group[of_sample], settings, progress)
        shutil.rmtree(staging_folder)
        summary = _summarise(out, settings, opened, intake, ledger, length, of_sample, of_group)
        files = {name: writers[name].files for name in SPLITS}
        with writing(out):
            manifest.write(temporary, settings, opened, summary, files)
            (temporary / CARD_FILE).write_text(card.render(summary, settings), encoding="utf-8")
    return summary


def _take_in(
    sources: Sequence[Source],
    intake: _Intake,
    ledger: Ledger,
    settings: BuildSettings,
    length: LengthCheck,
    progress: Progress | None,
    workers: int | None,
) -> None:
    """Checks all candidates; what passes goes into staging, the rest into the ledger."""
    known = [source.rows for source in sources]
    total = None if None in known else sum(rows or 0 for rows in known)
    taken = 0
    items = examine_all(_candidates(sources), min_side=settings.min_side, length=length, workers=workers)
    with closing(items) as checked:  # ends its threads, also when the limit or an error ends the loop
        for done, item in enumerate(checked, start=1):
            if isinstance(item, Excluded):
                ledger.add(item)
            else:
                intake.add(item)
                taken += 1
            if progress is not None:
                progress("read", done, total)
            if taken == settings.limit:
                break


def _candidates(sources: Sequence[Source]) -> Iterator[Candidate | Excluded]:
    for source in sources:
        yield from source.read()


def _id_of(candidate: Candidate) -> str:
    """The source's id, else the image path as far as it is relative, else file name and row."""
    if candidate.id:
        return candidate.id
    source = PurePath(candidate.source)
    if not candidate.image_path:
        return f"{source.stem}-{candidate.line}"
    path = PurePath(candidate.image_path.replace("\\", "/"))
    if path.is_absolute() and path.is_relative_to(source.parent):
        path = path.relative_to(source.parent)
    return path.as_posix()


def _require_samples(
    intake: _Intake, ledger: Ledger, settings: BuildSettings, sources: Sequence[Source]
) -> None:
    count, left_out = len(intake.digests), ledger.counts.total()
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
    folder: Path, staging: Staging, splits: np.ndarray, settings: BuildSettings, progress: Progress | None
) -> dict[SplitName, ShardWriter]:
    """Brings every staged sample into the shards of its split, in the order of the sources."""
    single = settings.layout == "prefix"
    target = folder if single else folder / DATA_FOLDER
    target.mkdir(exist_ok=True)
    writers = {
        name: ShardWriter(target, f"{settings.prefix}_{name}" if single else name, single_file=single)
        for name in SPLITS
    }
    start = 0
    try:
        for batch in staging.drain():
            part = splits[start : start + batch.num_rows]
            start += batch.num_rows
            for index, name in enumerate(SPLITS):
                rows = np.flatnonzero(part == index)
                if len(rows):
                    writers[name].add(batch.take(rows))
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
    intake: _Intake,
    ledger: Ledger,
    length: LengthCheck,
    of_sample: np.ndarray,
    of_group: np.ndarray,
) -> BuildSummary:
    splits = of_group[of_sample]
    counts = {name: int((splits == index).sum()) for index, name in enumerate(SPLITS)}
    assert intake.example is not None
    digests = ((SPLITS[int(split)], digest) for split, digest in zip(splits, intake.digests, strict=True))
    return BuildSummary(
        folder=out,
        layout=settings.layout,
        counts=counts,
        groups={name: int((of_group == index).sum()) for index, name in enumerate(SPLITS)},
        excluded=dict(ledger.counts.most_common()),
        content_hash=combine(digests),
        text_length=Distribution.of(intake.text_lengths),
        image_width=Distribution.of(intake.widths),
        image_height=Distribution.of(intake.heights),
        length_check=length.describe,
        notes=tuple(find_notes(settings, sources, intake.groups, intake.repeated_ids, counts, len(of_group))),
        first_excluded=tuple(ledger.first),
        example=intake.example,
    )
