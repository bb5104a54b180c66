"""The lines that nano is judged on."""

from __future__ import annotations

import csv
import gzip
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFont

from ocrsmith.errors import InputError
from ocrsmith.nano.alphabet import alphabet
from ocrsmith.nano.eval_set import EvalText, eval_texts, main, make_eval_set, make_views
from ocrsmith.nano.fonts import shaped_characters

ENGLISH = [EvalText("en", "The ferry leaves at seven."), EvalText("en", "Invoice No. 70415")]


@pytest.fixture(scope="module")
def fonts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A font folder as `collect_fonts` leaves it, with one Latin face that comes with Pillow."""
    folder = tmp_path_factory.mktemp("fonts")
    (folder / "face.ttf").write_bytes(ImageFont.load_default(20).path.getvalue())
    missing = "".join(c for c in {*alphabet(), *shaped_characters()} if not c.isascii())
    row = {
        "file": "face.ttf",
        "family": "face",
        "package": "none",
        "scripts": "l",
        "split": "heldout",
        "missing": missing,
    }
    (folder / "fonts.json").write_text(json.dumps([row]), encoding="utf-8")
    return folder


def test_about_a_hundred_different_lines_of_each_language() -> None:
    texts = eval_texts()
    assert Counter(text.language for text in texts) == {"en": 100, "fr": 100, "zh": 100, "fa": 100}
    assert len({text.text for text in texts}) == len(texts)


def test_lines_are_short_and_within_the_alphabet() -> None:
    known = set(alphabet())
    for item in eval_texts():
        assert set(item.text) <= known, item
        assert len(item.text) <= (35 if item.language == "zh" else 60), item
        assert item.text == item.text.strip()


def test_a_character_outside_the_alphabet_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "texts.tsv"
    path.write_text("language\ttext\nen\tgood\nen\tБad\n", encoding="utf-8")
    with pytest.raises(InputError, match="Б") as caught:
        eval_texts(path)
    assert "line 3" in str(caught.value.place)


@pytest.mark.parametrize("content", [None, b"language\ttext\nen\t\xff\xfe\n", b"language\ttext\nxx\thello\n"])
def test_a_bad_file_of_texts_is_an_input_error(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "texts.tsv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError):
        eval_texts(path)


def test_the_labels_point_at_readable_gray_line_crops(tmp_path: Path, fonts: Path) -> None:
    make_eval_set(tmp_path, fonts, texts=ENGLISH)
    with (tmp_path / "labels.tsv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert [(row["text"], row["language"], row["font"]) for row in rows] == [
        (item.text, "en", "face") for item in ENGLISH
    ]
    for row in rows:
        with Image.open(tmp_path / row["image_path"]) as image:
            assert image.mode == "L"
            assert image.width > image.height >= 10
    content = (tmp_path / "content.md").read_text(encoding="utf-8").splitlines()
    assert [line.split("\t")[1] for line in content if not line.startswith("#")] == [t.text for t in ENGLISH]


def test_one_seed_gives_the_same_images_whatever_stands_before(tmp_path: Path, fonts: Path) -> None:
    first = make_eval_set(tmp_path / "a", fonts, texts=ENGLISH)
    second = make_eval_set(tmp_path / "b", fonts, texts=ENGLISH[1:])
    one, other = tmp_path / "a" / first[1][0], tmp_path / "b" / second[0][0]
    assert one.read_bytes() == other.read_bytes()


def test_a_text_that_no_font_draws_is_an_input_error(tmp_path: Path, fonts: Path) -> None:
    with pytest.raises(InputError, match="no font"):
        make_eval_set(tmp_path, fonts, texts=[EvalText("zh", "渡船")])


def test_missing_fonts_say_how_to_get_them(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        make_eval_set(tmp_path / "out", tmp_path, texts=ENGLISH)
    assert "ocrsmith.nano.fonts" in str(caught.value.mend)


def test_the_dataset_builder_takes_the_labels(tmp_path: Path, fonts: Path) -> None:
    from ocrsmith.datasets import BuildSettings, build_dataset, open_dataset

    make_eval_set(tmp_path / "set", fonts, texts=ENGLISH)
    build_dataset([str(tmp_path / "set" / "labels_en.tsv")], tmp_path / "data", BuildSettings(splits="100/0/0"))
    samples = list(open_dataset(tmp_path / "data").iter_samples("train"))
    assert sorted(sample.text for sample in samples) == sorted(item.text for item in ENGLISH)
    assert {sample.meta["language"] for sample in samples} == {"en"}


def _word_list(folder: Path) -> Path:
    """A word list as `export_words` writes it; zh and fa are needed by the text source, not by the lines."""
    words = {"en": ["ferry", "seven", "the"], "fr": ["et", "sept"], "zh": ["一"], "fa": ["آب"]}
    lines = [f"{language}\t{word}\t500" for language, kept in words.items() for word in kept]
    path = folder / "words.txt.gz"
    path.write_bytes(gzip.compress("\n".join(lines).encode()))
    return path


def test_views_are_what_pretraining_evaluates_on(tmp_path: Path, fonts: Path) -> None:
    words = _word_list(tmp_path)
    out = tmp_path / "new" / "heldout.npz"
    assert make_views(out, fonts, words, lines=3, scripts=["latin"]) == 3
    with np.load(out) as data:
        views, texts, scripts = data["views"], data["texts"].tolist(), data["scripts"].tolist()
    assert (views.shape, views.dtype) == ((3, 512, 512), np.uint8)
    assert scripts == ["latin"] * 3
    assert all(text and set(text) <= set(alphabet()) for text in texts)
    assert all(view.std() > 1 for view in views)  # something is written on each
    again = tmp_path / "again.npz"
    make_views(again, fonts, words, lines=3, scripts=["latin"])
    with np.load(again) as data:
        assert (data["views"] == views).all()
        assert data["texts"].tolist() == texts


def test_views_without_a_word_list_say_how_to_make_one(tmp_path: Path, fonts: Path) -> None:
    with pytest.raises(InputError) as caught:
        make_views(tmp_path / "heldout.npz", fonts, tmp_path / "words.txt.gz", scripts=["latin"])
    assert "ocrsmith.nano.words" in str(caught.value.mend)
    assert not (tmp_path / "heldout.npz").exists()


def test_the_command_asks_for_something_to_write(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["eval_set"])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    assert "--views" in capsys.readouterr().err
