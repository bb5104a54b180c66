"""The live reader in trouble: what cannot be read fails alone, who leaves frees a row, and the end is told."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import pytest
import torch

from ocrsmith.engines.decoding import DecodingSettings
from ocrsmith.engines.native import NativeEngine, live
from ocrsmith.engines.native.batching import Batcher
from ocrsmith.engines.native.live import LiveReader, LiveRequest, NotReadingError
from ocrsmith.engines.native.prefill import Prefiller
from ocrsmith.errors import ImageError, InputError
from ocrsmith.model.processing import OcrProcessor

from .live_client import LONG, PATIENCE, Answer, as_live, ask, check_same, reading, until
from .test_batching import limit_memory
from .test_batching import one_thread as one_thread
from .test_native import FREE, page, random_model, read, requests
from .test_native import processor as processor
from .test_native import tokenizer as tokenizer


def test_what_cannot_be_read_fails_alone(processor: OcrProcessor, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = requests(4)
    engine = NativeEngine(random_model(), processor, decoding=FREE)
    prefill = Prefiller.__call__

    def failing(self: Prefiller, group: Any) -> Any:
        if any(page.encoded.num_image_tokens == 0 for page in group.pages):
            raise torch.OutOfMemoryError("2 GiB")
        return prefill(self, group)

    monkeypatch.setattr(Prefiller, "__call__", failing)
    with reading(engine, slots=4) as reader:
        wrong = [
            ask(reader, LiveRequest("<image>Read", b"no picture")),
            ask(reader, LiveRequest("no mark", page(1))),
            ask(reader, LiveRequest("<image>but no picture")),
            ask(reader, LiveRequest("text alone")),
        ]
        answers = [ask(reader, as_live(request)) for request in asked]
        errors = [answer.wait().error for answer in wrong]
        for answer in answers:
            answer.wait()
    kinds = [ImageError, InputError, InputError, torch.OutOfMemoryError]
    assert [type(error) for error in errors] == kinds
    check_same(engine, asked, answers)


def test_a_page_that_needs_all_memory_gets_it_and_gives_it_back(
    processor: OcrProcessor, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = random_model()
    engine = NativeEngine(model, processor, decoding=FREE)
    asked = requests(6)
    limit_memory(4 * 120, monkeypatch)
    with reading(engine, slots=4) as reader:
        answers = [ask(reader, as_live(request)) for request in asked[:3]]
        long = ask(reader, LiveRequest("Hi", max_tokens=400))
        too_long = ask(reader, LiveRequest("Hi", max_tokens=800))
        answers += [ask(reader, as_live(request)) for request in asked[3:]]
        assert len(long.wait().tokens) == 400
        assert isinstance(too_long.wait().error, torch.OutOfMemoryError)
        for answer in answers:
            answer.wait()
        until(lambda: reader._batcher.slots == 4)
        again = ask(reader, as_live(asked[0])).wait()
    check_same(engine, [*asked, asked[0]][:6], answers)
    assert again.tokens == answers[0].tokens


def breaking(monkeypatch: pytest.MonkeyPatch, times: int) -> None:
    turn, left = Batcher.turn, [times]

    def broken(self: Batcher, feed: Any) -> Any:
        finished = turn(self, feed)
        if left[0] and self.active:
            left[0] -= 1
            raise ValueError("unforeseen")
        return finished

    monkeypatch.setattr(Batcher, "turn", broken)


def test_after_a_breakdown_the_next_requests_are_answered(
    processor: OcrProcessor, monkeypatch: pytest.MonkeyPatch
) -> None:
    breaking(monkeypatch, 1)
    asked = requests(2)
    engine = NativeEngine(random_model(), processor, decoding=FREE)
    with reading(engine) as reader:
        assert str(ask(reader, as_live(asked[0])).wait().error) == "unforeseen"
        reader.check()
        answers = [ask(reader, as_live(request)).wait() for request in asked]
    monkeypatch.undo()
    check_same(engine, asked, answers)


def test_a_reader_that_breaks_down_again_and_again_says_that_it_has_given_up(
    processor: OcrProcessor, monkeypatch: pytest.MonkeyPatch
) -> None:
    breaking(monkeypatch, live.TRIES)
    with reading(NativeEngine(random_model(), processor, decoding=FREE)) as reader:
        for _ in range(live.TRIES):
            reader.check()
            assert str(ask(reader, LiveRequest("Hi")).wait().error) == "unforeseen"
        reader._thread.join(PATIENCE)
        with pytest.raises(NotReadingError, match="broke down"):
            reader.check()
        with pytest.raises(NotReadingError, match="broke down"):
            reader.submit(LiveRequest("Hi"), Answer())


def test_a_broken_device_ends_the_reader(processor: OcrProcessor, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: Any) -> Any:
        raise torch.AcceleratorError("illegal access")

    monkeypatch.setattr(Prefiller, "__call__", failing)
    with reading(NativeEngine(random_model(), processor, decoding=FREE)) as reader:
        assert isinstance(ask(reader, LiveRequest("Hi")).wait().error, torch.AcceleratorError)
        reader._thread.join(PATIENCE)
        with pytest.raises(NotReadingError, match="broke down"):
            reader.check()


def test_a_listener_that_fails_loses_its_own_answer_only(processor: OcrProcessor) -> None:
    class Deaf(Answer):
        def heard(self, tokens: Sequence[int], logprobs: Sequence[float]) -> None:
            self.began.set()
            raise RuntimeError("the client's loop is closed")

    asked = requests(2)
    engine = NativeEngine(random_model(), processor, decoding=FREE)
    with reading(engine) as reader:
        deaf = Deaf()
        reader.submit(LiveRequest("Hi", decoding=LONG.model_copy(update={"ngram_size": 0})), deaf)
        answers = [ask(reader, as_live(request)).wait() for request in asked]
        until(lambda: not any(lane.has_work for lane in reader._lanes.values()))
    assert deaf.began.is_set()
    assert not deaf.over.is_set()
    check_same(engine, asked, answers)


def test_a_page_that_is_cancelled_gives_its_row_to_the_next(processor: OcrProcessor) -> None:
    asked = requests(2)
    engine = NativeEngine(random_model(), processor, decoding=LONG)
    with reading(engine, slots=1) as reader:
        first, waiting, last = Answer(hold=True), Answer(), Answer()
        ticket = reader.submit(as_live(asked[0]), first)
        behind = reader.submit(as_live(asked[1]), waiting)
        assert first.began.wait(PATIENCE)
        reader.submit(LiveRequest("Hi", max_tokens=4), last)
        reader.cancel(behind)
        reader.cancel(ticket)
        reader.cancel(ticket)
        first.go_on.set()
        assert len(last.wait().tokens) == 4
        until(lambda: reader._lanes[reader._rule].is_idle)
    assert len(first.tokens) < 20
    assert not any(answer.over.is_set() for answer in (first, waiting))
    assert not waiting.tokens


def test_requests_are_cancelled_while_they_wait_or_are_opened(
    processor: OcrProcessor, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode, opening, go_on = OcrProcessor.encode, threading.Event(), threading.Event()

    def slow(self: OcrProcessor, *args: Any, **options: Any) -> Any:
        opening.set()
        assert go_on.wait(PATIENCE)
        return encode(self, *args, **options)

    monkeypatch.setattr(OcrProcessor, "encode", slow)
    engine = NativeEngine(random_model(), processor, decoding=FREE)
    with reading(engine, slots=2) as reader:
        answers = [Answer() for _ in range(20)]
        tickets = [reader.submit(LiveRequest("Hi"), answer) for answer in answers]
        assert opening.wait(PATIENCE)
        lane = reader._lanes[reader._rule]
        assert len(lane._opening) == 4, "no more than can be used soon"
        for ticket in tickets[:-1]:
            reader.cancel(ticket)
        go_on.set()
        assert len(answers[-1].wait().tokens) == 12
        until(lambda: lane.is_idle)
        assert not any(answer.over.is_set() for answer in answers[:-1])


def test_closing_ends_everything_and_everybody_hears_of_it(
    processor: OcrProcessor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "LANES", 1)
    engine = NativeEngine(random_model(), processor, decoding=LONG)
    before = set(threading.enumerate())
    reader = LiveReader(engine, slots=2)
    held = Answer(hold=True)
    reader.submit(LiveRequest("Hi"), held)
    assert held.began.wait(PATIENCE)
    answers = [ask(reader, LiveRequest("Hi")) for _ in range(12)]
    answers.append(ask(reader, LiveRequest("Hi", decoding=DecodingSettings(ngram_size=3))))
    closing = threading.Thread(target=reader.close)
    closing.start()
    until(lambda: reader._over is not None)
    held.go_on.set()
    closing.join(PATIENCE)
    for answer in [held, *answers]:
        assert isinstance(answer.wait().error, NotReadingError)
    with pytest.raises(NotReadingError, match="closed"):
        reader.submit(LiveRequest("Hi"), Answer())
    reader.close()
    new = {thread.name for thread in set(threading.enumerate()) - before}
    assert not {"decode", "open_0"} & new
    assert read(engine.adjusted(decoding=FREE), requests(1))["p0"].error is None
