"""Columns: upright hanzi, marks in their vertical forms, Latin on its side."""

from __future__ import annotations

import numpy as np
import pytest

from ocrsmith.datasets.synth import vertical
from ocrsmith.datasets.synth.font_index import Face
from ocrsmith.datasets.synth.typeset import Gray, draw_run
from ocrsmith.datasets.synth.vertical import can_stand, draw_column

SIZE = 40


def column(text: str, face: Face) -> Gray:
    return draw_column(text, face, SIZE, engine="own", gap=0)


def centre(ink: Gray) -> tuple[float, float]:
    rows, columns = np.nonzero(ink > 100)
    return float(rows.mean()) / ink.shape[0], float(columns.mean()) / ink.shape[1]


def extent(ink: Gray) -> tuple[int, int]:
    rows, columns = np.nonzero(ink > 100)
    return int(np.ptp(rows)), int(np.ptp(columns))


def test_hanzi_stand_upright_one_below_the_other(cjk: Face) -> None:
    both = column("上下", cjk)
    assert both.shape[0] == 2 * SIZE
    for part, letter in ((both[:SIZE], "上"), (both[SIZE:], "下")):
        ink = draw_run(letter, cjk, SIZE, engine="own").ink
        rows, columns = np.nonzero(part)
        assert np.array_equal(part[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1], ink)


@pytest.mark.parametrize("forms", [True, False], ids=["with the font's forms", "without them"])
def test_marks_take_their_vertical_forms(cjk: Face, monkeypatch: pytest.MonkeyPatch, forms: bool) -> None:
    if not forms:
        monkeypatch.setattr(vertical, "_has", lambda face, character: False)
    for mark in "，。":
        row, place = centre(column(mark, cjk))
        assert row < 0.5, "above"
        assert place > 0.5, "on the right"
    for bracket in "（）「」—…":
        tall, wide = extent(draw_run(bracket, cjk, SIZE, engine="own").ink)
        turned_tall, turned_wide = extent(column(bracket, cjk))
        assert (tall > wide) != (turned_tall > turned_wide) or bracket in "「」"
    row, _ = centre(column("（", cjk))
    assert row > 0.5, "an opening bracket stands close to what it opens"
    row, _ = centre(column("）", cjk))
    assert row < 0.5


def test_latin_lies_on_its_side(cjk: Face) -> None:
    ink = draw_run("ABC 12", cjk, SIZE, engine="own").ink
    lying = column("ABC 12", cjk)
    rows, columns = np.nonzero(lying)
    part = lying[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    assert np.array_equal(part, np.rot90(ink, -1))


def test_which_texts_can_stand() -> None:
    assert can_stand("你好，世界")
    assert can_stand("支持USB协议文字")
    assert not can_stand("Hello 世界 again")
    assert not can_stand("你好世界文字识别سلام")
    assert not can_stand("")
