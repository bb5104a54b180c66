"""What a run has shown, as figures."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ocrsmith.serving.stress.memory import Memory, judge_memory
from ocrsmith.serving.stress.statistics import Drift, Spread, drift, window_of
from ocrsmith.serving.stress.tally import Tally

_LATENCY = ("min", "mean", "p50", "p90", "p95", "p99", "max")
FIGURES = (
    *("requests", "answered", "errors", "error_share", "rejected", "differing", "loops", "truncated"),
    *("pages_per_minute", "tokens_per_second", "drift", "slower", "memory_growth", "leaks"),
    *_LATENCY,
    *(f"first_text.{name}" for name in _LATENCY),
)
"""Names that rules know. Latencies in seconds."""


@dataclass(frozen=True, slots=True)
class Report:
    """How a server stood it. Nothing of the warm-up is in the figures."""

    seconds: float
    requests: int
    answered: int
    errors: dict[str, int]
    """By kind."""
    messages: dict[str, str]
    """Of each kind of error the first, warm-up included."""
    rejected: int
    """Times that the server had no room (429) and the page was sent again; no errors."""
    latency: Spread | None
    """Seconds from sending to the end of the answer, as clients see it."""
    first_text: Spread | None
    """Seconds to the first text; None unless answers came in pieces."""
    pages_per_minute: float
    tokens_per_second: float | None
    """None: the server does not count tokens."""
    finish_reasons: dict[str, int]
    differing: dict[str, int]
    """Pages that were not always answered alike, with the number of different answers."""
    drift: Drift | None
    memory: Memory | None
    client_load: float
    """CPU seconds of this side a second: near 1 the client is the bottleneck, and no figure counts."""
    warm_up: int
    warm_up_errors: dict[str, int]

    @property
    def leaks(self) -> bool:
        """Whether the server's memory leaks, as far as it was seen."""
        return self.memory is not None and self.memory.verdict == "leak"

    @property
    def failed(self) -> int:
        """Requests without an answer."""
        return sum(self.errors.values())

    def to_json(self) -> dict[str, Any]:
        """All of it; seconds and bytes."""
        return asdict(self)

    def figures(self) -> Mapping[str, float]:
        """The values of `FIGURES`; NaN for what was not measured. Verdicts are 1 or 0."""
        course, memory = self.drift, self.memory
        known = {
            "requests": self.requests,
            "answered": self.answered,
            "errors": self.failed,
            "error_share": self.failed / self.requests if self.requests else math.nan,
            "rejected": self.rejected,
            "differing": len(self.differing),
            "loops": self.finish_reasons.get("loop", 0),
            "truncated": self.finish_reasons.get("length", 0),
            "pages_per_minute": self.pages_per_minute,
            "tokens_per_second": math.nan if self.tokens_per_second is None else self.tokens_per_second,
            "drift": course.change if course else math.nan,
            "slower": course.verdict == "slower" if course and course.slope else math.nan,
            "memory_growth": memory.growth if memory else math.nan,
            "leaks": memory.verdict == "leak" if memory and memory.slope else math.nan,
        }
        for prefix, spread in (("", self.latency), ("first_text.", self.first_text)):
            known |= {f"{prefix}{name}": getattr(spread, name) if spread else math.nan for name in _LATENCY}
        return {name: float(known[name]) for name in FIGURES}


def make_report(tally: Tally, *, memory_source: str | None = None, cpu_seconds: float = 0.0) -> Report:
    """The figures of a run that has ended, or was broken off.

    Args:
        memory_source: where memory was read; None: nowhere.
        cpu_seconds: of this process during the run.
    """
    seconds = tally.elapsed
    latency, first_text = tally.latencies()
    samples = tally.samples()
    memory = judge_memory(memory_source, samples[:, 0], samples[:, 1], tally.done) if memory_source else None
    answered = len(latency)
    return Report(
        seconds=seconds,
        requests=tally.done,
        answered=answered,
        errors=dict(tally.errors.most_common()),
        messages=tally.messages,
        rejected=tally.rejected,
        latency=Spread.of(latency),
        first_text=Spread.of(first_text),
        pages_per_minute=60 * answered / seconds if seconds else 0.0,
        tokens_per_second=tally.tokens / seconds if tally.tokens and seconds else None,
        finish_reasons=dict(tally.finishes.most_common()),
        differing={
            name: len(seen) for name, seen in zip(tally.pages, tally.answers, strict=True) if len(seen) > 1
        },
        drift=drift(*tally.steady(), window_of(tally.done)),
        memory=memory,
        client_load=cpu_seconds / seconds if seconds else 0.0,
        warm_up=tally.warm_up,
        warm_up_errors=dict(tally.warm_up_errors),
    )
