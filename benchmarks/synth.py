"""How many synthetic samples a second come out of `ocrsmith.datasets.synth`, encoded.

python -m benchmarks.synth --workers 2 --count 3000
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

if __package__ in (None, ""):  # run as a file
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    sys.path.insert(1, str(Path(__file__).resolve().parents[1] / "src"))

from benchmarks.report import RESULTS, circumstances, settings_of, table, write_result
from ocrsmith.datasets.synth import SynthSettings, synth_source
from ocrsmith.records import Excluded

COLUMNS = (
    *(
        "kind",
        "look",
        "strength",
        "samples",
        "samples/s",
        "CPU ms/sample",
        "busy cores",
        "first s",
        "KiB/sample",
    ),
    "left out",
)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="benchmarks.synth", description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--kinds", default="lines", help="measured one after the other, e.g. lines,forms")
    add("--looks", default="clean,scan", help="measured one after the other; clean has no degradations")
    add("--strength", type=float, default=0.5, help="of the looks")
    add("--count", type=int, default=3000, help="samples of each kind and look")
    add(
        "--warm-up",
        type=int,
        default=600,
        help="samples before the clock starts: fonts get opened",
    )
    add("--workers", type=int, default=2, help="processes that draw")
    add("--texts", default="", help="files with one text a line, separated by commas")
    add("--wordfreq", default="en,zh,fa", help="languages of the words, where there are no texts")
    add("--fonts", default="", help="font files or folders, separated by commas; else the system's")
    add("--name", default="synth", help="of the result")
    add("--note", default="", help="what else one must know, such as that the machine was shared")
    add("--commit", help="of the code, where git cannot tell")
    add("--results", type=Path, default=RESULTS, help="folder of results")
    return parser.parse_args(arguments)


def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    """A line for each kind and look."""
    return [
        _measure_one(kind, look, options)
        for kind in options.kinds.split(",")
        for look in options.looks.split(",")
    ]


def _paths(written: str) -> tuple[Path, ...]:
    return tuple(Path(part) for part in written.split(",") if part)


def _measure_one(kind: str, look: str, options: argparse.Namespace) -> dict[str, Any]:
    texts = _paths(options.texts)
    settings = SynthSettings(
        texts=texts,
        wordfreq=() if texts else tuple(options.wordfreq.split(",")),
        count=options.warm_up + options.count,
        kinds=(kind,),
        looks=(look,),
        strength=options.strength,
        fonts=_paths(options.fonts),
    )
    source = synth_source(settings, workers=options.workers)
    begun = started = time.perf_counter()
    cpu = _cpu_seconds()
    first = None
    done = size = left_out = 0
    for item in source.read():
        if isinstance(item, Excluded):
            left_out += 1
            continue
        first = first or time.perf_counter() - begun
        done += 1
        if done == options.warm_up:
            started, cpu = time.perf_counter(), _cpu_seconds()
        elif done > options.warm_up:
            size += len(item.image) if isinstance(item.image, bytes) else 0
    seconds = time.perf_counter() - started
    counted = done - options.warm_up
    spent = _cpu_seconds() - cpu
    return {
        "kind": kind,
        "look": look,
        "strength": options.strength,
        "samples": counted,
        "samples/s": counted / seconds,
        # processes that ended count here with their warm-up, so this is known where this process drew
        "CPU ms/sample": 1000 * spent / counted if options.workers == 1 else None,
        "busy cores": spent / seconds if options.workers == 1 else None,
        "first s": first,
        "KiB/sample": size / counted / 1024,
        "left out": left_out,
        "cores": os.cpu_count(),
    }


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def main(arguments: list[str] | None = None) -> int:
    """Measures, prints the table, writes the result."""
    options = parse(arguments)
    rows = measure(options)
    command = ["python", "-m", "benchmarks.synth", *(sys.argv[1:] if arguments is None else arguments)]
    result = {
        "benchmark": "synth",
        "how": "Samples drawn, degraded and encoded by --workers processes and received by this one, after a "
        "warm-up in which faces are opened and probed. Not in it: gathering texts, building the dataset. CPU "
        "time is measured where this process draws alone (--workers 1).",
        "settings": settings_of(options),
        "rows": rows,
        "circumstances": circumstances(command, note=options.note, commit=options.commit),
    }
    path = write_result(options.name, result, options.results)
    print(table(rows, COLUMNS))
    print(f"\n{path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
