"""Puts marks around the uncertain places of a page.

In plain text ⟦so⟧, in Markdown <mark>so</mark>: HTML's own element for it, which stands in Markdown's text, in
its tables and in HTML tables alike. Where a mark would break what it stands in (tags, columns, formulas, code,
addresses of links), it ends before and begins again after it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from ocrsmith.reading.document import Span

OPEN, CLOSE = "<mark>", "</mark>"
PLAIN_OPEN, PLAIN_CLOSE = "⟦", "⟧"

# All repeats are bounded or of one character class: the text is a model's, and may be made to be slow.
_MARKUP = re.compile(
    r"""
    ^[^\S\n]{0,12}(?:[#]{1,6}|[-*+>]|\d{1,9}[.)])(?=\s)   # heading, list, quote
  | <[^<>\n]{0,500}>                                      # tag
  | &(?:[A-Za-z]{1,32}|[#][0-9A-Za-z]{1,8});              # HTML character reference
  | `{3}.*?(?:`{3}|\Z) | `[^`\n]*`                        # code
  | \\\[.*?(?:\\\]|\Z) | \\\([^\n]*?(?:\\\)|$)            # formulas
  | [$]{2}.*?(?:[$]{2}|\Z) | [$](?=\S)[^$\n]{1,300}(?<=\S)[$](?!\d)
  | !?\[(?=[^\[\]\n]{0,300}\]\() | \]\([^()\n]{0,500}\)   # both ends of a link
  | [|\n] | [*_~]{1,3} | \\.
    """,
    re.VERBOSE | re.MULTILINE | re.DOTALL,
)
_LINE_END = re.compile(r"\n+")


def mark_markdown(text: str, spans: Sequence[Span]) -> str:
    """Marks spans in Markdown; those in formulas and code are only in the JSON."""
    return _mark(text, spans, _MARKUP, OPEN, CLOSE)


def mark_plain(text: str, spans: Sequence[Span]) -> str:
    """Marks spans in plain text, line by line."""
    return _mark(text, spans, _LINE_END, PLAIN_OPEN, PLAIN_CLOSE)


def _mark(text: str, spans: Sequence[Span], keep_off: re.Pattern[str], opening: str, closing: str) -> str:
    if not spans:
        return text
    parts: list[str] = []
    position = 0
    for start, end in _pieces(text, spans, keep_off):
        parts += [text[position:start], opening, text[start:end], closing]
        position = end
    return "".join([*parts, text[position:]])


def _pieces(text: str, spans: Sequence[Span], keep_off: re.Pattern[str]) -> Iterator[tuple[int, int]]:
    """What of the spans can be marked: without what the pattern finds, and without white space around it."""
    walls = [match.span() for match in keep_off.finditer(text)]
    walls.append((len(text), len(text)))
    index = 0
    for span in sorted(spans, key=lambda item: item.start):
        start = span.start
        while walls[index][1] <= start and walls[index][0] < len(text):
            index += 1
        for wall in range(index, len(walls)):
            stop = min(walls[wall][0], span.end)
            yield from _trimmed(text, start, stop)
            start = max(start, walls[wall][1])
            if walls[wall][0] >= span.end or start >= span.end:
                break


def _trimmed(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    body = text[start:end] if start < end else ""
    if body.strip():
        yield start + len(body) - len(body.lstrip()), start + len(body.rstrip())
