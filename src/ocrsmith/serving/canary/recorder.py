"""Writes to the store and watches over the candidate, in one thread: no request ever waits for the disk.

What comes faster than the store takes it is dropped and counted. The thread also looks into the store every few
seconds: other processes roll back, resume, and bring corrections.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace

from ocrsmith.errors import OcrsmithError
from ocrsmith.evaluation.metrics.cer import cer
from ocrsmith.serving.canary.choice import ARMS, BASE, CANDIDATE, Arm
from ocrsmith.serving.canary.figures import WINDOW, Known, arm_figures, score_corrected
from ocrsmith.serving.canary.records import Answer, Counts, KeptPage, Request
from ocrsmith.serving.canary.rollback import RollbackRule
from ocrsmith.serving.canary.store import State, Store

QUEUE = 2_000
"""Records that may wait for the store."""
BATCH = 200
"""Records written at a time."""
CHECK_EVERY = 10
"""Answers of the candidate after which the rule is looked at again …"""
CHECK_SHARE = 0.1
"""… but no more than this share of the thread's time goes into it, however many answers there are."""
POLL_SECONDS = 2.0
"""How often the store is looked into for what others did."""
RETRY_SECONDS = 1.0
CLOSE_SECONDS = 20.0
"""How long a closing server waits for what is still to be written."""
TELL_SECONDS = 60.0
"""Trouble with the store is told once in this time."""

_log = logging.getLogger("ocrsmith.serving.canary")


@dataclass(frozen=True, slots=True)
class Record:
    """What is to be written of one request, or of one shadow reading."""

    request: Request | None
    answers: tuple[Answer, ...]
    page: KeptPage | None = None
    texts: tuple[str, str] | None = None
    """Of a shadow: what base and candidate read, to compare."""


@dataclass(frozen=True, slots=True)
class Pair:
    """The names of the two models."""

    base: str
    candidate: str


class Recorder:
    """The thread, and what it knows. `rolled_back` and `counts` may be read from anywhere."""

    def __init__(self, store: Store, pair: Pair, state: State, *, rule: RollbackRule | None, keep_bytes: int):
        self._store = store
        self._pair = pair
        self._rule = rule
        self._keep_bytes = keep_bytes
        self._round = state.round
        self.rolled_back = state.rolled_back is not None
        self.figures: dict[Arm, dict[str, float]] = {}
        """Of each arm, as they were when the rule was last looked at."""
        self.total = Counts()
        """Since the start of this process."""
        self._untold = Counts()
        self._pending: Mapping[str, object] | None = None  # a rollback that the store does not know yet
        self._fresh = 0  # answers of the candidate since the rule was last looked at
        self._corrections = -1
        self._known: Known = {}
        self._next_look = self._next_check = 0.0
        self._next_complaint: dict[str, float] = {}
        self._lock = threading.Lock()
        self._queue: queue.Queue[Record | None] = queue.Queue(QUEUE)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="canary-recorder", daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def put(self, record: Record) -> None:
        """Hands a record over, at once; drops it where too many wait already."""
        try:
            self._queue.put_nowait(record)
        except queue.Full:
            self._drop_records(len(record.answers))

    def drop_shadow(self) -> None:
        """Counts a shadow reading that was left out."""
        with self._lock:
            self.total.shadows_dropped += 1
            self._untold.shadows_dropped += 1

    def close(self) -> None:
        """Writes what is left, for a while, and ends the thread."""
        self._closing.set()
        with suppress(queue.Full):
            self._queue.put_nowait(None)
        if self._thread.ident is not None:
            self._thread.join(CLOSE_SECONDS)

    # --- the thread ----------------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            last = self._closing.is_set()  # before the queue is read: what was put before is in it
            try:
                self._turn()
            except OcrsmithError as error:
                self._complain(error.problem)
            except Exception as error:  # the server goes on without a canary's book-keeping, but says so
                self._complain(f"{type(error).__name__}: {error}")
            if last and self._queue.empty():
                return

    def _turn(self) -> None:
        batch = self._collect()
        if batch or self._untold:
            self._write(batch)
        if time.monotonic() >= self._next_look:
            self._next_look = time.monotonic() + POLL_SECONDS
            self._look()
        elif self._rule is not None and self._fresh >= CHECK_EVERY and time.monotonic() >= self._next_check:
            self._check(self._rule)

    def _collect(self) -> list[Record]:
        """What waits, at most a batch; waits for the first one no longer than to the next look."""
        batch: list[Record] = []
        with suppress(queue.Empty):
            pause = 0.0 if self._closing.is_set() else max(0.0, self._next_look - time.monotonic())
            first = self._queue.get(timeout=pause) if pause else self._queue.get_nowait()
            while True:
                batch += [first] if first is not None else []
                if len(batch) >= BATCH:
                    break
                first = self._queue.get_nowait()
        return batch

    def _write(self, batch: list[Record]) -> None:
        """Writes a batch, again and again until the store takes it or the server ends."""
        requests = [record.request for record in batch if record.request is not None]
        answers = [answer for record in batch for answer in _compared(record)]
        pages = [record.page for record in batch if record.page is not None]
        while True:
            last = self._closing.is_set()
            with self._lock:
                counts, self._untold = self._untold, Counts()
            try:
                self._store.add(
                    self._round,
                    requests=requests,
                    answers=answers,
                    pages=pages,
                    counts=counts,
                    keep_bytes=self._keep_bytes,
                )
                break
            except OcrsmithError as error:
                with self._lock:
                    self._untold.records_dropped += counts.records_dropped
                    self._untold.shadows_dropped += counts.shadows_dropped
                self._complain(error.problem)
                if last:
                    self._drop_records(len(answers))
                    return
                self._closing.wait(RETRY_SECONDS)
            except BaseException:
                self._drop_records(len(answers))
                raise
        self._fresh += sum(answer.arm == CANDIDATE for answer in answers)

    def _look(self) -> None:
        """What did other processes do? Then the rule, if there is anything new."""
        if self._pending is not None:
            self._store.roll_back(self._round, self._pair.base, self._pair.candidate, self._pending)
            self._pending = None
        state = self._store.state(self._pair.base, self._pair.candidate)
        if state.round != self._round:
            self._round, self._fresh, self._corrections, self.figures = state.round, 0, -1, {}
        was, self.rolled_back = self.rolled_back, state.rolled_back is not None
        if was != self.rolled_back:
            _log.error(
                "The canary was %s.", "rolled back by another process" if self.rolled_back else "resumed"
            )
        if self._rule is None:
            return
        corrections = self._store.last_correction()
        due = self._fresh >= CHECK_EVERY and time.monotonic() >= self._next_check
        if due or corrections != self._corrections or (self._fresh and not self.figures):
            self._corrections = corrections
            self._check(self._rule)

    def _check(self, rule: RollbackRule) -> None:
        self._fresh = 0
        begin = time.monotonic()
        self.figures = current_figures(self._store, self._round, self._known)
        self._next_check = time.monotonic() + (time.monotonic() - begin) / CHECK_SHARE
        if self.rolled_back:
            return
        decision = rule.decide(self.figures[CANDIDATE], self.figures[BASE])
        if decision.holds is not True:
            return
        self.rolled_back = True
        candidate = self.figures[CANDIDATE]
        self._pending = {
            "rule": rule.rule.text,
            "because": decision.because,
            "answers": candidate["n"],
            "corrected": candidate["n_corrected"],
        }
        _log.error(
            "Rolled back to the base: %s over %s answers. All requests go to the base until "
            "`ocrsmith canary resume %s`.",
            decision.because,
            f"{candidate['n']:,.0f}",
            self._store.place,
        )
        self._store.roll_back(self._round, self._pair.base, self._pair.candidate, self._pending)
        self._pending = None

    def _drop_records(self, count: int) -> None:
        with self._lock:
            self.total.records_dropped += count
            self._untold.records_dropped += count
        self._complain(f"{self.total.records_dropped:,} answers are not recorded so far", kind="dropped")

    def _complain(self, what: str, *, kind: str = "store") -> None:
        with self._lock:
            if time.monotonic() < self._next_complaint.get(kind, 0.0):
                return
            self._next_complaint[kind] = time.monotonic() + TELL_SECONDS
        _log.warning("The canary's store %s is in trouble: %s", self._store.place, what)


def current_figures(store: Store, round_number: int, known: Known | None = None) -> dict[Arm, dict[str, float]]:
    """The figures of both arms in a round, over the latest answers.

    Args:
        known: scores that were computed before; is added to.
    """
    scores = score_corrected(store.corrected_answers(round_number), store.corrections(), known)
    return {arm: arm_figures(store.answers(round_number, arm, latest=WINDOW), scores[arm]) for arm in ARMS}


def _compared(record: Record) -> Iterable[Answer]:
    """The answers of a record, with the distance between the two texts of a shadow."""
    if record.texts is None:
        return record.answers
    base, candidate = (text.strip() for text in record.texts)
    distance = cer(base, candidate)
    return [replace(answer, difference=distance) if answer.shadow else answer for answer in record.answers]
