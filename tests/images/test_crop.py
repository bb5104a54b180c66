"""Cutting lines out of pages: boxes, rotated quadrilaterals, polygons, and all that lies askew or outside."""

from __future__ import annotations

import itertools
import math

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from ocrsmith.errors import ImageError
from ocrsmith.images import cut

RED, GREEN, BLUE, YELLOW = (220, 20, 20), (20, 160, 20), (20, 20, 220), (230, 220, 20)
PAPER = (240, 235, 220)


def noise(width: int = 60, height: int = 40) -> Image.Image:
    return Image.fromarray(np.random.default_rng(5).integers(0, 256, (height, width, 3), dtype=np.uint8))


def same(one: Image.Image, other: Image.Image) -> bool:
    return one.mode == other.mode and np.array_equal(np.asarray(one), np.asarray(other))


def page_with_quad(corners: list[tuple[float, float]], size: tuple[int, int] = (400, 300)) -> Image.Image:
    """A page with a quadrilateral in quarters, clockwise from the first corner: red, green, blue, yellow."""
    page = Image.new("RGB", size, PAPER)
    centre = tuple(sum(point[axis] for point in corners) / 4 for axis in (0, 1))
    middles = [tuple((corners[i][axis] + corners[(i + 1) % 4][axis]) / 2 for axis in (0, 1)) for i in range(4)]
    draw = ImageDraw.Draw(page)
    for index, colour in enumerate((RED, GREEN, BLUE, YELLOW)):
        draw.polygon([corners[index], middles[index], centre, middles[index - 1]], fill=colour)
    return page


def quarters(image: Image.Image) -> list[tuple[int, ...]]:
    """Colours in the middle of the quarters, clockwise from the top left."""
    spots = ((0.25, 0.25), (0.75, 0.25), (0.75, 0.75), (0.25, 0.75))
    return [image.getpixel((int(image.width * x), int(image.height * y))) for x, y in spots]


def rotated(width: float, height: float, degrees: float) -> list[tuple[float, float]]:
    """Corners of a box around (200, 150), clockwise from its own top left, turned clockwise."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    box = [
        (-width / 2, -height / 2),
        (width / 2, -height / 2),
        (width / 2, height / 2),
        (-width / 2, height / 2),
    ]
    return [(200 + x * cos - y * sin, 150 + x * sin + y * cos) for x, y in box]


@pytest.mark.parametrize("corners", [((5, 8), (50, 20)), ((50, 20), (5, 8)), ((50, 8), (5, 20))])
def test_two_points_are_opposite_corners_of_a_box(corners):
    page = noise()
    assert same(cut(page, corners), page.crop((5, 8, 50, 20)))


def test_fractions_take_in_each_pixel_that_is_touched():
    page = noise()
    assert same(cut(page, [(5.2, 8.9), (49.1, 19.5)]), page.crop((5, 8, 50, 20)))


def test_what_lies_beyond_the_page_is_cut_off():
    page = noise()
    assert same(cut(page, [(-20, -5), (30, 1000)]), page.crop((0, 0, 30, 40)))


def test_the_corners_of_an_upright_box_may_come_in_any_order():
    page = noise()
    corners = [(5, 8), (50, 8), (50, 20), (5, 20)]
    assert all(same(cut(page, order), page.crop((5, 8, 50, 20))) for order in itertools.permutations(corners))


@pytest.mark.parametrize(
    "polygon",
    [
        [(60, 0), (90, 20)],
        [(0, 40), (60, 80)],
        [(-50, 0), (0, 40)],
        [(0, -9), (60, 0)],
        [(70, 10), (90, 12), (89, 30), (69, 28)],
        [(-30, -30), (-20, -30), (-25, -10), (-40, -12), (-41, -20)],
        [(1e300, 1e300), (2e300, 2e300)],
    ],
)
def test_a_polygon_beside_the_page_is_named_with_the_page_size(polygon):
    with pytest.raises(ImageError, match="60×40 pixels") as caught:
        cut(noise(), polygon)
    assert caught.value.reason == "outside_page"


@pytest.mark.parametrize(
    "polygon",
    [
        [(5, 5), (5, 30)],
        [(5, 5), (30, 5)],
        [(7, 7), (7, 7)],
        [(5, 10), (20, 10), (40, 10)],
        [(3, 3)] * 4,
        [(5, 10), (20, 10), (40, 10), (50, 10)],
        [(59.5, 3), (80, 30)],
    ],
)
def test_a_line_without_area_is_too_small(polygon):
    with pytest.raises(ImageError) as caught:
        cut(noise(), polygon)
    assert caught.value.reason == "too_small"


@pytest.mark.parametrize(
    "polygon",
    [
        [],
        [(1, 2)],
        [(1, 2), (math.nan, 4)],
        [(1, 2), (math.inf, 4)],
        [(1, 2, 3), (4, 5, 6)],
        [(1, 2), (3,)],
        [("a", "b"), ("c", "d")],
        "polygon",
        [(10**400, 1), (2, 3)],
    ],
)
def test_what_is_no_polygon_is_malformed(polygon):
    with pytest.raises(ImageError) as caught:
        cut(noise(), polygon)
    assert caught.value.reason == "malformed"


@pytest.mark.parametrize("degrees", [0.5, 7, -12, 30, 80, 135, 170, -100])
def test_a_rotated_line_becomes_horizontal_with_its_first_corner_at_the_top_left(degrees):
    corners = rotated(160, 40, degrees)
    line = cut(page_with_quad(corners), corners)
    assert line.size == (160, 40)
    assert quarters(line) == [RED, GREEN, BLUE, YELLOW]


def test_points_against_the_clock_are_not_mirrored():
    first, second, third, fourth = corners = rotated(160, 40, 10)
    assert quarters(cut(page_with_quad(corners), [first, fourth, third, second])) == [RED, GREEN, BLUE, YELLOW]


def test_points_in_the_order_of_a_z_are_put_in_order():
    first, second, third, fourth = corners = rotated(160, 40, 10)
    assert quarters(cut(page_with_quad(corners), [first, second, fourth, third])) == [RED, GREEN, BLUE, YELLOW]


def test_a_column_of_vertical_writing_stays_upright():
    corners = rotated(30, 200, 5)
    line = cut(page_with_quad(corners), corners)
    assert line.size == (30, 200)
    assert quarters(line) == [RED, GREEN, BLUE, YELLOW]


def test_perspective_is_undone_as_opencv_does_it():
    ramp = np.stack(np.meshgrid(np.arange(400) / 400 * 255, np.arange(300) / 300 * 255), axis=-1)
    page = Image.fromarray(np.dstack([ramp, ramp[..., :1]]).astype(np.uint8))
    corners = [(60, 50), (330, 80), (310, 200), (80, 240)]
    line = cut(page, corners)
    width, height = line.size
    target = np.array([[0, 0], [width, 0], [width, height], [0, height]], dtype=np.float32)
    matrix = cv2.getPerspectiveTransform(np.array(corners, dtype=np.float32), target)
    expected = cv2.warpPerspective(np.asarray(page), matrix, line.size, flags=cv2.INTER_LINEAR)
    difference = np.abs(expected.astype(int) - np.asarray(line))[2:-2, 2:-2]
    assert difference.max() <= 3


def test_corners_a_little_beside_the_page_are_filled_with_paper():
    page = Image.new("RGB", (200, 100), PAPER)
    line = cut(page, [(-10, 20), (120, 30), (118, 60), (-12, 50)])
    assert {tuple(colour) for colour in np.asarray(line).reshape(-1, 3)} == {PAPER}


def test_a_quadrilateral_that_reaches_far_out_makes_no_larger_picture_than_the_page():
    line = cut(noise(), [(10, 5), (90_000, 8), (90_000, 30), (11, 29)])
    assert line.width <= 60
    assert line.height <= 40


def test_a_quadrilateral_with_a_dent_is_cut_out_as_a_polygon():
    page = Image.new("RGB", (100, 100), PAPER)
    assert cut(page, [(10, 10), (90, 10), (50, 30), (50, 90)]).size == (80, 80)


def test_ink_outside_the_polygon_becomes_paper_and_inside_stays():
    page = Image.new("RGB", (200, 60), PAPER)
    draw = ImageDraw.Draw(page)
    draw.rectangle((60, 22, 140, 38), fill=(10, 10, 10))  # the line
    draw.rectangle((100, 6, 120, 12), fill=(10, 10, 10))  # the line above, outside the polygon
    polygon = [(20, 15), (90, 15), (98, 16), (180, 16), (180, 5), (190, 45), (20, 45)]
    line = cut(page, polygon)
    assert line.size == (170, 40)
    assert line.getpixel((90, 3)) == PAPER, "the neighbour's ink"
    assert same(line.crop((40, 17, 120, 33)), page.crop((60, 22, 140, 38)))


def test_the_paper_is_the_median_of_the_border_not_white():
    page = noise(80, 80).point(lambda value: value // 16)
    line = cut(page, [(10, 10), (70, 40), (10, 70)])
    assert max(line.getpixel((59, 0))) < 16


def test_a_polygon_that_crosses_itself_has_no_holes():
    page = Image.new("L", (100, 60), 200)
    ImageDraw.Draw(page).rectangle((40, 20, 60, 40), fill=0)
    # Goes round the middle twice: by the even-odd rule the ink would lie outside.
    around = [(10, 10), (90, 10), (90, 50), (10, 50)]
    line = cut(page, [*around, (12, 12), (88, 12), (88, 48), (12, 48)])
    assert same(line.crop((30, 10, 50, 30)), page.crop((40, 20, 60, 40)))


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_the_mode_stays_and_the_page_is_not_changed(mode):
    page = noise().convert(mode)
    before = page.copy()
    for polygon in ([(3, 3), (30, 20)], [(3, 3), (30, 5), (29, 20), (2, 18)], [(3, 3), (30, 5), (15, 30)]):
        assert cut(page, polygon).mode == mode
    assert same(page, before)


def test_a_palette_page_is_cut_as_colours():
    page = noise().quantize(16)
    assert same(cut(page, [(3, 3), (30, 20)]), page.convert("RGB").crop((3, 3, 30, 20)))


numbers = st.one_of(
    st.integers(-20, 80), st.floats(-100, 200), st.floats(), st.sampled_from([0, 40, 60, 1e9, -1e9, 1e308])
)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(numbers, numbers), max_size=9))
def test_any_polygon_gives_a_part_of_bounded_size_or_a_reason(polygon):
    page = noise()
    try:
        line = cut(page, polygon)
    except ImageError as error:
        reason = error.reason
    else:
        reason = "cut"
        assert line.mode == "RGB"
        assert 1 <= min(line.size) <= max(line.size) <= math.hypot(page.width, page.height) * 1.3
    assert reason in ("cut", "outside_page", "too_small", "malformed")


inside = st.tuples(st.integers(0, 59), st.integers(0, 39))


@settings(max_examples=100, deadline=None)
@given(st.lists(inside, min_size=5, max_size=12))
def test_a_polygon_on_the_page_gives_its_bounding_box_and_keeps_its_convex_core(polygon):
    xs, ys = zip(*polygon, strict=True)
    page = noise()
    if max(xs) - min(xs) < 1 or max(ys) - min(ys) < 1:
        return
    line = cut(page, polygon)
    assert line.size == (max(xs) - min(xs), max(ys) - min(ys))
    part = np.asarray(page.crop((min(xs), min(ys), max(xs), max(ys))))
    kept = (np.asarray(line) == part).all(axis=-1)
    for x, y in polygon:  # its corners are on its outline
        if x < max(xs) and y < max(ys):
            assert kept[y - min(ys), x - min(xs)]
