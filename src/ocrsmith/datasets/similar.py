"""Finds copies and near copies among any number of samples, from their `Traits` alone.

Two samples belong together, and must not be trained on and tested on, if they have

    bytes    the same encoded image
    pixels   the same picture, saved otherwise
    near     pictures that look alike, and the same or nearly the same text: recompressed, scaled, turned …
    text     the same long text under another picture: a page that was scanned or photographed again. A model
             that has learnt such a text by heart seems to read it, so it may not test what it was trained on.
             Short texts (headings, dates) recur by chance and prove nothing.

A picture alone is no evidence short of equality: all forms of one kind, and all lines over one background, look
alike. Nor is a text alone, unless it is long.

The work is sorting, never comparing all with all: samples are brought next to each other by parts of their
hashes, and each is compared with a bounded number of neighbours. So 100,000 equal pages cost no more than
others; in such a crowd a near copy may be missed, an exact one never.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ocrsmith.datasets.traits import PLAIN, Traits
from ocrsmith.text.language import UNKNOWN

Kind = Literal["bytes", "pixels", "near", "text"]
KINDS: tuple[Kind, ...] = ("bytes", "pixels", "near", "text")
"""From the strongest evidence to the weakest."""

# Measured on lines and pages of five sets (docs/dataset-format.md has the table): of 64 bits, 95 of 100 copies
# that were recompressed, halved, turned by 0.5°, brightened by a fifth, cropped a little or are noisy differ by
# at most 15; 99 of 100 pairs of different lines by 19 or more, of different strings over one texture by 10.
NEAR_IMAGE = 14
"""Most bits by which two pictures with the same text look alike."""
NEAR_IMAGE_SHORT = 6
"""The same for texts shorter than `SHORT`: the word "Total", typed twice, looks much alike and is no copy."""
SHORT = 10
NEAR_IMAGE_OTHER_TEXT = 8
"""The same for texts that are only nearly the same."""
NEAR_TEXT = 10
"""Most bits by which two texts are nearly the same; one wrong letter in a line of 30 makes about 9."""
LONG = 60
"""Characters from which a text that comes again is no coincidence."""
CROWD = 4
"""A picture that goes with more texts than this, each near another, is the form they are written in."""
REPEATED = 10
"""What stands in more documents than this is a part that all of them have (a letterhead, a formula). To join
them by it would make one document of the whole dataset."""

_WINDOW = 48
_NARROW = 8
_BAND_BITS = 8
_BANDS = 64 // _BAND_BITS


class TraitTable:
    """The traits of many samples as columns of numbers, about 46 bytes a sample."""

    def __init__(self) -> None:
        self._columns = {name: array("Q") for name in ("image", "pixels", "visual", "text", "text_hash")}
        self._lengths, self._languages = array("I"), array("H")
        self._codes: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._lengths)

    def add(self, traits: Traits) -> None:
        """Appends a sample. Of digests, 8 bytes are kept: among a million, two are equal by chance once in
        37 million datasets."""
        columns = self._columns
        columns["image"].append(int.from_bytes(traits.image_digest[:8], "little"))
        columns["pixels"].append(int.from_bytes(traits.pixel_digest[:8], "little"))
        columns["visual"].append(traits.visual_hash)
        columns["text"].append(int.from_bytes(traits.text_digest[:8], "little"))
        columns["text_hash"].append(traits.text_hash)
        self._lengths.append(min(traits.length, 2**32 - 1))
        self._languages.append(self._codes.setdefault(traits.language, len(self._codes)))

    def column(self, name: str) -> np.ndarray:
        """(N,) uint64: `image`, `pixels` and `text` digests, `visual` and `text_hash`."""
        return np.frombuffer(self._columns[name], dtype=np.uint64) if len(self) else np.zeros(0, np.uint64)

    @property
    def lengths(self) -> np.ndarray:
        """(N,) characters."""
        return np.array(self._lengths, dtype=np.int64)

    @property
    def languages(self) -> np.ndarray:
        """(N,) positions in `language_names`."""
        return np.array(self._languages, dtype=np.int64)

    @property
    def language_names(self) -> list[str]:
        """Every language that came, in the order of its first sample."""
        return list(self._codes)


@dataclass(frozen=True)
class Pairs:
    """Samples that belong together. Of many equal ones, each is paired with the first."""

    first: np.ndarray
    """(P,) int64 numbers of samples."""
    second: np.ndarray
    """(P,) int64"""
    kind: np.ndarray
    """(P,) uint8 positions in `KINDS`."""

    def __len__(self) -> int:
        return len(self.kind)

    def __iter__(self) -> Iterator[tuple[int, int, Kind]]:
        for first, second, kind in zip(self.first, self.second, self.kind, strict=True):
            yield int(first), int(second), KINDS[int(kind)]

    def where(self, chosen: np.ndarray) -> Pairs:
        """Those that a (P,) mask or list of positions chooses."""
        return Pairs(self.first[chosen], self.second[chosen], self.kind[chosen])


def find_similar(table: TraitTable) -> Pairs:
    """All samples that belong together; see the top of this file for what that means and what may be missed."""
    parts = [_same_picture(table)]
    heads = np.ones(len(table), dtype=bool)
    heads[_with_first(table.column("text"), table.column("visual"))[1]] = False  # the others are its copies
    heads = np.flatnonzero(heads)
    near = np.concatenate([_near_with_same_text(table, heads), _near_with_near_text(table, heads)])
    parts.append(_pairs(near[:, 0], near[:, 1], "near"))
    parts.append(_same_long_text(table))
    joined = Pairs(
        *(np.concatenate([getattr(part, name) for part in parts]) for name in ("first", "second", "kind"))
    )
    return _strongest(joined)


def components(count: int, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(count,) the least member of the set that each belongs to, when all pairs are joined."""
    roots = np.arange(count, dtype=np.int64)
    while True:
        left, right = roots[first], roots[second]
        apart = left != right
        if not apart.any():
            return roots
        low, high = np.minimum(left, right)[apart], np.maximum(left, right)[apart]
        np.minimum.at(roots, high, low)
        while not np.array_equal(roots, above := roots[roots]):
            roots = above


def without_repeated(pairs: Pairs, documents: np.ndarray) -> tuple[Pairs, np.ndarray]:
    """Leaves out pairs by which more than `REPEATED` documents hang together.

    Args:
        documents: (N,) the document of each sample; those of a single sample do not count.

    Returns:
        The other pairs, and the (R,) numbers of the samples that are such a part.
    """
    cluster = components(len(documents), pairs.first, pairs.second)
    members = np.unique(np.concatenate([pairs.first, pairs.second]))
    several = np.bincount(documents)[documents[members]] > 1 if len(members) else np.zeros(0, dtype=bool)
    parts = np.unique(np.stack([cluster[members], documents[members]], axis=1)[several], axis=0)[:, 0]
    heads, counts = np.unique(parts, return_counts=True)
    repeated = np.isin(cluster, heads[counts > REPEATED])
    return pairs.where(~repeated[pairs.first]), np.flatnonzero(repeated)


def bits_apart(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Number of bits in which uint64 values differ (numpy counts bits itself only from version 2 on)."""
    value = left ^ right
    value = value - ((value >> np.uint64(1)) & np.uint64(0x5555555555555555))
    value = (value & np.uint64(0x3333333333333333)) + ((value >> np.uint64(2)) & np.uint64(0x3333333333333333))
    value = (value + (value >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return ((value * np.uint64(0x0101010101010101)) >> np.uint64(56)).astype(np.int64)


def _same_picture(table: TraitTable) -> Pairs:
    """Each sample whose pixels came before, with the first that has them."""
    first, second = _with_first(table.column("pixels"))
    image = table.column("image")
    kind = np.where(image[first] == image[second], KINDS.index("bytes"), KINDS.index("pixels"))
    return Pairs(first, second, kind.astype(np.uint8))


def _same_long_text(table: TraitTable) -> Pairs:
    """Texts without any letter (`~~~~`, rows of dots) are no texts, however long."""
    names = table.language_names
    unknown = names.index(UNKNOWN) if UNKNOWN in names else -1
    usable = np.flatnonzero((table.lengths >= LONG) & (table.languages != unknown))
    first, second = _with_first(table.column("text")[usable])
    return _pairs(usable[first], usable[second], "text")


def _near_with_same_text(table: TraitTable, heads: np.ndarray) -> np.ndarray:
    """(P, 2) pairs with one text whose pictures look alike."""
    texts, visual, lengths = table.column("text"), table.column("visual"), table.lengths
    same = _with_first(texts, visual)  # one text and one visual hash: no need to compare further
    found = [np.stack(same, axis=1)[visual[same[0]] != PLAIN]]
    heads = _with_company(heads[visual[heads] != PLAIN], texts)
    for band in range(_BANDS):
        turned = _rotate(visual[heads], band * _BAND_BITS)
        order = heads[np.lexsort((turned, texts[heads]))]
        for left, right in _neighbours(order, texts[order], _WINDOW if band == 0 else _NARROW):
            limit = np.where(lengths[left] < SHORT, NEAR_IMAGE_SHORT, NEAR_IMAGE)
            alike = bits_apart(visual[left], visual[right]) <= limit
            found.append(np.stack([left[alike], right[alike]], axis=1))
    return np.concatenate(found)


def _near_with_near_text(table: TraitTable, heads: np.ndarray) -> np.ndarray:
    """(P, 2) pairs whose pictures look alike and whose texts are nearly the same.

    Two such samples agree in at least one of eight bytes of either hash unless the bits that differ are spread
    unluckily; so every combination of bytes is sorted by in turn.
    """
    texts, visual, text_hash = table.column("text"), table.column("visual"), table.column("text_hash")
    heads = heads[visual[heads] != PLAIN]
    found = [np.zeros((0, 2), dtype=np.int64)]
    top = np.uint64(64 - _BAND_BITS)
    for image_band in range(_BANDS):
        picture = _rotate(visual[heads], image_band * _BAND_BITS) >> top << top
        for text_band in range(_BANDS):
            wording = _rotate(text_hash[heads], text_band * _BAND_BITS)
            keys = picture | (wording >> np.uint64(_BAND_BITS))
            by_key = np.argsort(keys, kind="stable")
            order, part = heads[by_key], keys[by_key] >> np.uint64(64 - 2 * _BAND_BITS)
            for left, right in _neighbours(order, part, _NARROW):
                alike = bits_apart(visual[left], visual[right]) <= NEAR_IMAGE_OTHER_TEXT
                left, right = left[alike], right[alike]
                alike = bits_apart(text_hash[left], text_hash[right]) <= NEAR_TEXT
                alike &= texts[left] != texts[right]
                found.append(np.stack([left[alike], right[alike]], axis=1))
    pairs = np.unique(np.sort(np.concatenate(found), axis=1), axis=0)
    return _without_crowds(pairs, texts)


def _without_crowds(pairs: np.ndarray, texts: np.ndarray) -> np.ndarray:
    """Leaves out pairs by which samples with more than `CROWD` texts hang together."""
    members, numbers = np.unique(pairs, return_inverse=True)
    numbers = numbers.reshape(pairs.shape)
    cluster = components(len(members), numbers[:, 0], numbers[:, 1])
    order = np.lexsort((texts[members], cluster))
    fresh = np.ones(len(order), dtype=bool)  # the first sample of each cluster with each text
    fresh[1:] = (np.diff(cluster[order]) != 0) | (np.diff(texts[members][order]) != 0)
    counts = np.bincount(cluster[order][fresh], minlength=len(members))
    return pairs[counts[cluster[numbers[:, 0]]] <= CROWD]


def _neighbours(order: np.ndarray, keys: np.ndarray, window: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs of samples with equal keys that stand at most `window` apart in `order`, by distance."""
    here = np.arange(len(order), dtype=np.int64)
    for distance in range(1, window + 1):
        here = here[: np.searchsorted(here, len(order) - distance)]
        here = here[keys[here] == keys[here + distance]]  # keys are sorted: who lost touch has lost it for good
        if not len(here):
            return
        yield order[here], order[here + distance]


def _with_first(*columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(first, later): each sample whose values came before, and the first sample that has them."""
    order = np.lexsort(columns[::-1])  # stable: equal ones stay in the order of samples
    if not len(order):
        return order, order
    fresh = np.ones(len(order), dtype=bool)
    fresh[1:] = np.any([column[order][1:] != column[order][:-1] for column in columns], axis=0)
    firsts = order[np.maximum.accumulate(np.where(fresh, np.arange(len(order)), 0))]
    return firsts[~fresh], order[~fresh]


def _with_company(samples: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Those of the samples that share their key with another."""
    _, group, counts = np.unique(keys[samples], return_inverse=True, return_counts=True)
    return samples[counts[group] > 1]


def _rotate(values: np.ndarray, bits: int) -> np.ndarray:
    if bits == 0:
        return values
    return (values << np.uint64(bits)) | (values >> np.uint64(64 - bits))


def _pairs(first: np.ndarray, second: np.ndarray, kind: Kind) -> Pairs:
    return Pairs(first, second, np.full(len(first), KINDS.index(kind), dtype=np.uint8))


def _strongest(pairs: Pairs) -> Pairs:
    """Each pair once, with its strongest kind, sorted by samples."""
    low, high = np.minimum(pairs.first, pairs.second), np.maximum(pairs.first, pairs.second)
    order = np.lexsort((pairs.kind, high, low))
    low, high, kind = low[order], high[order], pairs.kind[order]
    fresh = np.ones(len(low), dtype=bool)
    fresh[1:] = (low[1:] != low[:-1]) | (high[1:] != high[:-1])
    return Pairs(low[fresh], high[fresh], kind[fresh])
