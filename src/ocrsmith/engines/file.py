"""The engine for predictions made elsewhere: looks every page up by its id, and reads nothing itself."""

from __future__ import annotations

import hashlib
import sqlite3
import weakref
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from ocrsmith.engines.base import PageRequest, ReadProgress, failed
from ocrsmith.engines.prediction_files import Row, iter_rows
from ocrsmith.errors import DataError, SettingsError
from ocrsmith.records import Excluded, FinishReason, Prediction
from ocrsmith.settings.provenance import file_sha256

EXAMPLES = 100
"""Rows that cannot be used are counted all, but kept only so far."""
_SHOWN = 3


@dataclass(frozen=True, slots=True)
class FileMatch:
    """How predictions and pages go together."""

    pages: int
    matched: int
    missing: list[str] = field(default_factory=list)
    """The first ids of pages that the file has no prediction for."""
    unknown: int = 0
    """Predictions for none of the pages."""
    unknown_ids: list[str] = field(default_factory=list)
    """The first of these."""

    @property
    def warnings(self) -> list[str]:
        """A sentence for each thing that a person should know."""
        found = []
        if self.matched < self.pages:
            count = f"{self.pages - self.matched:,} of {self.pages:,} pages"
            found.append(f"{count} have no prediction{_such(self.missing)}.")
        if self.unknown:
            count = f"{self.unknown:,} predictions"
            found.append(f"{count} are for none of the pages{_such(self.unknown_ids)}.")
        return found


class FileEngine:
    """Answers with the predictions in a file or folder.

    They are held in a temporary database on disk, so memory stays small however many there are.
    """

    name = "file"

    def __init__(self, path: Path, *, id_column: str = "id", text_column: str | None = None) -> None:
        """
        Args:
            path: see `prediction_files.iter_rows`, as the columns.
            id_column, text_column: names of columns.

        Raises:
            DataError: no such file, or one that cannot be used.
        """
        self.path = path
        self.columns = {"id": id_column, "text": text_column}
        self.rows = 0
        self.duplicates = 0
        """Rows whose id stood there before; the last one counts."""
        self.unusable = 0
        self.excluded: list[Excluded] = []
        """The first rows that cannot be used, and why."""
        self._store = sqlite3.connect("", check_same_thread=False)  # "": a temporary file that SQLite removes
        self._finalizer = weakref.finalize(self, self._store.close)
        self._store.execute("CREATE TABLE pages (id TEXT PRIMARY KEY, text TEXT, finish TEXT, problem TEXT)")
        self._fill(iter_rows(path, id_column=id_column, text_column=text_column))
        self._hash = _hash(path)

    @classmethod
    def load(
        cls, *, path: Path | str | None = None, id_column: str | None = None, text_column: str | None = None
    ) -> FileEngine:
        """As the constructor. Raises SettingsError where there is no path."""
        if path is None or not str(path):
            raise SettingsError("The engine file needs a path.", place="path", mend="Name the predictions.")
        return cls(Path(path), id_column=id_column or "id", text_column=text_column)

    def describe(self) -> dict[str, Any]:
        """See `Engine.describe`."""
        return {
            "file": {"name": self.path.name, "hash": self._hash},
            "columns": dict(self.columns),
            "rows": self.rows,
            "duplicates": self.duplicates,
            "unusable": self.unusable,
            "not_honoured": dict.fromkeys(
                ("prompt", "processing", "decoding"), "the predictions were made elsewhere"
            ),
            "runtime": {"path": str(self.path)},
        }

    def read(
        self, requests: Sequence[PageRequest], *, progress: ReadProgress | None = None
    ) -> Iterator[Prediction]:
        """See `Engine.read`. Seconds are 0: how long it took elsewhere is not known."""
        for request in requests:
            yield self._look_up(request)
            if progress:
                progress(1)

    def match(self, ids: Iterable[str]) -> FileMatch:
        """Compares the predictions with the ids of all pages that are to be evaluated.

        Raises:
            DataError: not one page has a prediction: these are other pages, or other ids.
        """
        run = self._store.execute
        run("CREATE TEMP TABLE IF NOT EXISTS asked (id TEXT PRIMARY KEY)")
        run("DELETE FROM asked")
        self._store.executemany("INSERT OR IGNORE INTO asked VALUES (?)", ((id_,) for id_ in ids))
        pages, matched = run(
            "SELECT count(*), count(p.id) FROM asked a LEFT JOIN pages p USING (id)"
        ).fetchone()
        absent = "FROM asked WHERE id NOT IN (SELECT id FROM pages) ORDER BY rowid"
        missing = [id_ for (id_,) in run(f"SELECT id {absent} LIMIT {_SHOWN}")]
        strange = "FROM pages WHERE id NOT IN (SELECT id FROM asked)"
        (unknown,) = run(f"SELECT count(*) {strange}").fetchone()
        unknown_ids = [id_ for (id_,) in run(f"SELECT id {strange} ORDER BY rowid LIMIT {_SHOWN}")]
        if pages and not matched:
            raise DataError(
                f"None of the {pages:,} pages has a prediction: ids of pages are such as{_such(missing)}, "
                f"ids of predictions such as{_such(unknown_ids)}.",
                place=str(self.path),
                mend="Give the predictions of this split, under the ids that the dataset has.",
            )
        return FileMatch(pages, matched, missing, unknown, unknown_ids)

    @property
    def warnings(self) -> list[str]:
        """A sentence for each thing about the file that a person should know."""
        found = []
        if self.duplicates:
            found.append(f"{self.path.name}: {self.duplicates:,} rows repeat an id; the last of each counts.")
        if self.unusable:
            first = self.excluded[0]
            where = f"line {first.line}" if first.line else first.image_path
            found.append(
                f"{self.path.name}: {self.unusable:,} rows cannot be used; the first, {where}: {first.detail}."
            )
        return found

    def _fill(self, rows: Iterable[Row]) -> None:
        for row in rows:
            self.rows += 1
            if row.problem is not None:
                self.unusable += 1
                if len(self.excluded) < EXAMPLES:
                    self.excluded.append(
                        Excluded("unreadable", row.problem, row.id or "", str(self.path), row.line)
                    )
            if row.id is None:
                continue
            problem = f"line {row.line}: {row.problem}" if row.problem and row.line else row.problem
            values = (row.id, row.text, row.finish, problem)
            if self._store.execute("INSERT OR IGNORE INTO pages VALUES (?, ?, ?, ?)", values).rowcount == 0:
                self.duplicates += 1
                self._store.execute("REPLACE INTO pages VALUES (?, ?, ?, ?)", values)
        self._store.commit()
        if self.rows == self.unusable:
            why = f"; the first row: {self.excluded[0].detail}" if self.excluded else ""
            raise DataError(
                f"There is no prediction in it{why}.",
                place=str(self.path),
                mend="Give rows with an id and a text each.",
            )

    def _look_up(self, request: PageRequest) -> Prediction:
        query = "SELECT text, finish, problem FROM pages WHERE id = ?"
        found = self._store.execute(query, (request.id,)).fetchone()
        if found is None:
            return failed(request, f"no prediction in {self.path.name}")
        text, finish, problem = found
        if problem is not None:
            return failed(request, f"no usable prediction in {self.path.name}: {problem}")
        if finish == "error":
            return failed(request, f"{self.path.name} has this page as failed")
        reason: FinishReason = finish if finish in get_args(FinishReason) else "stop"
        return Prediction(id=request.id, text=text.strip(), finish_reason=reason, seconds=0.0)


def _such(ids: Sequence[str]) -> str:
    return " (" + ", ".join(repr(id_[:80]) for id_ in ids) + " …)" if ids else ""


def _hash(path: Path) -> str:
    """SHA-256 of the file, or over names and contents of a folder's texts."""
    if path.is_file():
        return f"sha256:{file_sha256(path)}"
    total = hashlib.sha256()
    for row in iter_rows(path):
        total.update(repr((row.id, row.text, row.problem)).encode("utf-8"))
    return f"sha256:{total.hexdigest()}"
