"""Memory does not grow with the dataset."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ocrsmith.datasets.intake import Intake
from ocrsmith.datasets.settings import BuildSettings
from ocrsmith.datasets.staging import Facts
from ocrsmith.datasets.traits import Traits

_BUILD = """
import sys
from ocrsmith.datasets import build_dataset, open_dataset
build_dataset([sys.argv[1]], sys.argv[2], workers=2)
dataset = open_dataset(sys.argv[2])
rows = sum(1 for split in ("train", "val", "test") for _ in dataset.iter_samples(split))
status = open("/proc/self/status").read().split()
print(rows, int(status[status.index("VmHWM:") + 1]) // 1024)
"""
_MAXIMUM_MB = 280


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak memory from /proc (Linux)")
def test_a_dataset_larger_than_the_memory_it_takes(tmp_path: Path) -> None:
    """3,500 samples of 90 KB: 315 MB of images pass, the interpreter with its libraries takes about 110 MB."""
    noise = np.random.default_rng(0)
    for number in range(20):
        pixels = noise.integers(0, 256, (300, 300), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png", compress_level=0)
    lines = [f"{number % 20}.png\ttext {number}" for number in range(3500)]
    (tmp_path / "content.md").write_text("\n".join(lines))
    done = subprocess.run(
        [sys.executable, "-c", _BUILD, str(tmp_path / "content.md"), str(tmp_path / "out")],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    rows, peak = map(int, done.stdout.split())
    assert rows == 3500
    assert peak < _MAXIMUM_MB


def test_little_is_remembered_of_a_sample() -> None:
    """20,000 samples, each with names of its own; arrays have room to grow in."""
    count = 20_000
    digests = np.random.default_rng(0).bytes(80 * count)

    class Staged:
        def facts(self) -> Iterator[Facts]:
            for number in range(count):
                part = digests[80 * number : 80 * number + 80]
                visual, text = int.from_bytes(part[64:72], "big"), int.from_bytes(part[72:], "big")
                traits = Traits(part[:16], part[16:32], visual, part[32:48], text, "en", 40)
                name = f"images/{number:07d}.png"
                yield Facts(name, "", name, "content.md", 600, 64, part[48:64], traits)

    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        intake = Intake(Staged(), BuildSettings())  # type: ignore[arg-type]
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(intake) == count
    assert (after - before) / count < 200
