"""Regions of a page → its text in reading order, or its lines as candidates."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocrsmith.datasets.importers.base import Candidate, LineCrop
from ocrsmith.datasets.importers.regions import (
    ILLEGIBLE,
    Region,
    candidates,
    from_top_left,
    page_text,
    rows_of,
)
from ocrsmith.records import Excluded

PAGE = Candidate(Path("scans/1.png"), "scans/1.png", None, "labels.txt", 7, id="1.xml", meta={"language": "fa"})


def box(text: str, left: float, top: float, width: float, height: float = 20, **others) -> Region:
    return Region(text, ((left, top), (left + width, top + height)), **others)


def column(name: str, left: float, top: float, lines: int, width: float = 300) -> list[Region]:
    return [box(f"{name}{number}", left, top + 30 * number, width) for number in range(lines)]


def test_boxes_beside_each_other_are_one_line_joined_by_a_space():
    receipt = [
        box("9.00", 260, 41, 40),
        box("Tea", 10, 40, 50),
        box("12.00", 255, 70, 45),
        box("Total", 10, 71, 60),
        box("SHOP", 100, 5, 90),
    ]
    assert page_text(receipt) == "SHOP\nTea 9.00\nTotal 12.00"


def test_columns_of_running_text_are_read_one_after_the_other():
    page = [*column("b", 400, 100, 4), *column("a", 50, 100, 4)]
    assert page_text(page).split() == ["a0", "a1", "a2", "a3", "b0", "b1", "b2", "b3"]


def test_a_heading_and_a_footer_across_two_columns_stay_where_they_are():
    heading, footer = box("HEADING", 60, 40, 640, 30), box("footer", 60, 500, 640)
    page = [footer, *column("b", 400, 100, 5), heading, *column("a", 50, 100, 5)]
    texts = page_text(page).split()
    assert texts == ["HEADING", *(f"a{n}" for n in range(5)), *(f"b{n}" for n in range(5)), "footer"]


def test_a_bar_in_the_middle_divides_the_columns_into_bands():
    upper = [*column("a", 50, 100, 4), *column("b", 400, 100, 4)]
    lower = [*column("c", 50, 300, 4), *column("d", 400, 300, 4)]
    texts = page_text([*lower, *upper, box("BAR", 50, 250, 650)]).split()
    assert texts == [f"{name}{n}" for name in "ab" for n in range(4)] + ["BAR"] + [
        f"{name}{n}" for name in "cd" for n in range(4)
    ]


def test_three_columns_are_read_from_left_to_right():
    page = [*column("c", 800, 100, 4), *column("a", 50, 100, 4), *column("b", 420, 100, 4)]
    assert page_text(page).split() == [f"{name}{n}" for name in "abc" for n in range(4)]


def test_short_entries_under_each_other_are_no_columns():
    table = [
        box(f"{name}{row}", left, 40 * row, 40) for row in range(5) for name, left in (("a", 10), ("b", 300))
    ]
    assert page_text(table).splitlines() == [f"a{row} b{row}" for row in range(5)]


def test_a_skewed_row_stays_together():
    # Each word lies 8 pixels lower than the one before: the last is more than a line's height below the first.
    first = [box(f"a{n}", 100 * n, 8 * n, 90) for n in range(5)]
    second = [box(f"b{n}", 100 * n, 8 * n + 30, 90) for n in range(5)]
    assert page_text([*second, *first]) == "a0 a1 a2 a3 a4\nb0 b1 b2 b3 b4"


def test_rows_of_a_right_to_left_script_begin_at_the_right():
    row = [box("مبلغ", 300, 10, 60), box("۱۲۰", 200, 11, 60), box("ریال", 100, 10, 60)]
    assert page_text(row) == "مبلغ ۱۲۰ ریال"


def test_right_to_left_columns_begin_at_the_right():
    words = ["سلام دنیا", "کتاب خوب", "روز نو", "شب تار"]
    left = [box(f"{word} ب", 50, 100 + 30 * n, 300) for n, word in enumerate(words)]
    right = [box(f"{word} الف", 400, 100 + 30 * n, 300) for n, word in enumerate(words)]
    assert page_text([*left, *right]).splitlines() == [region.text for region in (*right, *left)]


def test_vertical_columns_are_read_from_the_right():
    page = [
        Region(text, ((x, 20), (x + 30, 400))) for text, x in (("三行目", 10), ("一行目", 110), ("二行目", 60))
    ]
    assert page_text(page) == "一行目\n二行目\n三行目"


def test_the_order_of_the_source_is_kept_where_it_has_one():
    page = [box("second", 10, 10, 50, order=1), box("first", 10, 90, 50, order=0)]
    assert page_text(page) == "first\nsecond"


def test_regions_without_a_place_stay_as_they_come():
    assert page_text([box("b", 0, 50, 9), Region("a", ()), box("c", 0, 0, 9)]) == "b\na\nc"


def test_regions_without_text_are_skipped_and_white_space_is_taken_off():
    assert (
        page_text([box("  a ", 0, 0, 50), box(" ", 0, 30, 50), box("", 0, 60, 50), box("b\n", 0, 90, 50)])
        == "a\nb"
    )
    assert page_text([]) == ""


numbers = st.integers(-50, 400)
regions = st.lists(
    st.builds(
        lambda text, x, y, w, h: box(text, x, y, w, h),
        st.sampled_from(["a", "bc", "ب", "字字"]),
        numbers,
        numbers,
        st.integers(0, 400),
        st.integers(0, 60),
    ),
    max_size=40,
)


@given(regions)
def test_each_region_is_read_exactly_once_whatever_the_layout(page):
    read = [region for row in rows_of(page) for region in row]
    assert sorted(map(id, read)) == sorted(map(id, page))


@given(st.lists(st.tuples(numbers, st.integers(1, 400)), max_size=12), st.randoms(use_true_random=False))
def test_lines_of_one_column_are_read_from_the_top_however_the_source_lists_them(places, random):
    middle = 401  # all lines cross it, so that there is no gap between columns
    page = [box(f"{n}", left, 100 * n, middle - left + more) for n, (left, more) in enumerate(places)]
    shuffled = random.sample(page, len(page))
    assert page_text(shuffled).splitlines() == [region.text for region in page]


def test_thousands_of_boxes_end_soon_and_none_is_lost():
    page = [box(str(n), 17 * n % 900, 13 * n % 700, 30, 10) for n in range(6000)]
    assert len(page_text(page).splitlines()) == 6000


def test_lines_have_the_page_as_group_and_an_id_of_their_own():
    lines = list(
        candidates(
            PAGE, [box("a", 1, 2, 30, id="l1"), box("b", 1, 40.123, 30, meta={"language": "en"})], "line"
        )
    )
    first, second = lines
    assert first.image == LineCrop(Path("scans/1.png"), ((1, 2), (31, 22)))
    assert (first.text, first.id, first.group) == ("a", "1.xml#l1", "scans/1.png")
    assert (first.image_path, first.source, first.line) == ("scans/1.png", "labels.txt", 7)
    assert first.meta == {"language": "fa", "polygon": [[1, 2], [31, 22]]}
    assert second.id == "1.xml#line_2"
    assert second.meta == {"language": "en", "polygon": [[1, 40.12], [31, 60.12]]}


def test_a_page_is_its_candidate_with_the_text():
    (page,) = candidates(PAGE, [box("a", 1, 2, 30), box("b", 1, 40, 30)], "page")
    assert (page.text, page.image, page.id, page.group) == ("a\nb", PAGE.image, "1.xml", "")


def test_illegible_lines_cost_themselves_or_the_page():
    page = [box("a", 1, 2, 30), box("###", 1, 40, 30, kind=ILLEGIBLE)]
    kept, left_out = candidates(PAGE, page, "line")
    assert (kept.text, left_out.reason, left_out.line) == ("a", "illegible", 7)
    (whole,) = candidates(PAGE, page, "page")
    assert isinstance(whole, Excluded)
    assert "1 of 2 lines" in whole.detail
    assert "--unit line" in whole.detail


def test_problems_cost_themselves_or_the_page():
    left_out, kept = candidates(PAGE, [box("a", 1, 2, 30)], "line", ["Entry 2 is broken."])
    assert (left_out.detail, kept.text) == ("Entry 2 is broken.", "a")
    (whole,) = candidates(PAGE, [box("a", 1, 2, 30)], "page", ["Entry 2 is broken."])
    assert whole.reason == "malformed"


@pytest.mark.parametrize(
    ("page", "reason"),
    [
        ([Region("a", ())], "malformed"),
        ([box(" ", 1, 2, 30)], "empty_text"),
        ([], "empty_text"),
    ],
)
def test_what_is_no_line_goes_to_the_ledger(page, reason):
    (left_out,) = candidates(PAGE, page, "line")
    assert left_out.reason == reason


def test_four_points_begin_at_the_top_left():
    assert from_top_left([(0, 9), (40, 8), (41, 1), (1, 0)]) == ((1, 0), (0, 9), (40, 8), (41, 1))
    assert from_top_left([(5, 5), (0, 0)]) == ((5, 5), (0, 0))
