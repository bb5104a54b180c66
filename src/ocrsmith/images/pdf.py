"""Pages of PDFs as pictures, through PDFium.

PDFium is built without JavaScript and XFA here, and nothing below asks it to run an action: a document's
scripts, links and launch actions are data that nobody reads. Its parser is C++ all the same: open files from
unknown hands in a process of their own (`ocrsmith.datasets.pdf.isolate`).

One thread at a time: PDFium keeps global state.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from PIL import Image

from ocrsmith.errors import ImageError, require

DEFAULT_DPI = 144
DEFAULT_MAX_SIDE = 3000
"""Pixels of a page's longest side. An A4 page at 144 dpi has 1,684, at 256 dpi 3,000."""
HEAD_BYTES = 1024
"""A PDF's signature stands within its first bytes, in old files behind a few others."""

_WHY = "Reading PDFs"
_PASSWORD, _SECURITY = 4, 5  # of FPDF_GetLastError
_MAX_DEPTH = 12  # of drawings inside drawings
_TITLE_CHARACTERS = 200


@dataclass(frozen=True, slots=True)
class RenderedPage:
    """A page as a picture."""

    image: Image.Image
    """Mode RGB, on white paper, turned as a viewer shows it."""
    dpi: float
    """Pixels per inch that it has; less than was asked for if `bounded`."""
    bounded: bool
    """Its longest side would have had more pixels than allowed, so it was drawn smaller."""


def is_pdf(head: bytes) -> bool:
    """Whether the first bytes of a file are those of a PDF."""
    return b"%PDF-" in head[:HEAD_BYTES]


class PdfFile:
    """An open PDF; a context manager.

    Args:
        path: the file.
        password: opens an encrypted file. Files that only forbid printing or copying open without one.

    Raises:
        ImageError: `reason` is "missing", "encrypted", "no_pages" or "unreadable".
        MissingExtraError: pypdfium2 is not installed.
    """

    def __init__(self, path: Path | str, *, password: str | None = None) -> None:
        self.path = Path(path)
        pdfium = require("pypdfium2", extra="pdf", why=_WHY)
        _require_pdf(self.path)
        try:
            self._document: Any = pdfium.PdfDocument(str(self.path.absolute()), password=password)
        except pdfium.PdfiumError as error:
            raise _cannot_open(error, self.path, password) from error
        self._forms = False
        self.pages = len(self._document)
        if not self.pages:
            self.close()
            raise ImageError(
                "The PDF has no pages.",
                reason="no_pages",
                place=str(self.path),
                mend="Make or download it again, or leave it out.",
            )

    @property
    def title(self) -> str:
        """As the document gives it, in one line; empty if it gives none."""
        text = self._document.get_metadata_dict().get("Title", "")
        return " ".join(text.replace("\x00", " ").split())[:_TITLE_CHARACTERS]

    def size(self, number: int) -> tuple[float, float]:
        """Width and height in points of page `number` (from 1), cut to its crop box and turned.

        Raises:
            ImageError: the page is damaged.
        """
        with self._page(number) as page:
            width, height = page.get_size()
            return float(width), float(height)

    def render(
        self,
        number: int,
        *,
        dpi: float = DEFAULT_DPI,
        max_side: int = DEFAULT_MAX_SIDE,
        turn: int = 0,
        annotations: bool = True,
        text: bool = True,
    ) -> RenderedPage:
        """Draws a page. The size of the picture is bounded before any memory is taken for it.

        Args:
            number: from 1.
            dpi: pixels per inch.
            max_side: the most pixels along the longest side.
            turn: degrees clockwise (0, 90, 180, 270), besides what the page itself says.
            annotations: draw notes, stamps and filled form fields.
            text: draw the text objects; without them, what is left is pictures, lines and drawn letters.

        Raises:
            ImageError: the page is damaged, or has no area.
        """
        if annotations and not self._forms:
            self._document.init_forms()
            self._forms = True
        with self._page(number) as page:
            scale, bounded = _scale(page.get_size(), dpi, max_side, self._place(number))
            if not text:
                _hide_text(page)
            bitmap = page.render(
                scale=scale,
                rotation=turn % 360,
                may_draw_forms=annotations,
                draw_annots=annotations,
                fill_color=(255, 255, 255, 255),
                rev_byteorder=True,
            )
            try:
                image = bitmap.to_pil().convert("RGB")
                image.load()
            finally:
                bitmap.close()
        return RenderedPage(image, scale * 72, bounded)

    def close(self) -> None:
        """Lets go of the file."""
        self._document.close()

    def __enter__(self) -> PdfFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _place(self, number: int) -> str:
        return f"{self.path}, page {number}"

    @contextmanager
    def _page(self, number: int) -> Iterator[Any]:
        pdfium = require("pypdfium2", extra="pdf", why=_WHY)
        if not 1 <= number <= self.pages:
            raise ImageError(
                f"There is no page {number}.", place=str(self.path), mend=f"It has pages 1 to {self.pages}."
            )
        page = None
        try:
            page = self._document[number - 1]
            yield page
        except pdfium.PdfiumError as error:
            raise ImageError(
                f"The page is damaged: {str(error).rstrip('.')}.",
                place=self._place(number),
                mend="Make or download the PDF again, or leave the page out.",
            ) from error
        finally:
            if page is not None:
                page.close()


def _scale(size: tuple[float, float], dpi: float, max_side: int, place: str) -> tuple[float, bool]:
    """Pixels for a point, and whether the bound made it smaller."""
    longest, shortest = max(size), min(size)
    if not (math.isfinite(longest) and shortest > 0):
        raise ImageError(
            f"The page has no area ({size[0]:g}×{size[1]:g} points).", place=place, mend="Leave it out."
        )
    wanted = dpi / 72
    bound = max_side / longest
    # PDFium rounds sizes up: a hair less keeps the bound.
    return (wanted, False) if wanted <= bound else (bound * (1 - 1e-6), True)


def _hide_text(page: Any) -> None:
    """Makes the text objects of a loaded page invisible; the file is not touched."""
    raw = require("pypdfium2.raw", extra="pdf", why=_WHY)
    for item in page.get_objects(max_depth=_MAX_DEPTH):
        if item.type == raw.FPDF_PAGEOBJ_TEXT:
            raw.FPDFPageObj_SetIsActive(item.raw, False)


def _require_pdf(path: Path) -> None:
    """Raises `ImageError` for what is no PDF, before PDFium sees it."""
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ImageError(
            "The PDF does not exist.", reason="missing", place=str(path), mend="Check the path."
        ) from error
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the path
        why = getattr(error, "strerror", None) or error
        raise ImageError(
            f"The PDF cannot be read: {why}.", place=str(path), mend="Check that it is a file you may read."
        ) from error
    if not head:
        problem = "The file is empty (0 bytes)."
    elif not is_pdf(head):
        problem = f"The file is not a PDF (it begins with {head[:8]!r})."
    else:
        return
    raise ImageError(problem, place=str(path), mend="Make or download it again, or leave it out.")


def _cannot_open(error: Any, path: Path, password: str | None) -> ImageError:
    code = getattr(error, "err_code", None)
    if code == _PASSWORD:
        return ImageError(
            "The PDF is encrypted, and the password does not open it."
            if password
            else "The PDF is encrypted: it opens only with a password.",
            reason="encrypted",
            place=str(path),
            mend="Give its password with --password.",
        )
    if code == _SECURITY:
        return ImageError(
            "The PDF is encrypted in a way that cannot be read.",
            reason="encrypted",
            place=str(path),
            mend="Save it without encryption.",
        )
    return ImageError(
        f"The PDF is damaged, cut short or without pages: {str(error).rstrip('.')}.",
        place=str(path),
        mend="Make or download it again, or leave it out.",
    )
