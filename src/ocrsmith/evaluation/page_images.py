"""Images of evaluated pages, which stay in the dataset."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from ocrsmith.datasets import open_dataset
from ocrsmith.errors import OcrsmithError
from ocrsmith.records import SPLITS, PageSample, SplitName


class Samples(Protocol):
    """A dataset, as far as its samples go."""

    def iter_samples(self, split: SplitName) -> Iterator[PageSample]: ...


def find_images(dataset: Samples, split: SplitName, ids: Sequence[str]) -> dict[str, bytes]:
    """Image files of a few samples, by id, found in one pass over the split."""
    wanted = set(ids)
    found: dict[str, bytes] = {}
    if not wanted:
        return found
    for sample in dataset.iter_samples(split):
        if sample.id in wanted:
            found[sample.id] = sample.image
            if len(found) == len(wanted):
                break
    return found


def evaluated_images(provenance: Mapping[str, Any], ids: Sequence[str]) -> dict[str, bytes]:
    """The same from the dataset that an evaluation names, if it is still there unchanged; else nothing.

    Args:
        provenance: the evaluation's.
        ids: of the pages wanted.
    """
    data = provenance.get("dataset") or {}
    if not data.get("path") or data.get("split") not in SPLITS:
        return {}
    try:
        dataset = open_dataset(data["path"])
        if dataset.content_hash != data.get("content_hash"):
            return {}
        return find_images(dataset, data["split"], ids)
    except OcrsmithError:
        return {}
