"""The objects of a JSON file, one at a time, in the memory of one.

Three layouts are read: an array of objects; an object that holds such an array under a usual name
(`{"samples": [{…}, …]}`); JSON Lines. Which one a file has is found from its beginning, not from its suffix.

An item that is broken in itself is left out and named, the rest goes on. A file that breaks off, or whose items
are not separated as JSON wants, is damaged: what comes before is given, then a `DataError` says where it ends.
"""

from __future__ import annotations

import codecs
import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ocrsmith.datasets.importers.json_text import MAX_VALUE, BrokenOffError, JsonText, TooFarError
from ocrsmith.datasets.importers.lines import (
    check_encoding,
    count_lines,
    guess_encoding,
    read_head,
    require_text,
)
from ocrsmith.errors import DataError
from ocrsmith.records import Excluded

LIST_NAMES = (
    *("samples", "data", "annotations", "items", "rows", "records", "examples", "entries", "images"),
    *("dataset", "results", "labels", "train", "test", "val"),
)
"""Names under which an object may hold the items."""

LINE_SUFFIXES = (".jsonl", ".ndjson", ".jsonlines")
_MAX_DEPTH = 64
_LOOK_AHEAD = 8 << 20
_HEAD_ITEMS = 32
_SURROGATE = re.compile(r"\\u[dD][89abcdefABCDEF]")
_START = re.compile(rb"(?:\xef\xbb\xbf)?[ \t\r\n]*[\[{]")


@dataclass(frozen=True, slots=True)
class Item:
    """An object of a file."""

    value: dict[str, Any]
    line: int
    """1-based line on which it begins."""


@dataclass(frozen=True, slots=True)
class JsonFile:
    """A JSON file whose layout is known."""

    path: Path
    encoding: str
    layout: str
    """`array`, `lines`, or `object`: an object with a list under `key`."""
    key: str
    head: tuple[Item, ...]
    """Some of its first items."""

    @property
    def rows(self) -> int | None:
        """Number of items, about; None where counting would take as long as reading."""
        return count_lines(self.path) if self.layout == "lines" else None

    def items(self) -> Iterator[Item | Excluded]:
        """All items, from the start; what is no JSON object is an `Excluded`.

        Raises:
            DataError: the file breaks off, is no JSON from some place on, or is not in its encoding.
        """
        return _read(self.path, self.encoding, self.layout, self.key)


def open_json(
    path: Path, encoding: str, lists: Sequence[str] = LIST_NAMES, *, look: int = _HEAD_ITEMS
) -> JsonFile:
    """Finds the layout of a JSON file and reads its first items.

    Args:
        lists: the names under which an object may hold the items; none: such an object is an item itself.
        look: how many first items to read.

    Raises:
        DataError: it is no JSON, or its beginning has no item; says what is wrong with it.
    """
    require_text(path, read_head(path), encoding)
    layout, key = _find_layout(path, encoding, lists)
    head: list[Item] = []
    problem = "It holds no items."
    try:
        for number, item in enumerate(_read(path, encoding, layout, key)):
            if isinstance(item, Item):
                head.append(item)
            elif number == 0:
                problem = f"Its first item cannot be used: {item.detail}"
            if len(head) == look or number == 10 * look:
                break
    except DataError:
        # The same error comes again, after these items, when the file is read.
        if not head:
            raise
    if not head:
        raise DataError(
            problem, place=str(path), mend="Give an array of objects, {“samples”: [ … ]}, or JSON Lines."
        )
    return JsonFile(path, encoding, layout, key, tuple(head))


def first_object(path: Path, head: bytes, lists: Sequence[str] = LIST_NAMES) -> dict[str, Any] | None:
    """The first item of a file that seems to be JSON, to recognise its format by; None if there is none.

    Args:
        head: the first bytes of the file.
    """
    encoding = "utf-8"
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding = "utf-16"
    elif not _START.match(head):
        return None
    try:
        try:
            return open_json(path, encoding, lists, look=1).head[0].value
        except DataError:
            guess = guess_encoding(path)
            return open_json(path, guess, lists, look=1).head[0].value if guess else None
    except (DataError, OSError):
        return None


def _find_layout(path: Path, encoding: str, lists: Sequence[str]) -> tuple[str, str]:
    check_encoding(encoding)
    with JsonText(path, encoding, budget=_LOOK_AHEAD) as text:
        try:
            first = text.next()
        except TooFarError:
            first = ""
        if first == "[":
            return "array", ""
        if first != "{":
            raise DataError(
                f"The file begins with {first!r}, but JSON data begins with [ or {{."
                if first
                else "It is blank.",
                place=f"{path}, line {text.line}",
                mend="Give an array of objects or JSON Lines, or leave the file out of the sources.",
            )
        if path.suffix.lower() in LINE_SUFFIXES:
            return "lines", ""
        return _layout_of_object(text, path, lists)


def _layout_of_object(text: JsonText, path: Path, lists: Sequence[str]) -> tuple[str, str]:
    """Whether the object that `text` stands on holds the items, or is the first of them."""
    start, found, after = text.line, [], ""
    try:
        for name, opening in _members(text):
            if opening != "[":
                text.skip()
                continue
            if _enter_list(text) in ("{", "]"):
                found.append(name)
            text.skip(depth=1)
        over_lines = text.line > start
        after = text.next()
    except (TooFarError, BrokenOffError, DataError):
        over_lines = True
    key = next((name for name in found if name in lists), None)
    if after == "," or (after == "{" and over_lines):
        raise DataError(
            "The objects follow each other without an array around them.",
            place=f"{path}, line {text.line}",
            mend="Put [ and ] around them with commas between, or write each object on one line (JSON Lines).",
        )
    if key is not None and after != "{":
        return "object", key
    return "lines", ""


def _enter_list(text: JsonText) -> str:
    text.advance(text.at + 1)
    return text.next()


def _read(path: Path, encoding: str, layout: str, key: str) -> Iterator[Item | Excluded]:
    with JsonText(path, encoding) as text:
        if layout == "lines":
            yield from _read_lines(text)
            return
        text.next()
        if layout == "array":
            yield from _read_array(text)
        else:
            yield from _read_object(text, key)
        if text.next():
            raise _damaged(text, "Something follows after the end of the JSON data.", "Remove it.")


def _read_lines(text: JsonText) -> Iterator[Item | Excluded]:
    while True:
        number = text.line
        line, whole = text.take_line()
        if line is None:
            yield _too_long(text.path, number)
        elif line.strip():
            item = _decode_item(line, text.path, number)
            if isinstance(item, Excluded) and not whole:
                detail = f"{item.detail} It is the last line: the file may be cut."
                item = Excluded(item.reason, detail, "", item.source, item.line)
            yield item
        if not whole:
            return


def _read_array(text: JsonText) -> Iterator[Item | Excluded]:
    """The items of the array that `text` stands on, and passes."""
    given = 0
    text.advance(text.at + 1)
    while True:
        following = text.next()
        if following == "]":
            text.advance(text.at + 1)
            return
        line = text.line
        try:
            if not following:
                raise BrokenOffError
            yield _take_item(text)
        except BrokenOffError:
            where = f"inside item {given + 1}, which begins on line {line}" if following else "after an item"
            raise _damaged(text, f"The file breaks off {where}; {given:,} items come before.") from None
        given += 1
        following = text.next()
        if following == ",":
            text.advance(text.at + 1)
        elif not following:
            raise _damaged(text, f"The file breaks off after item {given:,}: its list has no end.")
        elif following != "]":
            problem = f"After item {given:,} there is {following!r} where a comma or ] should be."
            raise _damaged(text, problem, "Correct the file there, or make it again.")


def _read_object(text: JsonText, key: str) -> Iterator[Item | Excluded]:
    """The items under `key` of the object that `text` stands on; other lists of objects go to the ledger."""
    seen = False
    try:
        for name, opening in _members(text):
            if name == key and opening == "[":
                if seen:
                    raise _damaged(text, f"The key {key!r} is there twice.", "Join the two lists.")
                seen = True
                yield from _read_array(text)
            elif opening == "[":
                line = text.line
                if _enter_list(text) == "{":
                    detail = (
                        f"The list {name!r} was not read, only {key!r}: give a file with one list of items."
                    )
                    yield Excluded("malformed", detail, "", str(text.path), line)
                text.skip(depth=1)
            else:
                text.skip()
    except BrokenOffError:
        raise _damaged(text, f"The file breaks off outside of its list {key!r}.") from None


def _members(text: JsonText) -> Iterator[tuple[str, str]]:
    """Name and first character of each value of the object that `text` stands on; each value has to be passed
    before the next member is asked for."""
    text.advance(text.at + 1)
    while True:
        following = text.next()
        if following == "}":
            text.advance(text.at + 1)
            return
        if not following:
            raise BrokenOffError
        raw = text.take() if following == '"' else None
        if raw is None or text.next() != ":":
            raise _damaged(text, "This is no JSON.", "Correct the file there, or make it again.")
        text.advance(text.at + 1)
        try:
            name = str(json.loads(raw))
        except ValueError:
            name = raw
        yield name, text.next()
        following = text.next()
        if following == ",":
            text.advance(text.at + 1)
        elif following and following != "}":
            raise _damaged(text, "This is no JSON.", "Correct the file there, or make it again.")


def _take_item(text: JsonText) -> Item | Excluded:
    """The item that `text` stands on, and passes."""
    line, start = text.line, text.at
    if text.text[start] == "{":
        try:
            value, end = _DECODER.raw_decode(text.text, start)
        except (ValueError, RecursionError):
            pass  # not all of it is there yet, or it is broken: its end is found below
        else:
            problem = _find_problem(value, text.text, start, end)
            text.advance(end)
            return Item(value, line) if problem is None else _excluded(problem, text.path, line)
    raw = text.take()
    return _too_long(text.path, line) if raw is None else _decode_item(raw, text.path, line)


def _decode_item(raw: str, path: Path, line: int) -> Item | Excluded:
    try:
        value = _DECODER.decode(raw)
    except RecursionError:
        return _excluded("It is nested too deeply: flatten it.", path, line)
    except json.JSONDecodeError as error:
        place = f"line {line + error.lineno - 1}, column {error.colno}"
        return _excluded(f"It is no valid JSON: {error.msg} at {place}. Correct it there.", path, line)
    except ValueError as error:
        return _excluded(f"It is no valid JSON: {error}. Correct it.", path, line)
    problem = _find_problem(value, raw, 0, len(raw))
    return Item(value, line) if problem is None else _excluded(problem, path, line)


def _find_problem(value: Any, text: str, start: int, end: int) -> str | None:
    """What forbids to use a decoded item, which is `text[start:end]`."""
    if not isinstance(value, dict):
        kind = {list: "a list", str: "a text", type(None): "null"}.get(type(value), "a number")
        return f"It is {kind}, not an object: give each item as {{…}} with its image and its text."
    if text.count("[", start, end) + text.count("{", start, end) > _MAX_DEPTH and _is_deep(value):
        return f"It is nested more than {_MAX_DEPTH} deep: flatten it."
    if _SURROGATE.search(text, start, end):
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            return "It has half of a surrogate pair (\\ud800 to \\udfff alone): correct the character."
    return None


def _is_deep(value: Any) -> bool:
    level = [value]
    for _ in range(_MAX_DEPTH):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, (dict, list))
        ]
    return bool(level)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice!r} is there twice")
    return value


def _finite(number: str) -> float | str:
    """JSON knows no infinity, so what would become one stays the text that it is."""
    value = float(number)
    return value if math.isfinite(value) else number


_DECODER = json.JSONDecoder(
    object_pairs_hook=_unique,
    parse_float=_finite,
    # NaN is what many writers make of a missing value; the infinities are no JSON either.
    parse_constant=lambda name: None if name == "NaN" else name,
)


def _excluded(detail: str, path: Path, line: int) -> Excluded:
    return Excluded("malformed", detail, "", str(path), line)


def _too_long(path: Path, line: int) -> Excluded:
    detail = f"The item has more than {MAX_VALUE:,} characters: keep images in files of their own."
    return Excluded("too_large", detail, "", str(path), line)


def _damaged(text: JsonText, problem: str, mend: str = "Copy, download or make it again.") -> DataError:
    return DataError(problem, place=f"{text.path}, line {text.line}", mend=mend)
