"""Tables that run over pages are joined, and nothing else is."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given as drawing
from hypothesis import strategies as st

from ocrsmith.reading import Block, Box, Page, Span, join_tables
from ocrsmith.reading.tables import find_tables

HEAD = "<tr><th>Item</th><th>Price</th></tr>"


def page(number: int, text: str, **values: object) -> Page:
    page = Page(
        number, text, text, 100, 200, None, (), 0.9, (), finish_reason="stop", seconds=1.0, tokens=9, mode="",
        attempts=1, error=None,
    )  # fmt: skip
    return replace(page, **values)  # type: ignore[arg-type]


def pages(*texts: str) -> list[Page]:
    return [page(number, text) for number, text in enumerate(texts, start=1)]


def html(*rows: tuple[str, ...], head: str = HEAD) -> str:
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table>{head}{body}</table>"


def md(*rows: tuple[str, ...], head: tuple[str, ...] = ("Item", "Price")) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def texts(given: Sequence[Page]) -> list[str]:
    return [page.text for page in join_tables(given)]


def test_an_html_table_goes_on_and_its_repeated_header_goes() -> None:
    given = pages("Costs\n\n" + html(("a", "1")), html(("b", "2"), ("c", "3")) + "\n\nThe end.")
    first, second = join_tables(given)
    assert first.text == "Costs\n\n" + html(("a", "1"), ("b", "2"), ("c", "3"))
    assert second.text == "The end."
    (joined,) = first.joined_tables
    assert first.text[joined.start : joined.end].startswith("<table>")
    assert joined.pages == (1, 2)
    assert second.table_begins_on == 1
    told = json.loads(json.dumps(first.to_json()))
    assert told["joined_tables"] == [{"start": 7, "end": len(first.text), "pages": [1, 2]}]
    assert second.to_json()["table_begins_on"] == 1
    assert "joined_tables" not in second.to_json()


def test_a_markdown_table_goes_on() -> None:
    given = pages(md(("a", "1")), md(("b", "2")) + "\n\nThe end.")
    assert texts(given) == [md(("a", "1"), ("b", "2")), "The end."]
    # Markdown makes a header of whatever row comes first: another one is a row of the table.
    assert texts(pages(md(("a", "1")), md(("c", "3"), head=("b", "2")))) == [
        md(("a", "1"), ("b", "2"), ("c", "3")),
        "",
    ]


def test_a_table_runs_over_many_pages_of_which_it_is_all() -> None:
    rows = [(str(number), "x") for number in range(8)]
    given = pages("Start\n\n" + html(rows[0]), *(html(row) for row in rows[1:-1]), html(rows[-1]) + "\nEnd")
    found = list(join_tables(given))
    assert found[0].text == "Start\n\n" + html(*rows)
    assert [one.text for one in found[1:]] == [""] * 6 + ["End"]
    assert found[0].joined_tables[0].pages == tuple(range(1, 9))


def test_one_page_ends_a_table_and_begins_another() -> None:
    given = pages(html(("a", "1")), html(("b", "2")) + "\n\nNext\n\n" + html(("c", "3")), html(("d", "4")))
    assert texts(given) == [html(("a", "1"), ("b", "2")), "Next\n\n" + html(("c", "3"), ("d", "4")), ""]


@pytest.mark.parametrize(
    ("foot", "head"),
    [
        ("12", ""),
        ("- 12 -", "Report 2024"),
        ("Page 3 of 10", ""),
        ("第 3 页", ""),
        ("صفحه ۳", ""),
        ("Acme Ltd, page 1", "Report 2024"),
    ],
)
def test_running_heads_and_feet_may_come_between(foot: str, head: str) -> None:
    before = f"{head}\n\n" if head else ""
    given = pages(
        f"{before}Words.\n\n{html(('a', '1'))}\n\n{foot}",
        f"{before}{html(('b', '2'))}\n\nMore.\n\n{foot.replace('1', '2')}",
    )
    assert texts(given) == [
        f"{before}Words.\n\n{html(('a', '1'), ('b', '2'))}\n\n{foot}",
        f"{before}More.\n\n{foot.replace('1', '2')}",
    ]


def test_blocks_that_the_model_calls_running_may_come_between() -> None:
    text = html(("a", "1")) + "\n\nConfidential"
    at = text.index("Conf")
    block = Block("footer", "Confidential", at, len(text), (Box(0, 0, 1, 1),))
    given = [page(1, text, blocks=(block,)), page(2, html(("b", "2")))]
    first, second = join_tables(given)
    assert first.text == html(("a", "1"), ("b", "2")) + "\n\nConfidential"
    assert first.blocks[0].text == "Confidential"
    assert first.text[first.blocks[0].start : first.blocks[0].end] == "Confidential"
    assert second.text == ""


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (html(("a", "1")) + "\n\nSo it is.", html(("b", "2"))),
        (html(("a", "1")), "So it is.\n\n" + html(("b", "2"))),
        (html(("a", "1")), html(("b", "2", "x"), head="")),
        (html(("a", "1")), html(("b", "2"), head="<tr><th>Name</th><th>Age</th></tr>")),
        (html(("a", "1")), md(("b", "2"))),
        (md(("a", "1")), md(("b", "2", "3"), head=("x", "y", "z"))),
        (html(("a", "1")).replace("<tr><td>", "<tr><td rowspan=2>"), html(("b", "2"))),
        (html(("a", "1")), html(("b", "2"), head="<caption>Table 2</caption>" + HEAD)),
        ("no table", "at all"),
    ],
    ids=["text after", "text before", "columns", "header", "kinds", "md columns", "open", "caption", "none"],
)
def test_what_is_not_the_same_table_stays(first: str, second: str) -> None:
    given = pages(first, second)
    assert list(join_tables(given)) == given


def test_pages_that_failed_were_cut_off_or_do_not_follow_join_nothing() -> None:
    one, two = pages(html(("a", "1")), html(("b", "2")))
    for given in (
        [replace(one, finish_reason="length"), two],
        [one, replace(two, finish_reason="loop")],
        [one, replace(two, number=3)],
        [one, replace(two, text="", finish_reason="error", error="broken")],
    ):
        assert list(join_tables(given)) == given


def test_a_first_row_that_is_repeated_goes_only_where_it_can_be_a_header() -> None:
    plain = html(("Item", "Price"), ("a", "1"), head="")
    assert texts(pages(plain, plain))[0].count("Item") == 1  # as a header without any mark of one
    assert texts(pages(html(("z", "0"), head=""), plain))[0].count("Item") == 1  # the first page has another
    one = html(("a", "1"), head="")
    assert texts(pages(one, one))[0].count("<td>a") == 2  # all there is: no header


def test_uncertain_places_and_boxes_move_along() -> None:
    first, second = html(("a", "1")) + "\n\n7", "Report\n\n" + html(("bad", "2")) + "\n\nThe end"
    first, second = "Report\n\n" + first, second

    def span(text: str, part: str) -> Span:
        return Span(text.index(part), text.index(part) + len(part), part, 0.3)

    def block(text: str, kind: str, part: str) -> Block:
        start = text.index(part)
        return Block(kind, part, start, start + len(part), (Box(1, 2, 3, 4),))

    given = [
        page(
            1, first,
            low_confidence=(span(first, "a"), span(first, "7")),
            blocks=(block(first, "table", html(("a", "1"))), block(first, "page_number", "7")),
        ),
        page(
            2, second,
            low_confidence=(span(second, "Report"), span(second, "bad"), span(second, "end")),
            blocks=(block(second, "table", html(("bad", "2"))), block(second, "text", "The end")),
        ),
    ]  # fmt: skip
    found = list(join_tables(given))
    for one in found:
        parts: list[Span | Block] = [*one.low_confidence, *one.blocks]
        for part in parts:
            assert one.text[part.start : part.end] == part.text
    assert [part.text for part in found[0].low_confidence] == ["a", "bad", "7"]
    assert [part.text for part in found[1].low_confidence] == ["Report", "end"]
    assert found[0].blocks[0].text == html(("a", "1"), ("bad", "2"))
    assert [(part.kind, part.text) for part in found[1].blocks] == [("table", ""), ("text", "The end")]
    assert found[1].blocks[0].boxes == given[1].blocks[0].boxes


def test_a_page_waits_for_no_more_than_the_next_one() -> None:
    seen: list[int] = []

    def coming() -> Iterator[Page]:
        for number in range(1, 6):
            seen.append(number)
            yield page(number, html(("a", "1")) if number == 2 else "words")

    waited = [(one.number, seen[-1]) for one in join_tables(coming())]
    assert waited == [(1, 1), (2, 3), (3, 3), (4, 4), (5, 5)]


WORDS = st.text("abc12 &", min_size=0, max_size=4)


@st.composite
def a_page(draw: st.DrawFn) -> str:
    parts = []
    for _ in range(draw(st.integers(1, 3))):
        kind = draw(st.sampled_from(["html", "md", "text", "number"]))
        width = draw(st.integers(1, 2))
        rows = draw(st.lists(st.tuples(*[WORDS] * width), min_size=1, max_size=3))
        head = draw(st.sampled_from([("Item", "Price"), ("a", "1")]))[:width]
        if kind == "html":
            shown = "".join(f"<th>{cell}</th>" for cell in head)
            parts.append(html(*rows, head=draw(st.sampled_from(["", f"<thead><tr>{shown}</tr></thead>"]))))
        elif kind == "md":
            parts.append(md(*rows, head=head))
        else:
            parts.append("some words" if kind == "text" else "7")
    return "\n\n".join(parts)


def counted(given: Sequence[Page]) -> Counter[str]:
    return Counter(
        cell for one in given for table in find_tables(one.text) for row in table.rows for cell in row.cells
    )


@drawing(st.lists(a_page(), min_size=1, max_size=5))
def test_nothing_is_lost_but_repeated_headers(drawn: list[str]) -> None:
    given = pages(*drawn)
    found = list(join_tables(given))
    assert [one.number for one in found] == [one.number for one in given]
    lost = counted(given) - counted(found)
    assert not counted(found) - counted(given)
    heads = {cell for one in given for table in find_tables(one.text) for cell in table.rows[0].cells}
    assert set(lost) <= heads
    joins = sum(len(table.pages) - 1 for one in found for table in one.joined_tables)
    assert sum(lost.values()) <= 2 * joins
    for one, other in pairwise(found):
        assert other.table_begins_on is None or other.table_begins_on <= one.number
    between = [
        [line for line in one.text.split("\n") if line in ("some words", "7")] for one in (*given, *found)
    ]
    assert between[: len(given)] == between[len(given) :]
    for one in found:
        for table in one.joined_tables:
            (whole,) = find_tables(one.text[table.start : table.end])
            assert len(whole.rows) >= 2
