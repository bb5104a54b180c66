"""Two clients that know nothing of this project: the official one of OpenAI, and plain HTTP."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

from openai import OpenAI

from ocrsmith.engines.base import PageRequest
from ocrsmith.engines.decoding import DecodingSettings

from .servers import REQUEST_SECONDS, Server

PROMPT = "<image>\nFree OCR."


def official(server: Server, key: str = "none") -> OpenAI:
    """The client as its makers document it; one attempt, so that no failure is hidden."""
    return OpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=0, timeout=REQUEST_SECONDS)


def message(page: PageRequest, url: str | None = None) -> list[dict[str, Any]]:
    """A chat with one page; vLLM and `ocrsmith serve` put `<image>` and a line break before the text."""
    url = url or "data:image/png;base64," + base64.b64encode(page.image).decode("ascii")
    text = (page.prompt or PROMPT).removeprefix("<image>\n")
    parts = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": text}]
    return [{"role": "user", "content": parts}]


def body(
    model: str, page: PageRequest, decoding: DecodingSettings, whitelist: Sequence[int] = ()
) -> dict[str, Any]:
    """A request as vLLM's own examples for DeepSeek-OCR send it, the n-gram rule in `vllm_xargs`."""
    fields: dict[str, Any] = {
        "model": model,
        "messages": message(page),
        "temperature": 0.0,
        "max_tokens": decoding.max_new_tokens,
        "skip_special_tokens": False,
    }
    if decoding.ngram_size:
        fields["vllm_xargs"] = {
            "ngram_size": decoding.ngram_size,
            "window_size": decoding.ngram_window,
            "whitelist_token_ids": list(whitelist),
        }
    return fields


def text_of(answer: dict[str, Any]) -> str:
    """Of a chat completion; white space at its ends is no part of what was read."""
    return str(answer["choices"][0]["message"]["content"]).strip()
