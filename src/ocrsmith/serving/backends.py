"""The door behind which the models of a server stand: a checked request in, pieces of text out.

The app in front of it (`serving.app`) speaks HTTP and knows no model; a backend knows no client. There is one
that decodes in this process, one that hands on to vLLM, and the canary, which stands before two others.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from ocrsmith.engines.decoding import DecodingSettings
from ocrsmith.records import FinishReason


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model that clients can ask for. Nothing here tells where on this machine it lies."""

    name: str
    """What clients ask for."""
    context: int
    """Longest sequence in tokens, prompt and answer together."""
    decoding: DecodingSettings
    """How its answers are decoded, unless a request says otherwise."""
    mode: str
    """Resolution mode in which it reads."""
    parent: str | None = None
    """Name of its base, if it is an adapter's."""
    whitelist_ids: tuple[int, ...] = ()
    """Token ids of its own n-gram whitelist: clients name the whitelist by them."""


@dataclass(frozen=True, slots=True)
class TextRequest:
    """One request for text, within all limits, its image opened once and found good."""

    id: str
    """The server's own, unique."""
    model: str
    """Name of a served model."""
    prompt: str
    """As the model sees it, without the beginning-of-sequence token; `<image>` where the image stands."""
    image: bytes | None = None
    """The encoded image file; None: text alone."""
    max_tokens: int | None = None
    """Longest answer; None: the model's own limit, or what the context leaves."""
    decoding: DecodingSettings | None = None
    """None: the model's own. `max_tokens` wins over the limit in it."""
    logprobs: bool = False
    """Whether tokens come with their log-probabilities."""


@dataclass(frozen=True, slots=True)
class Token:
    """A generated token; the end-of-sequence token is listed too, with an empty text."""

    data: bytes
    """What it writes: perhaps a part of a character."""
    logprob: float
    """Natural logarithm of its probability, before loop control."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Text that is new since the last piece: whole characters, white space kept. Joined: the answer."""

    text: str
    tokens: tuple[Token, ...] = ()
    """Tokens that are new, if the request asks for log-probabilities; their bytes may run ahead of the text."""


@dataclass(frozen=True, slots=True)
class End:
    """The last thing that a backend says of a request that went well."""

    finish_reason: FinishReason
    """`stop`, `length` or `loop`."""
    prompt_tokens: int
    completion_tokens: int
    """End of sequence included."""


class BackendFailure(Exception):
    """The backend cannot serve now, or broke down: not the request's fault. One line, no paths, no texts."""


@runtime_checkable
class Backend(Protocol):
    """Answers requests for one or more models. All methods are called on one event loop."""

    @property
    def models(self) -> Sequence[ServedModel]:
        """What it serves; the first is the default. Known once `start` has returned."""
        ...

    async def start(self) -> None:
        """Gets ready: loads models, starts processes. May take minutes.

        Raises:
            OcrsmithError: a model cannot be used, a port is taken, a package is missing.
        """
        ...

    def generate(self, request: TextRequest) -> AsyncGenerator[Piece | End, None]:
        """Answers one request: pieces, then one `End`. Many requests are answered at a time.

        An asynchronous generator. Closing it, or cancelling the task that waits for it, ends the decoding at
        once and frees its place.

        Raises:
            InputError: this request cannot be answered (prompt longer than the context …): the client's fault.
            BackendFailure: the backend's fault.
        """
        ...

    async def check(self) -> None:
        """Returns if requests would be answered now. Raises BackendFailure if not."""
        ...

    async def close(self) -> None:
        """Ends everything at once; requests under way fail. Those that should end first, the app waits for."""
        ...


@runtime_checkable
class Counting(Protocol):
    """A backend that counts what the app cannot see."""

    def figures(self) -> Mapping[str, float]:
        """Its figures by name, for metrics; NaN where there is no value yet."""
        ...
