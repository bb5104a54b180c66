"""Goes through datasets and sources, and measures each sample in threads; few are in memory at a time."""

from __future__ import annotations

import os
import re
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import TypeVar

from PIL import Image

from ocrsmith.datasets.check.findings import Part
from ocrsmith.datasets.check.ink import BLANK, Writing, measure
from ocrsmith.datasets.checks import Checked, LengthCheck, examine_all
from ocrsmith.datasets.importers import ImportOptions, Source, find_source
from ocrsmith.datasets.ledger import describe
from ocrsmith.datasets.reader import Dataset, open_dataset
from ocrsmith.datasets.schema import MANIFEST_FILE, split_name
from ocrsmith.datasets.traits import Traits, traits_of
from ocrsmith.errors import DataError, ImageError, InputError
from ocrsmith.images import open_image
from ocrsmith.images.open import FORMATS
from ocrsmith.records import SPLITS, Excluded, PageSample

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Inspected:
    """A sample and what was measured of it."""

    sample: PageSample
    split: Part
    traits: Traits
    problem: str = ""
    """Why the image cannot be opened; then there are no measures."""
    width: int = 0
    height: int = 0
    format: str = ""
    colour: str = ""
    """Pillow's names, as the file has them."""
    writing: Writing = BLANK
    tokens: int | None = None


@dataclass
class Samples:
    """All samples of several datasets and sources, as often as wanted; train first, then val, then test."""

    opened: list[Dataset | Source]
    limit: int | None = None
    """Only the first so many of each split or source."""
    left_out: Counter[str] = field(default_factory=Counter)
    """Items of sources that cannot be samples, by reason; counted anew each time."""
    first_left_out: list[str] = field(default_factory=list)

    @classmethod
    def open(cls, paths: Sequence[str | Path], limit: int | None = None) -> Samples:
        """Opens dataset folders, prefixes of files, and whatever else `data build` reads.

        Raises:
            DataError: one of them is neither, or damaged.
        """
        if not paths:
            raise DataError("There is nothing to check.", mend="Give a dataset folder, or a source of one.")
        return cls([_open(Path(path)) for path in paths], limit)

    @property
    def datasets(self) -> list[Dataset]:
        """Those that are built."""
        return [item for item in self.opened if isinstance(item, Dataset)]

    @property
    def paths(self) -> list[Path]:
        """What was opened."""
        return [item.path for item in self.opened]

    @property
    def total(self) -> int | None:
        """How many samples there are, None if that shows only in reading."""
        total = 0
        for item in self.opened:
            if isinstance(item, Dataset):
                counts = [item.count(split) for split in SPLITS]
            elif item.rows is None:
                return None
            else:
                counts = [item.rows]
            total += sum(count if self.limit is None else min(count, self.limit) for count in counts)
        return total

    def __iter__(self) -> Iterator[tuple[Part, PageSample]]:
        self.left_out.clear()
        self.first_left_out.clear()
        for split in SPLITS:
            for dataset in self.datasets:
                for sample in islice(dataset.iter_samples(split), self.limit):
                    yield split, sample
        for source in self.opened:
            if not isinstance(source, Dataset):
                for sample in islice(self._of_source(source), self.limit):
                    yield None, sample

    def _of_source(self, source: Source) -> Iterator[PageSample]:
        """The samples that `data build` would make of a source."""
        anything = LengthCheck(1, lambda *_: 0, "none", exact=False)
        for item in examine_all(source.read(), min_side=1, length=anything, workers=1):
            if isinstance(item, Excluded):
                self.left_out[item.reason] += 1
                if len(self.first_left_out) < 10:
                    self.first_left_out.append(describe(item))
            else:
                yield _sample(item)


def inspect(split: Part, sample: PageSample, length: LengthCheck) -> Inspected:
    """Opens an image and measures it; an image that cannot be opened is no error here."""
    try:
        pixels = open_image(sample.image, keep_grey=True)
        with Image.open(BytesIO(sample.image), formats=FORMATS) as header:
            file_format, colour = str(header.format), header.mode
    except ImageError as error:
        return Inspected(sample, split, traits_of(sample.image, None, sample.text), error.problem)
    try:
        tokens = length.count(*pixels.size, sample.text, sample.prompt)
    except InputError:  # a prompt that the model cannot take: the sample has no length
        tokens = None
    writing = measure(pixels)
    traits = traits_of(sample.image, pixels, sample.text)
    return Inspected(sample, split, traits, "", *pixels.size, file_format, colour, writing, tokens)


def in_order(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int | None = None
) -> Generator[Result]:
    """`map` in threads: results come in the order of the items, of which only a few are under way."""
    count = workers or min(8, os.cpu_count() or 1)
    if count == 1:
        yield from map(function, items)
        return
    pool = ThreadPoolExecutor(count, thread_name_prefix="inspect")
    waiting: deque[Future[Result]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) >= 4 * count:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _open(path: Path) -> Dataset | Source:
    return open_dataset(path) if _is_dataset(path) else find_source(path, ImportOptions())


def _is_dataset(path: Path) -> bool:
    """Whether a path is to be opened as a dataset: files named by splits, or nothing there (a prefix)."""
    if path.is_dir():
        files = [*path.glob("*.parquet"), *path.glob("data/*.parquet")]
        return (path / MANIFEST_FILE).is_file() or any(_names_split(file.stem) for file in files)
    return not path.exists() or (path.suffix == ".parquet" and _names_split(path.stem))


def _names_split(stem: str) -> bool:
    parts = re.split(r"[-_]", stem)
    return split_name(parts[0]) is not None or split_name(parts[-1]) is not None


def _sample(checked: Checked) -> PageSample:
    candidate = checked.candidate
    place = f"{Path(candidate.source).name}:{candidate.line}"
    return PageSample(
        id=candidate.id or candidate.image_path or place,
        image=checked.image,
        image_path=candidate.image_path,
        text=checked.text,
        source=candidate.source,
        prompt=candidate.prompt,
    )
