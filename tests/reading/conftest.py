"""Documents to read, and an engine that says what it got."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw, ImageFont

from ocrsmith.engines.base import PageRequest, ReadProgress
from ocrsmith.reading import pdf
from ocrsmith.records import Prediction

from ..datasets.pdf.pdf_files import Document, Page, show

Answer = Callable[[Image.Image], dict[str, Any]]
LINES = ("Total 1234", "The bridge fell", "Invoice 77")


class StandIn:
    """An engine that answers each page with its width in pixels, or as it is told."""

    name = "stand-in"

    def __init__(self, answer: Answer | None = None, **described: Any) -> None:
        self.answer = answer or (lambda image: {"text": f"width {image.width}"})
        self.described = described
        self.calls: list[int] = []
        self.widths: list[int] = []

    def describe(self) -> dict[str, Any]:
        return {"model": "none", **self.described, "runtime": {"batch_size": 1}}

    def read(
        self, requests: Sequence[PageRequest], *, progress: ReadProgress | None = None
    ) -> Iterator[Prediction]:
        self.calls.append(len(requests))
        for request in reversed(requests):
            image = Image.open(BytesIO(request.image))
            self.widths.append(image.width)
            values = {"finish_reason": "stop", "seconds": 0.5, **self.answer(image)}
            yield Prediction(id=request.id, **values)


def line_image(text: str, width: int = 420) -> Image.Image:
    """A line as a page, which the nano model reads without error."""
    image = Image.new("L", (width, 48), 255)
    ImageDraw.Draw(image).text((8, 6), text, font=ImageFont.load_default(28), fill=0)
    return image


def write_png(path: Path, width: int = 100) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (width, 20), 255).save(path)
    return path


def write_tiff(path: Path, images: Sequence[Image.Image]) -> Path:
    images[0].save(path, save_all=True, append_images=list(images[1:]))
    return path


def write_pdf(path: Path, lines: Sequence[str] = LINES) -> Path:
    """A page a line, 300 × 40 points; the first is 300 wide, each further one 10 wider."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pages = [Page(show(line, x=10, y=12, size=24), size=(300 + 10 * n, 40)) for n, line in enumerate(lines)]
    path.write_bytes(Document(pages).encode())
    return path


@pytest.fixture(autouse=True)
def one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Documents of a few pages are drawn soonest by one process."""
    monkeypatch.setattr(pdf, "_WORKERS", 1)


@pytest.fixture(scope="session")
def nano() -> Any:
    """The bundled model, loaded once."""
    from ocrsmith.engines.native import NativeEngine

    return NativeEngine.load("nano", device="cpu", max_new_tokens=64)
