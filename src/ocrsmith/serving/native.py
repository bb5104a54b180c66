"""Answers requests with models in this process: one `LiveReader` for each, its threads bridged to asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence

import torch

from ocrsmith.engines.native.engine import NativeEngine
from ocrsmith.engines.native.live import Ending, LiveReader, LiveRequest, NotReadingError
from ocrsmith.engines.native.text_stream import TextStream
from ocrsmith.errors import InputError, OcrsmithError
from ocrsmith.serving.backends import BackendFailure, End, Piece, ServedModel, TextRequest, Token

_Heard = tuple[Sequence[int], Sequence[float]]


class NativeBackend:
    """See `Backend`. All models lie in memory, and each answers many requests at a time."""

    def __init__(
        self, engines: Mapping[str, NativeEngine], *, parents: Mapping[str, str] | None = None
    ) -> None:
        """
        Args:
            engines: the name that clients ask for → a loaded engine; the first is the default. While they are
                served their weights must stay as they are.
            parents: name of an adapter's model → name of its base's.

        Raises:
            ValueError: no engines.
        """
        if not engines:
            raise ValueError("a server needs a model")
        self._engines, self._parents = dict(engines), dict(parents or {})
        self._readers: dict[str, LiveReader] = {}

    @property
    def models(self) -> Sequence[ServedModel]:
        """See `Backend.models`."""
        return [
            ServedModel(
                name=name,
                context=engine.context,
                decoding=engine.decoding,
                mode=engine.processor.settings.mode,
                parent=self._parents.get(name),
                whitelist_ids=engine.decoding.whitelist_ids(engine.processor.tokenizer),
            )
            for name, engine in self._engines.items()
        ]

    async def start(self) -> None:
        """See `Backend.start`. The models are loaded already; this makes them ready for decoding."""
        for name, engine in self._engines.items():
            if name not in self._readers:
                self._readers[name] = await asyncio.to_thread(LiveReader, engine)

    async def generate(self, request: TextRequest) -> AsyncGenerator[Piece | End, None]:
        """See `Backend.generate`."""
        reader = self._reader(request.model)
        mailbox = _Mailbox()
        asked = LiveRequest(request.prompt, request.image, request.max_tokens, request.decoding)
        try:
            ticket = reader.submit(asked, mailbox)
        except NotReadingError as error:
            raise BackendFailure(str(error)) from error
        try:
            stream = reader.text_stream()
            while True:
                heard, last = await mailbox.take()
                piece = _piece(stream, heard, last is not None, request.logprobs)
                if piece.text or piece.tokens:
                    yield piece
                if last is not None:
                    yield last
                    return
        finally:
            reader.cancel(ticket)

    async def check(self) -> None:
        """See `Backend.check`."""
        for name in self._engines:
            try:
                self._reader(name).check()
            except NotReadingError as error:
                raise BackendFailure(f"{name}: {error}") from error

    async def close(self) -> None:
        """See `Backend.close`."""
        readers, self._readers = self._readers, {}
        for reader in readers.values():
            await asyncio.to_thread(reader.close)

    def _reader(self, name: str) -> LiveReader:
        if name not in self._engines:
            raise InputError(f"There is no model {name!r} here.", place="model")
        if name not in self._readers:
            raise BackendFailure("The server is not running.")
        return self._readers[name]


class _Mailbox:
    """A listener that brings what it hears to the event loop it was made on; nothing ever waits for the reader
    of it, since an answer is no longer than the context.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._news: asyncio.Queue[_Heard | Ending | Exception] = asyncio.Queue()

    def heard(self, tokens: Sequence[int], logprobs: Sequence[float]) -> None:
        self._post((tokens, logprobs))

    def ended(self, ending: Ending) -> None:
        self._post(ending)

    def failed(self, error: Exception) -> None:
        self._post(error)

    async def take(self) -> tuple[_Heard, End | None]:
        """All that was heard since the last call, at least one thing; and the end, if it has come.

        Raises:
            InputError, BackendFailure: the request failed.
        """
        tokens: list[int] = []
        logprobs: list[float] = []
        news = await self._news.get()
        while not isinstance(news, Ending):
            if isinstance(news, Exception):
                raise _failure(news) from news
            tokens += news[0]
            logprobs += news[1]
            if self._news.empty():
                return (tokens, logprobs), None
            news = self._news.get_nowait()
        return (tokens, logprobs), End(news.finish, news.prompt_tokens, news.completion_tokens)

    def _post(self, news: _Heard | Ending | Exception) -> None:
        """Raises RuntimeError if the loop is closed, which ends the request."""
        self._loop.call_soon_threadsafe(self._news.put_nowait, news)


def _piece(stream: TextStream, heard: _Heard, is_last: bool, logprobs: bool) -> Piece:
    text = stream.add(heard[0]) + (stream.end() if is_last else "")
    if not logprobs:
        return Piece(text)
    tokens = (Token(stream.bytes_of(token), logprob) for token, logprob in zip(heard[0], heard[1], strict=True))
    return Piece(text, tuple(tokens))


def _failure(error: Exception) -> Exception:
    """What the client hears: of its own faults all, of ours no more than their kind."""
    if isinstance(error, InputError):
        return error
    if isinstance(error, OcrsmithError):
        return InputError(error.problem, place=error.place, mend=error.mend)
    if isinstance(error, NotReadingError):
        return BackendFailure(str(error))
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return BackendFailure("There is not enough memory to answer this request.")
    return BackendFailure(f"Decoding failed ({type(error).__name__}).")
