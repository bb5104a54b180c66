"""The live reader: requests come when they like, and each gets the answer that `NativeEngine.read` gives."""

from __future__ import annotations

import gc
import random
import threading
import time
from collections.abc import Sequence
from importlib import resources
from typing import Any

import pytest
import torch

from ocrsmith.engines.base import PageRequest
from ocrsmith.engines.decoding import DecodingSettings
from ocrsmith.engines.native import NativeEngine, batching, live
from ocrsmith.engines.native.batching import Batcher
from ocrsmith.engines.native.lanes import Ticket
from ocrsmith.engines.native.live import Ending, LiveRequest
from ocrsmith.engines.native.prefill import Page
from ocrsmith.engines.openai_api import _CONTEXT, _PROMPT
from ocrsmith.errors import InputError
from ocrsmith.model.ocr_model import OcrModel
from ocrsmith.model.processing import OcrProcessor

from .live_client import LONG, PATIENCE, Answer, as_live, ask, check_same, reading, until
from .test_batching import ending_model
from .test_batching import one_thread as one_thread
from .test_native import FREE, random_model, requests
from .test_native import processor as processor
from .test_native import tokenizer as tokenizer


@pytest.mark.parametrize(("slots", "chunk"), [(1, 4), (3, 1), (5, 3), (16, 4)])
def test_pages_that_come_at_any_time_are_read_as_by_read(
    processor: OcrProcessor, monkeypatch: pytest.MonkeyPatch, slots: int, chunk: int
) -> None:
    monkeypatch.setitem(batching.CHUNK, "cpu", chunk)
    asked = requests(11)
    rule = DecodingSettings(max_new_tokens=23, ngram_size=3, ngram_window=12, ngram_whitelist=("<td>",))
    engine = NativeEngine(ending_model(processor, asked), processor, decoding=rule)
    answers = [Answer() for _ in asked]

    def client(numbers: Sequence[int]) -> None:
        for number in numbers:
            time.sleep(random.Random(number).random() * 0.02)
            reader.submit(as_live(asked[number]), answers[number])

    with reading(engine, slots=slots) as reader:
        clients = [threading.Thread(target=client, args=(range(n, 11, 3),)) for n in range(3)]
        for thread in clients:
            thread.start()
        for thread in clients:
            thread.join()
        for answer in answers:
            answer.wait()
    check_same(engine, asked, answers)
    assert any(answer.pieces > 2 for answer in answers), "tokens come as they are generated"


def test_a_host_that_hears_late_answers_the_same(
    processor: OcrProcessor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(batching.LATE, "cpu", 1)
    asked = requests(7)
    engine = NativeEngine(ending_model(processor, asked), processor, decoding=FREE)
    with reading(engine, slots=3) as reader:
        answers = [ask(reader, as_live(request)) for request in asked]
        left = ask(reader, as_live(asked[0]))
        left.began.wait(PATIENCE)
        for answer in answers:
            answer.wait()
    check_same(engine, asked, answers)


def test_nano_reads_lines_beside_text_without_pictures() -> None:
    engine = NativeEngine.load("nano", max_new_tokens=40)
    with resources.as_file(resources.files("ocrsmith.nano") / "sample_archive" / "images") as folder:
        files = sorted(folder.iterdir())[:30:5]
        asked = [PageRequest(file.name, file.read_bytes()) for file in files]
    text = LiveRequest("Free OCR.", max_tokens=12)
    with reading(engine, slots=3) as reader:
        alone = ask(reader, text).wait()
        answers = [(ask(reader, LiveRequest(image=r.image)), ask(reader, text)) for r in asked]
        check_same(engine, asked, [answer.wait() for answer, _ in answers])
        for _, beside in answers:
            assert beside.wait().tokens == alone.tokens
    assert alone.ending is not None
    assert alone.ending.prompt_tokens == 1 + len(engine.processor.tokens.encode_prompt("Free OCR."))


@torch.inference_mode()
def test_text_alone_goes_on_as_the_model_would(processor: OcrProcessor) -> None:
    model = random_model()
    ids = torch.tensor([processor.encode([], prompt="Once upon").input_ids])
    for _ in range(9):
        ids = torch.cat([ids, model(input_ids=ids, use_cache=False).logits[:, -1:].argmax(-1)], dim=1)
    with reading(NativeEngine(model, processor, decoding=FREE)) as reader:
        answer = ask(reader, LiveRequest("Once upon", max_tokens=9)).wait()
    assert answer.tokens == ids[0, -9:].tolist()
    assert answer.ending == Ending("length", ids.shape[1] - 9, 9)


def test_limits_are_each_requests_own(processor: OcrProcessor) -> None:
    engine = NativeEngine(random_model(context=160), processor, decoding=FREE)
    with reading(engine) as reader:
        short = ask(reader, LiveRequest("Hi", max_tokens=3))
        usual = ask(reader, LiveRequest("Hi"))
        above = ask(reader, LiveRequest("Hi", max_tokens=40))
        all_there_is = ask(reader, LiveRequest("Hi", max_tokens=157))
        what_is_left = ask(reader, LiveRequest("Hi", decoding=LONG))
        wins = ask(reader, LiveRequest("Hi", max_tokens=5, decoding=LONG))
        lengths = [len(a.wait().tokens) for a in (short, usual, above, all_there_is, what_is_left, wins)]
        assert lengths == [3, 12, 40, 157, 157, 5]
        too_much = ask(reader, LiveRequest("Hi", max_tokens=158)).wait().error
        assert isinstance(too_much, InputError)
        context, prompt = _CONTEXT.search(str(too_much)), _PROMPT.search(str(too_much))
        assert context is not None
        assert prompt is not None
        assert int(context[1]) - int(prompt[1]) == 157
        no_room = ask(reader, LiveRequest("Hi" * 100)).wait().error
        assert isinstance(no_room, InputError)
        with pytest.raises(InputError, match="max_tokens is 0"):
            reader.submit(LiveRequest("Hi", max_tokens=0), Answer())


RULES = [
    DecodingSettings(max_new_tokens=30, ngram_size=size, ngram_window=12, ngram_whitelist=whitelist)
    for size, whitelist in [(0, ()), (2, ()), (3, ()), (3, ("<td>",)), (4, ()), (5, ()), (3, ())]
]


def test_each_request_has_its_own_rule(processor: OcrProcessor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "IDLE_SECONDS", 0.01)
    engine = NativeEngine(random_model(), processor, decoding=RULES[1])
    asked = requests(3)
    with reading(engine, slots=2) as reader:
        answers = [
            [ask(reader, LiveRequest(r.prompt, r.image, decoding=rule)) for r in asked] for rule in RULES
        ]
        assert len(reader._lanes) <= live.LANES
        for rule, mine in zip(RULES, answers, strict=True):
            check_same(engine.adjusted(decoding=rule), asked, [answer.wait() for answer in mine])
        until(lambda: len(reader._lanes) == 1)
        assert len({tuple(mine[0].tokens) for mine in answers}) > 2, "rules make a difference"


def test_rules_that_forbid_the_same_share_a_lane(processor: OcrProcessor) -> None:
    own = DecodingSettings(max_new_tokens=9, ngram_size=3, ngram_window=12, ngram_whitelist=("<td>", "</td>"))
    same = own.model_copy(update={"max_new_tokens": 5, "ngram_whitelist": ("</td>", "<td>", "<td>")})
    with reading(NativeEngine(random_model(), processor, decoding=own)) as reader:
        assert len(ask(reader, LiveRequest("Hi", decoding=same)).wait().tokens) == 5
        assert len(reader._lanes) == 1
        none = own.model_copy(update={"ngram_size": 1})
        ask(reader, LiveRequest("Hi", decoding=none)).wait()
        ask(reader, LiveRequest("Hi", decoding=own.model_copy(update={"ngram_size": 0}))).wait()
        assert len(reader._lanes) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ngram_window": 1025}, "window has 1024 tokens|window has 1025 tokens"),
        ({"ngram_whitelist": tuple(f"<{n}>" for n in range(300))}, "whitelist has 300 tokens"),
        ({"ngram_whitelist": ("<tr>",)}, "'<tr>', which is no token"),
    ],
)
def test_rules_that_ask_too_much_are_refused(
    processor: OcrProcessor, change: dict[str, Any], message: str
) -> None:
    with (
        reading(NativeEngine(random_model(context=4096), processor, decoding=FREE)) as reader,
        pytest.raises(InputError, match=message),
    ):
        reader.submit(LiveRequest("Hi", decoding=DecodingSettings(**change)), Answer())


def test_it_sleeps_while_there_is_nothing_to_do(
    processor: OcrProcessor, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns: list[int] = []
    turn = Batcher.turn

    def counted(self: Batcher, feed: Any) -> Any:
        turns.append(1)
        return turn(self, feed)

    monkeypatch.setattr(Batcher, "turn", counted)
    with reading(NativeEngine(random_model(), processor, decoding=FREE)) as reader:
        ask(reader, LiveRequest("Hi")).wait()
        until(lambda: reader._lanes[reader._rule].is_idle)
        before = len(turns)
        time.sleep(0.1)
        assert len(turns) == before


def test_nothing_is_left_of_requests_that_are_over(processor: OcrProcessor) -> None:
    def living() -> int:
        gc.collect()
        return sum(isinstance(thing, Page | Ticket | Answer) for thing in gc.get_objects())

    before = living()
    asked = requests(3)
    with reading(NativeEngine(random_model(), processor, decoding=FREE), slots=3) as reader:
        for _ in range(15):
            answers = [ask(reader, as_live(request)) for request in asked]
            answers.append(ask(reader, LiveRequest("<image>", b"no picture")))
            left = Answer()
            reader.cancel(reader.submit(as_live(asked[0]), left))
            for answer in answers:
                answer.wait()
        del answers, left, answer
        until(lambda: reader._lanes[reader._rule].is_idle)
        until(lambda: living() == before)


def test_a_model_in_training_is_read_in_evaluation_mode(processor: OcrProcessor) -> None:
    model: OcrModel = random_model().train()
    with reading(NativeEngine(model, processor, decoding=FREE)) as reader:
        ask(reader, LiveRequest("Hi")).wait()
        assert not model.training
    assert model.training
