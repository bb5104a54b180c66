"""Views made by integer arithmetic on tensors: the same bytes as Pillow's, for every size and mode."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ocrsmith.errors import ImageError
from ocrsmith.images.open import open_image
from ocrsmith.images.resize import MODES, image_layout, make_views
from ocrsmith.model.device_views import (
    RawImages,
    make_device_views,
    pass_order,
    raw_image,
    resampling_taps,
    resize,
)

from ..images.test_resize import noise

SIDES = st.one_of(st.integers(1, 40), st.integers(1, 900))


def by_pillow(image: Image.Image, width: int, height: int) -> np.ndarray:
    pixels = np.asarray(image.resize((width, height), Image.Resampling.BICUBIC))
    return pixels.reshape(height, width, -1)


def tensor_of(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(image)).view(image.height, image.width, -1)


class TestResize:
    @settings(max_examples=150)
    @given(SIDES, SIDES, SIDES, SIDES, st.sampled_from([1, 3]))
    def test_it_is_pillows(self, before_w: int, before_h: int, width: int, height: int, channels: int) -> None:
        image = noise(before_w, before_h, channels)
        np.testing.assert_array_equal(
            resize(tensor_of(image), width, height).numpy(), by_pillow(image, width, height)
        )

    @pytest.mark.parametrize(
        ("before", "after"),
        [
            ((1240, 1754), (1280, 1920)),  # a page: its tiles, and its global view
            ((1240, 1754), (724, 1024)),
            ((400, 64), (1024, 164)),  # a line
            ((2000, 60), (3200, 640)),
            ((700, 1000), (700, 300)),  # one pass only
            ((700, 1000), (300, 1000)),
            ((300, 200), (300, 200)),  # none
            ((3, 1200), (640, 90)),  # passes change places
            ((1, 1), (512, 512)),
            ((4000, 1), (7, 600)),
        ],
    )
    def test_sizes_of_pages_and_lines(self, before: tuple[int, int], after: tuple[int, int]) -> None:
        for channels in (1, 3):
            image = noise(*before, channels)
            np.testing.assert_array_equal(resize(tensor_of(image), *after).numpy(), by_pillow(image, *after))

    @pytest.mark.parametrize("values", [(0, 255), (0, 0), (255, 255)])
    def test_clipping(self, values: tuple[int, int]) -> None:
        """Black and white in chequers over- and undershoot the most."""
        board = np.indices((50, 70)).sum(0) // 3 % 2
        image = Image.fromarray(np.where(board, values[1], values[0]).astype(np.uint8))
        for size in ((211, 333), (33, 17), (71, 49)):
            np.testing.assert_array_equal(resize(tensor_of(image), *size).numpy(), by_pillow(image, *size))

    @given(SIDES, SIDES)
    @settings(max_examples=60)
    def test_weights_sum_to_one_and_stay_inside(self, before: int, after: int) -> None:
        first, weights = resampling_taps(before, after)
        assert (np.abs(weights.sum(0) - (1 << 22)) <= len(weights)).all()
        assert (first >= 0).all()
        reach = np.where(weights != 0, np.arange(len(weights))[:, None] + first, 0)
        assert reach.max() < before

    def test_the_order_of_passes_is_found_by_trying(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Each generation of Pillow is known by what it does, not by its version."""
        found = pass_order()
        real = Image.Image.resize
        for order in ("across first", "down first where it shrinks most"):
            monkeypatch.setattr(
                Image.Image,
                "resize",
                lambda self, size, _, order=order: Image.fromarray(
                    resize(tensor_of(self), *size, order=order)[..., 0].numpy()
                ),
            )
            pass_order.cache_clear()
            assert pass_order() == order
        monkeypatch.setattr(
            Image.Image, "resize", lambda self, size, _: real(self, size, Image.Resampling.LANCZOS)
        )
        pass_order.cache_clear()
        with pytest.raises(ImageError, match="cannot be repeated on a GPU"):
            pass_order()
        monkeypatch.undo()
        pass_order.cache_clear()
        assert pass_order() == found


class TestViews:
    @settings(max_examples=25)
    @given(st.sampled_from(list(MODES)), st.integers(1, 1500), st.integers(1, 1500), st.sampled_from([1, 3]))
    def test_they_are_those_of_the_host(self, name: str, width: int, height: int, channels: int) -> None:
        image, mode = noise(width, height, channels), MODES[name]
        views = make_views(image, mode)
        layout = image_layout(width, height, mode)
        global_view, tiles = make_device_views(tensor_of(image), layout, mode.keep_aspect)
        np.testing.assert_array_equal(global_view.numpy(), views.global_view)
        if views.tile_size:
            np.testing.assert_array_equal(tiles.numpy(), views.tiles)
        else:
            assert tiles.shape == views.tiles.shape

    @pytest.mark.parametrize("mode", MODES)
    def test_reference_images(self, golden: Path, mode: str) -> None:
        """The views of the host have the recorded checksums (tests/images); these are the same."""
        reference = json.loads((golden / "preprocess.json").read_text(encoding="utf-8"))
        cases = [case for case in reference["cases"] if case["mode"] == mode]
        assert len(cases) == 20
        for case in cases:
            image = open_image(golden / "preprocess_images" / case["image"], alpha="drop", keep_grey=True)
            views, raw = make_views(image, MODES[mode]), raw_image(image, MODES[mode])
            assert (raw.layout, raw.num_tokens) == (views.layout, case["num_image_tokens"])
            global_view, tiles = make_device_views(
                torch.from_numpy(np.array(raw.pixels)), raw.layout, raw.keep_aspect
            )
            np.testing.assert_array_equal(global_view.numpy(), views.global_view, err_msg=case["image"])
            np.testing.assert_array_equal(tiles.numpy(), views.tiles, err_msg=case["image"])

    def test_batches_of_mixed_modes_come_as_collate_stacks_them(self) -> None:
        images = [noise(900, 700), noise(90, 60, 1), noise(600, 1900, 1), noise(700, 800)]
        modes = [MODES[name] for name in ("small", "gundam", "gundam", "small")]
        raw = RawImages.of([raw_image(image, mode) for image, mode in zip(images, modes, strict=True)])
        whole = [make_views(image, mode) for image, mode in zip(images, modes, strict=True)]
        expected: dict[int, list[np.ndarray]] = {}
        for views in whole:
            if views.tile_size:
                expected.setdefault(views.tile_size, []).append(views.tiles)
            expected.setdefault(views.view_size, []).append(views.global_view[None])
        made = raw.views()
        assert {side: len(views) for side, views in made.items()} == {640: 5, 1024: 2}
        for side, views in made.items():
            np.testing.assert_array_equal(views.numpy(), np.concatenate(expected[side]))
        part = raw[1:3].views("cpu")
        np.testing.assert_array_equal(part[1024].numpy(), np.stack([v.global_view for v in whole[1:3]]))
        assert len(raw[1:3]) == 2

    def test_other_colour_modes_are_refused(self) -> None:
        with pytest.raises(ValueError, match="RGBA"):
            raw_image(Image.new("RGBA", (4, 4)), MODES["tiny"])


KERNEL = """
import torch
from ocrsmith.model.device_views import _resample_plain, _taps_on
from ocrsmith.model.resample_triton import resample_triton
generator = torch.Generator().manual_seed(0)
shapes = ((3, 50, 3, 70), (1, 90, 41, 37), (5, 7, 1, 300), (1, 300, 2, 1), (2, 1, 3, 5))
for rows, before, inner, after in shapes:
    pixels = torch.randint(0, 256, (rows, before, inner), dtype=torch.uint8, generator=generator)
    first, weights = _taps_on(before, after, pixels.device)
    assert torch.equal(resample_triton(pixels, first, weights, 22), _resample_plain(pixels, first, weights))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="Triton has packages for Linux alone")
def test_the_gpu_kernel_is_the_plain_pass() -> None:
    """Run by Triton's interpreter; on a GPU see tests/gpu."""
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    result = subprocess.run([sys.executable, "-c", KERNEL], capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stderr
