"""Finding fonts: folders, the cache, files that are none, and the choice by coverage."""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path
from typing import Any

import pytest
from fontTools.ttLib import TTCollection, TTFont

from ocrsmith.datasets.synth import font_index
from ocrsmith.datasets.synth.faces import FaceSet
from ocrsmith.datasets.synth.font_index import cache_file, font_folders, scan_fonts
from ocrsmith.errors import InputError

from .conftest import CJK, DEJAVU


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A font folder with a subfolder and a file that is no font."""
    root = tmp_path / "fonts"
    (root / "deep").mkdir(parents=True)
    (root / "latin.ttf").write_bytes(DEJAVU.read_bytes())
    (root / "deep" / "chinese.OTF").write_bytes(CJK.read_bytes())
    (root / "broken.ttf").write_bytes(b"\x00\x01\x00\x00 no font at all")
    (root / "readme.txt").write_text("no font")
    return root


def test_a_folder_is_searched_and_what_is_broken_is_told(folder: Path) -> None:
    seen: list[tuple[int, int]] = []
    scan = scan_fonts([folder], lambda done, total: seen.append((done, total)))
    assert [Path(face.path).name for face in scan.faces] == ["chinese.OTF", "latin.ttf"]
    ((path, why),) = scan.unreadable
    assert path.endswith("broken.ttf")
    assert "cannot be read" in why
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_an_index_holds_what_the_font_has(folder: Path) -> None:
    faces = FaceSet(scan_fonts([folder]).faces)
    cmap = TTFont(DEJAVU).getBestCmap()
    latin = 1 << next(i for i, face in enumerate(faces.faces) if face.path.endswith("latin.ttf"))
    for point in (*range(0x20, 0x700), 0x4E00, 0xFEDF):
        assert bool(faces.covering(chr(point)) & latin) == (point in cmap) or chr(point).isspace()


def test_files_are_read_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = scan_fonts([folder])
    read: list[str] = []
    original = font_index._read_file

    def note(file: str) -> dict[str, Any]:
        read.append(file)
        return original(file)

    monkeypatch.setattr(font_index, "_read_file", note)
    assert scan_fonts([folder]) == first
    assert read == []
    (folder / "latin.ttf").write_bytes(CJK.read_bytes())
    assert [face.family for face in scan_fonts([folder]).faces] == ["Noto Sans CJK SC"] * 2
    assert [Path(file).name for file in read] == ["latin.ttf"]


@pytest.mark.parametrize(
    "damage",
    ["", "{", '{"version": 1, "files": {"%s": {"stamp": [1, 2]}}}', '{"version": 99, "files": {}}', "[]"],
)
def test_a_damaged_cache_is_made_again(folder: Path, damage: str) -> None:
    first = scan_fonts([folder])
    cache_file().write_text(damage.replace("%s", str(folder / "latin.ttf")))
    assert scan_fonts([folder]) == first
    assert len(json.loads(cache_file().read_text())["files"]) == 3


def test_a_cache_that_cannot_be_written_does_not_matter(
    folder: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_cache.write_text("a file where the folder should be")
    assert len(scan_fonts([folder]).faces) == 2


def test_a_font_that_was_named_must_be_one(folder: Path) -> None:
    with pytest.raises(InputError) as caught:
        scan_fonts([folder / "broken.ttf"])
    assert caught.value.place == str(folder / "broken.ttf")
    assert ".ttf, .otf, .ttc" in str(caught.value.mend)
    with pytest.raises(InputError, match="There is no font file or folder"):
        scan_fonts([folder / "absent.ttf"])


def test_symbols_are_no_letters(folder: Path) -> None:
    font = TTFont(DEJAVU)
    font["OS/2"].panose.bFamilyType = 5
    font.save(folder / "latin.ttf")
    with pytest.raises(InputError, match="no outlines of letters"):
        scan_fonts([folder / "latin.ttf"])


def test_the_faces_of_a_collection_are_told_apart(tmp_path: Path) -> None:
    collection = TTCollection()
    collection.fonts = [TTFont(DEJAVU), TTFont(DEJAVU)]
    collection.save(tmp_path / "two.ttc")
    assert [face.number for face in scan_fonts([tmp_path / "two.ttc"]).faces] == [0, 1]


def test_the_systems_folders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "data" / "fonts").mkdir(parents=True)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_DATA_DIRS", str(tmp_path / "absent"))
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    assert font_folders() == [tmp_path / "data" / "fonts"]
    monkeypatch.setattr(sys, "platform", "win32")
    (tmp_path / "win" / "Fonts").mkdir(parents=True)
    monkeypatch.setenv("WINDIR", str(tmp_path / "win"))
    assert font_folders() == [tmp_path / "win" / "Fonts"]
    monkeypatch.setattr(sys, "platform", "darwin")
    (tmp_path / "Library" / "Fonts").mkdir(parents=True)
    assert tmp_path / "Library" / "Fonts" in font_folders()


def test_only_a_face_that_has_all_is_chosen(faces: FaceSet) -> None:
    rng = random.Random(1)
    for text, name in (("春天abc", "Noto Sans CJK SC"), ("été", "DejaVu Sans"), ("سلام", "DejaVu Sans")):
        chosen = {faces.choose(frozenset(text), rng, "own") for _ in range(20)}
        assert {face.family for face in chosen if face} == {name}
    assert {face.family for _ in range(40) if (face := faces.choose(frozenset("abc"), rng, "own"))} == {
        *("Noto Sans CJK SC", "DejaVu Sans")
    }
    assert faces.choose(frozenset("春é"), rng, "own") is None


def test_typewriter_faces_are_preferred_where_there_are_some(tmp_path: Path) -> None:
    font = TTFont(DEJAVU)
    font["post"].isFixedPitch = 1
    font.save(tmp_path / "mono.ttf")
    both = FaceSet(scan_fonts([tmp_path / "mono.ttf", DEJAVU, CJK]).faces)
    rng = random.Random(1)
    assert {
        face.fixed for _ in range(20) if (face := both.choose(frozenset("ab"), rng, "own", fixed=True))
    } == {True}
    assert both.choose(frozenset("春"), rng, "own", fixed=True) is not None
