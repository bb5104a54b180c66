"""What the store holds of a request: the records that the canary writes and the report reads."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from ocrsmith.records import FinishReason
from ocrsmith.serving.canary.choice import Arm, PageKey

Ended = FinishReason | Literal["cancelled", "refused"]
"""How a reading ended: besides the reasons of all engines, the client left, or the request could not be
answered by anybody. Neither says anything about a model, so neither counts in a rate."""

EventKind = Literal["start", "rollback", "resume"]


@dataclass(frozen=True, slots=True)
class Answer:
    """One model's reading of one request's page."""

    request: str
    """The request's id."""
    arm: Arm
    key: PageKey
    finish: Ended
    seconds: float
    """Time that the model took; a slow client's time is not in it."""
    tokens: int = 0
    logprob_mean: float | None = None
    logprob_min: float | None = None
    length: int = 0
    """Characters."""
    error: str | None = None
    shadow: bool = False
    """The client never saw it."""
    difference: float | None = None
    """Of a shadow: CER of the candidate's answer, the base's taken as true; may exceed 1."""
    text: str | None = None
    """None unless the page is kept."""
    number: int = 0
    """The store's own, rising; 0 until stored."""

    @property
    def counts(self) -> bool:
        """Whether it says something about the model."""
        return self.finish not in ("cancelled", "refused")

    @property
    def complete(self) -> bool:
        """Whether the model came to an end of its own: the text is all that it would say."""
        return self.finish in ("stop", "length", "loop")

    @property
    def confidence(self) -> float | None:
        """As `engines.confidence.page_confidence` where single tokens are unknown: the tokens' geometric mean;
        0 for what did not end by itself, None where no probabilities are known."""
        if self.finish != "stop":
            return 0.0
        return None if self.logprob_mean is None else math.exp(min(0.0, self.logprob_mean))


@dataclass(frozen=True, slots=True)
class Request:
    """A request as the canary saw it."""

    id: str
    time: float
    """When it came, seconds since 1970."""
    key: PageKey
    arm: Arm
    """Whom the hash chose."""
    fallback: bool = False
    """The candidate failed, and the base answered."""


@dataclass(frozen=True, slots=True)
class KeptPage:
    """A page that a person may look at."""

    key: PageKey
    time: float
    prompt: str
    """As the model saw it."""
    image: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Correction:
    """The true text of a page."""

    key: PageKey
    text: str
    by: str | None = None
    at: str | None = None
    number: int = 0
    """The store's own, rising: of several for one page the last counts."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to the canary as a whole."""

    kind: EventKind
    time: float
    round: int
    """Counts what belongs together: one base against one candidate, from a start or a resumption on."""
    base: str
    candidate: str
    detail: dict[str, object] = field(default_factory=dict)


@dataclass(slots=True)
class Counts:
    """What is only counted."""

    records_dropped: int = 0
    """Answers that the store never got: it was too slow, or could not be written."""
    shadows_dropped: int = 0
    """Shadow readings that were left out, too many being under way."""

    def __bool__(self) -> bool:
        return bool(self.records_dropped or self.shadows_dropped)
