"""Which format a source has: recognised by what it is, or named with `--format`."""

from __future__ import annotations

import difflib
from pathlib import Path

from ocrsmith.datasets.importers import (
    alto,
    content,
    conversations,
    hocr,
    hub,
    icdar,
    json_rows,
    label_studio,
    paddle,
    page_xml,
    pairs,
    parquet,
    pdf,
    pubtabnet,
    saved,
    table,
    webdataset,
)
from ocrsmith.datasets.importers.base import Format, ImportOptions, Source
from ocrsmith.datasets.importers.lines import content_kind, read_head, require_text
from ocrsmith.errors import DataError, SettingsError

FORMATS: tuple[Format, ...] = (
    # Files and folders that say themselves what they are …
    saved.FORMAT,
    parquet.DATASET_FORMAT,
    parquet.PARQUET_FORMAT,
    # … then texts and folders that can only be told by their shape, the strictest first.
    webdataset.FORMAT,
    pdf.FORMAT,
    alto.FORMAT,
    page_xml.FORMAT,
    hocr.FORMAT,
    paddle.LABEL_FORMAT,
    paddle.REC_FORMAT,
    icdar.FORMAT,
    label_studio.FORMAT,
    pubtabnet.FORMAT,
    conversations.FORMAT,
    json_rows.FORMAT,
    table.CSV_FORMAT,
    table.TSV_FORMAT,
    content.FORMAT,
    hub.FORMAT,
    pairs.FORMAT,
)
"""All formats, in the order in which they are tried."""

LABEL_FILES = (
    *("content.md", "content.txt", "labels.tsv", "labels.csv", "labels.txt", "labels.json", "labels.jsonl"),
    *("metadata.csv", "metadata.jsonl"),
)
"""A folder with one of these is read by it."""

_NO_LINES = (".xml", ".json", ".jsonl", ".html", ".xlsx")
"""Suffixes of text files that surely have no lines of path and text."""

_COMPLETE = ("saved", "dataset", "parquet")
"""Folders of these formats hold all there is: a label file beside it is not read."""


def find_source(path: Path, options: ImportOptions) -> Source:
    """Opens a source in the format that the options name, or that it is recognised to have.

    Raises:
        SettingsError: the options name no format that there is.
        DataError: there is no such path, or it is nothing that can be read; says what it is instead.
    """
    asked = None if options.format is None else find_format(options.format)
    if path.is_dir():
        return asked.open(path, options) if asked else _find_in_folder(path, options)
    if not path.exists():
        if (asked is None or asked.name == hub.FORMAT.name) and hub.looks_like_hub(str(path)):
            return hub.open_hub(str(path), options)
        raise DataError("The source does not exist.", place=str(path), mend="Check the path.")
    head = read_head(path)
    found = asked or next((one for one in FORMATS if one.recognises(path, head)), None)
    if found is not None:
        return found.open(path, options)
    if content_kind(head) is not None or path.suffix.lower() not in (
        ".xml",
        ".json",
        ".jsonl",
        ".html",
        ".xlsx",
    ):
        require_text(path, head, options.encoding)
        return content.open_content(path, options)
    raise DataError(
        f"The file has the suffix {path.suffix}, but is of no format that can be read.",
        place=str(path),
        mend=f"Say which with --format ({names()}), or make a text file with a line `image path<tab>text` for "
        "each image.",
    )


def find_format(name: str) -> Format:
    """The format of that name.

    Raises:
        SettingsError: there is none; lists those that there are.
    """
    found = next((one for one in FORMATS if one.name == name.lower()), None)
    if found is None:
        close = difflib.get_close_matches(name, [one.name for one in FORMATS], n=1)
        hint = f" (did you mean {close[0]}?)" if close else ""
        raise SettingsError(
            f"There is no format {name!r}{hint}.", place="--format", mend=f"Use one of: {names()}."
        )
    return found


def names() -> str:
    """All names, for messages."""
    return ", ".join(one.name for one in FORMATS)


def _find_in_folder(folder: Path, options: ImportOptions) -> Source:
    labels = [folder / name for name in LABEL_FILES if (folder / name).is_file()]
    found = next((one for one in FORMATS if one.recognises(folder, b"")), None)
    if found is not None and (not labels or found.name in _COMPLETE):
        return found.open(folder, options)
    if len(labels) == 1:
        return find_source(labels[0], options)
    there = sorted(entry.name + ("/" if entry.is_dir() else "") for entry in folder.iterdir())
    listing = ", ".join(there[:12]) + (f" … ({len(there)} entries)" if len(there) > 12 else "")
    what = "no dataset and no label file" if not labels else "more than one label file"
    raise DataError(
        f"The folder holds {what}; it has: {listing or 'nothing'}.",
        place=str(folder),
        mend="Give the label file itself (content.md, labels.tsv, a CSV or Parquet file), a dataset folder, or "
        f"say with --format what the folder holds ({names()}).",
    )
