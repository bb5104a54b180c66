"""Reads one page: picture, text, trust. Runs in a process of its own: `python -m ocrsmith.datasets.pdf.worker`.

Started by `pairs` through `isolate.IsolatedPool`, never by hand.
"""

from __future__ import annotations

import logging
import unicodedata
from collections import Counter
from dataclasses import asdict, replace
from io import BytesIO
from typing import Any

from PIL import Image

from ocrsmith.datasets.pdf import ink
from ocrsmith.datasets.pdf.document import PdfOptions
from ocrsmith.datasets.pdf.isolate import serve
from ocrsmith.datasets.pdf.page import PageContent, read_page
from ocrsmith.datasets.pdf.trust import Trust, judge, shown_text
from ocrsmith.errors import ImageError, require
from ocrsmith.images.pdf import PdfFile

_MOST_TURNED = 0.8
"""Share of characters that all stand at one angle from which the page is turned by it."""
_SIZE_TOLERANCE = 2.0
"""Points by which the two readers may differ about the size of a page."""


class Reader:
    """Answers requests; keeps the document of the last one open, since the next page is mostly of it too."""

    def __init__(self) -> None:
        self._file: PdfFile | None = None
        self._plumber: Any = None
        self._key: tuple[str, str | None] | None = None

    def handle(self, request: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
        """Answers one of three questions about the PDF at `path`, opened with `password`.

        - nothing more asked: how many `pages`, and the `title`;
        - `sample`, page numbers: which running heads and feet (`furniture`) return on them;
        - `page`, `options`, `furniture`: picture and text of a page, or only its `trust` if that is too low.

        Raises:
            ImageError: the file or page cannot be used.
            Exception: whatever pdfminer raises on a damaged page.
        """
        file = self._open(request["path"], request["password"])
        if "sample" in request:
            return {"furniture": self._furniture(file, request["sample"])}, b""
        if "page" not in request:
            return {"pages": file.pages, "title": file.title}, b""
        known = frozenset(request.get("furniture", ()))
        return self._page(file, int(request["page"]), PdfOptions(**request["options"]), known)

    def _open(self, path: str, password: str | None) -> PdfFile:
        if self._file is not None and self._key == (path, password):
            return self._file
        self._close()
        self._file = PdfFile(path, password=password)
        self._key = (path, password)
        return self._file

    def _close(self) -> None:
        for opened in (self._file, self._plumber):
            if opened is not None:
                opened.close()
        self._file = self._plumber = self._key = None

    def _furniture(self, file: PdfFile, numbers: list[int]) -> list[str]:
        from ocrsmith.datasets.pdf.furniture import edge_lines, repeated

        return sorted(repeated(edge_lines(shown_text(self._read(file, number)[0])) for number in numbers))

    def _page(
        self, file: PdfFile, number: int, options: PdfOptions, furniture: frozenset[str]
    ) -> tuple[dict[str, Any], bytes]:
        content, turn = self._read(file, number)
        trust = _judge(file, content, turn)
        answer: dict[str, Any] = {"trust": asdict(trust)}
        if trust.score < options.trust:
            return answer, b""
        text = _markdown(shown_text(content), options, furniture)
        lost = sum(map(_is_lost, text))
        if lost and options.trust > 0:
            return {"trust": asdict(_without(trust, lost))}, b""
        rendered = file.render(number, dpi=options.dpi, max_side=options.max_side, turn=turn, annotations=False)
        answer |= {
            "text": text,
            "dpi": round(rendered.dpi, 1),
            "bounded": rendered.bounded,
            "turned": turn,
        }
        return answer, _encode(rendered.image, options)

    def _read(self, file: PdfFile, number: int) -> tuple[PageContent, int]:
        """What the page holds, turned so that its text stands upright, and by how much it was turned."""
        pdfplumber = require("pdfplumber", extra="pdf", why="Reading the text of PDFs")
        if self._plumber is None:
            self._plumber = pdfplumber.open(file.path, password=self._key[1] if self._key else None)
        pages = self._plumber.pages
        if len(pages) != file.pages:
            raise ImageError(
                f"Its page tree is damaged: one reader finds {file.pages} pages, the other {len(pages)}.",
                mend="Make the PDF again, e.g. by printing it to a PDF.",
            )
        page = pages[number - 1]
        content = read_page(page)
        turn = _turn(content)
        if turn:
            content = read_page(page, (content.rotation + turn) % 360)
        page.close()
        width, height = file.size(number)
        if turn in (90, 270):
            width, height = height, width
        if max(abs(width - content.width), abs(height - content.height)) > _SIZE_TOLERANCE:
            raise ImageError(
                f"Two readers disagree about the size of the page: {width:g}×{height:g} and "
                f"{content.width:g}×{content.height:g} points.",
                mend="Make the PDF again, e.g. by printing it to a PDF.",
            )
        return content, turn


def _turn(content: PageContent) -> int:
    """Degrees clockwise that make the text upright; 0 where it is, or where not nearly all of it agrees."""
    angles = Counter(
        char.angle for char in shown_text(content).chars if char.text.strip() and not _is_vertical(char)
    )
    angle, count = max(angles.items(), key=lambda item: item[1], default=(0, 0))
    return angle if angle in (90, 180, 270) and count >= _MOST_TURNED * angles.total() else 0


def _is_vertical(char: Any) -> bool:
    """Set from top to bottom in upright letters, as Chinese may be: that is not turned."""
    return bool(char.angle == 270 and char.upright)


def _judge(file: PdfFile, content: PageContent, turn: int) -> Trust:
    rendered, bare = (
        file.render(
            content.number, dpi=ink.DPI, max_side=ink.MAX_SIDE, turn=turn, annotations=False, text=text
        ).image
        for text in (True, False)
    )
    return judge(content, rendered, bare)


def _markdown(content: PageContent, options: PdfOptions, furniture: frozenset[str]) -> str:
    from ocrsmith.datasets.pdf.markdown import DocumentFacts, MarkdownOptions, to_markdown

    form = MarkdownOptions(tables=options.tables, furniture="keep" if options.keep_furniture else "drop")
    text = to_markdown(content, form, DocumentFacts(furniture=furniture))
    # Half a surrogate pair cannot be stored.
    return text.encode("utf-8", "replace").decode("utf-8")


def _is_lost(letter: str) -> bool:
    """Stands for a character that the file does not name."""
    return letter == "\ufffd" or (unicodedata.category(letter) in ("Cc", "Co", "Cn") and letter not in "\n\t")


def _without(trust: Trust, lost: int) -> Trust:
    """Trust in a page of which a few characters without Unicode value have come into the label."""
    words = f"{lost} characters of its Markdown have no Unicode value"
    return replace(trust, score=0.0, reason="unmapped_text", reasons=(words, *trust.reasons))


def _encode(image: Image.Image, options: PdfOptions) -> bytes:
    stream = BytesIO()
    if options.jpeg is None:
        image.save(stream, "PNG")
    else:
        image.save(stream, "JPEG", quality=options.jpeg)
    return stream.getvalue()


if __name__ == "__main__":
    logging.disable()  # pdfminer remarks on each oddity of each page
    serve(Reader().handle)
