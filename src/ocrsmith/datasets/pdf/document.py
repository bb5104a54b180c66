"""How PDFs are read, which of their pages, and where they lie."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from ocrsmith.datasets.pdf.trust import DEFAULT_THRESHOLD
from ocrsmith.errors import SettingsError
from ocrsmith.images.pdf import DEFAULT_DPI, DEFAULT_MAX_SIDE

Tables = Literal["html", "markdown"]
TABLES: tuple[Tables, ...] = ("html", "markdown")

_PART = re.compile(r"\s*(\d+)?\s*(-)?\s*(\d+)?\s*")
_SUFFIX = ".pdf"


@dataclass(frozen=True, slots=True)
class PageRange:
    """Which pages of each document: `3`, `1-5`, `1-5,8`, `10-` (to the end), `-4` (the first four)."""

    spans: tuple[tuple[int, int | None], ...]
    """First and last page of each span, from 1; None: to the end."""

    @classmethod
    def parse(cls, text: str | None) -> PageRange:
        """None means all pages.

        Raises:
            SettingsError: it names no pages.
        """
        if text is None:
            return cls(((1, None),))
        spans = []
        for part in text.split(","):
            match = _PART.fullmatch(part)
            first, dash, last = match.groups() if match else (None, None, None)
            start = int(first or 1)
            stop = int(last) if last else (None if dash else start)
            if not (first or last) or (last and not dash) or start < 1 or (stop is not None and stop < start):
                raise SettingsError(
                    f"{part.strip()!r} names no pages.", place="--pages", mend="Write 3, 1-5, 1-5,8 or 10-."
                )
            spans.append((start, stop))
        return cls(tuple(spans))

    def of(self, pages: int) -> list[int]:
        """The page numbers that a document of so many pages has, in order."""
        chosen: set[int] = set()
        for start, stop in self.spans:
            chosen.update(range(start, min(pages, stop or pages) + 1))
        return sorted(chosen)


@dataclass(frozen=True, slots=True)
class PdfOptions:
    """How to make pairs of PDF pages; checked when made.

    Raises:
        SettingsError: a value that cannot be.
    """

    dpi: float = DEFAULT_DPI
    """Pixels per inch of the pictures."""
    max_side: int = DEFAULT_MAX_SIDE
    """The most pixels along a page's longest side; a page that would have more is drawn smaller."""
    pages: str | None = None
    """See `PageRange`; None: all."""
    trust: float = DEFAULT_THRESHOLD
    """Pages whose text scores less are left out; 0 takes all."""
    tables: Tables = "html"
    """How tables stand in the text."""
    keep_furniture: bool = False
    """Keep headers, footers and page numbers in the text."""
    jpeg: int | None = None
    """Quality (1 to 95) of pictures in JPEG; None: PNG, without loss."""
    password: str | None = None
    """For encrypted files."""
    workers: int | None = None
    """Processes that read pages; None: one a core."""
    page_seconds: float = 60.0
    """A page that takes longer is given up."""
    page_memory: int = 2048
    """A page that takes more MiB of memory is given up."""

    def __post_init__(self) -> None:
        PageRange.parse(self.pages)
        jpeg, workers, seconds, memory = self.jpeg, self.workers, self.page_seconds, self.page_memory
        _require(18 <= self.dpi <= 1200, f"{self.dpi:g} dpi is no resolution.", "--dpi", "Use 18 to 1200.")
        _require(64 <= self.max_side <= 9400, f"{self.max_side} is no bound.", "--max-side", "Use 64 to 9400.")
        _require(0 <= self.trust <= 1, f"{self.trust:g} is no trust score.", "--trust", "Use 0 to 1.")
        _require(
            self.tables in TABLES, f"{self.tables!r} is no form.", "--tables", f"Use {' or '.join(TABLES)}."
        )
        _require(jpeg is None or 1 <= jpeg <= 95, f"{jpeg} is no quality.", "--jpeg", "Use 1 to 95.")
        _require(workers is None or workers >= 1, f"{workers} are no workers.", "--workers", "Use 1 or more.")
        _require(0 < seconds < 1e6, f"{seconds:g} is no time.", "--page-seconds", "Use e.g. 60.")
        _require(memory >= 128, f"{memory} MiB are too few.", "--page-memory", "Use 128 or more.")

    def describe(self) -> dict[str, Any]:
        """What decides which pairs come out, for the manifest: no password, nothing of the machine."""
        kept = asdict(self)
        for name in ("password", "workers"):
            del kept[name]
        return kept


def find_pdfs(path: Path) -> Iterator[Path]:
    """The PDF itself, or those of a folder and its subfolders, in the order of their names.

    By suffix, of whichever case. Linked folders are not entered.
    """
    if not path.is_dir():
        yield path
        return
    for folder, names, files in os.walk(path):
        names.sort()
        for name in sorted(files):
            if name.lower().endswith(_SUFFIX):
                yield Path(folder) / name


def _require(fine: bool, problem: str, option: str, mend: str) -> None:
    if not fine:
        raise SettingsError(problem, place=option, mend=mend)
