"""A font without shapes for text that nobody is to see: any character of Unicode, by a map to its code.

A viewer that searches, selects and copies asks the font what a glyph means (`ToUnicode`) and how wide it is;
what it looks like is never asked, since the text is invisible. So no font has to hold the characters, and the
font program embedded here has nothing but a few glyphs without area, one for each width.
"""

from __future__ import annotations

import struct
import unicodedata
import zlib
from itertools import islice

from ocrsmith.reading.pdf_file import PdfWriter, utf16

WIDTHS = (0, 300, 520, 680, 880, 1000)
"""Of glyph 0, which nothing uses, and of the others, in thousandths of the font size."""
_BOTTOM, _TOP = -200, 800
"""Of every character."""
_NARROW = frozenset("iljtfrI.,;:'|!()[]{} -‘’“”،؛")
_BROAD = frozenset("mwMW@%—œæŒÆ")
CODES = 65_535
"""Characters that one font can have; code 0 stays free."""
ROOM = 10_000
"""Of these, that must be free when a page begins."""
_AT_A_TIME = 100  # entries of a block, as the format has it


def glyph_of(letter: str) -> int:
    """Which of `WIDTHS` a character has: about that of ordinary fonts, so that words lie about right."""
    if letter in _NARROW:
        return 1
    if letter in _BROAD:
        return 4
    if unicodedata.east_asian_width(letter) in "WF":
        return 5
    return 3 if letter.isupper() else 2


def width_of(text: str) -> float:
    """Of a text at font size 1."""
    return sum(WIDTHS[glyph_of(letter)] for letter in text) / 1000


class GlyphlessFont:
    """The characters of a document, as they come; written when all are known."""

    def __init__(self, number: int) -> None:
        """
        Args:
            number: of the object that it will be, reserved.
        """
        self.number = number
        self._codes: dict[str, int] = {}

    @property
    def full(self) -> bool:
        """Whether it may not have room for the characters of another page."""
        return len(self._codes) > CODES - ROOM

    def encode(self, text: str) -> str:
        """The codes of a text, in hexadecimal. What there is no room for, on a page that alone has more than
        `ROOM` characters that no page before it had, gets the code that means nothing."""
        return "".join(f"{self._code(letter):04X}" for letter in text)

    def _code(self, letter: str) -> int:
        if len(self._codes) == CODES:
            return self._codes.get(letter, 0)
        return self._codes.setdefault(letter, len(self._codes) + 1)

    def write(self, pdf: PdfWriter) -> None:
        """Writes the font and what belongs to it."""
        glyphs = [0, *map(glyph_of, self._codes)]
        mapped = pdf.add_stream("", b"".join(struct.pack(">H", glyph) for glyph in glyphs), deflate=True)
        program = font_program()
        packed = zlib.compress(program)
        file = pdf.add_stream(f"/Length1 {len(program)} /Filter /FlateDecode", packed)
        describe = pdf.add(
            f"<< /Type /FontDescriptor /FontName /Glyphless /Flags 4 /FontBBox [0 {_BOTTOM} 1000 {_TOP}] "
            f"/ItalicAngle 0 /Ascent {_TOP} /Descent {_BOTTOM} /CapHeight {_TOP} /StemV 80 "
            f"/FontFile2 {file} 0 R >>"
        )
        widths = " ".join(str(WIDTHS[glyph]) for glyph in glyphs)
        descendant = pdf.add(
            "<< /Type /Font /Subtype /CIDFontType2 /BaseFont /Glyphless /CIDSystemInfo "
            f"<< /Registry (Adobe) /Ordering (Identity) /Supplement 0 >> /FontDescriptor {describe} 0 R "
            f"/DW 520 /W [0 [{widths}]] /CIDToGIDMap {mapped} 0 R >>"
        )
        meaning = pdf.add_stream("", self._to_unicode().encode("ascii"), deflate=True)
        pdf.add(
            "<< /Type /Font /Subtype /Type0 /BaseFont /Glyphless /Encoding /Identity-H "
            f"/DescendantFonts [{descendant} 0 R] /ToUnicode {meaning} 0 R >>",
            self.number,
        )

    def _to_unicode(self) -> str:
        lines = [
            "/CIDInit /ProcSet findresource begin\n12 dict begin\nbegincmap",
            "/CIDSystemInfo << /Registry (Adobe) /Ordering (UCS) /Supplement 0 >> def",
            "/CMapName /Adobe-Identity-UCS def\n/CMapType 2 def",
            "1 begincodespacerange\n<0000> <FFFF>\nendcodespacerange",
        ]
        codes = iter(self._codes.items())
        while block := list(islice(codes, _AT_A_TIME)):
            lines.append(f"{len(block)} beginbfchar")
            lines += [f"<{code:04X}> <{utf16(letter)}>" for letter, code in block]
            lines.append("endbfchar")
        lines.append("endcmap\nCMapName currentdict /CMap defineresource pop\nend\nend")
        return "\n".join(lines)


def font_program() -> bytes:
    """A TrueType font with one glyph without area for each of `WIDTHS`."""
    count = len(WIDTHS)
    head = struct.pack(
        ">IIIIHHQQhhhhHHhhh",
        *(0x00010000, 0x00010000, 0, 0x5F0F3CF5, 0, 1000),  # version, revision, sum, magic, flags, units
        *(0, 0),  # made and changed: no dates, the same bytes every time
        *(0, _BOTTOM, 1000, _TOP),  # box
        *(0, 8, 2, 0, 0),  # style, smallest size, direction, short places, format
    )
    hhea = struct.pack(">IhhhHhhhhhhhhhhhH", 0x00010000, _TOP, _BOTTOM, 0, 1000, 0, 0, 0, 1, *[0] * 7, count)
    maxp = struct.pack(">IH13H", 0x00010000, count, 2, 1, 0, 0, 0, 1, *[0] * 7)
    hmtx = b"".join(struct.pack(">Hh", width, 0) for width in WIDTHS)
    glyphs = [_glyph(width) if width else b"" for width in WIDTHS]
    places = [sum(map(len, glyphs[:number])) // 2 for number in range(count + 1)]
    loca = struct.pack(f">{count + 1}H", *places)
    tables = {"glyf": b"".join(glyphs), "head": head, "hhea": hhea, "hmtx": hmtx, "loca": loca, "maxp": maxp}
    return _assembled(tables)


def _glyph(width: int) -> bytes:
    """A line from the lower left corner to the upper right one: it encloses nothing, but it has a box.

    Viewers take the box for that of the character and highlight it; text without one is not there for some.
    """
    box = struct.pack(">hhhhh", 1, 0, _BOTTOM, width, _TOP)
    return box + struct.pack(">HHBBhhhh", 1, 0, 1, 1, 0, width, _BOTTOM, _TOP - _BOTTOM)


def _assembled(tables: dict[str, bytes]) -> bytes:
    """Tables by name, in order of their names, as a font file."""
    power = len(tables).bit_length() - 1
    search = 16 << power
    directory = struct.pack(">IHHHH", 0x00010000, len(tables), search, power, 16 * len(tables) - search)
    at = len(directory) + 16 * len(tables)
    body = b""
    for name, data in tables.items():
        padded = data + b"\0" * (-len(data) % 4)
        total = sum(struct.unpack(f">{len(padded) // 4}I", padded)) & 0xFFFFFFFF
        directory += struct.pack(">4sIII", name.encode(), total, at + len(body), len(data))
        body += padded
    return directory + body
