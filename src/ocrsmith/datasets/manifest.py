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
            name: {
                "samples": summary.counts[name],
                "groups": summary.groups[name],
                "files": [path.relative_to(folder).as_posix() for path in files[name]],
            }
            for name in files
        },
        "excluded": summary.excluded,
        "text_length": asdict(summary.text_length),
        "image_width": asdict(summary.image_width),
        "image_height": asdict(summary.image_height),
        "length_check": summary.length_check,
        "notes": list(summary.notes),
        "sources": [_describe(source) for source in sources],
        "settings": {name: value for name, value in asdict(settings).items() if name != "overwrite"},
        "versions": _versions(),
    }
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
    entry: dict[str, Any] = {"path": str(source.path), "kind": source.kind}
    if source.path.is_file():
        entry["bytes"] = source.path.stat().st_size
    if entry.get("bytes", _HASHED_BYTES) < _HASHED_BYTES:
        with source.path.open("rb") as file:
            entry["sha256"] = hashlib.file_digest(file, "sha256").hexdigest()
    return entry


def _versions() -> dict[str, str]:
    versions = {"ocrsmith": __version__, "python": platform.python_version()}
    for name in ("numpy", "pillow", "pyarrow"):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions
