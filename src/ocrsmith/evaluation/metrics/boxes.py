"""Boxes in grounded answers: intersection over union, and F1 at a threshold.

Definition: two boxes match if their intersection over union (IoU) reaches the threshold and their labels are
the same (white space at the ends apart). Pairs are taken one to one, the largest IoU first; of equal ones the
first in the reference, then in the prediction. Corners in the wrong order are put in order; a box without area
equals only itself. Boxes beyond `MAX_BOXES` of a text match nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ocrsmith.text.boxes import Box, parse_boxes

MAX_BOXES = 2000
THRESHOLD = 0.5


@dataclass(frozen=True, slots=True)
class BoxScore:
    """How many boxes were found."""

    matched: int
    reference: int
    """Boxes of the reference."""
    prediction: int
    """Boxes of the prediction."""
    iou_sum: float
    """Over the matched pairs."""

    @property
    def precision(self) -> float:
        """Share of the boxes read that match; 1 where there are no boxes at all."""
        return self.matched / self.prediction if self.prediction else float(not self.reference)

    @property
    def recall(self) -> float:
        """Share of the reference's boxes that were found; 1 where there are no boxes at all."""
        return self.matched / self.reference if self.reference else float(not self.prediction)

    @property
    def f1(self) -> float:
        """2 · matched / (boxes of the reference + boxes read); 1 where there are none."""
        both = self.reference + self.prediction
        return 2 * self.matched / both if both else 1.0

    @property
    def iou(self) -> float | None:
        """Mean IoU of the matched pairs; None where there are none."""
        return self.iou_sum / self.matched if self.matched else None

    def __add__(self, other: BoxScore) -> BoxScore:
        """Of both together (micro)."""
        return BoxScore(
            self.matched + other.matched,
            self.reference + other.reference,
            self.prediction + other.prediction,
            self.iou_sum + other.iou_sum,
        )


def iou(first: Box, second: Box) -> float:
    """Area that both have, divided by the area that either has: 0 to 1, symmetric."""
    return float(_ious([first], [second])[0, 0])


def score_boxes(
    reference: str, prediction: str, *, threshold: float = THRESHOLD, labels: bool = True
) -> BoxScore:
    """Scores the boxes in two grounded answers (`text.boxes.parse_boxes` reads them).

    Args:
        reference: the true answer.
        prediction: what was read.
        threshold: least IoU of a match, above 0, at most 1.
        labels: whether labels must be the same.

    Raises:
        ValueError: the threshold is out of range.
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold {threshold} is not above 0 and at most 1")
    true, read = _labelled(reference), _labelled(prediction)
    values = _ious([box for _, box in true[:MAX_BOXES]], [box for _, box in read[:MAX_BOXES]])
    good = values >= threshold
    if labels:
        names = ([label for label, _ in boxes[:MAX_BOXES]] for boxes in (true, read))
        numbers: dict[str, int] = {}
        first, second = ([numbers.setdefault(name, len(numbers)) for name in own] for own in names)
        good &= np.array(first, int)[:, None] == np.array(second, int)[None, :]
    rows, columns = np.nonzero(good)
    free_rows, free_columns = set(rows.tolist()), set(columns.tolist())
    total, matched = 0.0, 0
    for place in np.argsort(-values[rows, columns], kind="stable").tolist():
        row, column = int(rows[place]), int(columns[place])
        if row in free_rows and column in free_columns:
            free_rows.remove(row)
            free_columns.remove(column)
            total, matched = total + float(values[row, column]), matched + 1
    return BoxScore(matched, len(true), len(read), total)


def score_boxes_all(
    references: Sequence[str],
    predictions: Sequence[str],
    *,
    threshold: float = THRESHOLD,
    labels: bool = True,
) -> list[BoxScore]:
    """`score_boxes` of each pair. Raises ValueError on unequal numbers."""
    pairs = zip(references, predictions, strict=True)
    return [score_boxes(true, read, threshold=threshold, labels=labels) for true, read in pairs]


def _labelled(text: str) -> list[tuple[str, Box]]:
    return [(span.label.strip(), box) for span in parse_boxes(text) for box in span.boxes]


def _ious(first: Sequence[Box], second: Sequence[Box]) -> npt.NDArray[np.float64]:
    a, b = _corners(first)[:, None], _corners(second)[None, :]
    low = np.maximum(a[..., :2], b[..., :2])
    high = np.minimum(a[..., 2:], b[..., 2:])
    common = np.clip(high - low, 0, None).prod(axis=-1)
    areas = (a[..., 2:] - a[..., :2]).prod(axis=-1) + (b[..., 2:] - b[..., :2]).prod(axis=-1)
    union = areas - common
    same = (a == b).all(axis=-1)
    return np.where(same, 1.0, np.clip(common / np.where(union > 0, union, 1), 0, 1))


def _corners(boxes: Sequence[Box]) -> npt.NDArray[np.float64]:
    """(boxes, 4): left, top, right, bottom."""
    values = np.array([(box.x1, box.y1, box.x2, box.y2) for box in boxes], np.float64).reshape(-1, 4)
    return np.concatenate(
        [np.minimum(values[:, :2], values[:, 2:]), np.maximum(values[:, :2], values[:, 2:])], 1
    )
