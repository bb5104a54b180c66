"""PDFs for tests, written in PDF's own syntax so that each holds just what a test is about.

Two fonts: `F1` is Helvetica, and `F3` a Type 3 font whose every glyph is a box of 0.5 × 0.7 of its size,
whatever character its code is said to mean: so any text can be tested without a font file.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

LETTER = (612, 792)
BOX_FONT = "F3"


@dataclass
class Page:
    """A page: its content stream, and what hangs on it."""

    content: bytes | str
    size: tuple[float, float] = LETTER
    crop: tuple[float, float, float, float] | None = None
    rotate: int = 0
    pictures: Mapping[str, tuple[int, int, bytes]] = field(default_factory=dict)
    """Name → width, height, grey pixels."""
    forms: Mapping[str, str] = field(default_factory=dict)
    """Name → content stream of a form, a drawing inside the drawing; it can draw what the page can."""
    extra: str = ""
    """More entries of the page's dictionary."""


@dataclass
class Document:
    """A document, piece by piece."""

    pages: Sequence[Page]
    mapping: Mapping[int, str] = field(default_factory=dict)
    """Code of the box font → the text it means; codes without one have no Unicode value."""
    font: str = "<</Type/Font/Subtype/Type1/BaseFont/Helvetica/Encoding/WinAnsiEncoding>>"
    """Definition of `F1`."""
    catalog: str = ""
    """More entries of the catalog."""
    info: str = ""
    """Entries of the information dictionary."""
    password: str | None = None
    """Encrypts the streams: needed to open it; empty: only an owner's password is set."""
    _objects: list[bytes] = field(default_factory=list)

    def encode(self) -> bytes:
        """The file."""
        self._objects = [b"", b""]  # catalog and page tree
        resources = f"/Font<</F1 {self._add(self.font)} 0 R/{BOX_FONT} {self._box_font()} 0 R>>"
        kids = [self._page(page, resources) for page in self.pages]
        listing = " ".join(f"{kid} 0 R" for kid in kids)
        self._objects[0] = f"<</Type/Catalog/Pages 2 0 R{self.catalog}>>".encode()
        self._objects[1] = f"<</Type/Pages/Kids[{listing}]/Count {len(kids)}>>".encode()
        trailer = f"/Root 1 0 R/Info {self._add(f'<<{self.info}>>')} 0 R"
        if self.password is not None:
            trailer += self._encrypt(self.password)
        return _write(self._objects, trailer)

    def _add(self, body: str | bytes) -> int:
        self._objects.append(body.encode("latin-1") if isinstance(body, str) else body)
        return len(self._objects)

    def _stream(self, data: bytes, entries: str = "") -> int:
        packed = zlib.compress(data)
        head = f"<<{entries}/Filter/FlateDecode/Length {len(packed)}>>stream\n".encode()
        return self._add(head + packed + b"\nendstream")

    def _encrypt(self, password: str) -> str:
        """The oldest standard handler (PDF 1.4, 3.5.2: algorithms 3.1 to 3.4, 40-bit RC4)."""
        user, owner = _pad(password), _pad("owner")
        owner_entry = _rc4(hashlib.md5(owner).digest()[:5], user)
        permissions, name = -64, b"0123456789abcdef"
        key = hashlib.md5(user + owner_entry + struct.pack("<i", permissions) + name).digest()[:5]
        for number, body in enumerate(self._objects, start=1):
            head, start, rest = body.partition(b"stream\n")
            if start:
                data = rest.removesuffix(b"\nendstream")
                own = hashlib.md5(key + struct.pack("<I", number)[:3] + b"\0\0").digest()[:10]
                self._objects[number - 1] = head + start + _rc4(own, data) + b"\nendstream"
        entries = f"/O<{owner_entry.hex()}>/U<{_rc4(key, _pad('')).hex()}>/P {permissions}"
        number = self._add(f"<</Filter/Standard/V 1/R 2{entries}>>")
        return f"/Encrypt {number} 0 R/ID[<{name.hex()}><{name.hex()}>]"

    def _page(self, page: Page, resources: str) -> int:
        drawings = {name: self._picture(*picture) for name, picture in page.pictures.items()}
        listing = self._add("")
        resources += f"/XObject {listing} 0 R/ExtGState<</Clear<</ca 0/CA 0>>>>"
        for name, content in page.forms.items():
            bounds = f"0 0 {page.size[0]} {page.size[1]}"
            entries = f"/Type/XObject/Subtype/Form/BBox[{bounds}]/Resources<<{resources}>>"
            drawings[name] = self._stream(content.encode("latin-1"), entries)
        listed = "".join(f"/{name} {number} 0 R" for name, number in drawings.items())
        self._objects[listing - 1] = f"<<{listed}>>".encode()
        content = page.content.encode("latin-1") if isinstance(page.content, str) else page.content
        crop = f"/CropBox[{' '.join(map(str, page.crop))}]" if page.crop else ""
        return self._add(
            f"<</Type/Page/Parent 2 0 R/MediaBox[0 0 {page.size[0]} {page.size[1]}]{crop}/Rotate {page.rotate}"
            f"/Resources<<{resources}>>"
            f"/Contents {self._stream(content)} 0 R{page.extra}>>"
        )

    def _picture(self, width: int, height: int, pixels: bytes) -> int:
        size = f"/Width {width}/Height {height}/ColorSpace/DeviceGray/BitsPerComponent 8"
        return self._stream(pixels, f"/Type/XObject/Subtype/Image{size}")

    def _box_font(self) -> int:
        glyph = self._stream(b"500 0 0 0 450 700 d1 0 0 450 700 re f")
        names = " ".join(f"/g{code}" for code in range(1, 256))
        procedures = "".join(f"/g{code} {glyph} 0 R" for code in range(1, 256))
        widths = " ".join(["500"] * 255)
        to_unicode = f"/ToUnicode {self._stream(_cmap(self.mapping))} 0 R" if self.mapping else ""
        return self._add(
            "<</Type/Font/Subtype/Type3/FontBBox[0 0 500 700]/FontMatrix[.001 0 0 .001 0 0]"
            "/FirstChar 1/LastChar 255"
            f"/Widths[{widths}]/Encoding<</Type/Encoding/Differences[1 {names}]>>/CharProcs<<{procedures}>>"
            f"/Resources<<>>{to_unicode}>>"
        )


def _pad(password: str) -> bytes:
    filling = bytes.fromhex("28bf4e5e4e758a4164004e56fffa01082e2e00b6d0683e802f0ca9fe6453697a")
    return (password.encode("latin-1") + filling)[:32]


def _rc4(key: bytes, data: bytes) -> bytes:
    state, swap = list(range(256)), 0
    for index in range(256):
        swap = (swap + state[index] + key[index % len(key)]) % 256
        state[index], state[swap] = state[swap], state[index]
    out, first, second = bytearray(), 0, 0
    for byte in data:
        first = (first + 1) % 256
        second = (second + state[first]) % 256
        state[first], state[second] = state[second], state[first]
        out.append(byte ^ state[(state[first] + state[second]) % 256])
    return bytes(out)


def _cmap(mapping: Mapping[int, str]) -> bytes:
    lines = [
        f"<{code:02x}> <{text.encode('utf-16-be', 'surrogatepass').hex()}>"
        for code, text in sorted(mapping.items())
    ]
    blocks = [lines[start : start + 100] for start in range(0, len(lines), 100)]
    body = "\n".join(f"{len(block)} beginbfchar\n" + "\n".join(block) + "\nendbfchar" for block in blocks)
    return (
        "/CIDInit /ProcSet findresource begin 12 dict begin begincmap /CMapName /X def /CMapType 2 def\n"
        f"1 begincodespacerange <00> <ff> endcodespacerange\n{body}\nendcmap end end"
    ).encode()


def _write(objects: Sequence[bytes], trailer: str) -> bytes:
    out = bytearray(b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n")
    offsets = []
    for number, body in enumerate(objects, start=1):
        offsets.append(len(out))
        out += f"{number} 0 obj\n".encode() + body + b"\nendobj\n"
    start = len(out)
    out += f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n".encode()
    out += b"".join(f"{offset:010d} 00000 n \n".encode() for offset in offsets)
    out += f"trailer\n<<{trailer}/Size {len(objects) + 1}>>\nstartxref\n{start}\n%%EOF\n".encode()
    return bytes(out)


def show(text: str, x: float = 72, y: float = 720, size: float = 12, mode: int = 0, matrix: str = "") -> str:
    """Operators that write a line in Helvetica; `matrix` is a b c d of a text matrix."""
    escaped = text.replace("\\", r"\\").replace("(", r"\(").replace(")", r"\)")
    place = f"{matrix or '1 0 0 1'} {x} {y} Tm"
    return f"BT /F1 {size} Tf {mode} Tr {place} ({escaped}) Tj ET\n"


def paragraph(lines: int = 20, mode: int = 0, x: float = 72, y: float = 720) -> str:
    """Operators that write lines of English."""
    return "".join(
        show(f"{PROSE[number % len(PROSE)]}", x, y - 16 * number, mode=mode) for number in range(lines)
    )


def boxes(codes: Sequence[int], x: float = 72, y: float = 720, size: float = 10, columns: int = 60) -> str:
    """Operators that write codes in the box font, in lines."""
    rows = [codes[start : start + columns] for start in range(0, len(codes), columns)]
    return "".join(
        f"BT /{BOX_FONT} {size} Tf 1 0 0 1 {x} {y - 1.5 * size * number} Tm <{bytes(row).hex()}> Tj ET\n"
        for number, row in enumerate(rows)
    )


def written(text: str) -> bytes:
    """A document of one page with this text in the box font; white space is a gap."""
    letters = sorted({letter for letter in text if not letter.isspace()})
    if len(letters) > 254:
        raise ValueError("too many different letters for one font")
    codes = {letter: number + 2 for number, letter in enumerate(letters)} | {" ": 1}
    spelled = [codes[" " if letter.isspace() else letter] for letter in text]
    mapping = {code: letter for letter, code in codes.items()}
    return Document([Page(boxes(spelled))], mapping=mapping).encode()


def typed(pages: int = 1, lines: int = 20, password: str | None = None) -> bytes:
    """A document of some pages of plain English."""
    contents = [paragraph(lines) + show(f"Page {number}", y=60) for number in range(1, pages + 1)]
    title = "/Title(A plain document)"
    return Document([Page(content) for content in contents], info=title, password=password).encode()


PROSE = (
    "The committee met in the morning and agreed on the budget of the",
    "coming year. Three members spoke about the roads, two about the",
    "school, and nobody about the bridge that had fallen in the spring.",
    "A letter from the ministry was read aloud, and put aside again.",
)
