"""Answers of chat completions: text, why it ended, and what is known of its tokens."""

from __future__ import annotations

import codecs
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ocrsmith.engines.base import strip_aligned
from ocrsmith.engines.decoding import is_looping
from ocrsmith.engines.http_client import PageFailure
from ocrsmith.records import FinishReason

_FINISH: dict[str, FinishReason] = {"stop": "stop", "eos": "stop", "length": "length"}


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server has answered."""

    text: str
    """Without white space around it."""
    finish: FinishReason
    tokens: int
    """Generated tokens, as far as the server says."""
    logprobs: tuple[float, ...]
    """Of generated tokens, as far as they can be used."""
    token_ends: tuple[int, ...]
    """See `Prediction.token_ends`; empty unless text, tokens and log-probabilities fit together."""


def read_answer(answer: Mapping[str, Any]) -> Answer:
    """Reads a decoded JSON answer. Raises PageFailure for another schema and for a refusal, a filter's too."""
    choices = answer.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(choice, dict) or not isinstance(message, dict):
        raise PageFailure(f"the answer has no choices with a message in it: {_shown(answer)}")
    if message.get("refusal"):
        raise PageFailure(f"the model refused: {_shown(message['refusal'])}")
    reason = choice.get("finish_reason")
    finish = _FINISH.get(reason) if isinstance(reason, str) else None
    if finish is None:
        raise PageFailure(f"the answer ended with finish_reason {_shown(reason)}")
    whole = _text(message.get("content"))
    entries = _entries(choice.get("logprobs"))
    text, ends = strip_aligned(whole, _token_ends(whole, entries))
    if finish == "length" and (choice.get("stop_reason") == "loop" or is_looping(text)):
        finish = "loop"  # our own server says so itself
    logprobs = tuple(value for value in map(_logprob, entries) if value is not None)
    usage = answer.get("usage")
    tokens = usage.get("completion_tokens") if isinstance(usage, dict) else None
    known = isinstance(tokens, int) and not isinstance(tokens, bool) and 0 <= tokens < 2**31
    return Answer(text, finish, tokens if known and tokens is not None else len(logprobs), logprobs, ends)


def _text(content: object) -> str:
    """The text of a message: a string, or a list of text parts; nothing at all is an empty text."""
    if content is None:
        return ""
    if isinstance(content, list):
        parts = [part.get("text") if isinstance(part, dict) else None for part in content]
        texts = [part for part in parts if isinstance(part, str)]
        content = "".join(texts) if len(texts) == len(parts) else None
    if not isinstance(content, str):
        raise PageFailure("the answer's content is not text")
    # Half a surrogate pair is legal in JSON, but no text; an evaluation could not be written with it.
    return content.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _entries(value: object) -> list[dict[str, Any]]:
    """What is said of each generated token, as far as anything is."""
    content = value.get("content") if isinstance(value, dict) else None
    return [entry for entry in content if isinstance(entry, dict)] if isinstance(content, list) else []


def _logprob(entry: Mapping[str, Any]) -> float | None:
    """A token's log-probability; -inf and NaN say nothing."""
    number = entry.get("logprob")
    if isinstance(number, bool) or not isinstance(number, int | float):
        return None
    return float(number) if -1e4 < number <= 1e-6 else None  # false of NaN, too


def _token_ends(text: str, entries: Sequence[Mapping[str, Any]]) -> tuple[int, ...]:
    """Where each token ends in the text, if the tokens make the text and all log-probabilities are known.

    A character may be spread over tokens: their bytes tell. The last token may be the end of sequence, which is
    listed and no part of the text.
    """
    pieces = [_bytes(entry) for entry in entries]
    if not pieces or None in pieces or any(_logprob(entry) is None for entry in entries):
        return ()
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    ends: list[int] = []
    written = ""
    for number, piece in enumerate(pieces):
        if number == len(pieces) - 1 and written == text:
            piece = b""
        written += decoder.decode(piece or b"")
        ends.append(len(written))
    return tuple(ends) if written == text else ()


def _bytes(entry: Mapping[str, Any]) -> bytes | None:
    """What a token writes, from its bytes where the server gives them."""
    numbers, token = entry.get("bytes"), entry.get("token")
    if isinstance(numbers, list):
        good = all(type(number) is int and 0 <= number < 256 for number in numbers)
        return bytes(numbers) if good else None
    return token.encode("utf-8", "replace") if isinstance(token, str) else None


def _shown(value: object) -> str:
    return json.dumps(value, ensure_ascii=True)[:120]
