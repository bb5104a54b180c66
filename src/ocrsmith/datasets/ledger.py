"""The ledger of what was left out: `excluded.jsonl`, a JSON object for each item."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from types import TracebackType

from ocrsmith.records import Excluded
from ocrsmith.settings.files import writing

REASONS: dict[str, str] = {
    "missing": "the image is not there",
    "unreadable": "the image cannot be opened",
    "too_large": "the image has too many pixels or bytes",
    "too_small": "the image is smaller than the least side",
    "empty_text": "the text is empty",
    "image_token": "the text contains <image>",
    "too_long": "longer than the model's context",
    "bad_prompt": "the row's own prompt lacks <image>",
    "malformed": "the row cannot be parsed or encoded",
}
"""Every reason and what it means, for summaries."""

_KEPT = 20


class Ledger:
    """Counts what is left out and writes each item as it comes."""

    def __init__(self, path: Path) -> None:
        self.counts: Counter[str] = Counter()
        self.first: list[Excluded] = []
        """The first items, for messages."""
        self._path = path
        with writing(path):
            self._file = path.open("w", encoding="utf-8", errors="backslashreplace")

    def add(self, item: Excluded) -> None:
        """Writes an item."""
        self.counts[item.reason] += 1
        if len(self.first) < _KEPT:
            self.first.append(item)
        entry = {
            "file": item.source,
            "line": item.line,
            "image_path": item.image_path,
            "reason": item.reason,
            "detail": item.detail,
        }
        with writing(self._path):
            self._file.write(json.dumps(entry, ensure_ascii=False) + "\n")

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with writing(self._path):
            self._file.close()


def describe(item: Excluded) -> str:
    """One line for a person: place, reason, detail."""
    line = "" if item.line is None else f", line {item.line}"
    return f"{item.source}{line}: {item.reason}: {item.detail}"
