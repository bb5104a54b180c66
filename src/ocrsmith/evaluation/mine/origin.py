"""Where the pages of an evaluation come from: its split, its dataset, and the image of a page."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ocrsmith.datasets import Dataset, open_dataset
from ocrsmith.errors import DataError
from ocrsmith.evaluation import store
from ocrsmith.evaluation.store import PageResult
from ocrsmith.records import SPLITS, PageSample, SplitName


def split_of(provenance: Mapping[str, Any], folder: Path) -> SplitName:
    """The split that an evaluation read. Raises DataError."""
    split = provenance.get("dataset", {}).get("split")
    for name in SPLITS:
        if split == name:
            return name
    raise DataError(
        f"The evaluation does not say which split it read (it says {split!r}).",
        place=str(folder / store.METRICS),
        mend="Run the evaluation again.",
    )


def find_dataset(provenance: Mapping[str, Any], folder: Path, data: Path | None) -> Dataset:
    """Opens the dataset that was evaluated, at `data` or where it was then.

    Raises:
        DataError: it is not there, or another one is.
    """
    told = provenance.get("dataset", {})
    path = data or (Path(told["path"]) if told.get("path") else None)
    if path is None:
        raise DataError(
            "The evaluation does not say where its dataset is.",
            place=str(folder / store.METRICS),
            mend="Name it with --data.",
        )
    try:
        dataset = open_dataset(path)
    except DataError as error:
        if data is None:
            error.mend = "If the dataset was moved, say where it is now with --data."
        raise
    if dataset.content_hash != told.get("content_hash"):
        raise DataError(
            f"This is not the dataset that was evaluated: its content hash is {dataset.content_hash}, the "
            f"evaluation's {told.get('content_hash')}.",
            place=str(path),
            mend="Name the dataset as it was with --data, or evaluate this one first.",
        )
    return dataset


def sample_of(dataset: Dataset, split: SplitName, result: PageResult) -> PageSample:
    """The sample that a result is of, with its image. Raises DataError if another one stands in its place."""
    table = dataset.table(split)
    sample = table[result.index] if result.index < len(table) else None
    if sample is None or (sample.id, sample.text) != (result.id, result.reference):
        raise DataError(
            f"Page {result.index + 1} of the split {split} is not the one that was evaluated ({result.id!r}).",
            place=str(dataset.path),
            mend="The dataset was changed since: evaluate it again with --overwrite.",
        )
    return sample
