"""Files found, and names of outputs that never meet."""

from __future__ import annotations

import os
from io import BytesIO
from pathlib import Path

import pytest

from ocrsmith.errors import InputError
from ocrsmith.reading import inputs
from ocrsmith.reading.inputs import find_inputs, spool_stdin

from ..permissions import run_bound
from .conftest import write_png


def names(*given: Path, out: Path | None = None) -> list[str]:
    return [item.name for item in find_inputs(given, out=out).files]


def test_folders_are_read_recursively_in_the_order_of_their_names(tmp_path: Path) -> None:
    for name in ("b/2.png", "b/1.JPG", "a.tif", "b/.hidden.png", ".git/x.png", "b/notes.txt"):
        write_png(tmp_path / f"{name}.png").rename(tmp_path / name)
    found = find_inputs([tmp_path], out=None)
    assert [item.name for item in found.files] == ["a", "b/1", "b/2"]
    assert found.ignored == 1


def test_files_of_one_name_keep_their_folders(tmp_path: Path) -> None:
    first, second = write_png(tmp_path / "a" / "x.png"), write_png(tmp_path / "b" / "x.png")
    assert names(first, second) == ["a/x", "b/x"]
    assert names(tmp_path / "a", tmp_path / "b") == ["a/x", "b/x"]
    assert names(tmp_path / "a") == ["x"]


def test_files_of_one_folder_that_differ_in_their_ending_keep_it(tmp_path: Path) -> None:
    write_png(tmp_path / "x.png")
    write_png(tmp_path / "X.jpg.png").rename(tmp_path / "X.jpg")
    write_png(tmp_path / "y.png")
    assert names(tmp_path) == ["X.jpg", "x.png", "y"]


def test_a_file_named_twice_is_read_once(tmp_path: Path) -> None:
    page = write_png(tmp_path / "x.png")
    os.link(page, tmp_path / "hard.png")
    (tmp_path / "soft.png").symlink_to(page)
    found = find_inputs([page, tmp_path], out=None)
    assert [item.name for item in found.files] == ["x"]
    assert found.repeated == 3


def test_the_output_folder_is_not_read(tmp_path: Path) -> None:
    write_png(tmp_path / "x.png")
    write_png(tmp_path / "out" / "pictures" / "y.png")
    assert names(tmp_path, out=tmp_path / "out") == ["x"]


def test_a_named_file_is_taken_whatever_it_is_called(tmp_path: Path) -> None:
    page = write_png(tmp_path / "x.png").rename(tmp_path / "page.scan")
    assert names(page) == ["page"]


@pytest.mark.parametrize("what", ["missing", "empty folder", "no images"])
def test_nothing_to_read_is_said(what: str, tmp_path: Path) -> None:
    if what == "no images":
        (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(InputError, match="There is n"):
        find_inputs([tmp_path / "nowhere" if what == "missing" else tmp_path], out=None)


def test_a_folder_that_may_not_be_read_is_told_and_the_others_are_read(tmp_path: Path) -> None:
    write_png(tmp_path / "closed" / "x.png")
    write_png(tmp_path / "open" / "y.png")
    code = (
        "import sys; from pathlib import Path; from ocrsmith.reading.inputs import find_inputs;"
        "found = find_inputs([Path(sys.argv[1])], out=None);"
        "print([item.name for item in found.files], found.unreadable)"
    )
    (tmp_path / "closed").chmod(0)
    try:
        said = run_bound("-c", code, tmp_path, check=True).stdout
    finally:
        (tmp_path / "closed").chmod(0o755)
    assert "['open/y']" in said
    assert "closed: Permission denied" in said


def test_standard_input_is_known_by_its_content(tmp_path: Path) -> None:
    first = spool_stdin(BytesIO(b"a page"), tmp_path)
    assert first.path.read_bytes() == b"a page"
    assert first.identity() == spool_stdin(BytesIO(b"a page"), tmp_path).identity()
    assert first.identity() != spool_stdin(BytesIO(b"another"), tmp_path).identity()


def test_standard_input_is_neither_empty_nor_endless(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="Nothing comes in"):
        spool_stdin(BytesIO(), tmp_path)
    monkeypatch.setattr(inputs, "MAX_STDIN_BYTES", 10)
    with pytest.raises(InputError, match="More than 10 bytes"):
        spool_stdin(BytesIO(b"x" * 11), tmp_path)
