"""The door behind which every engine stands: pages in, one prediction for each page out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from ocrsmith.engines.decoding import DecodingSettings
from ocrsmith.records import Prediction

ReadProgress = Callable[[int], None]
"""Called with the number of pages that were finished since the last call."""


@dataclass(frozen=True, slots=True)
class PageRequest:
    """One page to read."""

    id: str
    """Comes back in the prediction; unique within one call."""
    image: bytes
    """The encoded image file (PNG, JPEG …)."""
    prompt: str | None = None
    """None takes the engine's prompt."""
    expected_length: int = 0
    """Characters that the text is likely to have, 0 if unknown: a hint for batching like pages together. It may
    change the speed, never the answer."""


@runtime_checkable
class Engine(Protocol):
    """Reads pages. Implementations hold a model or a connection, and alone import its library."""

    @property
    def name(self) -> str:
        """A short stable name: `native`, `vllm` …"""
        ...

    def describe(self) -> dict[str, Any]:
        """All that decides the answers, as JSON: model, adapter, hashes, processing and decoding settings.

        What only decides the speed (device, batch size) goes under the key `runtime`; a stopped evaluation may
        go on with another runtime, but with nothing else changed.
        """
        ...

    def read(
        self, requests: Sequence[PageRequest], *, progress: ReadProgress | None = None
    ) -> Iterator[Prediction]:
        """Reads all pages, in any order, exactly one prediction for each.

        A page that cannot be read comes back with `finish_reason="error"` and the reason; the others go on.
        """
        ...


@runtime_checkable
class Adjustable(Engine, Protocol):
    """An engine that can read with other settings without loading its model again."""

    def adjusted(self, *, mode: str | None = None, decoding: DecodingSettings | None = None) -> Engine:
        """The same model or connection, read with other settings; this engine stays as it is.

        Args:
            mode: resolution mode; None keeps it.
            decoding: decoding settings; None keeps them.

        Raises:
            SettingsError: the engine cannot honour one of them, or there is no such mode.
        """
        ...


def failed(request: PageRequest, reason: str, *, seconds: float = 0.0) -> Prediction:
    """The prediction of a page that could not be read: no text, the reason in one line."""
    line = " ".join(reason.split()) or "unknown error"
    return Prediction(id=request.id, text="", finish_reason="error", seconds=seconds, error=line)


def strip_aligned(text: str, ends: Sequence[int]) -> tuple[str, tuple[int, ...]]:
    """Cuts white space off both ends of an answer, as references have none, and moves its tokens' ends with it.

    Args:
        text: as decoded.
        ends: where each token's text ends in it (see `Prediction.token_ends`); may be empty.
    """
    stripped = text.strip()
    cut = len(text) - len(text.lstrip())
    return stripped, tuple(min(max(end - cut, 0), len(stripped)) for end in ends)
