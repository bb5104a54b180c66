"""One reading of a request by one backend: hands on what comes, and remembers what the store wants to know."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from ocrsmith.errors import InputError
from ocrsmith.serving.backends import Backend, BackendFailure, End, Piece, TextRequest
from ocrsmith.serving.canary.choice import Arm, PageKey
from ocrsmith.serving.canary.records import Answer, Ended


class Reading:
    """A reading, under way or ended."""

    def __init__(self, arm: Arm, backend: Backend, request: TextRequest) -> None:
        self.arm: Arm = arm
        self._backend = backend
        self._request = request
        self.begun = False
        """Whether the backend has said anything."""
        self._texts: list[str] = []
        self._finish: Ended = "cancelled"
        self._error: str | None = None
        self._seconds = 0.0
        self._tokens = 0
        self._logprobs = 0.0
        self._lowest: float | None = None
        self._told = 0  # tokens with a log-probability

    @property
    def text(self) -> str:
        """What was read so far."""
        return "".join(self._texts)

    @property
    def ended_well(self) -> bool:
        """Whether the backend said its `End`."""
        return self._finish in ("stop", "length", "loop")

    @property
    def refused(self) -> bool:
        """Whether the backend found the request at fault."""
        return self._finish == "refused"

    async def items(self) -> AsyncGenerator[Piece | End, None]:
        """What `Backend.generate` gives, with tokens only if the request asks for them. Raises as that does."""
        asked = replace(self._request, logprobs=True)
        try:
            async with aclosing(_generator(self._backend, asked)) as answer:
                while (item := await self._next(answer)) is not None:
                    self._take(item)
                    if isinstance(item, Piece) and item.tokens and not self._request.logprobs:
                        item = Piece(item.text)
                    yield item
            if not self.ended_well:
                raise BackendFailure("the answer broke off")
        except (GeneratorExit, asyncio.CancelledError):
            raise
        except InputError:
            self._finish = "refused"
            raise
        except Exception as error:
            self._finish = "error"
            # what no one foresaw may say anything, paths and texts too: its kind is enough
            self._error = str(error) if isinstance(error, BackendFailure) else type(error).__name__
            raise

    def failed_by(self, error: str) -> None:
        """Notes that whoever waited gave up on it, or that another backend could answer what it refused."""
        self._finish, self._error = "error", error

    def answer(self, key: PageKey, *, shadow: bool = False, keep: bool = False) -> Answer:
        """The record of it.

        Args:
            keep: with the text.
        """
        text = self.text
        return Answer(
            request=self._request.id,
            arm=self.arm,
            key=key,
            finish=self._finish,
            seconds=self._seconds,
            tokens=self._tokens,
            logprob_mean=self._logprobs / self._told if self._told else None,
            logprob_min=self._lowest,
            length=len(text.strip()),
            error=self._error,
            shadow=shadow,
            text=text if keep else None,
        )

    async def _next(self, answer: Any) -> Piece | End | None:
        begin = time.perf_counter()
        try:
            item: Piece | End | None = await anext(answer, None)
        finally:
            self._seconds += time.perf_counter() - begin
        return item

    def _take(self, item: Piece | End) -> None:
        self.begun = True
        if isinstance(item, End):
            self._finish, self._tokens = item.finish_reason, item.completion_tokens
            return
        self._texts.append(item.text)
        for token in item.tokens:
            self._logprobs += token.logprob
            self._told += 1
            self._lowest = token.logprob if self._lowest is None else min(self._lowest, token.logprob)


def _generator(backend: Backend, request: TextRequest) -> Any:
    """An asynchronous generator, as the door asks for; its type there promises less."""
    return backend.generate(request)
