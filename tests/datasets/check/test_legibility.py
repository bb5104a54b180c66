"""What the modes leave of the letters: against the pixels that the encoder really gets."""

from __future__ import annotations

import pytest
from PIL import Image

from ocrsmith.datasets.check.ink import measure
from ocrsmith.datasets.check.legibility import GOALS, Legibility, scale_of, tokens_of
from ocrsmith.images import MODES, make_views
from ocrsmith.records import PageSample

from .conftest import WORDS, draw

SAMPLE = PageSample("s", b"", "", "text")
PAGE = draw("\n".join(f"{first}. {second}" for first in WORDS for second in WORDS), 30)


@pytest.mark.parametrize("mode", ["base", "large"])
def test_the_scale_is_that_of_the_view(mode: str) -> None:
    view = Image.fromarray(make_views(PAGE, MODES[mode]).global_view)
    before, after = measure(PAGE).letter_height, measure(view).letter_height
    assert before is not None
    assert after == pytest.approx(before * scale_of(*PAGE.size, MODES[mode]), abs=1.5)


def test_the_scale_is_that_of_the_tiles() -> None:
    views = make_views(PAGE, MODES["gundam"])
    assert len(views.tiles) > 1
    heights = [found for tile in views.tiles if (found := measure(Image.fromarray(tile)).letter_height)]
    expected = measure(PAGE).letter_height * views.rows * 640 / PAGE.height  # type: ignore[operator]
    assert sorted(heights)[len(heights) // 2] == pytest.approx(expected, rel=0.15)
    assert scale_of(*PAGE.size, MODES["gundam"]) == min(
        views.columns * 640 / PAGE.width, views.rows * 640 / PAGE.height
    )


def test_stretching_counts_in_the_narrower_direction() -> None:
    assert scale_of(2048, 64, MODES["tiny"]) == 0.25  # 512 / 2048: the letters get that narrow
    assert scale_of(2048, 64, MODES["base"]) == 0.5
    assert scale_of(64, 2048, MODES["small"]) == 640 / 2048
    assert scale_of(100_000, 3, MODES["base"]) == pytest.approx(1024 / 100_000)


@pytest.mark.parametrize("mode", list(MODES))
@pytest.mark.parametrize("size", [(400, 64), (1240, 1754), (2000, 300), (640, 640), (641, 640)])
def test_tokens_are_those_of_the_views(mode: str, size: tuple[int, int]) -> None:
    assert tokens_of(*size, MODES[mode]) == make_views(Image.new("L", size), MODES[mode]).num_tokens


def test_the_cheapest_mode_that_does_it_is_recommended() -> None:
    found = Legibility()
    for number in range(100):
        # Letters of 12 px: small shows the lines (scale 0.8), tiny does not (0.64); five pages need tiles.
        page = number < 5
        found.add(SAMPLE, "train", 2480 if page else 800, 3508 if page else 100, 20 if page else 12)
    report = found.report()
    by_name = {item.mode: item for item in report.modes}
    assert by_name["tiny"].legible == 0
    assert by_name["small"].legible == 0.95
    assert by_name["base"].legible == 0.95
    assert by_name["gundam"].legible == 1
    assert report.recommended == {0.9: "small", 0.95: "small", 0.99: "gundam"}
    assert {name: item.needed for name, item in by_name.items() if item.needed} == {"small": 95, "gundam": 5}
    assert report.best.mode == "gundam"
    assert not found.findings()


def test_letters_too_small_in_every_mode_are_a_warning() -> None:
    found = Legibility()
    found.add(SAMPLE, "train", 10_000, 10_000, 20)  # gundam: 9 tiles, 1920 px: 3.8 px are left
    found.add(SAMPLE, "val", 400, 40, 5)
    found.add(SAMPLE, "val", 400, 40, None)
    assert {item.code: item.count for item in found.findings()} == {
        "letters_small": 1,
        "letters_small_in_image": 1,
    }
    report = found.report()
    assert (report.measured, report.total) == (2, 3)
    assert report.recommended == dict.fromkeys(GOALS)  # the one line needs large, the page has no mode


def test_without_letters_nothing_is_recommended() -> None:
    found = Legibility()
    found.add(SAMPLE, "train", 100, 100, None)
    assert set(found.report().recommended.values()) == {None}
