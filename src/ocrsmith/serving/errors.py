"""Refusals and failures in the shape of OpenAI's API. They go to strangers: no paths, no code."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ocrsmith.errors import OcrsmithError

_SHOWN = 80


class ApiError(Exception):
    """An answer that is an error.

    Args:
        status: of HTTP.
        message: what is wrong and what to do, for the client's eyes.
        param: the field of the request that is wrong.
        code: a short word for programs.
        kind: OpenAI's `type`; by default what fits the status.
        headers: sent with it.
        reason: under which it is counted, if it was refused for want of room or for its size.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        kind: str | None = None,
        headers: Mapping[str, str] | None = None,
        reason: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.param = param
        self.code = code
        self.kind = kind or _kind(status)
        self.headers = dict(headers or {})
        self.reason = reason

    def body(self) -> dict[str, Any]:
        """`{"error": {…}}`."""
        fields = {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}
        return {"error": fields}

    def encoded(self) -> bytes:
        """`body()` as JSON."""
        return encode(self.body())


def encode(value: Any) -> bytes:
    """JSON in UTF-8; half surrogate pairs, which no client could read, become question marks."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode("utf-8", "replace")


def bad_request(message: str, param: str | None = None, *, code: str | None = None) -> ApiError:
    """A 400 for a field that is wrong."""
    return ApiError(400, message, param=param, code=code)


def bad_value(param: str, value: object, allowed: str) -> ApiError:
    """A 400 that names field, value and what is allowed."""
    return bad_request(f"{param} = {shown(value)}: {allowed}.", param, code="invalid_value")


def refused(error: OcrsmithError) -> ApiError:
    """A 400 of an error that the backend blames on the request; its place may be a path and is left out."""
    mend = f" {error.mend}" if error.mend else ""
    return bad_request(f"{error.problem}{mend}")


def busy(retry_after: int, message: str, *, reason: str, status: int = 429) -> ApiError:
    """Too much at a time; the client may come again after `retry_after` seconds."""
    kind = "rate_limit_error" if status == 429 else None
    headers = {"retry-after": str(retry_after)}
    return ApiError(status, message, code=reason, kind=kind, headers=headers, reason=reason)


def draining() -> ApiError:
    """The server is about to end."""
    return busy(5, "The server is shutting down.", reason="shutting_down", status=503)


def internal(request_id: str) -> ApiError:
    """A fault of the server; the log has the details under the id."""
    return ApiError(500, f"The server failed on this request. Its log tells why, under {request_id}.")


def shown(value: object) -> str:
    """A value of a request, short and in one line."""
    try:
        text = json.dumps(value)
    except (TypeError, ValueError, RecursionError):
        text = type(value).__name__
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _kind(status: int) -> str:
    if status == 401:
        return "authentication_error"
    if status == 404:
        return "not_found_error"
    return "server_error" if status >= 500 else "invalid_request_error"
