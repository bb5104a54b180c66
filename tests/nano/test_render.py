"""The text source, the renderer and the stream, on small word lists and a few real fonts."""

from __future__ import annotations

import gzip
import pickle
import random
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("cv2")

from ocrsmith.errors import InputError
from ocrsmith.nano.alphabet import ZWNJ, alphabet
from ocrsmith.nano.corpus import SCRIPTS, TextSource
from ocrsmith.nano.degrade import degrade
from ocrsmith.nano.font_table import FONTS
from ocrsmith.nano.fonts import collect_fonts, load_fonts
from ocrsmith.nano.render import LineStream, Style, render_line, render_text, stretch, visual_text

WORDS = {
    "en": "the of house Reading a is cat".lower().split(),
    "fr": ["le", "la", "l", "été", "qu", "où", "garçon", "œuvre"],
    "zh": ["的", "是", "我们", "中国", "文字", "识别", "鑫", "亍"],
    "fa": ["این", "است", "کتاب", "سلام", "خانه", "می", "روز", "دنیا"],
}


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("words") / "words.txt.gz"
    lines = [f"{lang}\t{w}\t{700 - 20 * i}" for lang, ws in WORDS.items() for i, w in enumerate(ws)]
    path.write_bytes(gzip.compress("\n".join(lines).encode()))
    return path


@pytest.fixture(scope="module")
def fonts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("fontTools")
    wanted = {"DejaVuSans.ttf", "gbsn00lp.ttf", "Lateef-Regular.ttf"}
    out = tmp_path_factory.mktemp("fonts")
    try:
        collect_fonts(out, [row for row in FONTS if row.file in wanted])
    except InputError as error:
        pytest.skip(f"font packages are not installed: {error.mend}")
    return out


def font_path(fonts: Path, family: str) -> Path:
    return next(f.path for f in load_fonts(fonts) if f.family == family)


@pytest.mark.parametrize("script", SCRIPTS)
def test_lines_keep_to_length_alphabet_and_spacing(words: Path, script: str) -> None:
    source = TextSource(words, seed=3)
    known = set(alphabet())
    for length in [1, 2, 5, 20, 60] * 60:
        text = source.line(script, length, alphabet_share=0.3)
        assert 1 <= len(text) <= length
        assert set(text) <= known
        assert text == text.strip(" " + ZWNJ)
        assert "  " not in text
        assert "\n" not in text


def test_one_seed_gives_one_series_of_lines(words: Path) -> None:
    first, second = TextSource(words, seed=5), TextSource(words, seed=5)
    assert [first.line(s, 30) for s in SCRIPTS * 9] == [second.line(s, 30) for s in SCRIPTS * 9]


def test_a_limit_on_hanzi_is_kept(words: Path) -> None:
    source = TextSource(words, seed=5, hanzi_limit=10)
    seen = {c for _ in range(300) for c in source.line("chinese", 20) if "\u4e00" <= c <= "\u9fff"}
    assert len(seen - set("年月日元万第号")) <= 10


def test_missing_words_and_fonts_say_how_to_make_them(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="word list"):
        TextSource(tmp_path / "none.gz")
    with pytest.raises(InputError, match="collected fonts"):
        load_fonts(tmp_path)


def test_no_font_family_is_on_both_sides() -> None:
    sides = {split: {r.family for r in FONTS if r.split == split} for split in ("train", "heldout")}
    assert not sides["train"] & sides["heldout"]
    for script in "lzf":
        assert len({r.family for r in FONTS if r.split == "heldout" and script in r.scripts}) >= 2


def test_a_font_without_presentation_forms_is_given_them(fonts: Path) -> None:
    lateef = next(f for f in load_fonts(fonts) if f.family == "lateef")
    assert lateef.draws("ﺳﻼﻡﭘﮋﮔﭽﮏﯾ")
    assert not lateef.draws("中")


def test_persian_looks_as_a_shaping_engine_draws_it(fonts: Path) -> None:
    from PIL import Image, ImageDraw, ImageFont, features

    if not features.check("raqm"):
        pytest.skip("Pillow has no raqm here")
    path = font_path(fonts, "dejavu-sans")
    system = Path("/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf")
    text = "سلام کتاب ۱۲۳ پژوهش"
    ours = render_text(text, path, random.Random(0), Style(40, ink=0))
    engine = ImageFont.truetype(str(system), 40, layout_engine=ImageFont.Layout.RAQM)
    canvas = Image.new("L", (1200, 160))
    ImageDraw.Draw(canvas).text(
        (40, 100), text, fill=255, font=engine, anchor="ls", direction="rtl", language="fa"
    )
    theirs = canvas.crop(canvas.getbbox())
    mine = Image.fromarray(255 - ours)
    mine = mine.crop(mine.getbbox())
    assert abs(mine.width - theirs.width) <= 0.02 * theirs.width
    a, b = (np.asarray(i.resize((600, 60))).astype(float).ravel() for i in (mine, theirs))
    assert np.corrcoef(a, b)[0, 1] > 0.8


@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0])
def test_rendering_is_deterministic_and_leaves_contrast(fonts: Path, strength: float) -> None:
    path = font_path(fonts, "dejavu-sans")
    for seed in range(20):
        first = render_line("Hello, wörld 12", path, random.Random(seed), strength)
        assert first.dtype == np.uint8
        assert np.array_equal(first, render_line("Hello, wörld 12", path, random.Random(seed), strength))
        assert first.max() - first.min() > 40
        assert stretch(first, 96).shape == (96, 96)


def test_no_damage_leaves_the_image_as_it_is() -> None:
    image = np.full((20, 30), 200, np.uint8)
    assert degrade(image, random.Random(0), 0.0, 20) is image


def test_damage_works_on_the_smallest_images() -> None:
    for seed in range(200):
        assert degrade(np.full((3, 2), 200, np.uint8), random.Random(seed), 1.0, 16).size


def test_visual_text_of_a_paragraph_follows_its_direction() -> None:
    assert visual_text(f"می{ZWNJ}رود\n۱۲: الف") == "دوریم\nفلا :۱۲"


def test_the_stream_pickles_repeats_and_follows_the_level(words: Path, fonts: Path) -> None:
    stream = LineStream(fonts, words, view_size=64, seed=1, level=0.0)
    samples = [s for s, _ in zip(stream, range(40), strict=False)]
    again = [s for s, _ in zip(pickle.loads(pickle.dumps(stream)), range(40), strict=False)]
    assert [s.text for s in samples] == [s.text for s in again]
    assert all(np.array_equal(a.view, b.view) for a, b in zip(samples, again, strict=True))
    assert {s.view.shape for s in samples} == {(64, 64)}
    assert max(len(s.text) for s in samples) <= 3
    stream.level = 1.0
    assert max(len(s.text) for s, _ in zip(stream, range(40), strict=False)) > 20
    other = [s.text for s, _ in zip(stream.for_worker(3), range(10), strict=False)]
    assert other != [s.text for s, _ in zip(stream.for_worker(4), range(10), strict=False)]
