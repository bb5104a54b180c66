"""vLLM's OpenAI server reads as the native engine does, whoever asks; run by `make test-vllm`."""

from __future__ import annotations

import urllib.error
from pathlib import Path

import pytest

from ocrsmith.engines.registry import open_engine
from ocrsmith.records import Prediction

from .checkpoint import FIRM, FREE, PAGES, SPECIAL, TOKENS
from .clients import body, message, official, text_of
from .commands import assert_same_evaluation, evaluate
from .servers import Server

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(1800)]
CELLS = [SPECIAL.index("<td>"), SPECIAL.index("</td>")]


def test_the_same_tokens_over_http_with_and_without_tiles(
    native_readings: dict[str, dict[str, Prediction]], server: Server
) -> None:
    engine = open_engine(
        "openai", base_url=f"{server.url}/v1", model="tuned", dialect="vllm", decoding=FREE, retries=0
    )
    for answer in engine.read(list(PAGES.values())):
        expected = native_readings["free"][answer.id]
        assert (answer.finish_reason, answer.error) == (expected.finish_reason, None)
        assert (answer.text, answer.tokens) == (expected.text, expected.tokens)
        assert answer.token_ends == expected.token_ends
        assert answer.token_logprobs == pytest.approx(expected.token_logprobs, abs=1e-3)


def test_ocrsmith_eval_over_http_gives_the_figures_of_the_native_engine(
    native_evaluation: Path, pages: Path, server: Server, tmp_path: Path
) -> None:
    asking = ["--engine", "openai", "--dialect", "vllm", "--base-url", f"{server.url}/v1", "--model", "tuned"]
    limits = ["--max-new-tokens", str(TOKENS), "--concurrency", "2"]
    over_http = evaluate(tmp_path / "eval", pages, *asking, *limits)
    assert_same_evaluation(over_http, native_evaluation)


def test_the_official_client_reads_the_same_at_once_and_streaming(
    native_readings: dict[str, dict[str, Prediction]], server: Server
) -> None:
    expected = native_readings["free"]["untiled"]
    asked = {"model": "tuned", "messages": message(PAGES["untiled"]), "max_tokens": TOKENS}
    with official(server) as client:
        assert [model.id for model in client.models.list()] == ["tuned"]
        answer = client.chat.completions.create(**asked, temperature=0)
        stream = client.chat.completions.create(**asked, stream=True)  # greedy without being told
        pieces = [event.choices[0] for event in stream if event.choices]
    assert answer.choices[0].message.content.strip() == expected.text
    assert (answer.choices[0].finish_reason, answer.usage.completion_tokens) == ("length", expected.tokens)
    assert "".join(piece.delta.content or "" for piece in pieces).strip() == expected.text
    assert pieces[-1].finish_reason == "length"


def test_a_plain_client_of_vllm_sets_the_ngram_rule_of_its_request(
    native_readings: dict[str, dict[str, Prediction]], server: Server
) -> None:
    page = PAGES["untiled"]
    free = server.post("/v1/chat/completions", body("tuned", page, FREE))
    firm = server.post("/v1/chat/completions", body("tuned", page, FIRM, CELLS))
    assert text_of(free) == native_readings["free"]["untiled"].text
    assert text_of(firm) == native_readings["firm"]["untiled"].text
    assert text_of(free) != text_of(firm), "the rule has something to forbid"


@pytest.mark.parametrize(
    ("url", "code", "reason"),
    [
        ("http://127.0.0.1:9/page.png", 400, "one of the allowed domains"),
        ("file:///etc/hostname", 500, "Cannot load local files"),
    ],
)
def test_the_bare_server_fetches_nothing(server: Server, url: str, code: int, reason: str) -> None:
    asked = {"model": "tuned", "messages": message(PAGES["untiled"], url), "max_tokens": 1}
    with pytest.raises(urllib.error.HTTPError) as refused:
        server.post("/v1/chat/completions", asked)
    with refused.value as answer:
        assert answer.code == code
        assert reason in answer.read().decode()
