"""The speed of synthesis is measured, from options to result file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import synth

DEJAVU = Path(__file__).parents[1] / "nano" / "fonts" / "dejavu_sans_part.ttf"


@pytest.mark.parametrize("workers", [1, 2])
def test_synthesis_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    texts = tmp_path / "texts.txt"
    texts.write_text("The committee met.\nRoom 12\n")
    words = f"--texts {texts} --fonts {DEJAVU} --looks clean,fax --count 6 --warm-up 3 --workers {workers}"
    assert synth.main([*words.split(), "--results", str(tmp_path)]) == 0
    rows = json.loads((tmp_path / "synth.json").read_text())["rows"]
    assert [(row["kind"], row["look"], row["samples"]) for row in rows] == [
        ("lines", "clean", 6),
        ("lines", "fax", 6),
    ]
    for row in rows:
        assert row["samples/s"] > 0
        assert row["KiB/sample"] > 0
        assert (row["CPU ms/sample"] is not None) == (workers == 1)
