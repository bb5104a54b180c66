"""JSON tables: rows with columns of any name."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from ocrsmith.datasets.importers.base import Candidate, ImportOptions, Source
from ocrsmith.datasets.importers.json_rows import FORMAT
from ocrsmith.errors import DataError
from ocrsmith.records import Excluded


def open_rows(path: Path, rows: Any, **options: Any) -> Source:
    """Writes rows: a list as JSON Lines if the path says so, else any value as JSON."""
    if path.suffix == ".jsonl":
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    else:
        text = json.dumps(rows, ensure_ascii=False, indent=1)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return FORMAT.open(path, ImportOptions(**options))


def read(path: Path, rows: Any, **options: Any) -> list[Candidate | Excluded]:
    return list(open_rows(path, rows, **options).read())


def one(path: Path, row: dict[str, Any], **options: Any) -> Candidate:
    (candidate,) = read(path, [row], **options)
    assert isinstance(candidate, Candidate)
    return candidate


def left_out(path: Path, row: dict[str, Any]) -> Excluded:
    good, bad = read(path, [{"image": "a.png", "text": "x"}, row])
    assert isinstance(good, Candidate)
    assert isinstance(bad, Excluded)
    return bad


def test_samples_with_image_path_and_transcription(tmp_path: Path) -> None:
    rows = {
        "samples": [
            {"image_path": "a.png", "transcription": "one"},
            {"image_path": "b.png", "transcription": "二"},
        ]
    }
    found = read(tmp_path / "a.json", rows)
    assert [(item.image_path, item.text, item.line) for item in found if isinstance(item, Candidate)] == [
        ("a.png", "one", 3),
        ("b.png", "二", 7),
    ]


def test_all_columns_go_where_they_belong(tmp_path: Path) -> None:
    row = {
        "id": 7,
        "group": "doc",
        "prompt": "<image>\nRead.",
        "image": "a.png",
        "text": "x",
        "lang": "fr",
        "n": None,
    }
    candidate = one(tmp_path / "a.jsonl", row)
    assert (candidate.id, candidate.group, candidate.prompt) == ("7", "doc", "<image>\nRead.")
    assert candidate.image == tmp_path / "a.png"
    assert candidate.meta == {"lang": "fr"}
    assert open_rows(tmp_path / "a.jsonl", [row]).kind == "json"


def test_columns_that_only_later_rows_have_count(tmp_path: Path) -> None:
    rows = [{"image": "a.png", "text": "x"}] * 40 + [{"image": "b.png", "text": "y", "group": "g", "dpi": 3}]
    last = read(tmp_path / "a.jsonl", rows)[-1]
    assert isinstance(last, Candidate)
    assert (last.group, last.meta) == ("g", {"dpi": 3})


@pytest.mark.parametrize(
    ("image", "text"),
    [("file_name", "label"), ("img", "ground_truth"), ("filename", "Transcription"), ("path", "gt")],
)
def test_usual_names_are_known(tmp_path: Path, image: str, text: str) -> None:
    candidate = one(tmp_path / "a.json", {image: "a.png", text: "x"})
    assert (candidate.image_path, candidate.text) == ("a.png", "x")


def test_our_own_names_come_before_others(tmp_path: Path) -> None:
    candidate = one(tmp_path / "a.json", {"path": "p", "image": "a.png", "label": "3", "text": "x"})
    assert (candidate.image_path, candidate.text) == ("a.png", "x")
    assert candidate.meta == {"path": "p", "label": "3"}


def test_several_likely_columns_are_no_guess(tmp_path: Path) -> None:
    row = {"image": "a.png", "label": "x", "transcription": "y"}
    with pytest.raises(DataError, match="'label', 'transcription' may be the text column") as caught:
        read(tmp_path / "a.json", [row])
    assert "--text-column" in (caught.value.mend or "")
    assert one(tmp_path / "a.json", row, text_column="transcription").text == "y"


def test_missing_columns_are_listed(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="'scan', 'truth'"):
        read(tmp_path / "a.json", [{"scan": "a.png", "truth": "x"}])
    candidate = one(
        tmp_path / "a.json",
        {"scan": "a.png", "truth": "x", "book": "b"},
        image_column="scan",
        text_column="truth",
        group_column="book",
    )
    assert (candidate.image_path, candidate.text, candidate.group) == ("a.png", "x", "b")


def test_numbers_of_classes_are_not_taken_for_texts(tmp_path: Path) -> None:
    rows = [{"image": "a.png", "label": 3}]
    with pytest.raises(DataError, match=r"holds no texts, but e\.g\. 3"):
        read(tmp_path / "a.json", rows)
    assert [
        item.text
        for item in read(tmp_path / "a.json", rows, text_column="label")
        if isinstance(item, Candidate)
    ] == ["3"]


def test_integers_among_texts_are_texts_but_fractions_are_not(tmp_path: Path) -> None:
    rows = [{"image": "a.png", "text": "x"}, {"image": "b.png", "text": 42}, {"image": "c.png", "text": 1.5}]
    _, integer, fraction = read(tmp_path / "a.json", rows)
    assert isinstance(integer, Candidate)
    assert integer.text == "42"
    assert isinstance(fraction, Excluded)
    assert "write it in quotes" in fraction.detail


def test_rows_without_text_image_or_columns(tmp_path: Path) -> None:
    rows = [
        {"image": "a.png", "text": "x"},
        {"image": "b.png", "text": None},
        {"text": "y"},
        {"image": "c.png", "caption": "z"},
    ]
    _, no_text, no_image, no_column = read(tmp_path / "a.jsonl", rows)
    assert isinstance(no_text, Candidate)
    assert no_text.text == ""
    assert isinstance(no_image, Candidate)
    assert no_image.image is None
    assert isinstance(no_column, Excluded)
    assert (no_column.line, no_column.image_path) == (4, "c.png")
    assert "'image', 'caption'" in no_column.detail


def test_meta_of_our_own_exports_is_merged_in(tmp_path: Path) -> None:
    candidate = one(
        tmp_path / "a.json", {"image": "a.png", "text": "x", "meta": {"font": "f", "n": [1]}, "dpi": 3}
    )
    assert candidate.meta == {"font": "f", "n": [1], "dpi": 3}


def test_images_as_data_uris(tmp_path: Path) -> None:
    data = bytes(range(256)) * 8
    encoded = base64.b64encode(data).decode()
    for uri in (f"data:image/png;base64,{encoded}", f"DATA:;charset=x;base64,{encoded[:100]}\n{encoded[100:]}"):
        candidate = one(tmp_path / "a.json", {"image": {"url": uri}, "text": "x"})
        assert (candidate.image, candidate.image_path) == (data, "")


def test_bare_base64_of_a_png_or_jpeg(tmp_path: Path) -> None:
    data = b"\x89PNG\r\n\x1a\n" + bytes(range(256))
    candidate = one(tmp_path / "a.json", {"image": base64.b64encode(data).decode(), "text": "x"})
    assert candidate.image == data


@pytest.mark.parametrize(
    ("uri", "words"), [("data:image/png;base64,@@@", "damaged"), ("data:image/svg+xml,<svg/>", "not base64")]
)
def test_broken_data_uris_cost_only_the_row(tmp_path: Path, uri: str, words: str) -> None:
    assert words in left_out(tmp_path / "a.json", {"image": uri, "text": "x"}).detail


def test_several_images_and_odd_values(tmp_path: Path) -> None:
    several = left_out(tmp_path / "a.json", {"image": ["a.png", "b.png"], "text": "x"})
    assert (several.reason, several.line) == ("several_images", 6)
    assert "no path" in left_out(tmp_path / "a.json", {"image": {"x": {"y": 1}}, "text": "x"}).detail
    assert "no path" in left_out(tmp_path / "a.json", {"image": 5, "text": "x"}).detail
    assert one(tmp_path / "a.json", {"image": [{"path": "a.png"}], "text": "x"}).image_path == "a.png"


def test_web_addresses_stay_as_written_and_file_addresses_become_paths(tmp_path: Path) -> None:
    candidate = one(tmp_path / "a.json", {"image": "https://example.org/a.png", "text": "x"})
    assert candidate.image_path == "https://example.org/a.png"
    candidate = one(tmp_path / "a.json", {"image": f"file://{tmp_path}/a%20b.png", "text": "x"})
    assert candidate.image == tmp_path / "a b.png"


def test_names_too_long_for_a_file_are_left_to_the_checks(tmp_path: Path) -> None:
    candidate = one(tmp_path / "a.json", {"image": "a\\" * 5000, "text": "x"})
    assert isinstance(candidate.image, Path)


def test_paths_from_another_folder_are_found_and_noted(tmp_path: Path) -> None:
    (tmp_path / "set/images").mkdir(parents=True)
    (tmp_path / "set/images/a.png").write_bytes(b"x")
    (tmp_path / "set/a.png").write_bytes(b"y")
    rows = [{"image": f"data/set/images/{name}.png", "text": "x"} for name in "ab"]
    rows.append({"image": "other/images/a.png", "text": "x"})
    source = open_rows(tmp_path / "set/labels.json", rows)
    assert "without 'data/set/'" in source.notes[0]
    found = [item.image for item in source.read() if isinstance(item, Candidate)]
    folder = tmp_path / "set"
    assert found == [folder / "images/a.png", folder / "images/b.png", folder / "other/images/a.png"]


def test_paths_that_are_found_as_written_stay(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x/a.png").write_bytes(b"x")
    (tmp_path / "b.png").write_bytes(b"x")
    source = open_rows(
        tmp_path / "l.json", [{"image": "x/b.png", "text": "t"}, {"image": "x/a.png", "text": "t"}]
    )
    assert source.notes == ()


def test_escapes_only_when_asked(tmp_path: Path) -> None:
    row = {"image": "a.png", "text": r"a\nb"}
    assert one(tmp_path / "a.json", row).text == r"a\nb"
    assert one(tmp_path / "a.json", row, escapes=True).text == "a\nb"


def test_rows_are_counted_only_where_that_is_cheap(tmp_path: Path) -> None:
    rows = [{"image": "a.png", "text": "x"}] * 5
    assert open_rows(tmp_path / "a.jsonl", rows).rows == 6
    assert open_rows(tmp_path / "a.json", rows).rows is None


def test_recognition(tmp_path: Path) -> None:
    def recognised(name: str, text: str) -> bool:
        (tmp_path / name).write_text(text, encoding="utf-8")
        return FORMAT.recognises(tmp_path / name, text.encode()[:8192])

    assert recognised("a.json", '[{"image": "a.png", "text": "x"}]')
    assert recognised("a.txt", '{"scan": "a.png", "truth": "x"}\n')
    assert recognised("a.jsonl", '{"image": "a.png", "te')  # so that opening it says what is wrong
    assert not recognised("a.md", "[1] a list of notes\n")
    assert not recognised("b.txt", "{x} a.png text\n")
    assert not FORMAT.recognises(tmp_path, b"")
