"""PAGE XML, versions 2010 to 2019 (PRImA): what Transkribus, OCR-D, eScriptorium and Aletheia write.

Text of a line: its `TextEquiv` of the lowest index, else of the highest confidence, else the first; without
one, its words. A region whose lines have no text gives its own text: of such a region `--unit line` makes one
sample.

Text of a page: a line for each line; regions in the order of `ReadingOrder`, those that it does not name after
them, all others as in the file; lines as in the file, or by the `index` that is given to them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from math import inf, isfinite
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

from ocrsmith.datasets.importers.base import Candidate, Format, ImportOptions, Source
from ocrsmith.datasets.importers.file_trees import open_files, some_heads
from ocrsmith.datasets.importers.page_files import PageDescription, described_candidates
from ocrsmith.datasets.importers.regions import Region, from_top_left, rounded
from ocrsmith.datasets.importers.xml_files import iterate_elements, root_name
from ocrsmith.records import Excluded

_SUFFIXES = (".xml",)
_POINT = re.compile(r"(-?\d+(?:\.\d+)?)\s*,\s*(-?\d+(?:\.\d+)?)")
_PLACE = re.compile(r"readingOrder\s*\{[^}]*\bindex\s*:\s*(\d{1,9})\b")

Points = tuple[tuple[float, float], ...]


def open_page_xml(path: Path, options: ImportOptions) -> Source:
    """A PAGE XML file, or all in a folder and below it.

    Raises:
        DataError: the folder holds no XML file.
    """
    return open_files(path, options, name="page_xml", suffixes=_SUFFIXES, read_file=_read_file)


def _read_file(file: Path, root: Path, options: ImportOptions) -> Iterator[Candidate | Excluded]:
    pages = list(iterate_elements(file, ("Page",), root="PcGts", encoding=options.encoding))
    if not pages:
        yield Excluded("malformed", "The file has no Page: export it again, or leave it out.", "", str(file))
    for number, page in enumerate(pages, start=1):
        size = (_number(page.get("imageWidth"), 0), _number(page.get("imageHeight"), 0))
        description = PageDescription(
            _read_regions(page),
            size,
            page.get("imageFilename", "").strip(),
            number=number if len(pages) > 1 else None,
            meta=_language(page),
        )
        yield from described_candidates(file, description, root, options)


def _read_regions(page: Element) -> list[Region]:
    """The lines of a page in reading order, and the regions that have text but no lines."""
    blocks = list(page.iter("TextRegion"))
    order = _reading_order(page)
    blocks.sort(key=lambda block: order.get(block.get("id", ""), len(order)))
    regions: list[Region] = []
    for block in blocks:
        lines = sorted(block.findall("TextLine"), key=_place_of)
        texts = [_text_of(line) for line in lines]
        own = _text_of(block)
        if own and not any(texts):
            regions.append(_region(block, own, block, "region", len(regions)))
            continue
        for line, text in zip(lines, texts, strict=True):
            regions.append(_region(line, text, block, "line", len(regions)))
    return regions


def _reading_order(page: Element) -> dict[str, int]:
    """Places of regions by their ids; groups lie in groups, each with its index."""
    order: dict[str, int] = {}

    def visit(group: Element) -> None:
        for child in sorted(group, key=lambda child: _number(child.get("index"), inf)):
            if child.get("regionRef"):
                order.setdefault(child.get("regionRef", ""), len(order))
            visit(child)  # as deep as the XML at most, which is bounded

    for top in page.findall("ReadingOrder"):
        visit(top)
    return order


def _place_of(line: Element) -> float:
    """Place of a line in its region: its index, or as Transkribus notes it; else where it stands."""
    match = _PLACE.search(line.get("custom", ""))
    return _number(line.get("index") or (match[1] if match else None), inf)


def _text_of(element: Element) -> str:
    texts: list[tuple[float, float, str]] = []
    for equivalent in element.findall("TextEquiv"):
        text = equivalent.findtext("Unicode") or equivalent.findtext("PlainText") or ""
        confidence = _number(equivalent.get("conf"), -1)
        texts.append((_number(equivalent.get("index"), inf), -confidence, text.strip()))
    chosen = min(texts, key=lambda entry: entry[:2])[2] if texts else ""
    if chosen or element.tag != "TextLine":
        return chosen
    return " ".join(word for part in element.findall("Word") if (word := _text_of(part)))


def _region(element: Element, text: str, block: Element, kind: str, order: int) -> Region:
    meta: dict[str, Any] = _language(block) | _language(element)
    baseline = element.find("Baseline")
    points = _points_of(baseline)
    if len(points) > 1:
        meta["baseline"] = rounded(points)
    if block.get("type"):
        meta["region_type"] = block.get("type")
    polygon = _points_of(element.find("Coords"))
    return Region(text, from_top_left(polygon), element.get("id", ""), kind, order, meta)


def _points_of(element: Element | None) -> Points:
    """Points as an attribute (2013 and later) or as elements; empty if one is no pair of numbers."""
    if element is None:
        return ()
    written = _POINT.findall(element.get("points", ""))
    if not written:
        written = [(point.get("x"), point.get("y")) for point in element.findall("Point")]
    points = tuple((_number(x, inf), _number(y, inf)) for x, y in written)
    return points if all(isfinite(x) and isfinite(y) for x, y in points) else ()


def _language(element: Element) -> dict[str, str]:
    language = element.get("primaryLanguage") or element.get("language")
    return {"language": language} if language else {}


def _number(written: str | None, default: float) -> float:
    try:
        return float(written or "")
    except ValueError:
        return default


FORMAT = Format(
    "page_xml",
    "PAGE XML files, or folders of them",
    lambda path, head: any(root_name(one) == "PcGts" for one in some_heads(path, head, _SUFFIXES)),
    open_page_xml,
)
