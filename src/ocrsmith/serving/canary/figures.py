"""The figures of one arm: shares of what went wrong, time, tokens, and errors on corrected pages. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from ocrsmith.evaluation.metrics.cer import PageScore, score_page
from ocrsmith.evaluation.statistics import Floats
from ocrsmith.serving.canary.choice import Arm, PageKey
from ocrsmith.serving.canary.records import Answer, Correction

FEWEST_CORRECTED = 10
"""Corrected pages below which figures on them have no value: of fewer, the P90 is nearly the worst page."""
WINDOW = 10_000
"""Answers of an arm that are looked at, the latest: enough for every share, and what long ago went wrong or
well hides nothing."""

SHARES = ("loops", "truncated", "failed", "empty")
"""Shares of answers: fell into a loop, cut off by the token limit, no answer, answered with no text."""
RATES = ("mean", "micro", "median", "std", "min", "max", "p90", "p95", "p99")
NAMES = (
    *("n", *SHARES, "seconds.mean", "seconds.p50", "seconds.p90", "seconds.p99", "tokens.mean"),
    *("confidence.mean", "n_corrected", *(f"cer.{name}" for name in RATES)),
)
"""All figures, as rules say them."""

Scores = Mapping[PageKey, PageScore]
Known = dict[tuple[int, int], PageScore]
"""Scores by the numbers of answer and correction, so that none is computed twice."""


def arm_figures(answers: Sequence[Answer], scores: Scores) -> dict[str, float]:
    """The figures of one arm; NaN where there is nothing to make one from.

    Args:
        answers: the arm's, shadows included; those that say nothing about the model are passed over.
        scores: of its corrected pages.
    """
    counted = [answer for answer in answers if answer.counts]
    complete = [answer for answer in counted if answer.complete]
    seconds = [answer.seconds for answer in complete]
    confidences = [answer.confidence for answer in complete]
    figures = {"n": float(len(counted))}
    figures |= {name: _mean(flags(counted, name)) for name in SHARES}
    figures["seconds.mean"] = _mean(seconds)
    figures |= {f"seconds.p{rank}": _percentile(seconds, rank) for rank in (50, 90, 99)}
    figures["tokens.mean"] = _mean([answer.tokens for answer in complete])
    figures["confidence.mean"] = _mean([value for value in confidences if value is not None])
    return figures | {"n_corrected": float(len(scores))} | _rates(list(scores.values()))


def flags(answers: Iterable[Answer], share: str) -> list[bool]:
    """Of each answer, whether it is one of a share of `SHARES`."""
    ends = {"loops": "loop", "truncated": "length", "failed": "error"}
    if share in ends:
        return [answer.finish == ends[share] for answer in answers]
    return [answer.complete and answer.length == 0 for answer in answers]


def score_corrected(
    answers: Iterable[Answer],
    corrections: Mapping[PageKey, Correction],
    known: Known | None = None,
) -> dict[Arm, dict[PageKey, PageScore]]:
    """The score of each arm on each corrected page that it read. White space around texts does not count.

    Args:
        answers: with texts; of each arm and page one.
        known: what was computed before; is added to.
    """
    known = {} if known is None else known
    found: dict[Arm, dict[PageKey, PageScore]] = {"base": {}, "candidate": {}}
    for answer in answers:
        correction = corrections.get(answer.key)
        if correction is None or answer.text is None or not answer.counts:
            continue
        place = (answer.number, correction.number)
        if place not in known:
            failed = not answer.complete
            known[place] = score_page(correction.text.strip(), answer.text.strip(), failed=failed)
        found[answer.arm][answer.key] = known[place]
    return found


def _rates(scores: Sequence[PageScore]) -> dict[str, float]:
    if len(scores) < FEWEST_CORRECTED:
        return {f"cer.{name}": math.nan for name in RATES}
    rates = np.array([score.cer for score in scores], dtype=np.float64)
    length = sum(score.length for score in scores)
    edits = sum(score.edits for score in scores)
    p90, p95, p99 = np.percentile(rates, (90, 95, 99), method="linear").tolist()
    values = {
        "mean": rates.mean(),
        "micro": edits / length if length else float(edits > 0),
        "median": np.median(rates),
        "std": rates.std(),
        "min": rates.min(),
        "max": rates.max(),
        "p90": p90,
        "p95": p95,
        "p99": p99,
    }
    return {f"cer.{name}": float(value) for name, value in values.items()}


def _mean(values: Sequence[float] | Sequence[bool]) -> float:
    return float(np.mean(values)) if values else math.nan


def _percentile(values: Sequence[float], rank: int) -> float:
    array: Floats = np.asarray(values, dtype=np.float64)
    return float(np.percentile(array, rank, method="linear")) if values else math.nan
