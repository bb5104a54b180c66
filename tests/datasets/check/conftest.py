"""Datasets with rendered lines, and with whatever is to be found in them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image, ImageDraw, ImageFont

from ocrsmith.datasets.schema import to_batch
from ocrsmith.records import PageSample, SplitName

Render = Callable[..., bytes]
Write = Callable[..., Path]


def draw(text: str, size: int = 24, *, margin: int = 8, ink: int = 0, paper: int = 255) -> Image.Image:
    """A line of text (several with line breaks) in Pillow's own font."""
    font = ImageFont.load_default(size)
    box = ImageDraw.Draw(Image.new("L", (1, 1))).multiline_textbbox((margin, margin), text, font=font)
    image = Image.new("L", (round(box[2]) + margin, round(box[3]) + margin), paper)
    ImageDraw.Draw(image).multiline_text((margin, margin), text, font=font, fill=ink)
    return image


def cap_height(size: int) -> int:
    """Pixels of an H in Pillow's own font."""
    box = ImageFont.load_default(size).getbbox("H", anchor="ls")
    return round(box[3] - box[1])


def encoded(image: Image.Image, kind: str = "PNG") -> bytes:
    """The bytes of an image file."""
    stream = BytesIO()
    image.save(stream, kind)
    return stream.getvalue()


@pytest.fixture(scope="session")
def line() -> Render:
    """Renders a line to PNG bytes; different arguments, different bytes."""

    def render(text: str, size: int = 24) -> bytes:
        return encoded(draw(text, size))

    return render


@pytest.fixture
def dataset(tmp_path: Path) -> Write:
    """Writes samples as another program might: Parquet files by split, no manifest."""

    def write(name: str = "set", **splits: Sequence[PageSample]) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        for split, samples in splits.items():
            table = pa.Table.from_batches([to_batch(samples)])
            pq.write_table(table, folder / f"{split}.parquet")
        return folder

    return write


def sample(number: int | str, image: bytes, text: str) -> PageSample:
    """A sample with the id `s<number>`."""
    return PageSample(id=f"s{number}", image=image, image_path=f"{number}.png", text=text)


SPLITS: tuple[SplitName, ...] = ("train", "val", "test")
WORDS = (
    "The surveyor reported on the harbour dues",
    "Present: Mr Bellamy, Dr Rawlins and others",
    "Received of Kershaw eight photographs, framed",
    "Commande No 4016 chez Mercier, Vieux-Moulin",
    "The ferry leaves at seven and does not wait",
    "She folded the map along its oldest crease",
    "Nine boxes of receipts from Westgate, opened",
    "Registered under the seal of the county office",
)
