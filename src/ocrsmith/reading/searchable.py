"""A document as a searchable PDF: its page images, and over each an invisible layer with what was read."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from io import BytesIO
from typing import IO

from PIL import Image

from ocrsmith.images import open_image
from ocrsmith.images.open import FORMATS
from ocrsmith.images.pdf import DEFAULT_DPI
from ocrsmith.reading.document import Page
from ocrsmith.reading.glyphless import GlyphlessFont, width_of
from ocrsmith.reading.pdf_file import PdfWriter, text_string
from ocrsmith.reading.pdf_image import pdf_image
from ocrsmith.reading.places import PlacedLine, Placing, place_lines
from ocrsmith.reading.sources import Item, PageImage
from ocrsmith.reading.visual_order import visual_order

_BLANK = (595.28, 841.89)
"""Points of a page whose image cannot be opened: A4."""
_MOST_POINTS = 14_400
"""Viewers need not show larger pages."""
_PER_INCH = (36.0, 2400.0)
"""Resolutions that an image file can mean."""
_BASELINE = 0.2
"""Of a line's height, that is below its letters."""


@dataclass
class SearchablePdf:
    """Pages are written as they come; one is in memory at a time. The same pages give the same bytes.

    Attributes:
        placed: how many pages' text was placed by what.
    """

    file: IO[bytes]
    title: str
    placed: Counter[Placing] = field(default_factory=Counter)

    def write(self, pages: Iterable[tuple[Page, Item]]) -> None:
        """Writes the document.

        Args:
            pages: what was read, and the page images; one that cannot be opened leaves a blank page.
        """
        pdf = PdfWriter(self.file)
        root, tree = pdf.reserve(), pdf.reserve()
        fonts = [GlyphlessFont(pdf.reserve())]
        numbers = []
        for page, item in pages:
            if fonts[-1].full:
                fonts.append(GlyphlessFont(pdf.reserve()))
            numbers.append(self._page(pdf, tree, fonts[-1], page, item))
        for font in fonts:
            font.write(pdf)
        kids = " ".join(f"{number} 0 R" for number in numbers)
        pdf.add(f"<< /Type /Pages /Count {len(numbers)} /Kids [{kids}] >>", tree)
        pdf.add(f"<< /Type /Catalog /Pages {tree} 0 R >>", root)
        pdf.finish(root, pdf.add(f"<< /Title {text_string(self.title)} /Producer (ocrsmith) >>"))

    def _page(self, pdf: PdfWriter, tree: int, font: GlyphlessFont, page: Page, item: Item) -> int:
        drawing, named, size = "", "", _BLANK
        if isinstance(item, PageImage):
            image = open_image(item.data, keep_grey=True)
            size = page_size(item)
            picture = pdf_image(item.data, image, keep=item.dpi is None)
            number = pdf.add_stream(picture.entries, picture.data)
            named = f" /XObject << /Page {number} 0 R >>"
            drawing = _shown(picture.matrix, size) + "\n" + self._text(page, image, font, size)
        content = pdf.add_stream("", drawing.encode("ascii"), deflate=True)
        return pdf.add(
            f"<< /Type /Page /Parent {tree} 0 R /MediaBox [0 0 {size[0]:.2f} {size[1]:.2f}] "
            f"/Contents {content} 0 R /Resources << /Font << /Read {font.number} 0 R >>{named} >> >>"
        )

    def _text(self, page: Page, image: Image.Image, font: GlyphlessFont, size: tuple[float, float]) -> str:
        lines, placing = place_lines(page, image)
        if placing is None:
            return ""
        self.placed[placing] += 1
        across, down = size[0] / image.width, size[1] / image.height
        shown = [_line(line, font, across, down, size[1]) for line in lines]
        return "\n".join(["BT", "3 Tr", *filter(None, shown), "ET"])


def page_size(item: PageImage) -> tuple[float, float]:
    """Width and height of a page in points: the PDF's own, or by what the image file says of its resolution.

    An image that says nothing believable has 144 pixels to an inch.
    """
    if item.points is not None:
        return item.points
    across, down = (item.dpi, item.dpi) if item.dpi else _resolution(item.data)
    width, height = item.width * 72 / across, item.height * 72 / down
    shrink = min(1.0, _MOST_POINTS / max(width, height))
    return max(1.0, width * shrink), max(1.0, height * shrink)


def _resolution(data: bytes) -> tuple[float, float]:
    with Image.open(BytesIO(data), formats=FORMATS) as image:
        try:
            across, down = map(float, image.info.get("dpi", (0, 0)))
            turned = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
        except Exception:  # damaged fields say nothing
            return DEFAULT_DPI, DEFAULT_DPI
    if not all(_PER_INCH[0] <= value <= _PER_INCH[1] for value in (across, down)):
        return DEFAULT_DPI, DEFAULT_DPI
    return (down, across) if turned else (across, down)


def _shown(matrix: tuple[int, ...], size: tuple[float, float]) -> str:
    width, height = size
    a, b, c, d, e, f = matrix
    scaled = (a * width, b * height, c * width, d * height, e * width, f * height)
    return f"q {' '.join(f'{value:.2f}' for value in scaled)} cm /Page Do Q"


def _line(line: PlacedLine, font: GlyphlessFont, across: float, down: float, height: float) -> str:
    """A line stretched over its rectangle, laid as it is seen: from left to right, whatever its script."""
    text = visual_order(line.text)
    tall = max((line.bottom - line.top) * down, 0.5)
    wide = max((line.right - line.left) * across, 0.5)
    stretch = 100 * wide / (width_of(text) * tall)
    baseline = height - line.bottom * down + _BASELINE * tall
    if not math.isfinite(stretch):
        return ""
    return (
        f"/Read {tall:.2f} Tf {stretch:.4f} Tz 1 0 0 1 {line.left * across:.2f} {baseline:.2f} Tm "
        f"<{font.encode(text)}> Tj"
    )
