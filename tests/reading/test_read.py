"""Streams of pages through an engine: each exactly once, and few in memory at a time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from io import BytesIO

import pytest
from PIL import Image

from ocrsmith.errors import OcrsmithError
from ocrsmith.reading.read import Window, read_pages
from ocrsmith.reading.sources import BrokenPage, Item, PageImage

from .conftest import StandIn


class Counted(bytes):
    """An image file that counts how many of its kind are alive."""

    alive = most = 0

    def __init__(self, *_: object) -> None:
        Counted.alive += 1
        Counted.most = max(Counted.most, Counted.alive)

    def __del__(self) -> None:
        Counted.alive -= 1


def page(number: int) -> PageImage:
    buffer = BytesIO()
    Image.new("L", (number, 10), 255).save(buffer, "PNG")
    return PageImage(0, number, number, 10, None, Counted(buffer.getvalue()))


def test_a_long_document_is_never_in_memory_as_a_whole() -> None:
    Counted.alive = Counted.most = 0
    window = Window(first=2, pages=8)
    engine = StandIn()
    count = 0
    for reading in read_pages(engine, (page(number) for number in range(1, 301)), window=window):
        assert reading.prediction.text == f"width {reading.number}"
        count += 1
    assert count == 300
    assert engine.calls[:4] == [2, 4, 8, 8]
    assert Counted.most <= 2 * window.pages + 1
    assert Counted.alive <= 1


def test_large_pages_make_small_windows() -> None:
    engine = StandIn()
    size = len(page(10).data)
    readings = list(
        read_pages(engine, (page(10) for _ in range(9)), window=Window(first=8, pages=8, size=2 * size))
    )
    assert len(readings) == 9
    assert engine.calls == [2, 2, 2, 2, 1]


def test_pages_that_cannot_be_opened_are_among_the_others() -> None:
    items: list[Item] = [page(1), BrokenPage(0, 2, "It is\ndamaged."), page(3)]
    readings = {item.number: item for item in read_pages(StandIn(), iter(items))}
    assert readings[2].prediction.error == "It is damaged."
    assert (readings[3].prediction.text, readings[3].width) == ("width 3", 3)


def test_a_page_that_the_engine_forgets_is_an_error() -> None:
    class Forgetful(StandIn):
        def read(self, requests, *, progress=None):  # type: ignore[no-untyped-def]
            yield from list(super().read(requests))[1:]

    readings = list(read_pages(Forgetful(), (page(number) for number in (1, 2, 3))))
    assert [item.number for item in readings if item.prediction.error] == [3]


def test_trouble_with_the_engine_or_the_pages_ends_the_reading() -> None:
    class Down(StandIn):
        def read(self, requests, *, progress=None):  # type: ignore[no-untyped-def]
            raise OcrsmithError("The server is gone.")

    def pages() -> Iterator[Item]:
        yield page(1)
        raise OcrsmithError("The disk is gone.")

    with pytest.raises(OcrsmithError, match="server"):
        list(read_pages(Down(), (page(1) for _ in range(1000))))
    with pytest.raises(OcrsmithError, match="disk"):
        list(read_pages(StandIn(), pages()))


def test_who_stops_listening_leaves_no_thread_behind() -> None:
    before = threading.active_count()
    readings = read_pages(StandIn(), (page(1) for _ in range(10_000)), window=Window(first=1, pages=2))
    next(readings)
    readings.close()
    assert threading.active_count() == before


def test_the_prompt_goes_with_every_page() -> None:
    seen = []

    class Listening(StandIn):
        def read(self, requests, *, progress=None):  # type: ignore[no-untyped-def]
            seen.extend(request.prompt for request in requests)
            yield from super().read(requests)

    list(read_pages(Listening(), iter([page(1), page(2)]), prompt="<image>\nRead."))
    assert seen == ["<image>\nRead."] * 2
