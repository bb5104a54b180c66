"""Small real backends: they answer as told, and remember what they were asked."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field

from ocrsmith.engines.decoding import DecodingSettings
from ocrsmith.records import FinishReason
from ocrsmith.serving.backends import End, Piece, ServedModel, TextRequest, Token


@dataclass
class Say:
    """An answer: its words, then its end; or what breaks it, after as many words."""

    text: str
    finish: FinishReason = "stop"
    error: Exception | None = None
    before_error: int = 0
    probability: float = 0.9
    wait: asyncio.Event | None = None


@dataclass
class ScriptedBackend:
    """Answers each request with what `say` makes of it, a word a piece and a token."""

    name: str
    say: Callable[[TextRequest], Say]
    asked: list[TextRequest] = field(default_factory=list)
    under_way: int = 0
    most_under_way: int = 0
    closed: bool = False

    @property
    def models(self) -> Sequence[ServedModel]:
        return [ServedModel(name, 1024, DecodingSettings(), "tiny") for name in (self.name, "other")]

    async def start(self) -> None: ...

    async def check(self) -> None: ...

    async def close(self) -> None:
        self.closed = True

    async def generate(self, request: TextRequest) -> AsyncIterator[Piece | End]:
        self.asked.append(request)
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            say = self.say(request)
            if say.wait is not None:
                await say.wait.wait()
            words = [word + " " for word in say.text.split(" ") if word]
            for place, word in enumerate(words):
                await asyncio.sleep(0)
                if say.error is not None and place >= say.before_error:
                    raise say.error
                tokens = (Token(word.encode(), math.log(say.probability)),) if request.logprobs else ()
                yield Piece(word, tokens)
            if say.error is not None:
                raise say.error
            yield End(say.finish, 10, len(words) + 1)
        finally:
            self.under_way -= 1


def always(text: str, **more: object) -> Callable[[TextRequest], Say]:
    """The same answer to everything."""
    return lambda request: Say(text, **more)  # type: ignore[arg-type]


def page(number: int, *, prompt: str = "<image>\nFree OCR.", model: str = "A", **more: object) -> TextRequest:
    """A request with an image of its own."""
    made = {"id": f"r{number}", "model": model, "prompt": prompt, "image": f"image {number}".encode()}
    return TextRequest(**(made | more))  # type: ignore[arg-type]


async def read(backend: object, request: TextRequest) -> tuple[str, End]:
    """The answer to a request."""
    items = [item async for item in backend.generate(request)]  # type: ignore[attr-defined]
    end = items[-1]
    assert isinstance(end, End)
    return "".join(item.text for item in items[:-1]), end


async def until(true: Callable[[], bool], what: str) -> None:
    """Waits for something to come true."""
    for _ in range(6000):
        if true():
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"waited in vain for {what}")
