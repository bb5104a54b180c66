"""Pages of images, TIFFs and PDFs, opened one at a time, and files that are none of these."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from ocrsmith.errors import SettingsError
from ocrsmith.reading import images
from ocrsmith.reading.pdf import PageRange, PdfOptions
from ocrsmith.reading.sources import BrokenPage, Item, Kind, Opener, PageImage, Want

from ..datasets.pdf.pdf_files import typed
from .conftest import line_image, write_pdf, write_png, write_tiff


@pytest.fixture(scope="module")
def opener() -> Iterator[Opener]:
    with Opener() as opened:
        yield opened


def everything(opener: Opener, path: Path, pages: str | None = None) -> list[Item]:
    source = opener.inspect(path, PageRange.parse(pages))
    return list(opener.pages([Want(7, source, source.numbers)]))


def test_pages_of_a_pdf_are_drawn_in_order_with_their_resolution(opener: Opener, tmp_path: Path) -> None:
    pages = everything(opener, write_pdf(tmp_path / "x.pdf"), "2-")
    assert [(page.document, page.number) for page in pages] == [(7, 2), (7, 3)]
    first = pages[0]
    assert isinstance(first, PageImage)
    assert (first.width, first.height, first.dpi) == (620, 80, 144.0)
    assert Image.open(BytesIO(first.data)).size == (620, 80)


def test_resolution_and_password_of_a_pdf_can_be_given(tmp_path: Path) -> None:
    write_pdf(tmp_path / "x.pdf", ["one"])
    (tmp_path / "secret.pdf").write_bytes(typed(2, password="secret"))
    with Opener(PdfOptions(dpi=288, max_side=600, password="secret")) as opener:
        (page,) = everything(opener, tmp_path / "x.pdf")
        assert opener.inspect(tmp_path / "secret.pdf", PageRange.parse(None)).numbers == (1, 2)
    assert isinstance(page, PageImage)
    assert (page.width, page.dpi) == (600, 144.0)


def test_every_page_of_a_tiff_is_read(opener: Opener, tmp_path: Path) -> None:
    frames = [line_image("x", width) for width in (100, 110, 120)]
    frames[1] = frames[1].convert("1")
    pages = everything(opener, write_tiff(tmp_path / "x.tif", frames))
    assert [(page.number, page.width) for page in pages if isinstance(page, PageImage)] == [
        (1, 100),
        (2, 110),
        (3, 120),
    ]
    assert Image.open(BytesIO(pages[2].data)).size == (120, 48)


def test_an_image_goes_as_it_is_and_is_measured_upright(opener: Opener, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (100, 20), "white").save(tmp_path / "x.jpg", exif=exif)
    (page,) = everything(opener, tmp_path / "x.jpg", "1-3")
    assert isinstance(page, PageImage)
    assert (page.width, page.height) == (20, 100)
    assert page.data == (tmp_path / "x.jpg").read_bytes()


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"hello, this is a letter", "holds text"),
        (b"", "empty"),
        (b"\x00\x01\x02\x03garbage", "not an image"),
        (b"%PDF-1.4\nnothing of a PDF", "damaged"),
        (typed(password="secret"), "encrypted"),
        (b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n2 0 obj<</Type/Pages/Kids[]/Count 0>>endobj\n"
         b"trailer<</Root 1 0 R>>\n%%EOF", "without pages"),
        (b"II*\x00\xff\xff\xff\x7f", "damaged"),
    ],
    ids=["text", "empty", "garbage", "damaged PDF", "encrypted PDF", "PDF without pages", "damaged TIFF"],
)  # fmt: skip
def test_a_file_that_cannot_be_opened_says_why(
    content: bytes, problem: str, opener: Opener, tmp_path: Path
) -> None:
    (tmp_path / "x").write_bytes(content)
    source = opener.inspect(tmp_path / "x", PageRange.parse(None))
    assert problem in (source.problem or "")
    assert source.numbers == ()


def test_pages_that_a_document_lacks_are_named(opener: Opener, tmp_path: Path) -> None:
    pdf = write_pdf(tmp_path / "x.pdf")
    source = opener.inspect(pdf, PageRange.parse("2-3,5,7-9"))
    assert (source.numbers, source.problem) == ((2, 3), "It has 3 pages; there is no page 5, 7-9.")
    assert opener.inspect(pdf, PageRange.parse("2-9")).problem == "It has 3 pages; there is no page 4-9."
    assert opener.inspect(pdf, PageRange.parse("4-")).problem == "It has 3 pages; there is no page 4-."
    assert opener.inspect(pdf, PageRange.parse("2-")).problem is None
    with pytest.raises(SettingsError, match="names no pages"):
        PageRange.parse("3-1")


def test_a_broken_page_does_not_stop_the_others(
    opener: Opener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = write_png(tmp_path / "a.png", 60)
    cut = tmp_path / "b.png"
    Image.effect_noise((200, 200), 50).save(cut)
    cut.write_bytes(cut.read_bytes()[:9000])
    monkeypatch.setattr(images, "DEFAULT_MAX_PIXELS", 3000)
    tiff = write_tiff(tmp_path / "c.tif", [Image.new("L", (50, 50)), Image.new("L", (90, 90))])
    sources = [opener.inspect(path, PageRange.parse(None)) for path in (cut, tiff, whole)]
    assert [source.kind for source in sources] == [Kind.IMAGE, Kind.TIFF, Kind.IMAGE]
    pages = list(opener.pages(Want(n, source, source.numbers) for n, source in enumerate(sources)))
    assert [(page.document, page.number) for page in pages] == [(0, 1), (1, 1), (1, 2), (2, 1)]
    broken = [page.reason for page in pages if isinstance(page, BrokenPage)]
    assert "damaged or cut short" in broken[0]
    assert "90×90 = 8,100 pixels" in broken[1]
    assert len(broken) == 2


@pytest.mark.parametrize(("values", "problem"), [({"dpi": 5}, "dpi"), ({"max_side": 9}, "bound")])
def test_options_that_cannot_be_are_refused(values: dict[str, int], problem: str) -> None:
    with pytest.raises(SettingsError, match=problem):
        PdfOptions(**values)
