"""hOCR: pages, lines and words out of HTML as OCR programs write it, and as nobody should."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ocrsmith.datasets.importers.base import Candidate, ImportOptions, LineCrop
from ocrsmith.datasets.importers.hocr import FORMAT
from ocrsmith.errors import DataError
from ocrsmith.records import Excluded

HEAD = """<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0 Transitional//EN" "http://www.w3.org/TR/xhtml1/DTD/xhtml1-transitional.dtd">
<html xmlns="http://www.w3.org/1999/xhtml"><head><title></title><meta name='ocr-system' content='x' />
<style>.a > .b { }</style><script>if (1 < 2) { "<span" }</script></head><body>"""


def word(text: str) -> str:
    return f"<span class='ocrx_word' title='bbox 1 2 3 4; x_wconf 96'>{text}</span>"


def line(inner: str, name: str = "line_1", kind: str = "ocr_line", more: str = "") -> str:
    title = "bbox 10 20 110 50; baseline 0.01 -5; x_size 30"
    return f"<span class='{kind}' id='{name}' title=\"{title}\" {more}>{inner}</span>"


def page(inner: str, image: str = "1.png", number: int = 0) -> str:
    title = f'image "{image}"; bbox 0 0 200 100; ppageno {number}'
    return (
        f"<div class='ocr_page' id='page_{number}' title='{title}'>"
        f"<div class='ocr_carea'><p class='ocr_par' lang='eng'>{inner}</p></div></div>"
    )


def save(
    folder: Path, *pages: str, name: str = "1.hocr", image: str | None = "1.png", head: str = HEAD
) -> Path:
    (folder / name).write_text(f"{head}{''.join(pages)}</body></html>", encoding="utf-8")
    if image:
        Image.new("RGB", (200, 100), "white").save(folder / image)
    return folder / name


def read(path: Path, **options) -> list[Candidate | Excluded]:
    return list(FORMAT.open(path, ImportOptions(**options)).read())


def text_of(folder: Path, inner: str) -> str:
    (found,) = read(save(folder, page(inner)))
    return found.text


def test_a_page_of_tesseract_is_read_line_by_line(tmp_path):
    words = "\n ".join([word("Hello"), word("<strong>bold</strong>"), word("&lt;&amp;&#233;")])
    file = save(tmp_path, page(line(f"\n{words}\n") + "\n" + line(word("World"), "line_2", kind="ocr_header")))
    assert FORMAT.recognises(file, file.read_bytes()[:8192])
    assert FORMAT.recognises(tmp_path, b"")
    (found,) = read(file)
    assert found.text == "Hello bold <&é\nWorld"
    assert (found.image, found.image_path, found.id) == (tmp_path / "1.png", "1.png", "1.hocr")


@pytest.mark.parametrize(
    ("inner", "text"),
    [
        (line("no words   at\n all"), "no words at all"),
        (line("a<br>b<br/>c"), "a b c"),
        (line(word("a") + " stray " + word("b")), "a b"),
        (line(word("un") + line(word("nested"), "x")), "un nested"),
        ("text outside " + line(word("in")), "in"),
        (line(word(" ") + word("x")), "x"),
        (line(word("a <!-- note --> b")), "a b"),
        (line(word("1 < 2 & 3")), "1 < 2 & 3"),
        ("<span class=\"x ocr_line y\" title='bbox 1 2 3 4'>classes</span>", "classes"),
        (line("<b>unclosed " + word("w")), "w"),
    ],
)
def test_the_text_of_a_line_is_that_of_its_words(tmp_path, inner, text):
    assert text_of(tmp_path, inner) == text


def test_other_html_is_not_recognised(tmp_path):
    assert not FORMAT.recognises(tmp_path / "x.html", b"<html><p class='ocr_pages'>")
    assert not FORMAT.recognises(tmp_path / "x.txt", b"<div class='ocr_page'>")


def test_a_line_has_its_box_baseline_and_language(tmp_path):
    (found,) = read(save(tmp_path, page(line(word("a"), more="lang='fra'"))), unit="line")
    assert found.image == LineCrop(tmp_path / "1.png", ((10, 20), (110, 50)))
    assert (found.id, found.group, found.text) == ("1.hocr#line_1", "1.png", "a")
    assert found.meta == {
        "language": "fra",
        "baseline": [[10, 45], [110, 46]],
        "polygon": [[10, 20], [110, 50]],
    }


def test_a_line_without_a_box_goes_to_the_ledger(tmp_path):
    (left_out,) = read(save(tmp_path, page("<span class='ocr_line'>a</span>")), unit="line")
    assert left_out.reason == "malformed"


def test_pages_of_a_file_are_one_document_each_with_its_image(tmp_path):
    save(tmp_path, image="2 (a;b).png")
    first, second = read(save(tmp_path, page(line("a")), page(line("b"), "2 (a;b).png", 1)))
    assert [(one.text, one.image_path, one.group, one.id) for one in (first, second)] == [
        ("a", "1.png", "1.hocr", "1.hocr#page_1"),
        ("b", "2 (a;b).png", "1.hocr", "1.hocr#page_2"),
    ]
    lines = read(tmp_path / "1.hocr", unit="line")
    assert [one.group for one in lines] == ["1.hocr", "1.hocr"]


def test_a_later_page_of_one_picture_file_goes_to_the_ledger(tmp_path):
    first, second = read(save(tmp_path, page(line("a"), "1.png"), page(line("b"), "1.png", 1)))
    assert first.text == "a"
    assert second.reason == "malformed"
    assert "Page 2 has the same image" in second.detail


def test_without_an_image_the_files_name_tells_it(tmp_path):
    (found,) = read(save(tmp_path, page(line("a"), image="")))
    assert found.image == tmp_path / "1.png"


def test_a_file_that_was_cut_short_loses_its_last_page_only(tmp_path):
    whole = HEAD + page(line(word("a"))) + page(line(word("b")), "2.png", 1)
    file = save(tmp_path)
    for end in (-7, -20, -60):
        file.write_text(whole[:end], encoding="utf-8")
        first, second = read(file)
        assert first.text == "a"
        assert "ends within page 2" in second.detail


@pytest.mark.parametrize(
    "body",
    [
        "",
        "<p>no page</p>",
        "<div class='ocr_page'" * 9,
        "<a " * 100_000,
        "<!-" * 100_000,
        "<![" * 9 + ">",
        "<span " + "x" * 70_000 + "><b>",
    ],
)
def test_damaged_html_is_named_and_takes_no_time(tmp_path, body):
    (left_out,) = read(save(tmp_path, body))
    assert left_out.reason == "malformed"
    assert left_out.source == str(tmp_path / "1.hocr")


@pytest.mark.parametrize(
    "body", ["<!--" * 100_000, "<script>" * 100_000, "<p>" * 30_000, "&#" * 100_000, "<" * 100_000]
)
def test_hostile_html_takes_no_time(tmp_path, body):
    (found,) = read(save(tmp_path, page(line("a")), body))
    assert found.text == "a"


def test_other_encodings_are_read_as_declared(tmp_path):
    file = save(tmp_path)
    html = "<html><head><meta charset='gbk'></head>" + page(line(word("你好")))
    file.write_bytes(html.encode("gbk"))
    assert read(file)[0].text == "你好"


def test_a_folder_without_such_files_is_refused(tmp_path):
    with pytest.raises(DataError):
        read(tmp_path)


PIECES = ["<div class='ocr_page' title='bbox 1 2'>", "</div>", line("x"), "<span class='ocr_line'>", word("w")]
PIECES += ["</span>", "</p>", "<p", "<br>", "<", ">", "&", "'", '"', "text", "\x00"]
PIECES += ["<!--", "-->", "<?", "<![CDATA[", "]]>", "<!x"]
pieces = st.lists(st.sampled_from(PIECES), max_size=25)


@given(pieces)
def test_any_html_is_read_or_left_out_clearly(tmp_path_factory, body):
    folder = tmp_path_factory.getbasetemp()
    found = read(save(folder, *body))
    assert found
    assert all(isinstance(one, Candidate) or one.reason in ("malformed", "missing") for one in found)
