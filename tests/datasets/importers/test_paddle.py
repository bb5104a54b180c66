"""PaddleOCR's label files: where paths start, illegible lines, pages and lines, and rows that are no rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ocrsmith.datasets.importers.base import Candidate, Format, ImportOptions, LineCrop
from ocrsmith.datasets.importers.paddle import LABEL_FORMAT, REC_FORMAT
from ocrsmith.errors import DataError
from ocrsmith.records import Excluded

BOX = [[10, 20], [110, 20], [110, 50], [10, 50]]


def picture(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (200, 100), "white").save(path)
    return path


def write(path: Path, *lines: str, encoding: str = "utf-8") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("".join(line + "\n" for line in lines).encode(encoding))
    return path


def entry(text: Any = "text", points: Any = BOX, **others: Any) -> dict[str, Any]:
    return {"transcription": text, "points": points, "difficult": False, **others}


def label(folder: Path, *entries: Any, image: str = "1.png") -> Path:
    return write(folder / "Label.txt", f"{image}\t{json.dumps(entries, ensure_ascii=False)}")


def read(kind: Format, path: Path, **options: Any) -> list[Candidate | Excluded]:
    return list(kind.open(path, ImportOptions(**options)).read())


def test_a_recognition_file_has_a_path_and_a_text_a_line(tmp_path):
    picture(tmp_path / "word_1.png")
    file = write(tmp_path / "rec_gt_train.txt", "word_1.png\ta\tb  c", "", "word_2.png\t汉字")
    assert REC_FORMAT.recognises(file, file.read_bytes())
    source = REC_FORMAT.open(file, ImportOptions())
    first, second = source.read()
    assert (first.image, first.image_path, first.text, first.line) == (
        tmp_path / "word_1.png",
        "word_1.png",
        "a\tb  c",
        1,
    )
    assert (second.text, second.line) == ("汉字", 3)
    assert source.kind == "paddle_rec"


@pytest.mark.parametrize(
    ("name", "recognised"),
    [
        ("rec_gt.txt", True),
        ("rec_gt_val.txt", True),
        ("REC_GT.TXT", True),
        ("labels.txt", False),
        ("rec_gt.md", False),
    ],
)
def test_recognition_files_are_recognised_by_their_names(tmp_path, name, recognised):
    assert REC_FORMAT.recognises(tmp_path / name, b"a.png\ttext\n") is recognised
    write(tmp_path / "data" / name, "a.png\ttext")
    assert REC_FORMAT.recognises(tmp_path, b"") is recognised


def test_a_recognition_file_without_tabs_is_not_recognised(tmp_path):
    assert not REC_FORMAT.recognises(tmp_path / "rec_gt.txt", b"a.png text\n")


@pytest.mark.parametrize(
    ("image", "file", "written", "source"),
    [
        ("train/1.png", "rec_gt.txt", "train/1.png", "rec_gt.txt"),
        ("rec/train/1.png", "rec/rec_gt.txt", "rec/train/1.png", "rec/rec_gt.txt"),
        ("data/rec/1.png", "data/rec/rec_gt.txt", "data/rec/1.png", "data/rec/rec_gt.txt"),
        ("train/1.png", "labels/rec_gt.txt", "train/1.png", "."),
        ("a/train/1.png", "a/labels/deep/rec_gt.txt", "train/1.png", "."),
        ("train/1.png", "rec_gt.txt", "train\\1.png", "rec_gt.txt"),
    ],
)
def test_paths_start_from_the_file_or_from_its_datasets_root(tmp_path, image, file, written, source):
    picture(tmp_path / image)
    write(tmp_path / file, f"{written}\ttext")
    (found,) = read(REC_FORMAT, tmp_path / source)
    assert found.image.resolve() == tmp_path / image
    assert found.image_path == written


def test_paths_do_not_start_above_the_source(tmp_path):
    picture(tmp_path / "train" / "1.png")
    write(tmp_path / "labels" / "rec_gt.txt", "train/1.png\ttext")
    (found,) = read(REC_FORMAT, tmp_path / "labels")
    assert found.image == tmp_path / "labels" / "train" / "1.png"


def test_dangling_paths_are_kept_for_the_ledger(shared):
    folder = shared / "data" / "pdx_zh" / "original"
    if not folder.is_dir():
        pytest.skip("needs ../shared/data/pdx_zh/original (PaddleOCR's label files), which is not here")
    assert REC_FORMAT.recognises(folder, b"")
    items = read(REC_FORMAT, folder)
    rows = [item for item in items if isinstance(item, Candidate)]
    assert len(rows) == 200
    assert (rows[0].image_path, rows[0].text) == (
        "train_data/rec/train/word_001.jpg",
        "E的S世界U0IlS9像S像界车Fe8",
    )
    assert not any(row.image.exists() for row in rows)
    empty = [Path(item.source).name for item in items if isinstance(item, Excluded)]
    assert empty == ["rec_gt_test.txt", "rec_gt_train.txt", "rec_gt_val.txt"]


def test_pictures_that_share_a_text_are_listed_before_the_tab(tmp_path):
    file = write(tmp_path / "rec_gt.txt", '["a.png", "b.png"]\tsame', "[1].png\tname", '["c.png", 5]\ttext')
    items = read(REC_FORMAT, file)
    assert [(item.image_path, item.text) for item in items if isinstance(item, Candidate)] == [
        ("a.png", "same"),
        ("b.png", "same"),
        ("[1].png", "name"),
        ("c.png", "text"),
    ]
    assert [item.line for item in items if isinstance(item, Excluded)] == [3]


def test_a_line_without_a_tab_goes_to_the_ledger(tmp_path):
    first, second = read(REC_FORMAT, write(tmp_path / "rec_gt.txt", "a.png text", "b.png\ttext"))
    assert (first.reason, first.line) == ("malformed", 1)
    assert "path<tab>text" in first.detail
    assert second.text == "text"


def test_gbk_is_named_and_read_when_asked(tmp_path):
    file = write(tmp_path / "rec_gt.txt", "a.png\t你好，世界", encoding="gbk")
    with pytest.raises(DataError, match="cannot be decoded") as caught:
        read(REC_FORMAT, file)
    assert "--encoding gb18030" in caught.value.mend
    assert read(REC_FORMAT, file, encoding="gb18030")[0].text == "你好，世界"


def test_a_folder_without_label_files_is_refused(tmp_path):
    for kind in (REC_FORMAT, LABEL_FORMAT):
        with pytest.raises(DataError, match="no label file"):
            read(kind, tmp_path)


def test_a_page_has_the_texts_of_its_boxes_in_reading_order(tmp_path):
    image = picture(tmp_path / "1.png")
    right, below = [[120, 21], [180, 21], [180, 51], [120, 51]], [[10, 60], [90, 60], [90, 90], [10, 90]]
    file = label(tmp_path, entry("Total", below), entry("3.50", right), entry("Tea"))
    assert LABEL_FORMAT.recognises(file, file.read_bytes())
    assert LABEL_FORMAT.recognises(tmp_path, b"")
    (page,) = read(LABEL_FORMAT, file)
    assert (page.text, page.image, page.line) == ("Tea 3.50\nTotal", image, 1)


def test_lines_are_cut_along_their_points(tmp_path):
    picture(tmp_path / "1.png")
    skewed = [[10, 60], [90, 65], [89, 90], [9, 85]]
    file = label(tmp_path, entry("a"), entry("b", skewed, difficult=True))
    first, second = read(LABEL_FORMAT, file, unit="line")
    assert (first.text, first.id, first.group) == ("a", "1.png#line_1", "1.png")
    assert second.image == LineCrop(tmp_path / "1.png", tuple(tuple(map(float, point)) for point in skewed))
    assert second.meta == {"difficult": True, "polygon": skewed}


@pytest.mark.parametrize("mark", ["###", "*", " ### "])
def test_an_illegible_line_costs_itself_or_the_page(tmp_path, mark):
    file = label(tmp_path, entry("a"), entry(mark))
    kept, left_out = read(LABEL_FORMAT, file, unit="line")
    assert (kept.text, left_out.reason, left_out.line) == ("a", "illegible", 1)
    (page,) = read(LABEL_FORMAT, file)
    assert page.reason == "illegible"


def test_paths_of_ppocrlabel_begin_with_the_folder_of_the_file(tmp_path):
    image = picture(tmp_path / "scans" / "1.png")
    (page,) = read(LABEL_FORMAT, label(tmp_path / "scans", entry("a"), image="scans/1.png"))
    assert page.image.resolve() == image


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ("text", "Entry 2"),
        ({"points": BOX}, "`transcription` of entry 2"),
        (entry(5), "`transcription` of entry 2"),
        ({"transcription": "b"}, "`points` of entry 2"),
        (entry("b", "abc"), "`points` of entry 2"),
        (entry("b", [[1, 2], [3]]), "`points` of entry 2"),
        (entry("b", [[1, 2]]), "at least two"),
        (entry("b", [[1, 2], [3, float("nan")]]), "finite"),
        (entry("b", [["x", 2], [3, 4]]), "`points` of entry 2"),
    ],
)
def test_a_broken_entry_costs_itself_or_the_page(tmp_path, broken, said):
    file = label(tmp_path, entry("a"), broken)
    left_out, kept = read(LABEL_FORMAT, file, unit="line")
    assert said in left_out.detail
    assert (left_out.reason, kept.text) == ("malformed", "a")
    (page,) = read(LABEL_FORMAT, file)
    assert (page.reason, page.line) == ("malformed", 1)


@pytest.mark.parametrize("rest", ['[{"transcription": "a", "po', '{"a": 1}', "text", "", "5", "[" * 100_000])
def test_broken_json_costs_its_row_only(tmp_path, rest):
    file = write(tmp_path / "Label.txt", f"1.png\t{rest}", f"2.png\t{json.dumps([entry('a')])}")
    left_out, kept = read(LABEL_FORMAT, file)
    assert (left_out.reason, left_out.image_path, left_out.line) == ("malformed", "1.png", 1)
    assert kept.text == "a"


def test_a_page_without_lines_has_no_text(tmp_path):
    file = write(tmp_path / "Label.txt", "1.png\t[]")
    assert LABEL_FORMAT.recognises(file, file.read_bytes())
    (page,) = read(LABEL_FORMAT, file)
    assert page.text == "", "the check of texts leaves it out"
    (left_out,) = read(LABEL_FORMAT, file, unit="line")
    assert left_out.reason == "empty_text"


@pytest.mark.parametrize(
    "head", [b"1.png\ttext", b"1.png text", b'[{"points": 1}]', b"", b"\x00\xff", b'a\t{"points":']
)
def test_other_texts_are_not_recognised_as_detection_labels(tmp_path, head):
    assert not LABEL_FORMAT.recognises(tmp_path / "Label.txt", head)


def test_a_link_that_leads_out_goes_to_the_ledger(tmp_path):
    private = write(tmp_path / "private" / "rec_gt.txt", "a.png\tprivate")
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "rec_gt.txt").symlink_to(private)
    (left_out,) = read(REC_FORMAT, tmp_path / "source")
    assert left_out.reason == "outside"
    (taken,) = read(REC_FORMAT, tmp_path / "source", allow_outside=True)
    assert taken.text == "private"


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=5) | st.integers(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["transcription", "points"]), inner)
    ),
    max_leaves=8,
)


@given(st.lists(json_values, max_size=4))
def test_any_json_is_read_or_left_out_clearly(tmp_path_factory, entries):
    file = label(tmp_path_factory.getbasetemp(), *entries)
    for unit in ("page", "line"):
        found = read(LABEL_FORMAT, file, unit=unit)
        assert found
        assert all(isinstance(one, Candidate) or one.detail for one in found)
