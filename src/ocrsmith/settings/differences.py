"""Where two nested settings differ, for those who are refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Names where two nested settings differ, with both values: `decoding.ngram_size: 30, now 20`."""
    found: list[str] = []
    for key in dict.fromkeys([*old, *new]):
        name = f"{prefix}{key}"
        before, after = old.get(key), new.get(key)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            found += differences(before, after, f"{name}.")
        elif before != after:
            found.append(f"{name}: {before!r}, now {after!r}")
    return found
