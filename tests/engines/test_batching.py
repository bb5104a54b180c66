"""Continuous batching: whatever shares the rows, a page gets the tokens that `generate` gives it by itself."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from importlib import resources
from typing import Any

import pytest
import torch
from transformers import GenerationConfig, LogitsProcessorList

from ocrsmith.engines.base import PageRequest
from ocrsmith.engines.decoding import DecodingSettings
from ocrsmith.engines.native import NativeEngine, batching, engine
from ocrsmith.engines.native.loop_end import LOOP_TOKENS
from ocrsmith.engines.native.prefill import Page
from ocrsmith.engines.native.stepping import Stepper
from ocrsmith.model.decode_step import StepModel
from ocrsmith.model.lora import add_lora
from ocrsmith.model.ocr_model import OcrModel
from ocrsmith.model.processing import OcrProcessor
from ocrsmith.model.weights import load_model, load_processor
from ocrsmith.records import Prediction
from ocrsmith.settings import LoraSettings

from .test_native import EOS, FREE, PAD, constant_model, page, random_model, read, requests, with_end
from .test_native import processor as processor
from .test_native import tokenizer as tokenizer


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@torch.inference_mode()
def generated(
    model: Any, processor: OcrProcessor, request: PageRequest, decoding: DecodingSettings
) -> list[int]:
    """Tokens of one page by itself, from transformers' `generate` with the logits processor of loop control."""
    encoded = processor.encode([request.image], prompt=request.prompt)
    batch = processor.collate([encoded])
    prompt = encoded.num_tokens
    control = decoding.loop_control(processor.tokenizer, prompt_length=prompt)
    ids = model.generate(
        input_ids=batch["input_ids"],
        attention_mask=batch["attention_mask"],
        views=batch["views"],
        image_layouts=batch["image_layouts"],
        generation_config=GenerationConfig(
            max_new_tokens=decoding.token_limit(prompt, model.config.decoder_sizes.max_position_embeddings),
            do_sample=False,
            eos_token_id=processor.tokens.eos,
            pad_token_id=processor.tokens.pad,
        ),
        logits_processor=LogitsProcessorList([control] if control else []),
    )
    tokens: list[int] = ids[0, prompt:].tolist()
    return tokens


def check(
    engine: NativeEngine, model: Any, asked: Sequence[PageRequest], decoding: DecodingSettings
) -> dict[str, Prediction]:
    """Reads with the engine and compares every page with `generate`."""
    answers = read(engine, asked)
    for request in asked:
        tokens = generated(model, engine.processor, request, decoding)
        answer = answers[request.id]
        assert (answer.text, answer.tokens) == (engine.processor.decode(tokens).strip(), len(tokens)), (
            request.id
        )
        assert (answer.finish_reason == "stop") == (tokens[-1] == EOS), request.id
    return answers


def ending_model(processor: OcrProcessor, asked: Sequence[PageRequest]) -> OcrModel:
    """A random model that ends some pages after a few tokens, others later or never."""
    model = random_model()
    tokens = generated(model, processor, asked[-1], DecodingSettings(max_new_tokens=20))
    return with_end(model, tokens[3])


@pytest.mark.parametrize(("slots", "chunk"), [(1, 4), (3, 1), (3, 8), (5, 3), (16, 4)])
def test_pages_that_come_and_go_are_read_as_if_alone(
    processor: OcrProcessor, monkeypatch: pytest.MonkeyPatch, slots: int, chunk: int
) -> None:
    monkeypatch.setitem(batching.CHUNK, "cpu", chunk)
    asked = requests(11)
    model = ending_model(processor, asked)
    decoding = DecodingSettings(max_new_tokens=23, ngram_size=3, ngram_window=12, ngram_whitelist=("<td>",))
    engine = NativeEngine(model, processor, decoding=decoding, batch_size=slots)
    answers = check(engine, model, asked, decoding)
    lengths = {answer.tokens for answer in answers.values()}
    assert len(lengths) > 2, "they end at different steps"
    assert engine.batch_size == slots


@pytest.mark.parametrize(("slots", "chunk"), [(1, 3), (4, 1), (5, 8), (16, 3)])
def test_a_host_that_hears_late_reads_the_same(
    processor: OcrProcessor, monkeypatch: pytest.MonkeyPatch, slots: int, chunk: int
) -> None:
    """As on a GPU: a chunk is under way while the one before is looked at, and rows step in powers of two."""

    class Replayed:
        def __init__(self, stepper: Stepper, batch: int) -> None:
            self.step = lambda: stepper._step(batch, stepper.cache.length)

        def replay(self) -> None:
            self.step()

    batches = set()

    def graph(stepper: Stepper, batch: int) -> Replayed:
        batches.add(batch)
        return Replayed(stepper, batch)

    monkeypatch.setattr(StepModel, "capturable", True)
    monkeypatch.setattr(Stepper, "_graph", graph)
    monkeypatch.setitem(batching.LATE, "cpu", 1)
    monkeypatch.setitem(batching.CHUNK, "cpu", chunk)
    asked = requests(11)
    model = ending_model(processor, asked)
    decoding = DecodingSettings(max_new_tokens=23, ngram_size=3, ngram_window=12, ngram_whitelist=("<td>",))
    check(NativeEngine(model, processor, decoding=decoding, batch_size=slots), model, asked, decoding)
    assert batches <= {1, 2, 4, 5, 8, 11}
    assert len(batches) > 1 or slots == 1


def test_a_row_is_taken_by_the_next_page_and_rows_move_together(
    processor: OcrProcessor, monkeypatch: pytest.MonkeyPatch
) -> None:
    stepping: list[int] = []
    run = Stepper.run

    def watched(self: Stepper, batch: int, used: int) -> Any:
        stepping.append(batch)
        return run(self, batch, used)

    monkeypatch.setattr(Stepper, "run", watched)
    monkeypatch.setitem(batching.CHUNK, "cpu", 1)
    monkeypatch.setitem(engine.GROUP_SIZES, "cpu", 1)
    asked = requests(11)
    model = ending_model(processor, asked)
    decoding = DecodingSettings(max_new_tokens=23, ngram_size=0)
    answers = read(NativeEngine(model, processor, decoding=decoding, batch_size=4), asked)
    steps = sum(answer.tokens - 1 for answer in answers.values())
    assert sum(stepping) == steps, "no row steps without a page"
    assert stepping.count(4) > len(stepping) // 2
    assert stepping[-1] < 4


def test_slots_grow_when_answers_do(processor: OcrProcessor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batching, "FIRST_TOKENS", 4)
    monkeypatch.setattr(batching, "ROUND", 8)
    lengths: list[int] = []
    lengthen = Stepper.lengthen

    def watched(self: Stepper, length: int) -> None:
        lengthen(self, length)
        lengths.append(self.cache.length)

    monkeypatch.setattr(Stepper, "lengthen", watched)
    asked = [*requests(5), PageRequest("wide", page(9), "<image>\n" + "Read this. " * 30)]
    model = random_model()
    decoding = DecodingSettings(max_new_tokens=150, ngram_size=4, ngram_window=30, ngram_whitelist=())
    check(NativeEngine(model, processor, decoding=decoding, batch_size=2), model, asked, decoding)
    assert lengths == sorted(lengths)
    assert len(lengths) > 1


def limit_memory(places: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves memory for so many places in slots, all slots together."""
    lengthen, make = Stepper.lengthen, batching.KeyValueSlots

    def longer(stepper: Stepper, length: int) -> None:
        if stepper.cache.slots * length > places:
            raise torch.OutOfMemoryError("2 GiB")
        lengthen(stepper, length)

    def new(sizes: Any, slots: int, length: int, *more: Any) -> Any:
        if slots * length > places:
            raise torch.OutOfMemoryError("2 GiB")
        return make(sizes, slots, length, *more)

    monkeypatch.setattr(Stepper, "lengthen", longer)
    monkeypatch.setattr(batching, "KeyValueSlots", new)
    monkeypatch.setattr(batching, "FIRST_TOKENS", 4)
    monkeypatch.setattr(batching, "ROUND", 8)


def test_pages_give_way_when_slots_cannot_grow(
    processor: OcrProcessor, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, model = requests(6), random_model()
    need = 60 + max(processor.encode([r.image], prompt=r.prompt).num_tokens for r in asked)
    limit_memory(2 * need + 16, monkeypatch)
    decoding = DecodingSettings(max_new_tokens=60, ngram_size=4, ngram_window=30, ngram_whitelist=())
    engine = NativeEngine(model, processor, decoding=decoding, batch_size=4)
    check(engine, model, asked, decoding)
    assert engine.batch_size == 2


@pytest.mark.parametrize("enough", [False, True])
def test_a_page_that_is_too_long_for_memory_fails_alone(
    processor: OcrProcessor, monkeypatch: pytest.MonkeyPatch, enough: bool
) -> None:
    decoding = DecodingSettings(max_new_tokens=12, ngram_size=0)
    asked = [*requests(3), PageRequest("long", page(9), "<image>\n" + "Read this. " * 30)]
    lengths = [processor.encode([r.image], prompt=r.prompt).num_tokens + 20 for r in asked]
    limit_memory(lengths[3] if enough else lengths[3] - 20, monkeypatch)
    model = random_model()
    engine = NativeEngine(model, processor, decoding=decoding, batch_size=4)
    answers = read(engine, asked)
    for request in asked[: 4 if enough else 3]:
        tokens = generated(model, processor, request, decoding)
        assert answers[request.id].text == processor.decode(tokens).strip()
    assert (answers["long"].error is None) == enough
    assert engine.batch_size < 4


def test_a_step_that_fails_is_done_again_page_by_page(
    processor: OcrProcessor, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, model = requests(4), random_model()
    good = read(NativeEngine(model, processor, decoding=FREE, batch_size=4), asked)
    longest = max(processor.encode([r.image], prompt=r.prompt).num_tokens for r in asked)
    call = StepModel.__call__

    def failing(self: StepModel, tokens: Any, positions: Any, cache: Any, used: int) -> Any:
        if (positions == longest + 10).any():  # the last step of the longest page
            raise RuntimeError("bad token")
        return call(self, tokens, positions, cache, used)

    monkeypatch.setattr(StepModel, "__call__", failing)
    engine = NativeEngine(model, processor, decoding=FREE, batch_size=4)
    answers = read(engine, asked)
    broken = [name for name, answer in answers.items() if answer.error]
    assert "p3" in broken
    assert all(answers[name].error == "RuntimeError: bad token" for name in broken)
    assert len(broken) < 4
    for name in set(good) - set(broken):
        assert answers[name].text == good[name].text
    assert engine.batch_size == 4


def test_loops_end_early_beside_pages_that_go_on(processor: OcrProcessor) -> None:
    decoding = DecodingSettings(max_new_tokens=700, ngram_size=0)
    model = constant_model(90)
    expected = read(NativeEngine(model, processor, decoding=decoding, batch_size=1), requests(1))
    answers = read(NativeEngine(model, processor, decoding=decoding, batch_size=2), requests(3))
    for answer in answers.values():
        assert (answer.finish_reason, answer.tokens) == ("loop", LOOP_TOKENS)
        assert answer.logprob_mean == pytest.approx(expected["p0"].logprob_mean)


@pytest.mark.parametrize("fold", [True, False, None])
def test_an_adapter_on_the_model_is_read_with(processor: OcrProcessor, fold: bool | None) -> None:
    tuned = add_lora(random_model(), LoraSettings(r=4, alpha=8)).eval()
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in tuned.named_parameters():
            if "lora_" in name:
                parameter.normal_(0, 0.5)
    decoding = DecodingSettings(max_new_tokens=12, ngram_size=0)
    plain = read(NativeEngine(random_model(), processor, decoding=decoding), requests(5))
    for model in (tuned, tuned.get_base_model()):
        engine = NativeEngine(model, processor, decoding=decoding, batch_size=2, fold_adapter=fold)
        answers = check(engine, tuned, requests(5), decoding)
        assert all(answers[name].text != plain[name].text for name in plain)


def test_an_engine_follows_the_weights(processor: OcrProcessor) -> None:
    tuned = add_lora(random_model(), LoraSettings(r=4, alpha=8)).eval()
    engine = NativeEngine(tuned, processor, decoding=FREE)
    before = read(engine, requests(2))
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in tuned.named_parameters():
            if "lora_" in name:
                parameter.normal_(0, 0.5)
    after = check(engine, tuned, requests(2), FREE)
    assert all(before[name].text != after[name].text for name in before)


def test_a_reading_may_be_left_off_and_another_begun(processor: OcrProcessor) -> None:
    engine = NativeEngine(random_model(), processor, decoding=FREE, batch_size=2)
    first, second = engine.read(requests(5)), engine.read(requests(5))
    one, two = next(first), next(second)
    assert (one.id, one.text) == (two.id, two.text)
    first.close()
    assert len([*second]) == 4
    assert len(read(engine, requests(5))) == 5


def test_answers_can_be_given_a_length_for_benchmarks(processor: OcrProcessor) -> None:
    asked = requests(3)
    model = ending_model(processor, asked)
    engine = NativeEngine(model, processor, decoding=DecodingSettings(max_new_tokens=9), fixed_length=True)
    assert {(answer.tokens, answer.finish_reason) for answer in read(engine, asked).values()} == {(9, "length")}
    looping = NativeEngine(
        constant_model(EOS),
        processor,
        decoding=DecodingSettings(max_new_tokens=420, ngram_size=0),
        fixed_length=True,
    )
    assert [answer.tokens for answer in looping.read(requests(1))] == [420]


def test_the_padding_token_is_no_end(processor: OcrProcessor) -> None:
    decoding = DecodingSettings(max_new_tokens=5, ngram_size=0)
    (answer,) = NativeEngine(constant_model(PAD), processor, decoding=decoding).read(requests(1))
    assert (answer.tokens, answer.finish_reason) == (5, "length")


def test_the_times_of_pages_add_up(processor: OcrProcessor) -> None:
    begin = time.perf_counter()
    answers = list(NativeEngine(random_model(), processor, decoding=FREE, batch_size=2).read(requests(5)))
    passed = time.perf_counter() - begin
    assert all(answer.seconds > 0 for answer in answers)
    assert sum(answer.seconds for answer in answers) < 2 * passed + 0.1  # threads encode beside the decoding


def test_nano_reads_lines_as_generate_does() -> None:
    model, processor = load_model("nano"), load_processor("nano")
    decoding = DecodingSettings(max_new_tokens=40)
    with resources.as_file(resources.files("ocrsmith.nano") / "sample_archive" / "images") as folder:
        files = sorted(folder.iterdir())[:30:5]
        asked = [PageRequest(file.name, file.read_bytes()) for file in files]
    answers = check(NativeEngine(model, processor, decoding=decoding, batch_size=3), model, asked, decoding)
    assert {answer.finish_reason for answer in answers.values()} >= {"stop"}


def test_a_page_forgets_what_was_decoded(processor: OcrProcessor) -> None:
    encoded = processor.encode([page(1)])
    one = Page(requests(1)[0], encoded, 5, 0.0, tokens=[1], logprobs=[0.0], row=3, steps=4)
    one.begin_anew()
    assert (one.tokens, one.logprobs, one.row, one.steps) == ([], [], -1, 0)
