"""One page to the server and back: timed as a client sees it, and every trouble given a name.

Requests go to the given address and nowhere else: redirects are not followed, proxies not used.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx2

import ocrsmith
from ocrsmith.engines.http_client import (
    MAX_ANSWER_BYTES,
    MAX_PAUSE,
    Endpoint,
    JsonClient,
    PageFailure,
    retry_after,
)
from ocrsmith.engines.openai_answers import read_answer
from ocrsmith.engines.workers import EngineFailure
from ocrsmith.serving.stress.settings import StressSettings
from ocrsmith.serving.stress.stream import read_stream

TIME_OUT = "time-out"
UNREACHED = "no connection"
BROKEN = "connection broken"
UNUSABLE = "unusable answer"
_LATE = "no complete answer in time"
_KEEP_SECONDS = 2.0
"""Servers close idle connections after five seconds or more; a request that meets the closing would fail."""
_PAUSE_AFTER_LOSS = 0.1
"""Seconds before the next request after a lost connection: a dead server need not be asked a million times."""
_FIRST_PAUSE = 0.5
_FIRST_SECONDS = 30.0
"""For the server to say what it has."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a page."""

    seconds: float
    """From the first attempt to the end, waiting after refusals for want of room (429) included."""
    error: str | None = None
    """Kind of error; None: answered."""
    message: str = ""
    first_text: float = math.nan
    """Seconds until the first text, if the answer came in pieces."""
    tokens: int = 0
    finish: str = ""
    digest: bytes = b""
    """Of text and finish reason: the same for the same answer."""
    rejected: int = 0
    """Times that the server had no room (429)."""


class _Rejected(Exception):
    def __init__(self, pause: float, message: str) -> None:
        super().__init__(message)
        self.pause = pause


class StressClient:
    """Sends requests to one endpoint over connections that stay open. For one event loop."""

    def __init__(self, http: httpx2.AsyncClient, settings: StressSettings, key: str | None) -> None:
        self._http = http
        self._timeout, self._stream = settings.timeout, settings.stream
        self._headers = {"Content-Type": "application/json"}
        if key:
            self._headers["Authorization"] = f"Bearer {key}"
        endpoint = Endpoint.parse(settings.api, "/chat/completions", allow_http=settings.allow_http)
        self.url = str(endpoint)
        self._models_url = self.url.removesuffix("/chat/completions") + "/models"
        self._redact = JsonClient(endpoint, key=key).redact
        self._random = random.Random()

    async def find_model(self, wanted: str | None) -> str:
        """The name to ask for: the one wanted, or the first that the server has.

        Raises:
            EngineFailure: the server cannot be reached, or does not say what it has.
        """
        try:
            async with asyncio.timeout(min(self._timeout, _FIRST_SECONDS)):
                status, body = await self._get(self._models_url)
        except (httpx2.HTTPError, httpx2.InvalidURL, PageFailure, TimeoutError) as error:
            raise EngineFailure(
                f"The server cannot be reached: {self._redact(_said(error))}.",
                place=self._models_url,
                mend="Start the server, or correct the address.",
            ) from error
        if wanted is not None:
            return wanted
        try:
            name = json.loads(body)["data"][0]["id"] if status == 200 else None
        except (ValueError, LookupError, TypeError, RecursionError):
            name = None
        if not isinstance(name, str) or not name or not name.isprintable():
            said = self._redact(f"HTTP {status}: {_decoded(body)}")
            raise EngineFailure(
                f"The server does not say which models it has: {said}.",
                place=self._models_url,
                mend="Name one with --model; check the address and the key in the environment.",
            )
        return name

    async def ask(self, body: bytes) -> Outcome:
        """Sends a request and waits for its answer, again where the server had no room. Never raises."""
        begin = time.perf_counter()
        rejected = 0
        kind, said = TIME_OUT, _LATE
        try:
            async with asyncio.timeout(self._timeout):
                while True:
                    try:
                        return await self._attempt(body, begin, rejected)
                    except _Rejected as refusal:
                        rejected += 1
                        kind, said = "HTTP 429", str(refusal)
                        await asyncio.sleep(self._pause(refusal.pause, rejected))
                    kind, said = TIME_OUT, _LATE
        except PageFailure as error:
            kind = f"HTTP {error.status}" if error.status else UNUSABLE
            said = str(error)
        except httpx2.ConnectError as error:
            kind, said = UNREACHED, _said(error)
        except httpx2.HTTPError as error:
            kind, said = BROKEN, _said(error)
        except TimeoutError:
            pass  # while it waited for an answer, or for room
        seconds = time.perf_counter() - begin
        if kind in (UNREACHED, BROKEN):
            await asyncio.sleep(_PAUSE_AFTER_LOSS)
        return Outcome(seconds, kind, self._redact(said), rejected=rejected)

    async def _attempt(self, body: bytes, begin: float, rejected: int) -> Outcome:
        first = math.nan

        def first_text() -> None:
            nonlocal first
            first = time.perf_counter() - begin

        async with self._http.stream("POST", self.url, content=body, headers=self._headers) as response:
            if response.status_code != 200:
                await self._refuse(response)
            if self._stream:
                value = await read_stream(response.aiter_raw(), first_text)
            else:
                value = _parse(await _whole(response))
        seconds = time.perf_counter() - begin
        answer = read_answer(value)
        digest = hashlib.blake2b(f"{answer.finish}\n{answer.text}".encode("utf-8", "replace"), digest_size=8)
        return Outcome(
            seconds,
            first_text=first,
            tokens=answer.tokens,
            finish=answer.finish,
            digest=digest.digest(),
            rejected=rejected,
        )

    async def _refuse(self, response: httpx2.Response) -> None:
        """Raises for an answer that is none."""
        status = response.status_code
        message = f"HTTP {status}: {_decoded(await _whole(response))}"
        if status == 429:
            raise _Rejected(retry_after(response.headers.get("Retry-After")), message)
        raise PageFailure(message, status)

    def _pause(self, asked: float, attempt: int) -> float:
        """What the server asks for, else longer each time; with jitter, so that clients do not come at once."""
        pause = asked or _FIRST_PAUSE * 2 ** min(attempt - 1, 10)
        return min(MAX_PAUSE, pause) * self._random.uniform(1.0, 1.1)

    async def _get(self, url: str) -> tuple[int, bytes]:
        async with self._http.stream("GET", url, headers=self._headers) as response:
            return response.status_code, await _whole(response)


@asynccontextmanager
async def open_http(clients: int) -> AsyncIterator[httpx2.AsyncClient]:
    """Connections for so many requests at a time, and one for figures; each request sets its own time limit."""
    limits = httpx2.Limits(
        max_connections=clients + 1, max_keepalive_connections=clients + 1, keepalive_expiry=_KEEP_SECONDS
    )
    headers = {"User-Agent": f"ocrsmith/{ocrsmith.__version__}", "Accept-Encoding": "identity"}
    async with httpx2.AsyncClient(limits=limits, headers=headers, timeout=None, trust_env=False) as http:
        yield http


async def _whole(response: httpx2.Response) -> bytes:
    """The body as it came. Raises PageFailure when it is too long."""
    pieces: list[bytes] = []
    size = 0
    async for piece in response.aiter_raw():
        size += len(piece)
        if size > MAX_ANSWER_BYTES:
            raise PageFailure(f"the answer is longer than {MAX_ANSWER_BYTES:,} bytes")
        pieces.append(piece)
    return b"".join(pieces)


def _parse(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise PageFailure(f"the answer is not JSON ({type(error).__name__}): {_decoded(body)!r}") from error
    if not isinstance(value, dict):
        raise PageFailure(f"the answer is a JSON {type(value).__name__}, not an object")
    return value


def _decoded(body: bytes) -> str:
    return body[:600].decode("utf-8", "replace")


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
