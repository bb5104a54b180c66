"""Lets an engine read a stream of pages, of which only so many are in memory at a time."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from ocrsmith.engines.base import Engine, PageRequest, failed
from ocrsmith.reading.readings import PageReading
from ocrsmith.reading.sources import BrokenPage, Item, PageImage
from ocrsmith.records import Prediction


@dataclass(frozen=True, slots=True)
class Window:
    """How many pages an engine gets at a time. While it reads them, the next ones are opened: twice as many
    are in memory, never more."""

    first: int = 8
    """The first window is small, so that reading begins soon; each one after it is twice as large."""
    pages: int = 128
    size: int = 128 << 20
    """Bytes of encoded images."""


def read_pages(
    engine: Engine, items: Iterator[Item], *, prompt: str | None = None, window: Window | None = None
) -> Generator[PageReading, None, None]:
    """Reads all pages; gives each as soon as it is read, in order only from window to window.

    Args:
        engine: reads them.
        items: the pages, taken in a thread of its own while the engine reads the ones before.
        prompt: None takes the engine's.
        window: how many at a time.

    Raises:
        OcrsmithError: the engine cannot go on: trouble that is not one page's.
    """
    stop = threading.Event()
    windows = _windows(items, window or Window(), stop)
    with ThreadPoolExecutor(1, thread_name_prefix="pages") as thread:
        try:
            coming = thread.submit(next, windows, None)
            while (pages := coming.result()) is not None:
                coming = thread.submit(next, windows, None)
                yield from _read_window(engine, pages, prompt)
        finally:
            stop.set()


def _windows(items: Iterator[Item], window: Window, stop: threading.Event) -> Iterator[list[Item]]:
    limit, size = min(window.first, window.pages), 0
    pages: list[Item] = []
    for item in items:
        if stop.is_set():
            return
        pages.append(item)
        size += len(item.data) if isinstance(item, PageImage) else 0
        del item  # the window alone holds it
        if len(pages) >= limit or size >= window.size:
            full, pages, size = pages, [], 0
            yield full
            del full
            limit = min(2 * limit, window.pages)
    if pages:
        yield pages


def _read_window(engine: Engine, pages: list[Item], prompt: str | None) -> Iterator[PageReading]:
    """Every page exactly once, whatever the engine does."""
    waiting: dict[str, PageImage] = {}
    for index, item in enumerate(pages):
        if isinstance(item, BrokenPage):
            request = PageRequest(id="", image=b"")
            yield PageReading(item.document, item.number, 0, 0, None, failed(request, item.reason))
        else:
            waiting[str(index)] = item
    pages.clear()
    requests = [PageRequest(id=key, image=item.data, prompt=prompt) for key, item in waiting.items()]
    for prediction in engine.read(requests):
        if (page := waiting.pop(prediction.id, None)) is not None:
            yield _reading(page, prediction)
    for key, page in waiting.items():
        request = PageRequest(id=key, image=b"")
        yield _reading(page, failed(request, f"the engine {engine.name} gave no answer"))


def _reading(item: PageImage, prediction: Prediction) -> PageReading:
    return PageReading(item.document, item.number, item.width, item.height, item.dpi, prediction)
