"""Texts that do not fit the writing in their image."""

from __future__ import annotations

from pathlib import Path

import pytest

from ocrsmith.datasets.check.findings import Finding
from ocrsmith.datasets.check.fit import Fit, width_units
from ocrsmith.datasets.check.ink import measure
from ocrsmith.images import open_image

from .conftest import WORDS, draw, encoded, sample

Rows = list[tuple[bytes, str]]


def _findings(rows: Rows) -> dict[str, Finding]:
    fit = Fit()
    for number, (image, text) in enumerate(rows):
        pixels = open_image(image, keep_grey=True)
        fit.add(sample(number, image, text), "train", *pixels.size, measure(pixels))
    return {item.code: item for item in fit.findings(len(rows))}


def _lines(count: int = 48) -> Rows:
    """Lines of several lengths and sizes with their own texts."""
    rows = []
    for number in range(count):
        text = WORDS[number % 8][: 14 + number % 30].strip()
        rows.append((encoded(draw(text, 18 + number % 5 * 6)), text))
    return rows


def test_proper_labels_of_any_size_raise_no_alarm() -> None:
    assert _findings(_lines()) == {}


def test_planted_labels_are_found_and_ranked() -> None:
    rows = _lines()
    rows[5] = (rows[5][0], " ".join(WORDS[:5]))
    rows[20] = (rows[20][0], " ".join(WORDS[:3]))
    rows[29] = (rows[29][0], rows[29][1][:12])
    found = _findings(rows)
    assert [example.id for example in found["text_too_long"].examples] == ["s5", "s20"]
    assert [example.id for example in found["text_too_short"].examples] == ["s29"]
    assert found["text_too_long"].count == 2
    example = found["text_too_long"].examples[0]
    assert example.thumbnail.startswith("data:image/jpeg;base64,")
    assert "times more text than the writing suggests" in example.note


def test_boldness_and_resolution_do_not_matter() -> None:
    rows = _lines()
    large = draw(WORDS[0], 120)
    faded = draw(WORDS[1], 20, ink=190, paper=230)
    assert _findings([*rows, (encoded(large), WORDS[0]), (encoded(faded), WORDS[1])]) == {}


def test_few_samples_are_not_judged() -> None:
    assert _findings([*_lines(6), (encoded(draw("harbour dues")), " ".join(WORDS))]) == {}


def test_markup_is_no_writing() -> None:
    assert width_units("<table><tr><td>ab</td></tr></table>") == width_units("ab")
    assert width_units("中文") == 2
    assert width_units("") == 0


def test_swapped_labels_of_real_lines_are_found(shared: Path) -> None:
    """Typewritten carbon copies: labels that were exchanged with others of half or twice their length."""
    root = shared / "data" / "tapus_alto"
    if not root.is_dir():
        pytest.skip("needs ../shared/data/tapus_alto (real typewritten lines), which is not here")
    listed = [row.split("\t") for row in (root / "labels.tsv").read_text(encoding="utf-8").splitlines()]
    rows = [((root / path).read_bytes(), text) for path, text in listed if path.startswith("lines/")]
    clean = _findings(rows)
    assert sum(item.count for item in clean.values()) <= 0.01 * len(rows)
    order = sorted(range(len(rows)), key=lambda place: width_units(rows[place][1]))
    swapped = list(zip(order[60:70], order[-10:], strict=True))
    for short, long in swapped:
        rows[short], rows[long] = (rows[short][0], rows[long][1]), (rows[long][0], rows[short][1])
    ids = {example.id for item in _findings(rows).values() for example in item.examples}
    planted = {f"s{place}" for pair in swapped for place in pair}
    assert len(planted & ids) >= 15
    assert len(ids - planted) <= 0.015 * len(rows)
