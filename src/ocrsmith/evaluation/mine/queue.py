"""Folders of pages for a person to look at: images, a table to correct, and a page to read.

    FOLDER/labels.csv    a row a page: image, text (the reference: correct it here), prediction, reason …
    FOLDER/images/       the pages
    FOLDER/review.html   the same to look at: image over reference over prediction

`ocrsmith data build FOLDER` reads the table as it is, with id, document, prompt and everything else in it.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ocrsmith.datasets.exporters.names import ImageNames
from ocrsmith.evaluation.mine.page import Wording, render_queue
from ocrsmith.records import PageSample

LABELS = "labels.csv"
PAGE = "review.html"
COLUMNS = (
    *("image", "text", "prediction", "rank", "reason", "cer", "confidence", "kinds"),
    *("id", "group", "prompt", "split"),
)
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True)
class Entry:
    """A page of a queue."""

    sample: PageSample
    prediction: str
    rank: int
    """From 1."""
    reason: str
    cer: float
    confidence: float | None
    kinds: Mapping[str, int]
    """Edits of each kind of error, the commonest first."""
    split: str

    def row(self, image: str) -> dict[str, str]:
        """Its cells, those of the sample's own meta last."""
        confidence = "" if self.confidence is None else f"{self.confidence:.4f}"
        meta = {name: value for name, value in self.sample.meta.items() if name not in _TAKEN}
        return {
            "image": image,
            "text": self.sample.text,
            "prediction": _harmless(self.prediction),
            "rank": str(self.rank),
            "reason": self.reason,
            "cer": f"{self.cer:.4f}",
            "confidence": confidence,
            "kinds": " ".join(f"{kind}:{edits}" for kind, edits in self.kinds.items()),
            "id": self.sample.id,
            "group": self.sample.group,
            "prompt": self.sample.prompt or "",
            "split": self.split,
            **{name: value if isinstance(value, str) else _json(value) for name, value in meta.items()},
        }


_TAKEN = frozenset((*COLUMNS, ""))


def write_queue(folder: Path, entries: Iterable[Entry], wording: Wording | None = None) -> list[str]:
    """Writes a queue into an empty folder; images one at a time.

    Args:
        folder: empty.
        entries: the pages.
        wording: of the page to look at; None: a reference and what a model read.

    Returns:
        The path of each page's image within the folder.
    """
    names = ImageNames()
    rows: list[dict[str, str]] = []
    shown: list[tuple[Entry, str]] = []
    for entry in entries:
        name = names.take(entry.sample)
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(entry.sample.image)
        rows.append(entry.row(name))
        shown.append((replace(entry, sample=replace(entry.sample, image=b"")), name))
    (folder / LABELS).write_bytes(_table(rows).encode("utf-8-sig", "replace"))
    (folder / PAGE).write_text(render_queue(shown, wording), encoding="utf-8", errors="replace")
    return [row["image"] for row in rows]


def _table(rows: Sequence[Mapping[str, str]]) -> str:
    """CSV as RFC 4180 has it; with a byte order mark spreadsheets know that it is UTF-8."""
    columns = dict.fromkeys([*COLUMNS, *(name for row in rows for name in row)])
    buffer = io.StringIO(newline="")
    writer = csv.DictWriter(buffer, list(columns), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()


def _harmless(prediction: str) -> str:
    """What a spreadsheet would run as a formula gets an apostrophe: nobody knows what a model writes."""
    return f"'{prediction}" if prediction.startswith(_FORMULA) else prediction


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)
