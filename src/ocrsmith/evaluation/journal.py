"""The journal of an evaluation under way: what was read survives a kill, and the next run goes on there."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ocrsmith.errors import OutputError
from ocrsmith.evaluation.store import JOURNAL_FORMAT, PageResult, check_result
from ocrsmith.settings.differences import differences
from ocrsmith.settings.files import writing

_END_MEND = (
    "Give the settings of the stopped run, choose another folder with -o, or start afresh with --overwrite."
)


@dataclass
class Journal:
    """One JSON line a page, appended and flushed; the first line holds the settings it belongs to.

    Use `open` to make one; a line torn by a kill is dropped.
    """

    path: Path
    results: dict[str, PageResult] = field(default_factory=dict)
    """By id: all pages read so far."""

    @classmethod
    def open(cls, path: Path, settings: Mapping[str, Any]) -> Journal:
        """Opens a journal, or begins one.

        Args:
            path: of the journal.
            settings: all that decides the predictions, JSON-serialisable.

        Raises:
            OutputError: there is a journal of a run with other settings; the message names which differ.
        """
        settings = json.loads(json.dumps(settings))  # tuples become lists, as they will when read back
        if path.is_file():
            header, lines, whole = _read_lines(path)
            if header is not None:
                differing = differences(header, settings)
                if differing:
                    raise other_settings(path.parent, "a stopped evaluation", differing)
                with writing(path), path.open("r+b") as file:
                    file.truncate(whole)
                results = (check_result(record, path, number) for number, record in enumerate(lines, start=2))
                return cls(path, {result.id: result for result in results})
        with writing(path):
            path.write_text(
                json.dumps({"format": JOURNAL_FORMAT, "settings": settings}) + "\n", encoding="utf-8"
            )
        return cls(path)

    def add(self, results: Iterable[PageResult]) -> None:
        """Appends pages; they are with the operating system when this returns."""
        with writing(self.path), self.path.open("a", encoding="utf-8") as file:
            for result in results:
                file.write(json.dumps(result.to_row(), ensure_ascii=True) + "\n")
                self.results[result.id] = result

    def close(self) -> None:
        """Removes the journal: its content is in the finished files."""
        with writing(self.path):
            self.path.unlink(missing_ok=True)


def other_settings(out: Path, what: str, differing: list[str]) -> OutputError:
    """The refusal to mix two evaluations in one folder."""
    return OutputError(
        f"The folder holds {what} with other settings ({'; '.join(differing)}).", place=str(out), mend=_END_MEND
    )


def _read_lines(path: Path) -> tuple[dict[str, Any] | None, list[dict[str, Any]], int]:
    """Settings (None where there is no whole header), the whole records, and the byte where they end."""
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    records: list[dict[str, Any]] = []
    for line in content[:whole].splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            record = None
        if not isinstance(record, dict):
            raise OutputError(
                "The journal of the stopped evaluation is damaged.",
                place=f"{path}, line {len(records) + 1}",
                mend="Start afresh with --overwrite.",
            )
        records.append(record)
    if not records:
        return None, [], 0
    settings = records[0].get("settings")
    if records[0].get("format") != JOURNAL_FORMAT or not isinstance(settings, dict):
        raise OutputError(
            "The journal was written by another version of ocrsmith.",
            place=str(path),
            mend="Start afresh with --overwrite.",
        )
    return settings, records[1:], whole
