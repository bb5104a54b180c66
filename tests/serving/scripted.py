"""A backend that does what its prompt says: answers, waits, fails. Also a server process before it."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import AsyncIterator, Iterator, Sequence

from ocrsmith.engines.decoding import DecodingSettings
from ocrsmith.errors import InputError
from ocrsmith.serving.app import make_app
from ocrsmith.serving.backends import BackendFailure, End, Piece, ServedModel, TextRequest, Token
from ocrsmith.serving.server import serve
from ocrsmith.serving.settings import ServerSettings

TEXT = "第一行 first\nline 二 🎉"


class ScriptedBackend:
    """The last word of the prompt says what becomes of the request:

    hang    nothing, until it is cancelled
    wait    one piece, then the rest once `go_on` is set
    late    like wait, without a piece before
    loop    an answer that loops
    refuse  InputError with a path as place;  fail, bug: BackendFailure or a fault, before the first piece
    break   a fault after the first piece;  drop: BackendFailure after it
    flood   more text than any socket buffers
    """

    def __init__(self) -> None:
        self.seen: list[TextRequest] = []
        self.cancelled: list[str] = []
        self.active = 0
        self.go_on = threading.Event()
        self.failure: str | None = None
        self.started = self.closed = False

    @property
    def models(self) -> Sequence[ServedModel]:
        own = DecodingSettings()
        return [ServedModel("base", 1024, own, "tiny"), ServedModel("org/adapter", 1024, own, "tiny", "base")]

    async def start(self) -> None:
        self.started = True

    async def generate(self, request: TextRequest) -> AsyncIterator[Piece | End]:
        self.seen.append(request)
        self.active += 1
        try:
            async for item in self._items(request):
                yield item
        except (asyncio.CancelledError, GeneratorExit):
            self.cancelled.append(request.id)
            raise
        finally:
            self.active -= 1

    async def _items(self, request: TextRequest) -> AsyncIterator[Piece | End]:
        word = request.prompt.split()[-1]
        if word == "hang":
            await asyncio.Event().wait()
        if word == "refuse":
            raise InputError(
                "The prompt takes 9 tokens too many.", place="/etc/secret/model", mend="Shorten it."
            )
        if word == "fail":
            raise BackendFailure("it is being restarted")
        if word == "bug":
            raise RuntimeError("cannot open /etc/secret/weights")
        if word == "late":
            await self._gate()
        pieces = self._pieces(request)
        yield next(pieces)
        if word == "wait":
            await self._gate()
        if word == "break":
            raise RuntimeError("cannot read /etc/secret/weights")
        if word == "drop":
            raise BackendFailure("it has stopped")
        if word == "flood":
            for _ in range(4096):
                yield Piece("x" * 65536)
        for piece in pieces:
            yield piece
        yield End("loop" if word == "loop" else "stop", 7, len(TEXT) + 1)

    def _pieces(self, request: TextRequest) -> Iterator[Piece]:
        for character in TEXT:
            tokens = (Token(character.encode(), -0.5),) if request.logprobs else ()
            yield Piece(character, tokens)
        if request.logprobs:
            yield Piece("", (Token(b"", float("-inf")),))

    async def _gate(self) -> None:
        while not self.go_on.is_set():
            await asyncio.sleep(0.01)

    async def check(self) -> None:
        if self.failure:
            raise BackendFailure(self.failure)

    async def close(self) -> None:
        self.closed = True


def main() -> None:
    """Serves, with settings as JSON in the first argument; prints the URL; a line on stdin opens the gate."""
    backend = ScriptedBackend()
    settings = ServerSettings.model_validate_json(sys.argv[1])

    def listen() -> None:
        for _ in sys.stdin:
            backend.go_on.set()

    threading.Thread(target=listen, daemon=True).start()
    serve(make_app(backend, settings), settings, ready=lambda url: print(url, flush=True))
    print("closed" if backend.closed and not backend.active else "left open", flush=True)


if __name__ == "__main__":
    main()
