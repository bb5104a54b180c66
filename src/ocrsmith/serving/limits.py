"""Bounds in size and time: the body of a request while it comes, and the request while it is answered."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from types import TracebackType
from typing import Any, Self

from ocrsmith.serving.errors import ApiError, bad_request, draining

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class ClientGone(Exception):
    """The client has hung up: there is nobody to answer."""


async def read_body(
    receive: Receive,
    headers: list[tuple[bytes, bytes]],
    *,
    max_bytes: int,
    seconds: float,
    take: Callable[[int], None],
) -> bytes:
    """The body of a request, read no further than the limits allow.

    Args:
        receive: of ASGI.
        headers: of the request.
        max_bytes: longest body; a declared length above it is refused before anything is read.
        seconds: for all of it to arrive.
        take: called with the size of each part before it is kept.

    Raises:
        ApiError: 413, 408, 400 for a wrong Content-Length, and what `take` raises.
        ClientGone: the client has hung up.
    """
    declared = dict(headers).get(b"content-length")
    if declared is not None:
        if not declared.isdigit():
            raise bad_request("Content-Length is no number.")
        if len(declared) > 18 or int(declared) > max_bytes:
            raise too_long(max_bytes)
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(seconds):
            while True:
                message = await receive()
                if message["type"] != "http.request":
                    raise ClientGone
                part = message.get("body", b"")
                size += len(part)
                if size > max_bytes:
                    raise too_long(max_bytes)
                take(len(part))
                parts.append(part)
                if not message.get("more_body"):
                    return b"".join(parts)
    except TimeoutError:
        message_text = f"The request's body did not arrive within {seconds:g} seconds."
        raise ApiError(408, message_text, code="timeout", reason="slow_body") from None


def too_long(max_bytes: int) -> ApiError:
    """A 413."""
    return ApiError(
        413,
        f"The request is longer than {max_bytes:,} bytes. Send the page in a smaller file.",
        code="request_too_large",
        reason="body_size",
    )


class Watch:
    """Ends what a request is about when its client hangs up, its time is over, or the server has to end.

    An asynchronous context manager around the work; it cancels the task that entered it and raises ClientGone
    or ApiError (504, 503) instead.
    """

    def __init__(
        self, receive: Receive, seconds: float, ending: asyncio.Event, *, is_complete: Callable[[], bool]
    ) -> None:
        """
        Args:
            receive: of ASGI, after the body is read: what it gives next is the client's hanging up.
            seconds: for the work.
            ending: set when requests under way must end.
            is_complete: whether the answer is sent; then the client may go.
        """
        self._receive = receive
        self._seconds = seconds
        self._ending = ending
        self._is_complete = is_complete
        self._reason: Exception | None = None

    async def __aenter__(self) -> Self:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._watcher = asyncio.create_task(self._watch())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._watcher.cancel()
        if self._reason is not None and isinstance(error, asyncio.CancelledError):
            self._task.uncancel()
            raise self._reason from None

    async def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        gone = loop.create_task(self._gone())
        ending = loop.create_task(self._ending.wait())
        try:
            done, _ = await asyncio.wait(
                (gone, ending), timeout=self._seconds, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            gone.cancel()
            ending.cancel()
        if gone in done and self._is_complete():
            return
        if gone in done:
            self._reason = ClientGone()
        elif ending in done:
            self._reason = draining()
        else:
            message = f"The answer was not ready within {self._seconds:g} seconds."
            self._reason = ApiError(504, message, code="timeout", reason="timeout")
        self._task.cancel()

    async def _gone(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
