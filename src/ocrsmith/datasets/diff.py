"""What changed from one dataset to another: samples, splits, texts, images, settings.

Both are gone through once; of each sample only hashes and its place are kept. Texts and ids are read again for
the few that are shown.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ocrsmith.datasets.content_hash import image_digest
from ocrsmith.datasets.reader import Dataset
from ocrsmith.datasets.split import hash_key
from ocrsmith.records import SPLITS, PageSample

KINDS: tuple[str, ...] = ("added", "removed", "renamed", "moved", "text", "image", "fields")
TITLES = {
    "added": "added",
    "removed": "removed",
    "renamed": "renamed: the same image and text under another id",
    "moved": "moved to another split",
    "text": "text changed",
    "image": "image changed",
    "fields": "group, prompt or meta changed",
}
"""What each kind of change means, for people."""

EXAMPLES = 20
"""Changes of each kind that are described; all are counted."""
_CONTEXT = 16
_LONGEST = 60
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Change:
    """One sample that changed."""

    id: str
    """Its id, of `renamed` the old one."""
    detail: str
    """What changed: splits, a short diff, the new id; empty where the kind says it all."""


@dataclass(frozen=True, slots=True)
class DatasetDiff:
    """What changed from dataset `a` to dataset `b`."""

    a: str
    b: str
    samples: tuple[int, int]
    counts: dict[str, int]
    """Samples for each of `KINDS`; one sample may be of several."""
    examples: dict[str, tuple[Change, ...]]
    """The first `EXAMPLES` of each kind."""
    moves: dict[str, int]
    """How many samples moved, by `train → test` and so on."""
    settings: dict[str, tuple[Any, Any]]
    """Settings of the manifests that differ, and the datasets' prompts if they do: (in a, in b)."""

    @property
    def same(self) -> bool:
        """Whether nothing differs."""
        return not any(self.counts.values()) and not self.settings

    def to_json(self) -> dict[str, Any]:
        """Everything, for machines."""
        return {
            "a": self.a,
            "b": self.b,
            "same": self.same,
            "samples": list(self.samples),
            "counts": self.counts,
            "moves": self.moves,
            "settings": {name: list(values) for name, values in self.settings.items()},
            "examples": {
                kind: [{"id": change.id, "detail": change.detail} for change in changes]
                for kind, changes in self.examples.items()
            },
        }


def diff_datasets(a: Dataset, b: Dataset, *, progress: Progress | None = None) -> DatasetDiff:
    """Compares two datasets, sample by sample: first those with one id, then by image and text.

    Args:
        progress: told how many samples are done, and how many there are.

    Raises:
        DataError: the files are damaged.
    """
    total = sum(dataset.count(split) for dataset in (a, b) for split in SPLITS)
    first = _Columns(a, lambda done: progress(done, total) if progress else None)
    second = _Columns(b, lambda done: progress(len(first) + done, total) if progress else None)
    left, right = _matched(first.ids, second.ids)
    only_a, only_b = _without(len(first), left), _without(len(second), right)
    old, new = _matched(_numbered(first.content[only_a]), _numbered(second.content[only_b]))
    renamed_a, renamed_b = only_a[old], only_b[new]
    both_a, both_b = np.concatenate([left, renamed_a]), np.concatenate([right, renamed_b])
    moved = first.splits[both_a] != second.splits[both_b]
    changed = {
        "added": (None, _without(len(second), both_b)),
        "removed": (_without(len(first), both_a), None),
        "renamed": (renamed_a, renamed_b),
        "moved": (both_a[moved], both_b[moved]),
        "text": _where_different(first.texts, second.texts, left, right),
        "image": _where_different(first.images, second.images, left, right),
        "fields": _where_different(first.fields, second.fields, both_a, both_b),
    }
    describe = _Describe(first, second)
    return DatasetDiff(
        a=str(a.path),
        b=str(b.path),
        samples=(len(first), len(second)),
        counts={kind: len(_either(changed[kind])) for kind in KINDS},
        examples={kind: describe(kind, *changed[kind]) for kind in KINDS},
        moves=_moves(first.splits[both_a], second.splits[both_b]),
        settings=_settings(a, b),
    )


def short_diff(old: str, new: str) -> str:
    """Where two texts begin and end to differ: `…the house of {Smith → Smyth} and sons…`, on one line."""
    start = 0
    while start < min(len(old), len(new)) and old[start] == new[start]:
        start += 1
    end = 0
    while end < min(len(old), len(new)) - start and old[-1 - end] == new[-1 - end]:
        end += 1
    before, after = old[max(0, start - _CONTEXT) : start], old[len(old) - end :][:_CONTEXT]
    head = "…" if start > _CONTEXT else ""
    tail = "…" if end > _CONTEXT else ""
    parts = [_shorten(text[start : len(text) - end]) for text in (old, new)]
    return f"{head}{_plain(before)}{{{parts[0]} → {parts[1]}}}{_plain(after)}{tail}"


def _shorten(text: str) -> str:
    shown = text if len(text) <= _LONGEST else f"{text[: _LONGEST // 2]} … {text[-_LONGEST // 2 :]}"
    return _plain(shown) or "∅"


def _plain(text: str) -> str:
    """Line breaks and control characters as escapes."""
    return "".join(char if char.isprintable() else json.dumps(char)[1:-1] for char in text)


class _Columns:
    """Hashes of all samples of a dataset, about 50 bytes a sample."""

    def __init__(self, dataset: Dataset, told: Callable[[int], None]) -> None:
        self.dataset = dataset
        columns = {name: array("q") for name in ("ids", "images", "texts", "fields")}
        splits, places = array("B"), array("q")
        for index, split in enumerate(SPLITS):
            for place, sample in enumerate(dataset.iter_samples(split)):
                columns["ids"].append(hash_key(0, "id", sample.id))
                columns["images"].append(_number(image_digest(sample.image)))
                columns["texts"].append(hash_key(0, "text", sample.text))
                columns["fields"].append(hash_key(0, "fields", _fields(sample)))
                splits.append(index)
                places.append(place)
                told(len(splits))
        self.ids = _numbered(np.array(columns["ids"], dtype=np.int64))
        self.images, self.texts, self.fields = (
            np.array(columns[name], dtype=np.int64) for name in ("images", "texts", "fields")
        )
        self.content = self.images ^ (self.texts >> 1)
        self.splits, self.places = np.array(splits, dtype=np.int64), np.array(places, dtype=np.int64)

    def __len__(self) -> int:
        return len(self.splits)

    def sample(self, number: int) -> PageSample:
        return self.dataset.table(SPLITS[int(self.splits[number])])[int(self.places[number])]

    def split(self, number: int) -> str:
        return SPLITS[int(self.splits[number])]


class _Describe:
    """Reads again the samples that are shown."""

    def __init__(self, first: _Columns, second: _Columns) -> None:
        self._first, self._second = first, second

    def __call__(self, kind: str, old: np.ndarray | None, new: np.ndarray | None) -> tuple[Change, ...]:
        if old is None or new is None:
            columns, numbers = (self._first, old) if new is None else (self._second, new)
            assert numbers is not None
            return tuple(
                Change(columns.sample(number).id, columns.split(number)) for number in numbers[:EXAMPLES]
            )
        return tuple(
            self._pair(kind, int(left), int(right))
            for left, right in zip(old[:EXAMPLES], new[:EXAMPLES], strict=True)
        )

    def _pair(self, kind: str, left: int, right: int) -> Change:
        old, new = self._first.sample(left), self._second.sample(right)
        if kind == "renamed":
            return Change(old.id, f"→ {new.id}")
        if kind == "moved":
            return Change(new.id, f"{self._first.split(left)} → {self._second.split(right)}")
        if kind == "text":
            return Change(new.id, short_diff(old.text, new.text))
        if kind == "fields":
            names = [name for name in ("group", "prompt", "meta") if getattr(old, name) != getattr(new, name)]
            shown = (f"{name} {getattr(old, name)!r} → {getattr(new, name)!r}" for name in names)
            return Change(new.id, _shorten("; ".join(shown)))
        return Change(new.id, f"{len(old.image):,} → {len(new.image):,} bytes")


def _fields(sample: PageSample) -> str:
    return json.dumps([sample.group, sample.prompt, sample.meta], sort_keys=True, ensure_ascii=False)


def _number(digest: bytes) -> int:
    return int.from_bytes(digest[:8], "big") >> 1


def _numbered(values: np.ndarray) -> np.ndarray:
    """(N,) values of which equal ones are told apart by their turn: the second is paired with the second."""
    order = np.argsort(values, kind="stable")
    starts = np.ones(len(values), dtype=bool)
    starts[1:] = values[order][1:] != values[order][:-1]
    here = np.arange(len(values), dtype=np.int64)
    turn = here - np.maximum.accumulate(np.where(starts, here, 0))
    result = values.copy()
    result[order] ^= turn * 0x5851F42D4C957F2D & 0x7FFFFFFFFFFFFFFF
    return result


def _matched(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions in `a` and `b` of the values that both have, in the order of `b`."""
    _, left, right = np.intersect1d(a, b, assume_unique=True, return_indices=True)
    order = np.argsort(right, kind="stable")
    return left[order], right[order]


def _without(count: int, taken: np.ndarray) -> np.ndarray:
    """Numbers below `count` that are not `taken`."""
    free = np.ones(count, dtype=bool)
    free[taken] = False
    return np.flatnonzero(free)


def _where_different(
    a: np.ndarray, b: np.ndarray, left: np.ndarray, right: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    different = a[left] != b[right]
    return left[different], right[different]


def _either(numbers: tuple[np.ndarray | None, np.ndarray | None]) -> np.ndarray:
    found = numbers[0] if numbers[0] is not None else numbers[1]
    assert found is not None
    return found


def _moves(old: np.ndarray, new: np.ndarray) -> dict[str, int]:
    counts = np.zeros((len(SPLITS), len(SPLITS)), dtype=np.int64)
    np.add.at(counts, (old, new), 1)
    return {
        f"{SPLITS[left]} → {SPLITS[right]}": int(counts[left, right])
        for left in range(len(SPLITS))
        for right in range(len(SPLITS))
        if left != right and counts[left, right]
    }


def _settings(a: Dataset, b: Dataset) -> dict[str, tuple[Any, Any]]:
    """Where the manifests' settings differ; a dataset of another program has none."""
    one, other = ((item.manifest or {}).get("settings", {}) for item in (a, b))
    found = {
        name: (one.get(name), other.get(name))
        for name in sorted({*one, *other})
        if one and other and one.get(name) != other.get(name)
    }
    if a.prompt != b.prompt:
        found["prompt"] = (a.prompt, b.prompt)
    return found
