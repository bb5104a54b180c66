"""Is a difference more than chance? Sign flips of whole documents, and Holm's correction for several questions.

If it made no difference whether A or B read a document, the difference between the two readings might as well
have had the other sign. So the signs are flipped, document by document, and it is counted how often the sum of
all differences then is at least as far from zero as it is. Pages of one document are flipped together, because
they are alike (same font, same scanner).

Sources: R. A. Fisher, The Design of Experiments (1935), §21; S. Holm, A simple sequentially rejective multiple
test procedure (1979); B. Phipson and G. K. Smyth, Permutation p-values should never be zero (2010).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ocrsmith.evaluation.statistics import SEED, Floats

EXACT_DOCUMENTS = 14
"""With up to so many documents that differ, all 2^14 patterns of signs are looked at."""
FLIPS = 9_999
"""Patterns drawn at random where there are more."""
_ROUNDING = 1e-9
"""Sums that differ by less, relative to all differences together, are equal."""


@dataclass(frozen=True, slots=True)
class SignFlips:
    """The outcome of a sign-flip test.

    Attributes:
        p_value: two-sided; how often chance alone makes a difference at least as large.
        flips: patterns of signs looked at.
        exact: whether these are all that there are.
    """

    p_value: float
    flips: int
    exact: bool


def sign_flip_test(
    differences: Sequence[float], groups: Sequence[str], *, flips: int = FLIPS, seed: int = SEED
) -> SignFlips:
    """Tests whether the mean of paired differences is zero, by flipping the signs of whole documents.

    Documents whose differences add up to zero change nothing and are left out; with at most `EXACT_DOCUMENTS`
    others the p-value is exact, else it is (k + 1) / (flips + 1) of seeded draws.

    Args:
        differences: (n,) one for each page.
        groups: (n,) the document of each page; an empty name is a document of its own.
        flips, seed: of the draws.

    Raises:
        ValueError: the sequences differ in length.
    """
    sums = _document_sums(differences, groups)
    slack = _ROUNDING * float(np.abs(sums).sum())
    sums = sums[np.abs(sums) > slack]
    reached = abs(float(sums.sum())) - slack
    if len(sums) <= EXACT_DOCUMENTS:
        totals = _all_totals(sums)
        return SignFlips(float((np.abs(totals) >= reached).mean()), len(totals), True)
    return SignFlips((_count_drawn(sums, reached, flips, seed) + 1) / (flips + 1), flips, False)


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """Corrects p-values for being several, in their order: the chance of even one false alarm stays bounded.

    The smallest of m is multiplied by m, the next by m - 1, and so on; none falls below the one before it.
    """
    corrected = [0.0] * len(p_values)
    lowest = 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=lambda place: p_values[place])):
        lowest = max(lowest, min(1.0, (len(p_values) - rank) * p_values[place]))
        corrected[place] = lowest
    return tuple(corrected)


def _document_sums(differences: Sequence[float], groups: Sequence[str]) -> Floats:
    """(documents,) the sum of each document's differences."""
    sums: dict[str | int, float] = {}
    for place, (difference, name) in enumerate(zip(differences, groups, strict=True)):
        document = name or place
        sums[document] = sums.get(document, 0.0) + float(difference)
    return np.array(list(sums.values()), dtype=np.float64)


def _all_totals(sums: Floats) -> Floats:
    """(2^documents,) the sum under every pattern of signs."""
    totals: Floats = np.zeros(1)
    for value in sums:
        totals = np.concatenate((totals + value, totals - value))
    return totals


def _count_drawn(sums: Floats, reached: float, flips: int, seed: int) -> int:
    """How many of `flips` random patterns give a sum at least as far from zero as `reached`.

    Documents go in blocks of eight: a random byte picks one of the 256 sums that a block can have.
    """
    blocks = np.zeros((-(-len(sums) // 8), 8))
    blocks.ravel()[: len(sums)] = sums
    signs = 1 - 2 * np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).astype(np.float64)
    totals_of_blocks = blocks @ signs.T  # (blocks, 256)
    generator = np.random.default_rng(seed)
    step = max(1, 2_000_000 // len(blocks))  # bounds memory: a table of sums of at most 16 MB
    found = 0
    for start in range(0, flips, step):
        drawn = generator.integers(0, 256, size=(min(step, flips - start), len(blocks)), dtype=np.uint8)
        totals = totals_of_blocks[np.arange(len(blocks)), drawn].sum(axis=1)
        found += int((np.abs(totals) >= reached).sum())
    return found
