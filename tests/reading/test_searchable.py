"""Searchable PDFs, as other readers see them: pdfium (through pypdfium2) and pdfminer (through pdfplumber)."""

from __future__ import annotations

import re
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import pdfplumber
import pypdfium2
import pytest
from fontTools.ttLib import TTFont
from PIL import Image, ImageDraw, ImageFont, features

from ocrsmith.images import open_image
from ocrsmith.images.pdf import PdfFile
from ocrsmith.reading import Page, glyphless
from ocrsmith.reading.glyphless import CODES, ROOM, WIDTHS, GlyphlessFont, font_program
from ocrsmith.reading.searchable import SearchablePdf
from ocrsmith.reading.sources import BrokenPage, Item, PageImage

ENGLISH = ["The quick brown fox", "jumps over 1,234 lazy dogs.", "(And so on: 50 %)"]
CHINESE = ["中文文本识别，第3页。", "龍龜鬱，“你好”"]
PERSIAN = ["سلام دنیا، این یک کتاب است", "می‌خواهم بخوانم", "قیمت ۱۲۳۴ تومان (ارزان) است"]
ASTRAL = ["emoji 😀👩‍🚀 here", "rare 𠀀𪚥 and 𝒜"]


def picture(lines: Sequence[str] = ("a line", "another", "and one"), mode: str = "L") -> Image.Image:
    image = Image.new(mode, (600, 60 + 60 * len(lines)), "white")
    pen = ImageDraw.Draw(image)
    for number, line in enumerate(lines):
        pen.text((40, 40 + 60 * number), line, font=ImageFont.load_default(28), fill="black")
    return image


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    stream = BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def item(data: bytes, number: int = 1, **values: Any) -> PageImage:
    width, height = open_image(data).size
    return PageImage(0, number, width, height, values.pop("dpi", None), data, **values)


def page(text: str, number: int = 1, error: str | None = None) -> Page:
    reason: Any = "stop" if error is None else "error"
    return Page(number, text, text, 600, 240, None, (), None, (), reason, 0.0, 0, "", 1, error)


def write(path: Path, *pages: tuple[Page, Item]) -> SearchablePdf:
    with path.open("wb") as file:
        pdf = SearchablePdf(file, "Título 題")
        pdf.write(iter(pages))
    return pdf


def by_pdfium(path: Path) -> list[list[str]]:
    with pypdfium2.PdfDocument(path) as document:
        return [found.get_textpage().get_text_bounded().splitlines() for found in document]


def by_pdfminer(path: Path, **options: Any) -> list[list[str]]:
    with pdfplumber.open(path) as document:
        return [found.extract_text(**options).splitlines() for found in document.pages]


@pytest.mark.parametrize("lines", [ENGLISH, CHINESE, PERSIAN, ASTRAL], ids=["en", "zh", "fa", "astral"])
def test_two_readers_give_the_answer_back(lines: list[str], tmp_path: Path) -> None:
    path = tmp_path / "x.pdf"
    write(path, (page("\n".join(lines)), item(encoded(picture(["ink"] * len(lines))))))
    assert by_pdfium(path) == [lines]
    # pdfminer gives the letters in the order of their places; of a line from right to left that is the reading
    # order, but for numbers, which run from left to right within it.
    rtl = {"char_dir": "rtl", "char_dir_render": "ltr"} if lines is PERSIAN else {}
    read = by_pdfminer(path, **rtl)[0]
    assert read[: 2 if rtl else None] == lines[: 2 if rtl else None]


def test_every_page_has_its_own_text(tmp_path: Path) -> None:
    path, blank = tmp_path / "x.pdf", item(encoded(Image.new("L", (600, 240), 255)))
    texts = ["\n".join(lines) for lines in (ENGLISH, CHINESE, ASTRAL)]
    images = [item(encoded(picture(ENGLISH))), blank, blank]
    pages = zip((page(text, number) for number, text in enumerate(texts, 1)), images, strict=True)
    pdf = write(path, *pages)
    assert ["\n".join(lines) for lines in by_pdfium(path)] == texts
    assert ["\n".join(lines) for lines in by_pdfminer(path)] == texts
    with pypdfium2.PdfDocument(path) as document:
        assert document.get_metadata_dict()["Title"] == "Título 題"
    assert pdf.placed == {"ink": 1, "even": 2}


def test_words_lie_where_their_ink_is(tmp_path: Path) -> None:
    lines = ["Ordinary words here", "Wide, and. narrow: illil"]
    image = picture(lines)
    path = tmp_path / "x.pdf"
    write(path, (page("\n".join(lines)), item(encoded(image, dpi=(72, 72)))))
    pen, font = ImageDraw.Draw(image), ImageFont.load_default(28)
    with pdfplumber.open(path) as document:
        words = document.pages[0].extract_words()
    assert [word["text"] for word in words] == " ".join(lines).split()
    for word in words:
        line = next(line for line in lines if word["text"] in line)
        at = line.index(word["text"])
        left = 40 + pen.textlength(line[:at], font)
        right = left + pen.textlength(word["text"], font)
        top = 40 + 60 * lines.index(line)
        assert word["x0"] == pytest.approx(left, abs=25)
        assert word["x1"] == pytest.approx(right, abs=25)
        assert top - 6 < word["top"] < word["bottom"] < top + 42


def test_what_is_selected_is_as_high_as_its_line(tmp_path: Path) -> None:
    path = tmp_path / "x.pdf"
    write(path, (page("I\nword\nlast"), item(encoded(picture(), dpi=(72, 72)))))
    with pypdfium2.PdfDocument(path) as document:
        text = document[0].get_textpage()
        left, bottom, right, top = text.get_charbox(0)
    assert 40 <= left < right <= 140
    assert 240 - 40 - 40 < bottom < top < 240 - 40
    assert top - bottom > 15


def test_persian_words_lie_where_they_are_seen(tmp_path: Path) -> None:
    path = tmp_path / "x.pdf"
    write(path, (page("سلام دنیا"), item(encoded(picture(["some ink here"]), dpi=(72, 72)))))
    with pdfplumber.open(path) as document:
        letters = {letter["text"]: letter["x0"] for letter in document.pages[0].chars}
    assert letters["س"] > letters["م"] > letters["د"] > letters["ی"]


@pytest.mark.parametrize("text", ["\n".join(PERSIAN + ASTRAL), "<table><tr><td>a</td></tr></table>"])
def test_nothing_of_the_text_can_be_seen(text: str, tmp_path: Path) -> None:
    shown = []
    for name, read in (("with", page(text)), ("without", page("", error="it failed"))):
        write(tmp_path / name, (read, item(encoded(picture()))))
        with PdfFile(tmp_path / name) as pdf:
            shown.append(pdf.render(1, dpi=200).image.tobytes())
    assert shown[0] == shown[1]
    assert by_pdfium(tmp_path / "with")[0]
    assert by_pdfium(tmp_path / "without") == [[]]


def rendered(path: Path, dpi: float) -> Image.Image:
    with PdfFile(path) as pdf:
        return pdf.render(1, dpi=dpi).image


def pixels(image: Image.Image) -> Any:
    import numpy as np

    return np.asarray(image.convert("RGB")).astype(int)


def marked(mode: str) -> Image.Image:
    """A picture that shows which way up it is."""
    image = Image.new("RGB", (90, 60), (250, 240, 230))
    ImageDraw.Draw(image).rectangle((5, 5, 30, 20), fill=(10, 20, 200))
    ImageDraw.Draw(image).ellipse((50, 30, 85, 55), fill=(200, 30, 10))
    return image.convert(mode)


@pytest.mark.parametrize(
    ("mode", "options", "kept"),
    [
        ("RGB", {}, True),
        ("L", {}, True),
        ("1", {}, True),
        ("P", {}, True),
        ("RGBA", {}, False),
        ("LA", {}, False),
        ("I;16", {}, False),
        ("P", {"transparency": 0}, False),
    ],
)
def test_png_files_look_the_same_and_keep_their_bytes_where_that_can_be(
    mode: str, options: dict[str, Any], kept: bool, tmp_path: Path
) -> None:
    image = Image.new("I;16", (90, 60), 40_000) if mode == "I;16" else marked(mode)
    data = encoded(image, dpi=(144, 144), **options)
    path = tmp_path / "x.pdf"
    write(path, (page("word"), item(data)))
    found = pixels(rendered(path, 144))
    assert found.shape == (60, 90, 3)
    assert abs(found - pixels(open_image(data))).max() <= (0 if kept else 12)
    assert (data[data.index(b"IDAT") + 4 : -16] in path.read_bytes()) == kept


@pytest.mark.parametrize("orientation", range(1, 9))
def test_jpeg_files_keep_their_bytes_whichever_way_up(orientation: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(marked("RGB"), "JPEG", quality=95, exif=exif, dpi=(144, 144))
    path = tmp_path / "x.pdf"
    write(path, (page("word"), item(data)))
    assert data in path.read_bytes()
    upright = pixels(open_image(data))
    found = pixels(rendered(path, 144))
    assert found.shape == upright.shape
    assert abs(found - upright).mean() < 2


@pytest.mark.parametrize("kind", ["WEBP", "BMP", "CMYK", "MPO", "GIF"])
def test_other_files_look_about_the_same(kind: str, tmp_path: Path) -> None:
    if kind == "WEBP" and not features.check("webp"):
        pytest.skip("Pillow was built without WebP")
    image = marked("CMYK" if kind == "CMYK" else "RGB")
    data = encoded(image, "JPEG" if kind == "CMYK" else kind, **({"save_all": True} if kind == "MPO" else {}))
    path = tmp_path / "x.pdf"
    write(path, (page("word"), item(data)))
    found = rendered(path, 96 if kind == "BMP" else 144)  # a BMP says 96
    assert abs(pixels(found) - pixels(open_image(data))).mean() < 4


def test_pages_of_pdfs_are_packed_small(tmp_path: Path) -> None:
    noise = Image.effect_noise((400, 300), 60).convert("RGB")
    for image, filtered in ((picture(mode="RGB"), b"/FlateDecode"), (noise, b"/DCTDecode")):
        data = encoded(image, compress_level=1)
        write(tmp_path / "x.pdf", (page("word"), item(data, dpi=144.0, points=(300.0, 150.0))))
        written = (tmp_path / "x.pdf").read_bytes()
        assert b"/ColorSpace /DeviceGray" in written  # all three channels are equal
        assert filtered in written[: written.index(b"stream")]
        assert len(written) < len(data)


@pytest.mark.parametrize(
    ("dpi", "size"),
    [
        ({"dpi": (300, 300)}, (144, 57.6)),
        ({"dpi": (300, 150)}, (144, 115.2)),
        ({}, (300, 120)),
        ({"dpi": (1, 1)}, (300, 120)),
    ],
)
def test_pages_are_as_large_as_their_resolution_says(
    dpi: dict[str, Any], size: tuple[float, float], tmp_path: Path
) -> None:
    write(tmp_path / "x.pdf", (page("word"), item(encoded(picture(["a", "b", "c"]), **dpi))))
    with PdfFile(tmp_path / "x.pdf") as pdf:
        assert pdf.size(1) == pytest.approx(size, abs=0.02)


def test_sizes_of_pdf_pages_stay_and_absurd_ones_are_bounded(tmp_path: Path) -> None:
    one = item(encoded(picture()), dpi=144.0, points=(595.28, 841.89))
    wide = item(encoded(Image.new("1", (40_000, 10)), dpi=(40, 40)), 2)
    write(tmp_path / "x.pdf", (page("word"), one), (page("word", 2), wide))
    with PdfFile(tmp_path / "x.pdf") as pdf:
        assert pdf.size(1) == pytest.approx((595.28, 841.89))
        assert max(pdf.size(2)) <= 14_400


def test_failed_pages_keep_their_place_and_image(tmp_path: Path) -> None:
    image = item(encoded(picture()))
    pdf = write(
        tmp_path / "x.pdf",
        (page("one"), image),
        (page("", 2, error="the engine fell over"), replace_number(image, 2)),
        (page("", 3, error="cannot be opened"), BrokenPage(0, 3, "cannot be opened")),
        (page("four", 4), replace_number(image, 4)),
    )
    assert by_pdfium(tmp_path / "x.pdf") == [["one"], [], [], ["four"]]
    assert sum(pdf.placed.values()) == 2
    with PdfFile(tmp_path / "x.pdf") as written:
        assert written.render(2).image.getextrema()[0] == (0, 255)
        assert written.render(3).image.getextrema()[0] == (255, 255)


def replace_number(image: PageImage, number: int) -> PageImage:
    return replace(image, number=number)


def test_the_same_pages_give_the_same_bytes(tmp_path: Path) -> None:
    pages = [(page("\n".join(PERSIAN + ENGLISH), n), item(encoded(picture()), n)) for n in (1, 2)]
    write(tmp_path / "one", *pages)
    write(tmp_path / "two", *pages)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


class Counted(bytes):
    """An image whose life can be watched."""


def test_one_page_is_in_memory_at_a_time(tmp_path: Path) -> None:
    alive: list[weakref.ref[PageImage]] = []
    most, sizes = 0, []
    path = tmp_path / "x.pdf"

    class Watched(PageImage):
        """With room for a weak reference."""

        __slots__ = ("__weakref__",)

    data = encoded(picture())

    def pages() -> Iterator[tuple[Page, Item]]:
        nonlocal most
        for number in range(1, 30):
            one = Watched(0, number, 600, 240, None, data)
            alive.append(weakref.ref(one))
            most = max(most, sum(ref() is not None for ref in alive))
            sizes.append(file.tell())
            yield page(f"page {number}", number), one
            del one

    with path.open("wb") as file:
        SearchablePdf(file, "x").write(pages())
    assert most <= 2
    assert sizes[-1] > 25 * (sizes[2] - sizes[1])
    assert [" ".join(lines) for lines in by_pdfium(path)] == [f"page {number}" for number in range(1, 30)]


def test_more_characters_than_a_font_can_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(glyphless, "CODES", 300)
    monkeypatch.setattr(glyphless, "ROOM", 100)
    lines = ["".join(map(chr, range(at, at + 60))) for at in range(0x4E00, 0x4E00 + 12 * 60, 60)]
    blank = item(encoded(Image.new("1", (1000, 200), 1)))
    write(tmp_path / "x.pdf", *((page(line, n), blank) for n, line in enumerate(lines, 1)))
    assert (tmp_path / "x.pdf").read_bytes().count(b"/CIDFontType2") == 3  # full with 240 of 300
    assert by_pdfium(tmp_path / "x.pdf") == [[line] for line in lines]


def test_a_full_font_gives_no_wrong_characters() -> None:
    font = GlyphlessFont(1)
    codes = font.encode("".join(chr(0x20000 + n) for n in range(CODES + 5)))
    assert font.full
    assert len(codes) == 4 * (CODES + 5)
    assert codes.endswith("FFFF" + "0000" * 5)
    assert font.encode(chr(0x20000)) == "0001"
    assert 0 < ROOM < CODES


@pytest.mark.parametrize("text", ["\x00\x07\x1b", "\ud800 lone", "\u200f\u202e", "a" * 200, "\u0301", "\ufeff"])
def test_odd_text_leaves_a_file_that_opens(text: str, tmp_path: Path) -> None:
    write(tmp_path / "x.pdf", (page(text), item(encoded(picture()))))
    assert len(by_pdfium(tmp_path / "x.pdf")) == 1
    assert len(by_pdfminer(tmp_path / "x.pdf")) == 1


def test_the_font_is_one_that_others_can_open() -> None:
    font = TTFont(BytesIO(font_program()))
    assert [font["hmtx"][name][0] for name in font.getGlyphOrder()] == list(WIDTHS)
    assert font["head"].unitsPerEm == 1000
    for name in font.getGlyphOrder()[1:]:
        (_, bottom), (_, top) = font["glyf"][name].coordinates  # two points: no area
        assert (bottom, top) == (-200, 800)


def test_places_of_objects_are_right(tmp_path: Path) -> None:
    """Readers mend wrong tables silently: so the table is checked itself."""
    write(tmp_path / "x.pdf", (page("one"), item(encoded(picture()))))
    data = (tmp_path / "x.pdf").read_bytes()
    table = int(re.findall(rb"startxref\n(\d+)\n%%EOF\n$", data)[0])
    places = re.findall(rb"(\d{10}) 00000 n \n", data[table:])
    for number, place in enumerate(places, 1):
        assert data[int(place) :].startswith(b"%d 0 obj\n" % number)
    assert data[table:].startswith(b"xref\n0 %d\n" % (len(places) + 1))
