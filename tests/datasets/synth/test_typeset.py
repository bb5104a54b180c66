"""Drawing a run: Raqm and our own shaping put the same ink on the same places."""

from __future__ import annotations

import numpy as np
import pytest
from fontTools.ttLib import TTFont
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import features

from ocrsmith.datasets.synth.font_index import Face, scan_fonts
from ocrsmith.datasets.synth.shaping import ZWNJ, for_drawing
from ocrsmith.datasets.synth.typeset import Engine, Run, best_engine, draw_run, draws, needed

from .conftest import DEJAVU

raqm = pytest.mark.skipif(best_engine() != "raqm", reason="this Pillow has no Raqm with FriBidi")
# Letters that DejaVu's part has and that no ligature but lam-alef joins.
LETTERS = "آابپتثجچحخدذرزژسشصضطظعغفقکگلمنوهی"

MIXED = [
    ("سلام دنیا", True),
    ("می" + ZWNJ + "خواهم", True),
    ("سلام (علی) ۱۲", True),
    ("سال ۱۴۰۲/۰۵/۱۲ بود.", True),
    ("کتاب OCR خوب است", True),
    ("کتاب abc (def) است", True),  # rule N0: the brackets go with what is in them
    ("the word سلام means hello", False),
    ("Nr. 12 (سلام) 34", False),
    ("[سلام, abc]", True),
    ("۱۲ ۳۴ + ۵۶", True),
    ("لا اللا بلا", True),
]


def both(text: str, face: Face, rtl: bool) -> tuple[Run, Run]:
    """A text as Raqm sets it, and as our shaping does. Pillow's own layout rounds each advance, Raqm does not,
    so both are drawn by Raqm: the left-to-right override (U+202D) pins the order that we chose, and HarfBuzz
    leaves presentation forms as they are."""
    ours = "\u202d" + for_drawing(text, rtl=rtl)
    return draw_run(text, face, 40, rtl=rtl, engine="raqm"), draw_run(ours, face, 40, rtl=False, engine="raqm")


@raqm
@pytest.mark.parametrize(("text", "rtl"), MIXED)
def test_both_engines_draw_the_same_picture(dejavu: Face, text: str, rtl: bool) -> None:
    theirs, ours = both(text, dejavu, rtl)
    assert (theirs.left, theirs.top) == (ours.left, ours.top)
    assert np.array_equal(theirs.ink, ours.ink)


@raqm
@settings(max_examples=150, deadline=None)
@given(st.text(st.sampled_from(LETTERS + ZWNJ + "  للا۱۲abX().,:/"), min_size=1, max_size=14), st.booleans())
def test_any_mixed_text_is_joined_and_ordered_alike(dejavu: Face, text: str, rtl: bool) -> None:
    theirs, ours = both(text, dejavu, rtl)
    assert np.array_equal(theirs.ink, ours.ink)


@raqm
@pytest.mark.parametrize("text", ["سلام", "abc", "لا"])
def test_pillows_own_layout_differs_by_no_more_than_a_pixel(dejavu: Face, text: str) -> None:
    theirs, ours = (draw_run(text, dejavu, 40, engine=engine) for engine in ("raqm", "own"))
    assert abs(theirs.ink.shape[1] - ours.ink.shape[1]) <= len(text)
    assert theirs.ink.shape[0] == ours.ink.shape[0]


@pytest.mark.parametrize("engine", ["own", pytest.param("raqm", marks=raqm)])
def test_letters_of_a_word_hang_together_and_zwnj_parts_them(dejavu: Face, engine: Engine) -> None:
    def parts(text: str) -> int:
        blank = draw_run(text, dejavu, 48, engine=engine).ink.max(axis=0) == 0
        return 1 + int((np.diff(blank.astype(int)) == 1).sum())

    assert parts("سسس") == 1
    assert parts(f"سس{ZWNJ}س") == 2
    assert parts("لا") == 1  # one ligature


@pytest.mark.parametrize("engine", ["own", pytest.param("raqm", marks=raqm)])
def test_persian_runs_from_the_right(dejavu: Face, engine: Engine) -> None:
    """The dot under ب stands at the right of alef's stroke when ب comes first."""
    run = draw_run("با", dejavu, 48, engine=engine)
    below = run.ink[-run.top + 2 :]  # under the baseline there is only the dot
    assert below.any()
    stroke = run.ink[: run.ink.shape[0] // 4]  # only alef is so tall
    assert np.nonzero(below)[1].mean() > np.nonzero(stroke)[1].mean()


@raqm
def test_marks_stand_upon_their_letters(dejavu: Face) -> None:
    """e with a combining acute is drawn as é."""
    one, other = (draw_run(text, dejavu, 40, engine="raqm") for text in ("cafe\u0301", "café"))
    assert np.array_equal(one.ink, other.ink)


def test_composed_marks_need_no_engine_and_others_do() -> None:
    assert needed("cafe\u0301", "own") == frozenset("café")
    assert needed("q\u0301", "own") is None
    assert needed("हिन्दी", "own") is None
    assert needed("ښه", "own") is None  # no presentation forms: it could not be joined
    assert needed("سلام", "own") == frozenset("ﺳﻼﻡ")
    assert needed("سل" + ZWNJ + "ام", "raqm") == frozenset("سلام")


def test_a_large_glyph_is_not_cut(dejavu: Face) -> None:
    """What does not fit the canvas that was guessed is measured and drawn again."""
    text = "W" * 30
    run = draw_run(text, dejavu, 30)
    assert abs(run.ink.shape[1] - 30 * draw_run("W", dejavu, 30).ink.shape[1]) < 60


def test_what_a_font_only_promises_is_refused(tmp_path_factory: pytest.TempPathFactory, dejavu: Face) -> None:
    folder = tmp_path_factory.mktemp("broken")
    font = TTFont(DEJAVU)
    for table in font["cmap"].tables:
        table.cmap[ord("ж")] = ".notdef"
        table.cmap[ord("ы")] = "space"
        table.cmap[0x4E00] = font.getBestCmap()[ord("x")]
    font.save(folder / "lies.ttf")
    (face,) = scan_fonts([folder / "lies.ttf"]).faces
    assert draws(face, frozenset("x一"), "own")
    assert not draws(face, frozenset("ы"), "own")
    assert not draws(dejavu, frozenset("ж"), "own")


def test_fonts_of_ornaments_and_capitals_are_no_latin(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("odd")
    font = TTFont(DEJAVU)
    cmap = font.getBestCmap()
    for table in font["cmap"].tables:
        table.cmap |= {ord(c): cmap[ord(c.upper())] for c in "abcdefghijklmnopqrstuvwxyz"}
    font.save(folder / "capitals.ttf")
    for table in font["cmap"].tables:
        table.cmap |= {ord(c): cmap[ord("=")] for c in "odBOlT"}
    font.save(folder / "ornaments.ttf")
    for face in scan_fonts([folder]).faces:
        assert not draws(face, frozenset("a"), "own")


def test_a_font_that_does_not_join_draws_no_persian(tmp_path_factory: pytest.TempPathFactory) -> None:
    """All forms are there, but each is the isolated one."""
    folder = tmp_path_factory.mktemp("apart")
    font = TTFont(DEJAVU)
    del font["GSUB"]
    cmap = font.getBestCmap()
    for table in font["cmap"].tables:
        table.cmap |= {code: cmap[ord("ﺱ")] for code in range(0xFEB1, 0xFEB5)}
    font.save(folder / "apart.ttf")
    (face,) = scan_fonts([folder / "apart.ttf"]).faces
    assert face.joins  # as far as its tables say
    assert not draws(face, frozenset("س"), "own")


def test_raqm_is_taken_only_with_fribidi(monkeypatch: pytest.MonkeyPatch) -> None:
    best_engine.cache_clear()
    monkeypatch.setattr(features, "check", lambda name: name == "raqm")
    assert best_engine() == "own"
    monkeypatch.setattr(features, "check", lambda name: True)
    best_engine.cache_clear()
    assert best_engine() == "raqm"
    best_engine.cache_clear()
