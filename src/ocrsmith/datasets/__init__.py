"""Datasets: built from many kinds of sources, checked, split by document, kept as Parquet. No torch here."""

from ocrsmith.datasets.build import BuildSettings, BuildSummary, build_dataset
from ocrsmith.datasets.checks import LengthCheck
from ocrsmith.datasets.reader import Dataset, SampleTable, open_dataset

__all__ = [
    "BuildSettings",
    "BuildSummary",
    "Dataset",
    "LengthCheck",
    "SampleTable",
    "build_dataset",
    "open_dataset",
]
