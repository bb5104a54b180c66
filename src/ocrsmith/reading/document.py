"""What was read of a document: pages, their blocks and boxes, and the places to look at again."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from ocrsmith.records import FinishReason


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle in pixels of the page image: 0 ≤ left < right ≤ width, 0 ≤ top < bottom ≤ height."""

    left: int
    top: int
    right: int
    bottom: int


@dataclass(frozen=True, slots=True)
class Block:
    """A part of a page that the model gave boxes for, as it does for the prompts `markdown` and `ground`."""

    kind: str
    """What the model calls it: `title`, `text`, `table`, `image` …"""
    text: str
    """What it says; empty for a picture."""
    start: int
    end: int
    """It is `page.text[start:end]`."""
    boxes: tuple[Box, ...]
    """Empty where the model wrote coordinates that nobody can read, or that lie outside the page."""
    picture: str | None = None
    """The file it was cut out into, relative to the outputs' folder."""


@dataclass(frozen=True, slots=True)
class Span:
    """A run of characters that the model was not sure of."""

    start: int
    end: int
    """It is `page.text[start:end]`."""
    text: str
    confidence: float
    """0 to 1."""


@dataclass(frozen=True, slots=True)
class JoinedTable:
    """A table that ran over several pages and stands on the first of them now: see `join_tables`."""

    start: int
    end: int
    """It is `page.text[start:end]`."""
    pages: tuple[int, ...]
    """The numbers of the pages that it came from, this one first."""


@dataclass(frozen=True, slots=True)
class Page:
    """One page."""

    number: int
    """From 1, within the document."""
    text: str
    """What the page says, without the marks that carry boxes. Empty for a page that failed."""
    answer: str
    """Exactly what the model wrote."""
    width: int
    height: int
    """Of the page image, in pixels; 0 where it could not be opened."""
    dpi: float | None
    """Pixels per inch that a PDF's page was drawn with; None for images."""
    blocks: tuple[Block, ...]
    confidence: float | None
    """0 to 1; 0 where the page was not read to its end, None where the engine gives no probabilities."""
    low_confidence: tuple[Span, ...]
    """Where it is below the bound; empty too where the engine gives no probabilities."""
    finish_reason: FinishReason
    """`stop`: read to its end. `length`, `loop`: it is not all there. `error`: it failed."""
    seconds: float
    tokens: int
    mode: str
    """The resolution mode it was read in; empty if unknown."""
    attempts: int
    """How often it was read; more than once after a loop."""
    error: str | None
    """Why it failed."""
    joined_tables: tuple[JoinedTable, ...] = ()
    """Tables of this page that go on with rows of the pages after it."""
    table_begins_on: int | None = None
    """The page that the table was moved to which this one began with."""

    def to_json(self) -> dict[str, Any]:
        """As in the files of `--format json`: boxes are lists of left, top, right, bottom."""
        values = asdict(self)
        values["page"] = values.pop("number")
        for block in values["blocks"]:
            block["boxes"] = [list(box.values()) for box in block["boxes"]]
            if block["picture"] is None:
                del block["picture"]
        if self.answer == self.text:
            del values["answer"]
        for name in ("joined_tables", "table_begins_on"):
            if not values[name]:
                del values[name]
        return {"page": values.pop("page"), **values}


@dataclass(frozen=True, slots=True)
class Document:
    """A document that was read."""

    source: str
    """The file."""
    pages: tuple[Page, ...]
    """Those that were asked for, in order."""

    @property
    def text(self) -> str:
        """All pages, with a form feed between them."""
        return "\f".join(page.text for page in self.pages)

    @property
    def markdown(self) -> str:
        """As in the files of `--format md`, without marks for what is uncertain."""
        from ocrsmith.reading.formats import markdown_page

        several = len(self.pages) > 1
        return "\n\n".join(markdown_page(page, several=several) for page in self.pages) + "\n"

    @property
    def failed(self) -> tuple[Page, ...]:
        """The pages that could not be read."""
        return tuple(page for page in self.pages if page.error is not None)
