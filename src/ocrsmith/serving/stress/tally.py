"""What is kept of a run while it goes on: a few numbers a request, so that hours of it fit into memory."""

from __future__ import annotations

import time
from array import array
from collections import Counter
from collections.abc import Sequence

import numpy as np

from ocrsmith.serving.stress.client import Outcome
from ocrsmith.serving.stress.statistics import Floats, Integers

MAX_SAMPLES = 4096
"""Of memory; when there are more, every other one goes and they come half as often."""
MAX_ANSWERS = 16
"""Different answers that are told apart for a page."""


class Tally:
    """Counts outcomes and memory samples. Warm-up requests have numbers below 0 and are counted apart."""

    def __init__(self, pages: Sequence[str]) -> None:
        """`pages`: their names."""
        self.pages = pages
        self.begun: float | None = None
        self.ended: float | None = None
        self.last_sent = 0.0
        """When the last request went out: from then on the load falls."""
        self.warm_up = 0
        self.warm_up_errors: Counter[str] = Counter()
        self.done = 0
        self.rejected = 0
        self.tokens = 0
        self.errors: Counter[str] = Counter()
        self.messages: dict[str, str] = {}
        """Of each kind of error the first."""
        self.finishes: Counter[str] = Counter()
        self.answers: list[Counter[bytes]] = [Counter() for _ in pages]
        self.sample_every = 0.25
        self._rows = array("d")  # number, page, end, seconds, first text; of answers
        self._samples = array("d")  # done, bytes

    @property
    def elapsed(self) -> float:
        """Seconds since the warm-up ended, until now or the end."""
        if self.begun is None:
            return 0.0
        return (time.perf_counter() if self.ended is None else self.ended) - self.begun

    def send(self, number: int) -> None:
        """A request goes out."""
        self.last_sent = time.perf_counter()
        if number == 0:
            self.begun = self.last_sent

    def add(self, number: int, outcome: Outcome) -> None:
        """A request has ended."""
        if outcome.error is not None:
            self.messages.setdefault(outcome.error, outcome.message)
        if number < 0:
            self.warm_up += 1
            self.warm_up_errors.update([outcome.error] if outcome.error else [])
            return
        self.done += 1
        self.rejected += outcome.rejected
        if outcome.error is not None:
            self.errors[outcome.error] += 1
            return
        page = number % len(self.pages)
        self.tokens += outcome.tokens
        self.finishes[outcome.finish] += 1
        seen = self.answers[page]
        if outcome.digest in seen or len(seen) < MAX_ANSWERS:
            seen[outcome.digest] += 1
        self._rows.extend((number, page, time.perf_counter(), outcome.seconds, outcome.first_text))

    def remember(self, resident: int) -> None:
        """A sample of the server's memory, in bytes."""
        self._samples.extend((self.done, resident))
        if len(self._samples) > 2 * MAX_SAMPLES:
            self._samples = array("d", self.samples()[::2].ravel())
            self.sample_every *= 2

    def samples(self) -> Floats:
        """(samples, 2): requests done by then, resident bytes."""
        return np.array(self._samples, dtype=np.float64).reshape(-1, 2)

    def latencies(self) -> tuple[Floats, Floats]:
        """Seconds of all answers, and seconds until their first text, in the order of their ends."""
        rows = self._table()
        return rows[:, 3], rows[:, 4]

    def steady(self) -> tuple[Floats, Integers]:
        """Seconds and pages of the answers under full load, in the order in which they were asked for: without
        those that ended after the last request had gone out."""
        rows = self._table()
        rows = rows[rows[:, 2] <= self.last_sent]
        rows = rows[np.argsort(rows[:, 0], kind="stable")]
        return rows[:, 3], rows[:, 1].astype(np.int64)

    def _table(self) -> Floats:
        return np.array(self._rows, dtype=np.float64).reshape(-1, 5)
