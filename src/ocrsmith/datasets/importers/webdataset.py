"""WebDataset: tar archives in which the members of a sample follow each other and have one name.

`0001.jpg`, `0001.txt`, `0001.json` are one sample: what stands before the first dot of the name, folders
included, is its key. The text is in `.txt` or `.gt.txt`; else in the `.json`, under a name that a text column
may have. The other values of the `.json` go into the sample's meta, its `id`, `group` and `prompt` count.

Archives (`.tar`, `.tar.gz`) are read as a stream and nothing is ever written to disk.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ocrsmith.datasets.importers.base import Candidate, Format, ImportOptions, Source
from ocrsmith.datasets.importers.columns import choose_text
from ocrsmith.datasets.importers.file_names import IMAGE_SUFFIXES
from ocrsmith.datasets.importers.json_rows import as_word, meta_of
from ocrsmith.datasets.importers.lines import check_encoding
from ocrsmith.datasets.importers.tar_stream import Member, read_members
from ocrsmith.errors import DataError
from ocrsmith.records import Excluded

_SHARDS = (".tar", ".tar.gz", ".tgz")
_TEXTS = ("gt.txt", "txt")
_KEY = re.compile(r"(?P<key>(?:.*/)?[^/.]+)\.(?P<extension>[^/]+)")
_MAX_MEMBERS = 64
_LOOK_AT = 16


@dataclass(slots=True)
class _Sample:
    """Members of one key."""

    key: str
    members: dict[str, bytes] = field(default_factory=dict)
    """Content of each image, text and JSON by extension, in lower case."""
    others: list[str] = field(default_factory=list)
    """Extensions of members that are not read."""


def recognises(path: Path, head: bytes) -> bool:
    """A tar archive, or a folder with some, whose first samples have an image and a text."""
    if path.is_dir():
        shards = _shards_of(path)
    else:
        is_tar = head[257:262] == b"ustar" or (head[:2] == b"\x1f\x8b" and path.name.lower().endswith(_SHARDS))
        shards = [path] if is_tar else []
    try:
        return bool(shards) and _has_pairs(shards[0])
    except (DataError, OSError):
        return False


def open_webdataset(path: Path, options: ImportOptions) -> Source:
    """The samples of an archive, or of all archives in a folder, as a source.

    Raises:
        DataError: it is no tar archive, or the first samples have no image and text.
    """
    check_encoding(options.encoding)
    shards = _shards_of(path) if path.is_dir() else [path]
    if not shards:
        raise DataError(
            f"The folder holds no tar archives ({', '.join(_SHARDS)}).",
            place=str(path),
            mend="Give the folder of the shards, or an archive.",
        )
    if not _has_pairs(shards[0]):
        raise DataError(
            f"Its first {_LOOK_AT} samples have no image with a text of the same name after or before it.",
            place=str(shards[0]),
            mend="Pack name.jpg and name.txt (or name.json) one after the other.",
        )
    return Source(path, "webdataset", None, lambda: _read(shards, options))


def _shards_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.name.lower().endswith(_SHARDS) and path.is_file())


def _has_pairs(shard: Path) -> bool:
    """Whether one of the first samples has an image and a text."""
    seen = 0
    for sample in _samples(shard, ImportOptions(), content=False):
        if isinstance(sample, Excluded):
            continue
        names = sample.members
        if any(_is_image(name) for name in names) and any(not _is_image(name) for name in names):
            return True
        seen += 1
        if seen == _LOOK_AT:
            break
    return False


def _read(shards: Sequence[Path], options: ImportOptions) -> Iterator[Candidate | Excluded]:
    for shard in shards:
        number = 0
        for sample in _samples(shard, options):
            if isinstance(sample, Excluded):
                yield sample
            else:
                number += 1
                yield _candidate(sample, shard, number, options)


def _samples(shard: Path, options: ImportOptions, *, content: bool = True) -> Iterator[_Sample | Excluded]:
    """Neighbouring members of the same key."""
    sample: _Sample | None = None
    for member in read_members(shard, lambda name: content and _is_wanted(name)):
        if isinstance(member, Excluded):
            yield member
            continue
        match = _KEY.fullmatch(member.name)
        if match is None:
            continue
        if sample is not None and sample.key != match["key"]:
            yield sample
            sample = None
        sample = sample or _Sample(match["key"])
        problem = _add(sample, match["extension"].lower(), member, shard)
        if problem is not None:
            yield problem
    if sample is not None:
        yield sample


def _add(sample: _Sample, extension: str, member: Member, shard: Path) -> Excluded | None:
    if not _is_wanted(member.name):
        sample.others = [*sample.others, extension][:_MAX_MEMBERS]
    elif extension in sample.members or len(sample.members) >= _MAX_MEMBERS:
        detail = f"The sample {sample.key} has another member .{extension}: remove one."
        return Excluded("malformed", detail, member.name, str(shard))
    else:
        sample.members[extension] = member.data
    return None


def _is_wanted(name: str) -> bool:
    extension = name.rpartition("/")[2].partition(".")[2].lower()
    return _is_image(extension) or extension in (*_TEXTS, "json")


def _is_image(extension: str) -> bool:
    return "." + extension.rpartition(".")[2] in IMAGE_SUFFIXES


def _candidate(sample: _Sample, shard: Path, number: int, options: ImportOptions) -> Candidate | Excluded:
    images = [name for name in sample.members if _is_image(name)]
    path = f"{sample.key}.{images[0]}" if images else ""

    def excluded(reason: str, detail: str) -> Excluded:
        return Excluded(reason, f"Sample {sample.key}: {detail}", path, str(shard), number)

    if len(images) != 1:
        if images:
            return excluded("several_images", f"it has {len(images)} images, and a sample has one: split it.")
        there = ", ".join([*sample.members, *sample.others])
        detail = f"it has no image, only {there}: the members of a sample must follow each other."
        return excluded("missing", detail)
    try:
        row = _row_of(sample)
        text, used = _text_of(sample, row, options)
    except _SampleError as error:
        return excluded(error.reason, str(error))
    group = options.group_column or "group"
    return Candidate(
        image=sample.members[images[0]],
        image_path=path,
        text=text,
        source=str(shard),
        line=number,
        id=as_word(row.get("id")) or f"{shard.name}#{sample.key}",
        group=as_word(row.get(group)),
        prompt=as_word(row.get("prompt")) or None,
        meta=meta_of({name: row[name] for name in row if name not in (used, "id", "prompt", group)}),
    )


class _SampleError(Exception):
    """A sample that cannot be used; the message says why."""

    def __init__(self, detail: str, reason: str = "malformed") -> None:
        super().__init__(detail)
        self.reason = reason


def _row_of(sample: _Sample) -> dict[str, Any]:
    data = sample.members.get("json")
    if data is None:
        return {}
    try:
        row = json.loads(data)
        json.dumps(row, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError) as error:
        raise _SampleError(f"its .json cannot be read ({error}).") from error
    if not isinstance(row, dict):
        raise _SampleError("its .json is no object.")
    return row


def _text_of(sample: _Sample, row: dict[str, Any], options: ImportOptions) -> tuple[str, str]:
    """The text, and the name in the `.json` that it is from ("" for a text file)."""
    extension = next((name for name in _TEXTS if name in sample.members), None)
    if extension is not None:
        try:
            text = sample.members[extension].decode(options.encoding)
        except UnicodeError as error:
            raise _SampleError(f"its .{extension} is not {options.encoding} ({error}).") from error
        return text.removeprefix("\ufeff").replace("\r\n", "\n"), ""
    if not row:
        there = ", ".join([*sample.members, *sample.others])
        detail = f"it has no text, only {there}: the members of a sample must follow each other."
        raise _SampleError(detail, "empty_text")
    try:
        name = choose_text(list(row), options, place="")
    except DataError as error:
        raise _SampleError(f"{error.problem} {error.mend}") from error
    if not isinstance(row[name], str):
        raise _SampleError(f"the {name!r} of its .json is no text: write it in quotes.")
    return row[name], name


FORMAT = Format(
    "webdataset",
    "WebDataset: tar archives, or folders of them, with name.jpg and name.txt or name.json",
    recognises,
    open_webdataset,
)
