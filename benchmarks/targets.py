"""What must be reached, beside what was measured."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.results_store import Results, label_of

Find = Callable[[Results], list[str]]
PAGE_TOKENS = 512
"""Written for every page when pages a second are counted."""


@dataclass(frozen=True, slots=True)
class Target:
    """A figure, what it must be, and how it is found in the results."""

    figure: str
    must: str
    aim: str
    find: Find


def number(value: float) -> str:
    """To three figures."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def training_speed(workload: str, *, cached: bool) -> Find:
    """Samples a second from files and with tensors ready, and the ratios to the references of the same run."""

    def find(results: Results) -> list[str]:
        rows = results.training()
        more = ", cached features" if cached else ""
        told = []
        if row := rows.get((workload, f"ours, from files{more}")):
            told.append(f"{number(row['samples/s'])}/s from files")
        if row := rows.get((workload, f"ours{more}")):
            told.append(f"{number(row['samples/s'])}/s with tensors ready")
            told += [
                f"{number(row[f'× {peer}'])}× {peer.upper()}" for peer in ("r2", "r1") if f"× {peer}" in row
            ]
        return told

    return find


def peak_memory(base: str) -> Find:
    """Least peak at batch 2 among the kinds of checkpointing that compute something twice, L / P."""

    def find(results: Results) -> list[str]:
        told = []
        for workload in "LP":
            rows = [
                row
                for row in results.memory()
                if (row["workload"], row["base"]) == (workload, base) and row["checkpointing"] != "none"
            ]
            if rows:
                least = min(rows, key=lambda row: row["measured GiB"])
                kind = f"{least['checkpointing']}, {least['optimizer']}"
                told.append(f"{workload} {number(least['measured GiB'])} GiB ({kind})")
        return told

    return find


def idle(results: Results) -> list[str]:
    """Of training from files."""
    rows = results.training()
    found = []
    for workload, kind in itertools.product("LP", ("", "PNG ")):
        share = rows.get((workload, f"ours, from {kind}files"), {}).get("idle %")
        if share is not None:
            found.append(f"{workload} {number(share)} %" + (" with PNG" if kind else ""))
    return found


def preprocessing(results: Results) -> list[str]:
    """Milliseconds of one core, JPEG on grey paper."""
    made = [result.content["rows"] for result in results.of("preprocess")]
    names = {"L": "line", "P": "page"}
    told = []
    for row in made[-1] if made else []:
        if (row["file"], row["paper"]) == ("JPEG", "grey"):
            told.append(f"{number(row['ours ms'])} ms a {names[row['workload']]}")
            if "device resize ms" in row:
                told[-1] += f" ({number(row['device resize ms'])} where the GPU resizes)"
    return told


def decode_step(batch: int) -> Find:
    """Milliseconds of a step with the adapter merged."""

    def find(results: Results) -> list[str]:
        rows = [row for key, row in results.decoding().items() if key[2:] == ("ours", "merged", batch)]
        return [f"{number(rows[-1]['ms/token'])} ms"] if rows else []

    return find


def pages_a_second(results: Results) -> list[str]:
    """Of pages of `PAGE_TOKENS` tokens, prefill included, adapter merged."""
    rows = results.decoding()
    found = [(batch, rows.get(("P", PAGE_TOKENS, "ours", "merged", batch))) for batch in (32, 128)]
    return [f"{number(row['pages/s'])} at {batch}" for batch, row in found if row]


def unmerged(results: Results) -> list[str]:
    """Time of a step with an unmerged adapter in times of a merged one's, by batch."""
    rows = results.decoding()
    told = []
    for (workload, tokens, engine, adapter, batch), row in rows.items():
        merged = rows.get((workload, tokens, engine, "merged", batch))
        if engine == "ours" and adapter == "unmerged" and merged:
            told.append(f"{workload} {number(row['ms/token'] / merged['ms/token'])}× at {batch}")
    return told


def first_step(results: Results) -> list[str]:
    """Seconds, compiled and not, where nothing was compiled before."""
    names = {"ours": "", "ours, not compiled": " without compile"}
    told: dict[tuple[str, str], str] = {}
    for result in results.of("train", size="3b", device="cuda", cold=True):
        for row in result.content["rows"]:
            if (label := label_of(row)) in names and row.get("first step s") is not None:
                workload = result.settings["workload"]
                told[workload, label] = f"{workload} {number(row['first step s'])} s{names[label]}"
    return list(told.values())


TARGETS = (
    Target(
        "training L, no feature cache",
        "≥ 5× R2, ≥ 50× R1, ≥ 80 samples/s",
        "≥ 130/s",
        training_speed("L", cached=False),
    ),
    Target("training L, feature cache warm", "≥ 150 samples/s", "≥ 300", training_speed("L", cached=True)),
    Target(
        "training P, no feature cache",
        "≥ 3× R2, ≥ 33 samples/s",
        "≥ 38/s",
        training_speed("P", cached=False),
    ),
    Target("training P, feature cache warm", "≥ 60 samples/s", "≥ 80", training_speed("P", cached=True)),
    Target("peak memory, batch 2, bf16, L / P", "≤ 8.0 / ≤ 10 GiB", "≤ 7.5 / ≤ 8.5", peak_memory("bf16")),
    Target("peak memory, NF4 base, L / P", "≤ 4.5 / ≤ 6.5 GiB", "≤ 3.8 / ≤ 5.5", peak_memory("nf4")),
    Target("GPU idle, training from image files", "≤ 10 %", "≤ 3 %", idle),
    Target("preprocessing, one core", "≤ 3 ms a line, ≤ 20 ms a page", "", preprocessing),
    Target("decoding, batch 1", "≤ 2.5 ms a token", "≤ 1.0", decode_step(1)),
    Target("pages a second, batch 32 / 128", "≥ 8 / ≥ 15", "≥ 12 / ≥ 25", pages_a_second),
    Target("decoding with an unmerged adapter", "≤ 1.3× merged", "≤ 1.1×", unmerged),
    Target("first step", "≤ 60 s; ≤ 10 s without compile", "", first_step),
)
