"""What all tests share: determinism, no network, and the recorded reference data."""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import settings

# Before anything imports torch: as many threads on every machine, so that sums come out in the same order.
os.environ.setdefault("OMP_NUM_THREADS", "2")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the command line does
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["NO_COLOR"] = "1"
_CACHE = tempfile.TemporaryDirectory(prefix="ocrsmith-tests-")  # goes when the process ends
os.environ["OCRSMITH_CACHE"] = _CACHE.name
os.environ.pop("FORCE_COLOR", None)

settings.register_profile("ocrsmith", derandomize=True, deadline=None, database=None)
settings.load_profile("ocrsmith")

REPOSITORY = Path(__file__).resolve().parents[1]


LONGEST = "tests/cli/test_quickstart.py"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest file first, then those with many tests: no process is left with a long one at the end."""
    count = Counter(item.path for item in items)
    place = {path: number for number, path in enumerate(count)}

    def order(item: pytest.Item) -> tuple[bool, int, int]:
        return not item.nodeid.startswith(LONGEST), -count[item.path], place[item.path]

    items.sort(key=order)


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def shared() -> Path:
    """Reference recordings and real data beside the checkout; tests skip where they are absent."""
    folder = REPOSITORY.parent / "shared"
    if not folder.is_dir():
        pytest.skip("needs the folder ../shared (reference recordings and real data), which is not here")
    return folder


@pytest.fixture(scope="session")
def golden(shared: Path) -> Path:
    """Recordings of the original implementation."""
    folder = shared / "golden"
    if not folder.is_dir():
        pytest.skip("needs the folder ../shared/golden (recordings of the original), which is not here")
    return folder
