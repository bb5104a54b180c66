"""XML from unknown hands.

A file is read piece by piece with defusedxml: a document type declaration, entities and references to other
files are refused, and so are files beyond the limits below. Namespaces are taken off, so that every version of
a format reads alike. Memory is that of one wanted element (a page), within those limits.
"""

from __future__ import annotations

import codecs
import os
import re
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path
from xml.etree.ElementTree import Element, ParseError, TreeBuilder

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import XMLParser as DefusedXMLParser

from ocrsmith.datasets.importers.lines import guess_encoding
from ocrsmith.errors import DataError

MAX_BYTES = 32 << 20
MAX_ELEMENTS = 500_000
MAX_DEPTH = 100
"""Far more than a page needs, even with a box for each character."""

_BLOCK = 1 << 16
_HEAD = 8192
_DECLARED = re.compile(rb"<\?xml[^>]{0,200}?encoding\s*=\s*[\"']([\w.:-]{1,40})[\"']")
_DECLARED_IN_HTML = re.compile(rb"<meta\b[^>]{0,200}?charset\s*=\s*[\"']?\s*([\w.:-]{1,40})", re.IGNORECASE)
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
    (b"<\x00?\x00", "utf-16-le"),
    (b"\x00<\x00?", "utf-16-be"),
)
_SAVE_AGAIN = "Export it again, or leave it out."


def root_name(head: bytes) -> str:
    """The name of the outermost element, without its namespace; empty if `head` is no beginning of XML."""
    encoding = next((name for mark, name in _MARKS if head.startswith(mark)), "latin-1")
    text = head.decode(encoding, errors="ignore").lstrip()
    while text.startswith(("<?", "<!")):
        end = "-->" if text.startswith("<!--") else "]>" if _has_subset(text) else ">"
        text = text.partition(end)[2].lstrip()
    match = re.match(r"<([^\s<>/!?&]+)", text)
    return match[1].rpartition(":")[2] if match else ""


def _has_subset(text: str) -> bool:
    return text.startswith("<!DOCTYPE") and "[" in text.partition(">")[0]


def iterate_elements(path: Path, names: Collection[str], *, root: str, encoding: str) -> Iterator[Element]:
    """The outermost elements of these names, each when it is complete; tags are without namespaces.

    Args:
        names: local names.
        root: local name that the outermost element must have.
        encoding: used instead of the declared one unless it is "utf-8".

    Raises:
        DataError: no XML, cut short, of another root, beyond a limit, with a document type or entities, or in
            another encoding than it says.
    """
    collector = _Collector(frozenset(names), root, path)
    parser = DefusedXMLParser(target=collector, forbid_dtd=True)
    try:
        for text in iterate_text(path, encoding):
            parser.feed(text)
            yield from collector.take()
        parser.close()
    except ParseError as error:
        raise DataError(f"The XML is damaged: {error}.", place=str(path), mend=_SAVE_AGAIN) from error
    except DefusedXmlException as error:
        raise DataError(
            "The file has a document type or entities, which can make a reader fetch other files or fill the "
            "memory; they are not read.",
            place=str(path),
            mend="Remove the <!DOCTYPE …> if you trust the file; it needs none.",
        ) from error
    yield from collector.take()


class _Collector:
    """Receives what the parser reads, and keeps the wanted elements only."""

    def __init__(self, names: frozenset[str], root: str, path: Path) -> None:
        self._names, self._root, self._path = names, root, path
        self._builder: TreeBuilder | None = None
        self._depth = self._wanted_depth = self._count = 0
        self._done: list[Element] = []

    def take(self) -> list[Element]:
        """The elements that were completed since the last call."""
        done, self._done = self._done, []
        return done

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        name = tag.rpartition("}")[2]
        self._depth += 1
        self._count += 1
        if self._depth == 1 and name != self._root:
            raise DataError(
                f"The outermost element is <{name}>, not <{self._root}>.",
                place=str(self._path),
                mend="Leave it out if it is no page, or name its format with --format.",
            )
        if self._depth > MAX_DEPTH or self._count > MAX_ELEMENTS:
            what = f"deeper than {MAX_DEPTH}" if self._depth > MAX_DEPTH else f"more than {MAX_ELEMENTS:,}"
            raise DataError(f"The XML has elements {what}.", place=str(self._path), mend=_SAVE_AGAIN)
        if self._builder is None and name in self._names:
            self._builder, self._wanted_depth = TreeBuilder(), self._depth
        if self._builder is not None:
            self._builder.start(name, attributes)

    def end(self, tag: str) -> None:
        if self._builder is not None:
            self._builder.end(tag.rpartition("}")[2])
            if self._depth == self._wanted_depth:
                self._done.append(self._builder.close())
                self._builder = None
        self._depth -= 1

    def data(self, text: str) -> None:
        if self._builder is not None:
            self._builder.data(text)

    def close(self) -> None:
        """Called by the parser at the end of the file."""


def iterate_text(path: Path, encoding: str) -> Iterator[str]:
    """The text of an XML or HTML file in pieces; expat itself knows few encodings, Python many.

    Args:
        encoding: used instead of the declared one unless it is "utf-8".

    Raises:
        DataError: it cannot be read, is empty or too large, or is in another encoding than it says.
    """
    try:
        yield from _decode(path, encoding)
    except UnicodeError as error:
        raise _undecodable(path, error) from error
    except OSError as error:
        raise DataError(
            f"The file cannot be read: {error.strerror or error}.",
            place=str(path),
            mend="Check that it is a file and that you may read it.",
        ) from error


def _decode(path: Path, encoding: str) -> Iterator[str]:
    if path.exists() and not path.is_file():  # a pipe would be waited for without end
        raise DataError("This is not a regular file.", place=str(path), mend="Leave it out.")
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size > MAX_BYTES:
            raise DataError(
                f"The file has {size:,} bytes; at most {MAX_BYTES:,} are read.",
                place=str(path),
                mend="Split it into pages.",
            )
        head = file.read(_HEAD)
        if not head.strip():
            raise DataError("The file is empty.", place=str(path), mend=_SAVE_AGAIN)
        decoder = codecs.getincrementaldecoder(_encoding_of(head, encoding, path))()
        while head:
            yield decoder.decode(head)
            head = file.read(_BLOCK)
        yield decoder.decode(b"", final=True)


def _encoding_of(head: bytes, wanted: str, path: Path) -> str:
    """The encoding by its mark, the user's word or its declaration, in this order; UTF-8 without any."""
    marked = next((name for mark, name in _MARKS if head.startswith(mark)), None)
    if marked is not None:
        return marked
    declared = _DECLARED.match(head.lstrip()) or _DECLARED_IN_HTML.search(head)
    name = wanted if wanted.lower() != "utf-8" or declared is None else declared[1].decode("ascii")
    if name.lower() in ("gb2312", "gbk"):
        return "gb18030"  # holds both, and files often say less than they use
    try:
        with suppress(UnicodeError):
            b"<".decode(name)  # refuses codecs that are no text encodings, such as zip
        codecs.getincrementaldecoder(name)
    except LookupError as error:
        raise DataError(
            f"There is no text encoding {name!r}.", place=str(path), mend="Name the true one with --encoding."
        ) from error
    return name


def _undecodable(path: Path, error: UnicodeError) -> DataError:
    guess = guess_encoding(path)
    what = str(error)
    if isinstance(error, UnicodeDecodeError):
        what = f"byte 0x{error.object[error.start]:02X} cannot be decoded as {error.encoding}"
    return DataError(
        f"The file is not in the encoding that it should have: {what}.",
        place=str(path),
        mend=f"It looks like {guess}: add --encoding {guess}." if guess else "Save it as UTF-8.",
    )
