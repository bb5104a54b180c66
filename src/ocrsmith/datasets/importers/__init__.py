"""Importers: each reads one kind of source. `find_source` recognises which one a path needs."""

from __future__ import annotations

import re
from pathlib import Path

from ocrsmith.datasets.importers.base import Candidate, ImportOptions, Source
from ocrsmith.datasets.importers.content import open_content
from ocrsmith.datasets.importers.lines import content_kind, read_head, require_text
from ocrsmith.datasets.importers.parquet import open_parquet
from ocrsmith.datasets.importers.saved import is_saved_folder, open_saved
from ocrsmith.datasets.importers.table import open_table
from ocrsmith.datasets.schema import FORMAT_NAME, MANIFEST_FILE
from ocrsmith.errors import DataError

__all__ = ["Candidate", "ImportOptions", "Source", "find_source"]

_LABEL_FILES = ("content.md", "content.txt", "labels.tsv", "labels.csv", "labels.txt", "metadata.csv")
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_LATER = {".json", ".jsonl", ".xml", ".pdf", ".xlsx"}


def find_source(path: Path, options: ImportOptions) -> Source:
    """Recognises a source by its content first, its name second.

    Raises:
        DataError: there is no such path, or it is nothing that can be read; says what it is instead.
    """
    if path.is_dir():
        return _find_in_folder(path, options)
    if not path.exists():
        hub = _HUB_ID.fullmatch(str(path)) is not None and not path.suffix
        raise DataError(
            "The source does not exist.",
            place=str(path),
            mend="For a dataset of the hub, save it first: datasets.load_dataset(…).save_to_disk(FOLDER)."
            if hub
            else "Check the path.",
        )
    head = read_head(path)
    suffix = path.suffix.lower()
    if head.startswith(b"PAR1") or suffix == ".parquet":
        return open_parquet([path], options, root=path)
    if suffix in _LATER and content_kind(head) is None:
        raise DataError(
            f"Files of kind {suffix} cannot be read as a source.",
            place=str(path),
            mend="Make a text file with a line `image path<tab>text` for each image, or a CSV or Parquet file.",
        )
    require_text(path, head, options.encoding)
    if suffix == ".csv":
        return open_table(path, options, ",")
    if suffix in (".tsv", ".tab"):
        return open_table(path, options, "\t")
    return open_content(path, options)


def _find_in_folder(folder: Path, options: ImportOptions) -> Source:
    if is_saved_folder(folder):
        return open_saved(folder, options)
    files = sorted(folder.glob("*.parquet")) + sorted(folder.glob("data/**/*.parquet"))
    if files:
        kind = "dataset" if _is_own(folder) else "parquet"
        return open_parquet(files, options, root=folder, kind=kind)
    labels = [folder / name for name in _LABEL_FILES if (folder / name).is_file()]
    if len(labels) == 1:
        return find_source(labels[0], options)
    there = sorted(entry.name + ("/" if entry.is_dir() else "") for entry in folder.iterdir())
    listing = ", ".join(there[:12]) + (f" … ({len(there)} entries)" if len(there) > 12 else "")
    found = "no dataset and no label file" if not labels else "more than one label file"
    raise DataError(
        f"The folder holds {found}; it has: {listing or 'nothing'}.",
        place=str(folder),
        mend="Give the label file itself (content.md, labels.tsv, a CSV or Parquet file), or a dataset folder.",
    )


def _is_own(folder: Path) -> bool:
    manifest = folder / MANIFEST_FILE
    return manifest.is_file() and FORMAT_NAME in manifest.read_text(encoding="utf-8", errors="replace")
