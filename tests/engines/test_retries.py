"""Pages that loop are read again: real loops of nano, and the order and counting of steps."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ocrsmith.engines.base import Adjustable, Engine, PageRequest, ReadProgress, failed
from ocrsmith.engines.decoding import DecodingSettings
from ocrsmith.engines.native import NativeEngine, PageFeatures
from ocrsmith.engines.openai_api import OpenAIEngine
from ocrsmith.engines.retries import OTHER_MODES, RetryLoops, tightened
from ocrsmith.engines.workers import EngineFailure
from ocrsmith.errors import SettingsError
from ocrsmith.images import MODES
from ocrsmith.records import FinishReason, Prediction

OFF = DecodingSettings(max_new_tokens=40, ngram_size=0)
"""Without the n-gram rule nano reads stripes as the same letters over and over, up to the limit."""


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def stripes(black: int, white: int) -> PageRequest:
    row = ([0] * black + [255] * white) * (480 // (black + white))
    return PageRequest(f"{black}/{white}", png(np.tile(row, (64, 1))))


FIRST, SECOND, NONE = stripes(8, 2), stripes(3, 3), stripes(40, 40)
"""Whose loop the tighter rule ends, whose it does not, and what does not loop."""


# --- nano itself ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def nano() -> NativeEngine:
    return NativeEngine.load("nano", device="cpu").adjusted(decoding=OFF)


def read(engine: Engine, *requests: PageRequest) -> dict[str, Prediction]:
    return {answer.id: answer for answer in engine.read(requests)}


@pytest.fixture(scope="module")
def at_first(nano: NativeEngine) -> dict[str, Prediction]:
    return read(nano, FIRST, SECOND, NONE)


def test_loops_of_nano_are_ended_by_the_rule_or_by_another_mode(
    nano: NativeEngine, at_first: dict[str, Prediction]
) -> None:
    then = read(nano.adjusted(decoding=tightened(OFF)), FIRST, SECOND)
    assert [at_first[page.id].finish_reason for page in (FIRST, SECOND, NONE)] == ["loop", "loop", "stop"]
    assert [then[page.id].finish_reason for page in (FIRST, SECOND)] == ["stop", "loop"]
    answers = read(RetryLoops(nano), FIRST, SECOND, NONE)
    for expected, attempts in ((at_first[NONE.id], 1), (then[FIRST.id], 2)):
        answer = answers[expected.id]
        assert (answer.finish_reason, answer.attempts, answer.mode) == ("stop", attempts, "tiny")
        assert (answer.text, answer.tokens) == (expected.text, expected.tokens)
    last = answers[SECOND.id]
    assert (last.finish_reason, last.attempts, last.mode) == ("stop", 3, "base")


def test_what_loops_in_all_readings_stays_a_loop_and_whole(
    nano: NativeEngine, at_first: dict[str, Prediction]
) -> None:
    first = at_first[SECOND.id]
    (answer,) = RetryLoops(nano, ["ngram"]).read([SECOND])
    assert (answer.finish_reason, answer.attempts) == ("loop", 2)
    assert (answer.text, answer.tokens, answer.mode) == (first.text, first.tokens, "tiny")


def test_an_adjusted_engine_shares_the_model_and_leaves_the_first_as_it_was(nano: NativeEngine) -> None:
    before = nano.describe()
    other = nano.adjusted(mode="tiny", decoding=DecodingSettings(max_new_tokens=5))
    assert isinstance(nano, Adjustable)
    assert other.model is nano.model
    assert other.describe()["model"] == before["model"]
    assert other.describe()["processing"] == {**before["processing"], "mode": "tiny"}
    assert other.describe()["decoding"]["max_new_tokens"] == 5
    assert nano.describe() == before
    with pytest.raises(SettingsError):
        nano.adjusted(mode="huge")


def test_features_kept_for_one_mode_do_not_serve_another(nano: NativeEngine) -> None:
    features = PageFeatures(2**24)
    keeping = NativeEngine(nano.model, nano.processor, decoding=OFF, features=features)
    read(keeping, NONE)
    small, plain = (read(engine.adjusted(mode="small"), NONE)[NONE.id] for engine in (keeping, nano))
    assert (small.finish_reason, small.text, small.mode) == (plain.finish_reason, plain.text, "small")
    room = features.room
    read(keeping.adjusted(decoding=tightened(OFF)), NONE, FIRST)
    assert features.room < room, "the same views go on using them"


# --- order and counting --------------------------------------------------------------------------------------


class Script:
    """An engine that ends each page as a script says: by page, then by (mode, n-gram size)."""

    name = "script"
    match = "of the inner engine"

    def __init__(
        self,
        script: Mapping[str, Mapping[tuple[str, int], FinishReason]],
        mode: str = "small",
        decoding: DecodingSettings | None = None,
        calls: list[tuple[str, int, list[str]]] | None = None,
        refuses: Sequence[str] = (),
    ) -> None:
        self.script, self.mode, self.refuses = script, mode, refuses
        self.decoding = decoding or DecodingSettings()
        self.calls = [] if calls is None else calls

    def adjusted(self, *, mode: str | None = None, decoding: DecodingSettings | None = None) -> Script:
        if mode is not None and mode in self.refuses:
            raise SettingsError(f"There is no mode {mode}.")
        return Script(self.script, mode or self.mode, decoding or self.decoding, self.calls, self.refuses)

    def describe(self) -> dict[str, Any]:
        return {
            "decoding": self.decoding.model_dump(mode="json"),
            "processing": {"mode": self.mode},
            "not_honoured": {"colour": "grey only"},
        }

    def read(
        self, requests: Sequence[PageRequest], *, progress: ReadProgress | None = None
    ) -> Iterator[Prediction]:
        size = self.decoding.ngram_size
        self.calls.append((self.mode, size, [request.id for request in requests]))
        for request in requests:
            finish = self.script.get(request.id, {}).get((self.mode, size), "stop")
            answer = Prediction(request.id, f"{self.mode} {size}", finish, 1.0, tokens=size, mode=self.mode)
            yield failed(request, "no memory", seconds=1.0) if finish == "error" else answer
            if progress:
                progress(1)


PAGES = [PageRequest(name, b"") for name in ("good", "rule", "mode", "never", "breaks", "broken")]
LOOPS: dict[str, dict[tuple[str, int], FinishReason]] = {
    "rule": {("small", 30): "loop"},
    "mode": {("small", 30): "loop", ("small", 20): "loop"},
    "never": {("small", 30): "loop", ("small", 20): "loop", ("base", 20): "loop"},
    "breaks": {("small", 30): "loop", ("small", 20): "error", ("base", 20): "error"},
    "broken": {("small", 30): "error"},
}


def test_steps_are_taken_in_turn_by_all_pages_that_still_loop() -> None:
    engine = Script(LOOPS)
    told: list[int] = []
    answers = list(RetryLoops(engine).read(PAGES, progress=told.append))
    assert engine.calls == [
        ("small", 30, [page.id for page in PAGES]),
        ("small", 20, ["rule", "mode", "never", "breaks"]),
        ("base", 20, ["mode", "never", "breaks"]),
    ]
    assert [answer.id for answer in answers] == ["good", "broken", "rule", "mode", "never", "breaks"]
    assert told == [1] * len(PAGES)


def test_the_answer_says_how_it_came_about() -> None:
    answers = {answer.id: answer for answer in RetryLoops(Script(LOOPS)).read(PAGES)}
    shown = {
        name: (answer.text, answer.finish_reason, answer.mode, answer.attempts, answer.seconds, answer.tokens)
        for name, answer in answers.items()
    }
    assert shown == {
        "good": ("small 30", "stop", "small", 1, 1.0, 30),
        "rule": ("small 20", "stop", "small", 2, 2.0, 20),
        "mode": ("base 20", "stop", "base", 3, 3.0, 20),
        "never": ("small 30", "loop", "small", 3, 3.0, 30),
        "breaks": ("small 30", "loop", "small", 3, 3.0, 30),
        "broken": ("", "error", "", 1, 1.0, 0),
    }


def test_settings_of_retries_are_told_and_nothing_else_changes() -> None:
    inner = Script({})
    described = RetryLoops(inner).describe()
    assert described.pop("loop_retries") == [
        {"ngram_size": 20, "ngram_window": 512},
        {"ngram_size": 20, "ngram_window": 512, "mode": "base"},
    ]
    assert described == inner.describe()
    assert RetryLoops(inner, []).describe() == {**inner.describe(), "loop_retries": []}


def test_a_step_that_the_engine_refuses_is_left_out_and_said() -> None:
    engine = RetryLoops(Script(LOOPS, refuses=["base"]))
    described = engine.describe()
    assert [retry.get("mode") for retry in described["loop_retries"]] == [None]
    assert described["not_honoured"] == {
        "colour": "grey only",
        "loop_retries.mode": "There is no mode base",
    }
    answers = {answer.id: answer for answer in engine.read(PAGES)}
    assert (answers["mode"].finish_reason, answers["mode"].attempts) == ("loop", 2)


def test_an_engine_without_other_settings_reads_once_and_says_so() -> None:
    class Fixed:
        name = "fixed"

        def describe(self) -> dict[str, Any]:
            return {}

        def read(
            self, requests: Sequence[PageRequest], *, progress: ReadProgress | None = None
        ) -> Iterator[Prediction]:
            return (Prediction(request.id, "", "loop", 0.0) for request in requests)

    engine = RetryLoops(Fixed())
    assert engine.describe()["not_honoured"] == {"loop_retries": "this engine cannot read with other settings"}
    assert [answer.attempts for answer in engine.read(PAGES)] == [1] * len(PAGES)


def test_a_server_is_asked_again_with_a_tighter_rule_only() -> None:
    server = {"base_url": "http://localhost:1/v1", "model": "m"}
    vllm = RetryLoops(OpenAIEngine.load(**server, dialect="vllm")).describe()
    assert vllm["loop_retries"] == [{"ngram_size": 20, "ngram_window": 512}]
    assert "resolution mode" in vllm["not_honoured"]["loop_retries.mode"]
    plain = RetryLoops(OpenAIEngine.load(**server)).describe()
    assert plain["loop_retries"] == []
    assert {"loop_retries.ngram", "loop_retries.mode"} <= plain["not_honoured"].keys()


def test_it_stands_for_the_engine_within() -> None:
    engine = RetryLoops(Script({}))
    assert isinstance(engine, Engine)
    assert engine.name == "script"
    assert engine.match == "of the inner engine"
    assert getattr(engine, "warnings", None) is None
    assert not hasattr(engine, "decoding")


@pytest.mark.parametrize("error", [KeyboardInterrupt(), EngineFailure("gone")], ids=["Ctrl-C", "no server"])
def test_pages_whose_retry_was_broken_off_are_not_reported(error: BaseException) -> None:
    """An evaluation that goes on later reads them again, instead of keeping a loop that was never retried."""

    class Stopped(Script):
        def adjusted(self, **settings: Any) -> Script:
            return Gone(self.script)

    class Gone(Script):
        def read(self, *_: Any, **__: Any) -> Iterator[Prediction]:
            raise error

    answers = RetryLoops(Stopped(LOOPS)).read(PAGES)
    assert [next(answers).id, next(answers).id] == ["good", "broken"]
    with pytest.raises(type(error)):
        next(answers)


@given(st.integers(0, 90), st.integers(90, 4096), st.integers(1, 9000))
def test_the_rule_gets_no_looser_and_stays_valid(size: int, window: int, limit: int) -> None:
    rule = {"ngram_size": size, "ngram_window": window, "max_new_tokens": limit, "ngram_whitelist": ("x",)}
    after = tightened(DecodingSettings.from_values(rule))
    assert DecodingSettings.from_values(after.model_dump()) == after
    assert after.ngram_size == (min(size, 20) or 20)
    assert after.ngram_window == max(window, 512)
    assert (after.max_new_tokens, after.ngram_whitelist) == (limit, ("x",))


def test_a_rule_that_cannot_be_tightened_is_no_reason_to_read_again() -> None:
    tight = Script(LOOPS, decoding=tightened(DecodingSettings()))
    described = RetryLoops(tight).describe()
    assert described["loop_retries"] == [{"ngram_size": 20, "ngram_window": 512, "mode": "base"}]
    assert described["not_honoured"]["loop_retries.ngram"] == "the n-gram rule is as tight already"


def test_every_mode_has_another() -> None:
    assert set(OTHER_MODES) == set(MODES)
    assert all(mode != other and other in MODES for mode, other in OTHER_MODES.items())
