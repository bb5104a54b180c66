"""The quickstart's bundled archive: the generator, and the images that lie in the package."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFont

import ocrsmith.nano
from ocrsmith.errors import InputError
from ocrsmith.nano import archive_domain
from ocrsmith.nano.alphabet import alphabet
from ocrsmith.nano.archive_domain import FACES, make_archive, make_dossiers
from ocrsmith.nano.font_table import FONTS

SAMPLE = Path(ocrsmith.nano.__file__).parent / "sample_archive"


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """One Latin face that comes with Pillow, for both scripts: enough to draw with."""
    path = tmp_path_factory.mktemp("fonts") / "face.ttf"
    path.write_bytes(ImageFont.load_default(20).path.getvalue())
    return {"latin": [str(path)], "chinese": [str(path)]}


def labels(folder: Path) -> dict[str, str]:
    lines = (folder / "content.md").read_text(encoding="utf-8").splitlines()
    return dict(line.split("\t") for line in lines if not line.startswith("#"))


def test_half_the_lines_are_chinese_and_half_english_or_french() -> None:
    dossiers = make_dossiers()
    counts = dict.fromkeys(("en", "fr", "zh"), 0)
    for dossier in dossiers:
        counts[dossier.language] += len(dossier.lines)
    assert len(dossiers) >= 24
    assert counts["zh"] == counts["en"] + counts["fr"] == 180
    assert counts["en"] == counts["fr"]


@pytest.mark.parametrize("seed", [1, 2, archive_domain.SEED])
def test_lines_are_short_within_the_alphabet_and_not_repeated(seed: int) -> None:
    known = set(alphabet())
    plain = []
    for dossier in make_dossiers(seed=seed):
        for line in dossier.lines:
            assert len(line.text) <= (22 if dossier.language == "zh" else 45), line.text
            assert set(line.text) <= known, line.text
            assert line.text == line.text.strip()
            if all(len(cell) == 1 for cell in line.cells) and len(line.cells) == len(line.text):
                plain.append(line.text)
    assert len(set(plain)) == len(plain)


def test_what_is_typed_differs_from_its_transcription_only_by_the_archives_habits() -> None:
    struck = spaced = 0
    for dossier in make_dossiers():
        for line in dossier.lines:
            typed = "".join(cell[0] for cell in line.cells)
            if len(typed) != len(line.text):
                assert typed.replace(" ", "") == line.text
                spaced += 1
                continue
            for cell, written in zip(line.cells, line.text, strict=True):
                assert (written in "x×") if len(cell) == 2 else (written,) == cell
            struck += any(len(cell) == 2 for cell in line.cells)
    assert 0 < struck < 60
    assert 0 < spaced < 40


def test_one_seed_gives_the_same_archive(tmp_path: Path, faces: dict[str, list[str]]) -> None:
    dossiers = make_dossiers(3, 2)
    for name in ("a", "b"):
        make_archive(tmp_path / name, dossiers=dossiers, faces=faces)
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*.*"))
    assert len(files) == 7
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    make_archive(tmp_path / "c", dossiers=dossiers, faces=faces, seed=2)
    assert (tmp_path / "c" / files[1]).read_bytes() != (tmp_path / "a" / files[1]).read_bytes()


def test_strength_takes_contrast_from_the_ink(tmp_path: Path, faces: dict[str, list[str]]) -> None:
    def contrast(strength: float) -> float:
        out = tmp_path / str(strength)
        make_archive(out, dossiers=make_dossiers(12, 2), faces=faces, strength=strength)
        shades = [np.asarray(Image.open(path), float) for path in (out / "images").iterdir()]
        return float(np.mean([np.percentile(s, 50) - np.percentile(s, 2) for s in shades]))

    assert contrast(0.2) > contrast(0.7) > contrast(1.2)


def test_neither_the_typewriters_nor_the_chinese_faces_are_trained_on() -> None:
    trained = {row.file for row in FONTS if row.split == "train"}
    assert not trained & {face.file for face in FACES}


def test_missing_faces_name_their_packages(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(archive_domain, "_FONT_ROOTS", (str(tmp_path),))
    with pytest.raises(InputError) as caught:
        archive_domain.find_faces()
    assert "fonts-courier-prime" in str(caught.value.mend)


def test_the_bundled_archive_is_what_the_generator_writes() -> None:
    expected = {
        f"images/{dossier.name}_line-{number:02d}.jpg": line.text
        for dossier in make_dossiers()
        for number, line in enumerate(dossier.lines, start=1)
    }
    assert labels(SAMPLE) == expected
    assert {f"images/{path.name}" for path in (SAMPLE / "images").iterdir()} == set(expected)


def test_the_bundled_images_are_small_gray_jpegs() -> None:
    total = 0
    for path in (SAMPLE / "images").iterdir():
        total += path.stat().st_size
        assert path.stat().st_size <= 6000, path.name
        with Image.open(path) as image:
            assert (image.format, image.mode) == ("JPEG", "L")
            assert image.height >= 20
            assert image.width >= 40
    assert total <= 2_500_000


def test_the_bundled_archive_splits_by_document(tmp_path: Path) -> None:
    from ocrsmith.datasets import BuildSettings, build_dataset, open_dataset

    build_dataset([str(SAMPLE / "content.md")], tmp_path / "data", BuildSettings(group_by="stem-prefix:_"))
    data = open_dataset(tmp_path / "data")
    found = {split: {sample.group for sample in data.iter_samples(split)} for split in ("train", "val", "test")}
    assert sum(data.count(split) for split in found) == 360
    assert all(found.values())
    assert not found["train"] & found["test"]
    assert not found["train"] & found["val"]


def test_the_quickstarts_split_tests_all_three_languages(tmp_path: Path) -> None:
    from ocrsmith.datasets import BuildSettings, build_dataset, open_dataset

    languages = {dossier.name: dossier.language for dossier in make_dossiers()}
    settings = BuildSettings(group_by="stem-prefix:_", splits="rest/36/72")
    build_dataset([str(SAMPLE / "content.md")], tmp_path / "data", settings)
    tested = {
        sample.group.rpartition("/")[2] for sample in open_dataset(tmp_path / "data").iter_samples("test")
    }
    assert {languages[name] for name in tested} == {"en", "fr", "zh"}
