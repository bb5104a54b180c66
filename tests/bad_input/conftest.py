"""What several tests of bad input begin with."""

from __future__ import annotations

from pathlib import Path

import pytest

from ..training.conftest import digits


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    for sample in digits(12):
        (folder / sample.image_path).write_bytes(sample.image)
    (folder / "content.md").write_text("".join(f"{s.image_path}\t{s.text}\n" for s in digits(12)))
    return folder
