"""The text source, the renderer and the stream, on small word lists and a few real fonts."""

from __future__ import annotations

import gzip
import json
import pickle
import random
from pathlib import Path

import numpy as np
import pytest
from fontTools.ttLib import TTFont
from PIL import Image, ImageDraw, ImageFont

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


PART = Path(__file__).parent / "fonts" / "dejavu_sans_part.ttf"
"""Latin and Persian of DejaVu Sans: letters, their presentation forms, and the joining features."""


@pytest.fixture(scope="module")
def fonts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two collected faces: DejaVu Sans as it is, and one whose Persian joins by its features alone."""
    folder = tmp_path_factory.mktemp("fonts")
    joining = TTFont(PART)
    for table in joining["cmap"].tables:
        table.cmap = {code: glyph for code, glyph in table.cmap.items() if code < 0xFB50}
    joining.save(folder / "joining.ttf")
    faces = {"DejaVuSans.ttf": PART, "Lateef-Regular.ttf": folder / "joining.ttf"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ocrsmith.nano.fonts._installed", lambda row: faces[row.file])
        collect_fonts(folder, [row for row in FONTS if row.file in faces])
    return folder


@pytest.fixture(scope="module")
def all_scripts(fonts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same fonts said to draw every character: hanzi come out as empty boxes, which is enough to stream."""
    folder = tmp_path_factory.mktemp("all")
    rows = json.loads((fonts / "fonts.json").read_text(encoding="utf-8"))
    for row in rows:
        (folder / row["file"]).write_bytes((fonts / row["file"]).read_bytes())
    rows = [{**row, "scripts": "lzf", "missing": ""} for row in rows]
    (folder / "fonts.json").write_text(json.dumps(rows), encoding="utf-8")
    return folder


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
    joining = next(f for f in load_fonts(fonts) if f.family == "lateef")
    assert joining.draws("ﺳﻼﻡﭘﮋﮔﭽﮏﯾ")
    assert not joining.draws("中")


@pytest.mark.parametrize("family", ["dejavu-sans", "lateef"])
@pytest.mark.parametrize(
    ("text", "drawn"),
    [
        ("سلام", "ﻡﻼﺳ"),
        ("کتاب ۱۲۳", "۱۲۳ ﺏﺎﺘﮐ"),
        ("پژوهش", "ﺶﻫﻭﮋﭘ"),
        (f"می{ZWNJ}رود (الف)", "(ﻒﻟﺍ) ﺩﻭﺭﯽﻣ"),
    ],
)
def test_persian_is_drawn_joined_and_right_to_left(fonts: Path, family: str, text: str, drawn: str) -> None:
    """`drawn`: the font's own presentation forms from left to right, chosen by hand."""
    ours = render_text(text, font_path(fonts, family), random.Random(0), Style(40, ink=0))
    face = ImageFont.truetype(str(PART), 40, layout_engine=ImageFont.Layout.BASIC)
    canvas = Image.new("L", (1200, 160))
    ImageDraw.Draw(canvas).text((40, 100), drawn, fill=255, font=face, anchor="ls")
    mine = Image.fromarray(255 - ours)
    assert np.array_equal(mine.crop(mine.getbbox()), canvas.crop(canvas.getbbox()))


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


def test_the_stream_pickles_repeats_and_follows_the_level(words: Path, all_scripts: Path) -> None:
    stream = LineStream(all_scripts, words, view_size=64, seed=1, level=0.0)
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
