"""A window that slides over the text of a JSON file: finds where values end, without decoding them."""

from __future__ import annotations

import codecs
import re
from pathlib import Path
from types import TracebackType

from ocrsmith.datasets.importers.lines import guess_encoding
from ocrsmith.errors import DataError

MAX_VALUE = 64 << 20
"""Characters of a value that are held in memory; longer ones are passed over."""

_BLOCK = 1 << 18
_SPACE = re.compile(r"[ \t\r\n]*")
_NESTED = re.compile(r'["{}\[\]]')
_FLAT = re.compile(r'["{\[\s,}\]]')
_IN_STRING = re.compile(r'["\\]')


class BrokenOffError(Exception):
    """The file ends inside a value."""


class TooFarError(Exception):
    """More than the budget would have to be read."""


class JsonText:
    """A text file, seen through a window that moves forwards.

    Args:
        budget: how many bytes to read at most.
    """

    def __init__(self, path: Path, encoding: str, *, budget: int | None = None) -> None:
        self.path = path
        self.text = ""
        """What is in the window."""
        self.at = 0
        """Where in it we stand."""
        self.line = 1
        """1-based line of `at`."""
        self._file = path.open("rb")
        self._encoding = encoding
        self._decoder = codecs.getincrementaldecoder(encoding)()
        self._read = 0
        self._budget = budget

    def __enter__(self) -> JsonText:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def next(self) -> str:
        """Passes white space; the character that follows, or "" at the end of the file."""
        while True:
            match = _SPACE.match(self.text, self.at)
            self.advance(match.end() if match else self.at)
            if self.at < len(self.text):
                return self.text[self.at]
            if not self.more():
                return ""

    def advance(self, to: int) -> None:
        """Moves to the index `to` of the window, which is not before `at`."""
        self.line += self.text.count("\n", self.at, to)
        self.at = to

    def more(self) -> bool:
        """Reads on, and forgets what lies before `at`, which becomes 0. False at the end of the file.

        Raises:
            DataError: bytes that are not of the encoding.
            TooFarError: the budget is spent.
        """
        if self._budget is not None and self._read >= self._budget:
            raise TooFarError
        kept = self.text[self.at :]
        # A long value doubles the window, so that joining it stays linear.
        block = self._file.read(max(_BLOCK, len(kept)))
        waiting = len(self._decoder.getstate()[0])
        try:
            new = self._decoder.decode(block, final=not block)
        except UnicodeDecodeError as error:
            raise self._undecodable(kept, error, waiting) from error
        except UnicodeError as error:
            raise DataError(
                f"The file is not {self._encoding}: {error}.",
                place=f"{self.path}, after line {self.line}",
                mend="Name its true encoding with --encoding, or save it as UTF-8.",
            ) from error
        if self._read == 0:
            new = new.removeprefix("\ufeff")
        self._read += len(block)
        self.text, self.at = kept + new, 0
        return bool(block)

    def take(self) -> str | None:
        """The value that begins at `at`, as it is written, which is passed; None if it is too long to hold.

        Raises:
            BrokenOffError: the file ends inside it.
        """
        return self._pass(_Nesting(), MAX_VALUE)

    def skip(self, depth: int = 0) -> None:
        """Passes a value, or what is left of one that stands `depth` brackets deep, without keeping it.

        Raises:
            BrokenOffError: the file ends inside it.
        """
        self._pass(_Nesting(depth), 0)

    def take_line(self) -> tuple[str | None, bool]:
        """What is left of the line, without its LF, which is passed; None if it is too long to hold. And
        whether a LF ended it, not the end of the file."""
        kept, ended, seen = True, True, self.at
        while (end := self.text.find("\n", seen)) < 0:
            seen = len(self.text) - self.at
            if seen > MAX_VALUE:
                kept, seen = False, 0
                self.advance(len(self.text))
            if not self.more():
                end, ended = len(self.text), False
                break
        line = self.text[self.at : end] if kept else None
        self.advance(end + ended)
        return line, ended

    def _pass(self, nesting: _Nesting, limit: int) -> str | None:
        kept, seen = limit > 0, self.at
        while (end := nesting.feed(self.text, seen)) is None:
            seen = len(self.text) - self.at
            if seen > limit:
                kept, seen = False, 0
                self.advance(len(self.text))
            if not self.more():
                raise BrokenOffError
        raw = self.text[self.at : end] if kept else None
        self.advance(end)
        return raw

    def _undecodable(self, kept: str, error: UnicodeDecodeError, waiting: int) -> DataError:
        guess = guess_encoding(self.path)
        line = self.line + kept.count("\n") + error.object[: error.start].count(b"\n")
        byte = self._read - waiting + error.start
        return DataError(
            f"The file is not {self._encoding}: byte 0x{error.object[error.start]:02X} cannot be decoded.",
            place=f"{self.path}, line {line}, byte {byte + 1} of the file",
            mend=f"It looks like {guess}: add --encoding {guess}, or save it as UTF-8."
            if guess
            else "Name its true encoding with --encoding, or save it as UTF-8.",
        )


class _Nesting:
    """Counts brackets outside of strings; the text may come in parts."""

    def __init__(self, depth: int = 0) -> None:
        self._depth = depth
        self._in_string = False
        self._escaped = False

    def feed(self, text: str, at: int) -> int | None:
        """The index in `text` where the value ends, looking from `at`; None if it goes on."""
        while at < len(text):
            if self._escaped:
                self._escaped = False
                at += 1
                continue
            pattern = _IN_STRING if self._in_string else _NESTED if self._depth else _FLAT
            match = pattern.search(text, at)
            if match is None:
                return None
            at, mark = match.end(), match[0]
            if self._in_string:
                self._escaped = mark == "\\"
                self._in_string = self._escaped
            elif mark == '"':
                self._in_string = True
                continue
            elif mark in "{[":
                self._depth += 1
                continue
            elif self._depth == 0:
                return match.start()  # a number or literal ends before what separates it
            else:
                self._depth -= 1
            if self._depth == 0 and not self._in_string:
                return at
        return None
