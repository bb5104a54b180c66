"""Pages of PDFs as pictures: sizes and bounds, turning, annotations, passwords, damage, scripts that rest."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import numpy as np
import pypdfium2
import pytest

from ocrsmith.errors import ImageError
from ocrsmith.images.pdf import PdfFile, is_pdf

from ..datasets.pdf.pdf_files import Document, Page, show, typed

CORNER = "0 0 0 rg 10 742 40 40 re f\n"  # a square in the upper left corner


def save(folder: Path, data: bytes | Document | Page, name: str = "file.pdf") -> Path:
    if isinstance(data, Page):
        data = Document([data])
    path = folder / name
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


def dark_at(image: object) -> tuple[str, ...]:
    """In which corners of a picture there is ink."""
    grey = np.asarray(image.convert("L"))  # type: ignore[attr-defined]
    height, width = grey.shape
    parts = {
        "upper left": grey[: height // 2, : width // 2],
        "upper right": grey[: height // 2, width // 2 :],
        "lower left": grey[height // 2 :, : width // 2],
        "lower right": grey[height // 2 :, width // 2 :],
    }
    return tuple(name for name, part in parts.items() if part.min() < 128)


def test_a_page_is_drawn_at_the_resolution_asked_for(tmp_path: Path) -> None:
    with PdfFile(save(tmp_path, Page(show("x"), size=(300, 200)))) as file:
        assert (file.pages, file.size(1)) == (1, (300, 200))
        page = file.render(1)
        assert (page.image.size, page.image.mode, page.dpi, page.bounded) == ((600, 400), "RGB", 144, False)
        assert page.image.getpixel((0, 0)) == (255, 255, 255)
        assert file.render(1, dpi=72).image.size == (300, 200)


def test_the_longest_side_is_bounded_and_the_page_says_so(tmp_path: Path) -> None:
    with PdfFile(save(tmp_path, Page("", size=(300, 200)))) as file:
        page = file.render(1, dpi=144, max_side=300)
        assert (page.image.size, page.bounded) == ((300, 200), True)
        assert page.dpi == pytest.approx(72, rel=1e-3)


@pytest.mark.parametrize("size", [(2_000_000, 2_000_000), (14400, 3), (5, 1_000_000)])
def test_a_huge_page_is_bounded_before_memory_is_taken(tmp_path: Path, size: tuple[int, int]) -> None:
    with PdfFile(save(tmp_path, Page("", size=size))) as file:
        assert max(file.render(1).image.size) <= 3000


@pytest.mark.parametrize(
    ("rotate", "turn", "corner"),
    [
        (0, 0, "upper left"),
        (90, 0, "upper right"),
        (180, 0, "lower right"),
        (270, 0, "lower left"),
        (0, 90, "upper right"),
        (90, 270, "upper left"),
        (-90, 0, "lower left"),
        (450, 0, "upper right"),
    ],
)
def test_a_page_is_turned_as_a_viewer_shows_it(tmp_path: Path, rotate: int, turn: int, corner: str) -> None:
    with PdfFile(save(tmp_path, Page(CORNER, rotate=rotate))) as file:
        image = file.render(1, turn=turn).image
        assert dark_at(image) == (corner,)
        assert (image.width < image.height) == ((rotate + turn) % 180 == 0)


def test_a_page_is_cut_to_its_crop_box(tmp_path: Path) -> None:
    with PdfFile(save(tmp_path, Page(CORNER, crop=(0, 0, 300, 400)))) as file:
        assert file.size(1) == (300, 400)
        assert dark_at(file.render(1).image) == ()


ANNOTATED = Page(
    show("text"),
    extra="/Annots[<</Type/Annot/Subtype/Square/Rect[400 600 500 700]/IC[0 0 0]/C[0 0 0]/F 4>>]",
)


def test_annotations_are_drawn_only_on_request(tmp_path: Path) -> None:
    with PdfFile(save(tmp_path, ANNOTATED)) as file:
        assert "upper right" in dark_at(file.render(1, annotations=True).image)
        assert "upper right" not in dark_at(file.render(1, annotations=False).image)


def test_a_filled_form_field_is_an_annotation(tmp_path: Path) -> None:
    look = "<</Subtype/Form/BBox[0 0 100 100]/Length 24>>stream\n0 g 0 0 100 100 re f     \nendstream"
    data = Document([Page("", extra="/Annots[90 0 R]")], catalog="/AcroForm<</Fields[90 0 R]>>").encode()
    field = (
        "90 0 obj\n<</Type/Annot/Subtype/Widget/FT/Tx/T(name)/V(Ada)/F 4/Rect[400 600 500 700]"
        "/AP<</N 91 0 R>>>>"
        f"\nendobj\n91 0 obj\n{look}\nendobj\ntrailer\n<</Root 1 0 R>>\n"
    )
    path = save(tmp_path, data[: data.index(b"xref\n")] + field.encode())  # PDFium makes the missing table anew
    with PdfFile(path) as file:
        assert dark_at(file.render(1, annotations=True).image) == ("upper right",)
        assert dark_at(file.render(1, annotations=False).image) == ()


def test_the_page_without_its_text_keeps_lines_and_pictures(tmp_path: Path) -> None:
    page = Page(show("text", 400, 700) + CORNER + "/Fm Do", forms={"Fm": show("more", 400, 100)})
    with PdfFile(save(tmp_path, page)) as file:
        assert dark_at(file.render(1, text=False).image) == ("upper left",)
        assert dark_at(file.render(1).image) == ("upper left", "upper right", "lower right")


def test_the_title_comes_in_one_line(tmp_path: Path) -> None:
    with PdfFile(save(tmp_path, Document([Page("")], info="/Title(A  title\nof two lines)"))) as file:
        assert file.title == "A title of two lines"
    with PdfFile(save(tmp_path, Page(""))) as file:
        assert file.title == ""


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "The file is empty (0 bytes)."),
        (b"just words", "The file is not a PDF (it begins with b'just wor')."),
        (typed()[:700], "The PDF is damaged, cut short or without pages: "),
        (b"%PDF-1.7\n" + b"\0" * 5000, "The PDF is damaged, cut short or without pages: "),
        (Document([]).encode(), "The PDF is damaged, cut short or without pages: "),
    ],
    ids=["empty", "text", "cut short", "zeros", "no pages"],
)
def test_what_is_no_whole_pdf_is_refused(tmp_path: Path, data: bytes, problem: str) -> None:
    path = save(tmp_path, data)
    with pytest.raises(ImageError) as caught:
        PdfFile(path)
    assert caught.value.problem.startswith(problem)
    assert (caught.value.reason, caught.value.place) == ("unreadable", str(path))
    assert caught.value.mend


def test_what_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="does not exist") as caught:
        PdfFile(tmp_path / "none.pdf")
    assert caught.value.reason == "missing"
    with pytest.raises(ImageError, match="cannot be read"):
        PdfFile(tmp_path)
    with pytest.raises(ImageError, match="cannot be read"):
        PdfFile("zero\0byte.pdf")
    with PdfFile(save(tmp_path, typed(2))) as file, pytest.raises(ImageError, match="no page 3") as caught:
        file.render(3)
    assert caught.value.mend == "It has pages 1 to 2."


def test_an_encrypted_file_opens_with_its_password_only(tmp_path: Path) -> None:
    path = save(tmp_path, typed(password="geheim"))
    for password, problem in ((None, "opens only with a password"), ("wrong", "does not open it")):
        with pytest.raises(ImageError, match=problem) as caught:
            PdfFile(path, password=password)
        assert caught.value.reason == "encrypted"
        assert "--password" in str(caught.value)
    with PdfFile(path, password="geheim") as file:
        assert "upper left" in dark_at(file.render(1).image)


def test_a_file_that_only_forbids_printing_opens_without_password(tmp_path: Path) -> None:
    with PdfFile(save(tmp_path, typed(password=""))) as file:
        assert "upper left" in dark_at(file.render(1).image)


def test_a_signature_may_stand_behind_a_few_bytes(tmp_path: Path) -> None:
    assert is_pdf(b"\xef\xbb\xbf%PDF-1.4")
    assert not is_pdf(b"PDF-1.4")
    with PdfFile(save(tmp_path, b"\n\n" + typed())) as file:
        assert file.pages == 1


def test_this_pdfium_has_no_javascript() -> None:
    assert not {"V8", "XFA"} & set(pypdfium2.PDFIUM_INFO.flags)


def test_scripts_links_and_programs_of_a_file_rest(tmp_path: Path) -> None:
    """A server that listens, and a file that a launched program would make: neither hears of it."""
    marker = tmp_path / "launched"
    calls = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        server.settimeout(0.3)

        def listen() -> None:
            try:
                calls.append(server.accept())
            except TimeoutError:
                return

        listener = threading.Thread(target=listen)
        listener.start()
        path = save(tmp_path, hostile(address, marker))
        with PdfFile(path) as file:
            file.render(1, annotations=True)
            assert file.title == ""
        listener.join()
    assert calls == []
    assert not marker.exists()


def hostile(address: str, marker: Path) -> Document:
    """Runs a script, a program and a request when it is opened, when a page is shown, and on a click."""
    script = f"<</S/JavaScript/JS(app.launchURL\\('{address}'\\);this.submitForm\\('{address}'\\);)>>"
    launch = f"<</S/Launch/F(/bin/sh)/Unix<</F(/bin/sh)/P(-c 'touch {marker}')>>/Next {script}>>"
    link = f"<</S/URI/URI({address})/Next {launch}>>"
    far = f"<</Type/Annot/Subtype/Link/Rect[0 0 600 700]/A {link}/AA<</E {script}/PV {launch}/PO {link}>>>>"
    return Document(
        [Page(show("harmless"), extra=f"/Annots[{far}]/AA<</O {launch}/C {script}>>")],
        catalog=f"/OpenAction {launch}/AA<</WC {script}>>/Names<</JavaScript<</Names[(a){script}]>>>>"
        f"/AcroForm<</Fields[]/XFA(<x/>)/CO[]>>/URI<</Base({address})>>",
    )
