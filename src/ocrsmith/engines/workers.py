"""Pages read side by side by threads that wait for a server or a program, and stopped at once when asked."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from queue import Empty, SimpleQueue

from ocrsmith.engines.base import PageRequest, ReadProgress, failed
from ocrsmith.errors import InputError, OcrsmithError
from ocrsmith.records import Prediction

_PATIENCE = 5.0
"""Seconds that a thread gets to end after a stop. Threads are daemons: one that hangs keeps nobody waiting."""


class EngineFailure(InputError):
    """The engine itself cannot go on (wrong key, no such server): no fault of a page, so no page is blamed."""


class Stopped(Exception):
    """Work that was broken off because nobody waits for it any more."""


class Stop:
    """Tells threads to end, and breaks off what they wait for."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._lock = threading.Lock()
        self._aborts: set[Callable[[], object]] = set()

    @property
    def is_set(self) -> bool:
        """Whether to end."""
        return self._event.is_set()

    def wait(self, seconds: float) -> None:
        """Sleeps. Raises `Stopped` as soon as it is time to end."""
        if self._event.wait(seconds):
            raise Stopped

    def set(self) -> None:
        """Ends all waiting."""
        self._event.set()
        with self._lock:
            aborts = list(self._aborts)
        for abort in aborts:
            abort()

    @contextmanager
    def breaking_off(self, abort: Callable[[], object]) -> Iterator[None]:
        """Within the block, a stop calls `abort` from its own thread. Raises `Stopped` if it is too late."""
        with self._lock:
            self._aborts.add(abort)
        try:
            if self.is_set:
                raise Stopped
            yield
        finally:
            with self._lock:
                self._aborts.discard(abort)


def read_each(
    requests: Sequence[PageRequest],
    read_page: Callable[[PageRequest, Stop], Prediction],
    *,
    workers: int,
    progress: ReadProgress | None = None,
) -> Iterator[Prediction]:
    """Reads pages with several threads; a prediction for each, as they come.

    Args:
        requests: the pages; begun in this order.
        read_page: reads one page. An `EngineFailure` ends everything, another exception fails the page.
        workers: pages in work at a time.
        progress: is told of each page.

    Yields:
        Predictions; their `seconds` are the page's own, divided by the pages in work beside it.

    Raises:
        EngineFailure: from `read_page`; what was yielded before stands.
    """
    stop = Stop()
    waiting: SimpleQueue[PageRequest] = SimpleQueue()
    done: SimpleQueue[Prediction | EngineFailure] = SimpleQueue()
    for request in requests:
        waiting.put(request)
    workers = min(workers, len(requests))
    threads = [
        threading.Thread(
            target=_work, args=(waiting, done, read_page, stop), daemon=True, name=f"page-{number}"
        )
        for number in range(workers)
    ]
    try:
        for thread in threads:
            thread.start()
        for _ in requests:
            result = done.get()
            if isinstance(result, EngineFailure):
                raise result
            yield replace(result, seconds=result.seconds / workers)
            if progress:
                progress(1)
    finally:
        stop.set()
        for thread in threads:
            if thread.ident is not None:
                thread.join(_PATIENCE)


def _work(
    waiting: SimpleQueue[PageRequest],
    done: SimpleQueue[Prediction | EngineFailure],
    read_page: Callable[[PageRequest, Stop], Prediction],
    stop: Stop,
) -> None:
    while not stop.is_set:
        try:
            request = waiting.get_nowait()
        except Empty:
            return
        try:
            done.put(read_page(request, stop))
        except Stopped:
            return
        except EngineFailure as error:
            done.put(error)
            return
        except Exception as error:
            done.put(failed(request, reason_of(error)))


def reason_of(error: Exception) -> str:
    """One line for a person; exceptions that no one foresaw keep their type."""
    if isinstance(error, OcrsmithError):
        return error.problem
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__
