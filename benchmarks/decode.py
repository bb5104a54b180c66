"""Decoding speed of ocrsmith beside transformers' own classes, in one run.

    python -m benchmarks.decode --size 3b --workload P --batches 1,32,128 --tokens 512 --name decode-P
    python -m benchmarks.decode --size 3b --workload P --batches 32,128 --rounds 3 --engines ours

Greedy, exactly as many tokens as asked for. Ours is the native engine with all that belongs to it, from JPEG
files to texts; the reference gets tensors on the device. Time for a token is (all tokens − one token) /
(tokens − 1), so that encoding and prefill are out; pages a second have them in. With several rounds the pages
are that many times the batch: rows that get free are taken by the next page; the reference reads batch after
batch.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path
from typing import Any

if __package__ in (None, ""):  # run as a file
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    sys.path.insert(1, str(Path(__file__).resolve().parents[1] / "src"))

import torch

from benchmarks.floor import H200_BYTES, decode_floor_seconds
from benchmarks.report import RESULTS, circumstances, settings_of, table, write_result
from benchmarks.worker import Worker
from benchmarks.workloads import SIZES, WORKLOADS, make_config
from ocrsmith.errors import OcrsmithError, SettingsError

ENGINES = ("ours", "r2")
ADAPTERS = ("none", "merged", "unmerged", "apart")
COLUMNS = (
    *("engine", "adapter", "batch", "ms/token", "tokens/s", "prefill s", "whole s", "pages/s"),
    *("tokens/s whole", "× r2", "floor ms", "peak GiB"),
)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="benchmarks.decode", description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--size", choices=SIZES, default="3b", help="of the model, with random weights")
    add("--workload", choices=sorted(WORKLOADS), default="P", help="L: text lines; P: pages")
    add("--engines", "--peer", default="ours,r2", help="some of ours, r2")
    add("--adapters", default="merged,unmerged", help="some of none, merged, unmerged, apart (never folded in)")
    add("--batches", default="1,32,128", help="pages that are read at once")
    add("--rounds", type=int, default=1, help="pages, in multiples of the batch")
    add("--tokens", type=int, default=128, help="written for every page")
    add("--repeats", type=int, default=2, help="measurements; the median counts")
    add("--cudnn-attention", action="store_true", help="let torch plan attention anew at every length")
    add("--dtype", choices=("bf16", "fp16", "fp32"), help="default: bf16 on a GPU, else fp32")
    add("--device", choices=("cuda", "cpu"), default="cuda" if torch.cuda.is_available() else "cpu")
    add("--bandwidth", type=float, default=H200_BYTES, help="bytes a second, for the floor")
    add("--name", help="of the result; default: decode-SIZE-WORKLOAD")
    add("--note", default="", help="what else one must know, such as that the machine was shared")
    add("--commit", help="of the code, where git cannot tell")
    add("--results", type=Path, default=RESULTS, help="folder of results")
    options = parser.parse_args(arguments)
    options.dtype = options.dtype or ("bf16" if options.device == "cuda" else "fp32")
    options.engines, options.adapters = options.engines.split(","), options.adapters.split(",")
    options.batches = [int(number) for number in options.batches.split(",")]
    for flag, given, known in (
        ("--engines", options.engines, ENGINES),
        ("--adapters", options.adapters, ADAPTERS),
    ):
        if unknown := set(given) - set(known):
            raise SettingsError(f"There is no {sorted(unknown)}.", place=flag, mend=f"use {', '.join(known)}")
    if options.rounds < 1:
        raise SettingsError("There must be pages.", place="--rounds", mend="give 1 or more")
    if options.tokens < 2:
        raise SettingsError("A time for a token takes two of them.", place="--tokens", mend="give 2 or more")
    return options


def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    """What each process told of each batch size; the engines take turns within a batch size."""
    names = ("size", "workload", "dtype", "device", "cudnn_attention")
    settings = {name: getattr(options, name) for name in names}
    kinds = [(engine, adapter) for adapter in options.adapters for engine in options.engines]
    found: list[dict[str, Any]] = []
    workers: dict[tuple[str, str], Worker] = {}
    try:
        for kind in kinds:
            workers[kind] = Worker(
                "benchmarks.decode_worker", {**settings, "engine": kind[0], "adapter": kind[1]}
            )
            workers[kind].ask()
        for batch in options.batches:
            for (engine, adapter), worker in workers.items():
                asked = {"batch": batch, "pages": batch * options.rounds}
                told = worker.ask({**asked, "tokens": options.tokens, "repeats": options.repeats})
                kind_and_batch = {"engine": engine, "adapter": adapter, "batch": batch}
                found.append({**kind_and_batch, **told, "failure": worker.failure})
    finally:
        for worker in workers.values():
            worker.close()
    return found


def rows_of(found: list[dict[str, Any]], options: argparse.Namespace) -> list[dict[str, Any]]:
    """A line of the table for each engine, adapter and batch size."""
    config, rows = make_config(options.size), []
    for told in found:
        row: dict[str, Any] = {name: told[name] for name in ("engine", "adapter", "batch", "failure")}
        if "whole" in told:
            whole, prefill = statistics.median(told["whole"]), statistics.median(told["prefill"])
            step = max(whole - prefill, 1e-9) / (options.tokens - 1) / options.rounds
            length = told["prompt_tokens"] + options.tokens // 2
            row |= {
                "ms/token": 1000 * step,
                "tokens/s": told["batch"] / step,
                "prefill s": prefill,
                "whole s": whole,
                "pages/s": told["pages"] / whole,
                "tokens/s whole": told["pages"] * options.tokens / whole,
                "peak GiB": told["peak_gib"],
            }
            if options.device == "cuda":
                floor = decode_floor_seconds(config, told["batch"], length, bytes_per_second=options.bandwidth)
                row["floor ms"] = 1000 * floor
        rows.append(row)
    theirs = {
        (r["adapter"], r["batch"]): r["ms/token"] for r in rows if r["engine"] == "r2" and "ms/token" in r
    }
    for row in rows:
        if "ms/token" in row and (row["adapter"], row["batch"]) in theirs:
            row["× r2"] = theirs[row["adapter"], row["batch"]] / row["ms/token"]
    return rows


def main(arguments: list[str] | None = None) -> int:
    """Measures, prints the table, writes the result. 1 when an engine failed."""
    try:
        options = parse(arguments)
    except OcrsmithError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    found = measure(options)
    rows = rows_of(found, options)
    command = ["python", "-m", "benchmarks.decode", *(sys.argv[1:] if arguments is None else arguments)]
    result = {
        "benchmark": "decode",
        "how": "Greedy decoding of a fixed number of tokens; ms/token = (time of all − of one) / (tokens − 1), "
        "tokens/s from it; pages/s and 'tokens/s whole' with image encoding and prefill; medians.",
        "settings": settings_of(options),
        "rows": rows,
        "measurements": found,
        "circumstances": circumstances(command, note=options.note, commit=options.commit),
    }
    path = write_result(options.name or f"decode-{options.size}-{options.workload}", result, options.results)
    print(f"{options.size}, workload {options.workload}: {options.tokens} tokens, {options.dtype}\n")
    print(table(rows, COLUMNS))
    for told in found:
        if told["failure"]:
            print(f"\n{told['engine']} {told['adapter']} at {told['batch']} failed: {told['failure']}")
    print(f"\n{path}")
    return 1 if any(told["failure"] for told in found) else 0


if __name__ == "__main__":
    sys.exit(main())
