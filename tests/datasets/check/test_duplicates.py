"""Copies within a set, and leaks between its splits."""

from __future__ import annotations

from ocrsmith.datasets.check.duplicates import Copies
from ocrsmith.datasets.check.findings import Finding, Part
from ocrsmith.datasets.traits import traits_of
from ocrsmith.images import open_image
from ocrsmith.records import PageSample

from .conftest import WORDS, draw, encoded, sample


def _copies(*items: tuple[Part, PageSample]) -> Copies:
    copies = Copies()
    for split, item in items:
        copies.add(item, split, traits_of(item.image, open_image(item.image), item.text))
    return copies


def _codes(findings: list[Finding]) -> dict[str, int]:
    return {item.code: item.count for item in findings}


IMAGES = [encoded(draw(text)) for text in WORDS]


def test_a_set_without_copies_has_no_findings() -> None:
    copies = _copies(*(("train", sample(number, IMAGES[number], WORDS[number])) for number in range(8)))
    assert copies.findings() == []
    assert copies.leaks("set") == (None, [])
    assert copies.to_json() == {"samples": 8, "different_images": 8, "different_texts": 8}


def test_one_image_with_two_texts_is_an_error() -> None:
    copies = _copies(
        ("train", sample(0, IMAGES[0], "one")),
        ("train", sample(1, IMAGES[1], "two")),
        ("train", sample(2, IMAGES[0], "another")),
    )
    (found,) = copies.findings()
    assert (found.code, found.severity, found.count) == ("same_image_other_text", "error", 2)
    assert [(example.id, example.text) for example in found.examples] == [("s0", "one"), ("s2", "another")]


def test_copies_with_the_same_text() -> None:
    copies = _copies(*(("train", sample(number, IMAGES[0], "one")) for number in range(3)))
    assert _codes(copies.findings()) == {"repeated_sample": 3}


def test_one_text_of_many_images() -> None:
    items: list[tuple[Part, PageSample]] = [
        ("train", sample(number, IMAGES[number], "Total")) for number in range(6)
    ]
    (found,) = _copies(*items).findings()
    assert (found.code, found.severity, found.count) == ("repeated_text", "info", 6)
    assert found.examples[0].text == "Total"
    assert found.examples[0].note == "6 images"


def test_a_planted_leak_is_found_and_named() -> None:
    copies = _copies(
        ("train", sample("a", IMAGES[0], WORDS[0])),
        ("train", sample("b", IMAGES[1], WORDS[1])),
        ("test", sample("c", IMAGES[0], WORDS[0])),
    )
    report, (found,) = copies.leaks("set")
    assert report is not None
    assert report.found
    assert (found.code, found.severity, found.count) == ("leak_bytes", "error", 1)
    assert (found.examples[0].id, found.examples[0].split) == ("sc", "test")
    assert found.examples[0].note == "as sa in train"


def test_samples_that_are_not_split_cannot_leak() -> None:
    copies = _copies((None, sample(0, IMAGES[0], "one")), (None, sample(1, IMAGES[0], "one")))
    assert copies.leaks("set") == (None, [])
    assert _codes(copies.findings()) == {"repeated_sample": 2}
