"""Progress bars on stderr, for commands that take a while. Silent with -q."""

from __future__ import annotations

import time
from typing import Any

from ocrsmith.cli import output


class Bar:
    """A bar with counts, the time spent and the time left, for the length of a `with` block. Without
    a terminal, a line now and then."""

    SECONDS_BETWEEN_LINES = 30

    def __init__(self, unit: str = "") -> None:
        from rich import progress

        self._console = console = output.notes()
        self._progress = progress.Progress(
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            *([progress.TextColumn(unit)] if unit else []),
            progress.TimeElapsedColumn(),
            progress.TextColumn("left"),
            progress.TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._told = time.monotonic()

    def __enter__(self) -> Any:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def _tell(self, line: str) -> None:
        """Prints a line where nobody sees the bar, if the last one is long ago."""
        if not self._console.is_terminal and time.monotonic() - self._told >= self.SECONDS_BETWEEN_LINES:
            self._told = time.monotonic()
            self._console.print(line)


class BuildBar(Bar):
    """How far the building of a dataset is; told by `build_dataset`."""

    _LABELS = {"read": "Reading and checking", "write": "Writing"}  # noqa: RUF012

    def __init__(self) -> None:
        super().__init__()
        self._tasks: dict[str, Any] = {}

    def __call__(self, phase: str, done: int, total: int | None) -> None:
        if phase not in self._tasks:
            self._tasks[phase] = self._progress.add_task(self._LABELS[phase], total=total, completed=done)
        if done % 64 == 0 or done == total:
            self._progress.update(self._tasks[phase], completed=done)
            self._tell(f"{self._LABELS[phase]}: {done:,}" + ("" if total is None else f" of {total:,}"))


class CountBar(Bar):
    """How many of a known number are done."""

    def __init__(self, unit: str, label: str, verb: str) -> None:
        """`unit`: what is counted; `label` stands before the bar, `verb` begins a line."""
        super().__init__(unit)
        self.unit, self.label, self.verb = unit, label, verb
        self.done = 0
        self.total = 0
        self._task: Any = None

    def __call__(self, done: int, total: int) -> None:
        """What was done before does not count for the speed."""
        if self._task is None:
            self._task = self._progress.add_task(self.label, total=total, completed=done)
        self.done, self.total = done, total
        self._progress.update(self._task, completed=done, total=total)
        self._tell(f"{self.verb} {done:,} of {total:,} {self.unit}")


class PageBar(CountBar):
    """How far the reading of pages is; told by `evaluate`."""

    def __init__(self, *, then: str = "") -> None:
        """`then`: what goes on when all pages are read, and takes the label's place."""
        super().__init__("pages", "Reading", "read")
        self._then = then

    def __call__(self, done: int, total: int) -> None:
        super().__call__(done, total)
        if self._then and done == total:
            self._progress.update(self._task, description=self._then)


class EncodeBar(CountBar):
    """How far the encoding of images is; told by `FeatureCache.build`."""

    def __init__(self) -> None:
        super().__init__("images", "Encoding", "encoded")
