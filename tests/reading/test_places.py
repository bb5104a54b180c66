"""Where the lines of a page's text are placed."""

from __future__ import annotations

import pytest
from PIL import Image, ImageDraw, ImageFont

from ocrsmith.reading import Block, Box, Page
from ocrsmith.reading.places import ink_lines, place_lines, text_lines

FONT = ImageFont.load_default(24)


def written(
    lines: list[str], *, paper: int = 255, ink: int = 0
) -> tuple[Image.Image, list[tuple[float, float, float, float]]]:
    """A page with lines of ink, and where they are."""
    image = Image.new("L", (600, 60 + 60 * len(lines)), paper)
    pen = ImageDraw.Draw(image)
    places = []
    for number, line in enumerate(lines):
        at = (40 + 10 * number, 40 + 60 * number)
        pen.text(at, line, font=FONT, fill=ink)
        places.append(pen.textbbox(at, line, font=FONT))
    return image, places


def page(text: str, image: Image.Image, *blocks: Block) -> Page:
    return Page(
        1, text, text, image.width, image.height, None, blocks, None, (), "stop", 0.0, 0, "", 1, None
    )  # fmt: skip


@pytest.mark.parametrize(("paper", "ink"), [(255, 0), (20, 230), (200, 90)], ids=["usual", "inverted", "faint"])
def test_lines_of_ink_are_found_where_they_are(paper: int, ink: int) -> None:
    image, places = written(["The first line", "and another one", "Hkg"], paper=paper, ink=ink)
    found = ink_lines(image)
    assert len(found) == 3
    for area, place in zip(found, places, strict=True):
        assert area == pytest.approx(place, abs=3)


def test_large_pages_are_looked_at_smaller() -> None:
    image, places = written(["The first line", "and another one"])
    large = image.resize((image.width * 8, image.height * 8))
    for area, place in zip(ink_lines(large), places, strict=True):
        assert [value / 8 for value in area] == pytest.approx(place, abs=4)


def test_as_many_lines_as_there_are_of_ink_stand_on_them() -> None:
    lines = ["The first line", "and another one", "Hkg"]
    image, places = written(lines)
    found, placing = place_lines(page("\n\n".join(lines), image), image)
    assert placing == "ink"
    assert [line.text for line in found] == lines
    for line, place in zip(found, places, strict=True):
        assert (line.left, line.top, line.right, line.bottom) == pytest.approx(place, abs=3)


def test_a_paragraph_runs_along_its_lines_of_ink() -> None:
    lines = ["A title here", "this is a long paragraph that", "runs over three lines, each", "with some words"]
    image, places = written(lines)
    found, placing = place_lines(page(f"{lines[0]}\n\n{' '.join(lines[1:])}", image), image)
    assert placing == "ink"
    assert " ".join(line.text for line in found) == " ".join(lines)
    by_row = [
        " ".join(line.text for line in found if place[1] - 4 < (line.top + line.bottom) / 2 < place[3] + 4)
        for place in places
    ]
    assert by_row[0] == lines[0]
    for got, true in zip(by_row, lines, strict=True):
        assert len(set(got.split()) & set(true.split())) >= len(true.split()) - 2


def test_text_without_spaces_is_parted_anywhere() -> None:
    image, _ = written(["字" * 20, "字" * 20])
    found, placing = place_lines(page("汉" * 40, image), image)
    assert placing == "ink"
    assert "".join(line.text for line in found) == "汉" * 40
    assert len({line.top for line in found}) == 2


def test_little_text_is_not_drawn_out_over_much_ink() -> None:
    image, places = written(["this is more than", "what was read", "of this page"])
    found, placing = place_lines(page("word", image), image)
    assert placing == "ink"
    assert [line.text for line in found] == ["word"]
    assert found[0].top == pytest.approx(places[0][1], abs=3)
    assert found[0].right - found[0].left < 5 * (found[0].bottom - found[0].top)


@pytest.mark.parametrize("text", ["Donaudampfschifffahrt" * 9, "a " * 90, "汉" * 200, "x\n" * 5, "汉 b" * 50])
def test_no_text_is_lost_along_the_ink(text: str) -> None:
    image, _ = written(["this is more than", "what was read", "of this page"])
    found, _ = place_lines(page(text, image), image)
    assert "".join(line.text for line in found).replace(" ", "") == "".join(text.split())
    assert all(line.left < line.right and line.top < line.bottom for line in found)


def test_a_page_without_ink_has_its_lines_spread_evenly() -> None:
    image = Image.new("L", (100, 200), 255)
    found, placing = place_lines(page("one\ntwo two", image), image)
    assert placing == "even"
    assert [(line.text, line.top, line.bottom) for line in found] == [("one", 0, 100), ("two two", 100, 200)]
    assert found[0].right < found[1].right == 100


def test_boxes_come_before_ink_and_nothing_is_left_out() -> None:
    image, _ = written(["something", "else"])
    text = "before\n\n# Title\n\nfirst line\nsecond line\n\nbetween\n\nno box\n\nafter"

    def block(kind: str, part: str, *boxes: Box) -> Block:
        return Block(kind, part, text.index(part), text.index(part) + len(part), boxes)

    blocks = (
        block("title", "# Title", Box(10, 20, 200, 50)),
        block("text", "first line\nsecond line", Box(10, 60, 300, 100)),
        block("text", "no box"),
        Block("image", "", len(text), len(text), (Box(0, 0, 9, 9),)),
    )
    found, placing = place_lines(page(text, image, *blocks), image)
    assert placing == "boxes"
    assert [line.text for line in found] == [
        *("before", "Title", "first line", "second line", "between", "no box", "after")
    ]
    title, first, second = found[1:4]
    assert (title.left, title.top, title.right, title.bottom) == (10, 20, 200, 50)
    assert (first.top, first.bottom, second.top, second.bottom) == (60, 80, 80, 100)
    assert second.right == 300


def test_a_block_with_a_box_a_line_has_each_in_its_own() -> None:
    image, _ = written(["something"])
    block = Block("text", "a\nb", 0, 3, (Box(0, 0, 50, 20), Box(60, 0, 99, 20)))
    found, _ = place_lines(page("a\nb", image, block), image)
    assert [(line.text, line.left, line.right) for line in found] == [("a", 0, 50), ("b", 60, 99)]


def test_a_page_without_text_has_no_lines() -> None:
    image, _ = written(["something"])
    assert place_lines(page(" \n", image), image) == ([], None)


def test_tables_are_their_cells() -> None:
    text = "A\n<table><tr><th>a</th><td>b &amp; c</td></tr><tr><td></td><td>d</td></tr></table>\n|x|y|\n|-|-|"
    assert text_lines(text) == ["A", "a b & c", "d", "x y"]
    assert text_lines("a < b\n # no title here\n") == ["a < b", "# no title here"]
