"""Splits a dataset into train, val and test, document by document.

Which documents (groups) go where depends on the seed and their names only, not on the order of the sources.
Counts are as near to those asked for as whole groups allow.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ocrsmith.errors import SettingsError
from ocrsmith.records import SPLITS, SplitName

_MEND = (
    "Give three shares for train, val and test such as 80/10/10 (or 0.8/0.1/0.1), or three counts such as "
    "rest/500/500."
)


@dataclass(frozen=True, slots=True)
class SplitPlan:
    """What was asked for with --splits."""

    shares: tuple[float, float, float] | None
    """Shares of train, val and test that add up to 1; None if counts were given."""
    counts: tuple[int | None, int, int] | None
    """Numbers of samples; None for train means the rest."""

    @classmethod
    def parse(cls, text: str) -> SplitPlan:
        """Reads `80/10/10`, `0.8/0.1/0.1` (shares), `rest/500/500` or `4000/500/500` (counts).

        Raises:
            SettingsError: anything else.
        """
        parts = [part.strip() for part in re.split(r"[/,:]", text)]
        if len(parts) != 3:
            raise SettingsError(f"{text!r} has {len(parts)} parts, not 3.", place="--splits", mend=_MEND)
        rest = parts[0].lower() == "rest"
        try:
            values = [float(part) for part in (parts[1:] if rest else parts)]
        except ValueError as error:
            raise SettingsError(
                f"{text!r} has a part that is no number.", place="--splits", mend=_MEND
            ) from error
        if not all(0 <= value < 1e12 for value in values):
            raise SettingsError(f"{text!r} has a negative or infinite part.", place="--splits", mend=_MEND)
        total = sum(values)
        if not rest and (abs(total - 1) < 1e-6 or abs(total - 100) < 1e-6):
            train, val, test = (value / total for value in values)
            if train <= 0:
                raise SettingsError(f"{text!r} leaves nothing to train on.", place="--splits", mend=_MEND)
            return cls((train, val, test), None)
        if any(value != int(value) for value in values):
            raise SettingsError(
                f"The shares {text!r} add up to {total:g}, not to 1 or 100.", place="--splits", mend=_MEND
            )
        counts = [int(value) for value in values]
        return cls(None, (None, counts[0], counts[1]) if rest else (counts[0], counts[1], counts[2]))

    def wants(self, split: SplitName) -> bool:
        """Whether any sample is wanted in that split."""
        values = self.shares if self.shares is not None else self.counts
        assert values is not None
        value = values[SPLITS.index(split)]
        return value is None or value > 0

    def targets(self, total: int) -> dict[SplitName, int]:
        """Wanted number of samples for each split of `total`; val and test get at least one
        of three or more (of two samples, test gets one).

        Raises:
            SettingsError: val and test together want all there is.
        """
        if self.counts is not None:
            _, val, test = self.counts
            if val + test >= total:
                raise SettingsError(
                    f"val and test want {val} + {test} samples, but there are only {total} in all.",
                    place="--splits",
                    mend="Ask for fewer, or give shares such as 80/10/10.",
                )
            return {"train": total - val - test, "val": val, "test": test}
        assert self.shares is not None
        _, val_share, test_share = self.shares
        held_out = min(total - _round(total * self.shares[0]), total - 1)
        val = int(held_out * val_share / max(val_share + test_share, 1e-12) + 1e-9)
        test = held_out - val
        if total >= 2 and test_share > 0:
            test = max(test, 1)
        if total >= 3 and val_share > 0:
            val = max(val, 1)
        return {"train": total - val - test, "val": val, "test": test}


def hash_key(seed: int, kind: str, name: str) -> int:
    """A number that puts documents in an order which depends on nothing but `seed`, `kind` and `name`."""
    digest = hashlib.blake2b(f"{seed}\0{kind}\0{name}".encode("utf-8", "surrogatepass"), digest_size=8)
    return int.from_bytes(digest.digest(), "big") >> 1


def assign_splits(
    sizes: Sequence[int] | np.ndarray, keys: Sequence[int] | np.ndarray, targets: dict[SplitName, int]
) -> np.ndarray:
    """Gives every group a split.

    Args:
        sizes: (G,) samples in each group, at least 1.
        keys: (G,) from `hash_key`: their order is the random order.
        targets: samples wanted in each split.

    Returns:
        (G,) uint8, indices into `SPLITS`. Splits that want samples get at least one group as long as there are
        enough groups: test first, then train, then val.
    """
    sizes = np.asarray(sizes, dtype=np.int64)
    result = np.zeros(len(sizes), dtype=np.uint8)
    free = np.argsort(np.asarray(keys, dtype=np.int64), kind="stable")
    wanted: list[SplitName] = [name for name in ("test", "val") if targets[name] > 0]
    wanted = wanted[: max(0, len(free) - 1)]
    for position, name in enumerate(wanted):
        needed_later = len(wanted) - position  # one group for train and for each split still to come
        chosen = _choose(sizes[free], targets[name])
        if len(chosen) > len(free) - needed_later:
            nearest = np.argmin(np.abs(sizes[free] - targets[name]))
            chosen = np.array([nearest])
        result[free[chosen]] = SPLITS.index(name)
        free = np.delete(free, chosen)
    return result


def _choose(sizes: np.ndarray, target: int) -> np.ndarray:
    """Positions of groups that together have `target` samples, or as nearly as possible, and at least one.

    Takes groups in order while much is wanted, then solves the rest exactly (subset sum over the next groups).
    """
    taken: list[int] = []
    skipped: list[int] = []
    rest = target
    exact_below = 2048
    position = 0
    while position < len(sizes) and rest > exact_below:
        size = int(sizes[position])
        if size <= rest:
            taken.append(position)
            rest -= size
        else:
            skipped.append(position)
        position += 1
    pool = skipped + list(range(position, len(sizes)))
    pool = pool[: _pool_size(sizes, pool, rest)]
    chosen = _subset_sum([int(sizes[index]) for index in pool], rest, allow_none=bool(taken))
    return np.array(taken + [pool[index] for index in chosen], dtype=np.int64)


def _pool_size(sizes: np.ndarray, pool: list[int], rest: int) -> int:
    """How many groups the exact step looks at: enough for four times the rest, at least 4096 if there are."""
    total = 0
    for count, index in enumerate(pool, start=1):
        total += int(sizes[index])
        if total >= 4 * rest and count >= 4096:
            return count
    return len(pool)


def _subset_sum(sizes: list[int], target: int, *, allow_none: bool) -> list[int]:
    """Indices of a subset whose sum is nearest to `target` (the smaller of two equally near)."""
    limit = max(2 * target, min(sizes, default=0))
    mask = (1 << (limit + 1)) - 1
    reachable = [1]  # bit s: the sum s can be made from the groups so far
    for size in sizes:
        reachable.append((reachable[-1] | reachable[-1] << size) & mask)
    sums = reachable[-1]
    best = next(
        (
            total
            for gap in range(limit + 1)
            for total in (target - gap, target + gap)
            if (total > 0 or (total == 0 and allow_none)) and sums >> total & 1
        ),
        0,
    )
    chosen = []
    for index in range(len(sizes) - 1, -1, -1):
        if not reachable[index] >> best & 1:
            chosen.append(index)
            best -= sizes[index]
    return chosen[::-1]


def _round(value: float) -> int:
    return int(value + 0.5 + 1e-9)
