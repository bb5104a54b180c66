"""Reads the results that were written to `results/`, and picks rows of them for tables and the plot."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.report import RESULTS
from ocrsmith.errors import SettingsError

Row = dict[str, Any]

PLAIN: Row = {
    "micro": None,
    "checkpointing": "none",
    "quantization": "none",
    "experts": "auto",
    "compiled": True,
    "graphs": True,
    "data": "prepared",
    "resize": "auto",
    "cache": False,
    "dtype": "bf16",
    "seed": 3407,
}
"""Settings of a training row that its label does not name."""
WORDS: dict[str, dict[Any, str]] = {
    "data": {"folder": "from files"},
    "cache": {True: "cached features"},
    "resize": {"device": "resized by the GPU", "host": "resized on the host"},
    "dtype": {"fp16": "fp16", "fp32": "fp32"},
    "quantization": {"nf4": "NF4 base"},
    "experts": {"loop": "expert loop", "grouped": "torch's grouped GEMM", "triton": "own grouped GEMM"},
    "checkpointing": {"selective": "selective checkpointing", "full": "full checkpointing"},
    "compiled": {False: "not compiled"},
    "graphs": {False: "no CUDA graphs"},
}
OURS_ALONE = ("micro", "experts", "compiled", "graphs", "resize")


@dataclass(frozen=True, slots=True)
class Result:
    """A result file."""

    name: str
    content: dict[str, Any]

    @property
    def created(self) -> str:
        return str(self.content.get("circumstances", {}).get("created", ""))

    @property
    def settings(self) -> dict[str, Any]:
        settings: dict[str, Any] = self.content.get("settings", {})
        return settings


class Results:
    """All results of a folder, oldest first."""

    def __init__(self, folder: Path = RESULTS) -> None:
        """
        Raises:
            SettingsError: a file is none of ours.
        """
        self.all = sorted(map(_read, sorted(folder.glob("*.json"))), key=lambda result: result.created)

    def of(self, benchmark: str, **settings: Any) -> list[Result]:
        """Results of a benchmark with these settings, oldest first."""
        return [
            result
            for result in self.all
            if result.content.get("benchmark") == benchmark
            and all(result.settings.get(name) == value for name, value in settings.items())
        ]

    def training(self) -> dict[tuple[str, str], Row]:
        """(workload, label) → newest row of training at full size on a GPU.

        Rows of runs that were made for their loss curves or their cold first steps give way to others.
        """
        found = {}
        made = self.of("train", size="3b", device="cuda")
        for result in sorted(made, key=_is_for_speed):
            for row in result.content["rows"]:
                if "s/step" in row:
                    label = label_of(row, result.settings.get("files", "JPEG"))
                    found[result.settings["workload"], label] = row
        return found

    def memory(self) -> Iterator[Row]:
        """Newest row for each setting, at full size on a GPU."""
        names = ("workload", "base", "optimizer", "checkpointing")
        found: dict[tuple[Any, ...], Row] = {}
        for result in self.of("memory", size="3b", device="cuda"):
            for row in result.content["rows"]:
                if "measured GiB" in row:
                    found[tuple(row[name] for name in names)] = row
        return iter(found.values())

    def decoding(self) -> dict[tuple[Any, ...], Row]:
        """(workload, tokens, engine, adapter, batch) → newest row of decoding at full size on a GPU.

        One that was measured beside the reference goes before one that was not.
        """
        found = {}
        for result in self.of("decode", size="3b", device="cuda"):
            settings = result.settings
            for row in result.content["rows"]:
                if "ms/token" in row:
                    kind = (row["engine"], row["adapter"], row["batch"])
                    place = (settings["workload"], settings["tokens"], *kind)
                    if "× r2" in row or "× r2" not in found.get(place, {}):  # beside the reference, if ever
                        found[place] = row
        return found


def label_of(row: Row, files: str = "JPEG") -> str:
    """Engine, and what of its settings is not plain: `ours, from files, cached features`.

    Args:
        files: kind of image files that the run decoded, if any.
    """
    settings = row.get("settings", {})
    engine = settings.get("engine")
    if engine is None:
        return str(row["engine"])
    parts = [engine]
    for name, value in settings.items():
        if name not in PLAIN or value == PLAIN[name] or (engine != "ours" and name in OURS_ALONE):
            continue
        word = WORDS.get(name, {}).get(value, f"{name} {value}")
        if word == "from files" and files != "JPEG":
            word = f"from {files} files"
        parts.append("checkpointing" if engine != "ours" and name == "checkpointing" else word)
    return ", ".join(parts)


def _is_for_speed(result: Result) -> bool:
    return not (result.settings.get("curve") or result.settings.get("cold"))


def _read(path: Path) -> Result:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SettingsError(
            f"{path.name} is no result ({error}).", place=str(path), mend="measure anew"
        ) from error
    if not isinstance(content, dict) or "rows" not in content:
        raise SettingsError(f"{path.name} is no result: it has no rows.", place=str(path), mend="measure anew")
    return Result(path.stem, content)
