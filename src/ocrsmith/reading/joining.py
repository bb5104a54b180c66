"""Joins tables that run over pages: each stands as a whole on the page that it begins on.

A table goes on where it is the last thing of a page that was read to its end, the first thing of the next page
is a table of the same kind with the same number of columns, and no header of its own says that it is another.
Page numbers, blocks that the model calls header, footer or page number, and lines that stand on both pages but
for their digits may come between: they stay where they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from ocrsmith.reading.document import Block, JoinedTable, Page, Span
from ocrsmith.reading.tables import Row, Table, find_tables

_RUNNING = frozenset({"header", "footer", "page_number"})
"""Kinds of blocks that stand on every page."""
_LINES_LOOKED_AT = 3
"""Running heads and feet are so many lines at most."""
_PAGE_NUMBER = re.compile(
    r"\W{0,6}(?:(?:page|p\.|seite|pagina|página|صفحه|صفحة|第)\s{0,3})?\d{1,5}"
    r"(?:\s{0,3}(?:/|of|de|von|از|من|页，共|页)\s{0,3}\d{0,5})?\s{0,3}[页頁]?\W{0,6}",
    re.IGNORECASE,
)
_DIGITS = re.compile(r"\d+")


def join_tables(pages: Iterable[Page]) -> Iterator[Page]:
    """The pages with such tables joined; a page waits for the next one only while it ends with a table.

    Nothing is lost but a header row that the next page repeats. Places of blocks and of uncertain words move
    along; `Page.joined_tables` and `Page.table_begins_on` say what was joined.

    Args:
        pages: in order; those that do not follow one another, or that failed, join nothing.
    """
    chain: _Chain | None = None
    for page in pages:
        if chain is not None:
            taken = chain.take(page)
            if taken is not None and chain.open:
                continue
            yield from chain.pages()
            page = taken or page
        chain = _Chain.begin(page)
        if chain is None:
            yield page
    if chain is not None:
        yield from chain.pages()


@dataclass
class _Chain:
    """A table under way, the page that it begins on, and the pages that it has taken rows from."""

    first: Page
    table: Table
    last: Page
    """The last page as it was read: the next one's running head is compared with its."""
    open: bool = True
    """The table may go on."""
    _added: list[str] = field(default_factory=list)
    _size: int = 0
    _spans: list[Span] = field(default_factory=list)
    """Uncertain places of the added rows, counted from the first of them."""
    _later: list[Page] = field(default_factory=list)
    _numbers: list[int] = field(default_factory=list)

    @classmethod
    def begin(cls, page: Page) -> _Chain | None:
        """A chain for a page that a table may stand at the end of."""
        tables = find_tables(page.text) if page.finish_reason == "stop" else []
        if not tables or not tables[-1].rows or not tables[-1].plain or tables[-1].rows[-1].open:
            return None
        return cls(page, tables[-1], page)

    def take(self, page: Page) -> Page | None:
        """Takes the rows of a page's first table, if that goes on with ours.

        Returns:
            The page without it; None if it does not. `open` says whether the table may go on after it: then
            the page is given by `pages`.
        """
        before, tables = self.last, find_tables(page.text) if page.finish_reason == "stop" else []
        if not tables or page.number != before.number + 1:
            return None
        ours = self.table if before is self.first else find_tables(before.text)[-1]
        table = tables[0]
        if not self._goes_on(table) or not self._adjoin(before, ours, page, table):
            return None
        self._add(page, table)
        rest = replace(_without(page, table), table_begins_on=self.first.number)
        self._numbers.append(page.number)
        self.last = page
        self.open = len(tables) == 1 and not table.rows[-1].open and _maybe_last(page, table)
        if self.open:
            self._later.append(rest)
        return rest

    def pages(self) -> Iterator[Page]:
        """The page that the table begins on, and those of which it took the end too."""
        yield self._joined() if self._numbers else self.first
        yield from self._later

    def _goes_on(self, table: Table) -> bool:
        if table.kind != self.table.kind or table.columns != self.table.columns or not table.plain:
            return False
        theirs, ours = _headers(table), _headers(self.table)
        if table.kind == "markdown" or not theirs:  # Markdown makes a header of whatever comes first
            return True
        return [row.cells for row in theirs] == [row.cells for row in ours]

    def _adjoin(self, before: Page, ours: Table, page: Page, table: Table) -> bool:
        """Whether nothing but what stands on every page is between the two."""
        feet = _lines(before, ours.end, len(before.text))
        heads = _lines(page, 0, table.start)
        known_heads = {_masked(line) for line, _ in _lines(before, 0, len(before.text))[:_LINES_LOOKED_AT]}
        known_feet = {_masked(line) for line, _ in _lines(page, 0, len(page.text))[-_LINES_LOOKED_AT:]}
        return all(_runs(*line, known_heads) for line in heads) and all(
            _runs(*line, known_feet) for line in feet
        )

    def _add(self, page: Page, table: Table) -> None:
        for row in table.rows[_repeated(self.table, table) :]:
            text = page.text[row.start : row.end]
            before = "\n" if self.table.kind == "markdown" or "\n" in page.text[table.start : table.end] else ""
            begin = self._size + len(before)
            self._spans += [
                _cut(span, row.start, row.end, begin - row.start)
                for span in page.low_confidence
                if span.start < row.end and span.end > row.start
            ]
            self._added.append(before + text)
            self._size += len(before) + len(text)

    def _joined(self) -> Page:
        page, added = self.first, "".join(self._added)
        at = self.table.more_at
        while self.table.kind == "html" and page.text[at - 1].isspace():
            at -= 1  # before the white space that parts the rows from </table>
        text = page.text[:at] + added + page.text[at:]
        table = JoinedTable(self.table.start, self.table.end + len(added), (page.number, *self._numbers))
        # What begins where the rows go in comes after them; a block that ends there has them.
        spans = [
            _cut(span, low, high, shift)
            for span in page.low_confidence
            for low, high, shift in ((0, at, 0), (at, len(page.text), len(added)))
            if span.start < high and span.end > low
        ]
        spans += [replace(span, start=span.start + at, end=span.end + at) for span in self._spans]
        blocks = tuple(
            _moved(
                block,
                text,
                block.start + len(added) * (block.start >= at),
                block.end + len(added) * (block.end >= at),
            )
            for block in page.blocks
        )
        return replace(
            page,
            text=text,
            blocks=blocks,
            low_confidence=tuple(sorted(spans, key=lambda span: span.start)),
            joined_tables=(*page.joined_tables, table),
        )


def _headers(table: Table) -> tuple[Row, ...]:
    """The header rows that a table begins with."""
    count = next((n for n, row in enumerate(table.rows) if not row.header), len(table.rows))
    return table.rows[:count]


def _repeated(first: Table, table: Table) -> int:
    """How many rows of a table repeat the header of the first one: rows marked as header, or where none is, the
    first row, unless it is all there is or says nothing.

    None are left out from under which a cell reaches into a row that stays.
    """
    most = len(_headers(first))
    if not most and len(first.rows) > 1 and any(first.rows[0].cells):
        most = 1
    same = 0
    for ours, theirs in zip(first.rows[:most], table.rows, strict=False):
        if ours.cells != theirs.cells or ours.columns != theirs.columns:
            break
        same += 1
    return same if same and not table.rows[same - 1].open else 0


def _maybe_last(page: Page, table: Table) -> bool:
    """Whether no more than a running foot's few lines follow."""
    return len(_lines(page, table.end, len(page.text))) <= _LINES_LOOKED_AT


def _lines(page: Page, start: int, end: int) -> list[tuple[str, bool]]:
    """The lines of a part of a page that are not blank, and whether the model says that they run."""
    running = [(block.start, block.end) for block in page.blocks if block.kind in _RUNNING]
    lines, at = [], start
    for line in page.text[start:end].split("\n"):
        if line.strip():
            lines.append((line.strip(), any(begin <= at < stop for begin, stop in running)))
        at += len(line) + 1
    return lines


def _runs(line: str, marked: bool, known: set[str]) -> bool:
    return marked or _PAGE_NUMBER.fullmatch(line) is not None or _masked(line) in known


def _masked(line: str) -> str:
    return _DIGITS.sub("0", line)


def _without(page: Page, table: Table) -> Page:
    """The page without a table; its block stays, with its boxes and without text."""
    start, end = table.start, table.end
    while end < len(page.text) and page.text[end].isspace():
        end += 1
    if end == len(page.text):
        while start and page.text[start - 1].isspace():
            start -= 1
    text = page.text[:start] + page.text[end:]

    def place(at: int) -> int:
        return at if at <= start else max(start, at - (end - start))

    spans = [
        _cut(span, low, high, start - end if low else 0)
        for span in page.low_confidence
        for low, high in ((0, start), (end, len(page.text)))
        if span.start < high and span.end > low
    ]
    blocks = tuple(_moved(block, text, place(block.start), place(block.end)) for block in page.blocks)
    return replace(page, text=text, blocks=blocks, low_confidence=tuple(spans))


def _moved(block: Block, text: str, start: int, end: int) -> Block:
    return replace(block, start=start, end=end, text=text[start:end])


def _cut(span: Span, low: int, high: int, shift: int) -> Span:
    """The part of an uncertain place between two others, moved."""
    start, end = max(span.start, low), min(span.end, high)
    text = span.text[start - span.start : end - span.start]
    return replace(span, start=start + shift, end=end + shift, text=text)
