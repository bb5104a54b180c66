"""Training speed and memory of ocrsmith beside two reference peers, in one run.

    python -m benchmarks.train --size 3b --workload L --engines ours,r1,r2 --steps 10 --name train-L

Every engine has its own process; rounds of all engines take turns, so that a machine that slows down slows all
of them. The first step of each is told apart, and warm-up steps are left out.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

if __package__ in (None, ""):  # run as a file
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    sys.path.insert(1, str(Path(__file__).resolve().parents[1] / "src"))

import torch

from benchmarks.floor import H200_FLOPS, count_operations, floor_seconds, sequence_length
from benchmarks.peers import PEERS
from benchmarks.report import RESULTS, circumstances, settings_of, table, write_result
from benchmarks.worker import Worker
from benchmarks.workloads import SIZES, WORKLOADS, make_config, write_dataset
from ocrsmith.errors import OcrsmithError, SettingsError

COLUMNS = (
    *("engine", "steps", "s/step", "samples/s", "× r1", "× r2", "peak GiB", "first step s", "setup s"),
    *("load %", "encode %", "forward %", "backward %", "optimizer %", "loss"),
)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="benchmarks.train", description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--size", choices=SIZES, default="3b", help="of the model, with random weights")
    add("--workload", choices=sorted(WORKLOADS), default="L", help="L: a text line; P: a page")
    add("--engines", "--peer", default="ours,r1,r2", help=f"some of {', '.join(PEERS)}")
    add("--steps", type=int, default=10, help="measured optimiser steps of each engine")
    add("--rounds", type=int, default=2, help="turns in which they are taken")
    add("--warmup", type=int, default=2, help="steps after the first that are not measured")
    add("--seconds", type=float, default=60, help="no new step of an engine after so many in a round")
    add("--batch", type=int, default=2, help="samples that go through the model at once")
    add("--accumulation", type=int, default=4, help="batches of a step")
    add("--checkpointing", action="store_true", help="decoder layers are computed twice")
    add("--data", choices=("prepared", "folder"), default="prepared", help="folder: decode JPEG files")
    add("--cache", action="store_true", help="image features are computed ahead, once (ours only)")
    add("--workers", type=int, default=max(1, min(8, (os.cpu_count() or 1) - 1)), help="processes that decode")
    add("--samples", type=int, default=16, help="different samples")
    add("--dtype", choices=("bf16", "fp16", "fp32"), help="default: bf16 on a GPU, else fp32")
    add(
        "--optimizer",
        choices=("auto", "adamw", "adamw_8bit"),
        default="auto",
        help="auto: 8-bit if it can be had",
    )
    add("--device", choices=("cuda", "cpu"), default="cuda" if torch.cuda.is_available() else "cpu")
    add("--flops", type=float, default=H200_FLOPS, help="operations a second, for the floor")
    add("--profile", action="store_true", help="one more step of each engine under torch's profiler")
    add("--name", help="of the result; default: train-SIZE-WORKLOAD")
    add("--note", default="", help="what else one must know, such as that the machine was shared")
    add("--commit", help="of the code, where git cannot tell")
    add("--results", type=Path, default=RESULTS, help="folder of results")
    options = parser.parse_args(arguments)
    options.dtype = options.dtype or ("bf16" if options.device == "cuda" else "fp32")
    options.engines = options.engines.split(",")
    if unknown := set(options.engines) - set(PEERS):
        raise SettingsError(
            f"There is no engine {sorted(unknown)}.", place="--engines", mend=f"use {list(PEERS)}"
        )
    return options


def measure(options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """What each engine's process told: its start, the steps of all rounds, its peak, or its failure."""
    names = "size workload batch accumulation checkpointing data cache workers samples dtype optimizer device"
    settings = {name: getattr(options, name) for name in names.split()}
    found: dict[str, dict[str, Any]] = {}
    with ExitStack() as stack:
        if options.data == "folder":
            scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="benchmark-")))
            settings["folder"] = str(scratch / "data")
            write_dataset(scratch / "data", WORKLOADS[options.workload], options.samples)
        workers: dict[str, Worker] = {}
        for engine in options.engines:  # one after the other, so that first steps are not slowed down
            workers[engine] = Worker("benchmarks.train_worker", {**settings, "engine": engine})
            stack.callback(workers[engine].close)
            found[engine] = {**workers[engine].ask(), "seconds": [], "loss": [], "parts": []}
            if options.warmup:
                workers[engine].ask({"steps": options.warmup, "seconds": options.seconds})
        share = -(-options.steps // options.rounds)
        for _ in range(options.rounds):
            for engine, worker in workers.items():
                left = options.steps - len(found[engine]["seconds"])
                if left > 0:
                    told = worker.ask({"steps": min(share, left), "seconds": options.seconds})
                    for name in ("seconds", "loss", "parts"):
                        found[engine][name] += told.get(name, [])
                    found[engine]["peak_gib"] = told.get("peak_gib")
        for engine, worker in workers.items():
            if options.profile:
                found[engine]["profile"] = worker.ask({"profile": True})
            found[engine]["failure"] = worker.failure
    return found


def rows_of(found: dict[str, dict[str, Any]], options: argparse.Namespace) -> list[dict[str, Any]]:
    """A line of the table for each engine, and one for the floor."""
    samples = options.batch * options.accumulation
    medians = {name: statistics.median(told["seconds"]) for name, told in found.items() if told["seconds"]}
    rows = []
    for name, told in found.items():
        row: dict[str, Any] = {"engine": name, "failure": told["failure"]}
        if name in medians:
            middle = medians[name]
            sums = {part: sum(step.get(part, 0.0) for step in told["parts"]) for part in told["parts"][0]}
            row |= {
                "steps": len(told["seconds"]),
                "s/step": middle,
                "samples/s": samples / middle,
                **{f"× {peer}": medians[peer] / middle for peer in ("r1", "r2") if peer in medians},
                "peak GiB": told["peak_gib"],
                "first step s": told["first_step_seconds"],
                "setup s": told["setup_seconds"],
                "loss": told["first_loss"],
                **{f"{part} %": 100 * seconds / sum(told["seconds"]) for part, seconds in sums.items()},
            }
        rows.append(row)
    floor = floor_seconds(
        make_config(options.size),
        WORKLOADS[options.workload],
        options.size,
        samples=samples,
        flops=options.flops,
        checkpointing=options.checkpointing,
        cached=options.cache,
    )
    if options.device == "cuda":
        rows.append({"engine": "floor", "s/step": floor, "samples/s": samples / floor})
    return rows


def main(arguments: list[str] | None = None) -> int:
    """Measures, prints the table, writes the result. 1 when an engine failed."""
    try:
        options = parse(arguments)
        found = measure(options)
    except OcrsmithError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    rows = rows_of(found, options)
    config, workload = make_config(options.size), WORKLOADS[options.workload]
    operations = count_operations(
        config, workload, options.size, checkpointing=options.checkpointing, cached=options.cache
    )
    name = options.name or f"train-{options.size}-{options.workload}"
    command = ["python", "-m", "benchmarks.train", *(sys.argv[1:] if arguments is None else arguments)]
    result = {
        "benchmark": "train",
        "how": "Optimiser steps of LoRA training timed between device synchronisations; a process an engine, "
        "rounds in turn; first and warm-up steps left out; s/step is the median.",
        "settings": settings_of(options),
        "tokens": sequence_length(workload, options.size),
        "labels": workload.labels,
        "operations_per_sample": {part: getattr(operations, part) for part in operations.__slots__},
        "rows": rows,
        "engines": found,
        "circumstances": circumstances(command, note=options.note, commit=options.commit),
    }
    path = write_result(name, result, options.results)
    print(f"{options.size}, workload {workload.name}, {options.batch} × {options.accumulation} samples a step,")
    print(
        f"{options.dtype}, checkpointing {options.checkpointing}, data {options.data}, cache {options.cache}\n"
    )
    print(table(rows, COLUMNS))
    for engine, told in found.items():
        if told.get("profile"):
            print(f"\n{engine}: {told['profile']['calls']} launches in a step\n{told['profile']['table']}")
        if told["failure"]:
            print(f"\n{engine} failed: {told['failure']}")
    print(f"\n{path}")
    return 1 if any(told["failure"] for told in found.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
