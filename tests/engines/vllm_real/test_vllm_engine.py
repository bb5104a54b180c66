"""The engine vllm beside the native one, on the exported model; run by `make test-vllm`."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from pathlib import Path

import pytest

from ocrsmith.engines.base import Engine, PageRequest
from ocrsmith.engines.decoding import DecodingSettings
from ocrsmith.engines.native.loop_end import LOOP_TOKENS
from ocrsmith.engines.registry import open_engine
from ocrsmith.engines.retries import RetryLoops
from ocrsmith.engines.vllm import VllmEngine
from ocrsmith.errors import SettingsError
from ocrsmith.records import Prediction

from .checkpoint import FIRM, FREE, PAGES, TOKENS, make_page

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def engine(merged: Path, native_readings: object) -> VllmEngine:
    engine = open_engine("vllm", model=str(merged), dtype="float32", batch_size=2, enforce_eager=True)
    assert isinstance(engine, VllmEngine)
    return engine


def read(engine: Engine, requests: list[PageRequest]) -> dict[str, Prediction]:
    return {answer.id: answer for answer in engine.read(requests)}


def assert_same(there: dict[str, Prediction], here: dict[str, Prediction], names: Iterable[str]) -> None:
    for name in names:
        answer, expected = there[name], here[name]
        assert (answer.finish_reason, answer.error) == (expected.finish_reason, None)
        assert (answer.text, answer.tokens) == (expected.text, expected.tokens)
        assert answer.token_ends == expected.token_ends
        assert answer.token_logprobs == pytest.approx(expected.token_logprobs, abs=1e-3)
        assert answer.mode == expected.mode == "gundam"


def test_greedy_answers_are_the_native_ones_with_and_without_tiles(
    engine: VllmEngine, native_readings: dict[str, dict[str, Prediction]]
) -> None:
    there = read(engine.adjusted(decoding=FREE), list(PAGES.values()))
    assert len({answer.text for answer in there.values()}) == len(PAGES), "the model tells the pages apart"
    assert_same(there, native_readings["free"], PAGES)


def test_the_ngram_rule_is_the_native_one(
    engine: VllmEngine, native_readings: dict[str, dict[str, Prediction]]
) -> None:
    firm = read(engine.adjusted(decoding=FIRM), [PAGES["untiled"]])
    assert_same(firm, native_readings["firm"], ["untiled"])
    free = native_readings["free"]["untiled"]
    assert free.text != firm["untiled"].text, "the rule has something to forbid"


def test_a_page_that_cannot_be_read_fails_alone(engine: VllmEngine) -> None:
    told: list[int] = []
    requests = [
        PageRequest("good", make_page(1, 64, 64)),
        PageRequest("broken", b"no image"),
        PageRequest("two", make_page(1, 64, 64), "<image><image>"),
    ]
    answers = {
        answer.id: answer for answer in engine.adjusted(decoding=FREE).read(requests, progress=told.append)
    }
    assert answers["good"].finish_reason == "length"
    for name in ("broken", "two"):
        assert answers[name].finish_reason == "error"
        assert answers[name].error
    assert told == [1, 1, 1]


def test_more_pages_than_fit_at_a_time_are_all_read(engine: VllmEngine) -> None:
    requests = [PageRequest(str(number), make_page(number, 64, 64)) for number in range(5)]
    answers = read(engine.adjusted(decoding=DecodingSettings(max_new_tokens=2)), requests)
    assert sorted(answers, key=int) == [request.id for request in requests]
    assert all(answer.tokens == 2 and answer.seconds > 0 for answer in answers.values())


def test_reading_can_be_broken_off_and_begun_again(engine: VllmEngine) -> None:
    requests = [PageRequest(str(number), make_page(number, 64, 64)) for number in range(2)]
    short = engine.adjusted(decoding=DecodingSettings(max_new_tokens=4))
    first = list(itertools.islice(short.read(requests), 1))
    assert len(first) == 1
    assert len(read(short, requests)) == 2


def test_settings_are_told(engine: VllmEngine) -> None:
    described = engine.describe()
    assert described["processing"]["mode"] == "gundam"
    assert described["processing"]["max_tiles"] == 6
    assert described["not_honoured"] == {}
    with pytest.raises(SettingsError, match="gundam only"):
        engine.adjusted(mode="base")


def test_a_loop_is_stopped_and_read_again_and_others_after_it(
    engine: VllmEngine, native_readings: dict[str, dict[str, Prediction]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model does not loop for sure, so the detector is made to say so where it first looks."""
    monkeypatch.setattr("ocrsmith.engines.vllm.requests.is_endless", lambda tail: True)
    retrying = RetryLoops(engine.adjusted(decoding=DecodingSettings(max_new_tokens=600, ngram_size=0)))
    assert retrying.describe()["not_honoured"].keys() == {"loop_retries.mode"}
    (answer,) = retrying.read([PAGES["untiled"]])
    assert (answer.finish_reason, answer.tokens, answer.attempts) == ("loop", LOOP_TOKENS, 2)
    (after,) = engine.adjusted(decoding=FREE).read([PAGES["untiled"]])
    assert (after.finish_reason, after.tokens) == ("length", TOKENS)
    assert after.text == native_readings["free"]["untiled"].text
