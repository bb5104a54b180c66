"""The speed of the metrics is measured, from options to result file."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks import metrics


def test_metrics_are_measured(tmp_path: Path) -> None:
    options = f"--pairs 50 --repeats 2 --texts Latin,Chinese --results {tmp_path}"
    assert metrics.main(options.split()) == 0
    rows = json.loads((tmp_path / "metrics.json").read_text())["rows"]
    assert [(row["what"], row["text"]) for row in rows] == [
        (what, text) for text in ("Latin", "Chinese") for what in metrics.MEASURED
    ]
    assert all(row["seconds"] > 0 and row["pairs"] == 50 for row in rows)
    assert [row["× jiwer"] is not None for row in rows[:5]] == [True, False, False, False, False]


def test_pairs_are_the_same_each_time_and_wrong_where_asked() -> None:
    true, read = metrics.make_pairs("Persian", 30, 20, 0.0)
    assert true == read
    assert metrics.make_pairs("Persian", 30, 20, 1.0) == metrics.make_pairs("Persian", 30, 20, 1.0)
    true, read = metrics.make_pairs("Persian", 30, 20, 1.0)
    assert sum(a != b for a, b in zip(true, read, strict=True)) > 25
