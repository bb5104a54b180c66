"""Markdown documents: blocks, their matching, and figures for text, tables, formulas and order."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ocrsmith.evaluation.metrics.documents import (
    MAX_BLOCKS,
    DocumentScore,
    Share,
    match_blocks,
    parse_blocks,
    score_document,
    score_documents,
)

PAGE = """# The title

A first paragraph
of two lines with $x$ inside.

- one item
- another thing

$$E = m c^2$$

| a | b |
|---|---|
| c | d |

Between.

<table><tr><td>e</td><td>f</td></tr></table>
The last words.
"""
PIECES = st.sampled_from(
    (
        *("# head\n", "some words here\n", "\n", "other text\n", "$$x+1$$", "$$", "- item\n", "中文段落。\n"),
        *("| a | b |\n|--|--|\n", "<table><tr><td>a</td></tr></table>", "<table>", "\\[y\\]", "متن\n"),
        "\\begin{align}z\\end{align}",
    )
)
SOUP = st.lists(PIECES, max_size=10).map("".join)


def test_blocks_of_a_page() -> None:
    assert [(block.kind, block.text) for block in parse_blocks(PAGE)] == [
        ("text", "The title"),
        ("text", "A first paragraph of two lines with $x$ inside."),
        ("text", "one item"),
        ("text", "another thing"),
        ("formula", "E=mc^2"),
        ("table", "a\tb\nc\td"),
        ("text", "Between."),
        ("table", "e\tf"),
        ("text", "The last words."),
    ]


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ("", []),
        ("\\[ a \\]", [("formula", "a")]),
        ("\\begin{align*}a &= b\\end{align*}", [("formula", "a&=b")]),
        ("$$ never closed", [("text", "$$ never closed")]),
        ("<table><tr><td>cut", [("table", "cut")]),
        ("<table></table>", []),
        ("#nohead", [("text", "#nohead")]),
        ("## Head ##\ntext", [("text", "Head"), ("text", "text")]),
        ("1. one\n2) two", [("text", "1. one"), ("text", "2) two")]),  # numbers are text, bullets are not
    ],
)
def test_blocks_of_odd_documents(document: str, expected: list[tuple[str, str]]) -> None:
    assert [(block.kind, block.text) for block in parse_blocks(document)] == expected


def test_a_page_read_right() -> None:
    score = score_document(PAGE, PAGE)
    assert (score.text.distance, score.formulas.distance, score.order.distance) == (0, 0, 0)
    assert (score.teds, score.structure, score.cells.f1, score.tables) == (1, 1, 1, 2)
    assert score.order.length == 9


def test_each_kind_has_its_own_figure() -> None:
    read = PAGE.replace("m c^2", "m c^3").replace("| c |", "| x |")
    score = score_document(PAGE, read)
    assert score.text.distance == 0
    assert score.formulas == Share(1, 6)
    assert (score.cells.right, score.cells.reference) == (5, 6)
    assert score.structure == 1
    assert score.teds == pytest.approx(1 - 1 / 8 / 2)
    assert score.order.distance == 0


def test_blocks_that_changed_places_cost_order_and_no_text() -> None:
    true = "alpha beta\n\ngamma delta\n\nepsilon zeta\n\neta theta"
    read = "alpha beta\n\nepsilon zeta\n\ngamma delta\n\neta theta"
    score = score_document(true, read)
    assert score.text.edits == 0
    assert score.order == Share(2, 4)


def test_missing_and_invented_blocks_are_wholly_wrong() -> None:
    score = score_document("one two three\n\nfour five", "one two three")
    assert score.text == Share(9, 22)
    score = score_document("one two three", "one two three\n\n$$x$$\n\n<table><tr><td>1</td></tr></table>")
    assert score.text == Share(0, 13)
    assert score.formulas == Share(1, 1)
    assert (score.teds, score.tables, score.cells.prediction) == (0, 1, 1)


@pytest.mark.parametrize("there", [True, False])
def test_a_paragraph_that_was_cut_differently_is_mended(there: bool) -> None:
    whole = "The committee met on Monday and decided nothing at all."
    parts = "The committee met on Monday\n\nand decided nothing at all."
    score = score_document(whole, parts) if there else score_document(parts, whole)
    assert score.text == Share(0, len(whole))
    assert score.order == Share()


def test_empty_documents() -> None:
    assert score_document("", "") == DocumentScore()
    assert score_document("", "").text.distance is None
    assert score_document("", "").teds is None
    assert score_document("text", "").text.distance == 1
    assert score_document("", "text").text.distance == 1


@settings(deadline=None)
@given(SOUP, SOUP)
def test_figures_are_shares(true: str, read: str) -> None:
    score = score_document(true, read)
    for figure in (score.text.distance, score.formulas.distance, score.order.distance, score.teds):
        assert figure is None or 0 <= figure <= 1
    itself = score_document(true, true)
    assert itself.text.edits == itself.formulas.edits == itself.order.edits == 0
    assert itself.teds in (None, 1)


@given(SOUP, SOUP)
def test_matching_is_one_to_one_within_a_kind(true: str, read: str) -> None:
    first, second = parse_blocks(true), parse_blocks(read)
    pairs = match_blocks(first, second)
    assert len({a for a, _ in pairs}) == len({b for _, b in pairs}) == len(pairs)
    assert all(first[a].kind == second[b].kind for a, b in pairs)


def test_batch_and_sum() -> None:
    scores = score_documents(["one", "$$x$$"], ["one", "$$y$$"])
    total = sum(scores, DocumentScore())
    assert (total.text, total.formulas) == (Share(0, 3), Share(2, 2))  # x and y are no pair
    with pytest.raises(ValueError):
        score_documents(["a"], [])


@pytest.mark.parametrize(
    "text",
    [
        "$$" * 50_001,
        "\\[" * 50_000,
        "\\begin{align}" * 10_000,
        "<table>" * 20_000,
        "# a\n" * 5_000,
        "text\n\n" + "a" * 50_000 + "\n\nb" * 900,
        "- " * 50_000,
        "a|\n-|\n" * 2_000,
        " " * 100_000 + "#",
        "1" * 100_000 + ".",
    ],
)
def test_hostile_documents_are_bounded(text: str) -> None:
    assert len(parse_blocks(text)) <= MAX_BLOCKS + 1
    score_document("text\n\n| a | b |\n|--|--|", text)


def test_real_pages_of_the_benchmark() -> None:
    folder = Path(__file__).parents[4] / "shared" / "data" / "olmocr_bench" / "md_pairs"
    if not folder.is_dir():
        pytest.skip("the sample pages in ../shared/data are not here")
    pages = sorted(folder.rglob("*.md"))
    assert pages
    for page in pages:
        text = page.read_text(encoding="utf-8")
        score = score_document(text, text)
        assert (score.text.edits, score.order.edits, score.teds) in ((0, 0, None), (0, 0, 1.0))
