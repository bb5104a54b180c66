"""ALTO XML, versions 2 to 4 (Library of Congress): what libraries, eScriptorium and Kraken write.

Text of a line: its words as printed. A word that is divided at the line's end stays divided (`CONTENT` and the
hyphen `HYP`, not the whole word in `SUBS_CONTENT`), since that is what the picture shows; a soft hyphen is
written as `-`. Words are separated where the file has `SP`, and everywhere in a line that has none.

Text of a page: a line for each line, in the order of `ReadingOrder` (4.3) or else of the file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from math import isfinite
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

from ocrsmith.datasets.importers.base import Candidate, Format, ImportOptions, Source
from ocrsmith.datasets.importers.file_trees import open_files, some_heads
from ocrsmith.datasets.importers.page_files import PageDescription, described_candidates
from ocrsmith.datasets.importers.regions import Region, from_top_left, rounded
from ocrsmith.datasets.importers.xml_files import iterate_elements, root_name
from ocrsmith.records import Excluded

_SUFFIXES = (".xml", ".alto")
_ELEMENTS = ("MeasurementUnit", "fileName", "Tags", "ReadingOrder", "Page")
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")

Points = tuple[tuple[float, float], ...]


def open_alto(path: Path, options: ImportOptions) -> Source:
    """An ALTO file, or all in a folder and below it.

    Raises:
        DataError: the folder holds no XML file.
    """
    return open_files(path, options, name="alto", suffixes=_SUFFIXES, read_file=_read_file)


def _read_file(file: Path, root: Path, options: ImportOptions) -> Iterator[Candidate | Excluded]:
    unit, image = "pixel", ""
    tags: dict[str, str] = {}
    order: dict[str, int] = {}
    pages: list[PageDescription] = []
    for element in iterate_elements(file, _ELEMENTS, root="alto", encoding=options.encoding):
        if element.tag == "MeasurementUnit":
            unit = (element.text or "").strip().lower()
        elif element.tag == "fileName":
            image = image or (element.text or "").strip()
        elif element.tag == "Tags":
            tags = {tag.get("ID", ""): tag.get("LABEL", "") for tag in element}
        elif element.tag == "ReadingOrder":
            order = {ref.get("REF", ""): place for place, ref in enumerate(element.iter("ElementRef"))}
        else:
            size = (_number(element, "WIDTH", 0), _number(element, "HEIGHT", 0))
            regions = _read_lines(element, tags, order)
            pages.append(PageDescription(regions, size, image, pixels=unit == "pixel"))
    if len(pages) == 1:
        yield from described_candidates(file, pages[0], root, options)
        return
    detail = (
        f"The file has {len(pages)} pages, and ALTO names one image: give a file for each page."
        if pages
        else "The file has no Page: export it again, or leave it out."
    )
    yield Excluded("malformed", detail, image, str(file))


def _read_lines(page: Element, tags: dict[str, str], order: dict[str, int]) -> list[Region]:
    """The lines of a page in reading order."""
    blocks = {id(line): block for block in page.iter("TextBlock") for line in block.iter("TextLine")}
    lines: list[tuple[Element, Element | None]] = [
        (line, blocks.get(id(line))) for line in page.iter("TextLine")
    ]
    if order:
        last = len(order)

        def place(item: tuple[Element, Element | None]) -> int:
            line, block = item
            of_block = order.get(block.get("ID", ""), last) if block is not None else last
            return order.get(line.get("ID", ""), of_block)

        lines.sort(key=place)  # stable: lines of a block, and what the order does not name, stay as they are
    return [
        Region(
            text=_text_of(line),
            polygon=_polygon_of(line),
            id=line.get("ID", ""),
            order=number,
            meta=_meta_of(line, block, tags),
        )
        for number, (line, block) in enumerate(lines)
    ]


def _text_of(line: Element) -> str:
    spaced = line.find("SP") is not None
    parts: list[str] = []
    for element in line:
        if element.tag == "String":
            if parts and not spaced:
                parts.append(" ")
            parts.append(element.get("CONTENT", ""))
        elif element.tag == "SP":
            parts.append(" ")
        elif element.tag == "HYP":
            parts.append(element.get("CONTENT") or "-")
    return "".join(parts).replace("\u00ad", "-").strip()


def _polygon_of(line: Element) -> Points:
    """The line's polygon, else its box, else the box around its words; empty if it has no place."""
    shape = line.find("Shape/Polygon")
    points = _points(shape.get("POINTS", "")) if shape is not None else ()
    if len(points) >= 3:
        return from_top_left(points)
    boxes = [box for box in (_box_of(line),) if box] or [
        box for word in line.iter("String") if (box := _box_of(word))
    ]
    corners = [corner for box in boxes for corner in box]
    if not corners:
        return ()
    xs, ys = [x for x, _ in corners], [y for _, y in corners]
    return (min(xs), min(ys)), (max(xs), max(ys))


def _box_of(element: Element) -> Points:
    names = ("HPOS", "VPOS", "WIDTH", "HEIGHT")
    left, top, width, height = (_number(element, name, float("nan")) for name in names)
    # A comparison with NaN, a missing number, is false.
    return ((left, top), (left + width, top + height)) if width > 0 and height > 0 and left + top > -1e9 else ()


def _meta_of(line: Element, block: Element | None, tags: dict[str, str]) -> dict[str, Any]:
    meta: dict[str, Any] = {}
    baseline = _points(line.get("BASELINE", ""))
    if len(baseline) > 1:
        meta["baseline"] = rounded(baseline)
    for element in (line, block):
        if element is not None and (language := element.get("LANG") or element.get("language")):
            meta.setdefault("language", language)
    kinds = [tags[name] for name in line.get("TAGREFS", "").split() if tags.get(name)]
    if kinds:
        meta["tags"] = kinds
    return meta


def _points(written: str) -> Points:
    """`x,y x,y …` or `x y x y …`; empty if a number is without its partner or without end."""
    numbers = [float(number) for number in _NUMBER.findall(written)]
    if len(numbers) % 2 or not all(map(isfinite, numbers)):
        return ()
    return tuple(zip(numbers[::2], numbers[1::2], strict=True))


def _number(element: Element, name: str, default: float) -> float:
    try:
        return float(element.get(name, ""))
    except ValueError:
        return default


FORMAT = Format(
    "alto",
    "ALTO XML files, or folders of them",
    lambda path, head: any(root_name(one) == "alto" for one in some_heads(path, head, _SUFFIXES)),
    open_alto,
)
