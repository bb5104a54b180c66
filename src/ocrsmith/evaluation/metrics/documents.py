"""Scores Markdown documents: text, formulas, tables and reading order apart, after OmniDocBench's idea.

1. **Blocks.** The document is cut into tables (HTML or pipes), display formulas (`$$…$$`, `\\[…\\]`, `equation`
   and like environments) and text blocks: what is left between blank lines; each heading and list item is a
   block of its own. Heading marks and list bullets are taken off, white space is made one space (none in
   formulas). Formulas within a line are text.
2. **Matching.** Blocks of the same kind are paired one to one: the pair with the least normalised edit
   distance first (of equal ones, the one that lies at the most similar place of both documents), as long as it
   is at most `FARTHEST`. Tables are compared by what their cells say. Then text that was cut differently is
   mended: an unmatched text block is joined to the matched block before or after it in its document if that
   brings the pair closer.
3. **Figures.** Text and formulas: edits over all pairs and unmatched blocks / length of the longer side of
   each; an unmatched block is wholly wrong. Tables: mean TEDS, TEDS-structure and micro cell score; a table
   that is missing or made up scores 0. Order: the matched blocks of all kinds, numbered in the reference's
   order and listed in the prediction's; edits between both lists / their length. Two neighbours that changed
   places cost 2.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from rapidfuzz import process
from rapidfuzz.distance import Levenshtein

from ocrsmith.evaluation.metrics.tables import (
    CellScore,
    Table,
    begins_markdown_table,
    end_of_markdown_table,
    parse_html_tables,
    parse_markdown_table,
    score_cells,
)
from ocrsmith.evaluation.metrics.teds import score_teds

Kind = Literal["text", "table", "formula"]

FARTHEST = 0.7
"""Normalised edit distance beyond which two blocks are no pair."""
MAX_BLOCKS = 1000
"""Blocks of a document; all text that follows is one block more."""
MOST_JOINED = 20
"""Blocks that are joined to a block on either side."""

_OPENING = re.compile(
    r"<table\b|\$\$|\\\[|\\begin\{((?:equation|align|gather|multline|eqnarray)\*?)\}", re.IGNORECASE
)
_CLOSING = {"$$": "$$", "\\[": "\\]"}
_TABLE_END = re.compile(r"</table\s*>", re.IGNORECASE)
_HEADING = re.compile(r"[ ]{0,3}#{1,6}(?:[ \t]+|\Z)")
_ITEM = re.compile(r"[ \t]{0,20}(?:[-*+•]|\d{1,4}[.)])[ \t]+")
_BULLET = re.compile(r"[ \t]*[-*+•][ \t]+")


@dataclass(frozen=True, slots=True)
class Block:
    """A part of a document, comparable with one of another document."""

    kind: Kind
    text: str
    table: Table | None = None


@dataclass(frozen=True, slots=True)
class Share:
    """Edits out of so many characters."""

    edits: int = 0
    length: int = 0

    @property
    def distance(self) -> float | None:
        """Normalised edit distance, 0 to 1; None where neither document has such a block."""
        return self.edits / self.length if self.length else None

    def __add__(self, other: Share) -> Share:
        """Of both together (micro)."""
        return Share(self.edits + other.edits, self.length + other.length)


@dataclass(frozen=True, slots=True)
class DocumentScore:
    """How a document was read. Sums can be added over documents: `total`."""

    text: Share = field(default_factory=Share)
    formulas: Share = field(default_factory=Share)
    order: Share = field(default_factory=Share)
    """In blocks, not characters; of fewer than two matched blocks nothing can be out of order: 0 of 0."""
    tables: int = 0
    """Tables of the reference and invented ones."""
    teds_sum: float = 0.0
    structure_sum: float = 0.0
    cells: CellScore = field(default_factory=lambda: CellScore(0, 0, 0))

    @property
    def teds(self) -> float | None:
        """Mean over the tables; None where neither document has one."""
        return self.teds_sum / self.tables if self.tables else None

    @property
    def structure(self) -> float | None:
        """Mean TEDS-structure; None where neither document has a table."""
        return self.structure_sum / self.tables if self.tables else None

    def __add__(self, other: DocumentScore) -> DocumentScore:
        """Of both together (micro)."""
        return DocumentScore(
            self.text + other.text,
            self.formulas + other.formulas,
            self.order + other.order,
            self.tables + other.tables,
            self.teds_sum + other.teds_sum,
            self.structure_sum + other.structure_sum,
            self.cells + other.cells,
        )


def score_document(reference: str, prediction: str, *, sections: bool = True) -> DocumentScore:
    """Scores one Markdown document. `sections`: as of `teds.score_teds`."""
    true, read = parse_blocks(reference), parse_blocks(prediction)
    true, read, pairs = _mend(true, read, match_blocks(true, read))
    score = _order(pairs)
    partner = dict(pairs)
    for place, block in enumerate(true):
        other = read[partner[place]] if place in partner else None
        score += _score(block.kind, block, other, sections)
    for place in sorted(set(range(len(read))) - set(partner.values())):
        score += _score(read[place].kind, None, read[place], sections)
    return score


def score_documents(
    references: Sequence[str], predictions: Sequence[str], *, sections: bool = True
) -> list[DocumentScore]:
    """`score_document` of each pair; `sum(…, DocumentScore())` gives the micro figures. Raises ValueError on
    unequal numbers."""
    pairs = zip(references, predictions, strict=True)
    return [score_document(true, read, sections=sections) for true, read in pairs]


def _score(kind: Kind, true: Block | None, read: Block | None, sections: bool) -> DocumentScore:
    if kind == "table":
        tables = (true.table if true else None, read.table if read else None)
        teds = score_teds(*tables, sections=sections)
        return DocumentScore(
            tables=1, teds_sum=teds.teds, structure_sum=teds.structure, cells=score_cells(*tables)
        )
    first, second = true.text if true else "", read.text if read else ""
    share = Share(Levenshtein.distance(first, second), max(len(first), len(second)))
    return DocumentScore(text=share) if kind == "text" else DocumentScore(formulas=share)


def _order(pairs: list[tuple[int, int]]) -> DocumentScore:
    if len(pairs) < 2:
        return DocumentScore()
    true = [number for number, _ in sorted(pairs)]
    read = [number for number, _ in sorted(pairs, key=lambda pair: pair[1])]
    return DocumentScore(order=Share(Levenshtein.distance(true, read), len(true)))


# --- blocks ---------------------------------------------------------------------------------------------------


def parse_blocks(document: str) -> list[Block]:
    """The blocks of a Markdown document, in order. Never raises."""
    blocks: list[Block] = []
    rest: list[str] = []
    for block in _blocks(document):
        if len(blocks) < MAX_BLOCKS:
            blocks.append(block)
        else:
            rest.append(block.text)
    return [*blocks, Block("text", " ".join(rest))] if rest else blocks


def _blocks(document: str) -> Iterator[Block]:
    position = 0
    for kind, start, end, content in _parts(document):
        yield from _text_blocks(document[position:start])
        position = end
        if kind == "table":
            for table in parse_html_tables(content):
                yield Block("table", table.text, table)
        else:
            yield from _block("formula", "".join(content.split()))
    yield from _text_blocks(document[position:])


def _parts(document: str) -> Iterator[tuple[Kind, int, int, str]]:
    """Tables in HTML and display formulas: kind, where they begin and end, content. A table that is not closed
    goes on to the end, a formula that is not closed is none. Each closing mark is looked for in vain only once,
    so time is linear in the text."""
    position = 0
    absent: set[str] = set()
    while opening := _OPENING.search(document, position):
        position = opening.end()
        if opening[0].lower() == "<table":
            closing = _TABLE_END.search(document, position)
            position = closing.end() if closing else len(document)
            yield "table", opening.start(), position, document[opening.start() : position]
            continue
        mark = _CLOSING.get(opening[0]) or f"\\end{{{opening[1]}}}"
        end = -1 if mark in absent else document.find(mark, position)
        if end < 0:
            absent.add(mark)
            continue
        content = document[position:end]
        position = end + len(mark)
        yield "formula", opening.start(), position, content


def _text_blocks(text: str) -> Iterator[Block]:
    lines = text.split("\n")
    paragraph: list[str] = []
    place = 0
    while place < len(lines):
        line = lines[place]
        table = begins_markdown_table(lines, place)
        if table or not line.strip() or _HEADING.match(line) or _ITEM.match(line):
            yield from _block("text", " ".join(paragraph))
            paragraph = []
        if table:
            end = end_of_markdown_table(lines, place)
            found = parse_markdown_table(lines[place:end])
            yield Block("table", found.text, found)
            place = end
            continue
        if heading := _HEADING.match(line):
            yield from _block("text", line[heading.end() :].rstrip("# \t"))
        else:
            paragraph.append(_BULLET.sub("", line, count=1) if _BULLET.match(line) else line)
        place += 1
    yield from _block("text", " ".join(paragraph))


def _block(kind: Kind, text: str) -> Iterator[Block]:
    text = " ".join(text.split())
    if text:
        yield Block(kind, text)


# --- matching -------------------------------------------------------------------------------------------------


def match_blocks(true: Sequence[Block], read: Sequence[Block]) -> list[tuple[int, int]]:
    """Pairs of blocks (place in the reference, place in the prediction), each block at most once."""
    if not true or not read:
        return []
    distances = process.cdist(
        [block.text for block in true],
        [block.text for block in read],
        scorer=Levenshtein.normalized_distance,
        dtype=np.float64,
    )
    first, second = (np.array([block.kind for block in blocks]) for blocks in (true, read))
    rows, columns = np.nonzero((first[:, None] == second[None, :]) & (distances <= FARTHEST))
    apart = np.abs(rows / len(true) - columns / len(read))
    pairs: dict[int, int] = {}
    taken: set[int] = set()
    for place in np.lexsort((columns, rows, apart, distances[rows, columns])).tolist():
        row, column = int(rows[place]), int(columns[place])
        if row not in pairs and column not in taken:
            pairs[row] = column
            taken.add(column)
    return sorted(pairs.items())


def _mend(
    true: list[Block], read: list[Block], pairs: list[tuple[int, int]]
) -> tuple[list[Block], list[Block], list[tuple[int, int]]]:
    """Joins unmatched text blocks to neighbours, on either side, where that brings a pair closer."""
    partner = dict(pairs)
    true = _join(true, read, partner)
    back = _join(read, true, {second: first for first, second in partner.items()})
    return true, back, pairs


def _join(own: list[Block], others: list[Block], partner: dict[int, int]) -> list[Block]:
    """The blocks of one document, with what was joined to another block now empty."""
    joined = list(own)
    for place in sorted(partner):
        if own[place].kind != "text":
            continue
        target = others[partner[place]].text
        for step in (1, -1):
            neighbour = place + step
            while (
                0 <= neighbour < len(own)
                and abs(neighbour - place) <= MOST_JOINED
                and neighbour not in partner
                and own[neighbour].kind == "text"
            ):
                text, extra = joined[place].text, joined[neighbour].text
                both = f"{text} {extra}" if step > 0 else f"{extra} {text}"
                apart = Levenshtein.distance(text, target) + len(extra)
                if not extra or Levenshtein.distance(both, target, score_cutoff=apart - 1) >= apart:
                    break
                joined[place] = replace(joined[place], text=both)
                joined[neighbour] = replace(joined[neighbour], text="")
                neighbour += step
    return joined
