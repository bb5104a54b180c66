"""Answers in OpenAI's shapes, in one piece or as a stream of events."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from ocrsmith.serving.backends import End, Piece, Token
from ocrsmith.serving.errors import ApiError, encode

_LOWEST_LOGPROB = -9999.0
"""Stands for minus infinity, which JSON has no word for."""
LAST_EVENT = b"data: [DONE]\n\n"


@dataclass(slots=True)
class Shape:
    """How the answer to one request is written."""

    id: str
    model: str
    chat: bool
    logprobs: bool
    include_usage: bool = False
    created: int = field(default_factory=lambda: int(time.time()))
    _offset: int = 0
    """Characters of tokens written so far, for completions."""

    def whole(self, text: str, tokens: Sequence[Token], end: End) -> bytes:
        """The answer in one piece."""
        choice: dict[str, Any] = {"index": 0, **_finish(end), "logprobs": self._logprobs(tokens)}
        if self.chat:
            choice["message"] = {"role": "assistant", "content": text, "refusal": None}
        else:
            choice["text"] = text
        kind = "chat.completion" if self.chat else "text_completion"
        return encode({**self._head(kind), "choices": [choice], "usage": _usage(end)})

    def first(self) -> bytes:
        """The event that begins a stream: the role. Completions have none."""
        return self._event({"role": "assistant", "content": ""}, "", (), None) if self.chat else b""

    def piece(self, piece: Piece) -> bytes:
        """The event of a piece of text."""
        return self._event({"content": piece.text}, piece.text, piece.tokens, None)

    def last(self, end: End) -> bytes:
        """The events that end a stream."""
        events = self._event({}, "", (), end)
        if self.include_usage:
            kind = "chat.completion.chunk" if self.chat else "text_completion"
            events += sse({**self._head(kind), "choices": [], "usage": _usage(end)})
        return events + LAST_EVENT

    def _event(self, delta: dict[str, Any], text: str, tokens: Sequence[Token], end: End | None) -> bytes:
        finish = {"finish_reason": None} if end is None else _finish(end)
        choice: dict[str, Any] = {"index": 0, **finish, "logprobs": self._logprobs(tokens) if tokens else None}
        if self.chat:
            choice["delta"] = delta
        else:
            choice["text"] = text
        chunk = {**self._head("chat.completion.chunk" if self.chat else "text_completion"), "choices": [choice]}
        if self.include_usage:
            chunk["usage"] = None
        return sse(chunk)

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}

    def _logprobs(self, tokens: Sequence[Token]) -> dict[str, Any] | None:
        if not self.logprobs:
            return None
        texts = [token.data.decode("utf-8", "replace") for token in tokens]
        numbers = [max(_LOWEST_LOGPROB, token.logprob) for token in tokens]
        if self.chat:
            entries = [
                {"token": text, "bytes": list(token.data), "logprob": number, "top_logprobs": []}
                for token, text, number in zip(tokens, texts, numbers, strict=True)
            ]
            return {"content": entries, "refusal": None}
        offsets = []
        for text in texts:
            offsets.append(self._offset)
            self._offset += len(text)
        return {"tokens": texts, "token_logprobs": numbers, "top_logprobs": None, "text_offset": offsets}


def sse(value: Any) -> bytes:
    """One server-sent event."""
    return b"data: " + encode(value) + b"\n\n"


def failure_event(error: ApiError) -> bytes:
    """The event of an error after the stream has begun."""
    return sse(error.body())


async def gathered(items: AsyncIterator[Piece | End]) -> tuple[str, list[Token], End]:
    """All that a backend says of a request. Raises ValueError if it stops without an End."""
    texts: list[str] = []
    tokens: list[Token] = []
    async for item in items:
        if isinstance(item, End):
            return "".join(texts), tokens, item
        texts.append(item.text)
        tokens.extend(item.tokens)
    raise ValueError("the backend stopped without an End")


def _finish(end: End) -> dict[str, Any]:
    """A loop is `length` for those who know OpenAI's reasons only; `stop_reason` is vLLM's field beside it."""
    loop = end.finish_reason == "loop"
    return {"finish_reason": "length" if loop else end.finish_reason, "stop_reason": "loop" if loop else None}


def _usage(end: End) -> dict[str, int]:
    return {
        "prompt_tokens": end.prompt_tokens,
        "completion_tokens": end.completion_tokens,
        "total_tokens": end.prompt_tokens + end.completion_tokens,
    }
