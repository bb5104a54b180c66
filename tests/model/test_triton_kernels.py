"""The GPU kernels against plain torch, in Triton's interpreter."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.skipif(sys.platform != "linux", reason="Triton has packages for Linux alone")
def test_kernels_have_the_numbers_of_plain_torch() -> None:
    script = Path(__file__).with_name("interpreted_kernels.py")
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    errors = json.loads(done.stdout.splitlines()[-1])
    assert len(errors) == 2 * 3 * 4 * 2 + 4 + 6
    for name, error in errors.items():
        assert error < (2e-3 if "float16" in name or "attention" in name else 1e-5), name
