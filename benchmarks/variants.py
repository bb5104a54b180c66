"""Engines and their variants: `ours+nf4+full` is ours with two switches changed for this engine alone."""

from __future__ import annotations

import argparse
import re
from typing import Any

from benchmarks.peers import PEERS
from ocrsmith.errors import SettingsError

VARIANTS: dict[str, dict[str, Any]] = {
    "bf16": {"dtype": "bf16"},
    "fp16": {"dtype": "fp16"},
    "fp32": {"dtype": "fp32"},
    "nf4": {"quantization": "nf4"},
    "none": {"checkpointing": "none"},
    "selective": {"checkpointing": "selective"},
    "full": {"checkpointing": "full"},
    "grouped": {"experts": "grouped"},
    "triton": {"experts": "triton"},
    "loop": {"experts": "loop"},
    "eager": {"compiled": False},
    "nographs": {"graphs": False},
    "folder": {"data": "folder"},
    "cache": {"cache": True},
    "host": {"resize": "host"},
    "device": {"resize": "device"},
}
"""What a word after a + changes; `microN`, `seedN` and `workersN` give a number."""
NUMBERS = ("micro", "seed", "workers")

SETTINGS = (
    *("size", "workload", "batch", "accumulation", "micro", "checkpointing", "quantization", "experts"),
    *(
        "compiled",
        "graphs",
        "data",
        "cache",
        "resize",
        "workers",
        "samples",
        "dtype",
        "optimizer",
        "device",
        "seed",
    ),
)
"""The options of the training command that an engine's process needs to know."""


def engine_settings(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """What an engine's process is started with: the command's options, changed as its name says.

    Raises:
        SettingsError: there is no such engine or variant.
    """
    engine, *words = name.split("+")
    if engine not in PEERS:
        raise SettingsError(
            f"There is no engine {engine!r}.", place="--engines", mend=f"use {', '.join(PEERS)}"
        )
    settings = {field: getattr(options, field) for field in SETTINGS}
    for word in words:
        settings |= _changes(word)
    return {**settings, "engine": engine}


def _changes(word: str) -> dict[str, Any]:
    if word in VARIANTS:
        return VARIANTS[word]
    match = re.fullmatch(rf"({'|'.join(NUMBERS)})(\d+)", word)
    if match is None:
        known = ", ".join([*VARIANTS, *(f"{name}N" for name in NUMBERS)])
        raise SettingsError(f"There is no variant {word!r}.", place="--engines", mend=f"use some of {known}")
    return {match[1]: int(match[2])}
