"""Splits a dataset into train, val and test, document by document.

**Shares** (80/10/10): the place of a document is its hash (of seed and name, a number from 0 to 1) against
fixed thresholds: the lowest tenth is test, the next val, the rest train. So a document stays where it is
whatever is added, and shares hold on average in every part of the dataset (language, source, length). A wanted
split that would be empty takes the document nearest to it. Of fewer than `FEW` documents, a val or test split
with less than half its samples takes the next documents by hash, up to its share; larger datasets leave it at a
note, for to fill up is to move documents from train to test as a dataset grows.

A document moves from train to val or test only

- while there are fewer than `FEW` documents, and one of these splits comes to have less than half its share;
- if all documents there were had fallen into val and test;
- when a new sample shows two documents, one without a name, to be copies of each other, or when a copy is put
  before the first of several samples without a document;
- when so many samples have come that their documents can be inferred from file names (`groups`);

and not even then with an earlier dataset to keep to (`KeptSplits`). From test and val to train a document moves
when such a filled split fills by itself, and when a copy of one of its samples turns up in a document of train.

**Counts** (rest/500/500) are met as nearly as whole documents allow, in the order of the hashes. When documents
are added, those near the borders may move.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.parquet as pq

from ocrsmith.errors import SettingsError
from ocrsmith.records import SPLITS, SplitName

if TYPE_CHECKING:
    from ocrsmith.datasets.reader import Dataset

FEW = 100
"""Documents below which a split of less than half its share is filled up."""

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


@dataclass(frozen=True)
class Assignment:
    """Which group went where."""

    of_group: np.ndarray
    """(G,) uint8 positions in `SPLITS`."""
    notes: tuple[str, ...]
    """What a user should know, a sentence each."""


class KeptSplits:
    """Where an earlier dataset had its documents and samples; 9 bytes for each."""

    def __init__(self, keys: np.ndarray, splits: np.ndarray) -> None:
        """`keys` (K,) int64 from `hash_key`, `splits` (K,) positions in `SPLITS`; for equal keys, the least."""
        order = np.lexsort((splits, keys))
        self._keys, first = np.unique(keys[order], return_index=True)
        self._splits = splits[order][first].astype(np.int8)

    @classmethod
    def of(cls, dataset: Dataset, seed: int) -> KeptSplits:
        """Of a dataset on disk, whose images are not read; `seed` is that of the new one."""
        keys: list[np.ndarray] = []
        splits: list[np.ndarray] = []
        for position, split in enumerate(SPLITS):
            for names in _names(dataset, split):
                found = {hash_key(seed, kind, name) for kind, name in names}
                keys.append(np.fromiter(found, dtype=np.int64))
                splits.append(np.full(len(found), position, dtype=np.int8))
        return cls(np.concatenate(keys), np.concatenate(splits)) if keys else cls(_NO_KEYS, _NO_KEYS)

    def find(self, keys: np.ndarray) -> np.ndarray:
        """(N,) int8 positions in `SPLITS` of (N,) keys, -1 for unknown ones."""
        if not len(self._keys):
            return np.full(len(keys), -1, dtype=np.int8)
        places = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        return np.where(self._keys[places] == keys, self._splits[places], np.int8(-1))


_NO_KEYS = np.zeros(0, dtype=np.int64)


def _names(dataset: Dataset, split: SplitName) -> Iterator[Iterator[tuple[str, str]]]:
    """For each row group: (kind, name) of its documents, and of its samples that have none."""
    for path in dataset.files.get(split, ()):
        with pq.ParquetFile(path) as file:
            columns = [name for name in ("id", "group") if name in file.schema_arrow.names]
            for batch in file.iter_batches(columns=columns):
                groups = batch.column("group").to_pylist() if "group" in columns else [None] * batch.num_rows
                ids = batch.column("id").to_pylist() if "id" in columns else [None] * batch.num_rows
                yield (
                    ("group", group) if group else ("sample", sample or "")
                    for group, sample in zip(groups, ids, strict=True)
                )


def assign(
    keys: np.ndarray, sizes: np.ndarray, plan: SplitPlan, kept: tuple[np.ndarray, int] | None = None
) -> Assignment:
    """Gives every group a split; see the top of this file.

    Args:
        keys: (G,) int64 from `hash_key`.
        sizes: (G,) samples in each group, at least 1.
        kept: from `Groups.kept`: (G,) splits of an earlier dataset, -1 where a group is free; and how many
            groups that dataset had on several sides.

    Raises:
        SettingsError: counts that want all there is.
    """
    fixed, torn = kept if kept is not None else (np.full(len(keys), -1, dtype=np.int8), 0)
    free = np.flatnonzero(fixed < 0)
    result = np.where(fixed < 0, 0, fixed).astype(np.uint8)
    if plan.shares is not None:
        result[free] = _by_threshold(keys[free], plan)
        _fill_short(result, keys, sizes, free, plan)
    else:
        targets = plan.targets(int(sizes.sum()))
        held = {name: int(sizes[fixed == index].sum()) for index, name in enumerate(SPLITS)}
        left = {name: max(0, targets[name] - held[name]) for name in SPLITS}
        result[free] = assign_splits(sizes[free], keys[free], left)
    return Assignment(result, tuple(_notes(result, sizes, plan, len(keys) - len(free), torn)))


def _by_threshold(keys: np.ndarray, plan: SplitPlan) -> np.ndarray:
    assert plan.shares is not None
    _, val, test = plan.shares
    place = keys.astype(np.float64) / 2.0**63
    return np.where(place < test, 2, np.where(place < test + val, 1, 0)).astype(np.uint8)


def _fill_short(
    result: np.ndarray, keys: np.ndarray, sizes: np.ndarray, free: np.ndarray, plan: SplitPlan
) -> None:
    """Gives groups to wanted splits that have none, or too few of few, in the order of their hashes.

    Every wanted split gets a group as long as there are enough: test first, then train, then val.
    """
    assert plan.shares is not None
    order = free[np.argsort(keys[free], kind="stable")]
    wanted: list[SplitName] = [name for name in ("test", "train", "val") if plan.wants(name)]
    wanted = wanted[: len(result)]
    if "train" not in wanted:  # of a single group
        result[order] = 0
        return
    for name in wanted:
        index = SPLITS.index(name)
        want = plan.shares[index] * float(sizes.sum())
        if not (result == index).any():
            _take_nearest(result, _spare(result, order, wanted, index), index)
        if name != "train" and len(result) < FEW and 2 * sizes[result == index].sum() < want:
            _take_next(result, sizes, order, wanted, index, want)


def _spare(result: np.ndarray, order: np.ndarray, wanted: Sequence[SplitName], index: int) -> np.ndarray:
    """Groups in the order of hashes that another split can do without: a wanted one keeps its last."""
    counts = np.bincount(result, minlength=len(SPLITS))
    can_give = [
        split != index and (counts[split] > 1 or name not in wanted) for split, name in enumerate(SPLITS)
    ]
    return order[np.array(can_give)[result[order]]]


def _take_nearest(result: np.ndarray, spare: np.ndarray, index: int) -> None:
    if not len(spare):
        return
    if SPLITS[index] == "val":  # it lies between: the first of train, else the last of test
        after = spare[result[spare] == 0]
        result[after[0] if len(after) else spare[-1]] = index
    else:
        result[spare[0] if SPLITS[index] == "test" else spare[-1]] = index


def _take_next(
    result: np.ndarray,
    sizes: np.ndarray,
    order: np.ndarray,
    wanted: Sequence[SplitName],
    index: int,
    want: float,
) -> None:
    """Each next group of train that brings the split nearer to the number of samples wanted."""
    have = float(sizes[result == index].sum())
    for group in order[result[order] == 0]:
        nearer = abs(have + sizes[group] - want) < abs(have - want)
        if nearer and group in _spare(result, order, wanted, index):
            result[group] = index
            have += float(sizes[group])


def _notes(result: np.ndarray, sizes: np.ndarray, plan: SplitPlan, kept: int, torn: int) -> Iterator[str]:
    counts = {name: int(sizes[result == index].sum()) for index, name in enumerate(SPLITS)}
    total = sum(counts.values())
    empty = [name for name in SPLITS if not counts[name] and plan.wants(name)]
    if empty:
        why = f"{total} samples" if len(sizes) == total else f"{len(sizes)} documents for {total} samples"
        yield f"{' and '.join(empty)} {'is' if len(empty) == 1 else 'are'} empty: there are only {why}."
    elif plan.shares is not None:
        yield from _notes_on_shares(result, counts, plan.shares)
    elif plan.counts is not None:
        targets = plan.targets(total)
        if any(counts[name] != targets[name] for name in SPLITS):
            asked = "/".join(str(targets[name]) for name in SPLITS)
            yield f"The splits are not nearer to {asked} samples, since whole documents are kept together."
        if plan.counts[0] is not None and plan.counts[0] != targets["train"]:
            yield f"train takes the rest, {targets['train']} samples, not {plan.counts[0]}."
    if kept:
        yield f"{kept} documents kept the split of the earlier dataset."
    if torn:
        yield (
            f"{torn} documents were on several sides of the earlier dataset, or are joined by copies that "
            "were; they went to the first of train, val and test that they were in."
        )


def _notes_on_shares(
    result: np.ndarray, counts: dict[SplitName, int], shares: tuple[float, float, float]
) -> Iterator[str]:
    """Tells of held-out splits that are much smaller or larger than asked for."""
    total = sum(counts.values())
    for index, name in ((1, "val"), (2, "test")):
        have, want = counts[SPLITS[index]], shares[index] * total
        if want and not want / 1.5 <= have <= want * 1.5 and abs(have - want) >= 1:
            documents = int((result == index).sum())
            counted = "/".join(str(round(share * total)) for share in shares[1:])
            yield (
                f"{name} has {have} samples of {documents} {'document' if documents == 1 else 'documents'}, "
                f"{want:.0f} were wanted: shares hold on average over many documents. For exact sizes give "
                f"counts, e.g. --splits rest/{counted}."
            )


def assign_splits(
    sizes: Sequence[int] | np.ndarray, keys: Sequence[int] | np.ndarray, targets: dict[SplitName, int]
) -> np.ndarray:
    """Gives every group a split, with as nearly the wanted numbers of samples as whole groups allow.

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
