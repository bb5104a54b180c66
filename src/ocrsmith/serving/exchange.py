"""What every request goes through: id, key, errors in OpenAI's shape, the counters, a line in the log."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Any

from ocrsmith.serving import logs
from ocrsmith.serving.errors import ApiError, draining, internal
from ocrsmith.serving.keys import Keys
from ocrsmith.serving.limits import ClientGone, Receive, Send
from ocrsmith.serving.metrics import Metrics
from ocrsmith.serving.settings import ServerSettings
from ocrsmith.serving.streaming import failure_event

App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

OPEN_PATHS = ("/health",)
"""What may be asked without a key."""
_ENDPOINTS = ("/v1/chat/completions", "/v1/completions", "/v1/models", "/health", "/metrics")
_ANSWER_PATHS = {"/v1/chat/completions": "chatcmpl", "/v1/completions": "cmpl"}
_CLIENT_GONE = 499
_LAST_WORDS_SECONDS = 5.0
_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
]


@dataclass(slots=True)
class Exchange:
    """One request and its answer, as far as it has come."""

    id: str
    endpoint: str
    send_on: Send
    close: bool
    """Whether the connection ends with the answer, as the body of the request may not be read to its end."""
    begin: float = field(default_factory=time.perf_counter)
    status: int = 0
    is_stream: bool = False
    complete: bool = False
    sent: int = 0
    notes: dict[str, Any] = field(default_factory=dict)
    """For the log: model, tokens, finish reason; texts if they are wanted."""

    async def send(self, message: MutableMapping[str, Any]) -> None:
        """Hands a message of ASGI on, with the headers that all answers have."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = [*message.get("headers", ()), *_HEADERS, (b"x-request-id", self.id.encode())]
            if self.close:
                headers.append((b"connection", b"close"))
            message = {**message, "headers": headers}
        else:
            self.sent += len(message.get("body", b""))
            self.complete = not message.get("more_body", False)
        await self.send_on(message)

    async def answer(self, status: int, body: bytes, headers: list[tuple[bytes, bytes]] | None = None) -> None:
        """Sends an answer in one piece, JSON unless `headers` says otherwise."""
        head = headers or [(b"content-type", b"application/json")]
        head = [*head, (b"content-length", str(len(body)).encode())]
        await self.send({"type": "http.response.start", "status": status, "headers": head})
        await self.send({"type": "http.response.body", "body": body})

    async def begin_stream(self, part: bytes) -> None:
        """Begins an answer of server-sent events."""
        self.is_stream = True
        headers = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"x-accel-buffering", b"no")]
        await self.send({"type": "http.response.start", "status": 200, "headers": headers})
        await self.send_part(part)

    async def send_part(self, part: bytes) -> None:
        """Sends a part of an answer, not the last."""
        await self.send({"type": "http.response.body", "body": part, "more_body": True})

    async def fail(self, error: ApiError) -> None:
        """Sends an error: as the answer, or as the last event of a stream that has begun."""
        if not self.status:
            headers = [(name.encode(), value.encode()) for name, value in error.headers.items()]
            await self.answer(error.status, error.encoded(), [(b"content-type", b"application/json"), *headers])
        elif self.is_stream and not self.complete:
            await self.send({"type": "http.response.body", "body": failure_event(error)})


class Front:
    """The outermost layer of the app; nothing gets past it but answers in OpenAI's shape."""

    def __init__(
        self, app: App, *, settings: ServerSettings, metrics: Metrics, is_draining: Callable[[], bool]
    ) -> None:
        self._app = app
        self._settings = settings
        self._metrics = metrics
        self._is_draining = is_draining
        self._keys = Keys(settings.api_keys)

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Answers a request; see ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _exchange(scope, send)
        scope.setdefault("state", {})["exchange"] = exchange
        try:
            await self._guarded(scope, receive, exchange)
        finally:
            self._account(exchange, scope)

    async def _guarded(self, scope: MutableMapping[str, Any], receive: Receive, exchange: Exchange) -> None:
        try:
            self._check(scope, exchange)
            await self._app(scope, receive, exchange.send)
        except ClientGone:
            self._metrics.cancelled.inc()
            exchange.notes["client"] = "gone"
            exchange.status = exchange.status or _CLIENT_GONE
        except ApiError as error:
            await self._fail(exchange, error)
        except Exception as error:  # a fault of ours: the log has it, the client an id to ask about
            logs.write_failure(exchange.id, error, with_text=self._settings.log_texts)
            await self._fail(exchange, internal(exchange.id))

    def _check(self, scope: MutableMapping[str, Any], exchange: Exchange) -> None:
        if self._is_draining():
            exchange.close = True
            raise draining()
        if scope["path"] not in OPEN_PATHS:
            headers = dict(scope["headers"])
            self._keys.check(headers.get(b"authorization"), headers.get(b"origin"))

    async def _fail(self, exchange: Exchange, error: ApiError) -> None:
        if error.reason:
            self._metrics.rejected.labels(error.reason).inc()
        exchange.notes["error"] = error.code or error.kind
        try:
            async with asyncio.timeout(_LAST_WORDS_SECONDS):  # the client may not be listening
                await exchange.fail(error)
        except TimeoutError:
            exchange.notes["client"] = "stuck"

    def _account(self, exchange: Exchange, scope: MutableMapping[str, Any]) -> None:
        seconds = time.perf_counter() - exchange.begin
        status = exchange.status or 500
        self._metrics.requests.labels(exchange.endpoint, status).inc()
        self._metrics.seconds.labels(exchange.endpoint).observe(seconds)
        logs.write(
            "request",
            id=exchange.id,
            method=scope["method"][:16],
            endpoint=exchange.endpoint,
            status=status,
            ms=round(seconds * 1000, 1),
            bytes=exchange.sent,
            **exchange.notes,
        )


def _exchange(scope: MutableMapping[str, Any], send: Send) -> Exchange:
    path = scope["path"]
    endpoint = "/v1/models" if path.startswith("/v1/models/") else path
    headers = dict(scope["headers"])
    has_body = b"transfer-encoding" in headers or headers.get(b"content-length", b"0") != b"0"
    return Exchange(
        id=f"{_ANSWER_PATHS.get(path, 'req')}-{uuid.uuid4().hex}",
        endpoint=endpoint if endpoint in _ENDPOINTS else "other",
        send_on=send,
        close=has_body,
    )
