"""Boxes of grounded answers: intersection over union, one-to-one matching, F1."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocrsmith.evaluation.metrics.boxes import (
    MAX_BOXES,
    BoxScore,
    iou,
    score_boxes,
    score_boxes_all,
)
from ocrsmith.text.boxes import Box

COORDINATE = st.integers(-5, 20)
BOX = st.builds(Box, COORDINATE, COORDINATE, COORDINATE, COORDINATE)


def answer(*spans: tuple[str, list[list[int]]]) -> str:
    return "\n".join(f"<|ref|>{label}<|/ref|><|det|>{boxes}<|/det|>" for label, boxes in spans)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (Box(0, 0, 10, 10), Box(0, 0, 10, 10), 1.0),
        (Box(0, 0, 10, 10), Box(5, 0, 15, 10), 50 / 150),
        (Box(0, 0, 10, 10), Box(10, 0, 20, 10), 0.0),
        (Box(10, 10, 0, 0), Box(0, 0, 10, 5), 0.5),  # corners in the wrong order
        (Box(3, 3, 3, 3), Box(3, 3, 3, 3), 1.0),  # no area
        (Box(3, 3, 3, 3), Box(0, 0, 10, 10), 0.0),
        (Box(-1e15, 0, 1e15, 1), Box(0, 0, 1e15, 1), 0.5),
    ],
)
def test_iou_by_hand(first: Box, second: Box, expected: float) -> None:
    assert iou(first, second) == pytest.approx(expected)


@given(BOX, BOX)
def test_iou_is_a_symmetric_share_and_that_of_counted_squares(first: Box, second: Box) -> None:
    value = iou(first, second)
    assert 0 <= value <= 1
    assert value == pytest.approx(iou(second, first))
    assert iou(first, first) == 1

    def squares(box: Box) -> set[tuple[int, int]]:
        xs, ys = sorted((int(box.x1), int(box.x2))), sorted((int(box.y1), int(box.y2)))
        return {(x, y) for x in range(*xs) for y in range(*ys)}

    a, b = squares(first), squares(second)
    if a and b:
        assert value == pytest.approx(len(a & b) / len(a | b))


def test_matching_is_one_to_one_and_by_label() -> None:
    true = answer(("title", [[0, 0, 100, 10]]), ("text", [[0, 20, 100, 40], [0, 50, 100, 70]]))
    read = answer(
        ("title", [[0, 0, 100, 10]]), (" text ", [[0, 20, 100, 38], [0, 21, 100, 40], [0, 90, 9, 99]])
    )
    score = score_boxes(true, read)
    assert (score.matched, score.reference, score.prediction) == (2, 3, 4)
    assert score.iou == pytest.approx((1 + 0.95) / 2)
    assert (score.precision, score.recall, score.f1) == pytest.approx((2 / 4, 2 / 3, 4 / 7))


def test_labels_and_threshold_can_be_chosen() -> None:
    true, read = answer(("a", [[0, 0, 10, 10]])), answer(("b", [[0, 0, 10, 6]]))
    assert score_boxes(true, read).matched == 0
    assert score_boxes(true, read, labels=False).matched == 1
    assert score_boxes(true, read, labels=False, threshold=0.7).matched == 0
    for threshold in (0, -1, 1.5, float("nan")):
        with pytest.raises(ValueError, match="threshold"):
            score_boxes(true, read, threshold=threshold)


def test_answers_without_boxes() -> None:
    box = answer(("a", [[0, 0, 1, 1]]))
    scores = score_boxes_all(["", box, "", "<|ref|>a<|/ref|><|det|>broken<|/det|>"], ["", "", box, box])
    assert [(score.f1, score.iou) for score in scores] == [(1, None), (0, None), (0, None), (0, None)]
    assert sum(scores, BoxScore(0, 0, 0, 0)) == BoxScore(0, 1, 2, 0)


@given(st.lists(BOX, max_size=6), st.lists(BOX, max_size=6))
def test_scores_are_symmetric_shares(first: list[Box], second: list[Box]) -> None:
    def written(boxes: list[Box]) -> str:
        return answer(("a", [[box.x1, box.y1, box.x2, box.y2] for box in boxes]))  # type: ignore[list-item]

    score, back = score_boxes(written(first), written(second)), score_boxes(written(second), written(first))
    assert 0 <= score.f1 <= 1
    assert score.matched <= min(len(first), len(second))
    assert (score.reference, score.prediction) == (back.prediction, back.reference)
    assert score_boxes(written(first), written(first)).f1 == 1


def test_more_boxes_than_the_bound_match_nothing() -> None:
    many = answer(("a", [[n, 0, n + 1, 1] for n in range(MAX_BOXES + 3)]))
    score = score_boxes(many, many)
    assert (score.matched, score.reference) == (MAX_BOXES, MAX_BOXES + 3)
