"""Opening real files of every kind: the pixels are those that a person would see."""

from io import BytesIO
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from ocrsmith.images.open import flatten_image, open_image

ORIENTATION = 0x0112


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def pixel(data: bytes, **options) -> tuple[int, ...]:
    return open_image(data, **options).getpixel((0, 0))


def numbered(width: int, height: int) -> np.ndarray:
    """(H, W) with a different value at each place."""
    return np.arange(width * height, dtype=np.uint8).reshape(height, width)


class TestSources:
    def test_path_bytes_and_stream_give_the_same(self, tmp_path: Path) -> None:
        data = encoded(Image.fromarray(numbered(5, 4)))
        path = tmp_path / "页 1.png"
        path.write_bytes(data)
        with path.open("rb") as stream:
            images = [open_image(s) for s in (path, str(path), data, bytearray(data), stream)]
        assert {image.tobytes() for image in images} == {images[0].tobytes()}
        assert {image.mode for image in images} == {"RGB"}

    def test_image_outlives_its_file(self, tmp_path: Path) -> None:
        path = tmp_path / "page.tif"
        Image.fromarray(numbered(6, 3)).save(path)
        image = open_image(path)
        path.unlink()
        assert image.resize((3, 3)).size == (3, 3)

    @pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP", "GIF", "PPM", "WEBP"])
    def test_lossless_formats_keep_every_pixel(self, kind: str) -> None:
        values = numbered(7, 5)
        options = {"lossless": True} if kind == "WEBP" else {}
        image = open_image(encoded(Image.fromarray(values).convert("RGB"), kind, **options))
        np.testing.assert_array_equal(np.asarray(image)[..., 1], values)

    def test_first_frame_of_several(self) -> None:
        frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
        assert pixel(encoded(frames[0], "TIFF", save_all=True, append_images=frames[1:])) == (255, 0, 0)


class TestColours:
    def test_grey(self) -> None:
        data = encoded(Image.new("L", (3, 2), 77))
        assert pixel(data) == (77, 77, 77)
        assert open_image(data, keep_grey=True).mode == "L"

    def test_bilevel(self) -> None:
        values = np.array([[True, False], [False, True]])
        image = open_image(encoded(Image.fromarray(values)))
        np.testing.assert_array_equal(np.asarray(image)[..., 0], values * 255)

    def test_palette(self) -> None:
        image = Image.new("P", (2, 2), 1)
        image.putpalette([0, 0, 0, 10, 20, 30])
        assert pixel(encoded(image)) == (10, 20, 30)

    def test_cmyk(self) -> None:
        # Ink: no cyan, full magenta and yellow, no black: red.
        assert pixel(encoded(Image.new("CMYK", (2, 2), (0, 255, 255, 0)), "TIFF")) == (255, 0, 0)

    def test_sixteen_bit_grey_keeps_the_high_byte(self) -> None:
        values = np.array([[0, 255, 256, 0x7FFF, 0x8000, 0xFFFF]], np.uint16)
        for kind in ("PNG", "TIFF"):
            image = open_image(encoded(Image.fromarray(values), kind))
            assert np.asarray(image)[0, :, 0].tolist() == [0, 0, 1, 127, 128, 255]

    def test_lab(self) -> None:
        shades = [Image.new("LAB", (2, 2), (lightness, 128, 128)) for lightness in (0, 255)]
        assert [pixel(encoded(shade, "TIFF"))[0] for shade in shades] == pytest.approx([0, 255], abs=2)

    def test_sixteen_bit_ppm(self) -> None:
        data = b"P5 2 1 65535\n" + bytes([0xFF, 0xFF, 0x40, 0x00])
        assert np.asarray(open_image(data))[0, :, 0].tolist() == [255, 64]

    @pytest.mark.parametrize(
        ("values", "expected"),
        [
            ([0, 100, 255], [0, 100, 255]),
            ([0, 256, 65535], [0, 1, 255]),
            ([-5, 500_000, 1_000_000], [0, 127, 255]),
        ],
    )
    def test_thirty_two_bit_integers(self, values: list[int], expected: list[int]) -> None:
        image = open_image(encoded(Image.fromarray(np.array([values], np.int32)), "TIFF"))
        assert np.asarray(image)[0, :, 0].tolist() == expected

    @pytest.mark.parametrize(
        ("values", "expected"), [([0, 0.5, 1], [0, 127, 255]), ([0, 128, float("nan")], [0, 128, 0])]
    )
    def test_floats(self, values: list[float], expected: list[int]) -> None:
        image = open_image(encoded(Image.fromarray(np.array([values], np.float32)), "TIFF"))
        assert np.asarray(image)[0, :, 0].tolist() == expected


class TestTransparency:
    # On white paper a colour c with opacity a shows as c·a + 255·(1 - a); a = 51/255 = 0.2.
    def test_colour(self) -> None:
        data = encoded(Image.new("RGBA", (2, 2), (100, 0, 255, 51)))
        assert pixel(data) == (224, 204, 255)
        assert pixel(data, alpha="drop") == (100, 0, 255)

    def test_invisible_is_white(self) -> None:
        assert pixel(encoded(Image.new("RGBA", (2, 2), (0, 0, 0, 0)))) == (255, 255, 255)

    def test_grey(self) -> None:
        data = encoded(Image.new("LA", (2, 2), (100, 51)))
        assert pixel(data) == (224, 224, 224)
        assert pixel(data, alpha="drop") == (100, 100, 100)
        assert open_image(data, keep_grey=True).getpixel((0, 0)) == 224

    @pytest.mark.parametrize("kind", ["PNG", "GIF"])
    def test_palette(self, kind: str) -> None:
        image = Image.new("P", (2, 1), 0)
        image.putpalette([10, 20, 30, 200, 0, 0])
        image.putpixel((1, 0), 1)
        data = encoded(image, kind, transparency=0)
        shown = open_image(data)
        assert [shown.getpixel((x, 0)) for x in (0, 1)] == [(255, 255, 255), (200, 0, 0)]
        assert pixel(data, alpha="drop") == (10, 20, 30)

    def test_palette_with_partial_transparency(self) -> None:
        image = Image.new("P", (1, 1), 1)
        image.putpalette([0, 0, 0, 100, 0, 255])
        data = encoded(image, transparency=bytes([255, 51]))
        assert pixel(data) == (224, 204, 255)
        assert pixel(data, alpha="drop") == (100, 0, 255)

    @pytest.mark.parametrize(("mode", "key"), [("RGB", (1, 2, 3)), ("L", 9)])
    def test_one_transparent_colour(self, mode: str, key) -> None:
        data = encoded(Image.new(mode, (2, 2), key), transparency=key)
        assert pixel(data) == (255, 255, 255)
        assert pixel(data, alpha="drop") == (key if mode == "RGB" else (9, 9, 9))


class TestOrientation:
    # What a viewer does with each EXIF orientation, in numpy: the stored array becomes the shown one.
    SHOWN: ClassVar = {
        1: lambda a: a,
        2: np.fliplr,
        3: lambda a: np.rot90(a, 2),
        4: np.flipud,
        5: np.transpose,
        6: lambda a: np.rot90(a, -1),
        7: lambda a: np.rot90(a, 2).T,
        8: lambda a: np.rot90(a, 1),
    }

    @staticmethod
    def with_orientation(values: np.ndarray, orientation: int) -> bytes:
        exif = Image.Exif()
        exif[ORIENTATION] = orientation
        return encoded(Image.fromarray(values), exif=exif)

    @pytest.mark.parametrize("orientation", SHOWN)
    def test_is_applied_once(self, orientation: int) -> None:
        stored = numbered(4, 3)
        image = open_image(self.with_orientation(stored, orientation))
        np.testing.assert_array_equal(np.asarray(image)[..., 0], self.SHOWN[orientation](stored))
        np.testing.assert_array_equal(np.asarray(flatten_image(image)), np.asarray(image))

    def test_unknown_value_is_ignored(self) -> None:
        assert open_image(self.with_orientation(numbered(4, 3), 9)).size == (4, 3)

    @pytest.mark.filterwarnings("ignore::UserWarning:PIL")
    def test_damaged_exif_leaves_the_picture_readable(self) -> None:
        data = encoded(Image.fromarray(numbered(4, 3)), "JPEG", exif=b"Exif\x00\x00MM\x00*\xff\xff\xff\xff")
        assert open_image(data).size == (4, 3)


def test_flatten_does_not_change_its_argument() -> None:
    image = Image.new("P", (2, 2), 0)
    image.putpalette([10, 20, 30])
    image.info["transparency"] = 0
    flatten_image(image, alpha="drop")
    assert image.mode == "P"
    assert image.info["transparency"] == 0


def test_large_text_chunk_is_no_obstacle_to_a_page() -> None:
    notes = PngImagePlugin.PngInfo()
    notes.add_text("software", "scanner " * 1000, zip=True)
    assert pixel(encoded(Image.new("L", (2, 2), 5), pnginfo=notes)) == (5, 5, 5)
