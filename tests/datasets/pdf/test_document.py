"""Options of PDFs, page ranges, and which files a folder gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocrsmith.datasets.pdf.document import PageRange, PdfOptions, find_pdfs
from ocrsmith.errors import SettingsError


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        (None, [1, 2, 3, 4, 5, 6]),
        ("3", [3]),
        ("2-4", [2, 3, 4]),
        ("1-2,5", [1, 2, 5]),
        ("5-", [5, 6]),
        ("-2", [1, 2]),
        (" 2 , 1 ", [1, 2]),
        ("1-3,2-4", [1, 2, 3, 4]),
        ("5-1000000000000", [5, 6]),
        ("9", []),
    ],
)
def test_a_range_names_pages(text: str | None, numbers: list[int]) -> None:
    assert PageRange.parse(text).of(6) == numbers


@pytest.mark.parametrize("text", ["", "-", "0", "4-2", "a", "1,,2", "1-2-3", "1.5", "0-3", "１-x"])
def test_what_names_no_pages_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="names no pages") as caught:
        PageRange.parse(text)
    assert caught.value.place == "--pages"


@given(st.sets(st.integers(1, 30), min_size=1), st.integers(1, 30))
def test_a_range_of_single_pages_is_their_set(numbers: set[int], pages: int) -> None:
    text = ",".join(map(str, numbers))
    assert PageRange.parse(text).of(pages) == sorted(number for number in numbers if number <= pages)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("dpi", 5),
        ("dpi", float("nan")),
        ("max_side", 10),
        ("max_side", 100_000),
        ("trust", 1.5),
        ("tables", "latex"),
        ("jpeg", 0),
        ("workers", 0),
        ("page_seconds", 0),
        ("page_memory", 1),
    ],
)
def test_values_that_cannot_be_are_refused(option: str, value: Any) -> None:
    with pytest.raises(SettingsError) as caught:
        PdfOptions(**{option: value})
    assert caught.value.place == "--" + option.replace("_", "-")
    assert caught.value.mend


def test_the_manifest_learns_all_but_the_password() -> None:
    described = PdfOptions(password="geheim", workers=3).describe()
    assert "geheim" not in str(described)
    assert described["dpi"] == 144
    assert "workers" not in described


def test_a_folder_gives_its_pdfs_in_order(tmp_path: Path) -> None:
    for name in ("b.pdf", "a/z.PDF", "a/y.pdf", "c/d/e.Pdf", "notes.txt", "pdf"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = [path.relative_to(tmp_path).as_posix() for path in find_pdfs(tmp_path)]
    assert found == ["b.pdf", "a/y.pdf", "a/z.PDF", "c/d/e.Pdf"]
    assert list(find_pdfs(tmp_path / "notes.txt")) == [tmp_path / "notes.txt"]


def test_a_ring_of_links_ends(tmp_path: Path) -> None:
    (tmp_path / "a.pdf").touch()
    (tmp_path / "ring").symlink_to(tmp_path)
    assert list(find_pdfs(tmp_path)) == [tmp_path / "a.pdf"]
