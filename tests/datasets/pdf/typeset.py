"""Sets small pages in PDF's own syntax, so that a test knows what stands where and what must be read."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence

import pdfplumber
from pdfminer.fontmetrics import FONT_METRICS

from ocrsmith.datasets.pdf.markdown import DocumentFacts, MarkdownOptions, to_markdown
from ocrsmith.datasets.pdf.page import PageContent, read_page

FACES = {"F1": "Helvetica", "F2": "Helvetica-Bold", "F3": "Courier"}
WIDE = "F4"
"""Every glyph is one em wide and may mean any text: Chinese, Arabic, ligatures, accents."""


class Sheet:
    """A page to write on; x from the left, y from the top to the base line, points."""

    def __init__(
        self,
        width: float = 612,
        height: float = 792,
        *,
        rotate: int = 0,
        crop: Sequence[float] | None = None,
    ) -> None:
        self.width, self.height = width, height
        self._extra = f"/Rotate {rotate}" + (f"/CropBox[{' '.join(map(str, crop))}]" if crop else "")
        self._content: list[str] = []
        self._glyphs: list[str] = []

    def text(
        self,
        x: float,
        y: float,
        text: str,
        size: float = 10,
        font: str = "F1",
        *,
        angle: float = 0,
        mode: int = 0,
    ) -> float:
        """Writes a line; returns where it ends."""
        cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
        escaped = text.replace("\\", r"\\").replace("(", r"\(").replace(")", r"\)")
        place = f"{cos:.5f} {sin:.5f} {-sin:.5f} {cos:.5f} {x:.3f} {self.height - y:.3f} Tm"
        self.draw(f"BT /{font} {size} Tf {mode} Tr {place} ({escaped}) Tj ET")
        return x + width_of(text, size, font)

    def glyphs(self, x: float, y: float, texts: Sequence[str], size: float = 10, *, step: float = 1.0) -> float:
        """Writes glyphs from left to right, each meaning a text, `step` sizes apart. Returns where it ends."""
        for text in texts:
            if text not in self._glyphs:
                self._glyphs.append(text)
            code = self._glyphs.index(text) + 1
            self.draw(f"BT /{WIDE} {size} Tf 1 0 0 1 {x:.3f} {self.height - y:.3f} Tm <{code:04x}> Tj ET")
            x += step * size
        return x

    def prose(
        self,
        x: float,
        y: float,
        width: float,
        text: str,
        size: float = 10,
        *,
        font: str = "F1",
        indent: float = 0,
    ) -> float:
        """Writes a justified paragraph, spaces left to the gaps. Returns the next line's y.

        `indent` is that of its first line; below zero, of all others. A word `hy-|phen` may break at the bar.
        """
        for words, last in _broken(text, width, size, font, indent):
            shift = max(indent, 0.0) if last[1] else max(-indent, 0.0)
            room = width - shift - sum(width_of(word, size, font) for word in words)
            gap = 0.28 * size if last[0] else room / max(len(words) - 1, 1)
            place = x + shift
            for word in words:
                place = self.text(place, y, word, size, font) + gap
            y += 1.2 * size
        return y

    def rule(self, x0: float, y0: float, x1: float, y1: float, width: float = 0.5) -> None:
        """Draws a straight line."""
        self.draw(f"{width} w {x0} {self.height - y0} m {x1} {self.height - y1} l S")

    def box(self, x0: float, y0: float, x1: float, y1: float, paint: str = "S") -> None:
        """Draws a rectangle; `paint` is PDF's operator."""
        self.draw(f"{x0} {self.height - y1} {x1 - x0} {y1 - y0} re {paint}")

    def draw(self, operators: str) -> None:
        """Adds operators as they are."""
        self._content.append(operators)

    def encode(self) -> bytes:
        """The file."""
        content = "\n".join(self._content).encode("latin-1")
        faces = "".join(
            f"/{name}<</Type/Font/Subtype/Type1/BaseFont/{face}/Encoding/WinAnsiEncoding>>"
            for name, face in FACES.items()
        )
        wide = (
            f"/{WIDE}<</Type/Font/Subtype/Type0/BaseFont/Wide/Encoding/Identity-H/ToUnicode 5 0 R"
            "/DescendantFonts[<</Type/Font/Subtype/CIDFontType2/BaseFont/Wide"
            "/CIDSystemInfo<</Registry(A)/Ordering(I)/Supplement 0>>/DW 1000"
            "/FontDescriptor<</Type/FontDescriptor/FontName/Wide/Flags 4/Ascent 800/Descent -200"
            "/FontBBox[0 -200 1000 800]/ItalicAngle 0/CapHeight 700/StemV 80>>>>]>>"
        )
        states = "/ExtGState<</Clear<</ca 0>>/Full<</ca 1>>>>"
        bodies = [
            b"<</Type/Catalog/Pages 2 0 R>>",
            b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
            f"<</Type/Page/Parent 2 0 R/MediaBox[0 0 {self.width} {self.height}]{self._extra}/Contents 4 0 R"
            f"/Resources<</Font<<{faces}{wide}>>{states}>>>>".encode(),
            b"<</Length %d>>stream\n%s\nendstream" % (len(content), content),
            b"<</Length %d>>stream\n%s\nendstream" % (len(self._cmap()), self._cmap()),
        ]
        out = bytearray(b"%PDF-1.7\n")
        offsets = []
        for number, body in enumerate(bodies, start=1):
            offsets.append(len(out))
            out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
        start = len(out)
        out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(bodies) + 1)
        out += b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
        out += b"trailer<</Root 1 0 R/Size %d>>\nstartxref\n%d\n%%%%EOF\n" % (len(bodies) + 1, start)
        return bytes(out)

    def _cmap(self) -> bytes:
        known = [(code, text) for code, text in enumerate(self._glyphs, start=1) if text]
        pairs = "\n".join(f"<{code:04x}> <{text.encode('utf-16-be').hex()}>" for code, text in known)
        return (
            "begincmap 1 begincodespacerange <0000> <ffff> endcodespacerange\n"
            f"{len(known)} beginbfchar\n{pairs}\nendbfchar endcmap"
        ).encode()

    def read(self, rotation: int | None = None) -> PageContent:
        """The page as it is read back."""
        with pdfplumber.open(io.BytesIO(self.encode())) as document:
            return read_page(document.pages[0], rotation)

    def markdown(self, document: DocumentFacts | None = None, **options: str) -> str:
        """The page as Markdown."""
        return to_markdown(self.read(), MarkdownOptions(**options), document)  # type: ignore[arg-type]


def width_of(text: str, size: float, font: str = "F1") -> float:
    """Width of a line in points."""
    widths = FONT_METRICS[FACES[font]][1]
    return sum(widths.get(letter, 556) for letter in text) * size / 1000


def _broken(
    text: str, width: float, size: float, font: str, indent: float
) -> list[tuple[list[str], tuple[bool, bool]]]:
    """Lines as words, each with whether it is the last and whether the first."""
    lines: list[list[str]] = [[]]
    for word in text.split():
        whole = word.replace("-|", "")
        shift = max(indent, 0.0) if len(lines) == 1 else max(-indent, 0.0)
        room = width - shift - width_of(" ".join(lines[-1]) + " ", size, font)
        if not lines[-1] or width_of(whole, size, font) <= room:
            lines[-1].append(whole)
            continue
        head, bar, tail = word.partition("-|")
        if bar and width_of(head + "-", size, font) <= room:
            lines[-1].append(head + "-")
            lines.append([tail.replace("-|", "")])
        else:
            lines.append([whole])
    return [(line, (n == len(lines) - 1, n == 0)) for n, line in enumerate(lines)]


STORY = (
    "The old ferry crossed the river twice a day until the bridge was built. People from both banks met on it, "
    "sold eggs and cloth, and told each other what had happened in the villages. When the water rose in spring "
    "the ferryman tied his boat to the big willow and waited, sometimes for weeks, while letters piled up in "
    "the small house beside the landing. Nobody complained, for everybody knew that the river could "
    "not be hurried."
)
OTHER = (
    "In the north of the country the winters are long and the harbours freeze. Ships that come late must wait "
    "outside for the ice to break, and their crews walk home over the white plain with lanterns. A baker in "
    "one of these towns kept a book of every such crossing, with names and dates, and it is from her notes "
    "that we know how many sailors came and how few of them ever went to sea again after that cold year."
)
