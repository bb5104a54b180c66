"""Images of lines that cost what scans cost, with texts and a content.md: the input of `benchmarks.data`."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

HEIGHT = 64
WIDTHS = (400, 1000)
FOLDER_IMAGES = 5000
_CHUNK = 500
_NOISE = 4096


def write_source(folder: Path, count: int, *, processes: int = 2) -> Path:
    """Writes `count` images, every other one PNG and JPEG, and a content.md that lists them; gives that file.

    Widths are 400 to 999 pixels, all the same with the same number. No two images are alike.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(processes) as pool:
        chunks = pool.map(partial(_write_chunk, folder, count), range(0, count, _CHUNK))
        with (folder / "content.md").open("w", encoding="utf-8") as file:
            file.writelines(chunks)
    return folder / "content.md"


def draw(number: int) -> Image.Image:
    """(64, W) strokes on paper with noise, as RGB with three equal channels."""
    random = np.random.default_rng(number)
    width = int(random.integers(*WIDTHS))
    pixels = np.full((HEIGHT, width), 245, np.int16)
    left = 8
    while left < width - 24:
        stroke, height = int(random.integers(2, 9)), int(random.integers(HEIGHT // 4, HEIGHT // 2))
        top = HEIGHT // 4 + int(random.integers(0, HEIGHT // 8 + 1))
        pixels[top : top + height, left : left + stroke] = random.integers(10, 90)
        left += stroke + int(random.integers(2, 10))
    start = int(random.integers(0, _NOISE))
    pixels += _noise()[:, start : start + width]
    grey = pixels.clip(0, 255).astype(np.uint8)
    return Image.fromarray(np.stack([grey] * 3, axis=-1))


def text_of(number: int) -> str:
    """Words of random letters, 20 to 80 characters."""
    random = np.random.default_rng(number + 10_000_019)
    lengths = random.integers(2, 9, int(random.integers(4, 9)))
    return " ".join("".join(chr(97 + code) for code in random.integers(0, 26, length)) for length in lengths)


@cache
def _noise() -> np.ndarray:
    return np.random.default_rng(0).normal(0, 1.5, (HEIGHT, _NOISE + WIDTHS[1])).astype(np.int16)


def _write_chunk(folder: Path, count: int, start: int) -> str:
    lines = []
    for number in range(start, min(count, start + _CHUNK)):
        kind, suffix = ("PNG", "png") if number % 2 else ("JPEG", "jpg")
        name = f"images/{number // FOLDER_IMAGES:03d}/{number:07d}.{suffix}"
        stream = BytesIO()
        draw(number).save(stream, kind, **({"compress_level": 3} if number % 2 else {"quality": 90}))
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(stream.getvalue())
        lines.append(f"{name}\t{text_of(number)}\n")
    return "".join(lines)
