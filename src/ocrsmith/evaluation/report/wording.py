"""How figures and names are written for people: in reports, tables and on the terminal."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ocrsmith.evaluation.statistics import Metrics
from ocrsmith.records import FinishReason

FIGURES = (
    ("cer.mean", "Mean CER", "Average over pages (macro): every page counts the same."),
    ("cer.micro", "Micro CER", "All errors over all characters: long pages count more."),
    ("cer.median", "Median CER", "Half of the pages are read better than this."),
    ("cer.p90", "90th percentile", "Nine pages in ten are read better than this."),
    ("cer.p95", "95th percentile", "Nineteen pages in twenty are read better than this."),
    ("cer.max", "Largest CER", "The worst page; above 100 % where a loop wrote more than the page has."),
    ("cer.std", "Standard deviation", "Spread of CER over pages."),
    ("exact_match", "Exact pages", "Pages read without a single error."),
    ("loops", "Loops", "Pages on which the reading fell into endless repetition."),
    ("truncated", "Cut off", "Pages that reached the token limit."),
    ("failed", "Failed", "Pages without a result; each counts as a CER of 100 %."),
    ("seconds", "Reading time", "Engine time over all pages."),
)
"""Key, name and explanation of each figure, in the order of the tables."""

FINISH: Mapping[FinishReason, str] = MappingProxyType(
    {"stop": "finished", "length": "cut off", "loop": "loop", "error": "failed"}
)
KIND_WORDS: Mapping[str, str] = MappingProxyType(
    {
        "loop": "endless repetition, and what was not read because of it",
        "truncation": "cut off by the token limit",
        "structure": "order of lines, tags, marks or line breaks",
        "hallucination": "text that stands nowhere on the page",
        "normalisation": "nothing but width, punctuation, scripts of digits, joiners or white space",
        "substitution": "a known word that does not look like the true one: guessed",
        "confusion": "characters read as others",
        "insertion": "a few characters too many, or a line read twice",
        "omission": "characters or lines missing",
    }
)
"""What each kind of error is; a test holds it to `error_kinds.KINDS`."""
_CONTROLS = MappingProxyType({"\n": "line break", "\t": "tab"})
_COUNTS = ("loops", "truncated", "failed")


def percent(rate: float | None, digits: int = 2) -> str:
    """0.0512 → `5.12 %`; a fraction too small to show is not shown as zero."""
    if rate is None or not math.isfinite(rate):
        return "–"
    if rate and abs(rate) < 0.5 * 10 ** -(digits + 2):
        return f"{'<' if rate > 0 else '>'} {'−' if rate < 0 else ''}{10**-digits:.{digits}f} %"
    return f"{rate * 100:,.{digits}f} %".replace("-", "−")


def signed(rate: float | None, digits: int = 1) -> str:
    """A relative change with its sign: 0.667 → `+66.7 %`."""
    return f"+{percent(rate, digits)}" if rate is not None and rate > 0 else percent(rate, digits)


def points(change: float, digits: int = 2) -> str:
    """A change of a rate in percentage points, with its sign: −0.0512 → `−5.12`."""
    return f"{change * 100:+,.{digits}f}".replace("-", "−")


def duration(seconds: float) -> str:
    """93.4 → `1 min 33 s`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def count(number: int, one: str, many: str | None = None) -> str:
    """1 → `1 page`, 1200 → `1,200 pages`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def figure_value(metrics: Metrics, key: str) -> float:
    """A figure by its key in `FIGURES`."""
    holder = metrics.cer if key.startswith("cer.") else metrics
    return float(getattr(holder, key.removeprefix("cer.")))


def figure(key: str, value: float) -> str:
    """A figure as it is written in a table."""
    if key in _COUNTS:
        return f"{value:,.0f}"
    return duration(value) if key == "seconds" else percent(value)


def figure_change(key: str, change: float) -> str:
    """A figure's change, with its sign and unit."""
    if key in _COUNTS:
        return f"{change:+,.0f}".replace("-", "−") if change else "0"
    if key == "seconds":
        return ("+" if change >= 0 else "−") + duration(abs(change))
    return f"{points(change)} pp"


def seen(text: str) -> str:
    """A character or group as a table shows it; an empty side and invisible ones by name."""
    if not text:
        return "nothing"
    return " ".join(
        char if char.isprintable() and char != " " else _CONTROLS.get(char) or _unicode_name(char)
        for char in text
    )


def _unicode_name(character: str) -> str:
    return unicodedata.name(character, "").lower() or f"U+{ord(character):04X}"


def model_name(provenance: Mapping[str, Any]) -> str:
    """What an evaluation read with: model and adapter, or the engine."""
    engine = provenance.get("engine") or {}
    model, adapter = engine.get("model"), engine.get("adapter")
    name = _name(model) or str(engine.get("name", "engine"))
    return f"{name} + {_name(adapter)}" if adapter else name


def data_name(provenance: Mapping[str, Any]) -> str:
    """What an evaluation read: dataset and split."""
    data = provenance.get("dataset") or {}
    name = Path(str(data["path"])).name if data.get("path") else "a dataset"
    return f"{name}, {data['split']}" if data.get("split") else name


def flat(value: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested settings as rows: `engine.decoding.ngram_size`, `30`."""
    rows: list[tuple[str, str]] = []
    for key, item in value.items():
        if isinstance(item, Mapping):
            rows += flat(item, f"{prefix}{key}.")
        elif item is not None:
            rows.append((f"{prefix}{key}", str(item)))
    return rows


def _name(thing: object) -> str:
    name = thing.get("name") if isinstance(thing, Mapping) else thing
    return Path(str(name)).name if name else ""
