"""The text of a PDF page as Markdown in reading order."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ocrsmith.datasets.pdf.cells import Table
from ocrsmith.datasets.pdf.columns import MARKER
from ocrsmith.datasets.pdf.hyphens import HYPHENS, join_lines, words_of
from ocrsmith.datasets.pdf.layout import Layout, lay_out
from ocrsmith.datasets.pdf.page import PageContent
from ocrsmith.datasets.pdf.paragraphs import Block, is_item
from ocrsmith.datasets.pdf.tables import TableForm, write_table
from ocrsmith.errors import SettingsError

FORMULA = "[formula]"
"""Stands for a formula that is left out."""
_BULLETS = "•◦▪■□●○‣⁃∙·–—\uf0b7✓➢►-"


@dataclass(frozen=True, slots=True)
class MarkdownOptions:
    """How a page becomes Markdown.

    Raises:
        SettingsError: a value that cannot be.
    """

    tables: TableForm = "html"
    """`html`; `markdown`, where no cell spans; `text`: rows as lines, cells apart by tabs."""
    furniture: Literal["drop", "keep"] = "drop"
    """Running heads and feet, page numbers, notes in the margins."""
    formulas: Literal["mark", "drop", "keep"] = "mark"
    """Set-off formulas: `[formula]` in their place; nothing; or their characters, which seldom make sense."""

    def __post_init__(self) -> None:
        allowed = {
            "tables": ("html", "markdown", "text"),
            "furniture": ("drop", "keep"),
            "formulas": ("mark", "drop", "keep"),
        }
        for name, values in allowed.items():
            if getattr(self, name) not in values:
                raise SettingsError(
                    f"{getattr(self, name)!r} is no way to treat {name}.",
                    place=name,
                    mend=f"use {', '.join(values[:-1])} or {values[-1]}",
                )


@dataclass(frozen=True, slots=True)
class DocumentFacts:
    """What the other pages of a document tell about one."""

    furniture: frozenset[str] = frozenset()
    """Lines that return from page to page, see `furniture.repeated`."""
    words: Counter[str] | None = None
    """Words of all pages, see `hyphens.words_of`."""


def to_markdown(
    page: PageContent, options: MarkdownOptions | None = None, document: DocumentFacts | None = None
) -> str:
    """What a page says, in reading order; empty where it has no text.

    Args:
        page: as `page.read_page` gives it. Hidden text counts only where there is no other.
        options: how; None takes the defaults.
        document: what is known from its other pages, if anything.
    """
    options = options or MarkdownOptions()
    document = document or DocumentFacts()
    layout = lay_out(page, known=document.furniture)
    writer = _Writer(options, layout.rtl, _known_words(layout, document))
    parts: list[str] = []
    if options.furniture == "keep":
        parts.extend(line.text(rtl=layout.rtl) for line in layout.head)
    parts.extend(writer.pieces(layout.body))
    parts.extend(layout.turned)
    if options.furniture == "keep":
        parts.extend(line.text(rtl=layout.rtl) for line in layout.foot)
    return "\n\n".join(part for part in parts if part.strip())


def _known_words(layout: Layout, document: DocumentFacts) -> Counter[str]:
    texts = [
        line.text(rtl=layout.rtl)
        for piece in layout.body
        if not isinstance(piece, Table)
        for block in piece
        for line in block.lines
    ]
    return words_of(texts) + (document.words or Counter())


class _Writer:
    """Writes blocks and tables."""

    def __init__(self, options: MarkdownOptions, rtl: bool, known: Counter[str]) -> None:
        self._options = options
        self._rtl = rtl
        self._known = known
        self._margins: list[float] = []
        """Where the items of the lists begin that a list is in, from the outermost."""

    def pieces(self, body: Sequence[list[Block] | Table]) -> list[str]:
        """Paragraphs and tables; a paragraph that goes on in the next column is one."""
        parts: list[str] = []
        last: Block | None = None
        for piece in body:
            if isinstance(piece, Table):
                parts.append(write_table(piece, self._options.tables, rtl=self._rtl))
                last = None
                continue
            self._margins = []
            for number, block in enumerate(piece):
                text = self._block(block)
                if not text:
                    continue
                text = self._indent(block) + text
                if number == 0 and last is not None and _goes_on(last, parts[-1], block, text):
                    parts[-1] = join_lines(parts[-1], text, self._known)
                elif parts and last is not None and _is_next_line(last, block):
                    parts[-1] += "\n" + text
                else:
                    parts.append(text)
                last = block
        return parts

    def _indent(self, block: Block) -> str:
        """Two blanks for each list that an item's list is in."""
        if not _is_listed(block):
            self._margins = []
            return ""
        line = block.lines[0]
        margin = -line.x1 if self._rtl else line.x0
        while self._margins and margin < self._margins[-1] - 0.5 * line.size:
            self._margins.pop()
        if not self._margins or margin > self._margins[-1] + line.size:
            self._margins.append(margin)
        return "  " * (len(self._margins) - 1)

    def _block(self, block: Block) -> str:
        if block.kind == "formula" and self._options.formulas != "keep":
            mark = FORMULA if self._options.formulas == "mark" else ""
            first = block.lines[0].words[0].text
            label = (
                first if MARKER.fullmatch(first) and len(block.lines[0].words) > 1 and first[-1] in ".)" else ""
            )
            return f"{label} {mark}".strip()
        if block.kind == "code":
            return _code(block)
        text = ""
        for line in block.lines:
            text = join_lines(text, line.text(rtl=self._rtl), self._known)
        if block.kind == "heading":
            return "#" * block.level + " " + text
        if block.kind == "item" and text[:1] in _BULLETS:
            return "- " + text[1:].lstrip()
        return text


def _code(block: Block) -> str:
    """Lines as they stand, with their indentation."""
    left = min(line.x0 for line in block.lines)
    lines = []
    for line in block.lines:
        text, reached = "", left
        for word in line.words:
            blanks = round((word.x0 - reached) / (0.6 * word.size))
            text += " " * max(blanks, 1 if text else 0) + word.text
            reached = word.x1
        lines.append(text)
    return "\n".join(["```", *lines, "```"])


def _goes_on(last: Block, before: str, block: Block, text: str) -> bool:
    """Whether a column's first paragraph is the rest of the last one's."""
    if last.kind not in ("paragraph", "item") or block.kind != "paragraph":
        return False
    if abs(last.lines[-1].size - block.lines[0].size) > 0.06 * block.lines[0].size:
        return False
    open_end = before.rstrip()[-1:] in HYPHENS or not re.search(
        r"[.!?:。！？؟][\"'”’)\]\d¹²³⁴-⁹]*$", before.rstrip()
    )
    if unicodedata.category(text[0]) == "Lo":  # scripts without capitals: the last line must be a full one
        widths = [line.x1 - line.x0 for line in (*last.lines, *block.lines)]
        return open_end and last.lines[-1].x1 - last.lines[-1].x0 > 0.9 * max(widths)
    return open_end and (text[0].islower() or before.rstrip()[-1:] in HYPHENS)


def _is_next_line(last: Block, block: Block) -> bool:
    """Whether a block stands on the line after another, in one list or one address."""
    if _is_listed(last) and _is_listed(block):
        return True
    return block.close and last.kind == "paragraph" and block.kind == "paragraph"


def _is_listed(block: Block) -> bool:
    """Whether a block is an item of a list, be it a formula."""
    return block.kind == "item" or (block.kind == "formula" and is_item(block.lines[0]))
