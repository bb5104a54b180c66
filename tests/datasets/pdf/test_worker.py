"""What the worker makes of a page: picture, text, trust, turning. No file harms the pool it is read in."""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterator
from dataclasses import asdict
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ocrsmith.datasets.pdf.document import PdfOptions
from ocrsmith.datasets.pdf.isolate import Bounds, Failure, IsolatedPool, Reply
from ocrsmith.datasets.pdf.pairs import WORKER
from ocrsmith.datasets.pdf.worker import Reader
from ocrsmith.errors import ImageError

from .pdf_files import PROSE, Document, Page, boxes, paragraph, show, typed


def request(path: Path, page: int | None = 1, **options: Any) -> dict[str, Any]:
    asked: dict[str, Any] = {"path": str(path), "password": options.pop("password", None)}
    if page is not None:
        asked |= {"page": page, "options": asdict(PdfOptions(**options))}
    return asked


@pytest.fixture
def read(tmp_path: Path) -> Any:
    """Reads a page of a document in this process; gives answer and picture."""

    def run(
        what: bytes | Document | str, number: int = 1, **options: Any
    ) -> tuple[dict[str, Any], Image.Image]:
        if isinstance(what, str):
            what = Document([Page(what)])
        path = tmp_path / "file.pdf"
        path.write_bytes(what if isinstance(what, bytes) else what.encode())
        answer, data = Reader().handle(request(path, number, **options))
        return answer, Image.open(BytesIO(data)) if data else Image.new("1", (1, 1))

    return run


@pytest.fixture(scope="module")
def pool() -> Iterator[IsolatedPool]:
    with IsolatedPool(WORKER, workers=1, bounds=Bounds(30, 1 << 30)) as opened:
        yield opened


def joined(text: str) -> str:
    return " ".join(text.split())


def test_a_document_is_inspected(tmp_path: Path) -> None:
    (tmp_path / "file.pdf").write_bytes(typed(3))
    answer, data = Reader().handle(request(tmp_path / "file.pdf", None))
    assert (answer, data) == ({"pages": 3, "title": "A plain document"}, b"")


def test_a_trusted_page_gives_picture_and_text(read: Any) -> None:
    answer, image = read(typed(2), 2)
    assert answer["trust"]["score"] == 1.0
    assert " ".join(PROSE[:2]) in joined(answer["text"])
    assert (image.format, image.mode, image.size) == ("PNG", "RGB", (1224, 1584))
    assert (answer["dpi"], answer["bounded"], answer["turned"]) == (144, False, 0)


def test_options_reach_picture_and_text(read: Any) -> None:
    _, image = read(typed(), dpi=72)
    assert image.size == (612, 792)
    answer, image = read(typed(), max_side=396)
    assert (image.size, answer["bounded"], answer["dpi"]) == ((306, 396), True, 36)
    _, image = read(typed(), jpeg=80)
    assert image.format == "JPEG"


def test_a_page_that_is_not_trusted_is_not_drawn(read: Any) -> None:
    answer, image = read(boxes([*range(1, 32)] * 3))
    assert set(answer) == {"trust"}
    assert image.size == (1, 1)
    assert answer["trust"]["reason"] == "unmapped_text"


def test_no_character_without_unicode_value_comes_into_a_label(read: Any) -> None:
    """One in three hundred is little enough to trust the page, and a wrong label all the same."""
    mapping = {code: chr(code) for code in range(32, 127)}
    codes = [*(b"plain words and more " * 15)]
    codes[100] = 1
    document = Document([Page(boxes(codes))], mapping=mapping)
    answer, _ = read(document)
    assert "text" not in answer
    assert (answer["trust"]["score"], answer["trust"]["reason"]) == (0.0, "unmapped_text")
    assert answer["trust"]["reasons"][0] == "1 characters of its Markdown have no Unicode value"
    assert "plain words" in read(document, trust=0)[0]["text"]


def test_lines_that_return_from_page_to_page_are_left_out(tmp_path: Path) -> None:
    head = "A heading at the top of each page of this long and tiring book about all manner of things"
    pages = [Page(show(head, y=760) + paragraph(30, y=735)) for _ in range(4)]
    path = tmp_path / "book.pdf"
    path.write_bytes(Document(pages).encode())
    reader = Reader()
    found, _ = reader.handle({"path": str(path), "password": None, "sample": [1, 2, 3, 4]})
    assert any("heading at the top" in line for line in found["furniture"])
    alone, _ = reader.handle(request(path))
    known, _ = reader.handle(request(path) | found)
    kept, _ = reader.handle(request(path, keep_furniture=True) | found)
    assert "tiring book" in alone["text"]
    assert "tiring book" not in known["text"]
    assert "tiring book" in kept["text"]
    assert PROSE[0] in joined(known["text"])


def test_without_trust_every_page_is_taken(read: Any) -> None:
    answer, _ = read("1 1 1 rg " + paragraph(), trust=0)
    assert answer["trust"]["score"] == 0.0
    assert PROSE[0] in joined(answer["text"])


def test_invisible_text_and_text_outside_are_not_in_the_label(read: Any) -> None:
    content = paragraph(20) + show("a secret", y=100, mode=3) + show("far away", y=900)
    answer, _ = read(content)
    assert "secret" not in answer["text"]
    assert "far away" not in answer["text"]


@pytest.mark.parametrize("rotate", [0, 90, 180, 270])
def test_a_turned_page_is_read_as_a_viewer_shows_it(read: Any, rotate: int) -> None:
    """The text is written so that the page's own turning makes it upright."""
    answer, image = read(Document([Page(turned_paragraph(rotate), size=(700, 700), rotate=rotate)]))
    assert " ".join(PROSE[:2]) in joined(answer["text"])
    assert answer["turned"] == 0
    assert upright_like(image, read(Document([Page(turned_paragraph(0), size=(700, 700))]))[1])


@pytest.mark.parametrize("angle", [90, 180, 270])
def test_sideways_text_is_turned_upright(read: Any, angle: int) -> None:
    answer, image = read(Document([Page(turned_paragraph(angle), size=(700, 700))]))
    assert " ".join(PROSE[:2]) in joined(answer["text"])
    assert answer["turned"] == angle
    assert upright_like(image, read(Document([Page(turned_paragraph(0), size=(700, 700))]))[1])


def turned_paragraph(angle: int) -> str:
    """Lines that are upright once a page of 700×700 points is turned clockwise by `angle`."""
    turns = {0: "1 0 0 1 0 0", 90: "0 1 -1 0 700 0", 180: "-1 0 0 -1 700 700", 270: "0 -1 1 0 0 700"}
    return f"q {turns[angle]} cm {paragraph(12, y=600)} Q\n"


def upright_like(image: Image.Image, expected: Image.Image) -> bool:
    one, other = (picture.convert("L").resize((35, 35)) for picture in (image, expected))
    return max(abs(a - b) for a, b in zip(one.tobytes(), other.tobytes(), strict=True)) < 40


def test_lone_surrogates_do_not_reach_the_label(read: Any) -> None:
    mapping = {code: chr(code) for code in range(97, 123)} | {33: "\ud83d"}
    codes = [*map(ord, "words!" * 20)]
    answer, _ = read(Document([Page(boxes(codes))], mapping=mapping), trust=0)
    assert "words" in answer["text"]
    answer["text"].encode("utf-8")


def test_a_locked_file_is_read_with_its_password(tmp_path: Path) -> None:
    path = tmp_path / "locked.pdf"
    path.write_bytes(typed(password="geheim"))
    answer, _ = Reader().handle(request(path, password="geheim"))
    assert PROSE[0] in joined(answer["text"])
    with pytest.raises(ImageError, match="encrypted"):
        Reader().handle(request(path))


@pytest.mark.parametrize("count", [b"2", b"9"])
def test_a_page_tree_on_which_readers_disagree_is_refused(tmp_path: Path, count: bytes) -> None:
    path = tmp_path / "file.pdf"
    path.write_bytes(typed(3).replace(b"/Count 3", b"/Count " + count))
    with pytest.raises(ImageError, match=f"one reader finds {count.decode()} pages, the other 3"):
        Reader().handle(request(path))


def test_a_chinese_font_that_is_not_embedded_is_read_or_refused(tmp_path: Path, pool: IsolatedPool) -> None:
    """Whether it can be drawn depends on the fonts of the system; its text is known in any case."""
    descriptor = "<</Type/FontDescriptor/FontName/STSong-Light/Flags 6/FontBBox[-25 -254 1000 880]>>"
    font = (
        "<</Type/Font/Subtype/Type0/BaseFont/STSong-Light/Encoding/UniGB-UCS2-H/DescendantFonts[<</Type/Font"
        "/Subtype/CIDFontType0/BaseFont/STSong-Light"
        "/CIDSystemInfo<</Registry(Adobe)/Ordering(GB1)/Supplement 2>>"
        f"/DW 1000/FontDescriptor {descriptor}>>]>>"
    )
    text = "人人生而自由在尊严和权利上一律平等"
    content = f"BT /F1 20 Tf 1 0 0 1 72 700 Tm <{text.encode('utf-16-be').hex()}> Tj ET"
    path = tmp_path / "chinese.pdf"
    path.write_bytes(Document([Page(content)], font=font).encode())
    found = pool.submit(request(path)).result()
    assert isinstance(found, Reply), found
    if found.answer["trust"]["score"] >= 0.8:
        assert text in "".join(found.answer["text"].split())
    else:
        assert found.answer["trust"]["reason"] in ("hidden_text", "unread_text")


def bomb() -> bytes:
    """A page whose content of a few megabytes unfolds to 640."""
    packer = zlib.compressobj(1)
    data = b"".join(packer.compress(b" " * (1 << 24)) for _ in range(40)) + packer.flush()
    plain = Document([Page("x" * 100)]).encode()
    start = plain.index(b"/Contents ") + len(b"/Contents ")
    number = int(plain[start : plain.index(b" ", start)])
    head = f"\n{number} 0 obj\n<</Filter/FlateDecode/Length {len(data)}>>stream\n".encode()
    cut = plain.index(b"xref\n")
    return plain[:cut] + head + data + b"\nendstream\nendobj\ntrailer\n<</Root 1 0 R>>\n"


def test_a_content_that_unfolds_beyond_all_bounds_costs_its_page(tmp_path: Path) -> None:
    (tmp_path / "bomb.pdf").write_bytes(bomb())
    (tmp_path / "good.pdf").write_bytes(typed())
    with IsolatedPool(WORKER, workers=1, bounds=Bounds(10, 128 << 20)) as pool:
        found = pool.submit(request(tmp_path / "bomb.pdf")).result()
        assert isinstance(found, Failure)
        assert found.reason == "out_of_memory"
        assert isinstance(pool.submit(request(tmp_path / "good.pdf")).result(), Reply)


def test_damaged_files_harm_nobody(tmp_path: Path, pool: IsolatedPool) -> None:
    """Bytes changed, cut out and put in at random places: an answer or a reason each time."""
    generator = random.Random(7)
    whole = typed(2)
    futures = []
    for number in range(40):
        data = bytearray(whole)
        for _ in range(generator.choice((1, 5, 50))):
            at = generator.randrange(len(data))
            kind = generator.randrange(3)
            data[at : at + (kind == 1) * 20 + (kind == 2)] = generator.randbytes(generator.randrange(1, 8))
        path = tmp_path / f"{number}.pdf"
        path.write_bytes(bytes(data))
        futures.append(pool.submit(request(path)))
    for future in futures:
        found = future.result()
        assert isinstance(found, Reply) or (found.reason and found.detail)
    (tmp_path / "good.pdf").write_bytes(whole)
    assert isinstance(pool.submit(request(tmp_path / "good.pdf")).result(), Reply)
