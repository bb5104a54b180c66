"""What was read of one document, on the disk: pages survive a kill, and the same command goes on after them.

The journal stays when the document is finished: a further output format, or another bound for what is marked,
is written without reading anything again. Only where each page's line stands is kept in memory.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ocrsmith.errors import OutputError
from ocrsmith.reading.readings import PageReading
from ocrsmith.settings.differences import differences
from ocrsmith.settings.files import writing

FORMAT = "ocrsmith-reading-1"
_AFRESH = "Start afresh with --overwrite."


@dataclass
class Journal:
    """One JSON line a page, appended and flushed; the first line holds the settings it belongs to.

    Use `open` to make one; a line torn by a kill is dropped.
    """

    path: Path
    document: int
    _head: str
    """The first line, until it is written: with the first page."""
    _lines: dict[int, int] = field(default_factory=dict)
    """Page number → where its line begins; of several lines the last counts."""
    _failed: set[int] = field(default_factory=set)
    written: dict[str, Any] | None = None
    """How the outputs were written that stand beside it; None where they were not, or pages came after."""

    @classmethod
    def open(cls, path: Path, document: int, settings: Mapping[str, Any], source: Mapping[str, Any]) -> Journal:
        """Opens a journal, or begins one; one of another state of the file is thrown away.

        Args:
            path: of the journal.
            document: which of this run's documents it belongs to.
            settings: all that decides what is read, JSON-serialisable.
            source: tells whether the file is still the same.

        Raises:
            OutputError: it holds pages read with other settings, or is damaged.
        """
        head = json.loads(json.dumps({"format": FORMAT, "source": source, "settings": settings}))
        journal = cls(path, document, json.dumps(head) + "\n")
        if (
            path.is_file()
            and (before := journal._read_head()) is not None
            and before["source"] == head["source"]
        ):
            differing = differences(before["settings"], head["settings"])
            if differing:
                raise OutputError(
                    f"The folder holds pages read with other settings ({'; '.join(differing)}).",
                    place=str(path),
                    mend="Give the settings of then, choose another folder with -o, or start afresh with "
                    "--overwrite.",
                )
            journal._index()
        return journal

    @property
    def read(self) -> set[int]:
        """The pages that need not be read again: those that failed are tried again."""
        return set(self._lines) - self._failed

    def add(self, reading: PageReading) -> None:
        """Appends a page; it is with the operating system when this returns."""
        self._append(reading.number, reading.to_line())
        self._note(reading.number, reading.prediction.error)
        self.written = None

    def close(self, written: Mapping[str, Any]) -> None:
        """Notes that the outputs are written, and how."""
        self._append(None, json.dumps({"written": dict(written)}))
        self.written = dict(written)

    def readings(self, numbers: Iterator[int] | tuple[int, ...]) -> Iterator[PageReading]:
        """These pages in this order, those that failed included, one in memory at a time.

        Raises:
            OutputError: the journal is damaged.
        """
        with self.path.open("rb") as file:
            for number in numbers:
                if number in self._lines:
                    file.seek(self._lines[number])
                    yield self._reading(file.readline())

    def _append(self, number: int | None, line: str) -> None:
        with writing(self.path):
            if self._head:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self.path.write_text(self._head, encoding="utf-8")
                self._head = ""
        with writing(self.path), self.path.open("ab") as file:
            begin = file.tell()
            file.write(line.encode() + b"\n")
        if number is not None:
            self._lines[number] = begin

    def _note(self, number: int, error: str | None) -> None:
        if error is None:
            self._failed.discard(number)
        else:
            self._failed.add(number)

    def _read_head(self) -> dict[str, Any] | None:
        """The first line; None where it was torn."""
        with self.path.open("rb") as file:
            line = file.readline()
        if not line.endswith(b"\n"):
            return None
        head = _parsed(line)
        if head is None or head.get("format") != FORMAT or not isinstance(head.get("settings"), dict):
            raise OutputError(
                "The journal is damaged, or of another version of ocrsmith.",
                place=str(self.path),
                mend=_AFRESH,
            )
        return head

    def _index(self) -> None:
        """Finds the lines of the pages, and cuts off a torn one."""
        whole = 0
        with self.path.open("rb") as file:
            for count, line in enumerate(file, start=1):
                begin, whole = whole, whole + len(line)
                if not line.endswith(b"\n"):
                    whole = begin
                    break
                if count > 1:
                    self._take(line, begin, count)
        with writing(self.path), self.path.open("r+b") as file:
            file.truncate(whole)
        self._head = ""

    def _take(self, line: bytes, begin: int, count: int) -> None:
        record = _parsed(line)
        if record is not None and isinstance(record.get("written"), dict):
            self.written = record["written"]
            return
        try:
            reading = PageReading.from_record(record or {}, self.document)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise self._damaged(f", line {count}") from error
        self._lines[reading.number] = begin
        self._note(reading.number, reading.prediction.error)
        self.written = None

    def _reading(self, line: bytes) -> PageReading:
        try:
            return PageReading.from_record(_parsed(line) or {}, self.document)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise self._damaged("") from error

    def _damaged(self, where: str) -> OutputError:
        return OutputError("The journal is damaged.", place=f"{self.path}{where}", mend=_AFRESH)


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None
