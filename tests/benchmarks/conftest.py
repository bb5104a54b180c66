"""The benchmarks are no part of the package: they are imported from the checkout."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from ocrsmith.model import kernels
from ocrsmith.model.ocr_model import OcrModel

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """A measuring process chooses kernels and freezes the garbage collector for good; here tests come after."""
    with kernels.using():
        yield
    gc.unfreeze()


@pytest.fixture
def model() -> OcrModel:
    """The tiny model; a fresh one, since adapters are put into it."""
    from benchmarks.workloads import make_model

    return make_model("tiny", seed=3)
