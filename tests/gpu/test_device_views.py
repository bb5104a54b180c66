"""Resizing on a GPU gives Pillow's bytes, by the Triton kernel and by plain tensor operations."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from ocrsmith.images.resize import MODES, make_views
from ocrsmith.model import kernels
from ocrsmith.model.device_views import RawImages, raw_image

pytestmark = pytest.mark.gpu

SIZES = [(1240, 1754), (400, 64), (2480, 3508), (3, 1200), (1, 1), (777, 31), (60, 2000), (640, 640)]


@pytest.mark.parametrize("triton", [True, False])
@pytest.mark.parametrize("name", MODES)
@pytest.mark.parametrize("channels", [1, 3])
def test_the_bytes_are_pillows(name: str, channels: int, triton: bool) -> None:
    generator = np.random.default_rng(0)
    images = []
    for width, height in SIZES:
        values = generator.integers(0, 256, (height, width, channels), np.uint8)
        images.append(Image.fromarray(values if channels == 3 else values[..., 0]))
    mode = MODES[name]
    raw = RawImages.of([raw_image(image, mode) for image in images]).pin_memory()
    with kernels.using(triton=triton):
        made = raw.views("cuda")
    torch.cuda.synchronize()
    whole = [make_views(image, mode) for image in images]
    expected: dict[int, list[np.ndarray]] = {}
    for views in whole:
        if views.tile_size:
            expected.setdefault(views.tile_size, []).append(views.tiles)
        expected.setdefault(views.view_size, []).append(views.global_view[None])
    assert made.keys() == expected.keys()
    for side, batch in made.items():
        np.testing.assert_array_equal(batch.cpu().numpy(), np.concatenate(expected[side]))
