"""JSON exports of Label Studio."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ocrsmith.datasets.importers.base import Candidate, ImportOptions, LineCrop
from ocrsmith.datasets.importers.label_studio import FORMAT
from ocrsmith.errors import DataError
from ocrsmith.records import Excluded


def result(kind: str, value: dict[str, Any], region: str = "r1", **others: Any) -> dict[str, Any]:
    size = {"original_width": 200, "original_height": 100, "image_rotation": 0}
    return {"id": region, "type": kind, "from_name": kind, "to_name": "image", "value": value, **size, **others}


def line(
    region: str, text: str | None, x: float, y: float, w: float = 40, h: float = 10
) -> list[dict[str, Any]]:
    """The results of a region of the OCR template: shape, label and text of one id."""
    box = {"x": x, "y": y, "width": 40, "height": 10, "rotation": 0}
    found = [result("rectangle", box, region), result("labels", {**box, "labels": ["Text"]}, region)]
    return [*found, result("textarea", {**box, "text": [text]}, region)] if text is not None else found


def annotation(*results: dict[str, Any], **others: Any) -> dict[str, Any]:
    return {"id": 9, "was_cancelled": False, "ground_truth": False, "result": list(results), **others}


def task(*annotations: dict[str, Any], image: str = "a.png", **others: Any) -> dict[str, Any]:
    return {"id": 5, "data": {"image": image}, "annotations": list(annotations), **others}


def read(folder: Path, *tasks: Any, **options: Any) -> list[Candidate | Excluded]:
    file = folder / "export.json"
    file.write_text(json.dumps(tasks), encoding="utf-8")
    return list(FORMAT.open(file, ImportOptions(**options)).read())


def page(folder: Path, *tasks: Any, **options: Any) -> Candidate:
    (found,) = read(folder, *tasks, **options)
    assert isinstance(found, Candidate), found
    return found


def test_a_page_is_its_regions_texts_in_reading_order(tmp_path: Path) -> None:
    results = [*line("b", "second", 10, 40), *line("c", "third", 10, 70), *line("a", "first", 10, 10)]
    found = page(tmp_path, task(annotation(*results)))
    assert (found.text, found.image, found.id) == (
        "first\nsecond\nthird",
        tmp_path / "a.png",
        "export.json#task_5",
    )
    assert found.meta == {"annotation": 9}
    assert (found.group, found.line) == ("", 1)


def test_lines_are_cut_along_their_regions(tmp_path: Path) -> None:
    polygon = result(
        "polygonlabels", {"points": [[10, 20], [50, 20], [50, 30]], "polygonlabels": ["Hand"]}, "p"
    )
    text = result("textarea", {"points": [[10, 20], [50, 20], [50, 30]], "text": ["two"]}, "p")
    found = read(tmp_path, task(annotation(*line("a", "one", 10, 10), polygon, text)), unit="line")
    first, second = [item for item in found if isinstance(item, Candidate)]
    assert first.image == LineCrop(tmp_path / "a.png", ((20, 10), (100, 10), (100, 20), (20, 20)))
    assert second.image == LineCrop(tmp_path / "a.png", ((20, 20), (100, 20), (100, 30)))
    assert (first.text, second.text) == ("one", "two")
    assert (first.id, first.group) == ("export.json#task_5#a", "a.png")
    assert (first.meta["labels"], second.meta["labels"]) == (["Text"], ["Hand"])


def test_rectangles_turn_clockwise_around_their_upper_left_corner(tmp_path: Path) -> None:
    box = {"x": 50, "y": 50, "width": 20, "height": 10, "rotation": 90}
    results = [result("rectangle", box), result("textarea", {**box, "text": ["down"]})]
    (found,) = read(tmp_path, task(annotation(*results)), unit="line")
    assert isinstance(found, Candidate)
    assert isinstance(found.image, LineCrop)
    # 40 wide and 10 high at (100, 50): after a quarter it reaches 40 down and 10 to the left.
    assert [(round(x, 6), round(y, 6)) for x, y in found.image.polygon] == [
        (100, 50),
        (100, 90),
        (90, 90),
        (90, 50),
    ]


def test_ellipses_become_their_box_and_brushes_no_lines(tmp_path: Path) -> None:
    ellipse = {"x": 50, "y": 50, "radiusX": 10, "radiusY": 20}
    brush = {"rle": [1, 2, 3], "format": "rle"}
    results = [
        result("ellipse", ellipse, "e"),
        result("textarea", {"text": "one"}, "e"),
        result("brush", brush, "b"),
        result("textarea", {"text": ["two"]}, "b"),
    ]
    first, second = read(tmp_path, task(annotation(*results)), unit="line")
    assert isinstance(first, Candidate)
    assert isinstance(first.image, LineCrop)
    assert first.image.polygon == ((80, 30), (120, 70))
    assert isinstance(second, Excluded)
    assert "no place on the page" in second.detail
    assert page(tmp_path, task(annotation(*results))).text == "one\ntwo"


def test_a_text_area_without_a_place_is_the_text_of_the_page(tmp_path: Path) -> None:
    whole = result("textarea", {"text": ["one", "two"]}, "w")
    assert page(tmp_path, task(annotation(whole))).text == "one\ntwo"
    assert page(tmp_path, task(annotation(*line("a", "region", 1, 1), whole))).text == "one\ntwo"


def test_a_page_with_a_region_without_text_is_incomplete(tmp_path: Path) -> None:
    results = [*line("a", "one", 10, 10), *line("b", None, 10, 40)]
    (found,) = read(tmp_path, task(annotation(*results)))
    assert isinstance(found, Excluded)
    assert "1 of 2 regions" in found.detail
    first, second = read(tmp_path, task(annotation(*results)), unit="line")
    assert isinstance(first, Candidate)
    assert isinstance(second, Excluded)
    assert (first.text, second.reason) == ("one", "empty_text")


def test_cancelled_annotations_do_not_count(tmp_path: Path) -> None:
    cancelled = annotation(*line("a", "wrong", 10, 10), was_cancelled=True, id=1, updated_at="2024-05-05")
    assert page(tmp_path, task(cancelled, annotation(*line("a", "right", 10, 10)))).text == "right"
    for none in (task(cancelled), task()):
        (found,) = read(tmp_path, none)
        assert isinstance(found, Excluded)
        assert "no annotation" in found.detail


def test_of_several_the_ground_truth_or_else_the_latest_is_taken(tmp_path: Path) -> None:
    def by(text: str, day: str, **others: Any) -> dict[str, Any]:
        return annotation(*line("a", text, 10, 10), updated_at=f"2024-05-{day}T00:00:00Z", **others)

    found = page(tmp_path, task(by("old", "01"), by("new", "03"), by("mid", "02")))
    assert (found.text, found.meta["other_annotations"]) == ("new", 2)
    assert page(tmp_path, task(by("true", "01", ground_truth=True), by("new", "03"))).text == "true"
    assert page(tmp_path, task(by("first", "01"), by("last", "01"))).text == "last"
    source = FORMAT.open(tmp_path / "export.json", ImportOptions())
    assert "else the latest" in source.notes[0]


def test_addresses_of_the_server_become_paths(tmp_path: Path) -> None:
    whole = annotation(result("textarea", {"text": ["x"]}))
    for file in ("sub/a b.png", "upload/1/0a1b2c3d-c.png", "images/0a1b2c3d-d.png", "e.png"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_bytes(b"x")

    def image(address: str) -> Any:
        return page(tmp_path, task(whole, image=address)).image

    assert image("/data/local-files/?d=sub/a%20b.png") == tmp_path / "sub/a b.png"
    assert image("/data/local-files/?d=elsewhere/sub/a%20b.png") == tmp_path / "sub/a b.png"
    assert image("/data/upload/1/0a1b2c3d-c.png") == tmp_path / "upload/1/0a1b2c3d-c.png"
    assert image("/data/upload/1/0a1b2c3d-d.png") == tmp_path / "images/0a1b2c3d-d.png"
    assert image("/data/upload/1/0a1b2c3d-e.png") == tmp_path / "e.png"
    assert image("/data/upload/1/0a1b2c3d-f.png") == tmp_path / "upload/1/0a1b2c3d-f.png"
    assert page(tmp_path, task(whole, image="s3://bucket/a.png")).image_path == "s3://bucket/a.png"


def test_the_image_may_be_under_another_name(tmp_path: Path) -> None:
    whole = annotation(result("textarea", {"text": ["x"]}))
    for data in ({"ocr": "a.png"}, {"captioning": "a.png"}, {"scan": "a.png", "book": "b"}):
        assert page(tmp_path, {**task(whole), "data": data}).image_path == "a.png"
    odd = {**task(whole), "data": {"front": "a.png", "back": "b.png"}}
    (found,) = read(tmp_path, odd)
    assert isinstance(found, Excluded)
    assert "'front', 'back'" in found.detail
    assert page(tmp_path, odd, image_column="back").image_path == "b.png"


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (result("rectangle", {"x": 1, "y": 1, "width": 1, "height": 1}, original_width=0), "original_width"),
        (result("rectangle", {"x": "1", "y": 1, "width": 1, "height": 1}), "'1' where a number"),
        (result("rectangle", {"x": 1, "y": 1, "width": 1, "height": 1}, image_rotation=90), "turned by 90"),
    ],
)
def test_broken_regions_cost_their_task(tmp_path: Path, broken: dict[str, Any], words: str) -> None:
    good = task(annotation(result("textarea", {"text": ["x"]})))
    no_list = {**good, "annotations": [{"result": 1}]}
    first, second, third, fourth = read(tmp_path, good, task(annotation(broken)), {"data": 5}, no_list)
    assert isinstance(first, Candidate)
    assert isinstance(second, Excluded)
    assert words in second.detail
    assert isinstance(third, Excluded)
    assert isinstance(fourth, Excluded)


def test_recognition(tmp_path: Path) -> None:
    def recognised(value: Any) -> bool:
        file = tmp_path / "a.json"
        file.write_text(json.dumps(value), encoding="utf-8")
        return FORMAT.recognises(file, file.read_bytes()[:8192])

    assert recognised([task(annotation())])
    assert recognised([task()])
    assert not recognised([{"data": {"image": "a.png"}}])
    assert not recognised([{"image": "a.png", "annotations": [{"result": []}]}])
    assert not recognised({"data": [{"image": "a.png", "text": "x"}], "annotations": []})


def test_other_json_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('[{"image": "a.png", "label": []}]', encoding="utf-8")
    with pytest.raises(DataError, match="no tasks of Label Studio"):
        FORMAT.open(tmp_path / "a.json", ImportOptions())
