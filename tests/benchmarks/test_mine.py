"""The experiment that mining pays: its lines and figures, and a small run from texts to the result file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from benchmarks.mine_data import WRONG, draw, is_weak, mislabel, texts_of, write_texts
from benchmarks.mine_figures import Reading, factor, rows_of

from benchmarks import mine

SIGNS = frozenset(WRONG)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_the_weakness_is_as_rare_as_asked_for(tmp_path: Path) -> None:
    lines = write_texts(tmp_path / "texts.txt", 2000, 0.05, seed=1).read_text().splitlines()
    assert sum(map(is_weak, lines)) / len(lines) == pytest.approx(0.05, abs=0.015)
    assert all(sum(sign in SIGNS for sign in line) <= 1 for line in lines)
    assert not any(map(is_weak, map(mislabel, lines)))


def test_mined_confusions_come_often_in_lines_that_are_drawn_for_them(tmp_path: Path) -> None:
    texts = write_texts(tmp_path / "texts.txt", 400, 0.05, seed=1)
    mined = tmp_path / "mined"
    mined.mkdir()
    (mined / "confusions.tsv").write_text("Q\tO\t3\nZ\t2\t2\n")
    with_mined = texts_of(draw(tmp_path / "mined-lines", texts, 24, 5, mined=mined))
    random = texts_of(draw(tmp_path / "random-lines", texts, 24, 5))
    assert len(with_mined) == len(random) == 24
    assert sum(map(is_weak, with_mined)) > 2 * sum(map(is_weak, random))


def test_the_factor_is_of_the_drops() -> None:
    before = np.array([0.2, 0.1, 0.2, 0.1])
    mined, random = np.zeros((2, 4)), np.full((2, 4), 0.1)
    found = factor(before, mined, random)
    assert found["drop mined"]["value"] == pytest.approx(0.15)
    assert found["drop random"]["value"] == pytest.approx(0.05)
    assert found["factor"]["value"] == pytest.approx(3)
    assert json.loads(json.dumps(found)) == found
    low, _ = found["factor"]["ci95"]
    assert low >= 2  # 0.2 against 0.1 where only bad lines are drawn; the best case has no bound


def test_random_lines_that_lower_nothing_leave_no_factor() -> None:
    before = np.full(4, 0.1)
    found = factor(before, np.zeros((2, 4)), np.full((2, 4), 0.1))
    assert found["factor"] == {"value": None, "ci95": [None, None]}


def test_signs_count_as_misread_where_they_are_not_read_as_they_are() -> None:
    reading = Reading(["lamp QA-22", "ZB-45", "no code"], ["lamp OA-22", "ZB-4", "no code"])
    assert reading.misread(SIGNS) == 0.5
    assert reading.cers() == pytest.approx([0.1, 0.2, 0])
    (planted, arm) = rows_of(
        {"weak": reading, "other": reading}, {"mined": [{"weak": reading, "other": reading}]}, SIGNS
    )
    assert planted["CER of weak lines"] == arm["lowest"] == pytest.approx(0.1)


def test_the_experiment_runs_from_texts_to_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With nano as it comes: planting is but one more training."""
    from ocrsmith.model.weights import resolve_model

    monkeypatch.setattr(mine.Experiment, "plant", lambda self: resolve_model("nano"))
    words = "--lines 2 --steps 1 --seeds 1 --val 4 --test 1 --threads 1"
    assert mine.main([*words.split(), "--results", str(tmp_path)]) == 0
    result = json.loads((tmp_path / "mine-nano.json").read_text())
    assert [row["training lines"] for row in result["rows"]] == ["none (planted)", "mined", "random"]
    assert set(result["weak"]) == {"drop mined", "drop random", "factor"}
    assert result["mined"]["pages"] == 4
    assert "CER of weak lines" in capsys.readouterr().out
