"""Pages of PDFs, drawn by processes of their own: `python -m ocrsmith.reading.pdf`.

A PDF's parser is C++ and the file may be hostile: what hangs, crashes or takes too much memory costs one page.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from ocrsmith.datasets.pdf.document import PageRange as PageRange
from ocrsmith.datasets.pdf.isolate import Bounds, Failure, IsolatedPool, Reply, serve
from ocrsmith.errors import SettingsError, require
from ocrsmith.images.pdf import DEFAULT_DPI, DEFAULT_MAX_SIDE, PdfFile

_WORKERS = 4


@dataclass(frozen=True, slots=True)
class PdfOptions:
    """How the pages of PDFs are drawn; checked when made.

    Raises:
        SettingsError: a value that cannot be.
    """

    dpi: float = DEFAULT_DPI
    """Pixels per inch."""
    max_side: int = DEFAULT_MAX_SIDE
    """The most pixels along a page's longest side; a page that would have more is drawn smaller."""
    password: str | None = None
    """For encrypted files."""
    page_seconds: float = 60.0
    """A page that takes longer to draw is given up."""
    page_memory: int = 2048
    """A page that takes more MiB of memory is given up."""

    def __post_init__(self) -> None:
        if not 18 <= self.dpi <= 1200:
            raise SettingsError(f"{self.dpi:g} dpi is no resolution.", place="--dpi", mend="Use 18 to 1200.")
        if not 64 <= self.max_side <= 9400:
            raise SettingsError(f"{self.max_side} is no bound.", place="--max-side", mend="Use 64 to 9400.")

    def describe(self) -> dict[str, Any]:
        """What decides the pictures."""
        return {"dpi": self.dpi, "max_side": self.max_side}


@dataclass(frozen=True, slots=True)
class DrawnPage:
    """A page as an encoded picture."""

    data: bytes
    """PNG."""
    width: int
    height: int
    dpi: float
    points: tuple[float, float]
    """Width and height of the page itself."""


class PdfPages:
    """Draws pages of PDFs in a few processes, started for the first of them. Close it: that kills them."""

    def __init__(self, options: PdfOptions) -> None:
        self.options = options
        self.workers = min(_WORKERS, os.cpu_count() or 1)
        self._pool: IsolatedPool | None = None

    def count(self, path: Path) -> int | Failure:
        """How many pages a PDF has, or why it cannot be opened."""
        reply = self._submit({"path": str(path.absolute())}).result()
        return reply if isinstance(reply, Failure) else int(reply.answer["pages"])

    def draw(self, path: Path, number: int) -> Callable[[], DrawnPage | Failure]:
        """Begins to draw a page; the result can be waited for."""
        future = self._submit({"path": str(path.absolute()), "page": number, **self.options.describe()})

        def wait() -> DrawnPage | Failure:
            reply = future.result()
            if isinstance(reply, Failure):
                return reply
            answer = reply.answer
            across, down = map(float, answer["points"])
            size = int(answer["width"]), int(answer["height"])
            return DrawnPage(reply.data, *size, float(answer["dpi"]), (across, down))

        return wait

    def close(self) -> None:
        """Kills the processes; pages under way end as failures."""
        if self._pool is not None:
            self._pool.close()

    def _submit(self, request: dict[str, Any]) -> Future[Reply | Failure]:
        if self._pool is None:
            require("pypdfium2", extra="pdf", why="Reading PDFs")
            bounds = Bounds(self.options.page_seconds, self.options.page_memory << 20)
            self._pool = IsolatedPool("ocrsmith.reading.pdf", workers=self.workers, bounds=bounds)
        return self._pool.submit(request | {"password": self.options.password})


class _Drawer:
    """The other side: answers requests; keeps the last document open, since its next page mostly follows."""

    def __init__(self) -> None:
        self._file: PdfFile | None = None
        self._key: tuple[str, str | None] | None = None

    def handle(self, request: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
        """How many pages there are; or, with `page`, the picture of it."""
        file = self._open(request["path"], request["password"])
        if "page" not in request:
            return {"pages": file.pages}, b""
        number = int(request["page"])
        drawn = file.render(number, dpi=request["dpi"], max_side=request["max_side"])
        stream = BytesIO()
        drawn.image.save(stream, "PNG", compress_level=1)
        width, height = drawn.image.size
        answer = {"width": width, "height": height, "dpi": round(drawn.dpi, 1), "points": file.size(number)}
        return answer, stream.getvalue()

    def _open(self, path: str, password: str | None) -> PdfFile:
        if self._file is None or self._key != (path, password):
            if self._file is not None:
                self._file.close()
                self._file = None
            self._file, self._key = PdfFile(path, password=password), (path, password)
        return self._file


if __name__ == "__main__":
    serve(_Drawer().handle)
