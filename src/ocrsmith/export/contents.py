"""What an exported folder consists of, and what of it may leave this machine.

A file goes to the hub if its name is one that an export writes and its content is what the name promises:
safetensors, JSON, or the card. Anything else stays: journals, optimizer states, pickles under a borrowed name.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ocrsmith.errors import InputError, WeightsError
from ocrsmith.export.card import CardFacts, headline
from ocrsmith.model.weights import read_header
from ocrsmith.settings.files import write_text

CARD = "README.md"
ORIGIN_FILE = "ocrsmith_export.json"
"""Tells an export from any other folder, and what it is."""
VERIFICATION_FILE = "ocrsmith_verification.json"

_NAMES = re.compile(
    r"README\.md|model(-\d{5}-of-\d{5})?\.safetensors|model\.safetensors\.index\.json|adapter_model\.safetensors|"
    r"(config|generation_config|tokenizer|tokenizer_config|special_tokens_map|added_tokens|adapter_config)\.json|"
    r"ocrsmith_(export|verification|processing|decoding|base)\.json"
)
_WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "adapter_model.safetensors")


@dataclass(frozen=True, slots=True)
class Piece:
    """A file of an export."""

    name: str
    path: Path
    size: int
    """Bytes."""

    def sha256(self) -> str:
        """Of its content, read a piece at a time."""
        with self.path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()

    def blob_id(self) -> str:
        """The name that git gives its content."""
        digest = hashlib.sha1(b"blob %d\0" % self.size, usedforsecurity=False)
        digest.update(self.path.read_bytes())
        return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class Contents:
    """What of a folder is an export, in the order of names."""

    folder: Path
    pieces: tuple[Piece, ...]
    origin: Mapping[str, Any]
    left_out: tuple[str, ...]
    """Names of what else the folder holds."""

    @property
    def size(self) -> int:
        """Bytes of all pieces."""
        return sum(piece.size for piece in self.pieces)


def is_export(folder: Path) -> bool:
    """Whether `ocrsmith export` wrote the folder."""
    return (folder / ORIGIN_FILE).is_file()


def read_contents(folder: Path) -> Contents:
    """Lists an exported folder, and holds each file against what its name promises.

    Raises:
        InputError: no export, or one with a part missing; a file is not what it is named.
        WeightsError: a safetensors file is none, or cut off.
    """
    if not is_export(folder):
        raise InputError(
            f"{folder.name!r} is no finished export: {ORIGIN_FILE} is missing.",
            place=str(folder),
            mend="give a folder that `ocrsmith export` wrote",
        )
    files = sorted(path for path in folder.iterdir() if _goes(path))
    names = {path.name for path in files}
    if CARD not in names or not names.intersection(_WEIGHTS):
        missing = CARD if CARD not in names else "weights"
        raise InputError(f"The export has no {missing}.", place=str(folder), mend="export it again")
    for path in files:
        _check(path)
    left_out = tuple(sorted(path.name for path in folder.iterdir() if not _goes(path)))
    pieces = tuple(Piece(path.name, path, path.stat().st_size) for path in files)
    return Contents(folder, pieces, _json_object(folder / ORIGIN_FILE), left_out)


def write_origin(folder: Path, facts: CardFacts) -> None:
    """Writes `ocrsmith_export.json`: of what the export was made, and how well it reads."""
    origin = {
        "kind": "merged" if facts.merged else "adapter",
        "name": facts.name,
        "base": facts.base,
        "dtype": facts.dtype or None,
        "trained_on": facts.trained_on or None,
        "measured_on": dict(facts.data) or None,
        "before": headline(facts.before) if facts.before else None,
        "after": headline(facts.after) if facts.after else None,
    }
    write_text(folder / ORIGIN_FILE, json.dumps(origin, indent=2, ensure_ascii=False) + "\n")


def _goes(path: Path) -> bool:
    return path.is_file() and not path.is_symlink() and _NAMES.fullmatch(path.name) is not None


def _check(path: Path) -> None:
    if path.suffix == ".safetensors":
        try:
            read_header(path)
        except OSError as error:
            raise WeightsError(f"{path.name} cannot be read: {error.strerror}.", place=str(path)) from error
    elif path.suffix == ".json":
        _json_object(path)
    else:
        try:
            path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(
                f"{path.name} is no text: {error}.", place=str(path), mend="export again"
            ) from error


def _json_object(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(value, dict):
            raise TypeError("it is no object")
    except (OSError, ValueError, TypeError) as error:
        raise InputError(
            f"{path.name} is not JSON: {error}.", place=str(path), mend="export the model again"
        ) from error
    return value
