"""The official `openai` client, sync, async and streaming, against the bundled model."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from ocrsmith.engines.base import PageRequest
from ocrsmith.engines.openai_api import OpenAIEngine

from .conftest import PATIENCE, data_uri, image_part, line_of_text
from .scripted import TEXT


@pytest.fixture
def client(nano_url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{nano_url}/v1", api_key="sk-nano", timeout=PATIENCE) as client:
        yield client


def messages(text: str = "Hello 12345") -> Any:
    parts = [{"type": "text", "text": "Free OCR."}, image_part(data_uri(line_of_text(text)))]
    return [{"role": "user", "content": parts}]


def test_a_page_is_read(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="nano", messages=messages(), temperature=0, max_tokens=64)

    assert answer.choices[0].message.content == "Hello 12345"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.completion_tokens > 1
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_the_log_probabilities_make_the_text(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="nano", messages=messages(), logprobs=True)

    assert answer.choices[0].logprobs is not None
    entries = answer.choices[0].logprobs.content or []
    assert b"".join(bytes(entry.bytes or ()) for entry in entries).decode() == "Hello 12345"
    assert all(entry.logprob <= 0 for entry in entries)
    assert answer.usage is not None
    assert len(entries) == answer.usage.completion_tokens


def test_a_stream_says_the_same_in_pieces(client: openai.OpenAI) -> None:
    with client.chat.completions.create(
        model="nano", messages=messages(), stream=True, stream_options={"include_usage": True}
    ) as stream:
        chunks = list(stream)

    assert chunks[0].choices[0].delta.role == "assistant"
    texts = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert "".join(texts) == "Hello 12345"
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    assert chunks[-1].usage is not None
    assert chunks[-1].choices == []
    assert len({chunk.id for chunk in chunks}) == 1


def test_many_at_a_time_with_the_asynchronous_client(nano_url: str) -> None:
    async def ask() -> list[str | None]:
        async with openai.AsyncOpenAI(base_url=f"{nano_url}/v1", api_key="sk-nano", timeout=PATIENCE) as client:
            answers = await asyncio.gather(
                *(client.chat.completions.create(model="nano", messages=messages(text)) for text in texts)
            )
        return [answer.choices[0].message.content for answer in answers]

    texts = ["Hello 12345", "Invoice 77", "Total 1024"]
    assert asyncio.run(ask()) == texts


def test_models_and_completions(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["nano"]
    assert client.models.retrieve("nano").id == "nano"
    answer = client.completions.create(model="nano", prompt="Free OCR.", max_tokens=3)
    assert answer.usage is not None
    assert 1 <= answer.usage.completion_tokens <= 3


def test_errors_are_those_that_the_client_knows(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        client.chat.completions.create(model="gpt-4o", messages=messages())
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model="nano", messages=messages(), temperature=0.7)
    assert refused.value.param == "temperature"
    with pytest.raises(openai.AuthenticationError):
        client.with_options(api_key="sk-wrong").models.list()


@pytest.mark.parametrize("dialect", ["openai", "vllm"])
def test_our_own_engine_reads_through_it(nano_url: str, dialect: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-nano")
    engine = OpenAIEngine.load(base_url=f"{nano_url}/v1", model="nano", dialect=dialect)

    (read,) = engine.read([PageRequest("a", line_of_text("Hello 12345"))])

    assert (read.text, read.finish_reason, read.error) == ("Hello 12345", "stop", None)
    assert bool(read.token_ends) == (dialect == "vllm")


def test_a_loop_is_told_beside_the_reason_that_openai_knows(start: Any) -> None:
    served = start()
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key="none", timeout=PATIENCE) as client:
        answer = client.chat.completions.create(
            model="org/adapter", messages=[{"role": "user", "content": "loop"}]
        )
    assert answer.choices[0].message.content == TEXT
    assert answer.choices[0].finish_reason == "length"
    assert answer.choices[0].model_extra == {"stop_reason": "loop"}


def test_an_error_within_a_stream_reaches_the_client(start: Any) -> None:
    served = start()
    with (
        openai.OpenAI(base_url=f"{served.url}/v1", api_key="none", timeout=PATIENCE) as client,
        client.chat.completions.create(
            model="base", messages=[{"role": "user", "content": "drop"}], stream=True
        ) as stream,
        pytest.raises(openai.APIError, match="it has stopped"),
    ):
        list(stream)
