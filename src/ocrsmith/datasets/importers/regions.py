"""Regions of a page with their texts → candidates: the whole page's text, or its lines cut out.

Shared by all importers that know where on a page a text stands.

Page text: each line of the page is a line of the text, without blank lines between blocks (what a block is
differs too much between writers: a paragraph, a column, a whole page). Where the source gives no order, boxes
that stand beside each other are one line, joined by a space; see `reading_order`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ocrsmith.datasets.importers.base import Candidate, LineCrop, Unit
from ocrsmith.datasets.importers.reading_order import reading_rows
from ocrsmith.records import Excluded

ILLEGIBLE = "illegible"
"""`Region.kind` of a text that is on the page and that nobody could read: `###` in PaddleOCR and ICDAR."""


@dataclass(frozen=True, slots=True)
class Region:
    """A part of a page and its text, most often a line."""

    text: str
    polygon: tuple[tuple[float, float], ...]
    """(x, y) in pixels of the page; two points are the opposite corners of a box; empty: unknown."""
    id: str = ""
    """Unique on its page; empty: the region's number is taken."""
    kind: str = "line"
    """`line`, `ILLEGIBLE`, or the source's own word; only `ILLEGIBLE` has a meaning here."""
    order: int | None = None
    """Place in the reading order, where the source gives one; None: found from the polygons."""
    meta: dict[str, Any] = field(default_factory=dict)
    """Kept in the meta of a line's sample: baseline, language …"""


def candidates(
    page: Candidate, regions: Sequence[Region], unit: Unit, problems: Sequence[str] = ()
) -> Iterator[Candidate | Excluded]:
    """A page's candidates: itself with its text, or one for each line.

    Args:
        page: where the page is and comes from; its text is not looked at, `image` is a file or its bytes.
        regions: in the order of the source.
        problems: what is wrong with regions that could not be read, a sentence each. A page that has one is
            left out, as its text would be incomplete; of lines, only those.
    """
    if unit == "page":
        yield page_candidate(page, regions, problems)
        return
    for problem in problems:
        yield _exclude(page, "malformed", problem)
    if not regions and not problems:
        detail = "The page has no lines: remove it, or mark and transcribe them."
        yield _exclude(page, "empty_text", detail)
    yield from line_candidates(page, regions)


def page_candidate(
    page: Candidate, regions: Sequence[Region], problems: Sequence[str] = ()
) -> Candidate | Excluded:
    """`page` with the text of all regions; left out if the text would be incomplete."""
    if problems:
        return _exclude(page, "malformed", problems[0])
    illegible = sum(region.kind == ILLEGIBLE for region in regions)
    if illegible:
        detail = (
            f"{illegible} of {len(regions)} lines of the page are marked as illegible, so its text is "
            "incomplete: use --unit line for those that can be read, or transcribe them."
        )
        return _exclude(page, ILLEGIBLE, detail)
    return replace(page, text=page_text(regions))


def line_candidates(page: Candidate, regions: Sequence[Region]) -> Iterator[Candidate | Excluded]:
    """One candidate for each region, to be cut from the page; all have the document, or the page, as group.

    Args:
        page: as in `candidates`; its meta goes into each line's.
    """
    name = page.id or page.image_path or page.source
    for number, region in enumerate(regions, start=1):
        line_id = f"{name}#{region.id or f'line_{number}'}"
        if region.kind == ILLEGIBLE:
            detail = f"The line {line_id} is marked as illegible: transcribe it, or leave it out."
            yield _exclude(page, ILLEGIBLE, detail)
        elif len(region.polygon) < 2:
            detail = f"The line {line_id} has no place on the page: add its polygon, or use --unit page."
            yield _exclude(page, "malformed", detail)
        elif not region.text.strip():
            detail = f"The line {line_id} has no text: transcribe it, or remove it."
            yield _exclude(page, "empty_text", detail)
        else:
            whole = page.image
            yield replace(
                page,
                image=LineCrop(whole, region.polygon) if isinstance(whole, bytes | Path) else whole,
                text=region.text,
                id=line_id,
                group=page.group or page.image_path,
                meta={**page.meta, **region.meta, "polygon": rounded(region.polygon)},
            )


def _exclude(page: Candidate, reason: str, detail: str) -> Excluded:
    return Excluded(reason, detail, page.image_path, page.source, page.line)


def rounded(points: Sequence[tuple[float, float]]) -> list[list[float]]:
    """Points for `meta`: hundredths of a pixel are enough."""
    return [[round(x, 2), round(y, 2)] for x, y in points]


def page_text(regions: Sequence[Region]) -> str:
    """The text of a page, in reading order, line by line; regions without text are skipped."""
    return "\n".join(" ".join(region.text.strip() for region in row) for row in rows_of(regions))


def rows_of(regions: Sequence[Region]) -> list[list[Region]]:
    """Lines of the page in reading order, each with its regions.

    The source's order is kept where all regions have one; otherwise it is found from the polygons. Where there
    are regions that have neither, all stay as they come.
    """
    filled = [region for region in regions if region.text.strip()]
    if all(region.order is not None for region in filled):
        return [[region] for region in sorted(filled, key=lambda region: region.order or 0)]
    if not all(region.polygon for region in filled):
        return [[region] for region in filled]
    boxes = [bounds(region.polygon) for region in filled]
    rows = reading_rows(boxes, [region.text for region in filled])
    return [[filled[index] for index in row] for row in rows]


def bounds(polygon: Sequence[tuple[float, float]]) -> tuple[float, float, float, float]:
    """(left, top, right, bottom) of a polygon with at least one point."""
    xs, ys = [x for x, _ in polygon], [y for _, y in polygon]
    return min(xs), min(ys), max(xs), max(ys)


def from_top_left(polygon: Sequence[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    """The polygon, begun at its top left corner if it has four: for sources whose polygons begin anywhere.

    Four points are rectified from the first one on (see `images.cut`), so it says which way is up.
    """
    start = min(range(4), key=lambda index: sum(polygon[index])) if len(polygon) == 4 else 0
    return (*polygon[start:], *polygon[:start])
