"""Labels that a model, sure of itself, reads otherwise."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

import pytest

from ocrsmith.datasets.check import find_label_errors
from ocrsmith.datasets.check.labels import label_finding
from ocrsmith.records import FinishReason, PageSample, Prediction

from .conftest import draw, encoded, sample


def _prediction(name: str, text: str, sure: float | None = 1.0, finish: FinishReason = "stop") -> Prediction:
    return Prediction(name, text, finish, 0.1, logprob_mean=None if sure is None else math.log(sure))


class Reader:
    """Gives the answers of a table, the last page first."""

    def __init__(self, answers: dict[str, tuple[str, float | None, FinishReason]]) -> None:
        self.answers = answers
        self.batches: list[int] = []

    def __call__(self, samples: Sequence[PageSample]) -> Iterable[Prediction]:
        self.batches.append(len(samples))
        for item in reversed(samples):
            text, sure, finish = self.answers.get(item.text, (item.text, 1.0, "stop"))
            yield _prediction(item.id, text, sure, finish)


def _samples(texts: Sequence[str]) -> Iterator[tuple[None, PageSample]]:
    return ((None, sample(number, b"", text)) for number, text in enumerate(texts))


def test_sure_and_far_from_the_label_comes_first() -> None:
    reader = Reader(
        {
            "abcdefghij": ("abcdefgh__", 0.99, "stop"),
            "klmnopqrst": ("__________", 0.99, "stop"),
            "uvwxyz1234": ("__________", 0.70, "stop"),
        }
    )
    errors, count = find_label_errors(_samples(["abcdefghij", "fine", "klmnopqrst", "uvwxyz1234"]), reader)
    assert count == 3
    assert [error.sample.id for error in errors] == ["s2", "s3", "s0"]
    assert errors[0].to_json() == {
        "id": "s2",
        "split": None,
        "label": "klmnopqrst",
        "prediction": "__________",
        "confidence": 0.99,
        "cer": 1.0,
        "score": 0.99,
    }


@pytest.mark.parametrize(
    ("text", "sure", "finish"),
    [
        ("label!", 0.99, "stop"),  # one slip of six
        ("nothing alike", 0.4, "stop"),
        ("nothing alike", None, "stop"),
        ("la la la la la", 0.99, "loop"),
        ("nothing alike", 0.99, "length"),
        ("", 0.99, "error"),
    ],
)
def test_doubtful_readings_say_nothing_about_a_label(
    text: str, sure: float | None, finish: FinishReason
) -> None:
    label = "labels and more" if text == "label!" else "label"
    answer = "labels and mor." if text == "label!" else text
    errors, count = find_label_errors(_samples([label]), Reader({label: (answer, sure, finish)}))
    assert (errors, count) == ([], 0)


def test_only_the_likeliest_are_kept_and_pages_come_in_batches() -> None:
    texts = [f"{'x' * number}{'y' * (100 - number)}" for number in range(20, 100)] * 4
    reader = Reader({text: (text.replace("x", "_"), 0.9, "stop") for text in texts})
    told: list[int] = []
    errors, count = find_label_errors(_samples(texts), reader, most=5, progress=told.append)
    assert count == len(texts)
    assert [error.cer for error in errors] == [0.99, 0.99, 0.99, 0.99, 0.98]
    assert reader.batches == [128, 128, 64]
    assert told == [128, 256, 320]


def test_repeated_ids_do_not_confuse() -> None:
    pairs = [(None, sample("same", b"", text)) for text in ("one one one", "two two two")]
    errors, _ = find_label_errors(iter(pairs), Reader({"two two two": ("three three", 0.9, "stop")}))
    assert [(error.sample.text, error.prediction) for error in errors] == [("two two two", "three three")]


def test_the_finding_shows_label_reading_and_picture() -> None:
    pairs = [(None, sample(0, encoded(draw("harbour dues")), "other text"))]
    errors, count = find_label_errors(iter(pairs), Reader({"other text": ("harbour dues", 0.97, "stop")}))
    found = label_finding(errors, count, 10)
    assert (found.code, found.count, found.share) == ("label_error", 1, 0.1)
    assert "read: harbour dues (97% sure" in found.examples[0].note
    assert found.examples[0].thumbnail
