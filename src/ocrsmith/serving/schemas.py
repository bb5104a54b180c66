"""What clients may ask: the fields of OpenAI's chat completions and completions, and vLLM's few beside them.

A field that cannot change the answer is taken and ignored; one that would, and cannot be honoured, is refused.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ocrsmith.serving.errors import ApiError, bad_request, bad_value
from ocrsmith.text.prompts import IMAGE_TOKEN

IMAGE_FIELD = "messages[0].content"


@dataclass(frozen=True, slots=True)
class NGramRule:
    """What `vllm_xargs` says of loop control; None: as the model has it."""

    size: int | None = None
    window: int | None = None
    whitelist_ids: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """A request whose fields have the right types and values."""

    model: str | None
    prompt: str
    image_url: str | None
    image_field: str
    """Where the image stands in the request, for messages."""
    max_tokens: int | None
    stream: bool
    include_usage: bool
    logprobs: bool
    rule: NGramRule | None
    chat: bool


# Fields that say nothing about the text of a greedy answer.
_IGNORED = {
    *("user", "seed", "metadata", "store", "service_tier", "top_p", "top_k", "min_p", "prompt_cache_key"),
    *("safety_identifier", "prompt_cache_retention", "parallel_tool_calls", "priority", "request_id"),
    *("include_stop_str_in_output", "spaces_between_special_tokens"),
}
# Fields that would change the answer; these values of them do not.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "temperature": (0,),
    "n": (1,),
    "best_of": (1,),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "repetition_penalty": (1,),
    "length_penalty": (1,),
    "logit_bias": ({},),
    "stop": ([], ""),
    "stop_token_ids": ([],),
    "tools": ([],),
    "tool_choice": ("none",),
    "functions": ([],),
    "function_call": ("none",),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "audio": (),
    "prediction": (),
    "reasoning_effort": ("none",),
    "verbosity": (),
    "web_search_options": (),
    "top_logprobs": (0,),
    "echo": (False,),
    "suffix": ("",),
    "use_beam_search": (False,),
    "ignore_eos": (False,),
    "min_tokens": (0,),
    "skip_special_tokens": (False,),
    "add_special_tokens": (True,),
    "add_generation_prompt": (True,),
    "continue_final_message": (False,),
    "truncate_prompt_tokens": (),
    "prompt_logprobs": (),
    "guided_json": (),
    "guided_regex": (),
    "structured_outputs": (),
}
_WHY = {
    "temperature": "answers are decoded greedily; leave it out or give 0",
    "n": "there is one answer to each request",
    "best_of": "there is one answer to each request",
    "top_logprobs": "only the log-probabilities of the generated tokens are known; give 0 or leave it out",
    "skip_special_tokens": "tokens such as <td> are part of the answer; leave it out or give false",
}
_BOTH = {"model", "max_tokens", "stream", "stream_options", "logprobs", "vllm_xargs", *_IGNORED, *_NEUTRAL}
_CHAT = _BOTH | {"messages", "max_completion_tokens"}
_COMPLETIONS = _BOTH | {"prompt"}


def read_chat(values: Mapping[str, Any]) -> Asked:
    """A request for a chat completion. Raises ApiError (400) that names the field."""
    _check_names(values, _CHAT)
    prompt, url, field = _message(values.get("messages"))
    limit = _whole(values, "max_completion_tokens", 1)
    older = _whole(values, "max_tokens", 1)
    if limit is not None and older is not None and limit != older:
        raise bad_value("max_tokens", older, f"max_completion_tokens says {limit}; give one of them")
    wanted = _flag(values, "logprobs")
    return _asked(values, prompt, url, field, limit or older, wanted, chat=True)


def read_completion(values: Mapping[str, Any]) -> Asked:
    """A request for a completion of a text. Raises ApiError (400) that names the field."""
    _check_names(values, _COMPLETIONS)
    prompt = values.get("prompt")
    if isinstance(prompt, list) and len(prompt) == 1:
        prompt = prompt[0]
    if not isinstance(prompt, str) or not prompt:
        raise bad_value("prompt", prompt, "give one text, or a list of one")
    if IMAGE_TOKEN in prompt:
        raise bad_request(
            f"prompt has {IMAGE_TOKEN} in it; completions take text only, images go to /v1/chat/completions.",
            "prompt",
        )
    number = values.get("logprobs")
    if number is not None and (type(number) is not int or number != 0):
        raise bad_value("logprobs", number, "only those of the generated tokens are known; give 0 or null")
    limit = _whole(values, "max_tokens", 1)
    return _asked(values, prompt, None, "prompt", limit, number is not None, chat=False)


def _asked(
    values: Mapping[str, Any], prompt: str, url: str | None, field: str, limit: int | None, logprobs: bool,
    *, chat: bool,
) -> Asked:  # fmt: skip
    model = values.get("model")
    if model is not None and not isinstance(model, str):
        raise bad_value("model", model, "give the name of a model")
    stream = _flag(values, "stream")
    return Asked(
        model=model,
        prompt=prompt,
        image_url=url,
        image_field=field,
        max_tokens=limit,
        stream=stream,
        include_usage=_include_usage(values.get("stream_options"), stream),
        logprobs=logprobs,
        rule=_rule(values.get("vllm_xargs")),
        chat=chat,
    )


def _check_names(values: Mapping[str, Any], known: set[str]) -> None:
    for name, value in values.items():
        if name not in known:
            raise bad_request(f"{name[:80]!r} is no field that this server knows.", name[:80])
        if value is None or name not in _NEUTRAL:
            continue
        if not any(_same(value, neutral) for neutral in _NEUTRAL[name]):
            raise bad_value(name, value, _WHY.get(name, "this server cannot honour it; leave it out"))


def _same(value: Any, neutral: Any) -> bool:
    """Equal, and no number for a truth value or the other way round."""
    return bool(value == neutral) and isinstance(value, bool) == isinstance(neutral, bool)


def _message(messages: Any) -> tuple[str, str | None, str]:
    """The prompt of the one user message, the address of its image, and where that stands."""
    if not isinstance(messages, list) or not messages:
        raise bad_value("messages", messages, "give a list with one user message")
    for number, message in enumerate(messages):
        if not isinstance(message, dict):
            raise bad_value(f"messages[{number}]", message, "give an object with role and content")
        if message.get("role") != "user":
            allowed = "the model knows no roles; put everything into one user message"
            raise bad_value(f"messages[{number}].role", message.get("role"), allowed)
    if len(messages) > 1:
        raise bad_request("messages has more than one message; the model knows no turns.", "messages")
    for name in messages[0]:
        if name not in ("role", "content", "name"):
            raise bad_request(f"messages[0] has the unknown field {name[:80]!r}.", f"messages[0].{name[:80]}")
    content = messages[0].get("content")
    if isinstance(content, str):
        content = [{"type": "text", "text": content}]
    if not isinstance(content, list) or not content:
        raise bad_value(IMAGE_FIELD, content, "give a text or a list of parts")
    return _parts(content)


def _parts(content: list[Any]) -> tuple[str, str | None, str]:
    texts: list[str] = []
    url, field = None, IMAGE_FIELD
    for number, part in enumerate(content):
        place = f"{IMAGE_FIELD}[{number}]"
        kind = part.get("type") if isinstance(part, dict) else None
        if kind == "text":
            texts.append(_text(part, place))
        elif kind == "image_url":
            if url is not None:
                raise bad_request(f"{place} is a second image; send each page in a request of its own.", place)
            url, field = _url(part, place), f"{place}.image_url.url"
        else:
            raise bad_value(f"{place}.type", kind, "give text or image_url")
    return _joined(texts, url), url, field


def _text(part: Mapping[str, Any], place: str) -> str:
    text = part.get("text")
    if not isinstance(text, str):
        raise bad_value(f"{place}.text", text, "give a text")
    return text


def _url(part: Mapping[str, Any], place: str) -> str:
    image = part.get("image_url")
    url = image.get("url") if isinstance(image, dict) else None
    if not isinstance(url, str):
        raise bad_value(f"{place}.image_url", image, "give an object with a url in it")
    return url


def _joined(texts: list[str], url: str | None) -> str:
    """Text and image as the model sees them: the image first, unless the text says where it stands."""
    text = "\n".join(texts)
    marks = text.count(IMAGE_TOKEN)
    if marks > (url is not None):
        problem = f"The text has {marks} times {IMAGE_TOKEN} in it, which stands for the image."
        raise bad_request(problem, IMAGE_FIELD)
    if url is not None and not marks:
        return "\n".join([IMAGE_TOKEN, text])
    if not text:
        raise bad_request("The message is empty.", IMAGE_FIELD)
    return text


def _include_usage(options: Any, stream: bool) -> bool:
    if options is None:
        return False
    if not isinstance(options, dict) or options.keys() - {"include_usage", "include_obfuscation"}:
        raise bad_value("stream_options", options, "give an object with include_usage")
    if not stream:
        raise bad_request("stream_options goes only with stream.", "stream_options")
    _flag(options, "include_obfuscation", "stream_options.")
    return _flag(options, "include_usage", "stream_options.")


def _rule(values: Any) -> NGramRule | None:
    if values is None:
        return None
    place = "vllm_xargs"
    if not isinstance(values, dict):
        raise bad_value(place, values, "give an object")
    unknown = values.keys() - {"ngram_size", "window_size", "whitelist_token_ids"}
    if unknown:
        raise bad_request(f"{place} has the unknown field {min(unknown)[:80]!r}.", place)
    ids = values.get("whitelist_token_ids")
    good = (
        isinstance(ids, list)
        and len(ids) <= 1024
        and all(type(item) is int and 0 <= item < 2**31 for item in ids)
    )
    if ids is not None and not good:
        raise bad_value(f"{place}.whitelist_token_ids", ids, "give a list of token ids")
    size = _whole(values, "ngram_size", 1, f"{place}.")
    window = _whole(values, "window_size", 1, f"{place}.")
    return NGramRule(size, window, None if ids is None else tuple(ids))


def _flag(values: Mapping[str, Any], name: str, place: str = "") -> bool:
    value = values.get(name)
    if value is not None and not isinstance(value, bool):
        raise bad_value(place + name, value, "give true or false")
    return bool(value)


def _whole(values: Mapping[str, Any], name: str, low: int, place: str = "") -> int | None:
    value = values.get(name)
    if isinstance(value, float) and math.isfinite(value) and value.is_integer():
        value = int(value)  # 30.0 is the same number in JSON
    if value is not None and (type(value) is not int or not low <= value < 2**31):
        raise bad_value(place + name, value, f"give a whole number from {low} on")
    return value


def unknown_model(name: str) -> ApiError:
    """A 404 for a model that is not served."""
    message = f"There is no model {name[:80]!r} here; GET /v1/models lists them."
    return ApiError(404, message, param="model", code="model_not_found")
