"""`ocrsmith serve` reads as the native engine does, and its vLLM ends with it; run by `make test-vllm`."""

from __future__ import annotations

import os
import signal
import sys
import urllib.error
from collections.abc import Iterator
from pathlib import Path

import openai
import psutil
import pytest

from ocrsmith.records import Prediction

from .checkpoint import FIRM, FREE, PAGES, SPECIAL, TOKENS
from .clients import body, message, official, text_of
from .servers import END_SECONDS, Server, serving

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(1800)]
KEY = "a-key-of-the-tests"
CELLS = [SPECIAL.index("<td>"), SPECIAL.index("</td>")]
Readings = dict[str, dict[str, Prediction]]


@pytest.fixture(scope="module")
def gateway(merged: Path, native_readings: Readings, place: Path) -> Iterator[Server]:
    """`ocrsmith serve` with the exported model; it asks for a key."""
    options = ["--engine", "vllm", "--name", "tuned", "--dtype", "float32", "--batch-size", "2", "--eager"]
    begin = [sys.executable, "-m", "ocrsmith.cli.main", "serve", str(merged), *options]
    with serving(
        lambda port: [*begin, "--port", str(port), "--api-key-env", "SERVER_KEYS"],
        log=place / "gateway.log",
        environment={**os.environ, "SERVER_KEYS": f"another,{KEY}"},
    ) as running:
        yield running


@pytest.mark.parametrize("page", PAGES)
def test_the_official_client_reads_what_the_native_engine_reads(
    gateway: Server, native_readings: Readings, page: str
) -> None:
    expected = native_readings["free"][page]
    with official(gateway, KEY) as client:
        answer = client.chat.completions.create(
            model="tuned", messages=message(PAGES[page]), temperature=0, max_tokens=TOKENS
        )
    assert answer.choices[0].message.content.strip() == expected.text
    assert (answer.choices[0].finish_reason, answer.usage.completion_tokens) == ("length", expected.tokens)


def test_streaming_gives_the_same_text_in_pieces(gateway: Server, native_readings: Readings) -> None:
    with official(gateway, KEY) as client:
        stream = client.chat.completions.create(
            model="tuned",
            messages=message(PAGES["untiled"]),
            max_tokens=TOKENS,
            stream=True,
            stream_options={"include_usage": True},
        )
        events = list(stream)
    pieces = [event.choices[0].delta.content for event in events if event.choices]
    expected = native_readings["free"]["untiled"]
    assert "".join(piece or "" for piece in pieces).strip() == expected.text
    assert sum(bool(piece) for piece in pieces) > 1
    assert events[-1].usage.completion_tokens == expected.tokens


def test_a_request_sets_its_own_ngram_rule(gateway: Server, native_readings: Readings) -> None:
    asked = body("tuned", PAGES["untiled"], FIRM, CELLS)
    answer = gateway.post("/v1/chat/completions", asked, Authorization=f"Bearer {KEY}")
    assert text_of(answer) == native_readings["firm"]["untiled"].text


def test_without_a_key_nothing_is_read(gateway: Server) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        gateway.post("/v1/chat/completions", body("tuned", PAGES["untiled"], FREE))
    with refused.value as answer:
        assert answer.code == 401
    with official(gateway, "a-wrong-key") as client, pytest.raises(openai.AuthenticationError):
        client.models.list()


def test_the_models_it_serves_are_told(gateway: Server) -> None:
    with official(gateway, KEY) as client:
        assert [model.id for model in client.models.list()] == ["tuned"]


def test_sigterm_ends_the_server_and_its_vllm(gateway: Server) -> None:
    """Last in this module: nothing is served after it."""
    helpers = psutil.Process(gateway.process.pid).children(recursive=True)
    assert any("vllm" in " ".join(helper.cmdline()).lower() for helper in helpers)
    gateway.process.send_signal(signal.SIGTERM)
    assert gateway.process.wait(END_SECONDS) == 0
    gone, left = psutil.wait_procs(helpers, timeout=END_SECONDS)
    assert left == []
    assert len(gone) == len(helpers)
