"""Memory does not grow with the dataset."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

_BUILD = """
import sys
from ocrsmith.datasets import build_dataset, open_dataset
build_dataset([sys.argv[1]], sys.argv[2], workers=2)
dataset = open_dataset(sys.argv[2])
rows = sum(1 for _ in dataset.iter_samples("train"))
status = open("/proc/self/status").read().split()
print(rows, int(status[status.index("VmHWM:") + 1]) // 1024)
"""
_MAXIMUM_MB = 280


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak memory from /proc (Linux)")
def test_a_dataset_larger_than_the_memory_it_takes(tmp_path: Path) -> None:
    """5,000 samples of 90 KB: 450 MB of images pass, the interpreter with its libraries takes about 110 MB."""
    noise = np.random.default_rng(0)
    for number in range(20):
        pixels = noise.integers(0, 256, (300, 300), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png", compress_level=0)
    lines = [f"{number % 20}.png\ttext {number}" for number in range(5000)]
    (tmp_path / "content.md").write_text("\n".join(lines))
    done = subprocess.run(
        [sys.executable, "-c", _BUILD, str(tmp_path / "content.md"), str(tmp_path / "out")],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    rows, peak = map(int, done.stdout.split())
    assert rows == 4000
    assert peak < _MAXIMUM_MB
