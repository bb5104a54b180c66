"""The backend in this process: answers of the live reader on an event loop, streamed, counted, cancelled."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from importlib import resources
from typing import Any

import pytest
import torch

from ocrsmith.engines.base import PageRequest
from ocrsmith.engines.decoding import DecodingSettings
from ocrsmith.engines.native import NativeEngine
from ocrsmith.engines.native.batching import Batcher, Finished
from ocrsmith.engines.native.feed import Source
from ocrsmith.engines.native.prefill import Prefiller
from ocrsmith.errors import ImageError, InputError
from ocrsmith.serving.backends import Backend, BackendFailure, End, Piece, TextRequest
from ocrsmith.serving.native import NativeBackend

PROMPT = "<image>\nFree OCR."
PATIENCE = 60.0
LOUD = DecodingSettings(max_new_tokens=1500, ngram_size=0)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def engine() -> NativeEngine:
    return NativeEngine.load("nano", max_new_tokens=60, batch_size=4)


@pytest.fixture(scope="module")
def endless() -> NativeEngine:
    """Never says that it is at the end."""
    engine = NativeEngine.load("nano", batch_size=4)
    with torch.no_grad():
        engine.network.lm_head.weight[engine.processor.tokens.eos] = 0
    return engine


@pytest.fixture(scope="module")
def images() -> list[bytes]:
    with resources.as_file(resources.files("ocrsmith.nano") / "sample_archive" / "images") as folder:
        return [file.read_bytes() for file in sorted(folder.iterdir())[:12:4]]


def serve(engine: NativeEngine, work: Callable[[NativeBackend], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        backend = NativeBackend({"nano": engine, "tuned": engine}, parents={"tuned": "nano"})
        await backend.start()
        try:
            await asyncio.wait_for(work(backend), PATIENCE)
        finally:
            await backend.close()

    asyncio.run(main())


async def answer(backend: NativeBackend, request: TextRequest) -> tuple[list[Piece], End]:
    news = [item async for item in backend.generate(request)]
    pieces = [item for item in news if isinstance(item, Piece)]
    assert isinstance(news[-1], End)
    assert len(pieces) == len(news) - 1
    return pieces, news[-1]


def test_answers_are_those_of_read_in_pieces(engine: NativeEngine, images: list[bytes]) -> None:
    expected = {p.id: p for p in engine.read([PageRequest(str(n), image) for n, image in enumerate(images)])}

    async def work(backend: NativeBackend) -> None:
        asked = [
            TextRequest(f"{name}-{n}", name, PROMPT, image, logprobs=name == "tuned")
            for name in ("nano", "tuned")
            for n, image in enumerate(images)
        ]
        answers = await asyncio.gather(*(answer(backend, request) for request in asked))
        for request, (pieces, end) in zip(asked, answers, strict=True):
            true = expected[request.id[-1]]
            text = "".join(piece.text for piece in pieces)
            assert (text.strip(), end.finish_reason) == (true.text, true.finish_reason)
            assert end.completion_tokens == true.tokens
            encoded = engine.processor.encode([request.image or b""], prompt=PROMPT)
            assert end.prompt_tokens == encoded.num_tokens
            assert len(pieces) > 2
            tokens = [token for piece in pieces for token in piece.tokens]
            assert len(tokens) == (end.completion_tokens if request.logprobs else 0)
            if request.logprobs:
                assert b"".join(token.data for token in tokens).decode() == text
                assert tokens[-1].data == b""
                assert [t.logprob for t in tokens] == pytest.approx(true.token_logprobs, abs=1e-4)

    serve(engine, work)


def test_models_are_named_with_what_they_can(engine: NativeEngine) -> None:
    async def work(backend: NativeBackend) -> None:
        assert isinstance(backend, Backend)
        first, second = backend.models
        assert (first.name, first.parent, first.context, first.mode) == ("nano", None, 2048, "tiny")
        assert first.decoding == engine.decoding
        assert (second.name, second.parent) == ("tuned", "nano")
        ids = backend.models[0].whitelist_ids
        assert engine.processor.decode(ids) == "<td></td>"
        await backend.check()

    serve(engine, work)
    with pytest.raises(ValueError):
        NativeBackend({})


def test_text_alone_is_answered(engine: NativeEngine) -> None:
    async def work(backend: NativeBackend) -> None:
        _, end = await answer(backend, TextRequest("a", "nano", "Free OCR.", max_tokens=5))
        tokens = 1 + len(engine.processor.tokens.encode_prompt("Free OCR."))
        assert (end.prompt_tokens, end.completion_tokens <= 5) == (tokens, True)

    serve(engine, work)


def test_whose_fault_a_failure_is(engine: NativeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    prefill, failures = Prefiller.__call__, [torch.OutOfMemoryError("2 GiB"), OSError("/home/someone/model")]

    def failing(self: Prefiller, group: Any) -> Any:
        if len(failures) > 2:
            raise failures[-1]
        return prefill(self, group)

    async def work(backend: NativeBackend) -> None:
        for request, kind, message in [
            (TextRequest("a", "other", PROMPT), InputError, "no model 'other'"),
            (TextRequest("b", "nano", PROMPT, b"no picture"), ImageError, ""),
            (TextRequest("c", "nano", "Hi", max_tokens=4000), InputError, "context length is 2048"),
            (TextRequest("d", "nano", "Hi", max_tokens=0), InputError, "max_tokens"),
            (
                TextRequest("e", "nano", "Hi", decoding=DecodingSettings(ngram_whitelist=("<zz>",))),
                InputError,
                "<zz>",
            ),
        ]:
            with pytest.raises(kind, match=message):
                await answer(backend, request)
        monkeypatch.setattr(Prefiller, "__call__", failing)
        for failure, message in [(failures[0], "not enough memory"), (failures[1], r"failed \(OSError\)\.$")]:
            failures.extend([failure, failure])
            with pytest.raises(BackendFailure, match=message) as caught:
                await answer(backend, TextRequest("f", "nano", "Hi"))
            assert "/home" not in str(caught.value)
        del failures[2:]
        assert (await answer(backend, TextRequest("g", "nano", "Hi", max_tokens=3)))[1]

    serve(engine, work)


@pytest.mark.parametrize("how", ["close", "cancel"])
def test_a_client_that_leaves_frees_its_place(endless: NativeEngine, how: str) -> None:
    async def work(backend: NativeBackend) -> None:
        reader = backend._reader("nano")
        talk = backend.generate(TextRequest("a", "nano", "Hi", decoding=LOUD))
        began = asyncio.Event()

        async def listen() -> None:
            async for _ in talk:
                began.set()

        if how == "close":
            await anext(talk)
            await talk.aclose()  # type: ignore[attr-defined]
        else:
            task = asyncio.create_task(listen())
            await began.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        while any(lane.has_work for lane in reader._lanes.values()):
            await asyncio.sleep(0.005)

    serve(endless, work)


def test_a_client_that_does_not_listen_holds_nobody_up(endless: NativeEngine) -> None:
    async def work(backend: NativeBackend) -> None:
        slow = backend.generate(TextRequest("a", "nano", "Hi", max_tokens=40))
        first = await anext(slow)
        await answer(backend, TextRequest("b", "nano", "Hi", max_tokens=40))
        while any(lane.has_work for lane in backend._reader("nano")._lanes.values()):
            await asyncio.sleep(0.005)
        rest = [item async for item in slow]
        assert isinstance(first, Piece)
        assert isinstance(rest[-1], End)
        assert len(rest) <= 2, "what has piled up comes in one piece"

    serve(endless, work)


def test_requests_under_way_fail_when_it_closes(endless: NativeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    turn = Batcher.turn

    def slow(self: Batcher, feed: Source) -> list[Finished]:
        time.sleep(0.05)
        return turn(self, feed)

    monkeypatch.setattr(Batcher, "turn", slow)  # however late this thread is, the answer is not at its end
    monkeypatch.setattr("ocrsmith.engines.native.batching.is_endless", lambda tail: False)

    before = set(threading.enumerate())

    async def main() -> None:
        backend = NativeBackend({"nano": endless})
        with pytest.raises(BackendFailure, match="not running"):
            await backend.check()
        await backend.start()
        talk = backend.generate(TextRequest("a", "nano", "Hi", decoding=LOUD))
        await anext(talk)
        await backend.close()
        with pytest.raises(BackendFailure, match="closed"):
            async for _ in talk:
                pass
        with pytest.raises(BackendFailure, match="not running"):
            await answer(backend, TextRequest("b", "nano", "Hi"))

    asyncio.run(main())
    new = {thread.name for thread in set(threading.enumerate()) - before}
    assert "decode" not in new


def test_a_backend_whose_decoding_has_ended_says_so(
    engine: NativeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> Any:
        raise torch.AcceleratorError("illegal access")

    async def work(backend: NativeBackend) -> None:
        monkeypatch.setattr(Batcher, "turn", broken)
        with pytest.raises(BackendFailure):
            await answer(backend, TextRequest("a", "nano", "Hi"))
        with pytest.raises(BackendFailure, match="nano: Decoding broke down"):
            await backend.check()

    serve(engine, work)
