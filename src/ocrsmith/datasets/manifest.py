"""`manifest.json`: what a dataset holds and how it was made, so that it can be made again.

The same sources, settings and versions give the same bytes: there is no time in it.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ocrsmith import __version__
from ocrsmith.datasets.importers import Source
from ocrsmith.datasets.schema import FORMAT_NAME, FORMAT_VERSION, MANIFEST_FILE
from ocrsmith.errors import DataError
from ocrsmith.records import SplitName

if TYPE_CHECKING:
    from ocrsmith.datasets.build import BuildSettings, BuildSummary
    from ocrsmith.datasets.reader import Dataset
    from ocrsmith.datasets.settings import Layout

_MANNERS = ("overwrite", "fresh")
"""Settings that do not change what is written."""
_HASHED_BYTES = 1 << 30
"""Larger source files are named without a hash: reading them once more would take long."""


def write(
    folder: Path,
    settings: BuildSettings,
    sources: Sequence[Source],
    summary: BuildSummary,
    files: Mapping[SplitName, Sequence[Path]],
) -> None:
    """Writes the manifest into `folder`, which holds `files`."""
    value = {
        "format": FORMAT_NAME,
        "version": FORMAT_VERSION,
        "content_hash": summary.content_hash,
        "prompt": settings.prompt,
        "layout": settings.layout,
        "samples": summary.samples,
        "splits": {
            name: _split_entry(folder, summary.counts[name], summary.groups[name], files[name])
            for name in files
        },
        "excluded": summary.excluded,
        "text_length": asdict(summary.text_length),
        "image_width": asdict(summary.image_width),
        "image_height": asdict(summary.image_height),
        "strata": [row.to_json() for row in summary.strata],
        "length_check": summary.length_check,
        "notes": list(summary.notes),
        "sources": [_describe(source) for source in sources],
        "settings": {name: value for name, value in asdict(settings).items() if name not in _MANNERS},
        "versions": versions(),
    }
    _write(folder, value)


def write_export(
    folder: Path,
    dataset: Dataset,
    *,
    layout: Layout,
    counts: Mapping[SplitName, int],
    groups: Mapping[SplitName, int],
    files: Mapping[SplitName, Sequence[Path]],
    content_hash: str,
) -> None:
    """Writes the manifest of samples that were exported from `dataset` into `folder`, which holds `files`."""
    value = {
        "format": FORMAT_NAME,
        "version": FORMAT_VERSION,
        "content_hash": content_hash,
        "prompt": dataset.prompt,
        "layout": layout,
        "samples": sum(counts.values()),
        "splits": {name: _split_entry(folder, counts[name], groups[name], files[name]) for name in files},
        "excluded": {},
        "notes": [],
        "sources": [{"path": str(dataset.path), "kind": "dataset", "content_hash": dataset.content_hash}],
        "versions": versions(),
    }
    _write(folder, value)


def _split_entry(folder: Path, samples: int, groups: int, files: Sequence[Path]) -> dict[str, Any]:
    names = [path.relative_to(folder).as_posix() for path in files]
    return {"samples": samples, "groups": groups, "files": names}


def _write(folder: Path, value: dict[str, Any]) -> None:
    text = json.dumps(value, ensure_ascii=False, indent=2) + "\n"
    (folder / MANIFEST_FILE).write_text(text, encoding="utf-8", errors="backslashreplace")


def read(folder: Path) -> dict[str, Any] | None:
    """The manifest of a folder, None if it has none.

    Raises:
        DataError: it is damaged, of another program or of a later version.
    """
    path = folder / MANIFEST_FILE
    if not path.is_file():
        return None
    mend = "Build the dataset again with `ocrsmith data build`."
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"The manifest cannot be read: {error}.", place=str(path), mend=mend) from error
    if not isinstance(value, dict) or value.get("format") != FORMAT_NAME:
        return None
    if value.get("version") != FORMAT_VERSION:
        raise DataError(
            f"The dataset has format version {value.get('version')!r}; this ocrsmith reads {FORMAT_VERSION}.",
            place=str(path),
            mend="Update ocrsmith, or build the dataset again.",
        )
    if not all(key in value for key in ("content_hash", "prompt", "splits", "layout")):
        raise DataError("The manifest is not complete.", place=str(path), mend=mend)
    return value


def _describe(source: Source) -> dict[str, Any]:
    entry: dict[str, Any] = {"path": str(source.path), "kind": source.kind, **source.options}
    if source.path.is_file():
        entry["bytes"] = source.path.stat().st_size
    if entry.get("bytes", _HASHED_BYTES) < _HASHED_BYTES:
        with source.path.open("rb") as file:
            entry["sha256"] = hashlib.file_digest(file, "sha256").hexdigest()
    return entry


def versions() -> dict[str, str]:
    """Of ocrsmith, Python and the packages that decide what is written."""
    found = {"ocrsmith": __version__, "python": platform.python_version()}
    for name in ("numpy", "pillow", "pyarrow"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
