"""Each figure of the trust score, on pages made to have one fault each."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pdfplumber
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ocrsmith.datasets.pdf import ink
from ocrsmith.datasets.pdf.page import PageContent, read_page
from ocrsmith.datasets.pdf.trust import DEFAULT_THRESHOLD, RULES, Trust, judge, shown_text
from ocrsmith.images.pdf import PdfFile

from .pdf_files import Document, Page, boxes, paragraph, show, typed, written

Judge = Callable[..., Trust]

SCAN = (64, 64, bytes(random.Random(0).choices([0, 255, 255], k=64 * 64)))
SMOOTH = (2, 2, bytes([250, 245, 240, 235]))
WHOLE_PAGE = "q 612 0 0 792 0 0 cm /Im Do Q\n"


def load(path: Path) -> tuple[PageContent, Image.Image, Image.Image]:
    with pdfplumber.open(path) as opened, PdfFile(path) as file:
        pictures = [
            file.render(1, dpi=ink.DPI, max_side=ink.MAX_SIDE, annotations=False, text=text).image
            for text in (True, False)
        ]
        return read_page(opened.pages[0]), pictures[0], pictures[1]


@pytest.fixture
def trust(tmp_path: Path) -> Judge:
    """Judges the first page of a document, given as bytes, as a document or as a page's content."""

    def run(what: bytes | Document | str, **page: object) -> Trust:
        if isinstance(what, str):
            what = Document([Page(what, **page)])  # type: ignore[arg-type]
        data = what if isinstance(what, bytes) else what.encode()
        path = tmp_path / "page.pdf"
        path.write_bytes(data)
        return judge(*load(path))

    return run


def test_plain_text_is_trusted_whole(trust: Judge) -> None:
    found = trust(typed())
    assert (found.score, found.reasons, found.reason) == (1.0, (), "")
    assert set(found.figures) == {rule.figure for rule in RULES}


def test_text_in_a_drawing_inside_the_drawing_counts_as_text(trust: Judge) -> None:
    assert trust("/Fm Do", forms={"Fm": paragraph()}).score == 1.0


def test_white_text_on_a_dark_page_is_trusted(trust: Judge) -> None:
    assert trust("0 0 0 rg 0 0 612 792 re f 1 1 1 rg " + paragraph()).score == 1.0


def test_a_scan_with_the_layer_of_an_ocr_program_is_not(trust: Judge) -> None:
    found = trust(WHOLE_PAGE + paragraph(mode=3), pictures={"Im": SCAN})
    assert (found.score, found.reason) == (0.0, "ocr_layer")
    assert found.reasons[0] == "its text is the invisible layer of an OCR program over a scan"


def test_the_font_of_ocr_programs_gives_them_away(trust: Judge) -> None:
    descriptor = "<</Type/FontDescriptor/FontName/GlyphLessFont/Flags 32/FontBBox[0 0 600 800]>>"
    widths = " ".join(["600"] * 224)
    font = (
        "<</Type/Font/Subtype/TrueType/BaseFont/GlyphLessFont/Encoding/WinAnsiEncoding"
        f"/FirstChar 32/LastChar 255/Widths[{widths}]/FontDescriptor {descriptor}>>"
    )
    assert trust(Document([Page(paragraph())], font=font)).reason == "ocr_layer"


@pytest.mark.parametrize("footer", ["", show("Downloaded from the archive on 3 March", y=20)])
def test_a_scan_is_not_trusted_for_a_line_that_was_added(trust: Judge, footer: str) -> None:
    found = trust(WHOLE_PAGE + footer, pictures={"Im": SCAN})
    assert (found.score, found.reason) == (0.0, "scanned_page")
    assert "is a picture" in found.reasons[0]


def test_a_picture_as_background_costs_nothing(trust: Judge) -> None:
    assert trust(WHOLE_PAGE + paragraph(8), pictures={"Im": SMOOTH}).score == 1.0


def test_a_picture_beside_the_text_costs_nothing(trust: Judge) -> None:
    assert trust("q 400 0 0 250 72 30 cm /Im Do Q\n" + paragraph(), pictures={"Im": SCAN}).score == 1.0


def test_characters_without_unicode_value_are_not_trusted(trust: Judge) -> None:
    found = trust(boxes([*range(1, 32)] * 3))  # codes that no table of characters has
    assert (found.score, found.reason) == (0.0, "unmapped_text")
    assert found.reasons == ("100.0% of its characters have no Unicode value",)


def test_characters_in_the_private_area_are_not_trusted(trust: Judge) -> None:
    assert trust(written("".join(chr(0xE000 + number) for number in range(50)))).reason == "unmapped_text"


def test_a_few_unmapped_characters_cost_in_proportion(trust: Judge) -> None:
    mapping = {code: "aeiou"[code % 5] for code in range(33, 130)}
    codes = [*range(33, 130), 1, 2, 3]  # 97 have a value, 3 have none
    found = trust(Document([Page(boxes(codes))], mapping=mapping))
    assert found.figures["unmapped"] == pytest.approx(0.03)
    assert found.score == pytest.approx((0.05 - 0.03) / (0.05 - 0.01))


@pytest.mark.parametrize(
    "word",
    ["cafÃ©s", "donâ€™t", "锟斤拷", "Раsswоrd", "xkcdmnpq", "wоrld"],
    ids=["utf8-as-latin1", "quote", "gbk", "cyrillic-in-latin", "consonants", "one-cyrillic-letter"],
)
def test_garbled_words_are_not_trusted(trust: Judge, word: str) -> None:
    found = trust(written(f"a line with some words and {word} " * 8))
    assert found.figures["garbled"] == pytest.approx(1 / 7, abs=0.03)
    assert found.score < DEFAULT_THRESHOLD
    assert found.reason == "garbled_text"


def test_codes_that_stand_for_other_letters_are_not_trusted(trust: Judge) -> None:
    """A wrong table of characters: every letter three further, as in many fonts without a true one."""
    text = "the committee met in the morning and agreed on the budget of the coming year and of the school"
    shifted = "".join(chr((ord(letter) - 97 + 3) % 26 + 97) if letter != " " else " " for letter in text)
    found = trust(written(f"{shifted} " * 3))
    assert found.reason == "garbled_text"
    assert found.score < DEFAULT_THRESHOLD


LANGUAGES = {
    "German": "Die Angstschweißausbrüche der Rechtsschutzversicherung sind selbstverständlich strittig.",
    "Polish": "W Szczebrzeszynie chrząszcz brzmi w trzcinie i Szczebrzeszyn z tego słynie, o tym wiedzą.",
    "Czech": "Strč prst skrz krk, řekl čtvrthodinář, a vlk zmrzl, zhltl hrst zrn; přesto šel dál do města.",
    "Finnish": "Hääyöaie oli kaikkien mielestä erinomainen, mutta yöllä satoi lunta ja tuuli kovasti.",
    "Turkish": "Kırmızı kalemi çekmecenin içinde, şişenin yanında bulmuş ve öğretmenine götürmüştü.",
    "Vietnamese": "Tất cả mọi người sinh ra đều được tự do và bình đẳng về nhân phẩm và quyền lợi.",
    "French": "Les élèves français étaient très contents de leur journée à l'école près de la forêt.",
    "Russian": "Все люди рождаются свободными и равными в своём достоинстве и правах, и наделены разумом.",
    "Greek": "Όλοι οι άνθρωποι γεννιούνται ελεύθεροι και ίσοι στην αξιοπρέπεια και τα δικαιώματα.",
    "Persian": "همه انسان‌ها آزاد زاده می‌شوند و از دید حیثیت و حقوق با هم برابرند و خرد دارند",
    "Hebrew": "כל בני האדם נולדו בני חורין ושווים בערכם ובזכויותיהם, כולם חוננו בתבונה ובמצפון",
    "Chinese": "人人生而自由，在尊严和权利上一律平等。他们赋有理性和良心，并应以兄弟关系的精神相对待。",
    "Units": "A mass of 5 kg at 20 km/h with λx = 3.5 μm; see RFC9110 in HTML, XMLHTTP and e.g. Fig.~3b.",
}


@pytest.mark.parametrize("text", LANGUAGES.values(), ids=LANGUAGES.keys())
def test_no_language_counts_as_garbled(trust: Judge, text: str) -> None:
    found = trust(written(f"{text} {text}"))
    assert found.score >= DEFAULT_THRESHOLD, found.reasons


def test_invisible_text_is_counted_and_does_not_enter_the_label(tmp_path: Path, trust: Judge) -> None:
    content = paragraph(10) + paragraph(10, mode=3, y=400)
    found = trust(content)
    assert found.reason == "hidden_text"
    assert found.figures["hidden"] == pytest.approx(0.5, abs=0.05)
    page, *_ = load(tmp_path / "page.pdf")
    assert len(shown_text(page).chars) == pytest.approx(len(page.chars) / 2, abs=30)
    assert trust("/Clear gs " + paragraph()).reason == "hidden_text"


@pytest.mark.parametrize(
    "content",
    [
        "1 1 1 rg " + paragraph(5, y=300) + "0 0 0 rg " + paragraph(),
        paragraph() + "1 1 1 rg 0 400 612 400 re f 0 0 0 rg " + paragraph(5, y=300),
        paragraph(5, y=300) + "q 72 0 300 1 re W n " + paragraph() + " Q",
    ],
    ids=["white on white", "under a white box", "clipped away"],
)
def test_text_that_nobody_sees_is_not_trusted(trust: Judge, content: str) -> None:
    found = trust(content)
    assert (found.score, found.reason) == (0.0, "hidden_text")
    assert "nothing is seen" in found.reasons[0]


def test_text_under_a_picture_is_not_trusted(trust: Judge) -> None:
    assert trust(paragraph() + WHOLE_PAGE, pictures={"Im": SCAN}).score == 0.0


def test_text_outside_the_page_does_not_enter_the_label(tmp_path: Path, trust: Judge) -> None:
    content = paragraph(20) + show("a printer's note outside the page", y=20)
    found = trust(content, crop=(0, 200, 612, 792))
    assert found.score == 1.0
    assert 0 < found.figures["outside"] < 0.1
    page, *_ = load(tmp_path / "page.pdf")
    assert "printer" in "".join(char.text for char in page.chars)
    assert "printer" not in "".join(char.text for char in shown_text(page).chars)
    assert trust(content, crop=(0, 0, 612, 300)).reason == "outside_text"


def test_drawn_text_that_the_reader_misses_is_not_trusted(tmp_path: Path) -> None:
    (tmp_path / "page.pdf").write_bytes(typed())
    page, rendered, bare = load(tmp_path / "page.pdf")
    half = replace(page, chars=page.chars[: len(page.chars) // 2])
    found = judge(half, rendered, bare)
    assert found.reason == "unread_text"
    assert found.figures["unread"] == pytest.approx(0.5, abs=0.1)


def letter_shapes(count: int) -> str:
    """Curved shapes of the size of letters, in lines: text that was turned into curves."""
    parts = []
    for number in range(count):
        x, y = 72 + number % 60 * 8, 400 - number // 60 * 14
        parts.append(f"{x} {y} m {x + 5} {y} {x + 5} {y + 8} {x} {y + 8} c {x + 2} {y + 4} l h f")
    return "\n".join(parts) + "\n"


def test_letters_drawn_as_curves_are_not_trusted(trust: Judge) -> None:
    found = trust(letter_shapes(600))
    assert (found.score, found.reason) == (0.0, "drawn_text")
    found = trust(letter_shapes(600) + paragraph(8))
    assert found.reason == "drawn_text"
    assert found.score < DEFAULT_THRESHOLD


def test_charts_tables_and_bullets_are_not_taken_for_letters(trust: Judge) -> None:
    curve = (
        "72 200 m " + " ".join(f"{72 + x * 4} {200 + 80 * math.sin(x / 5):.1f} l" for x in range(110)) + " S\n"
    )
    grid = "".join(f"72 {y} 450 0.5 re f {72 + y} 40 0.5 200 re f\n" for y in range(40, 260, 20))
    bars = "".join(f"{80 + 40 * n} 40 20 {20 + 9 * n} re f\n" for n in range(10))
    bullets = "".join(f"60 {720 - 16 * n} 4 4 re f\n" for n in range(20))
    assert trust(curve + grid + bars + bullets + paragraph()).score == 1.0


def test_slanted_text_is_not_trusted(trust: Judge) -> None:
    lines = "".join(show(line, 100, 100 + 30 * n, matrix="0.87 0.5 -0.5 0.87") for n, line in enumerate(PARTS))
    assert trust(lines).reason == "turned_text"


PARTS = ("a line that rises to the right", "another line that rises", "a third line, which rises too")


def test_a_slanted_watermark_costs_nothing(trust: Judge) -> None:
    found = trust(paragraph() + show("DRAFT", 200, 200, 80, matrix="0.7 0.7 -0.7 0.7"))
    assert found.score == 1.0
    assert found.figures["turned"] > 0


def test_lines_from_top_to_bottom_are_not_trusted(trust: Judge) -> None:
    text = "春眠不觉晓处处闻啼鸟夜来风雨声花落知多少"
    columns = [boxes([n % len(text) + 1], 500 - n // 20 * 20, 700 - n % 20 * 12) for n in range(60)]
    mapping = dict(enumerate(text, start=1))
    found = trust(Document([Page("".join(columns))], mapping=mapping))
    assert found.reason == "vertical_text"
    assert found.score == 0.0


@pytest.mark.parametrize("content", ["", "72 72 400 1 re f", show("   ")])
def test_a_blank_page_has_nothing_to_learn_from(trust: Judge, content: str) -> None:
    found = trust(content)
    assert (found.score, found.reason, found.reasons) == (0.0, "blank_page", ("it has no text",))


def test_a_page_number_alone_is_trusted(trust: Judge) -> None:
    assert trust(show("17", 300, 60)).score == 1.0


def test_absurd_coordinates_do_no_harm(trust: Judge) -> None:
    assert trust(paragraph() + show("far", 1e30, -1e30) + show("huge", size=1e9)).score <= 1


@given(st.sampled_from(RULES), st.floats(0, 1), st.floats(0, 1))
def test_a_greater_figure_never_scores_more(rule: object, one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert 0 <= rule.grade(high) <= rule.grade(low) <= 1  # type: ignore[attr-defined]


def test_connected_shapes_are_those_that_opencv_finds() -> None:
    generator = np.random.default_rng(0)
    for share in (0.05, 0.3, 0.5, 0.7):
        mask = generator.random((60, 80)) < share
        _, _, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
        expected = sorted((x, y, x + width, y + height) for x, y, width, height, _ in stats[1:].tolist())
        assert sorted(ink._components(mask)) == expected


def test_long_runs_are_those_of_an_opening() -> None:
    generator = np.random.default_rng(0)
    for share in (0.3, 0.6, 0.9):
        mask = generator.random((40, 90)) < share
        padded = np.pad(mask, ((0, 0), (6, 6)))  # OpenCV takes what lies outside for set
        opened = cv2.morphologyEx(padded.astype(np.uint8), cv2.MORPH_OPEN, np.ones((1, 5), np.uint8))
        assert (opened[:, 6:-6].astype(bool) == ink._long_runs(mask, 5)).all()


def test_real_pages(shared: Path) -> None:
    """What a person thinks of the pages of olmOCR's bench, looked at one by one."""
    folder = shared / "data" / "olmocr_bench" / "pdfs"
    if not folder.is_dir():
        pytest.skip("needs ../shared/data/olmocr_bench, which is not here")
    expected = {
        "blank_book_pg1": "blank_page",
        "buildingnotes": "scanned_page",
        "lincoln_letter": "scanned_page",
        "mattsnotes": "ocr_layer",
        "small_page_size": "ocr_layer",
    }
    found = {path.stem: judge(*load(path)) for path in sorted(folder.glob("*.pdf"))}
    assert {name: trust.reason for name, trust in found.items() if trust.score < DEFAULT_THRESHOLD} == expected
    assert all(trust.score == 1.0 for name, trust in found.items() if name not in expected)
