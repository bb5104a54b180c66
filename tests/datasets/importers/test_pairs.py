"""Folders of images with text files."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from ocrsmith.datasets.importers import pairs
from ocrsmith.datasets.importers.base import Candidate, ImportOptions
from ocrsmith.datasets.importers.pairs import FORMAT
from ocrsmith.errors import DataError
from ocrsmith.records import Excluded


def make(folder: Path, *files: str) -> Path:
    """Text files hold their own name."""
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name, encoding="utf-8")
    return folder


def read(folder: Path, **options: Any) -> tuple[list[tuple[str, str | None]], list[tuple[str, str]]]:
    """(path, text) of the candidates, (path, reason) of what was left out."""
    found = list(FORMAT.open(folder, ImportOptions(**options)).read())
    good = [(item.image_path, item.text) for item in found if isinstance(item, Candidate)]
    return good, [(item.image_path, item.reason) for item in found if isinstance(item, Excluded)]


def test_pairs_of_all_subfolders_in_order(tmp_path: Path) -> None:
    make(tmp_path, "b.png", "b.txt", "a.JPG", "a.gt.txt", "sub/c.tif", "sub/c.txt", "notes.md", ".hidden.png")
    assert read(tmp_path) == ([("a.JPG", "a.gt.txt"), ("b.png", "b.txt"), ("sub/c.tif", "sub/c.txt")], [])
    source = FORMAT.open(tmp_path, ImportOptions())
    assert (source.rows, source.kind, source.root) == (3, "pairs", tmp_path)


def test_what_has_no_partner_goes_to_the_ledger(tmp_path: Path) -> None:
    make(tmp_path, "a.png", "a.txt", "b.png", "c.txt", "sub/a.png", "d/b.gt.txt")
    good, bad = read(tmp_path)
    assert good == [("a.png", "a.txt")]
    assert sorted(bad) == [(name, "unpaired") for name in ("b.png", "c.txt", "d/b.gt.txt", "sub/a.png")]


def test_the_ground_truth_comes_before_other_text(tmp_path: Path) -> None:
    make(tmp_path, "a.png", "a.txt", "a.gt.txt")
    assert read(tmp_path) == ([("a.png", "a.gt.txt")], [("a.txt", "unpaired")])


def test_dots_in_names(tmp_path: Path) -> None:
    make(tmp_path, "page.1.png", "page.1.gt.txt", "page.2.png", "page.2.txt")
    assert read(tmp_path)[0] == [("page.1.png", "page.1.gt.txt"), ("page.2.png", "page.2.txt")]


def test_composed_and_separate_accents_are_the_same_name(tmp_path: Path) -> None:
    make(tmp_path, unicodedata.normalize("NFC", "é.png"), unicodedata.normalize("NFD", "é.txt"))
    assert len(read(tmp_path)[0]) == 1


def test_texts_lose_mark_and_carriage_returns_only(tmp_path: Path) -> None:
    make(tmp_path, "a.png")
    (tmp_path / "a.txt").write_bytes("\ufeffone\r\ntwo\u2028x\n".encode())
    assert read(tmp_path)[0] == [("a.png", "one\ntwo\u2028x\n")]


def test_unreadable_texts_cost_their_pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairs, "MAX_TEXT_BYTES", 100)
    make(tmp_path, "a.png", "b.png", "c.png", "d.png", "e.png", "e.txt")
    (tmp_path / "a.txt").write_bytes("第一行文字".encode("gb18030"))
    (tmp_path / "b.txt").write_bytes(b"x" * 101)
    (tmp_path / "c.txt").write_bytes(b"x\0y")
    os.mkfifo(tmp_path / "d.txt")
    good, bad = read(tmp_path)
    assert good == [("e.png", "e.txt")]
    assert bad == [
        ("a.png", "malformed"),
        ("b.png", "too_large"),
        ("c.png", "malformed"),
        ("d.png", "unreadable"),
    ]
    found = next(item for item in FORMAT.open(tmp_path, ImportOptions()).read() if isinstance(item, Excluded))
    assert "--encoding gb18030" in found.detail
    assert ("a.png", "第一行文字") in read(tmp_path, encoding="gb18030")[0]


def test_names_that_are_no_unicode_can_be_stored(tmp_path: Path) -> None:
    for name in (b"\xff.png", b"\xff.txt", b"\xfe.png"):
        (tmp_path / os.fsdecode(name)).write_bytes(b"x")
    (good, _), bad = read(tmp_path)[0][0], read(tmp_path)[1]
    assert (good, bad) == ("\\xff.png", [("\\xfe.png", "unpaired")])


def test_links_that_lead_out_are_not_followed(tmp_path: Path) -> None:
    make(tmp_path, "secret.txt", "elsewhere/x.png", "elsewhere/x.txt", "set/a.png", "set/b.png", "set/real.txt")
    (tmp_path / "set/a.txt").symlink_to(tmp_path / "secret.txt")
    (tmp_path / "set/b.txt").symlink_to(tmp_path / "set/real.txt")
    (tmp_path / "set/more").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    good, bad = read(tmp_path / "set")
    assert good == [("b.png", "set/real.txt")]
    assert bad == [("more", "outside"), ("a.png", "outside"), ("real.txt", "unpaired")]
    assert ("a.png", "secret.txt") in read(tmp_path / "set", allow_outside=True)[0]


def test_two_images_of_one_name_share_the_text(tmp_path: Path) -> None:
    make(tmp_path, "a.png", "a.tif", "a.txt")
    assert read(tmp_path)[0] == [("a.png", "a.txt"), ("a.tif", "a.txt")]


def test_recognition(tmp_path: Path) -> None:
    make(tmp_path, "yes/deep/a.png", "yes/deep/a.gt.txt", "no/a.png", "no/x/a.txt", "file.txt")
    assert FORMAT.recognises(tmp_path / "yes", b"")
    assert not FORMAT.recognises(tmp_path / "no", b"")
    assert not FORMAT.recognises(tmp_path / "file.txt", b"file")
    assert not FORMAT.recognises(tmp_path / "none", b"")


def test_a_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="this is a file"):
        FORMAT.open(make(tmp_path, "a.txt") / "a.txt", ImportOptions())
