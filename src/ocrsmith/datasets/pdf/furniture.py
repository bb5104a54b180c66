"""What surrounds the text of a page: running heads and feet, page numbers, numbers of lines, stamps.

One page alone is judged by place and form; lines that return from page to page are known more surely
(`edge_lines`, `repeated`).
"""

from __future__ import annotations

import re
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise, zip_longest

from ocrsmith.datasets.pdf.aligned import Row, rows_of
from ocrsmith.datasets.pdf.page import PageContent
from ocrsmith.datasets.pdf.words import Word, common_size, make_words

EDGE = 0.13
"""Share of a page's height, at top and bottom, in which heads and feet stand."""
_MARGIN = 0.085
_MOST_ROWS = 4
_NUMBER = r"(?:\d{1,4}|[ivxlcdm]{1,6}|[IVXLCDM]{1,6})"
_PAGE = re.compile(
    rf"[-–—\[(|]?\s*(?:page|p\.|seite|página|pág\.?|стр\.?|صفحه|第)?\s*{_NUMBER}"
    rf"(?:\s*(?:of|/|von|de|sur|из|از)\s*{_NUMBER})?\s*[页頁]?\s*[-–—\])|]?",
    re.IGNORECASE,
)
_STAMP = re.compile(
    r"https?://|www\.|\bdoi:|downloaded (?:from|by|on)|\bdownload date\b|digitized by|all rights reserved|©|"
    r"\(c\) \d{4}|\bcopyright\b|\bissn\b|\bvol(?:ume|\.)? \d|published by|printed on|\bconfidential\b|"
    r"\b\d{1,2}[/.]\d{1,2}[/.]\d{2,4},? \d{1,2}:\d\d",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Parts:
    """The words of a page, apart."""

    head: list[Word]
    body: list[Word]
    foot: list[Word]


def take_apart(words: Sequence[Word], page: PageContent, known: frozenset[str] = frozenset()) -> Parts:
    """Finds heads and feet.

    Args:
        words: upright words of the page.
        page: for its size.
        known: what `repeated` found in the document.
    """
    rows = rows_of(words, gap=2.0)
    em = common_size(words)
    body = words_outside(words, _line_numbers(rows, em))
    rows = rows_of(body, gap=2.0) if len(body) < len(words) else rows
    head: list[Word] = []
    foot: list[Word] = []
    for part, order in ((head, rows[:_MOST_ROWS]), (foot, rows[: -_MOST_ROWS - 1 : -1])):
        top = part is head
        for here, beyond in zip_longest(order, order[1:]):
            share = here.bottom / page.height if top else 1 - here.top / page.height
            if not order or (len(rows) <= 1 and share > _MARGIN):
                break
            gap = abs(beyond.base - here.base) / em if beyond else 99.0
            if _key(here) in known or _is_furniture(here, share, gap, em, (page.width, top)):
                part.extend(word for fragment in here.fragments for word in fragment.words)
            else:
                break
    return Parts(head, words_outside(body, [*head, *foot]), foot)


def words_outside(words: Sequence[Word], others: Sequence[Word]) -> list[Word]:
    """Words that are none of the others."""
    taken = set(map(id, others))
    return [word for word in words if id(word) not in taken]


def _is_furniture(row: Row, share: float, gap: float, em: float, where: tuple[float, bool]) -> bool:
    """Whether a row at the edge of a page is no part of its text.

    Args:
        row: in fragments wide apart.
        share: of the page's height between its far side and the edge.
        gap: to the next row towards the middle, in type sizes.
        em: usual type size.
        where: width of the page; whether the row is at its top.
    """
    width, top = where
    texts = [fragment.text for fragment in row.fragments]
    if len(texts) == 1 and _PAGE.fullmatch(texts[0]) and (share < 0.1 or gap > 1.8):
        return True
    if share > EDGE:
        return False
    ends = (row.fragments[0], row.fragments[-1])
    numbered = len(texts) > 1 and any(_PAGE.fullmatch(fragment.text) for fragment in ends)
    size = statistics.median(word.size for fragment in row.fragments for word in fragment.words)
    if numbered and len(texts) <= 3 and size < 1.3 * em and (gap > 1.5 or (top and share < 0.11)):
        return True
    text = " ".join(texts)
    if _STAMP.search(text) and gap > 1.05 and len(text.split()) < 30 and size < 1.15 * em:
        return True
    filled = sum(fragment.x1 - fragment.x0 for fragment in row.fragments)
    bold = all(word.bold for fragment in row.fragments for word in fragment.words)
    alone = gap > 2.0 and size <= 1.02 * em and not (bold and size > 0.95 * em)
    return (
        share < _MARGIN
        and alone
        and filled < 0.6 * width
        and not text.rstrip().endswith((".", ":", ";", ",", "!", "?", "。", "："))
        and not re.match(r"[\d*†‡§¹²³⁴-⁹]+\s*\S", text)
    )


def _line_numbers(rows: Sequence[Row], em: float) -> list[Word]:
    """Numbers that count the lines at the left or right margin."""
    for side in (0, -1):
        found: list[tuple[int, Word]] = []
        for row in rows:
            fragment = row.fragments[side]
            if len(row.fragments) > 1 or len(rows) > 20:
                word = fragment.words[side]
                alone = len(fragment.words) == 1 or _gap(fragment.words, side) > 0.8 * em
                if alone and word.text.isdigit() and len(word.text) < 5:
                    found.append((int(word.text), word))
        if len(found) < 5:
            continue
        steps = Counter(b - a for (a, _), (b, _) in pairwise(found))
        step, count = steps.most_common(1)[0]
        edge = [word.x1 if side == 0 else word.x0 for _, word in found]
        aligned = max(edge) - min(edge) < 0.8 * em
        if (
            step in (1, 2, 5, 10)
            and count >= 0.9 * (len(found) - 1)
            and aligned
            and len(found) * step > 0.6 * len(rows)
        ):
            return [word for _, word in found]
    return []


def _gap(words: Sequence[Word], side: int) -> float:
    return words[1].x0 - words[0].x1 if side == 0 else words[-1].x0 - words[-2].x1


def edge_lines(page: PageContent) -> list[str]:
    """What stands at the top and bottom of a page, digits as one sign: material for `repeated`."""
    words = make_words([char for char in page.chars if char.angle == 0 and not char.hidden])
    rows = rows_of(words, gap=2.0)
    edge = [row for row in rows if row.bottom < EDGE * page.height or row.top > (1 - EDGE) * page.height]
    return [_key(row) for row in edge]


def repeated(pages: Iterable[Sequence[str]]) -> frozenset[str]:
    """Lines that return on at least three pages and a fifth of them.

    Args:
        pages: `edge_lines` of each page of a document.
    """
    count: Counter[str] = Counter()
    total = 0
    for lines in pages:
        total += 1
        count.update(set(lines))
    return frozenset(line for line, times in count.items() if times >= max(3, 0.2 * total))


def _key(row: Row) -> str:
    text = " ".join(fragment.text for fragment in row.fragments)
    return re.sub(r"\d+", "#", " ".join(text.split()).casefold())
