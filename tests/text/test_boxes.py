"""Boxes in grounded answers: what is read, what is refused, and that nothing is ever evaluated."""

import ast
import json
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocrsmith.text.boxes import Box, parse_boxes

MARKS = ("<|ref|>", "<|/ref|>", "<|det|>", "<|/det|>", "<|/ref|><|det|>")


def span(coordinates: str, label: str = "text") -> str:
    return f"<|ref|>{label}<|/ref|><|det|>{coordinates}<|/det|>"


def boxes_of(coordinates: str) -> list[tuple]:
    (found,) = parse_boxes(span(coordinates))
    return [(box.x1, box.y1, box.x2, box.y2) for box in found.boxes]


def is_box(entry: object) -> bool:
    numbers = isinstance(entry, list | tuple) and all(isinstance(value, int | float) for value in entry)
    return numbers and len(entry) == 4


class TestReading:
    def test_labels_boxes_and_places(self) -> None:
        text = f"before {span('[[1, 2, 30, 40]]', 'title')}\n# A\n{span('[[0,0,9,9],[5,5,8,8]]', '图')} after"
        title, figure = parse_boxes(text)
        assert (title.label, title.boxes) == ("title", (Box(1, 2, 30, 40),))
        assert (figure.label, figure.boxes) == ("图", (Box(0, 0, 9, 9), Box(5, 5, 8, 8)))
        assert text[: title.start] == "before "
        assert text[title.end : figure.start] == "\n# A\n"
        assert text[figure.end :] == " after"

    @pytest.mark.parametrize(
        ("coordinates", "boxes"),
        [
            ("[[-20, 0, 1000, 1e2]]", [(-20, 0, 1000, 100.0)]),
            ("[[1.5, 2., 3, 4]]", [(1.5, 2.0, 3, 4)]),
            ("((1, 2, 3, 4),)", [(1, 2, 3, 4)]),
            ("[1,2,3,4],[5,6,7,8]", [(1, 2, 3, 4), (5, 6, 7, 8)]),
            ("\n [ [1,\t2,\n3, 4,], ] ", [(1, 2, 3, 4)]),
            ("[[1,2,3,4],['a','b','c','d'],[5,6,7,8]]", [(1, 2, 3, 4), (5, 6, 7, 8)]),
        ],
    )
    def test_well_formed(self, coordinates: str, boxes: list[tuple]) -> None:
        assert boxes_of(coordinates) == boxes

    @pytest.mark.parametrize(
        "coordinates",
        [
            "",
            "[]",
            "[1,2,3,4]",
            "((1, 2, 3, 4))",
            "[[1,2,3]]",
            "[[1,2,3,4]",
            "[[1,2,3,4]]]",
            "[[1,2,3,4)]",
            "[[1 2 3 4]]",
            "[[1,,2,3,4]]",
            "[[01,2,3,4]]",
            "[[1_0,2,3,4]]",
            "[[0x1,2,3,4]]",
            "[[True,2,3,4]]",
            "[[1e999,2,3,4]]",
            "[[1e300,2,3,4]]",
            "[[" + "9" * 5000 + ",2,3,4]]",
            "[[١,٢,٣,٤]]",
            "[" * 10_000,
            "[" * 50 + "]" * 50,
            "{'a': [1,2,3,4]}",
            "[[1,2,3,4]] # note",
        ],
    )
    def test_everything_else_gives_no_box(self, coordinates: str) -> None:
        assert boxes_of(coordinates) == []

    def test_code_is_never_run(self, tmp_path: Path) -> None:
        marker = tmp_path / "ran"
        for code in (
            f"[[len(str(open({str(marker)!r},'w').write('x'))), 20, 30, 40]]",
            f"__import__('pathlib').Path({str(marker)!r}).touch() or [[0, 0, 1, 1]]",
            "[[10*2, 20+1, 2**9, 999-1]]",
            "[[i, i, i+9, i+9] for i in range(3)]",
            "[[9**9**9, 0, 1, 1]]",
        ):
            assert boxes_of(code) == []
        assert not marker.exists()


class TestPixels:
    def test_999_is_the_far_edge(self) -> None:
        assert Box(0, 0, 999, 999).to_pixels(1240, 1754) == (0, 0, 1240, 1754)

    def test_truncates_towards_zero(self) -> None:
        # 10 / 999 · 1240 = 12.41…; -20 / 999 · 1754 = -35.1…
        assert Box(10, -20, 999, 0).to_pixels(1240, 1754) == (12, -35, 1240, 0)

    def test_crop_area_is_ordered_and_inside(self) -> None:
        assert Box(999, 999, -50, 500).crop_area(100, 200) == (0, 100, 100, 200)
        assert Box(200, 200, 200, 900).crop_area(100, 200) is None
        assert Box(1100, 0, 1200, 999).crop_area(100, 200) is None


class TestProperties:
    NUMBERS = st.integers(-2000, 2000) | st.floats(-2000, 2000, allow_nan=False)
    ENTRIES = st.lists(NUMBERS | st.sampled_from(["x", "12"]), max_size=6)

    @given(st.lists(ENTRIES | NUMBERS, max_size=5), st.booleans())
    def test_agrees_with_python_on_literals(self, value: list, as_tuples: bool) -> None:
        source = repr(value)
        if as_tuples:
            source = source.replace("[", "(").replace("]", ",)").replace("(,)", "()")
        expected = [tuple(entry) for entry in ast.literal_eval(source) if is_box(entry)]
        assert boxes_of(source) == expected

    @given(st.text(alphabet="[](),.-+e0159 '\"ax\n", max_size=40))
    def test_never_reads_more_than_python_does(self, source: str) -> None:
        found = boxes_of(source)
        if found:
            value = ast.literal_eval(" ".join(source.split()))
            assert found == [tuple(entry) for entry in value if is_box(entry)]

    @given(st.lists(st.sampled_from(MARKS) | st.text(max_size=5), max_size=20))
    def test_any_text_is_survived_and_spans_are_in_order(self, parts: list[str]) -> None:
        text = "".join(parts)
        position = 0
        for found in parse_boxes(text):
            assert position <= found.start < found.end
            assert text[found.start : found.end] == span(found.coordinates, found.label)
            position = found.end

    @pytest.mark.parametrize(
        "text",
        ["<|ref|>" * 100_000, "<|ref|>a<|/ref|><|det|>" * 50_000, span("[" + "[1,2,3,4]," * 20_000 + "]")],
        ids=["never closed", "never ended", "many boxes"],
    )
    def test_time_is_linear(self, text: str) -> None:
        started = time.perf_counter()
        parse_boxes(text)
        assert time.perf_counter() - started < 5  # quadratic time would be minutes


def test_reference(golden: Path) -> None:
    cases = json.loads((golden / "grounding.json").read_text(encoding="utf-8"))["cases"]
    assert len(cases) == 38
    for case in cases:
        spans = parse_boxes(case["text"])
        found = [list(box.to_pixels(*case["image_size"])) for s in spans for box in s.boxes]
        if case["executed_code"]:
            assert found == [], case["name"]
            continue
        assert [s.label for s in spans] == [match["label"] for match in case["re_match"]], case["name"]
        assert [case["text"][s.start : s.end] for s in spans] == [m["full"] for m in case["re_match"]]
        for parsed, extracted in zip(spans, case["extracted"], strict=True):
            expected = [tuple(entry) for entry in extracted[1] if is_box(entry)] if extracted else []
            assert [(b.x1, b.y1, b.x2, b.y2) for b in parsed.boxes] == expected, case["name"]
        assert found == [drawn["box"] for drawn in case["drawn_boxes"]], case["name"]
