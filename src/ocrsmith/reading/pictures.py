"""What a page's boxes are good for: its pictures cut out and linked, and the page with its boxes drawn."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path, PurePosixPath
from urllib.parse import quote

from PIL import Image, ImageDraw, ImageFont

from ocrsmith.images import open_image
from ocrsmith.reading.answers import PICTURES
from ocrsmith.reading.document import Block, Page, Span
from ocrsmith.settings.files import write_file

_COLOURS = ("#d1495b", "#00798c", "#edae49", "#30638e", "#5f0f40", "#4f772d", "#8d5524", "#7b2cbf")


def picture_blocks(page: Page) -> list[int]:
    """Which of a page's blocks are pictures that can be cut out."""
    return [n for n, block in enumerate(page.blocks) if block.kind in PICTURES and block.boxes]


def name_pictures(page: Page, folder: PurePosixPath) -> Page:
    """The page with the names of its pictures in its blocks, as `write_pictures` writes them into `folder`."""
    named = list(page.blocks)
    for count, number in enumerate(picture_blocks(page), start=1):
        name = folder / f"page-{page.number:04d}-{count}.png"
        named[number] = replace(named[number], picture=str(name))
    return replace(page, blocks=tuple(named))


def write_pictures(page: Page, image: bytes, out: Path) -> None:
    """Cuts the pictures of a page out of its image; a picture with several boxes reaches over all of them.

    Args:
        page: from `name_pictures`.
        image: the encoded page image.
        out: what the names are relative to.

    Raises:
        OutputError: one cannot be written.
        ImageError: the page image cannot be opened.
    """
    whole = open_image(image)
    for block in page.blocks:
        if block.picture is not None:
            _save(whole.crop(_around(block)), out / block.picture)


def write_boxes(page: Page, image: bytes, path: Path) -> None:
    """Draws a page's boxes, with their kinds, each in its colour. Raises as `write_pictures`."""
    drawn = open_image(image)
    pen = ImageDraw.Draw(drawn)
    width = max(1, round(max(drawn.size) / 600))
    font = ImageFont.load_default(max(10, round(max(drawn.size) / 90)))
    for block in page.blocks:
        colour = _COLOURS[hashlib.sha256(block.kind.encode()).digest()[0] % len(_COLOURS)]
        for box in block.boxes:
            area = (box.left, box.top, box.right - 1, box.bottom - 1)
            pen.rectangle(area, outline=colour, width=width)
            pen.text((box.left + 2 * width, box.top + width), block.kind, fill=colour, font=font)
    _save(drawn, path)


def linked(page: Page) -> Page:
    """The page with Markdown links to its pictures in its text; uncertain places move along."""
    places = list(_links(page))
    text, position = [], 0
    for place, link in places:
        text += [page.text[position:place], link]
        position = place
    spans = tuple(_moved(span, places) for span in page.low_confidence)
    return replace(page, text="".join([*text, page.text[position:]]), low_confidence=spans)


def _links(page: Page) -> Iterator[tuple[int, str]]:
    """Where a link goes into the text, and the link with the white space that it needs."""
    text, empty = page.text, not page.text
    for block in page.blocks:
        if block.picture is None:
            continue
        link = f"![{block.kind}]({quote(block.picture)})"
        before = "\n\n" if block.start and not text[: block.start].endswith("\n\n") else ""
        after = "" if empty or text[block.start :].startswith("\n") or block.start == len(text) else "\n\n"
        yield block.start, f"{before}{link}{after}" + ("\n\n" if empty else "")


def _moved(span: Span, places: Sequence[tuple[int, str]]) -> Span:
    shift = sum(len(link) for place, link in places if place <= span.start)
    return replace(span, start=span.start + shift, end=span.end + shift)


def _around(block: Block) -> tuple[int, int, int, int]:
    boxes = block.boxes
    return (
        min(box.left for box in boxes),
        min(box.top for box in boxes),
        max(box.right for box in boxes),
        max(box.bottom for box in boxes),
    )


def _save(image: Image.Image, path: Path) -> None:
    buffer = BytesIO()
    image.save(buffer, "PNG")
    write_file(path, lambda file: file.write(buffer.getvalue()))
