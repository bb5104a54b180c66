"""The records that cross borders: one shape for a sample, a prediction and a left-out item.

Importers produce `PageSample`, the dataset stores it, engines turn it into `Prediction`, evaluation reads
predictions. Nobody passes bare dicts.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

FinishReason = Literal["stop", "length", "loop", "error"]
"""Why decoding ended: end-of-sequence token, token limit, endless repetition, or the page failed."""

SplitName = Literal["train", "val", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "val", "test")


@dataclass(frozen=True, slots=True)
class PageSample:
    """An image to read and its true text."""

    id: str
    """Unique within a dataset, stable across rebuilds."""
    image: bytes
    """The encoded image file as it came (PNG, JPEG …), not pixels."""
    image_path: str
    """Where the image came from, for messages and for reading back; may be empty."""
    text: str
    """The reference, NFC not enforced: exactly as the source has it, without surrounding white space."""
    group: str = ""
    """The document it belongs to; a group stays on one side of a split. Empty: a group of its own."""
    source: str = ""
    """The source (file or folder) it was imported from."""
    prompt: str | None = None
    """Prompt for this sample; None takes the dataset's."""
    meta: dict[str, Any] = field(default_factory=dict)
    """Anything else worth keeping (JSON-serialisable): language, font, box …"""


@dataclass(frozen=True, slots=True)
class Excluded:
    """An item that was left out of a dataset, and why: a line of the ledger."""

    reason: str
    """A short stable code: `missing`, `unreadable`, `too_small`, `empty_text`, `image_token`, `too_long` …"""
    detail: str
    """One sentence for a person: what was found and how to mend it."""
    image_path: str
    source: str
    line: int | None = None
    """1-based line or row in the source, where it has one."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """What an engine read in one page."""

    id: str
    text: str
    finish_reason: FinishReason
    seconds: float
    """Wall time attributed to this page (a batch's time shared by its pages)."""
    tokens: int = 0
    """Generated tokens, end of sequence included."""
    logprob_mean: float | None = None
    """Mean log-probability of the generated tokens."""
    logprob_min: float | None = None
    error: str | None = None
    """For `finish_reason == "error"`: what went wrong, in one line."""
    token_ends: tuple[int, ...] = ()
    """Where each generated token's text ends in `text`, in characters, never decreasing. A token that ends
    where the one before it does wrote no whole character: part of one, white space cut off, or a special token.
    Empty if unknown."""
    token_logprobs: tuple[float, ...] = ()
    """Natural-log probability of each of those tokens; as many as `token_ends`."""
    mode: str = ""
    """Resolution mode in which this answer was read; empty if unknown, or where the engine has none."""
    attempts: int = 1
    """Times that the page was read: more than once where it fell into a loop."""
