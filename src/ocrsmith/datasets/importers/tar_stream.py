"""The members of a tar archive, one after the other, read as a stream; nothing is written to disk.

Python's `tarfile` ends quietly at a damaged header, keeps every header it has seen, and reads headers of any
size into memory; here a damaged archive is an error after what came before, and memory stays that of one
member.
"""

from __future__ import annotations

import gzip
import tarfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Self

from ocrsmith.datasets.importers.file_names import readable
from ocrsmith.errors import DataError
from ocrsmith.records import Excluded

MAX_MEMBER_BYTES = 64 << 20
"""Images above this are not read: each worker holds some in memory."""

MAX_TEXT_BYTES = 8 << 20
_MAX_HEADER_BYTES = 1 << 20
_BLOCK = 1 << 20
_EXTENDED = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)
_TEXT_ENDS = (".txt", ".json")


@dataclass(frozen=True, slots=True)
class Member:
    """A regular file of an archive."""

    name: str
    """With its folders, and without `./` before it."""
    data: bytes
    """Its content; empty if it was not wanted."""


class _DamagedError(Exception):
    """A header that cannot be used."""


class _Header(tarfile.TarInfo):
    """A header whose faults do not end the archive quietly."""

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(archive)
        except _EndError:
            raise  # a block of zeros: the proper end
        except tarfile.HeaderError as error:
            raise _DamagedError(str(error)) from error

    def _proc_member(self, archive: tarfile.TarFile) -> Self:
        # The one place that knows how much is going to be read.
        if self.type in _EXTENDED and not 0 <= self.size <= _MAX_HEADER_BYTES:
            raise _DamagedError(f"a header of {self.size:,} bytes")
        return super()._proc_member(archive)  # type: ignore[misc]


_EndError: type[Exception] = tarfile.EOFHeaderError  # type: ignore[attr-defined]


def read_members(path: Path, wanted: Callable[[str], bool]) -> Iterator[Member | Excluded]:
    """All regular files of an archive; links, devices, names that lead out and files too large are `Excluded`.

    Args:
        wanted: whether the content of the file of that name is to be read.

    Raises:
        DataError: it is no tar archive, or it is cut or damaged; says after which member.
    """
    last = ""
    try:
        with _open(path) as stream, tarfile.open(fileobj=stream, mode="r|", tarinfo=_Header) as archive:
            while (header := archive.next()) is not None:
                archive.members = []  # type: ignore[attr-defined]
                last = readable(header.name)
                member = _member(archive, header, path, wanted)
                if member is not None:
                    yield member
            if _has_content(stream):
                detail = "After the end of the archive there is more, which was not read: split the archive."
                yield Excluded("malformed", detail, "", str(path))
    except (tarfile.TarError, _DamagedError, EOFError, OSError, zlib.error) as error:
        where = f"after the member {last!r}" if last else "at its beginning"
        raise DataError(
            f"The tar archive is cut off or damaged {where}: {_first_line(error)}.",
            place=str(path),
            mend="Copy, download or pack it again.",
        ) from error


def _open(path: Path) -> IO[bytes]:
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    return gzip.open(path, "rb") if packed else path.open("rb")  # type: ignore[return-value]


def _member(
    archive: tarfile.TarFile, header: tarfile.TarInfo, path: Path, wanted: Callable[[str], bool]
) -> Member | Excluded | None:
    name = readable(header.name).removeprefix("./")
    if header.isdir():
        return None

    def excluded(reason: str, detail: str) -> Excluded:
        return Excluded(reason, detail, readable(header.name), str(path))

    if header.name.startswith("/") or ".." in header.name.replace("\\", "/").split("/"):
        return excluded("outside", "The member's name leads out of the archive: pack it under a plain name.")
    if header.issym() or header.islnk():
        return excluded(
            "malformed", f"The member is a link to {readable(header.linkname)}: pack the file itself."
        )
    if not header.isreg() or header.issparse():
        return excluded("malformed", "The member is no plain file (device, pipe, sparse file): leave it out.")
    if not wanted(name):
        return Member(name, b"")
    limit = MAX_TEXT_BYTES if name.lower().endswith(_TEXT_ENDS) else MAX_MEMBER_BYTES
    if header.size > limit:
        return excluded("too_large", f"The member has {header.size:,} bytes; at most {limit:,} are read.")
    file = archive.extractfile(header)
    data = file.read() if file is not None else b""
    if len(data) != header.size:
        raise _DamagedError(f"{len(data):,} of {header.size:,} bytes are there")
    return Member(name, data)


def _has_content(stream: IO[bytes]) -> bool:
    """Whether anything but zeros is left; reads to the end, where gzip checks its sum."""
    found = False
    while block := stream.read(_BLOCK):
        found = found or bool(block.strip(b"\0"))
    return found


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
