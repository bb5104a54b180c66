"""Answers that come in pieces (server-sent events), put together as if they had come whole."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

from ocrsmith.engines.http_client import MAX_ANSWER_BYTES, PageFailure

_PER_TOKEN = 8
"""An event repeats names and ids, so a stream is several times longer than its answer."""
_MAX_EVENT = 2**20


async def read_stream(pieces: AsyncIterator[bytes], first_text: Callable[[], None]) -> dict[str, Any]:
    """The answer of a stream, in the form of one that came whole.

    Args:
        pieces: of the body.
        first_text: called when the first text has come.

    Raises:
        PageFailure: the server reports an error in it, or it is no such stream.
    """
    texts: list[str] = []
    choice: dict[str, Any] = {}
    usage: Any = None
    async for event in _events(pieces):
        if "error" in event:
            raise PageFailure(f"an error in the stream: {json.dumps(event['error'], ensure_ascii=False)[:300]}")
        usage = event.get("usage") or usage
        choices = event.get("choices")
        if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
            continue
        choice |= {name: value for name, value in choices[0].items() if value is not None}
        delta = choice.pop("delta", None)
        text = delta.get("content") if isinstance(delta, dict) else None
        if isinstance(text, str) and text:
            if not texts:
                first_text()
            texts.append(text)
    if "finish_reason" not in choice:
        raise PageFailure("the stream ended before the answer did")
    return {"choices": [choice | {"message": {"content": "".join(texts)}}], "usage": usage}


async def _events(pieces: AsyncIterator[bytes]) -> AsyncIterator[dict[str, Any]]:
    """The JSON objects of a stream, up to its end."""
    rest, size = b"", 0
    async for piece in pieces:
        size += len(piece)
        if size > _PER_TOKEN * MAX_ANSWER_BYTES:
            raise PageFailure(f"the stream is longer than {_PER_TOKEN * MAX_ANSWER_BYTES:,} bytes")
        *lines, rest = (rest + piece).split(b"\n")
        if len(rest) > _MAX_EVENT:
            raise PageFailure(f"an event of the stream is longer than {_MAX_EVENT:,} bytes")
        for line in lines:
            if not line.startswith(b"data:"):
                continue
            data = line[len(b"data:") :].strip()
            if data != b"[DONE]":
                yield _parse(data)


def _parse(data: bytes) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise PageFailure(f"an event of the stream is not JSON ({type(error).__name__})") from error
    if not isinstance(value, dict):
        raise PageFailure("an event of the stream is no JSON object")
    return value
