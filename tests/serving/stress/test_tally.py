"""A run of hours fits into memory, and only the time of full load counts for drift."""

from __future__ import annotations

import math

import numpy as np

from ocrsmith.serving.stress.client import Outcome
from ocrsmith.serving.stress.tally import MAX_ANSWERS, MAX_SAMPLES, Tally


def answered(seconds: float = 1.0, digest: bytes = b"") -> Outcome:
    return Outcome(seconds, tokens=2, finish="stop", digest=digest)


def test_samples_of_memory_are_thinned_evenly() -> None:
    tally = Tally(["a"])
    for number in range(5 * MAX_SAMPLES):
        tally.done = number
        tally.remember(10 * number)
    samples = tally.samples()
    assert MAX_SAMPLES / 2 <= len(samples) <= MAX_SAMPLES
    assert tally.sample_every > 0.25
    assert samples[0].tolist() == [0, 0]
    assert (samples[:, 1] == 10 * samples[:, 0]).all()
    assert (np.diff(samples[:, 0]) > 0).all()


def test_different_answers_are_told_apart_up_to_a_number() -> None:
    tally = Tally(["a", "b"])
    for number in range(200):
        tally.add(number, answered(digest=bytes([number // 2])))
    assert [len(seen) for seen in tally.answers] == [MAX_ANSWERS] * 2


def test_the_warm_up_is_counted_apart() -> None:
    tally = Tally(["a"])
    tally.add(-2, answered())
    tally.add(-1, Outcome(1.0, "time-out", "late"))
    assert (tally.done, tally.warm_up, dict(tally.warm_up_errors)) == (0, 2, {"time-out": 1})
    assert (tally.elapsed, len(tally.latencies()[0]), tally.messages) == (0.0, 0, {"time-out": "late"})


def test_what_ends_after_the_last_page_was_sent_is_not_full_load() -> None:
    """Sent 0, 1, 2, 3; 1 ends before 0, and 2 and 3 after the last was sent."""
    tally = Tally(["a", "b"])
    for number in (0, 1, 2):
        tally.send(number)
    tally.add(1, answered(0.1))
    tally.add(0, answered(0.2))
    tally.send(3)
    tally.add(3, answered(0.3))
    tally.add(2, Outcome(9.0, "time-out"))
    seconds, pages = tally.steady()
    assert (seconds.tolist(), pages.tolist()) == ([0.2, 0.1], [0, 1])
    seconds, first_text = tally.latencies()
    assert seconds.tolist() == [0.1, 0.2, 0.3]
    assert all(map(math.isnan, first_text))
