"""Marks around uncertain places, which must leave what they stand in whole."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocrsmith.reading.document import Span
from ocrsmith.reading.marks import mark_markdown, mark_plain


def spans(text: str, *parts: str) -> list[Span]:
    places = [(text.index(part), text.index(part) + len(part)) for part in parts]
    return [Span(start, end, text[start:end], 0.5) for start, end in places]


def marked(text: str, *parts: str) -> str:
    return mark_markdown(text, spans(text, *parts)).replace("<mark>", "⟨").replace("</mark>", "⟩")


@pytest.mark.parametrize(
    ("text", "part", "expected"),
    [
        ("a word here", "word", "a ⟨word⟩ here"),
        ("two\nlines", "two\nlines", "⟨two⟩\n⟨lines⟩"),
        ("# Title", "# Title", "# ⟨Title⟩"),
        ("- item\n1. one", "- item\n1. one", "- ⟨item⟩\n1. ⟨one⟩"),
        ("| a | b |", "a | b", "| ⟨a⟩ | ⟨b⟩ |"),
        ("<td>a</td><td>b</td>", "a</td><td>b", "<td>⟨a⟩</td><td>⟨b⟩</td>"),
        ('<td colspan="2">a</td>', '<td colspan="2">a', '<td colspan="2">⟨a⟩</td>'),
        ("<table>\n <tr>", "\n ", "<table>\n <tr>"),
        (r"so \(x^2\) too", r"so \(x^2\) too", r"⟨so⟩ \(x^2\) ⟨too⟩"),
        ("\\[\nx\n\\] y", "x\n\\] y", "\\[\nx\n\\] ⟨y⟩"),
        ("of $x$ and 5 $ or 6 $", "of $x$ and 5 $ or 6 $", "⟨of⟩ $x$ ⟨and 5 $ or 6 $⟩"),
        ("a `b` c", "a `b` c", "⟨a⟩ `b` ⟨c⟩"),
        ("```\ncode\n``` end", "code\n``` end", "```\ncode\n``` ⟨end⟩"),
        ("**bold**", "**bold**", "**⟨bold⟩**"),
        ("[the text](http://a.b/c)", "text](http", "[the ⟨text⟩](http://a.b/c)"),
        ("![a picture](x.png)", "![a picture](x.png)", "![⟨a picture⟩](x.png)"),
        ("a &amp; b", "a &amp; b", "⟨a⟩ &amp; ⟨b⟩"),
        ("میں یہ", "یہ", "میں ⟨یہ⟩"),
    ],
)
def test_marks_end_where_they_would_break_markdown(text: str, part: str, expected: str) -> None:
    assert marked(text, part) == expected


def test_several_spans_are_marked_each() -> None:
    assert marked("one two three", "one", "three") == "⟨one⟩ two ⟨three⟩"


def test_plain_text_is_marked_line_by_line() -> None:
    text = "a <b> | c\nd"
    assert mark_plain(text, spans(text, "<b> | c\nd")) == "a ⟦<b> | c⟧\n⟦d⟧"


@given(
    st.text(alphabet="ab |<>td/\n`$\\()[]*#-&;1. ", max_size=60),
    st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), max_size=4),
)
def test_marking_adds_marks_and_nothing_else(text: str, places: list[tuple[int, int]]) -> None:
    bounds = sorted({min(number, len(text)) for place in places for number in place})
    chosen = [
        Span(start, end, text[start:end], 0.1) for start, end in zip(bounds[::2], bounds[1::2], strict=False)
    ]
    result = mark_markdown(text, chosen)
    assert result.replace("<mark>", "").replace("</mark>", "") == text
    assert re.findall(r"</?mark>", result) == ["<mark>", "</mark>"] * result.count("<mark>")


@pytest.mark.parametrize("piece", ["<", "\\(", "\\[", "`", "$", "![", "](", "$$", "&a", "["])
def test_text_made_to_be_slow_is_not(piece: str) -> None:
    text = piece * 20_000
    assert len(mark_markdown(text, [Span(0, len(text), text, 0.1)])) >= len(text)
