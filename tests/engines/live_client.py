"""Someone who asks a live reader, and hears what comes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from ocrsmith.engines.base import PageRequest
from ocrsmith.engines.decoding import DecodingSettings
from ocrsmith.engines.native import NativeEngine
from ocrsmith.engines.native.live import Ending, LiveReader, LiveRequest

from .test_native import read

PATIENCE = 60.0
LONG = DecodingSettings(max_new_tokens=900, ngram_size=0)
"""For pages that must still be under way when something happens to them."""


class Answer:
    """A listener that keeps all it hears; with `hold` the decoding thread waits at the first tokens."""

    def __init__(self, *, hold: bool = False) -> None:
        self.tokens: list[int] = []
        self.logprobs: list[float] = []
        self.pieces = 0
        self.ending: Ending | None = None
        self.error: Exception | None = None
        self.began, self.over, self.go_on = threading.Event(), threading.Event(), threading.Event()
        if not hold:
            self.go_on.set()

    def heard(self, tokens: Sequence[int], logprobs: Sequence[float]) -> None:
        assert not self.over.is_set()
        assert len(tokens) == len(logprobs) > 0
        self.tokens += tokens
        self.logprobs += logprobs
        self.pieces += 1
        self.began.set()
        assert self.go_on.wait(PATIENCE)

    def ended(self, ending: Ending) -> None:
        assert not self.over.is_set()
        self.ending = ending
        self.over.set()

    def failed(self, error: Exception) -> None:
        assert not self.over.is_set()
        self.error = error
        self.over.set()

    def wait(self) -> Answer:
        assert self.over.wait(PATIENCE)
        return self


@contextmanager
def reading(engine: NativeEngine, **options: Any) -> Iterator[LiveReader]:
    reader = LiveReader(engine, **options)
    try:
        yield reader
    finally:
        reader.close()


def as_live(request: PageRequest) -> LiveRequest:
    return LiveRequest(request.prompt, request.image)


def ask(reader: LiveReader, request: LiveRequest) -> Answer:
    answer = Answer()
    reader.submit(request, answer)
    return answer


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def check_same(engine: NativeEngine, asked: Sequence[PageRequest], answers: Sequence[Answer]) -> None:
    expected = read(engine, asked)
    for request, answer in zip(asked, answers, strict=True):
        assert answer.error is None
        assert answer.ending is not None
        true = expected[request.id]
        text = engine.processor.decode(answer.tokens).strip()
        assert (text, len(answer.tokens)) == (true.text, true.tokens), request.id
        assert answer.ending.finish == true.finish_reason
        assert answer.ending.completion_tokens == true.tokens
        encoded = engine.processor.encode([request.image], prompt=request.prompt)
        assert answer.ending.prompt_tokens == encoded.num_tokens
        assert sum(answer.logprobs) / len(answer.logprobs) == pytest.approx(true.logprob_mean, abs=1e-5)
