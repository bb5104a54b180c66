"""A PDF file that is written object by object: what has been written need not be kept in memory."""

from __future__ import annotations

import zlib
from typing import IO

from ocrsmith.errors import OutputError

_MOST_BYTES = 10**10
"""Places within the file have ten digits."""


class PdfWriter:
    """Writes objects as they come; only where each one stands is kept, some bytes an object.

    The same calls give the same bytes: nothing depends on the time or the machine.

    Args:
        file: open for writing, at its beginning.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._places: list[int] = []
        self._at = 0
        self._write(b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n")

    def reserve(self) -> int:
        """A number for an object that comes later, so that others can name it."""
        self._places.append(0)
        return len(self._places)

    def add(self, body: str, number: int | None = None) -> int:
        """Writes an object; gives its number.

        Args:
            body: in PDF's syntax.
            number: one that was reserved; None takes the next.
        """
        return self._add(body.encode("ascii"), number)

    def add_stream(self, entries: str, data: bytes, *, deflate: bool = False, number: int | None = None) -> int:
        """Writes a stream; gives its number.

        Args:
            entries: of its dictionary, besides length and, with `deflate`, filter.
            data: as the filters among the entries have it.
            deflate: compress the data here.
            number: as for `add`.
        """
        if deflate:
            data, entries = zlib.compress(data, 6), f"{entries} /Filter /FlateDecode"
        head = f"<< {entries} /Length {len(data)} >>\nstream\n".encode("ascii")
        return self._add(head + data + b"\nendstream", number)

    def finish(self, root: int, info: int) -> None:
        """Writes the table of places; the file is complete then. Every reserved number must be taken."""
        table = self._at
        self._write(f"xref\n0 {len(self._places) + 1}\n0000000000 65535 f \n".encode("ascii"))
        for place in self._places:
            self._write(b"%010d 00000 n \n" % place)
        trailer = f"<< /Size {len(self._places) + 1} /Root {root} 0 R /Info {info} 0 R >>"
        self._write(f"trailer\n{trailer}\nstartxref\n{table}\n%%EOF\n".encode("ascii"))

    def _add(self, body: bytes, number: int | None) -> int:
        number = self.reserve() if number is None else number
        if self._at >= _MOST_BYTES:
            raise OutputError(
                "A PDF cannot have more than 10 GB.", mend="Write fewer pages at a time, with --pages."
            )
        self._places[number - 1] = self._at
        self._write(b"%d 0 obj\n" % number + body + b"\nendobj\n")
        return number

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self._at += len(data)


def text_string(text: str) -> str:
    """A text in PDF's syntax, as UTF-16."""
    return f"<FEFF{utf16(text)}>"


def utf16(text: str) -> str:
    """A text in UTF-16, most significant byte first, in hexadecimal."""
    return text.encode("utf-16-be", "replace").hex().upper()
