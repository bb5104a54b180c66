"""What stands for a sample: equal for copies, alike for near copies, far apart for others."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageEnhance, ImageFont

from ocrsmith.datasets.similar import NEAR_IMAGE
from ocrsmith.datasets.traits import PLAIN, comparable, pixel_digest, text_hash, traits_of, visual_hash
from ocrsmith.images import open_image


def line(text: str, size: tuple[int, int] = (400, 64)) -> Image.Image:
    """A line of text on paper."""
    image = Image.new("RGB", size, (236, 230, 214))
    ImageDraw.Draw(image).text((12, size[1] // 4), text, fill=(40, 40, 60), font=ImageFont.load_default(24))
    return image


def page(words: str) -> Image.Image:
    image = Image.new("RGB", (600, 800), "white")
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(16)
    rows = [words[start : start + 50] for start in range(0, len(words), 50)]
    for number, row in enumerate(rows):
        draw.text((40, 40 + 24 * number), row, fill="black", font=font)
    return image


def recompress(image: Image.Image, quality: int = 40) -> Image.Image:
    stream = BytesIO()
    image.save(stream, "JPEG", quality=quality)
    return open_image(stream.getvalue())


def noisy(image: Image.Image) -> Image.Image:
    noise = np.random.default_rng(0).normal(0, 8, (image.height, image.width, 3))
    return Image.fromarray(np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8))


def scaled(image: Image.Image, factor: float) -> Image.Image:
    return image.resize((round(image.width * factor), round(image.height * factor)), Image.Resampling.BICUBIC)


CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "recompressed": recompress,
    "smaller": lambda image: scaled(image, 0.8),
    "half": lambda image: scaled(image, 0.5),
    "turned": lambda image: image.rotate(0.5, Image.Resampling.BICUBIC, fillcolor=image.getpixel((0, 0))),
    "darker": lambda image: ImageEnhance.Brightness(image).enhance(0.8),
    "noisy": noisy,
}


def apart(left: int, right: int) -> int:
    return (left ^ right).bit_count()


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize(
    "image", [line("The Surveyor reported on dues"), page("the quick brown fox " * 60)], ids=["line", "page"]
)
def test_a_near_copy_looks_alike(image: Image.Image, change: Callable[[Image.Image], Image.Image]) -> None:
    assert apart(visual_hash(image), visual_hash(change(image))) <= NEAR_IMAGE
    assert pixel_digest(image) != pixel_digest(change(image))


def test_other_lines_look_different() -> None:
    texts = [
        "The Surveyor reported",
        "on the harbour dues",
        "of the year 1893,",
        "which were found",
        "too low.",
    ]
    hashes = [visual_hash(line(text)) for text in texts]
    assert min(apart(left, right) for left, right in combinations(hashes, 2)) > NEAR_IMAGE


@pytest.mark.parametrize("folder", ["tapus_alto/lines", "pdx_zh/images", "cnocr_zh/images"])
def test_copies_of_real_lines_are_nearer_than_other_lines(shared: Path, folder: str) -> None:
    """pdx_zh has one texture under all lines: there a picture alone proves nothing, hence the quantiles."""
    data = shared / "data" / folder
    if not data.is_dir():
        pytest.skip(f"needs ../shared/data/{folder} (real lines), which is not here")
    images = [open_image(path) for path in sorted(data.glob("*.jpg"))[:40]]
    hashes = [visual_hash(image) for image in images]
    others = [apart(left, right) for left, right in combinations(hashes, 2)]
    for change in (recompress, noisy, lambda image: scaled(image, 0.8)):
        copies = [apart(known, visual_hash(change(image))) for known, image in zip(hashes, images, strict=True)]
        assert np.percentile(copies, 90) <= 10
        assert np.percentile(copies, 90) < np.percentile(others, 1) + 1


def test_plain_images_have_nothing_to_compare() -> None:
    for colour in ("white", "black", (200, 20, 3)):
        assert visual_hash(Image.new("RGB", (400, 64), colour)) == PLAIN
    assert visual_hash(noisy(Image.new("RGB", (1200, 1600), "grey"))) == PLAIN
    assert visual_hash(line("x" * 20)) != PLAIN


@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (3000, 1), (31, 33), (4000, 7)])
def test_any_size_can_be_hashed(size: tuple[int, int]) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    assert 0 <= visual_hash(image) < 2**64
    assert len(pixel_digest(image)) == 16


def test_the_same_pixels_in_other_files_have_one_digest() -> None:
    image = line("grey").convert("L")
    files = []
    for mode, kind in (("L", "PNG"), ("RGB", "PNG"), ("RGB", "BMP"), ("L", "TIFF")):
        stream = BytesIO()
        image.convert(mode).save(stream, kind)
        files.append(stream.getvalue())
    traits = [traits_of(data, open_image(data), "text") for data in files]
    assert len({item.pixel_digest for item in traits}) == 1
    assert len({item.image_digest for item in traits}) == len(files)
    assert pixel_digest(image) != pixel_digest(image.resize((image.height, image.width)))


def test_large_pictures_are_digested_in_strips_to_the_same_end() -> None:
    tall = Image.fromarray(np.random.default_rng(2).integers(0, 256, (3000, 1100), dtype=np.uint8))
    once = Image.fromarray(np.asarray(tall).copy())
    assert pixel_digest(tall) == pixel_digest(once)
    changed = np.asarray(tall).copy()
    changed[-1, -1] ^= 1
    assert pixel_digest(tall) != pixel_digest(Image.fromarray(changed))


def test_white_space_case_and_width_make_no_other_text() -> None:
    assert comparable("  Ｈello\tWORLD ①\n") == "helloworld1"
    digests = {
        traits_of(b"", None, text).text_digest for text in ("Hello World", "HELLO\nworld", "Ｈello world")
    }
    assert len(digests) == 1


def test_one_wrong_letter_is_near_and_another_number_is_not() -> None:
    text = "the harbour dues of the town were raised by the council in spring"
    known = text_hash(comparable(text))
    assert apart(known, text_hash(comparable(text.replace("dues", "duos")))) <= 10
    assert apart(known, text_hash(comparable("all other words stand in this sentence of the same length"))) > 20
    forms = [
        text_hash(comparable(f"Invoice number {number}, total {number * 7}.50")) for number in (1042, 1043)
    ]
    assert apart(*forms) > 10


def test_an_image_that_cannot_be_decoded_still_has_traits() -> None:
    traits = traits_of(b"broken", None, "some text")
    assert traits.visual_hash == PLAIN
    assert traits.pixel_digest == traits.image_digest
    assert traits.length == 9


@given(st.text(max_size=60))
def test_any_text_can_be_hashed(text: str) -> None:
    bare = comparable(text)
    assert 0 <= text_hash(bare) < 2**64
    assert text_hash(bare) == text_hash(comparable(f" {text}\n"))


def test_hashes_stay_what_they_are() -> None:
    """Builds keep them on disk and go on with them, maybe under another version of Python or numpy."""
    pattern = (np.indices((64, 400)).sum(axis=0) % 97 * 2).astype(np.uint8)
    assert text_hash("harbourdues") == 0x9B476D06513F1EFB
    assert pixel_digest(Image.fromarray(pattern)).hex() == "2e032c55212ca19caf92d45176e86888"
    assert apart(visual_hash(Image.fromarray(pattern)), 0xAA5000FF05AA0B00) <= 1  # sums of floats


def test_long_texts_are_hashed_in_parts() -> None:
    assert text_hash("a" * 40_000 + "b" * 40_000) != text_hash("a" * 80_000)
