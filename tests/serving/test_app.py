"""What the app answers: fields taken and refused, shapes, keys, metrics, the log."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from ocrsmith.serving.settings import ServerSettings

from .conftest import Served, Start, data_uri, encoded, image_part, line_of_text, until
from .scripted import TEXT


def error_of(answer: Any) -> dict[str, Any]:
    """The error in an answer, whose shape is OpenAI's."""
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"message", "type", "param", "code"}
    return body["error"]


def events_of(answer: Any) -> list[Any]:
    """The events of a stream; the last is `[DONE]` or an error."""
    events = [line.removeprefix("data: ") for line in answer.text.split("\n\n") if line]
    return [event if event == "[DONE]" else json.loads(event) for event in events]


PAGE = image_part(data_uri(line_of_text("Hello")))


@pytest.mark.parametrize(
    ("content", "prompt"),
    [
        ("Hello", "Hello"),
        ([{"type": "text", "text": "Free OCR."}, PAGE], "<image>\nFree OCR."),
        ([PAGE, {"type": "text", "text": "Free"}, {"type": "text", "text": "OCR."}], "<image>\nFree\nOCR."),
        ([PAGE, {"type": "text", "text": "<image>Free OCR."}], "<image>Free OCR."),
        ([PAGE], "<image>\n"),
    ],
)
def test_parts_become_the_prompt_that_the_model_knows(served: Served, content: Any, prompt: str) -> None:
    answer = served.chat(content)

    assert answer.status_code == 200
    assert served.backend.seen[-1].prompt == prompt
    assert (served.backend.seen[-1].image is not None) == ("<image>" in prompt)


def test_an_answer_in_one_piece(served: Served) -> None:
    answer = served.chat("Hello", model="org/adapter", max_completion_tokens=50).json()

    asked = served.backend.seen[-1]
    assert (asked.model, asked.max_tokens, asked.decoding, asked.logprobs) == ("org/adapter", 50, None, False)
    assert answer["id"] == asked.id
    assert answer["object"] == "chat.completion"
    assert answer["model"] == "org/adapter"
    assert answer["choices"][0]["message"] == {"role": "assistant", "content": TEXT, "refusal": None}
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert answer["usage"] == {
        "prompt_tokens": 7,
        "completion_tokens": len(TEXT) + 1,
        "total_tokens": len(TEXT) + 8,
    }


def test_a_stream_of_events(served: Served) -> None:
    answer = served.chat("Hello", stream=True, logprobs=True)

    events = events_of(answer)
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert events[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert events[-1] == "[DONE]"
    assert "".join(event["choices"][0]["delta"].get("content", "") for event in events[:-1]) == TEXT
    entries = [entry for e in events[1:-2] for entry in e["choices"][0]["logprobs"]["content"]]
    assert bytes(number for entry in entries for number in entry["bytes"]).decode() == TEXT
    assert entries[-1]["logprob"] == -9999.0
    assert "usage" not in events[-2]


def test_usage_in_a_stream_only_if_asked_for(served: Served) -> None:
    events = events_of(served.chat("Hello", stream=True, stream_options={"include_usage": True}))

    assert events[-2]["choices"] == []
    assert events[-2]["usage"]["prompt_tokens"] == 7
    assert all(event["usage"] is None for event in events[:-2])


def test_completions_of_text(served: Served) -> None:
    body = {"model": "base", "prompt": ["Hello"], "logprobs": 0}
    answer = served.client.post("/v1/completions", json=body).json()
    events = events_of(served.client.post("/v1/completions", json={**body, "stream": True}))

    choice = answer["choices"][0]
    assert answer["object"] == "text_completion"
    assert choice["text"] == TEXT
    assert [TEXT[place] for place in choice["logprobs"]["text_offset"][:-1]] == choice["logprobs"]["tokens"][
        :-1
    ]
    assert "".join(event["choices"][0]["text"] for event in events[:-1]) == TEXT


HARMLESS = {
    "user": "me",
    "seed": 7,
    "metadata": {"a": "b"},
    "top_p": 0.5,
    "presence_penalty": 0,
    "n": 1,
    "temperature": 0.0,
    "stop": None,
    "tools": [],
    "tool_choice": "none",
    "top_logprobs": 0,
    "response_format": {"type": "text"},
    "logit_bias": {},
    "skip_special_tokens": False,
    "store": False,
}


def test_harmless_fields_are_taken(served: Served) -> None:
    assert served.chat("Hello", **HARMLESS).status_code == 200


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", 0.1),
        ("temperature", True),
        ("n", 2),
        ("stop", ["\n"]),
        ("tools", [{"type": "function"}]),
        ("response_format", {"type": "json_object"}),
        ("logit_bias", {"5": 100}),
        ("presence_penalty", 1),
        ("top_logprobs", 5),
        ("max_tokens", 0),
        ("max_tokens", "many"),
        ("max_tokens", True),
        ("stream", "yes"),
        ("logprobs", 1),
        ("model", 7),
        ("messages", "Hello"),
        ("vllm_xargs", 3),
        ("skip_special_tokens", True),
        ("stream_options", {"include_usage": True}),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(served: Served, name: str, value: Any) -> None:
    answer = served.chat("Hello", **{name: value})

    error = error_of(answer)
    assert answer.status_code == 400
    assert (error["type"], error["param"]) == ("invalid_request_error", name)
    assert name in error["message"]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": "Hello", "echo": True}, "echo"),
        ({"prompt": "Hello", "best_of": 3}, "best_of"),
        ({"prompt": "Hello", "suffix": "end"}, "suffix"),
        ({"prompt": ["a", "b"]}, "prompt"),
        ({"prompt": [1, 2]}, "prompt"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": "<image>\nFree OCR."}, "prompt"),
        ({"prompt": "Hello", "logprobs": 5}, "logprobs"),
        ({"prompt": "Hello", "messages": []}, "messages"),
        ({}, "prompt"),
    ],
)
def test_completions_refuse_by_name_too(served: Served, fields: dict[str, Any], param: str) -> None:
    answer = served.client.post("/v1/completions", json=fields)

    assert answer.status_code == 400
    assert error_of(answer)["param"] == param


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        ([], "messages"),
        ([{"role": "system", "content": "Be kind."}], "messages[0].role"),
        ([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}], "messages[1].role"),
        ([{"role": "user", "content": "a"}, {"role": "user", "content": "b"}], "messages"),
        ([{"role": "user"}], "messages[0].content"),
        ([{"role": "user", "content": ""}], "messages[0].content"),
        ([{"role": "user", "content": "<image>"}], "messages[0].content"),
        ([{"role": "user", "content": [PAGE, PAGE]}], "messages[0].content[1]"),
        ([{"role": "user", "content": [{"type": "input_audio"}]}], "messages[0].content[0].type"),
        ([{"role": "user", "content": [{"type": "image_url"}]}], "messages[0].content[0].image_url"),
        ([{"role": "user", "content": "a", "tool_calls": []}], "messages[0].tool_calls"),
        ([7], "messages[0]"),
    ],
)
def test_messages_are_one_user_message(served: Served, messages: Any, param: str) -> None:
    answer = served.client.post("/v1/chat/completions", json={"messages": messages})

    assert answer.status_code == 400
    assert error_of(answer)["param"] == param


def test_the_ngram_rule_of_a_request(served: Served) -> None:
    rule = {"ngram_size": 20, "window_size": 50, "whitelist_token_ids": [128822, 128821]}
    assert served.chat("Hello", vllm_xargs=rule).status_code == 200
    decoding = served.backend.seen[-1].decoding
    assert decoding is not None
    assert (decoding.ngram_size, decoding.ngram_window) == (20, 50)
    assert decoding.ngram_whitelist == ("<td>", "</td>")

    assert served.chat("Hello", vllm_xargs={"ngram_size": 20, "whitelist_token_ids": []}).status_code == 200
    decoding = served.backend.seen[-1].decoding
    assert decoding is not None
    assert (decoding.ngram_window, decoding.ngram_whitelist) == (90, ())


@pytest.mark.parametrize(
    "rule",
    [{"whitelist_token_ids": [5]}, {"ngram_size": 100, "window_size": 50}, {"ngram_size": -1}, {"other": 1}],
)
def test_an_ngram_rule_that_cannot_be(served: Served, rule: dict[str, Any]) -> None:
    answer = served.chat("Hello", vllm_xargs=rule)

    assert answer.status_code == 400
    assert "vllm_xargs" in error_of(answer)["message"]


def test_the_longest_answer_is_bounded(start: Start) -> None:
    served = start(max_tokens=100)

    assert served.chat("Hello").status_code == 200
    assert served.backend.seen[-1].max_tokens == 100
    assert error_of(served.chat("Hello", max_tokens=101))["param"] == "max_tokens"


def test_a_prompt_beyond_any_context_does_not_reach_the_model(served: Served) -> None:
    before = len(served.backend.seen)
    answer = served.chat("word " * 20_000)

    assert answer.status_code == 400
    assert "1024" in error_of(answer)["message"]
    assert len(served.backend.seen) == before


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/models/nobody", 404),
        ("GET", "/v2/models", 404),
        ("GET", "/docs", 404),
        ("GET", "/openapi.json", 404),
        ("GET", "/v1/models/../../etc/passwd", 404),
        ("GET", "/v1/chat/completions", 405),
        ("DELETE", "/v1/models", 405),
        ("POST", "/health", 405),
    ],
)
def test_other_paths_and_methods(served: Served, method: str, path: str, status: int) -> None:
    answer = served.client.request(method, path)

    assert answer.status_code == status
    error_of(answer)


def test_models(served: Served) -> None:
    listed = served.client.get("/v1/models").json()
    assert [model["id"] for model in listed["data"]] == ["base", "org/adapter"]
    one = served.client.get("/v1/models/org/adapter").json()
    assert (one["id"], one["parent"], one["max_model_len"]) == ("org/adapter", "base", 1024)


def test_health_follows_the_backend(start: Start) -> None:
    served = start()
    assert served.client.get("/health").json() == {"status": "ok"}
    served.backend.failure = "it is starting"
    answer = served.client.get("/health")
    assert answer.status_code == 503
    assert error_of(answer)["code"] == "unhealthy"


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer sk-", "Basic sk-one", "sk-one", "Bearer é"])
def test_without_a_key_nothing_but_health(start: Start, header: str | None) -> None:
    served = start(api_keys=("sk-one", "sk-two"))
    headers = {"authorization": (header or "").encode()} if header is not None else {}
    del served.client.headers["authorization"]

    for path in ("/v1/models", "/metrics", "/nowhere"):
        answer = served.client.get(path, headers=headers)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        assert error_of(answer)["code"] == "invalid_api_key"
    assert served.client.get("/health").status_code == 200
    for key in ("sk-one", "sk-two"):
        good = served.client.get("/v1/models", headers={"authorization": f"bearer {key}"})
        assert good.status_code == 200


def test_keys_are_shown_nowhere() -> None:
    settings = ServerSettings(api_keys=("sk-secret",))
    assert "sk-secret" not in repr(settings) + settings.to_yaml() + str(settings.model_dump())


@pytest.mark.parametrize("word", ["refuse", "fail", "bug"])
@pytest.mark.parametrize("stream", [False, True])
def test_failures_before_the_first_piece(served: Served, word: str, stream: bool) -> None:
    answer = served.chat(word, stream=stream)

    assert answer.status_code == {"refuse": 400, "fail": 503, "bug": 500}[word]
    message = error_of(answer)["message"]
    assert "secret" not in message
    assert {"refuse": "9 tokens too many", "fail": "restarted", "bug": "chatcmpl-"}[word] in message


@pytest.mark.parametrize("word", ["break", "drop"])
def test_failures_within_a_stream_are_its_last_event(served: Served, word: str) -> None:
    events = events_of(served.chat(word, stream=True))

    assert set(events[-1]) == {"error"}
    assert events[-1]["error"]["type"] == "server_error"
    assert "secret" not in json.dumps(events)


def test_metrics_count(start: Start) -> None:
    served = start()
    served.chat("Hello")
    served.chat("Hello", temperature=1)
    served.client.get("/nowhere/at/all")

    chat = 'endpoint="/v1/chat/completions"'
    assert served.metric(f'ocrsmith_requests_total{{{chat},status="200"}}') == 1
    assert served.metric(f'ocrsmith_requests_total{{{chat},status="400"}}') == 1
    assert served.metric('ocrsmith_requests_total{endpoint="other",status="404"}') == 1
    assert served.metric(f"ocrsmith_request_seconds_count{{{chat}}}") == 2
    assert served.metric('ocrsmith_tokens_total{kind="prompt",model="base"}') == 7
    assert served.metric('ocrsmith_answers_total{finish_reason="stop",model="base"}') == 1
    assert served.metric("process_resident_memory_bytes") > 2**20
    assert served.metric("ocrsmith_running") == 0


@pytest.mark.parametrize("log_texts", [False, True])
def test_the_log_has_one_line_a_request(
    start: Start, caplog: pytest.LogCaptureFixture, log_texts: bool
) -> None:
    served = start(log_texts=log_texts, api_keys=("sk-one",))
    with caplog.at_level(logging.INFO, "ocrsmith.serving"):
        answer = served.chat([{"type": "text", "text": "my\nprivate words"}, PAGE])
        served.chat("my private bug")
        served.client.get("/health")
        until(lambda: len(caplog.records) >= 4)  # the last is written after the answer

    lines = [json.loads(record.message) for record in caplog.records]
    first, failure, second, health = [line for line in lines if line["event"] in ("request", "failure")]
    assert first["id"] == answer.json()["id"] == answer.headers["x-request-id"]
    assert (first["model"], first["status"], first["completion_tokens"]) == ("base", 200, len(TEXT) + 1)
    assert first["bytes"] == len(answer.content)
    assert first["ms"] >= 0
    assert (second["status"], failure["id"], health["endpoint"]) == (500, second["id"], "/health")
    assert any("scripted.py" in frame for frame in failure["frames"])
    assert "sk-one" not in caplog.text
    assert ("private" in caplog.text) == log_texts
    assert (TEXT in str(first.get("text"))) == log_texts


def test_answers_cannot_be_framed_sniffed_or_kept(served: Served) -> None:
    headers = served.client.get("/v1/models").headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store"
    assert "server" not in headers


def test_a_small_grey_tiff_is_taken(served: Served) -> None:
    from PIL import Image

    tiff = encoded(Image.new("L", (30, 20), 200), "TIFF")
    assert served.chat([image_part(data_uri(tiff, "image/tiff"))]).status_code == 200
    assert served.backend.seen[-1].image == tiff
