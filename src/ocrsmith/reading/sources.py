"""What is to be read: the pages of images, TIFFs and PDFs, looked at before and opened one at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path

from ocrsmith.errors import ImageError, InputError
from ocrsmith.images.pdf import HEAD_BYTES, is_pdf
from ocrsmith.reading.images import EncodedPage, check_image, count_frames, is_tiff, read_frame, read_image
from ocrsmith.reading.pdf import DrawnPage, PageRange, PdfOptions, PdfPages


class Kind(Enum):
    """What a file is."""

    IMAGE = auto()
    TIFF = auto()
    PDF = auto()


@dataclass(frozen=True, slots=True)
class Source:
    """A file that holds pages."""

    path: Path
    kind: Kind
    numbers: tuple[int, ...]
    """The pages to read, from 1, in order."""
    problem: str | None = None
    """Why it cannot be opened, or which of the pages asked for it does not have."""


@dataclass(frozen=True, slots=True)
class Want:
    """Pages of a source that are to be opened."""

    document: int
    """Comes back with each page."""
    source: Source
    numbers: Sequence[int]


@dataclass(slots=True)
class PageImage:
    """A page to read, as an encoded image file."""

    document: int
    number: int
    width: int
    height: int
    dpi: float | None
    """Pixels per inch that a PDF's page was drawn with; None for images."""
    data: bytes
    points: tuple[float, float] | None = None
    """Width and height of a PDF's page; None for images."""


@dataclass(frozen=True, slots=True)
class BrokenPage:
    """A page that cannot be opened."""

    document: int
    number: int
    reason: str


Item = PageImage | BrokenPage


class Opener:
    """Opens files and pages; holds the processes that draw PDFs. Close it."""

    def __init__(self, options: PdfOptions | None = None) -> None:
        self.pdf = PdfPages(options or PdfOptions())

    def inspect(self, path: Path, pages: PageRange) -> Source:
        """Finds out what a file is, and which of the pages asked for it has. Never raises for a bad file.

        `pages` is for files that can have several.
        """
        try:
            kind, count = self._count(path)
        except InputError as error:
            return Source(path, Kind.IMAGE, (), sentence(error))
        if kind is Kind.IMAGE:
            return Source(path, kind, (1,))
        return Source(path, kind, tuple(pages.of(count)), _beyond(pages, count))

    def _count(self, path: Path) -> tuple[Kind, int]:
        try:
            head = b""
            if path.is_file():  # the rest is for `open_image` to name
                with path.open("rb") as file:
                    head = file.read(HEAD_BYTES)
        except OSError as error:
            raise ImageError(f"The file cannot be read ({error.strerror}).", place=str(path)) from error
        if is_pdf(head):
            count = self.pdf.count(path)
            if not isinstance(count, int):
                raise ImageError(count.detail, reason=count.reason, place=str(path))
            return Kind.PDF, count
        if is_tiff(head):
            return Kind.TIFF, count_frames(path)
        check_image(path)
        return Kind.IMAGE, 1

    def pages(self, wants: Iterable[Want]) -> Generator[Item, None, None]:
        """All pages wanted, in order; those of PDFs are drawn a few ahead, never more."""
        waiting: deque[Callable[[], Item]] = deque()
        for want in wants:
            for number in want.numbers:
                waiting.append(self._begin(want, number))
                if len(waiting) > 2 * self.pdf.workers:
                    yield waiting.popleft()()
        while waiting:
            yield waiting.popleft()()

    def _begin(self, want: Want, number: int) -> Callable[[], Item]:
        if want.source.kind is Kind.PDF:
            drawn = self.pdf.draw(want.source.path, number)
            return lambda: _item(want, number, drawn)
        read = read_frame if want.source.kind is Kind.TIFF else lambda path, _: read_image(path)
        return lambda: _item(want, number, lambda: read(want.source.path, number))

    def close(self) -> None:
        """Kills the processes that draw PDFs."""
        self.pdf.close()

    def __enter__(self) -> Opener:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _item(want: Want, number: int, opened: Callable[[], object]) -> Item:
    try:
        page = opened()
    except ImageError as error:
        return BrokenPage(want.document, number, sentence(error))
    if isinstance(page, EncodedPage):
        return PageImage(want.document, number, page.width, page.height, None, page.data)
    if isinstance(page, DrawnPage):
        return PageImage(want.document, number, page.width, page.height, page.dpi, page.data, page.points)
    return BrokenPage(want.document, number, str(getattr(page, "detail", page)))


def sentence(error: InputError) -> str:
    """Problem and mend in one line; the place is known to whom it is told."""
    return " ".join(f"{error.problem} {error.mend or ''}".split())


def _beyond(pages: PageRange, count: int) -> str | None:
    """Which of the pages asked for a document of so many pages does not have."""
    missing = []
    for start, stop in pages.spans:
        if stop is not None and stop > count:
            first = max(start, count + 1)
            missing.append(str(stop) if first == stop else f"{first}-{stop}")
        elif start > count:
            missing.append(f"{start}-")
    if not missing:
        return None
    has = "It has 1 page" if count == 1 else f"It has {count:,} pages"
    return f"{has}; there is no page {', '.join(missing)}."
