"""Connections under guard: not too many, none that dribbles its head, none cut off before its answer is read.

uvicorn's protocol does the HTTP; here is what it leaves open. Counting begins when a connection is accepted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import h11
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from ocrsmith.serving.errors import ApiError, bad_request, busy

_STEP_SECONDS = 2.0
"""Time in which a client must have taken something of what is left for it, once the connection is to end."""
_STEPS = 30
_MAX_REFUSED = 256
"""Refused connections that are told why before they are closed; with more at a time, the rest is cut off."""


class Lingering:
    """A transport that, when closed, lets the client read what was written, and ignores what it still sends.

    Closing outright while the client sends would reset the connection, and the answer be lost.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self.is_ending = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def is_closing(self) -> bool:
        """Whether nothing more may be written."""
        return self.is_ending or self._transport.is_closing()

    def close(self) -> None:
        """Ends the connection once the client has read the answer and closed its side, or takes no more."""
        if self.is_closing():
            return
        self.is_ending = True
        if not self._transport.can_write_eof():
            self._transport.close()
            return
        self._transport.write_eof()
        self._transport.resume_reading()
        self._wait(_STEPS)

    def _wait(self, steps: int, left: int | None = None) -> None:
        size = self._transport.get_write_buffer_size()
        if self._transport.is_closing():
            return
        if left is not None and (size == 0 or size >= left or not steps):
            self._transport.abort()
            return
        asyncio.get_running_loop().call_later(_STEP_SECONDS, self._wait, steps - 1, size)


class Guard:
    """What the connections of a server share."""

    def __init__(self, *, max_connections: int, header_seconds: float, rejected: Callable[[str], None]) -> None:
        """
        Args:
            max_connections: open at a time; more are told to come again.
            header_seconds: for the head of a request to arrive.
            rejected: counts, by reason.
        """
        self.max_connections = max_connections
        self.header_seconds = header_seconds
        self.rejected = rejected
        self.refused = 0
        """Connections that are being told so."""


class GuardedProtocol(H11Protocol):
    """One connection."""

    def __init__(
        self, config: Config, server_state: ServerState, loop: asyncio.AbstractEventLoop, guard: Guard
    ) -> None:
        super().__init__(config, server_state, {}, loop)
        self._guard = guard
        self._is_refused = False
        self._head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Takes the connection, or sends it away."""
        lingering: Any = Lingering(transport)
        if len(self.connections) < self._guard.max_connections:
            super().connection_made(lingering)
            self._expect_head()
            return
        self._guard.rejected("connections")
        self._is_refused = True
        self.transport = lingering
        self._guard.refused += 1
        if self._guard.refused > _MAX_REFUSED:
            transport.abort()
            return
        error = busy(1, "The server has too many connections open.", reason="connections", status=503)
        transport.write(_raw(error))
        lingering.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forgets the connection."""
        if self._is_refused:
            self._guard.refused -= 1
            return
        self._stop_head_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Hands bytes on to HTTP, unless nobody will answer them."""
        if self._is_refused or self.transport.is_closing():
            return
        super().data_received(data)
        if self.conn.their_state is h11.IDLE and not self.transport.is_closing():
            self._expect_head()
        else:
            self._stop_head_timer()

    def send_400_response(self, msg: str) -> None:
        """Tells that what was sent is no HTTP, if there is still a way to."""
        if self.cycle is None or self.cycle.response_complete or not self.cycle.response_started:
            self._say(bad_request("This is no valid HTTP request."), "bad_http")
        else:
            self.transport.abort()

    def end(self) -> None:
        """Closes the connection, whatever it is about."""
        self.transport.close()

    def _expect_head(self) -> None:
        """Lets the time run in which the head of a request must be complete, if it does not run already."""
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(self._guard.header_seconds, self._head_is_late)

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_is_late(self) -> None:
        """Tells those who sent a part of a head; who sent nothing is let go without a word."""
        if self.conn.trailing_data[0]:
            error = ApiError(408, "The head of the request did not arrive in time.", code="timeout")
            self._say(error, "slow_head")
        else:
            self.transport.close()

    def _say(self, error: ApiError, reason: str) -> None:
        """Answers in the place of the app, and ends."""
        if not self.transport.is_closing():
            self._guard.rejected(reason)
            self.transport.write(_raw(error))
            self.transport.close()
        if self.cycle is not None:  # an app that waits for more of the body sees that there is none
            self.cycle.disconnected = True
            self.cycle.message_event.set()


def _raw(error: ApiError) -> bytes:
    """A whole answer, for connections that HTTP's machinery has not taken up or has given up."""
    body = error.encoded()
    phrases = {400: "Bad Request", 408: "Request Timeout", 503: "Service Unavailable"}
    lines = [
        f"HTTP/1.1 {error.status} {phrases[error.status]}",
        "content-type: application/json",
        f"content-length: {len(body)}",
        *(f"{name}: {value}" for name, value in error.headers.items()),
        "connection: close",
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body
