"""What a result was made with: versions, machine, hashes."""

from __future__ import annotations

import hashlib
import os
import platform
import sys
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import ocrsmith

PACKAGES = (
    "accelerate",
    "bitsandbytes",
    "datasets",
    "numpy",
    "peft",
    "pillow",
    "pyarrow",
    "rapidfuzz",
    "safetensors",
    "tokenizers",
    "torch",
    "transformers",
)


def versions() -> dict[str, str]:
    """Installed versions of the packages that decide numbers; those that are absent are left out."""
    found = {"ocrsmith": ocrsmith.__version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def environment(**more: Any) -> dict[str, Any]:
    """Versions, machine, command line and time, and whatever else the caller knows (seed, hashes, device)."""
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "versions": versions(),
        "machine": {"platform": platform.platform(), "processor": platform.machine(), "cpus": os.cpu_count()},
        **more,
    }


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, read a piece at a time."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
