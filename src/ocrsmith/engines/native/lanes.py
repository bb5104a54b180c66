"""Requests on their way through one batcher: waiting, opened by threads, decoded, heard of.

All requests of a lane have the same n-gram rule, since a batcher has one. Methods that say "under the lock"
are called by whoever holds `changed`; the rest, but for those of `Source`, by the thread that decodes.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from threading import Condition, Lock
from typing import Protocol

import torch

from ocrsmith.engines.decoding import DecodingSettings
from ocrsmith.engines.native.batching import Batcher
from ocrsmith.engines.native.prefill import Group, Page
from ocrsmith.records import FinishReason, Prediction


@dataclass(frozen=True, slots=True)
class LiveRequest:
    """What is asked for."""

    prompt: str | None = None
    """With one `<image>` if there is an image; None takes the engine's."""
    image: bytes | None = None
    """The encoded image file; None: text alone."""
    max_tokens: int | None = None
    """Longest answer; None: as `decoding` says, or what the context leaves."""
    decoding: DecodingSettings | None = None
    """None takes the engine's."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How an answer ended."""

    finish: FinishReason
    prompt_tokens: int
    """Image tokens included."""
    completion_tokens: int
    """End of sequence included."""


class Listener(Protocol):
    """Hears of one request, in threads of the reader's: it must not take long.

    Either `ended` or `failed` is the last that it hears, and comes once. After `LiveReader.cancel`
    neither comes.
    """

    def heard(self, tokens: Sequence[int], logprobs: Sequence[float]) -> None:
        """Takes ids that are new, and their log-probabilities."""
        ...

    def ended(self, ending: Ending) -> None:
        """All has been heard."""
        ...

    def failed(self, error: Exception) -> None:
        """There will be no more. OcrsmithError: the request's own fault."""
        ...


_ENDING = Lock()


class Ticket:
    """A request, from its coming to its end."""

    __slots__ = ("lane", "listener", "over", "page", "request", "rule", "told")

    def __init__(self, request: LiveRequest, rule: DecodingSettings, listener: Listener) -> None:
        self.request, self.rule, self.listener = request, rule, listener
        self.lane: Lane | None = None
        self.page: Page | None = None
        """Once it is opened."""
        self.told = 0
        """Tokens that were heard."""
        self.over = False

    def finish(self) -> bool:
        """Whether this call is the one that ends it."""
        with _ENDING:
            before, self.over = self.over, True
        return not before

    def fail(self, error: Exception) -> None:
        """Tells the listener, unless there is nothing more to tell."""
        if self.finish():
            with suppress(Exception):  # nobody is left who could be told
                self.listener.failed(error)

    def tell(self, page: Page) -> None:
        """Tells what is new. Raises what the listener raises."""
        new = slice(self.told, len(page.tokens))
        if not self.over and new.start < new.stop:
            self.told = new.stop
            self.listener.heard(page.tokens[new], page.logprobs[new])

    def end(self, page: Page) -> None:
        """Tells the rest and the end. Raises what the listener raises."""
        self.tell(page)
        if page.finish is not None and self.finish():
            self.listener.ended(Ending(page.finish, page.prompt, len(page.tokens)))


class Lane:
    """A batcher with the requests for it; it is the batcher's source of pages."""

    live = True

    def __init__(
        self,
        batcher: Batcher,
        *,
        open_page: Callable[[LiveRequest], Page],
        threads: Executor,
        changed: Condition,
        group: int,
    ) -> None:
        """
        Args:
            batcher: this lane's own.
            open_page: opens and encodes; raises OcrsmithError where the request is at fault.
            threads: where it is called.
            changed: guards what threads share, and wakes the one that decodes.
            group: pages whose prompts go through the model together; twice as many are opened ahead.
        """
        self.batcher = batcher
        self._open_page, self._threads, self._changed, self._group = open_page, threads, changed, group
        self._waiting: deque[Ticket] = deque()
        self._opening: set[Ticket] = set()
        self._opened: deque[Ticket] = deque()
        self._inside: dict[Page, Ticket] = {}
        """What the batcher has."""
        self._dropped: list[Page] = []
        self._session = ExitStack()
        self._session.enter_context(batcher.session())
        self.idle_since: float | None = None

    # --- under the lock -------------------------------------------------------------------------------------

    def put(self, ticket: Ticket) -> None:
        """Takes a request."""
        ticket.lane = self
        self.idle_since = None
        self._waiting.append(ticket)
        self._fill()

    def cancel(self, ticket: Ticket) -> None:
        """Forgets a request, wherever it is."""
        ticket.finish()
        if ticket in self._waiting:
            self._waiting.remove(ticket)
        elif ticket in self._opened:
            self._opened.remove(ticket)
            self._fill()
        elif ticket.page in self._inside:
            self._dropped.append(ticket.page)
        self._changed.notify_all()

    @property
    def has_work(self) -> bool:
        """Whether there is something to decode now."""
        return bool(self._opened or self._dropped or self.batcher.busy)

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing at all."""
        return not (self._waiting or self._opening or self.has_work)

    def idle_seconds(self) -> float:
        """How long there has been nothing, as far as was asked; buffers rest meanwhile."""
        if not self.is_idle:
            self.idle_since = None
            return 0.0
        if self.idle_since is None:
            self.batcher.rest()
            self.idle_since = time.monotonic()
        return time.monotonic() - self.idle_since

    def _fill(self) -> None:
        """Opens as many pages ahead as memory should be given to."""
        while self._waiting and len(self._opening) + len(self._opened) < 2 * self._group:
            ticket = self._waiting.popleft()
            self._opening.add(ticket)
            self._threads.submit(self._open, ticket)

    # --- in other threads -----------------------------------------------------------------------------------

    def _open(self, ticket: Ticket) -> None:
        page, failure = None, None
        try:
            if not ticket.over:
                page = self._open_page(ticket.request)
        except Exception as error:
            failure = error
        with self._changed:
            self._opening.discard(ticket)
            if page is not None and not ticket.over:
                ticket.page = page
                self._opened.append(ticket)
            self._fill()
            self._changed.notify_all()
        if failure is not None:
            ticket.fail(failure)

    def __bool__(self) -> bool:
        return bool(self._opened)

    def next(self, *, wait: bool) -> tuple[Group, list[Prediction]] | None:
        """See `Source.next`: the pages that are opened by now."""
        with self._changed:
            pages: list[Page] = []
            while self._opened and len(pages) < self._group:
                ticket = self._opened.popleft()
                assert ticket.page is not None
                self._inside[ticket.page] = ticket
                pages.append(ticket.page)
            self._fill()
        return (Group(pages), []) if pages else None

    def turn(self) -> bool:
        """One round of the batcher, and what listeners hear of it. Whether an answer came to a good end.

        Raises:
            AcceleratorError: the device broke down, which it does for good.
        """
        with self._changed:
            dropped, self._dropped = self._dropped, []
            gone = [page for page in dropped if self._inside.pop(page, None) is not None]
        for page in gone:
            self.batcher.drop(page)
        finished = self.batcher.turn(self)
        for page in self.batcher.active:
            self._report(page, Ticket.tell)
        good = False
        for item in finished:
            assert not isinstance(item, Prediction)
            page, error = item
            if error is None:
                good = True
                self._report(page, Ticket.end)
            else:
                self._inside[page].fail(error)
            with self._changed:
                del self._inside[page]
            if isinstance(error, torch.AcceleratorError):
                raise error
        return good

    def _report(self, page: Page, tell: Callable[[Ticket, Page], None]) -> None:
        ticket = self._inside[page]
        try:
            tell(ticket, page)
        except Exception:  # who cannot listen needs no answer
            with self._changed:
                self.cancel(ticket)

    # --- the end --------------------------------------------------------------------------------------------

    def begin_anew(self, error: Exception) -> None:
        """After an error that nobody foresaw: pages under way fail, those that wait go on."""
        with self._changed:
            tickets, self._inside = list(self._inside.values()), {}
            self._dropped.clear()
        with suppress(Exception):
            self._session.close()
        self.batcher.release()
        self._session = ExitStack()
        self._session.enter_context(self.batcher.session())
        for ticket in tickets:
            ticket.fail(error)

    def close(self, error: Exception) -> None:
        """Everything fails, and the buffers are given back."""
        with self._changed:
            tickets = [*self._waiting, *self._opening, *self._opened, *self._inside.values()]
            self._waiting.clear()
            self._opened.clear()
            self._inside.clear()
        with suppress(Exception):
            self._session.close()
        self.batcher.release()
        for ticket in tickets:
            ticket.fail(error)
