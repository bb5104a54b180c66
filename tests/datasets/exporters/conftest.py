"""Datasets made of given samples, without the checks of a build."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ocrsmith.datasets import Dataset, open_dataset
from ocrsmith.datasets.schema import SCHEMA, to_batch
from ocrsmith.records import SPLITS, PageSample, SplitName

DatasetMaker = Callable[[Path, Mapping[SplitName, Sequence[PageSample]]], Dataset]


@pytest.fixture(scope="session")
def make_dataset() -> DatasetMaker:
    """Writes the samples of each split as prefix files into a folder, and opens them."""

    def make(folder: Path, samples: Mapping[SplitName, Sequence[PageSample]]) -> Dataset:
        folder.mkdir(parents=True, exist_ok=True)
        for split in SPLITS:
            table = pa.Table.from_batches([to_batch(samples.get(split, ()))], schema=SCHEMA)
            pq.write_table(table, folder / f"set_{split}.parquet")
        return open_dataset(folder)

    return make
