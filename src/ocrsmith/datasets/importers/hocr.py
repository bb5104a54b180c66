"""hOCR: HTML with the places of pages, lines and words in `title` attributes; what Tesseract and OCRopus write.

Text of a line: its words joined by a space, or all its text where it marks no words. Text of a page: a line for
each line, in the order of the file, which is hOCR's reading order. A file may hold several pages; they are one
document.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

from ocrsmith.datasets.importers.base import Candidate, Format, ImportOptions, Source
from ocrsmith.datasets.importers.file_trees import open_files, some_heads
from ocrsmith.datasets.importers.page_files import PageDescription, described_candidates
from ocrsmith.datasets.importers.regions import Region
from ocrsmith.datasets.importers.xml_files import iterate_text
from ocrsmith.errors import DataError
from ocrsmith.records import Excluded

_SUFFIXES = (".hocr", ".html", ".htm", ".xhtml", ".xml")
_LINES = frozenset(["ocr_line", "ocrx_line", "ocr_header", "ocr_footer", "ocr_caption", "ocr_textfloat"])
_WORDS = frozenset(("ocrx_word", "ocr_word"))
_VOID = frozenset("area base br col embed hr img input link meta param source track wbr".split())  # noqa: SIM905
_MAX_UNCLOSED = 100  # elements that one end tag may close
_BREAKS = frozenset(("br", "p", "div", "td", "tr", "li"))
_TAG = re.compile(r"<[a-zA-Z/!?]")
_MAX_TAG = 1 << 16
_HIDDEN = (
    (re.compile("<!--"), re.compile("-->")),
    (re.compile(r"<script\b", re.IGNORECASE), re.compile(r"</script\s*>", re.IGNORECASE)),
    (re.compile(r"<style\b", re.IGNORECASE), re.compile(r"</style\s*>", re.IGNORECASE)),
)
_PROPERTY = re.compile(r"([a-z_]\w*)\s+(?:\"([^\"]*)\"|'([^']*)'|([^;\"']*))")
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
_CLASS = re.compile(rb"class\s*=\s*[\"'](?:[^\"']*\s)?ocr_page\b")


def open_hocr(path: Path, options: ImportOptions) -> Source:
    """An hOCR file, or all in a folder and below it.

    Raises:
        DataError: the folder holds no such file.
    """
    return open_files(path, options, name="hocr", suffixes=_SUFFIXES, read_file=_read_file)


def _read_file(file: Path, root: Path, options: ImportOptions) -> Iterator[Candidate | Excluded]:
    parser = _Reader()
    # At once: fed in pieces, it would look again and again for the end of a tag that is not complete.
    text = _require_bounded_tags("".join(iterate_text(file, options.encoding)), file)
    try:
        parser.feed(text)
        parser.close()
    except AssertionError as error:  # what html.parser makes of a malformed declaration
        raise DataError(f"The HTML is damaged: {error}.", place=str(file), mend="Make it again.") from error
    if not parser.pages:
        raise DataError(
            "The HTML has no element of class ocr_page.",
            place=str(file),
            mend="Leave it out if it is no hOCR, or make it again.",
        )
    several = len(parser.pages) > 1
    images: set[str] = set()
    for number, page in enumerate(parser.pages, start=1):
        if not page.complete:
            detail = f"The file ends within page {number}: it was cut short, make it again."
            yield Excluded("malformed", detail, page.image, str(file))
            continue
        if page.image in images:
            detail = (
                f"Page {number} has the same image as one before ({page.image or 'none is named'}), of which "
                "the first page only is read: split it into an image for each page."
            )
            yield Excluded("malformed", detail, page.image, str(file))
            continue
        images.add(page.image)
        size = (page.box[2], page.box[3]) if len(page.box) == 4 else None
        regions = [line.region(order) for order, line in enumerate(page.lines)]
        meta = {"language": page.language} if page.language else {}
        described = PageDescription(regions, size, page.image, number=number if several else None, meta=meta)
        yield from described_candidates(file, described, root, options)


def _require_bounded_tags(text: str, file: Path) -> str:
    """The text without comments, scripts and styles, which could hide tags.

    html.parser looks for the end of each tag to the end of the file; where thousands have none, that takes
    minutes for a small file. Such a file is refused.
    """
    for opening, closing in _HIDDEN:
        text = _without(text, opening, closing)
    start = text.find("<")
    while start >= 0:
        following = text.find("<", start + 1)
        limit = min(start + _MAX_TAG, following if following >= 0 else len(text))
        if _TAG.match(text, start) and text.find(">", start, limit) < 0 and following >= 0:
            excerpt = text[start : start + 30].split("\n")[0]
            raise DataError(
                f"The HTML is damaged: the tag {excerpt!r} … has no end.",
                place=str(file),
                mend="Make it again, or leave it out.",
            )
        start = following
    return text


def _without(text: str, opening: re.Pattern[str], closing: re.Pattern[str]) -> str:
    """Without the parts from `opening` to `closing`, or to the end."""
    kept, position = [], 0
    while found := opening.search(text, position):
        kept.append(text[position : found.start()])
        end = closing.search(text, found.end())
        position = end.end() if end else len(text)
    return "".join([*kept, text[position:]])


@dataclass(slots=True)
class _Line:
    id: str
    box: list[float]
    baseline: list[float]
    language: str
    text: list[str] = field(default_factory=list)
    words: list[list[str]] = field(default_factory=list)

    def region(self, order: int) -> Region:
        words = [" ".join("".join(word).split()) for word in self.words]
        text = " ".join(word for word in words if word) or " ".join("".join(self.text).split())
        box = self.box
        polygon = ((box[0], box[1]), (box[2], box[3])) if len(box) == 4 else ()
        return Region(text, polygon, self.id, order=order, meta=self._meta())

    def _meta(self) -> dict[str, object]:
        """The baseline is kept as two points: hOCR gives its slope and height at the box's left bottom."""
        meta: dict[str, object] = {"language": self.language} if self.language else {}
        if len(self.baseline) == 2 and len(self.box) == 4:
            left, _, right, bottom = self.box
            slope, offset = self.baseline
            end = bottom + offset + slope * (right - left)
            meta["baseline"] = [[left, bottom + offset], [right, round(end, 2)]]
        return meta


@dataclass(slots=True)
class _Page:
    image: str
    box: list[float]
    language: str
    lines: list[_Line] = field(default_factory=list)
    complete: bool = True
    """Whether its end was read."""


class _Reader(HTMLParser):
    """Collects pages, lines and words."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.pages: list[_Page] = []
        self._open: list[tuple[str, str]] = []  # tag and role: page, line, word or nothing
        self._roles: Counter[str] = Counter()  # of the open elements

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        classes = set(attributes.get("class", "").split())
        role = ""
        if "ocr_page" in classes:
            role = "page"
            self._close(0)
            self.pages.append(_page_of(attributes))
        elif _LINES & classes and self._roles["page"] and not self._roles["line"]:
            role = "line"
            self.pages[-1].lines.append(_line_of(attributes))
        elif _WORDS & classes and self._roles["line"]:
            role = "word"
            self.pages[-1].lines[-1].words.append([])
        elif tag in _BREAKS:
            self.handle_data(" ")
        if tag not in _VOID:
            self._open.append((tag, role))
            self._roles[role] += 1

    def handle_endtag(self, tag: str) -> None:
        """Closes the last open element of this name, and those within it that nobody closed."""
        for index in range(len(self._open) - 1, max(-1, len(self._open) - _MAX_UNCLOSED), -1):
            if self._open[index][0] == tag:
                self._close(index)
                return

    def handle_data(self, data: str) -> None:
        if self._roles["line"]:
            line = self.pages[-1].lines[-1]
            line.text.append(data)
            if self._roles["word"]:
                line.words[-1].append(data)

    def close(self) -> None:
        super().close()
        if self._roles["page"]:
            self.pages[-1].complete = False

    def _close(self, depth: int) -> None:
        for _, role in self._open[depth:]:
            self._roles[role] -= 1
        del self._open[depth:]


def _page_of(attributes: dict[str, str]) -> _Page:
    title = _properties(attributes)
    language = attributes.get("lang") or attributes.get("xml:lang", "")
    return _Page(title.get("image", ""), _numbers(title.get("bbox", "")), language)


def _line_of(attributes: dict[str, str]) -> _Line:
    title = _properties(attributes)
    language = attributes.get("lang") or attributes.get("xml:lang", "")
    return _Line(
        attributes.get("id", ""),
        _numbers(title.get("bbox", "")),
        _numbers(title.get("baseline", "")),
        language,
    )


def _properties(attributes: dict[str, str]) -> dict[str, str]:
    """`image "page 1.png"; bbox 0 0 100 200` as names and values."""
    found = _PROPERTY.findall(attributes.get("title", ""))
    return {name: (double or single or plain).strip() for name, double, single, plain in found}


def _numbers(written: str) -> list[float]:
    return [float(number) for number in _NUMBER.findall(written)]


FORMAT = Format(
    "hocr",
    "hOCR files (HTML), or folders of them",
    lambda path, head: any(_CLASS.search(one) for one in some_heads(path, head, _SUFFIXES)),
    open_hocr,
)
