"""Lines of text files, with their numbers, and messages that help when a file is not the text it should be."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from pathlib import Path

from ocrsmith.errors import DataError, SettingsError

_BLOCK = 1 << 20
_SNIFF_BYTES = 8192

_SIGNATURES: tuple[tuple[bytes, str], ...] = (
    (b"\x89PNG\r\n\x1a\n", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"GIF8", "a GIF picture"),
    (b"BM", "a BMP picture"),
    (b"II*\x00", "a TIFF picture"),
    (b"MM\x00*", "a TIFF picture"),
    (b"RIFF", "a WebP picture"),
    (b"%PDF-", "a PDF document"),
    (b"PK\x03\x04", "a ZIP archive or Office document"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"PAR1", "a Parquet file"),
    (b"ARROW1", "an Arrow file"),
)


def content_kind(head: bytes) -> str | None:
    """What a file's first bytes say it is, e.g. "a PNG picture"; None if it may be text."""
    if head.startswith(b"BM") and b"\x00" not in head:
        return None
    return next((name for magic, name in _SIGNATURES if head.startswith(magic)), None)


def read_head(path: Path) -> bytes:
    """The first bytes of a source file; an empty or unreadable one is a `DataError`."""
    try:
        with path.open("rb") as file:
            head = file.read(_SNIFF_BYTES)
    except OSError as error:
        raise DataError(
            f"The file cannot be read: {error.strerror or error}.",
            place=str(path),
            mend="Check that it is a file and that you may read it.",
        ) from error
    if not head:
        raise DataError(
            "The file is empty (0 bytes).",
            place=str(path),
            mend="Make it again, or leave it out of the sources.",
        )
    return head


def require_text(path: Path, head: bytes, encoding: str) -> None:
    """Raises `DataError` if `head` is not the beginning of a text file in `encoding`."""
    check_encoding(encoding)
    kind = content_kind(head)
    if kind is not None:
        raise DataError(
            f"This is {kind}, not a text file.",
            place=str(path),
            mend="Give a text file with a line `image path<tab>text` for each image, a CSV/TSV table, a "
            "Parquet file or a dataset folder.",
        )
    wide = _is_wide(encoding)
    if not wide and head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise DataError(
            "The file is UTF-16, not UTF-8.",
            place=str(path),
            mend="Add --encoding utf-16, or save it as UTF-8.",
        )
    if not wide and b"\x00" in head:
        raise DataError(
            f"The file is binary, not text (a zero byte at byte {head.index(0) + 1}).",
            place=str(path),
            mend="Give a text, CSV/TSV or Parquet file, or a dataset folder.",
        )


def check_encoding(encoding: str) -> None:
    """Raises `SettingsError` if Python knows no such text encoding."""
    try:
        "".encode(encoding)
    except (LookupError, ValueError) as error:
        raise SettingsError(
            f"There is no text encoding {encoding!r}.",
            place="--encoding",
            mend="Name one such as utf-8, gb18030, big5, cp1252 or utf-16.",
        ) from error


def iterate_lines(path: Path, encoding: str) -> Iterator[tuple[int, str]]:
    """Line number (from 1) and text of each line, without its end (LF or CRLF) and without a BOM.

    Only LF ends a line: other separators of Unicode may stand in a text. Memory is that of one line.

    Raises:
        DataError: bytes that are not `encoding`; names file, line, byte and what encoding it may be.
    """
    with path.open("rb") as file:
        if _is_wide(encoding):
            yield from _iterate_wide_lines(path, encoding)
            return
        start = 0
        for number, raw in enumerate(file, start=1):
            if number == 1 and raw.startswith(codecs.BOM_UTF8):
                start, raw = 3, raw[3:]
            try:
                line = raw.decode(encoding)
            except UnicodeDecodeError as error:
                raise _undecodable(path, encoding, number, start + error.start, raw[error.start]) from error
            start += len(raw)
            yield number, line.removesuffix("\n").removesuffix("\r")


def _iterate_wide_lines(path: Path, encoding: str) -> Iterator[tuple[int, str]]:
    number = 0
    try:
        with path.open(encoding=encoding, newline="\n") as file:
            for number, line in enumerate(file, start=1):
                yield number, line.removeprefix("\ufeff").removesuffix("\n").removesuffix("\r")
    except UnicodeError as error:
        raise DataError(
            f"The file is not {encoding}: {error}.",
            place=f"{path}, after line {number}",
            mend="Name its true encoding with --encoding, or save it as UTF-8.",
        ) from error


def count_lines(path: Path) -> int:
    """Number of lines, about: for progress bars."""
    with path.open("rb") as file:
        return sum(block.count(b"\n") for block in iter(lambda: file.read(_BLOCK), b"")) + 1


def unescape(text: str) -> str:
    """Replaces `\\n`, `\\t` and `\\\\` by newline, tab and backslash; other backslashes stay."""
    return _ESCAPE.sub(lambda match: _ESCAPED[match[0]], text) if "\\" in text else text


def first_bad_escape(text: str) -> str | None:
    """The first backslash sequence that `unescape` would not replace, e.g. `\\f`; None if there is none."""
    match = _BAD_ESCAPE.match(text) if "\\" in text else None
    return match["bad"] if match else None


_ESCAPED = {r"\n": "\n", r"\t": "\t", r"\\": "\\"}
_ESCAPE = re.compile(r"\\[nt\\]")
_BAD_ESCAPE = re.compile(r"(?:[^\\]|\\[nt\\])*(?P<bad>\\(?![nt\\]).?)", re.DOTALL)


def _is_wide(encoding: str) -> bool:
    return codecs.lookup(encoding).name.startswith(("utf-16", "utf-32"))


def _undecodable(path: Path, encoding: str, line: int, offset: int, byte: int) -> DataError:
    guess = guess_encoding(path)
    mend = (
        f"It looks like {guess}: add --encoding {guess}, or save it as UTF-8."
        if guess
        else ("Name its true encoding with --encoding, or save it as UTF-8.")
    )
    return DataError(
        f"The file is not {encoding}: byte 0x{byte:02X} cannot be decoded.",
        place=f"{path}, line {line}, byte {offset + 1} of the file",
        mend=mend,
    )


def guess_encoding(path: Path) -> str | None:
    """The likely encoding of a file that is not UTF-8: gb18030, big5, cp1252 or none.

    Chinese double-byte text has its high bytes in pairs; Latin text has single ones among ASCII letters.
    """
    with path.open("rb") as file:
        data = file.read(_BLOCK)
    runs = [len(run) for run in re.findall(rb"[\x80-\xff]+", data)]
    paired = sum(length for length in runs if length >= 2)
    candidates = ("gb18030", "big5") if paired >= 0.6 * sum(runs) else ("cp1252",)
    for encoding in candidates:
        try:
            codecs.getincrementaldecoder(encoding)().decode(data)
        except UnicodeDecodeError:
            continue
        return encoding
    return None
