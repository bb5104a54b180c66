"""Text files with `path text` lines."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocrsmith.datasets.importers import Candidate, ImportOptions, find_source
from ocrsmith.datasets.importers.content import split_line
from ocrsmith.errors import DataError


def read(path: Path, **options: object) -> list[Candidate]:
    items = list(find_source(path, ImportOptions(**options)).read())  # type: ignore[arg-type]
    assert all(isinstance(item, Candidate) for item in items)
    return items  # type: ignore[return-value]


def write(path: Path, data: bytes | str) -> Path:
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def test_comments_blank_lines_bom_and_crlf_are_no_texts(tmp_path: Path) -> None:
    file = write(
        tmp_path / "content.md",
        b"\xef\xbb\xbf# a heading\r\n\r\na.png one two\r\n  # note\r\nb.png\tthree \r\n",
    )
    assert [(item.image_path, item.text, item.line) for item in read(file)] == [
        ("a.png", "one two", 3),
        ("b.png", "three", 5),
    ]


def test_the_first_line_may_be_data_after_a_bom(tmp_path: Path) -> None:
    file = write(tmp_path / "content.md", b"\xef\xbb\xbfa.png one")
    assert [(item.image_path, item.text) for item in read(file)] == [("a.png", "one")]


def test_a_tab_separates_a_path_with_spaces(tmp_path: Path) -> None:
    file = write(tmp_path / "content.txt", "my scans/page 1.png\tHello\tworld\n")
    (item,) = read(file)
    assert (item.image_path, item.text) == ("my scans/page 1.png", "Hello\tworld")
    assert item.image == tmp_path / "my scans" / "page 1.png"


def test_a_path_with_spaces_and_no_tab_is_found_if_it_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "my scan 1.jpg").write_bytes(b"x")
    file = write(tmp_path / "content.md", "my scan 1.jpg see photo.jpg for more\n")
    (item,) = read(file)
    assert (item.image_path, item.text) == ("my scan 1.jpg", "see photo.jpg for more")


def test_the_longest_path_that_exists_wins(tmp_path: Path) -> None:
    for name in ("scan.png", "scan.png copy.png"):
        (tmp_path / name).write_bytes(b"x")
    assert split_line("scan.png copy.png Total", tmp_path) == ("scan.png copy.png", "Total")
    assert split_line("scan.png other.png Total", tmp_path) == ("scan.png", "other.png Total")


def test_a_missing_path_with_spaces_is_named_up_to_its_extension(tmp_path: Path) -> None:
    assert split_line("my scan 1.jpg Total 5", tmp_path) == ("my scan 1.jpg", "Total 5")


def test_a_path_alone_has_an_empty_text(tmp_path: Path) -> None:
    assert split_line("a.png", tmp_path) == ("a.png", "")


def test_unusual_white_space_separates_too(tmp_path: Path) -> None:
    assert split_line("a.png\u3000你好 世界", tmp_path) == ("a.png", "你好 世界")


def test_unicode_line_separators_belong_to_the_text(tmp_path: Path) -> None:
    file = write(tmp_path / "content.md", "a.png one\u2028two\x0bthree\x85four\nb.png five\n")
    assert [item.text for item in read(file)] == ["one\u2028two\x0bthree\x85four", "five"]


def test_backslashes_in_texts_are_kept_unless_escapes_are_asked_for(tmp_path: Path) -> None:
    file = write(tmp_path / "content.md", "a.png\t\\nabla\\\\ \\frac\n")
    assert read(file)[0].text == "\\nabla\\\\ \\frac"
    assert read(file, escapes=True)[0].text == "\nabla\\ \\frac"


def test_windows_separators_find_the_file(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "1.png").write_bytes(b"x")
    file = write(tmp_path / "content.md", "images\\1.png\tone\n")
    assert read(file)[0].image == tmp_path / "images" / "1.png"


def test_gb18030_is_read_when_named_and_suggested_when_not(tmp_path: Path) -> None:
    data = "a.png\t你好，世界\n".encode("gb18030")
    file = write(tmp_path / "content.md", data)
    assert read(file, encoding="gb18030")[0].text == "你好，世界"
    with pytest.raises(DataError) as caught:
        read(file)
    assert caught.value.place == f"{file}, line 1, byte 7 of the file"
    assert "--encoding gb18030" in (caught.value.mend or "")


def test_latin_text_is_not_taken_for_chinese(tmp_path: Path) -> None:
    file = write(tmp_path / "content.md", "a.png\tun été à Genève, déjà\n".encode("cp1252"))
    with pytest.raises(DataError) as caught:
        read(file)
    assert "--encoding cp1252" in (caught.value.mend or "")
    assert read(file, encoding="cp1252")[0].text == "un été à Genève, déjà"


def test_the_bad_byte_is_counted_from_the_start_of_the_file(tmp_path: Path) -> None:
    file = write(tmp_path / "content.md", b"\xef\xbb\xbfa.png ok\nb.png \xff\n")
    with pytest.raises(DataError) as caught:
        read(file)
    position = file.read_bytes().index(b"\xff") + 1
    assert caught.value.place == f"{file}, line 2, byte {position} of the file"
    assert "0xFF" in caught.value.problem


def test_utf16_is_read_when_named(tmp_path: Path) -> None:
    file = write(tmp_path / "content.md", "a.png\t你好\r\nb.png\tzwei\r\n".encode("utf-16"))
    with pytest.raises(DataError, match="UTF-16"):
        read(file)
    assert [item.text for item in read(file, encoding="utf-16")] == ["你好", "zwei"]


_plain = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1).map(str.strip).filter(bool)
_path = (
    st.text("abc/._-é中 ", min_size=1, max_size=12).map(str.strip).filter(lambda path: path and path[0] != "#")
)


@given(rows=st.lists(st.tuples(_path, _plain), max_size=8))
def test_what_is_written_with_tabs_is_read_back(
    rows: list[tuple[str, str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.mktemp("content") / "content.md"
    file.write_text(
        "# head\n" + "".join(f"{path}\t{text}\n" for path, text in rows), encoding="utf-8", newline="\n"
    )
    assert [(item.image_path, item.text) for item in read(file)] == rows


@given(line=st.text(min_size=1).map(str.strip).filter(bool))
def test_no_line_loses_characters_other_than_white_space(line: str) -> None:
    path, text = split_line(line, Path("/nonexistent"))
    assert "".join((path + text).split()) == "".join(line.split())
