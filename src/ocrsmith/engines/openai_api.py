"""The engine for any server that speaks OpenAI's chat completions: vLLM, SGLang, hosted models.

The image travels as a data URI, the prompt as text beside it. What such a server cannot be told is named in
`describe()` under `not_honoured`.
"""

from __future__ import annotations

import base64
import json
import math
import os
import re
import time
from collections.abc import Iterator, Sequence
from typing import Any, Literal

from pydantic import Field

from ocrsmith.engines.base import PageRequest, ReadProgress, failed
from ocrsmith.engines.decoding import DecodingSettings
from ocrsmith.engines.http_client import Endpoint, JsonClient, PageFailure
from ocrsmith.engines.openai_answers import read_answer
from ocrsmith.engines.page_image import as_web_image
from ocrsmith.engines.workers import Stop, read_each
from ocrsmith.errors import SettingsError
from ocrsmith.records import Prediction
from ocrsmith.settings.base import Settings, without_none
from ocrsmith.text.prompts import FREE_OCR, IMAGE_TOKEN, find_prompt

Dialect = Literal["openai", "vllm"]

KEY_VARIABLE = "OPENAI_API_KEY"
CELL_TOKEN_IDS = (128821, 128822)
"""`<td>` and `</td>` in DeepSeek-OCR's vocabulary."""

_OURS = ("messages", "model", "stream", "n")
_CONTEXT = re.compile(r"context length is (?:only )?(\d{1,9})")
_PROMPT = re.compile(r"(\d{1,9}) (?:input tokens|in the messages)")


class OpenAISettings(Settings):
    """What the engine `openai` takes. The key is no setting: it comes from the environment."""

    base_url: str = Field(description="address of the API, e.g. http://localhost:8000/v1")
    model: str = Field(min_length=1, description="the model's name on the server")
    prompt: str = Field(
        default=FREE_OCR, description="prompt for pages without one: a name, or text with <image>"
    )
    dialect: Dialect = Field(
        default="openai",
        description="vllm: also send what vLLM's DeepSeek-OCR understands, such as the n-gram rule",
    )
    whitelist_token_ids: tuple[int, ...] | None = Field(
        default=None,
        description="ids of ngram_whitelist for vLLM; for the default whitelist those of DeepSeek-OCR",
    )
    logprobs: bool | None = Field(
        default=None, description="ask for log-probabilities; by default of vLLM only"
    )
    extra_body: dict[str, Any] = Field(
        default_factory=dict, description="further fields of each request (JSON); null takes a field away"
    )
    api_key_env: str = Field(default=KEY_VARIABLE, min_length=1, description="variable that holds the key")
    allow_http: bool = Field(default=False, description="allow plain http to other machines")
    max_image_bytes: int = Field(default=20 * 2**20, ge=1024, description="longest image file to send")
    concurrency: int = Field(default=8, ge=1, le=1024, description="requests at a time")
    timeout: float = Field(default=300.0, gt=0, description="seconds for one attempt")
    retries: int = Field(default=5, ge=0, le=100, description="attempts after the first")
    backoff: float = Field(default=0.5, ge=0, description="seconds before the first retry, doubled each time")


class OpenAIEngine:
    """Reads pages through an endpoint for chat completions."""

    name = "openai"

    def __init__(self, settings: OpenAISettings, *, decoding: DecodingSettings | None = None) -> None:
        """
        Args:
            settings: where and how to ask.
            decoding: None takes the defaults.

        Raises:
            SettingsError: a wrong address or prompt, a key variable that is empty, an extra field that is ours.
        """
        self.settings = settings
        self.decoding = decoding or DecodingSettings()
        self.prompt = find_prompt(settings.prompt)
        key = read_key(settings.api_key_env)
        _check_extra_body(settings.extra_body, key)
        endpoint = Endpoint.parse(settings.base_url, "/chat/completions", allow_http=settings.allow_http)
        self._client = JsonClient(
            endpoint,
            key=key,
            timeout=settings.timeout,
            retries=settings.retries,
            backoff=settings.backoff,
        )

    @classmethod
    def load(
        cls, *, decoding: DecodingSettings | None = None, max_new_tokens: int | None = None, **options: Any
    ) -> OpenAIEngine:
        """From options by name, those of `OpenAISettings`; None is as good as not given.

        Args:
            decoding: as saved with the adapter that the server runs; None takes the defaults.
            max_new_tokens: token limit instead of that of `decoding`.
            options: see `OpenAISettings`.

        Raises:
            SettingsError: an unknown option or a wrong value; see also `__init__`.
        """
        given = {name: value for name, value in options.items() if value is not None}
        for name in ("base_url", "model"):
            if not given.get(name):
                raise SettingsError(
                    f"The engine openai needs {name}.",
                    place=name,
                    mend="For example base_url http://localhost:8000/v1 and model deepseek-ai/DeepSeek-OCR.",
                )
        values = (decoding or DecodingSettings()).model_dump() | without_none(
            {"max_new_tokens": max_new_tokens}
        )
        decoding = DecodingSettings.from_values(values, place="engine openai")
        return cls(OpenAISettings.from_values(given, place="engine openai"), decoding=decoding)

    def adjusted(self, *, mode: str | None = None, decoding: DecodingSettings | None = None) -> OpenAIEngine:
        """See `Adjustable.adjusted`. Only vLLM can be told how to decode, and no server the mode."""
        if mode is not None:
            raise SettingsError(
                "A server reads pages in its own resolution mode.", place="mode", mend="Leave the mode out."
            )
        if decoding is not None and (
            self.settings.dialect != "vllm" or "vllm_xargs" in self.settings.extra_body
        ):
            raise SettingsError(
                "The endpoint takes no n-gram rule from here.",
                place="dialect",
                mend="Use dialect vllm, without vllm_xargs in extra_body, if the server is vLLM.",
            )
        return OpenAIEngine(self.settings, decoding=decoding or self.decoding)

    def describe(self) -> dict[str, Any]:
        """See `Engine.describe`."""
        settings = self.settings
        return {
            "endpoint": str(self._client.endpoint),
            "model": settings.model,
            "prompt": self.prompt,
            "dialect": settings.dialect,
            "decoding": self.decoding.model_dump(mode="json"),
            "request": self._fields(),
            "max_image_bytes": settings.max_image_bytes,
            "not_honoured": self._not_honoured(),
            "runtime": {
                "concurrency": settings.concurrency,
                "timeout": settings.timeout,
                "retries": settings.retries,
            },
        }

    def read(
        self, requests: Sequence[PageRequest], *, progress: ReadProgress | None = None
    ) -> Iterator[Prediction]:
        """See `Engine.read`.

        Raises:
            EngineFailure: the endpoint cannot be reached at all or refuses every request (key, model, rate):
                no page is to blame, so none is recorded as failed.
        """
        yield from read_each(requests, self._read_page, workers=self.settings.concurrency, progress=progress)

    def _read_page(self, request: PageRequest, stop: Stop) -> Prediction:
        begin = time.perf_counter()
        try:
            answer = read_answer(self._ask(self._body(request), stop))
        except PageFailure as error:
            reason = self._client.redact(str(error))
            return failed(request, reason, seconds=time.perf_counter() - begin)
        logprobs = answer.logprobs
        return Prediction(
            id=request.id,
            text=answer.text,
            finish_reason=answer.finish,
            seconds=time.perf_counter() - begin,
            tokens=answer.tokens,
            logprob_mean=math.fsum(logprobs) / len(logprobs) if logprobs else None,
            logprob_min=min(logprobs) if logprobs else None,
            token_ends=answer.token_ends,
            token_logprobs=logprobs if answer.token_ends else (),
        )

    def _ask(self, body: dict[str, Any], stop: Stop) -> dict[str, Any]:
        """The answer; where prompt and token limit together are above the context, with the limit that fits."""
        try:
            return self._client.post(body, stop)
        except PageFailure as error:
            limit = _fitting_limit(error)
            if limit is None or limit >= body.get("max_tokens", 0):
                raise
            return self._client.post({**body, "max_tokens": limit}, stop)

    def _body(self, request: PageRequest) -> dict[str, Any]:
        """The request for a page. Raises ImageError, and PageFailure for a prompt that cannot be sent."""
        media_type, image = as_web_image(request.image, max_bytes=self.settings.max_image_bytes)
        url = f"data:{media_type};base64,{base64.b64encode(image).decode('ascii')}"
        content = message_content(
            request.prompt or self.prompt, {"type": "image_url", "image_url": {"url": url}}
        )
        messages = [{"role": "user", "content": content}]
        return {"model": self.settings.model, "messages": messages, **self._fields()}

    def _fields(self) -> dict[str, Any]:
        """What every request says beside model and messages."""
        settings, decoding = self.settings, self.decoding
        vllm = settings.dialect == "vllm"
        fields: dict[str, Any] = {"temperature": 0, "max_tokens": decoding.max_new_tokens, "stream": False}
        if vllm if settings.logprobs is None else settings.logprobs:
            fields["logprobs"] = True
        if vllm:
            fields["skip_special_tokens"] = False  # <td>, <|ref|> and their like are part of the answer
            if decoding.ngram_size:
                fields["vllm_xargs"] = {
                    "ngram_size": decoding.ngram_size,
                    "window_size": decoding.ngram_window,
                    "whitelist_token_ids": list(self._whitelist_ids() or ()),
                }
        fields.update(settings.extra_body)
        return {name: value for name, value in fields.items() if value is not None}

    def _whitelist_ids(self) -> tuple[int, ...] | None:
        """None where the whitelist cannot be said in ids."""
        whitelist = self.decoding.ngram_whitelist
        if self.settings.whitelist_token_ids is not None or not whitelist:
            return self.settings.whitelist_token_ids or ()
        return CELL_TOKEN_IDS if whitelist == DecodingSettings().ngram_whitelist else None

    def _not_honoured(self) -> dict[str, str]:
        """Settings that have no effect here, and why."""
        found = {"processing": "the server resizes and tiles images by its own settings"}
        if not self.decoding.ngram_size:
            return found
        if self.settings.dialect == "openai":
            why = "the endpoint takes no n-gram rule; loops are seen in finished answers only"
            return found | {"ngram_size": why, "ngram_window": why, "ngram_whitelist": why}
        if self._whitelist_ids() is None:
            found["ngram_whitelist"] = "vLLM takes ids: give whitelist_token_ids"
        return found


def read_key(variable: str) -> str | None:
    """The key in the environment, None if the usual variable is not set. Raises SettingsError."""
    key = os.environ.get(variable, "").strip()
    mend = f"export {variable}=…"
    if not key and variable != KEY_VARIABLE:
        raise SettingsError(f"The environment variable {variable} is empty.", place="api_key_env", mend=mend)
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise SettingsError(f"What {variable} holds cannot be a key.", place="api_key_env", mend=mend)
    return key or None


def _check_extra_body(extra: dict[str, Any], key: str | None) -> None:
    ours = [name for name in _OURS if name in extra]
    if ours:
        raise SettingsError(
            f"extra_body has {', '.join(ours)}, which the engine sets itself.",
            place="extra_body",
            mend="Leave it out; use the options for model and prompt.",
        )
    if key and key in json.dumps(extra):
        raise SettingsError(
            "extra_body has the key in it, which would be written into the evaluation.",
            place="extra_body",
            mend="Leave it out; keys come from the environment.",
        )


def message_content(prompt: str, image: dict[str, Any]) -> list[dict[str, Any]]:
    """The parts of the message: the image where `<image>` stands, and the text around it.

    A line break beside the mark is left out: chat templates set one there themselves.
    """
    before, mark, after = prompt.partition(IMAGE_TOKEN)
    if IMAGE_TOKEN in after:
        raise PageFailure(f"the prompt has more than one {IMAGE_TOKEN} in it")
    if not mark:
        before, after = "", prompt
    texts = (before.removesuffix("\n"), after.removeprefix("\n"))
    first, last = ([{"type": "text", "text": text}] if text.strip() else [] for text in texts)
    return [*first, image, *last]


def _fitting_limit(error: PageFailure) -> int | None:
    """The token limit that would fit, from a refusal that names the context's length and the prompt's."""
    context, prompt = _CONTEXT.search(str(error)), _PROMPT.search(str(error))
    if error.status != 400 or not context or not prompt:
        return None
    limit = int(context.group(1)) - int(prompt.group(1))
    return limit if limit > 0 else None
