"""A document as Markdown, plain text or JSON, written page by page. (`searchable` writes the PDF.)"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import IO, Any

from ocrsmith.errors import SettingsError
from ocrsmith.reading.document import Page
from ocrsmith.reading.marks import mark_markdown, mark_plain
from ocrsmith.reading.pictures import linked

JSON_FORMAT = "ocrsmith-document-1"
CUT: Mapping[str, str] = MappingProxyType(
    {"length": "cut off at the token limit", "loop": "ends in an endless repetition"}
)
"""What is wrong with pages that are not all there, by the reason why they ended."""


def remark(page: Page) -> str | None:
    """What is wrong with a page as a whole; None for one that was read to its end."""
    if page.error is not None:
        return f"could not be read: {page.error}"
    return CUT.get(page.finish_reason)


def markdown_page(page: Page, *, several: bool, marked: bool = False) -> str:
    """A page of Markdown.

    Args:
        page: the page.
        several: the document has others: a comment before it says its number.
        marked: put marks around uncertain places.
    """
    trouble = remark(page)
    head = f"page {page.number}" + (f": {trouble}" if trouble else "")
    comment = f"<!-- {_in_comment(head)} -->" if several or trouble else ""
    page = linked(page)
    text = mark_markdown(page.text, page.low_confidence) if marked else page.text
    return "\n\n".join(part for part in (comment, text) if part)


def _in_comment(text: str) -> str:
    """Without what ends an HTML comment."""
    return text.replace("--", "- -").replace("<", "‹").replace(">", "›")


def write_markdown(file: IO[bytes], pages: Iterator[Page], head: Mapping[str, Any], marked: bool) -> None:
    """Pages with a blank line between them."""
    several = len(head["page_numbers"]) > 1
    for index, page in enumerate(pages):
        text = markdown_page(page, several=several, marked=marked)
        file.write((("\n" if index else "") + text + "\n").encode())


def write_text(file: IO[bytes], pages: Iterator[Page], head: Mapping[str, Any], marked: bool) -> None:
    """Pages with a form feed between them; a page that could not be read is empty."""
    for index, page in enumerate(pages):
        text = mark_plain(page.text, page.low_confidence) if marked else page.text
        file.write((("\f" if index else "") + text + "\n").encode())


def write_json(file: IO[bytes], pages: Iterator[Page], head: Mapping[str, Any], marked: bool) -> None:
    """One object: the head, and `pages` with one page a line."""
    values = {key: value for key, value in head.items() if key != "page_numbers"}
    opening = json.dumps({"format": JSON_FORMAT, **values}, ensure_ascii=False, indent=2)
    file.write((opening.removesuffix("\n}") + ',\n  "pages": [').encode())
    for index, page in enumerate(pages):
        line = json.dumps(page.to_json(), ensure_ascii=False, allow_nan=False)
        file.write(((",\n    " if index else "\n    ") + line).encode())
    file.write(b"\n  ]\n}\n")


Write = Callable[[IO[bytes], Iterator[Page], Mapping[str, Any], bool], None]
FORMATS: Mapping[str, Write] = MappingProxyType({"md": write_markdown, "txt": write_text, "json": write_json})
"""File endings with what writes them: file, pages in order, head of the document, whether to mark."""

PDF = "pdf"
"""The one format that needs the page images too."""
ENDINGS = (*FORMATS, PDF)


def check_formats(names: Sequence[str]) -> tuple[str, ...]:
    """The formats by name, each once.

    Raises:
        SettingsError: one is unknown, or there is none.
    """
    chosen = tuple(dict.fromkeys(name.strip() for name in names))
    unknown = [name for name in chosen if name not in ENDINGS]
    if unknown or not chosen:
        raise SettingsError(
            f"There is no format {', '.join(map(repr, unknown)) or 'given'}.",
            place="--format",
            mend=f"Use {', '.join(ENDINGS)}, or several as in md,json.",
        )
    return chosen
