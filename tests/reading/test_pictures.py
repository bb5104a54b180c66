"""Pictures cut out and linked, and pages with their boxes drawn."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from ocrsmith.reading.answers import Bounds
from ocrsmith.reading.document import Block, Box, Page, Span
from ocrsmith.reading.formats import markdown_page
from ocrsmith.reading.inputs import find_inputs
from ocrsmith.reading.job import Job, Run
from ocrsmith.reading.pdf import PageRange
from ocrsmith.reading.sources import Opener

from .conftest import StandIn, write_tiff

ANSWER = (
    "<|ref|>title<|/ref|><|det|>[[0, 0, 999, 99]]<|/det|>\n# Roads\n\n"
    "<|ref|>image<|/ref|><|det|>[[500, 500, 999, 999]]<|/det|>\n\n"
    "<|ref|>text<|/ref|><|det|>[[0, 100, 499, 400]]<|/det|>\nThe end."
)


def test_pictures_are_cut_out_linked_and_named_in_the_json(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (200, 200), "white") for _ in range(2)]
    for frame, colour in zip(frames, ("red", "blue"), strict=True):
        ImageDraw.Draw(frame).rectangle((100, 100, 200, 200), fill=colour)
    write_tiff(tmp_path / "a scan.tif", frames)
    out = tmp_path / "out"
    with Opener() as opener:
        files = find_inputs([tmp_path / "a scan.tif"], out=out).files
        sources = [opener.inspect(files[0].path, PageRange.parse(None))]
        job = Job(files, sources, out, ("md", "json"), Bounds(), pictures=True, boxes=True)
        Run(job, StandIn(lambda image: {"text": ANSWER}), opener).read()
    assert (
        "# Roads\n\n![image](a%20scan_pictures/page-0002-1.png)\n\nThe end." in (out / "a scan.md").read_text()
    )
    pages = json.loads((out / "a scan.json").read_text())["pages"]
    names = [block["picture"] for page in pages for block in page["blocks"] if "picture" in block]
    assert names == ["a scan_pictures/page-0001-1.png", "a scan_pictures/page-0002-1.png"]
    cut = [Image.open(out / name) for name in names]
    assert [picture.size for picture in cut] == [(100, 100), (100, 100)]
    assert [picture.getpixel((50, 50)) for picture in cut] == [(255, 0, 0), (0, 0, 255)]
    drawn = Image.open(out / "a scan_boxes" / "page-0001.png")
    assert drawn.size == (200, 200)
    assert drawn.getpixel((0, 10)) != (255, 255, 255)
    assert drawn.getpixel((150, 40)) == (255, 255, 255)


@pytest.mark.parametrize(
    ("text", "start", "expected"),
    [
        ("", 0, "![image](x.png)"),
        ("one", 0, "![image](x.png)\n\n<mark>one</mark>"),
        ("one", 3, "<mark>one</mark>\n\n![image](x.png)"),
        ("two\n\none", 3, "two\n\n![image](x.png)\n\n<mark>one</mark>"),
        ("two\n\none", 5, "two\n\n![image](x.png)\n\n<mark>one</mark>"),
    ],
)
def test_links_stand_apart_and_marks_move_along(text: str, start: int, expected: str) -> None:
    place = text.find("one")
    spans = (Span(place, place + 3, "one", 0.1),) if place >= 0 else ()
    block = Block("image", "", start, start, (Box(0, 0, 9, 9),), picture="x.png")
    page = Page(1, text, text, 9, 9, None, (block,), 0.5, spans, "stop", 1.0, 1, "", 1, None)
    assert markdown_page(page, several=False, marked=True).strip() == expected
