"""What every result carries: machine, versions, commit, command; and how it is written and shown."""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
from collections.abc import Iterable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from ocrsmith.errors import SettingsError
from ocrsmith.settings.files import write_text
from ocrsmith.settings.provenance import environment

RESULTS = Path(__file__).parent / "results"
REPOSITORY = Path(__file__).parents[1]


def circumstances(command: Sequence[str], *, note: str = "", commit: str | None = None) -> dict[str, Any]:
    """Machine, versions, commit and command of a measurement.

    Args:
        command: as typed.
        note: what else one must know, such as that the machine was shared.
        commit: of the code; None asks git.
    """
    found = environment(note=note, **(commit_of() if commit is None else {"commit": commit}))
    found["command"] = " ".join(command)
    found["machine"] |= {"cpu": _cpu(), "threads": os.environ.get("OMP_NUM_THREADS", "all"), **_gpu()}
    found["load_average"] = [round(load, 2) for load in os.getloadavg()]
    return found


def settings_of(options: argparse.Namespace) -> dict[str, Any]:
    """The options that decide a measurement."""
    others = ("name", "note", "commit", "results")
    return {name: value for name, value in vars(options).items() if name not in others}


def commit_of(folder: Path = REPOSITORY) -> dict[str, Any]:
    """The commit that is checked out, and whether files differ from it; unknown outside a checkout."""
    try:
        head = _git(folder, "rev-parse", "HEAD")
        return {
            "commit": head,
            "modified": bool(_git(folder, "status", "--porcelain", "--", "src", "benchmarks")),
        }
    except (OSError, subprocess.CalledProcessError):
        return {"commit": "unknown"}


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def _cpu() -> str:
    try:
        match = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        match = None
    return match[1] if match else "unknown"


def _gpu() -> dict[str, Any]:
    try:
        import torch
    except ImportError:
        return {}
    if not torch.cuda.is_available():
        return {}
    return {"gpu": torch.cuda.get_device_name(), "cuda": torch.version.cuda, "triton": _triton()}


def _triton() -> str | None:
    try:
        return metadata.version("triton")
    except metadata.PackageNotFoundError:
        return None


def write_result(name: str, result: dict[str, Any], folder: Path = RESULTS) -> Path:
    """Writes `NAME.json`, whole or not at all.

    Raises:
        SettingsError: a name that is no file name.
        OutputError: it cannot be written.
    """
    if not re.fullmatch(r"\w[\w.-]*", name):
        raise SettingsError(f"The name {name!r} cannot be a file's.", place="--name", mend="use letters and -")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    write_text(path, json.dumps(result, indent=2, ensure_ascii=False) + "\n")
    return path


def table(rows: Iterable[dict[str, Any]], columns: Sequence[str]) -> str:
    """A Markdown table of the columns that any row has something in; numbers to three figures."""
    kept = list(rows)
    shown = [column for column in columns if any(row.get(column) is not None for row in kept)]
    cells = [[_cell(row.get(column)) for column in shown] for row in kept]
    widths = [max(map(len, column)) for column in zip(shown, *cells, strict=True)]
    lines = [shown, ["-" * width for width in widths], *cells]
    return "\n".join(
        "| " + " | ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)) + " |"
        for line in lines
    )


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    return str(value)
