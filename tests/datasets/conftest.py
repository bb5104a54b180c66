"""Small sources made on the spot."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ImageMaker = Callable[..., bytes]
SourceMaker = Callable[..., Path]


@pytest.fixture(scope="session")
def png() -> ImageMaker:
    """Makes an encoded image of black and white blocks; another `shade`, another picture."""

    def make(width: int = 40, height: int = 20, shade: int = 0, kind: str = "PNG") -> bytes:
        blocks = np.random.default_rng(shade).integers(0, 2, (4, 16), dtype=np.uint8) * 200 + 20
        image = Image.fromarray(blocks).resize((width, height), Image.Resampling.NEAREST).convert("RGB")
        stream = BytesIO()
        image.save(stream, kind)
        return stream.getvalue()

    return make


@pytest.fixture
def content(tmp_path: Path, png: ImageMaker) -> SourceMaker:
    """Writes `count` images and a content.md that lists them; gives the file."""

    def make(count: int, folder: str = "source", name: Callable[[int], str] | None = None) -> Path:
        root = tmp_path / folder
        lines = []
        for number in range(count):
            path = name(number) if name else f"images/{number:04d}.png"
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_bytes(png(shade=number))
            lines.append(f"{path}\ttext of image {number}")
        file = root / "content.md"
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return file

    return make
