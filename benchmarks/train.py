"""Training speed and memory of ocrsmith beside two reference peers, in one run.

    python -m benchmarks.train --size 3b --workload L --engines ours,r1,r2 --steps 20 --name train-3b-L
    python -m benchmarks.train --workload L --engines ours,ours+loop,ours+nf4 --curve 50 --name curves-3b-L

Every engine has its own process; they are set up at the same time, take their first step one after another, and
then rounds in turn, so that a machine that slows down slows all of them. First and warm-up steps are left out.
`ours+WORD+WORD` is ours with switches changed for it alone: see `variants.py`.
"""

from __future__ import annotations

import argparse
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
from benchmarks.variants import engine_settings
from benchmarks.worker import Worker
from benchmarks.workloads import SIZES, WORKLOADS, make_config, write_dataset
from ocrsmith.errors import OcrsmithError

PARTS = ("load", "encode", "forward", "backward", "forward+backward", "optimizer")
COLUMNS = (
    *("engine", "steps", "s/step", "samples/s", "× r1", "× r2", "peak GiB", "reserved GiB", "first step s"),
    *("setup s", *(f"{part} ms" for part in PARTS), "host waits ms", "idle %", "loss", "last loss"),
)
WARMUP_SECONDS = 5.0
"""No new warm-up step of an engine after so many."""
HOW = (
    "Optimiser steps of LoRA training on the device's clock, one after another without waiting for it; a "
    "process an engine, rounds in turn; first and warm-up steps left out; s/step is the median (where files "
    "are decoded the mean, after the steps that lay ready)."
)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="benchmarks.train", description=__doc__.splitlines()[0])
    add, switch = parser.add_argument, argparse.BooleanOptionalAction
    add("--size", choices=SIZES, default="3b", help="of the model, with random weights")
    add("--workload", choices=sorted(WORKLOADS), default="L", help="L: a text line; P: a page")
    add("--engines", "--peer", default="ours,r1,r2", help=f"some of {', '.join(PEERS)}, with variants")
    add("--steps", type=int, default=10, help="measured optimiser steps of each engine")
    add("--rounds", type=int, default=2, help="turns in which they are taken")
    add("--warmup", type=int, default=3, help="steps after the first that are not measured")
    add("--seconds", type=float, default=60, help="no new step of an engine after so many in a round")
    add("--curve", type=int, default=0, help="keep the losses of so many steps from the first on")
    add("--activity", type=int, default=0, help="steps in which to watch how busy the GPU is (ours only)")
    add("--batch", type=int, default=2, help="samples of a batch; the references take it at once")
    add("--accumulation", type=int, default=4, help="batches of a step")
    add("--micro", type=int, help="samples that ours takes at once; default: all of a step")
    add("--checkpointing", choices=("none", "selective", "full"), default="none", help="what is computed twice")
    add("--quantization", choices=("none", "nf4"), default="none", help="of the base (ours only)")
    add("--experts", choices=("auto", "grouped", "triton", "loop"), default="auto", help="kernels (ours only)")
    add("--compiled", action=switch, default=None, help="small kernels (ours only); default: on a GPU")
    add("--graphs", action=switch, default=True, help="CUDA graphs (ours only)")
    add("--data", choices=("prepared", "folder"), default="prepared", help="folder: decode image files")
    add("--files", choices=("JPEG", "PNG"), default="JPEG", help="kind of those files")
    add("--resize", choices=("auto", "host", "device"), default="auto", help="of images from files (ours only)")
    add("--cache", action="store_true", help="image features are computed ahead, once (ours only)")
    add("--workers", type=int, help="processes that decode; default: as `ocrsmith train` chooses")
    add("--samples", type=int, default=16, help="different samples")
    add("--seed", type=int, default=3407, help="of the adapter's start")
    add("--dtype", choices=("bf16", "fp16", "fp32"), help="default: bf16 on a GPU, else fp32")
    add("--optimizer", choices=("auto", "adamw", "adamw_8bit"), default="auto", help="auto: 8-bit if there")
    add("--device", choices=("cuda", "cpu"), default="cuda" if torch.cuda.is_available() else "cpu")
    add("--flops", type=float, default=H200_FLOPS, help="operations a second, for the floor")
    add("--cold", action="store_true", help="each engine compiles all its kernels anew, for the first step")
    add("--profile", action="store_true", help="one more step of each engine under torch's profiler")
    add("--name", help="of the result; default: train-SIZE-WORKLOAD")
    add("--note", default="", help="what else one must know, such as that the machine was shared")
    add("--commit", help="of the code, where git cannot tell")
    add("--results", type=Path, default=RESULTS, help="folder of results")
    options = parser.parse_args(arguments)
    options.dtype = options.dtype or ("bf16" if options.device == "cuda" else "fp32")
    options.compiled = options.device == "cuda" if options.compiled is None else options.compiled
    options.engines = options.engines.split(",")
    for name in options.engines:
        engine_settings(name, options)
    return options


# --- measuring ------------------------------------------------------------------------------------------------


def measure(options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """What each engine's process told: its start, the steps of all rounds, its peak, or its failure."""
    found: dict[str, dict[str, Any]] = {}
    with ExitStack() as stack:
        workers = _start(options, stack)
        for engine, worker in workers.items():  # they set up at the same time
            found[engine] = {**worker.ask(), "seconds": [], "loss": [], "parts": [], "waited": [], "curve": []}
        for engine, worker in workers.items():
            _begin(worker, found[engine], options)
        share = -(-options.steps // options.rounds)
        for _ in range(options.rounds):
            for engine, worker in workers.items():
                left = options.steps - len(found[engine]["seconds"])
                if left > 0:
                    asked = {"steps": min(share, left), "seconds": options.seconds, "measured": True}
                    _note(found[engine], worker.ask(asked))
        for engine, worker in workers.items():
            _finish(worker, found[engine], options, watched=engine.startswith("ours"))
            found[engine]["failure"] = worker.failure
    return found


def _start(options: argparse.Namespace, stack: ExitStack) -> dict[str, Worker]:
    """Starts all processes; they set up side by side."""
    settings = {engine: engine_settings(engine, options) for engine in options.engines}
    scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="benchmark-")))
    if any(one["data"] == "folder" for one in settings.values()):
        write_dataset(scratch / "data", WORKLOADS[options.workload], options.samples, options.files)
    workers = {}
    for engine, one in settings.items():
        environment = {}
        if options.cold:
            for variable in ("TRITON_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR"):
                environment[variable] = str(scratch / engine / variable.lower())
        one["folder"] = str(scratch / "data")
        workers[engine] = Worker("benchmarks.train_worker", one, environment)
        stack.callback(workers[engine].close)
    return workers


def _begin(worker: Worker, told: dict[str, Any], options: argparse.Namespace) -> None:
    """First step and warm-up."""
    first = worker.ask({"steps": 1, "seconds": options.seconds})
    if first:
        told["first_step_seconds"], told["first_loss"] = first["seconds"][0], first["loss"][0]
        told["curve"] += first["loss"]
    if options.warmup:
        seconds = min(options.seconds, WARMUP_SECONDS)
        told["curve"] += worker.ask({"steps": options.warmup, "seconds": seconds}).get("loss", [])


def _note(told: dict[str, Any], answer: dict[str, Any]) -> None:
    """Adds a round's figures."""
    for name in ("seconds", "loss", "parts", "waited"):
        told[name] += answer.get(name, [])
    told["curve"] += answer.get("before", []) + answer.get("loss", [])
    for name in ("peak_gib", "reserved_gib", "micro_batch", "out_of_memory"):
        told[name] = answer.get(name)


def _finish(worker: Worker, told: dict[str, Any], options: argparse.Namespace, *, watched: bool) -> None:
    """What comes after the measured steps: the rest of the curve, the GPU's activity, a profile."""
    missing = options.curve - len(told["curve"])
    if missing > 0:
        told["curve"] += worker.ask({"steps": missing, "seconds": 10 * options.seconds}).get("loss", [])
    told["curve"] = told["curve"][: options.curve] if options.curve else []
    if options.activity and options.device == "cuda" and watched:
        told["activity"] = worker.ask({"activity": options.activity})
    if options.profile:
        told["profile"] = worker.ask({"profile": True})


# --- telling --------------------------------------------------------------------------------------------------


def rows_of(found: dict[str, dict[str, Any]], options: argparse.Namespace) -> list[dict[str, Any]]:
    """A line of the table for each engine, and one for the floor."""
    samples = options.batch * options.accumulation
    rows, times = [], {}
    for name, told in found.items():
        settings = engine_settings(name, options)
        row: dict[str, Any] = {"engine": name, "failure": told["failure"], "settings": settings}
        if told["seconds"]:
            row |= _figures(told, settings["data"] == "folder")
            row["samples/s"] = samples / row["s/step"]
            times[name] = row["s/step"]
        rows.append(row)
    for row in rows:
        if "s/step" in row:
            row |= {f"× {peer}": times[peer] / row["s/step"] for peer in ("r1", "r2") if peer in times}
    if options.device == "cuda":
        rows += [floor_row(options, cached) for cached in sorted({row["settings"]["cache"] for row in rows})]
    return rows


def _figures(told: dict[str, Any], from_files: bool) -> dict[str, Any]:
    """Of one engine. Where files are decoded a late batch counts: there the mean is taken, else the median."""
    steps = told["parts"]
    parts = {part: sum(step.get(part, 0.0) for step in steps) / len(steps) for part in PARTS}
    activity = told.get("activity") or {}
    return {
        "steps": len(told["seconds"]),
        "s/step": (statistics.fmean if from_files else statistics.median)(told["seconds"]),
        "peak GiB": told["peak_gib"],
        "reserved GiB": told.get("reserved_gib"),
        "first step s": told.get("first_step_seconds"),
        "setup s": told["setup_seconds"],
        **{f"{part} ms": 1000 * parts[part] for part in PARTS if any(part in step for step in steps)},
        "host waits ms": 1000 * statistics.fmean(told["waited"]),
        "idle %": 100 * activity["idle"] if activity else None,
        "loss": told.get("first_loss"),
        "last loss": told["curve"][-1] if told["curve"] else None,
    }


def floor_row(options: argparse.Namespace, cached: bool) -> dict[str, Any]:
    """The least time by arithmetic, nothing computed twice."""
    samples = options.batch * options.accumulation
    config, workload = make_config(options.size), WORKLOADS[options.workload]
    floor = floor_seconds(config, workload, options.size, samples=samples, flops=options.flops, cached=cached)
    name = "floor, features cached" if cached else "floor"
    return {"engine": name, "s/step": floor, "samples/s": samples / floor, "settings": {"cache": cached}}


def main(arguments: list[str] | None = None) -> int:
    """Measures, prints the table, writes the result. 1 when an engine failed."""
    try:
        options = parse(arguments)
        found = measure(options)
    except OcrsmithError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    rows = rows_of(found, options)
    workload = WORKLOADS[options.workload]
    operations = count_operations(make_config(options.size), workload, options.size)
    command = ["python", "-m", "benchmarks.train", *(sys.argv[1:] if arguments is None else arguments)]
    result = {
        "benchmark": "train",
        "how": HOW,
        "settings": settings_of(options),
        "tokens": sequence_length(workload, options.size),
        "labels": workload.labels,
        "operations_per_sample": {part: getattr(operations, part) for part in operations.__slots__},
        "rows": rows,
        "engines": found,
        "circumstances": circumstances(command, note=options.note, commit=options.commit),
    }
    path = write_result(options.name or f"train-{options.size}-{options.workload}", result, options.results)
    show(rows, found, options)
    print(f"\n{path}")
    return 1 if any(told["failure"] for told in found.values()) else 0


def show(rows: list[dict[str, Any]], found: dict[str, dict[str, Any]], options: argparse.Namespace) -> None:
    """Prints the table, profiles and failures."""
    samples = f"{options.batch} × {options.accumulation} samples a step"
    print(f"{options.size}, workload {options.workload}, {samples}\n")
    print(table(rows, COLUMNS))
    for engine, told in found.items():
        if told.get("profile"):
            print(f"\n{engine}: {told['profile']['calls']} launches in a step\n{told['profile']['table']}")
        if told["failure"]:
            print(f"\n{engine} failed: {told['failure']}")


if __name__ == "__main__":
    sys.exit(main())
