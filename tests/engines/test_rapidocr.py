"""The engine `rapidocr` with the package's own models, and the reading order of what it finds."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from ocrsmith.engines.base import Engine, PageRequest
from ocrsmith.engines.rapidocr import RapidOcrEngine, in_reading_order


def drawn(*lines: str) -> bytes:
    image = Image.new("RGB", (320, 200), "white")
    for number, line in enumerate(lines):
        ImageDraw.Draw(image).text((20, 10 + 70 * number), line, "black", ImageFont.load_default(40))
    buffer = BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def engine() -> Iterator[RapidOcrEngine]:
    """Opened and used without a network."""
    with pytest.MonkeyPatch.context() as patch:

        def refuse(*_: Any) -> None:
            raise AssertionError("no network here")

        patch.setattr(socket.socket, "connect", refuse)
        patch.setattr(socket, "getaddrinfo", refuse)
        yield RapidOcrEngine.load(threads=1)


def test_lines_are_read_in_order(engine: RapidOcrEngine) -> None:
    assert isinstance(engine, Engine)
    seen: list[int] = []
    requests = [PageRequest("two", drawn("Reading pages", "Year 1984")), PageRequest("none", drawn(""))]
    two, none = engine.read(requests, progress=seen.append)
    assert (two.text, two.finish_reason) == ("Reading pages\nYear 1984", "stop")
    assert (none.text, none.finish_reason) == ("", "stop")
    assert seen == [1, 1]


def test_all_that_decides_the_answers_is_described(engine: RapidOcrEngine) -> None:
    told = engine.describe()
    assert set(told["models"]) == {"det", "cls", "rec"}
    assert all(model["hash"].startswith("sha256:") for model in told["models"].values())
    assert told["versions"]["rapidocr"]
    assert set(told["not_honoured"]) == {"prompt", "processing", "decoding"}
    assert told["runtime"] == {"threads": 1}
    json.dumps(told)


def box(left: float, top: float, width: float = 50, height: float = 20, lean: float = 0) -> np.ndarray:
    """Corners, the right side lower by `lean`."""
    right, bottom = left + width, top + height
    return np.array([[left, top], [right, top + lean], [right, bottom + lean], [left, bottom]])


@pytest.mark.parametrize(
    ("boxes", "texts", "expected"),
    [
        ([], [], ""),
        ([box(0, 50), box(0, 0)], ["second", "first"], "first\nsecond"),
        ([box(100, 2), box(0, 0)], ["right", "left"], "left right"),
        ([box(0, 0), box(100, 4), box(200, 8), box(0, 30)], ["a", "b", "c", "d"], "a b c\nd"),
        ([box(0, 0, lean=8), box(60, 6)], ["a", "b"], "a b"),
        ([box(0, 0), box(100, 0)], ["中文", "字"], "中文字"),
        ([box(0, 0), box(100, 0)], ["中文", "No. 1"], "中文 No. 1"),
        ([box(0, 0), box(100, 0)], ["دنیا", "سلام"], "سلام دنیا"),
        ([box(0, 0), box(100, 0)], [" ", "text"], "text"),
        ([box(0, 0), box(0, 18), box(100, 18)], ["a", "b", "c"], "a\nb c"),
    ],
)
def test_reading_order(boxes: list[np.ndarray], texts: list[str], expected: str) -> None:
    assert in_reading_order(boxes, texts).split() == expected.split()
    for order in (list(range(len(boxes))), list(reversed(range(len(boxes))))):
        assert in_reading_order([boxes[n] for n in order], [texts[n] for n in order]) == expected
