"""Synthetic data as a source: the same seed gives the same bytes anywhere; what cannot be drawn is told."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

import pytest
from PIL import ImageFont

from ocrsmith.datasets.importers import Candidate
from ocrsmith.datasets.synth import SynthSettings, synth_source
from ocrsmith.datasets.synth.texts import clean, read_word_file, wordfreq_list
from ocrsmith.errors import DataError, InputError, OcrsmithError, SettingsError
from ocrsmith.images import open_image
from ocrsmith.records import Excluded

from .conftest import CHINESE, CJK, DEJAVU, LATIN, PERSIAN, TextMaker

ALL = ("lines", "paragraphs", "forms", "receipts", "tables")
LOOKS = ("clean", "scan", "fax", "photo", "archive", "typewriter")


@pytest.fixture
def settings(texts: TextMaker) -> SynthSettings:
    return SynthSettings(
        texts=(texts([*CHINESE, *PERSIAN, *LATIN]),),
        fonts=(DEJAVU, CJK),
        kinds=ALL,
        looks=LOOKS,
        count=40,
        vertical=0.3,
        seed=7,
    )


def split(items: Iterable[Candidate | Excluded]) -> tuple[list[Candidate], list[Excluded]]:
    samples: list[Candidate] = []
    left_out: list[Excluded] = []
    for item in items:
        if isinstance(item, Excluded):
            left_out.append(item)
        else:
            samples.append(item)
    return samples, left_out


def digest(items: Iterable[Candidate | Excluded]) -> list[str]:
    return [hashlib.sha256(repr(item).encode()).hexdigest() for item in items]


def test_samples_have_pictures_texts_and_what_was_applied(settings: SynthSettings) -> None:
    source = synth_source(settings, workers=1)
    assert source.rows == 40
    samples, left_out = split(source.read())
    assert left_out == []
    assert len(samples) == 40
    assert {sample.meta["kind"] for sample in samples} == set(ALL)
    assert {sample.meta["look"] for sample in samples} == set(LOOKS)
    assert len({sample.id for sample in samples}) == 40
    for sample in samples:
        assert isinstance(sample.image, bytes)
        width, height = open_image(sample.image).size
        assert min(width, height) >= 10
        assert sample.text
        meta = json.loads(json.dumps(sample.meta))
        assert meta["seed"] == 7
        assert meta["font"] in ("DejaVu Sans Book", "Noto Sans CJK SC")
        assert meta["degradations"] or meta["look"] in ("clean", "scan", "photo")
        for item in meta["degradations"]:
            assert len(item) > 1


def test_samples_of_one_text_are_of_one_group(settings: SynthSettings) -> None:
    samples, _ = split(synth_source(settings, workers=1).read())
    lines = [sample for sample in samples if sample.meta["kind"] == "lines"]
    assert lines
    for sample in lines:
        file, _, line = sample.group.rpartition(":")
        assert file == str(settings.texts[0])
        source = Path(file).read_text(encoding="utf-8").splitlines()[int(line) - 1]
        assert (sample.text or "") in clean(source)


def test_one_seed_gives_the_same_bytes_in_any_process(settings: SynthSettings, tmp_path: Path) -> None:
    """Two processes, one process, and another run with other hashing of strings."""
    first = digest(synth_source(settings, workers=1).read())
    assert digest(synth_source(settings, workers=2).read()) == first
    script = tmp_path / "again.py"
    script.write_text(
        "import hashlib, sys\nfrom pathlib import Path\n"
        "from ocrsmith.datasets.synth import SynthSettings, synth_source\n"
        "texts, *fonts = map(Path, sys.argv[1:])\n"
        f"settings = SynthSettings(texts=(texts,), fonts=tuple(fonts), kinds={ALL}, looks={LOOKS}, count=40,\n"
        "                         vertical=0.3, seed=7)\n"
        "for item in synth_source(settings, workers=1).read():\n"
        "    print(hashlib.sha256(repr(item).encode()).hexdigest())\n"
    )
    done = subprocess.run(
        [sys.executable, str(script), str(settings.texts[0]), str(DEJAVU), str(CJK)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONHASHSEED": "1"},
    )
    assert done.stdout.split() == first


def test_another_seed_gives_others(settings: SynthSettings) -> None:
    one, other = (
        digest(synth_source(SynthSettings(**{**vars(settings), "seed": seed, "count": 5}), workers=1).read())
        for seed in (7, 8)
    )
    assert not set(one) & set(other)


def test_a_sample_needs_none_before_it(settings: SynthSettings, texts: TextMaker) -> None:
    more = texts([*CHINESE, "春é", *LATIN])
    source = synth_source(SynthSettings(**{**vars(settings), "texts": (more,)}), workers=1)
    every = digest(source.read())
    for start in (0, 1, 2, 25, 41):
        items = source.read()
        assert items.skip(start) == start  # type: ignore[attr-defined]
        assert digest(items) == every[start:]
    assert source.read().skip(99) == len(every) == 41  # type: ignore[attr-defined]


def test_more_samples_begin_with_the_same(settings: SynthSettings) -> None:
    few, many = (SynthSettings(**{**vars(settings), "count": count}) for count in (6, 12))
    assert digest(synth_source(few, workers=1).read()) == digest(
        islice(synth_source(many, workers=1).read(), 6)
    )


def test_what_no_font_draws_is_left_out_and_named(texts: TextMaker) -> None:
    path = texts([*LATIN * 40, "a ж b", "春 é"])
    settings = SynthSettings(texts=(path,), fonts=(DEJAVU, CJK), count=20, looks=("clean",))
    samples, left_out = split(synth_source(settings, workers=1).read())
    assert len(samples) == 20
    assert [(item.reason, item.line) for item in left_out] == [("no_font", 121), ("no_font", 122)]
    assert "ж (U+0436)" in left_out[0].detail
    assert "--fonts" in left_out[0].detail
    assert "No single font" in left_out[1].detail
    assert all(item.source == str(path) for item in left_out)


def test_a_script_without_a_font_is_an_error(texts: TextMaker) -> None:
    settings = SynthSettings(texts=(texts([*CHINESE, *LATIN]),), fonts=(DEJAVU,), count=5)
    with pytest.raises(InputError, match=r"no font for Han \(4 of 7 texts\)") as caught:
        list(synth_source(settings, workers=1).read())
    assert caught.value.place == str(DEJAVU)
    assert "fonts-noto-cjk" in str(caught.value.mend)
    assert "--fonts" in str(caught.value.mend)


def test_a_machine_without_fonts(monkeypatch: pytest.MonkeyPatch, texts: TextMaker) -> None:
    monkeypatch.setattr("ocrsmith.datasets.synth.font_index.font_folders", list)
    with pytest.raises(InputError, match="no usable font") as caught:
        synth_source(SynthSettings(texts=(texts(LATIN),)), workers=1)
    assert "apt-get install" in str(caught.value.mend)


def test_without_raqm_the_same_kinds_are_drawn(settings: SynthSettings) -> None:
    source = synth_source(settings, workers=1, engine="own")
    assert any("Raqm" in note for note in source.notes)
    samples, left_out = split(source.read())
    assert len(samples) == 40
    assert left_out == []
    path = settings.texts[0]
    path.write_text("\n".join([*LATIN * 50, "سَلام"]), encoding="utf-8")
    _, left_out = split(synth_source(settings, workers=1, engine="own").read())
    assert ["shaping engine" in item.detail for item in left_out] == [True]


def test_a_broken_font_in_a_given_folder_is_listed(texts: TextMaker, tmp_path: Path) -> None:
    folder = tmp_path / "fonts"
    folder.mkdir()
    (folder / "good.ttf").write_bytes(DEJAVU.read_bytes())
    (folder / "bad.ttf").write_bytes(DEJAVU.read_bytes()[:2000])
    settings = SynthSettings(texts=(texts(LATIN),), fonts=(folder,), count=3)
    samples, left_out = split(synth_source(settings, workers=1).read())
    assert len(samples) == 3
    assert [item.reason for item in left_out] == ["unusable_font"]
    assert left_out[0].source.endswith("bad.ttf")


def test_words_are_drawn_by_their_frequency(texts: TextMaker) -> None:
    words = texts(["the\t900", "committee\t100"], "words.tsv")
    settings = SynthSettings(words=(words,), fonts=(DEJAVU,), count=60, looks=("clean",))
    samples, _ = split(synth_source(settings, workers=1).read())
    text = " ".join(sample.text or "" for sample in samples).lower()
    assert 4 < text.count("the") / text.count("committee") < 20
    assert any(char.isdigit() for char in text), "numbers and dates stand between the words"


@pytest.mark.parametrize("line", ["word", "word\tmany", "word\t0", "\t3", "word\tnan"])
def test_a_bad_line_of_words_is_named(texts: TextMaker, line: str) -> None:
    path = texts(["good\t3", line], "words.tsv")
    with pytest.raises(DataError, match="no word with a count") as caught:
        read_word_file(path)
    assert caught.value.place == f"{path}, line 2"
    assert repr(line) in caught.value.problem
    assert "word<tab>count" in str(caught.value.mend)


def test_wordfreq_is_named_with_its_licence(texts: TextMaker) -> None:
    source = synth_source(SynthSettings(wordfreq=("en",), fonts=(DEJAVU,), count=2), workers=1)
    assert any("CC BY-SA 4.0" in note for note in source.notes)
    assert len(split(source.read())[0]) == 2
    with pytest.raises(SettingsError, match="no language 'xx'") as caught:
        wordfreq_list("xx")
    assert "en" in str(caught.value.mend)


def test_texts_of_a_dataset_can_be_drawn(tmp_path: Path, texts: TextMaker) -> None:
    (tmp_path / "labels.tsv").write_text("image\ttext\na.png\tThe committee met\nb.png\tRoom 12\n")
    settings = SynthSettings(texts=(tmp_path / "labels.tsv",), fonts=(DEJAVU,), count=6, looks=("clean",))
    samples, _ = split(synth_source(settings, workers=1).read())
    assert {sample.text for sample in samples} <= {"The committee met", "Room 12", "Room", "12", "met"} | {
        *("The committee", "committee met", "committee", "The")
    }


@pytest.mark.parametrize(
    ("content", "problem"),
    [(b"", "empty"), (b"\n \n\t\n", "no text"), (b"\xc4\xe3\xba\xc3\xca\xc0\xbd\xe7\n", "not utf-8"),
     (b"\x89PNG\r\n\x1a\n", "PNG")],
)  # fmt: skip
def test_a_bad_file_of_texts(tmp_path: Path, content: bytes, problem: str) -> None:
    path = tmp_path / "bad.txt"
    path.write_bytes(content)
    with pytest.raises(DataError, match=problem) as caught:
        list(synth_source(SynthSettings(texts=(path,), fonts=(DEJAVU,)), workers=1).read())
    assert str(path) in str(caught.value.place)


def test_a_file_of_texts_that_is_not_there(tmp_path: Path) -> None:
    settings = SynthSettings(texts=(tmp_path / "none.txt",), fonts=(DEJAVU,))
    with pytest.raises(DataError, match="There is no file or folder"):
        list(synth_source(settings, workers=1).read())


def test_gbk_texts_can_be_named(tmp_path: Path) -> None:
    path = tmp_path / "gbk.txt"
    path.write_bytes("你好世界\n".encode("gb18030"))
    settings = SynthSettings(texts=(path,), fonts=(CJK,), count=1, encoding="gb18030", looks=("clean",))
    ((sample,), _) = split(synth_source(settings, workers=1).read())
    assert sample.text == "你好世界"


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"count": 0}, "--count"),
        ({"count": -5}, "--count"),
        ({"kinds": ("letters",)}, "--kind"),
        ({"looks": ("scann",)}, "--look"),
        ({"strength": 1.5}, "--strength"),
        ({"strength": float("nan")}, "--strength"),
        ({"vertical": -0.1}, "--vertical"),
        ({"emphasis": 2.0}, "--emphasis"),
        ({"language": "xx"}, "--language"),
        ({"texts": ()}, "--texts"),
    ],
)
def test_a_setting_that_cannot_be(change: dict[str, object], place: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        SynthSettings(**{"texts": (tmp_path,), **change})  # type: ignore[arg-type]
    assert caught.value.place == place
    assert caught.value.mend


def test_what_cannot_be_seen_is_not_in_the_text() -> None:
    assert clean("\ufeff a\u200b b\t\u00a0c\u200e ") == "a b c"
    assert clean("می\u200cخواهم\u200c") == "می\u200cخواهم"
    assert clean("cafe\u0301") == "café"


def test_emphasised_characters_without_a_font_are_named(texts: TextMaker) -> None:
    chars = texts(["0", "ж"], "chars.txt")
    settings = SynthSettings(texts=(texts(LATIN),), fonts=(DEJAVU,), chars=(chars,), count=30, looks=("clean",))
    samples, left_out = split(synth_source(settings, workers=1).read())
    assert [(item.reason, item.source) for item in left_out] == [("no_font", str(chars))]
    with_it = [sample for sample in samples if "0" in (sample.text or "")]
    assert len(with_it) >= 10
    assert {sample.meta.get("emphasised") for sample in samples} == {"0", None}


def test_a_glyph_that_freetype_refuses_costs_that_sample_alone(
    texts: TextMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("raster overflow")

    settings = SynthSettings(texts=(texts(LATIN),), fonts=(DEJAVU,), count=2)
    source = synth_source(settings, workers=1)
    monkeypatch.setattr("ocrsmith.datasets.synth.sheet.draw_run", refuse)
    samples, left_out = split(source.read())
    assert samples == []
    assert ["raster overflow" in item.detail for item in left_out] == [True, True]


def die(begin: int, end: int) -> None:
    os._exit(1)


def test_a_process_that_dies_ends_with_a_clear_line(texts: TextMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ocrsmith.datasets.synth.source._make", die)
    settings = SynthSettings(texts=(texts(LATIN),), fonts=(DEJAVU,), count=2)
    with pytest.raises(OcrsmithError, match="ended before its time"):
        list(synth_source(settings, workers=2).read())


def test_stopping_early_leaves_nothing(
    settings: SynthSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = set(tmp_path.iterdir())
    items = synth_source(settings, workers=1).read()
    next(iter(items))
    items.close()  # type: ignore[attr-defined]
    assert set(tmp_path.iterdir()) - before <= {tmp_path / "cache"}


def test_pillows_default_font_is_enough_for_ascii(tmp_path: Path, texts: TextMaker) -> None:
    """Any font serves; this one comes with Pillow."""
    (tmp_path / "aileron.ttf").write_bytes(ImageFont.load_default(20).path.getvalue())  # type: ignore[union-attr]
    settings = SynthSettings(texts=(texts(["Room 12"]),), fonts=(tmp_path / "aileron.ttf",), count=3)
    assert len(split(synth_source(settings, workers=1).read())[0]) == 3
