"""Letter heights of rendered text of known size, on clean and on bad paper."""

from __future__ import annotations

from pathlib import Path
from statistics import median

import numpy as np
import pdfplumber
import pypdfium2
import pytest
from PIL import Image, ImageDraw, ImageFilter, ImageFont, ImageOps

from ocrsmith.datasets.check.ink import measure

from .conftest import WORDS, cap_height, draw

PAGE = "\n".join(WORDS * 3)


@pytest.mark.parametrize("size", [12, 16, 24, 40, 64])
@pytest.mark.parametrize("text", [WORDS[0], WORDS[3], "INVOICE 2031/7", PAGE])
def test_letters_are_as_tall_as_they_were_drawn(text: str, size: int) -> None:
    found = measure(draw(text, size)).letter_height
    assert found == pytest.approx(cap_height(size), abs=max(1.5, 0.1 * size))


@pytest.mark.parametrize("angle", [-3, -1, 1, 3])
def test_skewed_pages_keep_their_letter_height(angle: float) -> None:
    page = draw(PAGE, 24).rotate(angle, Image.Resampling.BICUBIC, expand=True, fillcolor=255)
    assert measure(page).letter_height == pytest.approx(cap_height(24), rel=0.2)


def test_tightly_set_pages_do_not_run_together() -> None:
    font = ImageFont.load_default(30)
    page = Image.new("L", (700, 500), 255)
    for number in range(16):
        ImageDraw.Draw(page).text((10, 5 + 29 * number), WORDS[number % 8], font=font, fill=0)
    assert measure(page).letter_height == pytest.approx(cap_height(30), rel=0.15)


def _noisy(image: Image.Image) -> Image.Image:
    noise = np.random.default_rng(0).normal(0, 12, (image.height, image.width))
    return Image.fromarray(np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8))


def _shaded(image: Image.Image) -> Image.Image:
    shade = np.linspace(0.35, 1, image.width)[None, :]
    return Image.fromarray((np.asarray(image) * shade).astype(np.uint8))


def _ruled(image: Image.Image) -> Image.Image:
    pixels = np.asarray(image).copy()
    pixels[::45] = 0
    pixels[:, [2, pixels.shape[1] - 3]] = 0
    return Image.fromarray(pixels)


def _faded(image: Image.Image) -> Image.Image:
    return Image.fromarray((200 + np.asarray(image) // 10).astype(np.uint8))


@pytest.mark.parametrize(
    "damage",
    [ImageOps.invert, _noisy, _shaded, _ruled, _faded, lambda image: image.filter(ImageFilter.GaussianBlur(1))],
    ids=["light on dark", "noise", "shadow", "rules", "faded", "blur"],
)
@pytest.mark.parametrize("text", [WORDS[2], PAGE], ids=["line", "page"])
def test_bad_paper_changes_little(text: str, damage: object) -> None:
    image = damage(draw(text, 30))  # type: ignore[operator]
    assert measure(image).letter_height == pytest.approx(cap_height(30), rel=0.15)


@pytest.mark.parametrize(
    "image",
    [
        Image.new("L", (400, 60), 255),
        Image.new("L", (400, 60), 0),
        Image.new("RGB", (1, 1)),
        _noisy(Image.new("L", (400, 60), 200)),
        _shaded(Image.new("L", (400, 60), 200)),
    ],
    ids=["white", "black", "one pixel", "noise", "shadow"],
)
def test_an_image_without_writing_has_no_letters(image: Image.Image) -> None:
    assert measure(image).letter_height is None


@pytest.mark.parametrize("size", [(1, 500), (500, 1), (3, 3), (2, 90), (4000, 7)])
def test_strange_sizes_are_measured_without_complaint(size: tuple[int, int]) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, size[::-1], dtype=np.uint8)
    measure(Image.fromarray(pixels))


def test_large_pages_are_reduced_and_give_the_same_height() -> None:
    page = draw("\n".join(WORDS * 5), 90)
    assert page.width * page.height > 4_000_000
    assert measure(page).letter_height == pytest.approx(cap_height(90), rel=0.1)


def test_the_extent_grows_with_the_text() -> None:
    short, long = measure(draw("harbour dues", 24)), measure(draw("harbour dues, harbour dues", 24))
    assert long.extent == pytest.approx(2 * short.extent, rel=0.15)
    assert long.ink > 1.8 * short.ink


@pytest.mark.parametrize("name", ["earnings", "math_2503_04086", "multi_column_miss", "olmo2-pg4"])
def test_letters_of_real_pages_have_the_height_that_their_font_says(name: str, shared: Path) -> None:
    """Tables, columns and formulas: the PDF knows its font sizes; capitals are about 0.7 of them."""
    file = shared / "data" / "olmocr_bench" / "pdfs" / f"{name}.pdf"
    if not file.is_file():
        pytest.skip("needs ../shared/data/olmocr_bench (real PDF pages), which is not here")
    scale = 2
    page = pypdfium2.PdfDocument(file)[0].render(scale=scale).to_pil().convert("L")
    with pdfplumber.open(file) as pdf:
        size = median(character["size"] for character in pdf.pages[0].chars)
    assert measure(page).letter_height == pytest.approx(0.72 * scale * size, rel=0.08)
