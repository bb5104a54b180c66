"""Groups of pages for the model, opened and encoded ahead of it by threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Protocol

from ocrsmith.engines.base import PageRequest
from ocrsmith.records import Prediction

if TYPE_CHECKING:
    from ocrsmith.engines.native.prefill import Group


class Source(Protocol):
    """Where decoding gets its pages from."""

    @property
    def live(self) -> bool:
        """Whether somebody waits for each token: then no step waits for pages to come."""
        ...

    def __bool__(self) -> bool:
        """Whether there are pages to come, as far as is known."""
        ...

    def next(self, *, wait: bool) -> tuple[Group, list[Prediction]] | None:
        """The next group, and pages that cannot be read; None if there is none yet.

        Args:
            wait: whether it may be waited for; a live source never does.
        """
        ...


class Feed:
    """Groups of pages, encoded ahead by threads, in order."""

    live = False

    def __init__(
        self,
        groups: Sequence[Sequence[PageRequest]],
        encode: Callable[[Sequence[PageRequest]], tuple[Group, list[Prediction]]],
        *,
        workers: int,
    ) -> None:
        """
        Args:
            groups: requests of each group.
            encode: makes a group; pages that cannot be encoded come as predictions.
            workers: threads; as many groups, and one more, are encoded ahead.
        """
        self._encode = encode
        self._groups = deque(groups)
        self._ahead: deque[Future[tuple[Group, list[Prediction]]]] = deque()
        self._workers = workers
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="encode")
        self._fill()

    def __enter__(self) -> Feed:
        return self

    def __exit__(self, *_: object) -> None:
        self._threads.shutdown(wait=True, cancel_futures=True)

    def __bool__(self) -> bool:
        """Whether there are groups to come."""
        return bool(self._ahead)

    def next(self, *, wait: bool) -> tuple[Group, list[Prediction]] | None:
        """The next group; None if it is not encoded yet and `wait` is off."""
        if not self._ahead or not (wait or self._ahead[0].done()):
            return None
        made = self._ahead.popleft().result()
        self._fill()
        return made

    def _fill(self) -> None:
        while self._groups and len(self._ahead) <= self._workers:
            self._ahead.append(self._threads.submit(self._encode, self._groups.popleft()))
