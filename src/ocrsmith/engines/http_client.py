"""JSON over HTTP to one endpoint: bounded in time and size, tried again where it may help, discreet about keys.

Requests go to the given address and nowhere else: redirects are not followed, proxies not used.
"""

from __future__ import annotations

import ipaddress
import json
import random
import re
import socket
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import Any
from urllib.parse import urlsplit

import ocrsmith
from ocrsmith.engines.workers import EngineFailure, Stop
from ocrsmith.errors import SettingsError

MAX_ANSWER_BYTES = 32 * 2**20
"""8,192 tokens with their log-probabilities take about 2 MB."""
CONNECT_SECONDS = 10.0
MAX_PAUSE = 60.0
"""Longest pause between two attempts, even if the server asks for more."""
_MESSAGE_LENGTH = 300
_SECRETS = re.compile(r"(?i)(bearer\s+|\bsk-|api[-_ ]?key\S*\s*[=:]\s*)[^\s\"',;]+")


class PageFailure(Exception):
    """The endpoint did not read this page. `status` is the HTTP status, None where there was no good answer."""

    def __init__(self, reason: str, status: int | None = None) -> None:
        super().__init__(reason)
        self.status = status


class _Unreachable(Exception):
    """No connection came about."""


class _Transient(Exception):
    """What may be better next time; `pause` is what the server asks for, in seconds."""

    def __init__(self, reason: str, pause: float = 0.0, *, too_many: bool = False) -> None:
        super().__init__(reason)
        self.pause = pause
        self.too_many = too_many


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where requests go."""

    secure: bool
    host: str
    port: int
    path: str

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        usual = 443 if self.secure else 80
        port = "" if self.port == usual else f":{self.port}"
        return f"{'https' if self.secure else 'http'}://{host}{port}{self.path}"

    @classmethod
    def parse(cls, base_url: str, path: str, *, allow_http: bool = False) -> Endpoint:
        """The endpoint `path` under a base address such as `http://localhost:8000/v1`.

        Raises:
            SettingsError: no address, one with a secret in it, or plain HTTP to another machine.
        """
        try:
            parts = urlsplit(base_url)
            host, port = parts.hostname, parts.port
        except ValueError:
            parts, host, port = urlsplit(""), None, None
        odd = not (base_url.isascii() and base_url.isprintable()) or " " in base_url
        if parts.scheme not in ("http", "https") or not host or odd:
            raise _wrong_address("The address of the endpoint is not an http or https URL.")
        if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
            raise _wrong_address("The address of the endpoint has a user, password or query in it.")
        secure = parts.scheme == "https"
        if not secure and not allow_http and not _is_local(host):
            raise SettingsError(
                f"The endpoint on {host} is not encrypted: pages and key could be read on the way.",
                place="base_url",
                mend="Use https, or allow_http (--allow-http) in a network that you trust.",
            )
        base = parts.path.rstrip("/")
        full = base if base.endswith(path) else base + path
        return cls(secure, host, port or (443 if secure else 80), full)


def _wrong_address(problem: str) -> SettingsError:
    return SettingsError(  # the address is not repeated: there may be a secret in it
        problem,
        place="base_url",
        mend="Give one such as http://localhost:8000/v1; keys come from the environment.",
    )


def _is_local(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class JsonClient:
    """Posts JSON objects to one endpoint and gets JSON objects back. Threads may share it."""

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        key: str | None = None,
        timeout: float = 300.0,
        retries: int = 5,
        backoff: float = 0.5,
        max_bytes: int = MAX_ANSWER_BYTES,
    ) -> None:
        """
        Args:
            endpoint: where to.
            key: sent as a bearer token; appears nowhere else.
            timeout: seconds for one attempt as a whole.
            retries: attempts after the first.
            backoff: seconds before the first retry; twice as many before each further one, and a random share.
            max_bytes: longest answer.
        """
        self.endpoint = endpoint
        self._key = key
        self._timeout, self._retries, self._backoff = timeout, retries, backoff
        self._max_bytes = max_bytes
        self._random = random.Random()

    def post(self, body: Mapping[str, Any], stop: Stop) -> dict[str, Any]:
        """The answer to one request, with as many attempts as it takes and as are allowed.

        Raises:
            PageFailure: the endpoint refused this request, or gave no usable answer in all attempts.
            EngineFailure: it refuses every request (key, model, rate), or cannot be reached.
            Stopped: it was broken off.
        """
        data = json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")
        reached = False
        trouble: Exception = _Unreachable("not tried")
        for attempt in range(self._retries + 1):
            if attempt:
                stop.wait(self._pause(attempt, trouble))
            try:
                return self._attempt(data, stop)
            except (_Unreachable, _Transient) as error:
                trouble = error
                reached = reached or isinstance(error, _Transient)
        tries = f"{self._retries + 1} attempts" if self._retries else "1 attempt"
        reason = self.redact(f"{trouble} ({tries})")
        if not reached:
            raise EngineFailure(
                f"The endpoint cannot be reached: {reason}.",
                place=str(self.endpoint),
                mend="Start the server or correct the address; then run the same command again.",
            )
        if isinstance(trouble, _Transient) and trouble.too_many:
            raise EngineFailure(
                f"The endpoint takes no more requests: {reason}.",
                place=str(self.endpoint),
                mend="Lower the concurrency, or wait for the limit to pass; then run the same command again.",
            )
        raise PageFailure(reason)

    def redact(self, text: str) -> str:
        """The text without keys, in one line of bounded length."""
        if self._key:
            text = text.replace(self._key, "[key]")
        text = _SECRETS.sub("[key]", text)
        line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
        return line if len(line) <= _MESSAGE_LENGTH else line[: _MESSAGE_LENGTH - 1] + "…"

    def _pause(self, attempt: int, trouble: Exception) -> float:
        """Exponential, with jitter upwards so that workers do not come back all at once."""
        longest = min(MAX_PAUSE, self._backoff * 2 ** (attempt - 1))
        asked = trouble.pause if isinstance(trouble, _Transient) else 0.0
        return min(MAX_PAUSE, max(longest, asked)) * self._random.uniform(1.0, 1.25)

    def _attempt(self, data: bytes, stop: Stop) -> dict[str, Any]:
        status, pause, body = self._exchange(data, stop)
        if status == 200:
            return _parse(body)
        message = self.redact(f"HTTP {status}: {_message(body)}")
        if status == 429 or status >= 500:
            raise _Transient(message, retry_after(pause), too_many=status == 429)
        if 300 <= status < 400:
            raise self._refusal(message, "Give the address that it redirects to; redirects are not followed.")
        if status in (401, 402, 403):
            raise self._refusal(message, "Check the key in the environment and what it is allowed to do.")
        if status in (404, 405):
            raise self._refusal(message, "Check the address (does it end in /v1?) and the model's name.")
        raise PageFailure(message, status)

    def _refusal(self, message: str, mend: str) -> EngineFailure:
        return EngineFailure(f"The endpoint refuses requests: {message}.", place=str(self.endpoint), mend=mend)

    def _exchange(self, data: bytes, stop: Stop) -> tuple[int, str | None, bytes]:
        """One request and its answer: status, Retry-After, body."""
        timeout = self._timeout
        begin = time.monotonic()
        kind = HTTPSConnection if self.endpoint.secure else HTTPConnection
        connection = kind(self.endpoint.host, self.endpoint.port, timeout=min(timeout, CONNECT_SECONDS))
        try:
            try:
                connection.connect()
            except OSError as error:  # TLS and name resolution included
                raise _Unreachable(f"{type(error).__name__}: {error}") from error
            line = connection.sock
            line.settimeout(timeout)

            def hang_up() -> None:
                with suppress(OSError):
                    socket.socket.shutdown(line, socket.SHUT_RDWR)  # beneath TLS: wakes a thread that reads

            clock = threading.Timer(max(0.0, timeout - (time.monotonic() - begin)), hang_up)
            clock.daemon = True
            clock.start()
            try:
                with stop.breaking_off(hang_up):
                    return self._talk(connection, data)
            except (OSError, HTTPException, ValueError) as error:
                if stop.is_set:
                    stop.wait(0)
                if time.monotonic() - begin >= timeout:
                    raise _Transient(f"no complete answer within {timeout:g} s") from error
                raise _Transient(f"the connection broke off ({type(error).__name__}: {error})") from error
            finally:
                clock.cancel()
        finally:
            connection.close()

    def _talk(self, connection: HTTPConnection, data: bytes) -> tuple[int, str | None, bytes]:
        headers = {
            "Content-Type": "application/json",
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "Connection": "close",
            "User-Agent": f"ocrsmith/{ocrsmith.__version__}",
        }
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        with suppress(BrokenPipeError, ConnectionResetError):  # a server may answer before it has read all
            connection.request("POST", self.endpoint.path, body=data, headers=headers)
        response = connection.getresponse()
        return response.status, response.headers.get("Retry-After"), self._body(response)

    def _body(self, response: HTTPResponse) -> bytes:
        """All of the body. Raises PageFailure when it is too long, HTTPException when it is cut short."""
        body = b"" if (response.length or 0) > self._max_bytes else response.read(self._max_bytes + 1)
        if len(body) > self._max_bytes or (response.length or 0) > self._max_bytes:
            raise PageFailure(f"the answer is longer than {self._max_bytes:,} bytes")
        if response.length:
            raise HTTPException(f"{response.length:,} bytes of the answer are missing")
        return body


def _parse(body: bytes) -> dict[str, Any]:
    """The JSON object in an answer. What is no JSON may be half of one: worth another attempt."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise _Transient(f"the answer is not JSON ({type(error).__name__}): {_excerpt(body)!r}") from error
    if not isinstance(value, dict):
        raise PageFailure(f"the answer is a JSON {type(value).__name__}, not an object")
    return value


def _message(body: bytes) -> str:
    """What the server says about an error, wherever it puts it."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return _excerpt(body)
    for name in ("error", "message", "detail"):
        if isinstance(value, dict) and name in value:
            value = value[name]
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)[: 4 * _MESSAGE_LENGTH]


def _excerpt(body: bytes) -> str:
    return body[: 2 * _MESSAGE_LENGTH].decode("utf-8", "replace")[:80] or "nothing"


def retry_after(value: str | None) -> float:
    """Seconds of a Retry-After header, which gives a number or a date; 0 for none or nonsense."""
    if value is None:
        return 0.0
    if re.fullmatch(r"\s*\d{1,9}(\.\d{1,9})?\s*", value, re.ASCII):
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, OverflowError):
        return 0.0
