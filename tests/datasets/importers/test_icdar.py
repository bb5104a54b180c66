"""Boxes of ICDAR and SROIE: commas in texts, illegible lines, key fields, folders of several shapes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ocrsmith.datasets.importers.base import Candidate, ImportOptions, LineCrop
from ocrsmith.datasets.importers.icdar import FORMAT, write_fields
from ocrsmith.errors import DataError
from ocrsmith.records import Excluded

TEA = "10,20,110,20,110,50,10,50,Tea, green"
PRICE = "120,21,180,21,180,51,120,51,3,50"
TOTAL = "10,60,90,60,90,90,10,90,TOTAL"
KEYS = {"company": "TEA, HOUSE", "date": "25/12/2018", "address": "NO 2\nJALAN", "total": "3.50"}


def picture(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (200, 100), "white").save(path)
    return path


def write(path: Path, *lines: str, encoding: str = "utf-8", end: str = "\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("".join(line + end for line in lines).encode(encoding))
    return path


def sroie(folder: Path, boxes: bool = True, keys: Any = KEYS, key_folder: str = "key/1.json") -> Path:
    picture(folder / "img" / "1.jpg")
    if boxes:
        write(folder / "box" / "1.csv", TEA, PRICE, TOTAL, end="\r\n")
    if keys is not None:
        write(folder / key_folder, keys if isinstance(keys, str) else json.dumps(keys, indent=4))
    return folder


def read(path: Path, **options: Any) -> list[Candidate | Excluded]:
    return list(FORMAT.open(path, ImportOptions(**options)).read())


@pytest.mark.parametrize("key_folder", ["key/1.json", "entities/1.txt"])
def test_the_fields_of_a_receipt_are_its_text(tmp_path, key_folder):
    source = sroie(tmp_path, key_folder=key_folder)
    assert FORMAT.recognises(source, b"")
    (page,) = read(source)
    company, others = "<company>TEA, HOUSE</company>", "<date>25/12/2018</date>\n<address>NO 2 JALAN</address>"
    assert page.text == f"{company}\n{others}\n<total>3.50</total>"
    assert (page.image, page.image_path, page.id) == (tmp_path / "img" / "1.jpg", "img/1.jpg", key_folder)
    assert any("--labels text" in note for note in FORMAT.open(source, ImportOptions()).notes)


def test_the_text_of_the_boxes_is_in_reading_order_with_its_commas(tmp_path):
    (page,) = read(sroie(tmp_path), labels="text")
    assert page.text == "Tea, green 3,50\nTOTAL"
    (page,) = read(sroie(tmp_path / "other", keys=None))
    assert page.text == "Tea, green 3,50\nTOTAL", "there are no fields"


def test_lines_are_cut_from_the_boxes_whatever_the_labels(tmp_path):
    first, second, third = read(sroie(tmp_path), unit="line")
    assert first.image == LineCrop(tmp_path / "img" / "1.jpg", ((10, 20), (110, 20), (110, 50), (10, 50)))
    assert [one.text for one in (first, second, third)] == ["Tea, green", "3,50", "TOTAL"]
    assert (first.id, first.group) == ("box/1.csv#line_1", "img/1.jpg")


def test_keys_alone_give_fields_and_have_no_lines(tmp_path):
    source = sroie(tmp_path, boxes=False)
    assert read(source)[0].text == read(source, labels="text")[0].text
    with pytest.raises(DataError, match="--unit line"):
        read(source, unit="line")


@pytest.mark.parametrize(
    "keys",
    [
        "",
        '{"company": "cut',
        "[]",
        '"text"',
        '{"a": ["list"]}',
        '{"a": {"b": 1}}',
        '{"a b": "x"}',
        '{"a>": "x"}',
        "[" * 99_999,
    ],
)
def test_damaged_keys_cost_their_page_only(tmp_path, keys):
    source = sroie(tmp_path, keys=keys)
    picture(tmp_path / "img" / "2.jpg")
    write(tmp_path / "key" / "2.json", json.dumps(KEYS))
    left_out, kept = read(source)
    assert (left_out.reason, left_out.source) == ("malformed", str(tmp_path / "key" / "1.json"))
    assert kept.image_path == "img/2.jpg"


def test_values_that_hold_a_mark_are_refused():
    for value in ("a </company> b", "<total>", "</total>"):
        with pytest.raises(DataError, match="marks of the fields"):
            write_fields({"company": value, "total": "1"}, place="1.json")
    assert write_fields({"company": "a <b> & c"}, place="") == "<company>a <b> & c</company>"


def test_empty_values_stay_and_null_goes():
    assert write_fields({"a": "", "b": None, "c": 2.5, "姓名": " 张三 "}, place="") == (
        "<a></a>\n<c>2.5</c>\n<姓名>张三</姓名>"
    )


def test_images_beside_their_boxes_are_found_without_the_prefix(tmp_path):
    image = picture(tmp_path / "img_1.jpg")
    file = write(tmp_path / "gt_img_1.txt", "\ufeff" + TEA, TOTAL)
    assert FORMAT.recognises(file, file.read_bytes())
    assert FORMAT.recognises(tmp_path, b"")
    for source in (file, tmp_path):
        (page,) = read(source)
        assert (page.text, page.image) == ("Tea, green\nTOTAL", image)


def test_folders_of_images_are_found_by_their_names(tmp_path):
    image = picture(tmp_path / "ch4_training_images" / "img_1.jpg")
    write(tmp_path / "ch4_training_localization_transcription_gt" / "gt_img_1.txt", TEA)
    (page,) = read(tmp_path)
    assert page.image == image


def test_an_image_of_the_same_name_in_another_folder_is_not_guessed(tmp_path):
    picture(tmp_path / "train_images" / "img_1.jpg")
    picture(tmp_path / "test_images" / "img_1.jpg")
    write(tmp_path / "gt" / "gt_img_1.txt", TEA)
    (left_out,) = read(tmp_path)
    assert "test_images/img_1.jpg, train_images/img_1.jpg" in left_out.detail


def test_a_missing_image_is_named_for_the_ledger(tmp_path):
    (page,) = read(write(tmp_path / "gt_img_9.txt", TEA))
    assert page.image == tmp_path / "img_9.jpg"


def test_illegible_lines_cost_themselves_or_the_page(tmp_path):
    picture(tmp_path / "1.jpg")
    file = write(tmp_path / "1.txt", TEA, "0,0,9,0,9,9,0,9,###", "0,0,9,0,9,9,0,9,#")
    kept, left_out, hash_sign = read(file, unit="line")
    assert (kept.text, left_out.reason, hash_sign.text) == ("Tea, green", "illegible", "#")
    assert read(file)[0].reason == "illegible"


def test_scripts_before_the_texts_are_recognised_by_the_whole_file(tmp_path):
    picture(tmp_path / "1.jpg")
    box = "0,0,9,0,9,9,0,9"
    file = write(tmp_path / "1.txt", f"{box},Latin,Rue, Paris", f"{box},Arabic,باب")
    first, second = read(file, unit="line")
    assert (first.text, first.meta["script"], second.text) == ("Rue, Paris", "Latin", "باب")
    file = write(tmp_path / "1.txt", f"{box},Latin,Rue", f"{box},Latin")
    assert [one.text for one in read(file, unit="line")] == ["Latin,Rue", "Latin"]


@pytest.mark.parametrize(
    "line", ["not a box", "1,2,3,4,text", "1,2,3,4,5,6,7,8", "1,2,3,4,5,6,7,x,text", "1;2;3;4;5;6;7;8;t"]
)
def test_a_broken_line_costs_itself_or_the_page(tmp_path, line):
    picture(tmp_path / "1.jpg")
    file = write(tmp_path / "1.txt", TEA, line, "", TOTAL)
    left_out, first, second = read(file, unit="line")
    assert left_out.detail.startswith("Line 2 ")
    assert (first.text, second.text, second.id) == ("Tea, green", "TOTAL", "1.txt#line_4")
    assert read(file)[0].reason == "malformed"


def test_a_file_in_another_encoding_costs_itself_only(tmp_path):
    for name in ("1", "2"):
        picture(tmp_path / f"{name}.jpg")
    write(tmp_path / "1.txt", "0,0,9,0,9,9,0,9,你好世界", encoding="gbk")
    write(tmp_path / "2.txt", TEA)
    left_out, kept = read(tmp_path)
    assert "--encoding gb18030" in left_out.detail
    assert kept.text == "Tea, green"
    assert read(tmp_path, encoding="gb18030")[0].text == "你好世界"


@pytest.mark.parametrize(
    "head", [b"a.png\ttext", b"image,text\n1.png,a", b"1,2,3,4,5,6,7,8", b"1,2,3,4,text", b"", b"\x00"]
)
def test_other_files_are_not_recognised(tmp_path, head):
    assert not FORMAT.recognises(tmp_path / "1.txt", head)
    assert not FORMAT.recognises(tmp_path / "1.md", TEA.encode())
    assert not FORMAT.recognises(tmp_path, b"")


def test_a_folder_without_boxes_is_refused(tmp_path):
    with pytest.raises(DataError, match="holds no file"):
        read(tmp_path)


def test_a_key_file_that_is_a_link_to_elsewhere_goes_to_the_ledger(tmp_path):
    write(tmp_path / "private.json", '{"token": "secret"}')
    source = sroie(tmp_path / "source", keys=None)
    (source / "key").mkdir()
    (source / "key" / "1.json").symlink_to(tmp_path / "private.json")
    (left_out,) = read(source)
    assert left_out.reason == "outside"


@given(st.lists(st.text("0123456789.,-# aA\"'", max_size=40), max_size=5))
def test_any_lines_are_read_or_left_out_clearly(tmp_path_factory, lines):
    file = write(tmp_path_factory.getbasetemp() / "boxes.txt", *lines)
    for unit in ("page", "line"):
        assert all(isinstance(one, Candidate) or one.detail for one in read(file, unit=unit))


@given(
    st.dictionaries(st.text(max_size=6), st.one_of(st.none(), st.integers(), st.text(max_size=12)), max_size=5)
)
def test_any_fields_are_written_so_that_they_can_be_read_back_or_refused(values):
    try:
        text = write_fields(values, place="")
    except DataError:
        return
    kept = {key: value for key, value in values.items() if value is not None}
    assert len(text.split("\n")) == max(1, len(kept))
    for key, line in zip(kept, text.split("\n"), strict=False):
        inner = line.removeprefix(f"<{key}>").removesuffix(f"</{key}>")
        assert len(line) == len(inner) + 2 * len(key) + 5
