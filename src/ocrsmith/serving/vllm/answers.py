"""What vLLM answers, read as it streams: token ids and log-probabilities, and the text that they make.

Texts are made of the ids here, as the native engine makes them: vLLM's own leave out other tokens than ours.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ocrsmith.engines.base import PageRequest
from ocrsmith.engines.native.text_stream import TextStream
from ocrsmith.engines.vllm.requests import Reading
from ocrsmith.model.tokens import OcrTokens
from ocrsmith.serving.backends import BackendFailure, End, Piece, Token

_PATH = re.compile(r"(?<![\w/:])/(?:[\w.@+-]+/)+[\w.@+-]*")
_LONGEST_MESSAGE = 300


@dataclass(frozen=True, slots=True)
class Chunk:
    """One event of a stream."""

    prompt: Sequence[int] | None
    """Ids of the prompt as vLLM has it: in the first event."""
    tokens: Sequence[int]
    """New ones."""
    logprobs: Sequence[float]
    """Of the new tokens, if they were asked for."""
    finish: str | None


async def read_events(lines: AsyncIterator[str]) -> AsyncIterator[Chunk]:
    """The events of a stream of chat completions or completions, as vLLM sends them with `return_token_ids`.

    Raises:
        BackendFailure: vLLM reports an error, or says what it never said.
    """
    async for line in lines:
        name, _, value = line.partition(":")
        if name != "data":  # empty lines, comments
            continue
        if value.strip() == "[DONE]":
            return
        try:
            event = json.loads(value)
            if "error" in event:
                raise BackendFailure(f"vLLM broke off: {said(event)}")
            if choices := event["choices"]:
                yield _chunk(event, choices[0])
        except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
            raise BackendFailure(f"vLLM's answer cannot be read ({type(error).__name__})") from error


def _chunk(event: Mapping[str, Any], choice: Mapping[str, Any]) -> Chunk:
    tokens = choice.get("token_ids") or []
    told = choice.get("logprobs") or {}
    logprobs = told.get("token_logprobs")  # completions
    if logprobs is None:  # chat completions
        logprobs = [entry["logprob"] for entry in told.get("content") or []]
    prompt = event.get("prompt_token_ids", choice.get("prompt_token_ids"))
    return Chunk(prompt, [int(token) for token in tokens], [*map(float, logprobs)], choice.get("finish_reason"))


def said(body: object) -> str:
    """What vLLM says of an error, in one line, without paths of this machine."""
    value = body
    for name in ("error", "message", "detail"):
        if isinstance(value, Mapping) and name in value:
            value = value[name]
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    line = _PATH.sub("…", " ".join(text.split()))
    return line if len(line) <= _LONGEST_MESSAGE else line[: _LONGEST_MESSAGE - 1] + "…"


class Answer:
    """An answer as it grows: tokens in, pieces of text out."""

    def __init__(self, tokens: OcrTokens, *, logprobs: bool) -> None:
        """
        Args:
            tokens: of the model.
            logprobs: whether pieces hold their tokens.
        """
        self._logprobs = logprobs
        self._reading = Reading(PageRequest("", b""), tokens.eos)
        self._stream = TextStream(tokens)

    @property
    def ended(self) -> bool:
        """Whether it is complete: vLLM said so, or it repeats itself without end."""
        return self._reading.finish is not None

    def take(self, chunk: Chunk) -> Piece | None:
        """Takes over new tokens.

        Returns:
            What is new, None if nothing is.

        Raises:
            BackendFailure: vLLM ended the answer, and not in a way that an answer ends.
        """
        reading = self._reading
        before = len(reading.tokens)
        reading.take(chunk.tokens, None, chunk.finish)
        if reading.finish == "error":
            raise BackendFailure(reading.error)
        new = reading.tokens[before:]
        if self._logprobs and len(chunk.logprobs) < len(new):
            raise BackendFailure("vLLM left out log-probabilities")
        text = self._stream.add(new)
        if self.ended:
            text += self._stream.end()
        told = zip(new, chunk.logprobs, strict=False) if self._logprobs else ()
        tokens = tuple(Token(self._stream.bytes_of(token), logprob) for token, logprob in told)
        return Piece(text, tokens) if text or tokens else None

    def end(self, prompt_tokens: int) -> End:
        """What is said of the complete answer."""
        finish = self._reading.finish
        if finish is None:
            raise BackendFailure("vLLM's answer broke off")
        return End(finish, prompt_tokens, len(self._reading.tokens))
