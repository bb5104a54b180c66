"""When a page that repeats itself is ended, and when one that reached its limit is said to have looped."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ocrsmith.engines.decoding import is_looping

LOOP_CHECK_EVERY = 16
LOOP_TOKENS = 384
LOOP_REPEATS = 8
"""A page is ended early only after so much repetition: real pages have dot leaders and columns of equal cells.
These values leave tables of thousands of cells alone, and end a loop long before the token limit."""

LOOP_TAIL = 4 * LOOP_TOKENS
"""Latest tokens that are looked at."""
_TOLERANCE = 0.1
_SAMPLE = 3 * LOOP_TOKENS // 4


def ended_in_loop(tokens: Sequence[int]) -> bool:
    """Whether a page that reached the token limit did so by repeating itself, or had more to say.

    Under a low limit (text lines) less repetition is to be had, so less is asked for.
    """
    if len(tokens) >= 2 * LOOP_TOKENS:
        return is_endless(tokens)
    return is_looping(tokens, min_length=max(24, len(tokens) // 2), min_repeats=4)


def is_endless(tokens: Sequence[int]) -> bool:
    """Whether decoding should end here."""
    if not _may_be_looping(np.asarray(tokens[-LOOP_TAIL:], np.int64)):
        return False
    return is_looping(
        tokens, min_length=LOOP_TOKENS, min_repeats=LOOP_REPEATS, tolerance=_TOLERANCE, max_tail=LOOP_TAIL
    )


def _may_be_looping(values: np.ndarray) -> bool:
    """False where `is_looping` would say no: the last tokens alone hold more strays than it allows in all.

    Every unit that it tries is compared over more than `_SAMPLE` tokens; these are looked at here for all units
    at once, which takes a tenth of the time.
    """
    if len(values) < LOOP_TOKENS:
        return False
    units = np.arange(1, len(values) // LOOP_REPEATS + 1)
    ending = values[-_SAMPLE - len(units) :]
    shifted = np.lib.stride_tricks.sliding_window_view(ending, _SAMPLE)  # row -1-p: p tokens before the last
    strays = (shifted[:-1] != shifted[-1]).sum(axis=1)[::-1]
    compared = np.maximum(LOOP_TOKENS, LOOP_REPEATS * units) - units
    return bool((strays <= _TOLERANCE * compared).any())
