"""Reads documents into a folder: page by page into journals, and from there into the files asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Any

from ocrsmith.engines.base import Engine
from ocrsmith.errors import OutputError
from ocrsmith.reading.answers import Bounds, to_page
from ocrsmith.reading.document import Page
from ocrsmith.reading.formats import CUT, FORMATS, PDF
from ocrsmith.reading.inputs import Input
from ocrsmith.reading.joining import join_tables
from ocrsmith.reading.journal import Journal
from ocrsmith.reading.pictures import name_pictures, write_boxes, write_pictures
from ocrsmith.reading.places import Placing
from ocrsmith.reading.read import Window, read_pages
from ocrsmith.reading.readings import PageReading
from ocrsmith.reading.searchable import SearchablePdf
from ocrsmith.reading.sources import Item, Kind, Opener, PageImage, Source, Want
from ocrsmith.settings.files import write_file, writing

KEPT = ".ocrsmith"
"""Folder of the journals, in the output folder."""

Progress = Callable[[int, int], None]
"""Called with (pages done, pages in all), first with what a stopped run had done."""


@dataclass(frozen=True, slots=True)
class Job:
    """What to read, and into what.

    Attributes:
        inputs: the files, with the names of their outputs.
        sources: what they are; one for each.
        out: the folder.
        formats: of `formats.ENDINGS`.
        bounds: what counts as uncertain.
        marked: mark that in Markdown and text.
        prompt: None takes the engine's.
        pictures: cut out the pictures that the model has marked, and link them.
        boxes: draw the boxes of each page that has any.
        join_tables: tables that run over pages stand on the page that they begin on, but not in PDFs.
        overwrite: throw away what `out` holds of these documents.
    """

    inputs: Sequence[Input]
    sources: Sequence[Source]
    out: Path
    formats: Sequence[str]
    bounds: Bounds = field(default_factory=Bounds)
    marked: bool = False
    prompt: str | None = None
    pictures: bool = False
    boxes: bool = False
    join_tables: bool = False
    overwrite: bool = False

    def outputs(self, index: int) -> list[Path]:
        """The files of a document."""
        return [self.out / f"{self.inputs[index].name}.{ending}" for ending in self.formats]

    def journal(self, index: int) -> Path:
        """Where a document's pages are kept."""
        return self.out / KEPT / f"{self.inputs[index].name}.jsonl"

    def check(self) -> None:
        """Finds what would stop the job before a model is loaded for it.

        Raises:
            OutputError: `out` cannot be made, or holds files under these names that are not ours.
        """
        with writing(self.out):
            self.out.mkdir(parents=True, exist_ok=True)
        if self.overwrite:
            return
        foreign = [
            path
            for index, source in enumerate(self.sources)
            if source.numbers and not self.journal(index).exists()
            for path in self.outputs(index)
            if path.exists()
        ]
        if foreign:
            more = f" and {len(foreign) - 1:,} more" if len(foreign) > 1 else ""
            raise OutputError(
                f"{foreign[0].name!r}{more} would be overwritten.",
                place=str(foreign[0]),
                mend="Choose another folder with -o, or allow it with --overwrite.",
            )


@dataclass(frozen=True, slots=True)
class Trouble:
    """A page, or a whole file, that could not be read or is not all there."""

    source: str
    page: int | None
    reason: str


@dataclass(slots=True)
class Outcome:
    """What became of a job."""

    documents: int = 0
    """Files that could be opened."""
    pages: int = 0
    """Pages read well, those of earlier runs included."""
    failed: list[Trouble] = field(default_factory=list)
    cut: list[Trouble] = field(default_factory=list)
    """Pages that ended at the token limit or in a loop."""
    files: list[list[Path]] = field(default_factory=list)
    """What was written, by document."""
    placed: Counter[Placing] = field(default_factory=Counter)
    """By what the text of how many pages was placed, in the PDFs that were written now."""


class Run:
    """A job under way: `read` reads it, `done` and `total` say how far it is."""

    def __init__(self, job: Job, engine: Engine, opener: Opener, *, window: Window | None = None) -> None:
        """
        Raises:
            OutputError: `out` holds pages read with other settings; nothing has been read then.
        """
        self.job, self.engine, self.opener, self.window = job, engine, opener, window
        self.outcome = Outcome()
        self.total = sum(len(source.numbers) for source in job.sources)
        self.done = 0
        self._engine = {"name": engine.name, **engine.describe()}
        self._journals: dict[int, Journal] = {}
        self._left: dict[int, int] = {}
        for index, source in enumerate(job.sources):
            if source.numbers:
                self._open(index, source)

    def read(self, progress: Progress | None = None) -> Outcome:
        """Reads what is missing, and writes each document when its last page is there.

        Raises:
            OutputError: something cannot be written.
            OcrsmithError: the engine cannot go on.
            KeyboardInterrupt: passed on; what was read is kept.
        """
        tell = progress or (lambda done, total: None)
        self.done = self.total - sum(self._left.values())
        tell(self.done, self.total)
        for index, source in enumerate(self.job.sources):
            if source.problem:
                self.outcome.failed.append(Trouble(self.job.inputs[index].shown, None, source.problem))
            if source.numbers and not self._left[index]:
                self._finish(index)
        pages = self.opener.pages(self._wants())
        with closing(read_pages(self.engine, pages, prompt=self.job.prompt, window=self.window)) as readings:
            for reading in readings:
                self._journals[reading.document].add(reading)
                self._left[reading.document] -= 1
                self.done += 1
                if not self._left[reading.document]:
                    self._finish(reading.document)
                tell(self.done, self.total)
        for troubles in (self.outcome.failed, self.outcome.cut):
            troubles.sort(key=lambda item: (item.source, item.page or 0))
        return self.outcome

    def _open(self, index: int, source: Source) -> None:
        path = self.job.journal(index)
        if self.job.overwrite:
            with writing(path):
                path.unlink(missing_ok=True)
        engine = {key: value for key, value in self._engine.items() if key != "runtime"}
        settings: dict[str, Any] = {"engine": engine, "prompt": self.job.prompt}
        if source.kind is Kind.PDF:
            settings["pdf"] = self.opener.pdf.options.describe()
        journal = Journal.open(path, index, settings, self.job.inputs[index].identity())
        self._journals[index] = journal
        self._left[index] = len(set(source.numbers) - journal.read)

    def _wants(self) -> Iterator[Want]:
        for index, source in enumerate(self.job.sources):
            if self._left.get(index):
                read = self._journals[index].read
                yield Want(index, source, [number for number in source.numbers if number not in read])

    def _finish(self, index: int) -> None:
        """Writes the files of a document, unless they stand there already as they would be written."""
        job, journal = self.job, self._journals.pop(index)
        source, outputs = job.sources[index], job.outputs(index)
        how = self._how(index)
        if journal.written != how or not all(path.is_file() for path in outputs):
            head = self._head(index)
            if job.pictures or job.boxes:
                self._draw(journal, index)
            for ending, path in zip(job.formats, outputs, strict=True):
                write_file(path, partial(self._write, ending, journal, index, head))
            journal.close(how)
        self.outcome.documents += 1
        self.outcome.files.append(outputs)
        for reading in journal.readings(source.numbers):
            self._count(job.inputs[index].shown, reading)

    def _write(self, ending: str, journal: Journal, index: int, head: dict[str, Any], file: IO[bytes]) -> None:
        pages = self._pages(journal, index)
        if ending == PDF:
            pdf = SearchablePdf(file, PurePosixPath(self.job.inputs[index].name).name)
            pdf.write(self._with_images(pages, index))
            self.outcome.placed.update(pdf.placed)
        else:
            FORMATS[ending](file, join_tables(pages) if self.job.join_tables else pages, head, self.job.marked)

    def _with_images(self, pages: Iterator[Page], index: int) -> Iterator[tuple[Page, Item]]:
        """Pages with their images, which are opened again: those of PDFs a few ahead, never more."""
        source = self.job.sources[index]
        with closing(self.opener.pages([Want(index, source, source.numbers)])) as images:
            yield from zip(pages, images, strict=True)

    def _pages(self, journal: Journal, index: int) -> Iterator[Page]:
        for reading in journal.readings(self.job.sources[index].numbers):
            page = to_page(reading, self.job.bounds)
            yield name_pictures(page, self._beside(index, "pictures")) if self.job.pictures else page

    def _beside(self, index: int, what: str) -> PurePosixPath:
        """A folder beside a document's outputs, relative to theirs."""
        return PurePosixPath(f"{PurePosixPath(self.job.inputs[index].name).name}_{what}")

    def _draw(self, journal: Journal, index: int) -> None:
        """Writes pictures, and pages with boxes. Their images are opened again, one at a time."""
        job, source = self.job, self.job.sources[index]
        here = job.outputs(index)[0].parent
        for page in self._pages(journal, index):
            wanted = page.blocks if job.boxes else [block for block in page.blocks if block.picture]
            image = next(self.opener.pages([Want(index, source, [page.number])])) if wanted else None
            if not isinstance(image, PageImage):
                continue
            if job.pictures:
                write_pictures(page, image.data, here)
            if job.boxes:
                write_boxes(
                    page, image.data, here / self._beside(index, "boxes") / f"page-{page.number:04d}.png"
                )

    def _count(self, shown: str, reading: PageReading) -> None:
        prediction = reading.prediction
        if prediction.error is not None:
            self.outcome.failed.append(Trouble(shown, reading.number, prediction.error))
            return
        self.outcome.pages += 1
        if prediction.finish_reason != "stop":
            self.outcome.cut.append(Trouble(shown, reading.number, CUT[prediction.finish_reason]))

    def _how(self, index: int) -> dict[str, Any]:
        """All that decides what the outputs look like, besides what was read."""
        calibration = self.job.bounds.calibration
        return {
            "formats": sorted(self.job.formats),
            "pages": _ranges(self.job.sources[index].numbers),
            "marked": self.job.marked,
            "pictures": self.job.pictures,
            "boxes": self.job.boxes,
            **({"join_tables": True} if self.job.join_tables else {}),  # else journals of before stay good
            "below": self.job.bounds.below,
            "calibration": None if calibration is None else calibration.to_json(),
        }

    def _head(self, index: int) -> dict[str, Any]:
        """What the JSON says of the document as a whole; `page_numbers` are those that follow."""
        bounds = self.job.bounds
        return {
            "source": self.job.inputs[index].shown,
            "problem": self.job.sources[index].problem,
            "prompt": self.job.prompt,
            "engine": self._engine,
            "low_confidence_below": bounds.below,
            "calibration": None if bounds.calibration is None else bounds.calibration.to_json(),
            "page_numbers": self.job.sources[index].numbers,
        }


def _ranges(numbers: Sequence[int]) -> list[list[int]]:
    """[1, 2, 3, 7] → [[1, 3], [7, 7]]."""
    ranges: list[list[int]] = []
    for number in numbers:
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    return ranges
