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
    "not_one_line": "the text has line breaks or tabs, and the format cannot hold them",
    "outside": "it lies outside the source's folder",
    "outside_page": "the line's polygon lies outside the page",
    "several_images": "more than one image for one text",
    "unpaired": "an image without its text, or a text without its image",
    "illegible": "marked as illegible, or partly without a transcription",
    "encrypted": "the PDF opens only with a password",
    "no_pages": "the PDF has none of the pages that were asked for",
    "timed_out": "the page took too long",
    "crashed": "the program that read the page crashed",
    "out_of_memory": "the page took too much memory",
    "ocr_layer": "the page is a scan; its text is the guess of an OCR program",
    "scanned_page": "the page is a picture with hardly any text of its own",
    "unmapped_text": "characters of the page have no Unicode value",
    "garbled_text": "words of the page are garbled",
    "hidden_text": "text of the page is invisible",
    "outside_text": "text lies outside the page",
    "unread_text": "the page draws text that its text layer lacks",
    "drawn_text": "letters of the page are drawn as shapes",
    "turned_text": "text of the page runs at an angle",
    "vertical_text": "text of the page runs from top to bottom",
    "blank_page": "the page has no text",
    "no_font": "no font draws all characters of the text",
    "unusable_font": "a font file cannot be used",
    "malformed": "the row cannot be parsed or encoded",
}
"""Every reason and what it means, for summaries."""

_KEPT = 20


class Ledger:
    """Counts what is left out and writes each item as it comes."""

    def __init__(self, path: Path, keep: int = 0) -> None:
        """Begins the ledger, or goes on with the first `keep` bytes of one that is there."""
        self.counts: Counter[str] = Counter()
        self.first: list[Excluded] = []
        """The first items, for messages."""
        self.bytes = keep
        """Its length."""
        self._path = path
        with writing(path):
            self._file = path.open("r+b" if keep else "wb")
            if keep:
                self._file.truncate(keep)
                for line in self._file:
                    self._count(_parse(line))

    def add(self, item: Excluded) -> None:
        """Writes an item."""
        self._count(item)
        entry = {
            "file": item.source,
            "line": item.line,
            "image_path": item.image_path,
            "reason": item.reason,
            "detail": item.detail,
        }
        line = (json.dumps(entry, ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace")
        with writing(self._path):
            self._file.write(line)
        self.bytes += len(line)

    def flush(self) -> None:
        """Hands over what was written to the system: it outlives this process."""
        with writing(self._path):
            self._file.flush()

    def _count(self, item: Excluded) -> None:
        self.counts[item.reason] += 1
        if len(self.first) < _KEPT:
            self.first.append(item)

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with writing(self._path):
            self._file.close()


def _parse(line: bytes) -> Excluded:
    entry = json.loads(line)
    return Excluded(entry["reason"], entry["detail"], entry["image_path"], entry["file"], entry["line"])


def describe(item: Excluded) -> str:
    """One line for a person: place, reason, detail."""
    place = item.source if item.line is None else f"{item.source}, line {item.line}"
    if item.line is None and item.image_path and item.image_path not in item.detail:
        place += f", {item.image_path}"
    return f"{place}: {item.reason}: {item.detail}"
