"""Most GPU memory of a training step, setting by setting, beside what ocrsmith's memory model says.

    python -m benchmarks.memory --size 3b --name memory-3b

A step of 2 × 4 samples goes through the model 2 at a time. One process makes the weights once, measures all
settings on them, then puts the same weights into NF4 and measures again. The peak is that of the second step,
when the optimiser's moments are there.
"""

from __future__ import annotations

import argparse
import sys
from itertools import product
from pathlib import Path
from typing import Any

if __package__ in (None, ""):  # run as a file
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    sys.path.insert(1, str(Path(__file__).resolve().parents[1] / "src"))

import torch

from benchmarks.report import RESULTS, circumstances, settings_of, table, write_result
from benchmarks.worker import Worker
from benchmarks.workloads import SIZES, WORKLOADS
from ocrsmith.errors import OcrsmithError, SettingsError

CHOICES = {
    "workloads": tuple(sorted(WORKLOADS)),
    "bases": ("bf16", "nf4"),
    "optimizers": ("adamw", "adamw_8bit"),
    "checkpointing": ("none", "selective", "full"),
}
COLUMNS = (
    *("workload", "base", "optimizer", "checkpointing", "measured GiB", "predicted GiB", "difference %"),
    *("reserved GiB", "before GiB", "failure"),
)

HOW = (
    "Most memory that tensors took on the GPU in an optimiser step (torch.cuda.max_memory_allocated; on a CPU "
    "most resident memory of the process), and most that torch's allocator held. The CUDA context is in "
    "neither. difference: predicted to measured."
)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="benchmarks.memory", description=__doc__.splitlines()[0])
    add, switch = parser.add_argument, argparse.BooleanOptionalAction
    add("--size", choices=SIZES, default="3b", help="of the model, with random weights")
    for name, known in CHOICES.items():
        add(f"--{name}", help=f"some of {', '.join(known)}; default: all that there are")
    add("--batch", type=int, default=2, help="samples that go through the model at once")
    add("--accumulation", type=int, default=4, help="batches of a step")
    add("--steps", type=int, default=2, help="of each setting; the last one's peak counts")
    add("--compiled", action=switch, default=None, help="small kernels; default: on a GPU")
    add("--graphs", action=switch, default=False, help="CUDA graphs, which keep their memory reserved")
    add("--device", choices=("cuda", "cpu"), default="cuda" if torch.cuda.is_available() else "cpu")
    add("--name", help="of the result; default: memory-SIZE")
    add("--note", default="", help="what else one must know, such as that the machine was shared")
    add("--commit", help="of the code, where git cannot tell")
    add("--results", type=Path, default=RESULTS, help="folder of results")
    options = parser.parse_args(arguments)
    options.compiled = options.device == "cuda" if options.compiled is None else options.compiled
    for name, known in CHOICES.items():
        if getattr(options, name) is None:
            continue
        given = getattr(options, name).split(",")
        if unknown := set(given) - set(known):
            raise SettingsError(
                f"There is no {sorted(unknown)}.", place=f"--{name}", mend=f"use {', '.join(known)}"
            )
        setattr(options, name, [one for one in known if one in given])
    return options


def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    """A row for each setting."""
    settings = {
        name: getattr(options, name)
        for name in ("size", "batch", "accumulation", "compiled", "graphs", "device")
    }
    worker = Worker("benchmarks.memory_worker", settings)
    rows = []
    try:
        there = {**CHOICES, **worker.ask()}
        names = ("bases", "workloads", "optimizers", "checkpointing")
        kinds = product(*(getattr(options, name) or there[name] for name in names))
        for base, workload, optimizer, checkpointing in kinds:
            asked = {"base": base, "workload": workload, "optimizer": optimizer, "checkpointing": checkpointing}
            told = worker.ask({**asked, "steps": options.steps})
            rows.append(row_of(asked, told, worker.failure))
    finally:
        worker.close()
    return rows


def row_of(asked: dict[str, Any], told: dict[str, Any], failure: str | None) -> dict[str, Any]:
    """A line of the table."""
    row: dict[str, Any] = {**asked, "failure": failure or told.get("failed")}
    if "peak_gib" in told:
        row |= {
            "measured GiB": told["peak_gib"],
            "reserved GiB": told["reserved_gib"],
            "before GiB": told["before_gib"],
            "loss": told["loss"],
            "seconds": told["seconds"],
        }
        if told["predicted"]:
            predicted = sum(told["predicted"].values())
            row |= {
                "predicted GiB": predicted,
                "difference %": 100 * (predicted / told["peak_gib"] - 1),
                "predicted parts": told["predicted"],
            }
    return row


def main(arguments: list[str] | None = None) -> int:
    """Measures, prints the table, writes the result. 1 when a setting failed."""
    try:
        options = parse(arguments)
    except OcrsmithError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    rows = measure(options)
    command = ["python", "-m", "benchmarks.memory", *(sys.argv[1:] if arguments is None else arguments)]
    result = {
        "benchmark": "memory",
        "how": HOW,
        "settings": settings_of(options),
        "rows": rows,
        "circumstances": circumstances(command, note=options.note, commit=options.commit),
    }
    path = write_result(options.name or f"memory-{options.size}", result, options.results)
    print(f"{options.size}, {options.accumulation} times {options.batch} samples a step\n")
    print(table(rows, COLUMNS))
    print(f"\n{path}")
    return 1 if any(row["failure"] for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
