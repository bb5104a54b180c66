"""CSV and TSV tables."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocrsmith.datasets.importers import Candidate, ImportOptions, find_source
from ocrsmith.datasets.importers.lines import first_bad_escape, unescape
from ocrsmith.errors import DataError
from ocrsmith.records import Excluded


def read(path: Path, **options: object) -> list[Candidate | Excluded]:
    return list(find_source(path, ImportOptions(**options)).read())  # type: ignore[arg-type]


def texts(path: Path, **options: object) -> list[tuple[str, str | None]]:
    return [(item.image_path, item.text) for item in read(path, **options) if isinstance(item, Candidate)]


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8", newline="\n")
    return path


def test_a_csv_with_header_and_quotes(tmp_path: Path) -> None:
    file = write(tmp_path / "a.csv", 'id,image,text,lang\n7,a.png,"one, ""two""\nthree",fr\n8,b.png,four,\n')
    first, second = read(file)
    assert isinstance(first, Candidate)
    assert isinstance(second, Candidate)
    assert (first.id, first.image_path, first.text, first.line) == ("7", "a.png", 'one, "two"\nthree', 2)
    assert first.meta == {"lang": "fr"}
    assert (second.id, second.text, second.line, second.meta) == ("8", "four", 4, {})


def test_image_path_and_case_are_understood(tmp_path: Path) -> None:
    file = write(tmp_path / "a.csv", "Text,Image_Path\nhello,a.png\n")
    assert texts(file) == [("a.png", "hello")]


def test_columns_can_be_named(tmp_path: Path) -> None:
    file = write(tmp_path / "a.csv", "scan,truth\na.png,hello\n")
    assert texts(file, image_column="scan", text_column="truth") == [("a.png", "hello")]


def test_missing_columns_are_listed(tmp_path: Path) -> None:
    file = write(tmp_path / "a.csv", "image,caption\na.png,hello\n")
    with pytest.raises(DataError) as caught:
        read(file)
    assert "'image', 'caption'" in caught.value.problem
    assert "--text-column" in (caught.value.mend or "")


def test_a_misspelt_column_gets_a_suggestion(tmp_path: Path) -> None:
    file = write(tmp_path / "a.csv", "image,caption\na.png,hello\n")
    with pytest.raises(DataError, match="did you mean 'caption'"):
        read(file, text_column="captoin")


def test_a_header_that_nobody_knows_is_not_taken_for_data(tmp_path: Path) -> None:
    file = write(tmp_path / "a.csv", "scan,truth\na.png,hello\n")
    with pytest.raises(DataError, match="'scan', 'truth'"):
        read(file)


def test_a_row_with_too_many_cells_is_left_out_with_its_line(tmp_path: Path) -> None:
    file = write(tmp_path / "a.csv", "image,text\na.png,one, two\nb.png,three\n")
    first, second = read(file)
    assert isinstance(first, Excluded)
    assert (first.reason, first.line) == ("malformed", 2)
    assert isinstance(second, Candidate)


def test_unmatched_quotes_name_line_and_option(tmp_path: Path) -> None:
    file = write(tmp_path / "a.csv", 'image,text\na.png,"one" two\n')
    with pytest.raises(DataError) as caught:
        read(file)
    assert caught.value.place == f"{file}, line 2"
    assert "--no-quotes" in (caught.value.mend or "")
    assert texts(file, quotes=False) == [("a.png", '"one" two')]


def test_a_tsv_without_header_is_path_and_text_with_escapes(tmp_path: Path) -> None:
    file = write(tmp_path / "labels.tsv", 'a b.png\tone\\ntwo\\\\three\\tfour "five\nb.png\t"six"\n')
    assert texts(file) == [("a b.png", 'one\ntwo\\three\tfour "five'), ("b.png", '"six"')]
    assert texts(file, escapes=False)[0] == ("a b.png", 'one\\ntwo\\\\three\\tfour "five')
    assert any("escapes" in note for note in find_source(file, ImportOptions()).notes)


def test_backslashes_that_are_no_escapes_keep_the_whole_file_literal(tmp_path: Path) -> None:
    file = write(tmp_path / "labels.tsv", "a.png\t\\nabla\nb.png\t\\frac\n")
    assert texts(file) == [("a.png", "\\nabla"), ("b.png", "\\frac")]
    (note,) = find_source(file, ImportOptions()).notes
    assert "line 2" in note


def test_a_tsv_with_header_may_be_quoted_and_is_not_unescaped(tmp_path: Path) -> None:
    file = write(tmp_path / "a.tsv", 'image\ttext\na.png\t"x\ty"\nb.png\t\\n\n')
    assert texts(file) == [("a.png", "x\ty"), ("b.png", "\\n")]


def test_the_real_label_files_are_read_whole(shared: Path) -> None:
    for name, count in (("tapus_alto", 239), ("pdx_zh", 200), ("cnocr_zh", 17)):
        file = shared / "data" / name / "labels.tsv"
        if not file.is_file():
            pytest.skip(f"needs {file}")
        rows = texts(file)
        assert len(rows) == count
        assert all("\\n" not in (text or "") for _, text in rows)
        assert all((file.parent / path).is_file() for path, _ in rows)


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace("\t", "\\t")


@given(st.text())
def test_unescape_undoes_escaping(text: str) -> None:
    assert unescape(_escape(text)) == text
    assert first_bad_escape(_escape(text)) is None


@given(st.text("\\nt fx", max_size=12))
def test_bad_escapes_are_those_that_unescape_leaves(text: str) -> None:
    rest = text.replace("\\\\", "").replace("\\n", "").replace("\\t", "")
    if "\\" not in text:
        assert first_bad_escape(text) is None
    elif text.count("\\") == 1:
        assert (first_bad_escape(text) is None) == ("\\" not in rest)


_cell = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\r\x00"))


@given(rows=st.lists(_cell, min_size=1, max_size=6))
def test_what_the_csv_module_writes_is_read_back(
    rows: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["image", "text"])
    writer.writerows([f"{number}.png", text] for number, text in enumerate(rows))
    file = tmp_path_factory.mktemp("csv") / "a.csv"
    write(file, stream.getvalue())
    assert texts(file) == [(f"{number}.png", text) for number, text in enumerate(rows)]


@pytest.mark.parametrize("header", ["filename,words", "Path,Transcription", "img,ground_truth"])
def test_other_usual_names_of_columns_are_known(header: str, tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text(f"{header}\na.png,one\n", encoding="utf-8")
    rows = list(find_source(file, ImportOptions()).read())
    assert [(row.image_path, row.text) for row in rows if isinstance(row, Candidate)] == [("a.png", "one")]
