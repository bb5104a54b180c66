"""Modes, tile grids, token counts and the pixels of views."""

import hashlib
import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from ocrsmith.images.open import open_image
from ocrsmith.images.resize import MODES, ImageViews, count_tokens, image_layout, make_views, tile_grid

GRIDS = json.loads(Path(__file__).with_name("grids.json").read_text(encoding="utf-8"))["cases"]
SIDES = st.integers(1, 6000)


def noise(width: int, height: int, channels: int = 3) -> Image.Image:
    values = np.random.default_rng(width * 7919 + height).integers(0, 256, (height, width, channels), np.uint8)
    return Image.fromarray(values if channels == 3 else values[..., 0])


def sha256(pixels: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(pixels)).hexdigest()


class TestGrid:
    @pytest.mark.parametrize("case", GRIDS, ids=lambda c: f"{c[0]}x{c[1]}-{c[2]}to{c[3]}")
    def test_worked_out_by_hand(self, case: list) -> None:
        width, height, fewest, most, columns, rows, reason = case
        assert tile_grid(width, height, min_tiles=fewest, max_tiles=most) == (columns, rows), reason

    @given(SIDES, SIDES, st.integers(2, 9))
    def test_no_allowed_grid_is_nearer_in_shape(self, width: int, height: int, most: int) -> None:
        columns, rows = tile_grid(width, height, max_tiles=most)
        if width <= 640 and height <= 640:
            assert (columns, rows) == (1, 1)
            return
        assert 2 <= columns * rows <= most
        shape = Fraction(width, height)
        allowed = [Fraction(c, r) for c in range(1, 10) for r in range(1, 10) if 2 <= c * r <= most]
        nearest = min(abs(shape - grid) for grid in allowed)
        assert float(abs(shape - Fraction(columns, rows)) - nearest) < 1e-9

    def test_reference_table(self, golden: Path) -> None:
        table = json.loads((golden / "preprocess.json").read_text(encoding="utf-8"))["grid_table"]
        assert len(table) == 326
        wrong = [row for row in table if tile_grid(row[0], row[1]) != (row[2], row[3])]
        assert wrong == []


class TestTokens:
    @pytest.mark.parametrize(
        ("mode", "tokens"),
        # side·(side + 1) + 1: a newline ends each row, a separator the image
        [("tiny", 8 * 9 + 1), ("small", 10 * 11 + 1), ("base", 16 * 17 + 1), ("large", 20 * 21 + 1)],
    )
    def test_of_modes_without_tiles(self, mode: str, tokens: int) -> None:
        assert count_tokens(*image_layout(3000, 2000, MODES[mode])) == tokens

    def test_of_tiles(self) -> None:
        # two columns and three rows of 10×10: thirty rows of 20 tokens and a newline, then the global view
        assert count_tokens(*image_layout(1240, 1754, MODES["gundam"])) == 30 * 21 + 273 == 903
        assert count_tokens(*image_layout(640, 640, MODES["gundam"])) == 273

    @settings(max_examples=15, deadline=None)
    @given(st.sampled_from(list(MODES)), st.integers(1, 1500), st.integers(1, 1500))
    def test_size_alone_foretells_the_views(self, mode: str, width: int, height: int) -> None:
        views = make_views(Image.new("L", (width, height)), MODES[mode])
        assert views.layout == image_layout(width, height, MODES[mode])
        assert views.num_tokens == count_tokens(*views.layout)
        assert len(views.tiles) == views.columns * views.rows


class TestPixels:
    def test_base_pads_with_grey_around_the_middle(self) -> None:
        view = make_views(Image.new("RGB", (200, 100), "white"), MODES["base"]).global_view
        assert view.shape == (1024, 1024, 3)
        assert view.dtype == np.uint8
        assert (view[:256] == 127).all()
        assert (view[256:768] == 255).all()
        assert (view[768:] == 127).all()

    def test_tiny_and_small_stretch(self) -> None:
        for mode, side in (("tiny", 512), ("small", 640)):
            view = make_views(Image.new("RGB", (30, 900), "white"), MODES[mode]).global_view
            assert view.shape == (side, side, 3)
            assert (view == 255).all()

    def test_tiles_come_row_by_row(self) -> None:
        values = np.zeros((1280, 1920, 3), np.uint8)
        for row in range(2):
            for column in range(3):
                values[row * 640 : row * 640 + 640, column * 640 : column * 640 + 640] = (row, column, 50)
        views = make_views(Image.fromarray(values), MODES["gundam"])
        assert (views.columns, views.rows) == (3, 2)
        places = [(row, column, 50) for row in range(2) for column in range(3)]
        assert [tuple(tile[320, 320].tolist()) for tile in views.tiles] == places
        assert views.tiles.flags.c_contiguous

    @settings(max_examples=12, deadline=None)
    @given(st.integers(3, 900), st.integers(3, 900))
    def test_padding_agrees_with_pillow(self, width: int, height: int) -> None:
        image = noise(width, height)
        expected = ImageOps.pad(image, (1024, 1024), Image.Resampling.BICUBIC, color=(127, 127, 127))
        view = make_views(image, MODES["base"]).global_view
        np.testing.assert_array_equal(view, np.asarray(expected))

    @pytest.mark.parametrize(("width", "height"), [(50, 40), (700, 300), (300, 1700), (1240, 1754), (2500, 90)])
    def test_grey_shortcut_changes_no_byte(self, width: int, height: int) -> None:
        grey = noise(width, height, channels=1)
        rgb = grey.convert("RGB")
        for mode in MODES.values():
            views, same = make_views(rgb, mode), make_views(grey, mode)
            np.testing.assert_array_equal(views.global_view, same.global_view)
            np.testing.assert_array_equal(views.tiles, same.tiles)
            if not mode.keep_aspect:  # the oracle: three channels through Pillow
                size = (mode.view_size, mode.view_size)
                np.testing.assert_array_equal(
                    views.global_view, np.asarray(rgb.resize(size, Image.Resampling.BICUBIC))
                )

    @pytest.mark.parametrize("place", [(0, 0), (20, 15), (39, 29)])
    @pytest.mark.parametrize("colour", [(201, 200, 200), (200, 201, 200), (200, 200, 201)])
    def test_one_coloured_pixel_is_not_lost(self, place: tuple[int, int], colour: tuple[int, int, int]) -> None:
        image = Image.new("RGB", (40, 30), (200, 200, 200))
        image.putpixel(place, colour)
        expected = np.asarray(image.resize((512, 512), Image.Resampling.BICUBIC))
        np.testing.assert_array_equal(make_views(image, MODES["tiny"]).global_view, expected)

    def test_other_colour_modes_are_refused(self) -> None:
        with pytest.raises(ValueError, match="RGBA"):
            make_views(Image.new("RGBA", (4, 4)), MODES["tiny"])


@pytest.mark.parametrize("mode", MODES)
class TestReference:
    def test_images(self, golden: Path, mode: str) -> None:
        reference = json.loads((golden / "preprocess.json").read_text(encoding="utf-8"))
        cases = [case for case in reference["cases"] if case["mode"] == mode]
        assert len(cases) == 20
        for case in cases:
            path = golden / "preprocess_images" / case["image"]
            image = open_image(path, alpha="drop")
            assert sha256(np.asarray(image)) == reference["images"][case["image"]]["rgb_sha256"], path.name
            views = make_views(image, MODES[mode])
            self.compare(case, views)
            grey = make_views(open_image(path, alpha="drop", keep_grey=True), MODES[mode])
            np.testing.assert_array_equal(grey.global_view, views.global_view)
            np.testing.assert_array_equal(grey.tiles, views.tiles)

    @staticmethod
    def compare(case: dict, views: ImageViews) -> None:
        name = f"{case['image']} {case['mode']}"
        assert (views.columns or 1, views.rows or 1) == (case["width_crop_num"], case["height_crop_num"]), name
        assert views.num_tokens == case["num_image_tokens"], name
        assert case["crops_present"] == (views.tile_size > 0), name
        assert [1, 3, views.view_size, views.view_size] == case["global_view_shape"], name
        expected = [case["global_view"], *case["tiles"]]
        for number, (want, got) in enumerate(zip(expected, [views.global_view, *views.tiles], strict=True)):
            known = {want["uint8_hwc_sha256"]}
            if "pillow_le_12" in want:
                known.add(want["pillow_le_12"]["uint8_hwc_sha256"])
            assert sha256(got) in known, f"{name}: {'tile ' + str(number - 1) if number else 'global view'}"

    def test_degenerate_sizes(self, golden: Path, mode: str) -> None:
        reference = json.loads((golden / "preprocess.json").read_text(encoding="utf-8"))
        sizes = [case["size"] for case in reference["degenerate_sizes"] if case["mode"] == mode]
        assert len(sizes) == 5
        for width, height in sizes:
            views = make_views(noise(width, height), MODES[mode])
            assert views.view_size == MODES[mode].view_size


def test_views_of_the_recorded_model_inputs(golden: Path) -> None:
    folder = golden / "tiny_inputs"
    image = open_image(folder / "source_1280x1920.png")
    recorded = {"tiny": "tiny512", "small": "small640", "large": "large1280", "base": "base1024"}
    recorded["gundam"] = recorded["base"]
    for mode, name in recorded.items():
        views = make_views(image, MODES[mode])
        np.testing.assert_array_equal(views.global_view, np.asarray(Image.open(folder / f"view_{name}.png")))
    assert (views.columns, views.rows) == (2, 3)
    for number, tile in enumerate(views.tiles):
        np.testing.assert_array_equal(tile, np.asarray(Image.open(folder / f"tile_{number}.png")))
