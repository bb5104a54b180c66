"""Counts character n-grams of many pairs of texts at a time, exactly: what chrF is made of.

An n-gram is a whole number: that of the pair and the n-1 characters before, times the alphabet's size, plus the
last character. Before such numbers outgrow 64 bits, they are replaced by their ranks, so no two n-grams ever
share a number, and sorting finds those that both texts of a pair have.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

ORDERS = 6
BETA = 2.0

_CHUNK = 1 << 17
"""Characters counted at a time: what is sorted stays in the processor's cache."""

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def chrf_statistics(references: Sequence[str], predictions: Sequence[str]) -> Ints:
    """N-grams of each pair: (pairs, 6, 3), for each order those read, those of the reference, those in common.

    White space does not count. Raises ValueError where there are not as many of one as of the other.
    """
    if len(references) != len(predictions):
        raise ValueError(f"{len(references)} references, but {len(predictions)} predictions")
    true = ["".join(text.split()) for text in references]
    read = ["".join(text.split()) for text in predictions]
    counts = np.zeros((len(true), ORDERS, 3), np.int64)
    counts[:, :, 0] = _totals(read)
    counts[:, :, 1] = _totals(true)
    same = np.fromiter(map(str.__eq__, true, read), bool, len(true))
    counts[same, :, 2] = counts[same, :, 1]
    for chunk in _chunks(true, read, np.flatnonzero(~same).tolist()):
        counts[chunk, :, 2] = _common([true[i] for i in chunk], [read[i] for i in chunk])
    return counts


def chrf_values(counts: Ints) -> Floats:
    """chrF2 of each row of `chrf_statistics`, 0 to 1; 1 where neither side has a character."""
    read, true, common = (counts[:, :, place].astype(np.float64) for place in range(3))
    both = (read > 0) & (true > 0)
    orders = np.maximum(both.sum(axis=1), 1)
    precision = np.where(both, common / np.maximum(read, 1), 0).sum(axis=1) / orders
    recall = np.where(both, common / np.maximum(true, 1), 0).sum(axis=1) / orders
    below = BETA**2 * precision + recall
    values = (1 + BETA**2) * precision * recall / np.where(below > 0, below, 1)
    return np.where((counts[:, :, :2].sum(axis=(1, 2)) == 0), 1.0, values)


def _totals(texts: list[str]) -> Ints:
    lengths = np.fromiter(map(len, texts), np.int64, len(texts))
    return np.maximum(lengths[:, None] - np.arange(ORDERS), 0)


def _chunks(true: list[str], read: list[str], rows: list[int]) -> Iterator[list[int]]:
    chunk: list[int] = []
    size = 0
    for row in rows:
        chunk.append(row)
        size += len(true[row]) + len(read[row])
        if size >= _CHUNK:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _common(true: list[str], read: list[str]) -> Ints:
    """N-grams that both texts have, as often as both have them: (pairs, 6)."""
    pairs = len(true)
    texts = true + read
    lengths = np.fromiter(map(len, texts), np.int64, len(texts))
    codes = np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), np.uint32)
    seen, characters = np.unique(codes, return_inverse=True)
    characters = characters.reshape(-1).astype(np.int64)
    alphabet = len(seen) + 1
    owner = np.repeat(np.concatenate([np.arange(pairs)] * 2), lengths)  # the pair of each place
    left = np.repeat(np.cumsum(lengths), lengths) - np.arange(len(codes))  # characters from each place on
    middle = int(lengths[:pairs].sum())
    found = np.zeros((pairs, ORDERS), np.int64)
    places = np.arange(len(codes))
    keys, limit = owner, pairs
    for order in range(1, ORDERS + 1):
        kept = left[places] >= order
        places, keys = places[kept], keys[kept]
        if limit > 2**62 // alphabet:
            distinct, keys = np.unique(keys, return_inverse=True)
            keys, limit = keys.reshape(-1).astype(np.int64), len(distinct)
        keys = keys * alphabet + characters[places + order - 1]
        limit *= alphabet
        found[:, order - 1] = _in_both(keys, owner[places], int(np.searchsorted(places, middle)), pairs)
    return found


def _in_both(keys: Ints, owner: Ints, half: int, pairs: int) -> Ints:
    """For each pair, how many keys stand on both sides of `half`, as often as they do."""
    first, first_counts, _ = _runs(keys[:half])
    second, second_counts, starts = _runs(keys[half:])
    if not len(first) or not len(second):
        return np.zeros(pairs, np.int64)
    place = np.minimum(np.searchsorted(first, second), len(first) - 1)
    common = np.where(first[place] == second, np.minimum(first_counts[place], second_counts), 0)
    # Keys sort by pair before all else, and so does `owner`: sorted keys and owners stand side by side.
    return np.bincount(owner[half:][starts], weights=common, minlength=pairs).astype(np.int64)


def _runs(keys: Ints) -> tuple[Ints, Ints, Ints]:
    """Different keys in ascending order, how often each is there, and its first place among the sorted."""
    ordered = np.sort(keys)
    starts = np.flatnonzero(np.concatenate([np.ones(1, bool), ordered[1:] != ordered[:-1]])[: len(ordered)])
    return ordered[starts], np.diff(np.append(starts, len(ordered))), starts
