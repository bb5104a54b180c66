"""Our server under load: nano on a CPU behind `ocrsmith serve --engine native`, beside the engine alone.

    python -m benchmarks.serving --threads 2

The server is the command itself, in a process of its own. `ocrsmith stress` sends it the lines of the bundled
sample archive: many at a time, then one at a time, which is what there would be without continuous batching.
The engine then reads as many pages in one call (`NativeEngine.read`), in another process: no HTTP, no base64,
and all pages known beforehand. All three read the same pages under the same token limit, and before each count
every page once: the server's memory rises in a few steps at first, which a short warm-up leaves in the count.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

if __package__ in (None, ""):  # run as a file
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    sys.path.insert(1, str(Path(__file__).resolve().parents[1] / "src"))

from benchmarks.report import RESULTS, circumstances, settings_of, table, write_result
from benchmarks.worker import Worker
from ocrsmith.errors import OcrsmithError, OutputError
from ocrsmith.serving.stress.memory import LIMIT
from ocrsmith.serving.stress.report import Report
from ocrsmith.serving.stress.run import stress
from ocrsmith.serving.stress.settings import StressSettings

MAX_NEW_TOKENS = 64
"""As `ocrsmith quickstart` has it."""
HOW = (
    "`ocrsmith serve nano --engine native --device cpu` in a process of its own; pages of the sample archive "
    "sent by `ocrsmith stress` from another on the same machine, answers in pieces; then NativeEngine.read of "
    "as many pages in a third. Memory is that of the server's process, first and last hundred requests."
)
COLUMNS = (
    *("way", "pages", "pages/min", "× one at a time", "× offline", "p50 s", "p90 s", "p99 s", "first text s"),
    *("errors", "differing", "drift %", "first MiB", "last MiB", "memory growth %", "memory"),
)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="benchmarks.serving", description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--requests", type=int, default=1000, help="pages sent many at a time, and read by the engine alone")
    add("--clients", type=int, default=8, help="requests under way at a time")
    add("--alone", type=int, default=200, help="pages sent one at a time; at least 1")
    add("--warm-up", type=int, default=360, help="pages before each count; 360: each page once")
    add("--threads", type=int, default=2, help="of server and engine")
    add("--name", default="serving-nano-cpu", help="of the result")
    add("--note", default="", help="what else one must know, such as that the machine was shared")
    add("--commit", help="of the code, where git cannot tell")
    add("--results", type=Path, default=RESULTS, help="folder of results")
    return parser.parse_args(arguments)


@contextmanager
def nano_server(threads: int) -> Iterator[tuple[str, int]]:
    """`ocrsmith serve` over nano; gives its address and its process.

    Raises:
        OutputError: it does not start.
    """
    words = ["serve", "nano", "--engine", "native", "--device", "cpu", "--port", "0", "--json"]
    words += ["--max-new-tokens", str(MAX_NEW_TOKENS)]
    paths = [str(Path(__file__).resolve().parents[1] / "src"), os.environ.get("PYTHONPATH", "")]
    process = subprocess.Popen(
        [sys.executable, "-m", "ocrsmith.cli.main", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # its log has a line for each request
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": str(threads), "PYTHONPATH": os.pathsep.join(filter(None, paths))},
    )
    try:
        assert process.stdout is not None
        told = ""
        for line in process.stdout:
            told += line
            if line.startswith("}"):
                break
        served = json.loads(told) if told else {}
        if "url" not in served:
            problem = served.get("error", {}).get("problem", f"it ended with code {process.wait()}")
            raise OutputError(f"The server does not start: {problem}", place="ocrsmith serve")
        yield served["url"], process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)


def load(url: str, pid: int, options: argparse.Namespace, *, requests: int, clients: int) -> Report:
    """What a server makes of the sample archive."""
    settings = StressSettings(
        url=url, pid=pid, requests=requests, clients=clients, warm_up=options.warm_up, stream=True
    )
    with resources.as_file(resources.files("ocrsmith.nano") / "sample_archive" / "images") as images:
        return stress(settings, images).report


def row_of(way: str, report: Report) -> dict[str, Any]:
    """A line of the table."""
    latency, memory = report.latency, report.memory
    row: dict[str, Any] = {"way": way, "pages": report.answered, "pages/min": report.pages_per_minute}
    row |= {"errors": report.failed, "differing": len(report.differing)}
    if latency:
        row |= {"p50 s": latency.p50, "p90 s": latency.p90, "p99 s": latency.p99}
    if report.first_text:
        row["first text s"] = report.first_text.p50
    if report.drift:
        row["drift %"] = 100 * report.drift.change
    if memory:
        row |= {"first MiB": memory.first / 2**20, "last MiB": memory.last / 2**20}
        row |= {"memory growth %": 100 * memory.growth, "memory": memory.verdict}
    return row


def measure(options: argparse.Namespace) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The lines of the table, and both reports of `ocrsmith stress`."""
    with nano_server(options.threads) as (url, pid):
        many = load(url, pid, options, requests=options.requests, clients=options.clients)
        alone = load(url, pid, options, requests=options.alone, clients=1)
    threads = {"OMP_NUM_THREADS": str(options.threads), "OMP_WAIT_POLICY": "PASSIVE"}  # as commands have it
    worker = Worker("benchmarks.serving_worker", {"max_new_tokens": MAX_NEW_TOKENS}, threads)
    try:
        worker.ask()
        worker.ask({"pages": options.warm_up})
        told = worker.ask({"pages": options.requests})
    finally:
        worker.close()
    if worker.failure:
        raise OutputError(f"The engine alone fails: {worker.failure}")
    rows = [row_of(f"served, {options.clients} at a time", many), row_of("served, 1 at a time", alone)]
    rows.append(
        {"way": "engine, offline", "pages": told["pages"], "pages/min": 60 * told["pages"] / told["seconds"]}
    )
    for row in rows:
        row["× one at a time"] = row["pages/min"] / rows[1]["pages/min"]
        row["× offline"] = row["pages/min"] / rows[2]["pages/min"]
    return rows, {"many": many.to_json(), "alone": alone.to_json(), "offline": told}


def verdict(rows: list[dict[str, Any]]) -> list[str]:
    """What must not be."""
    row = rows[0]
    found = [f"{row['errors']} requests failed"] if row["errors"] else []
    if row["memory growth %"] > 100 * LIMIT:
        found.append(f"memory grew by {row['memory growth %']:.2f} %, more than {100 * LIMIT:g} %")
    return found


def main(arguments: list[str] | None = None) -> int:
    """Measures, prints the table, writes the result; 1 when a request failed or memory grew."""
    options = parse(arguments)
    try:
        rows, reports = measure(options)
        command = ["python", "-m", "benchmarks.serving", *(sys.argv[1:] if arguments is None else arguments)]
        result = {
            "benchmark": "serving",
            "how": HOW,
            "settings": settings_of(options),
            "rows": rows,
            "reports": reports,
            "circumstances": circumstances(command, note=options.note, commit=options.commit),
        }
        path = write_result(options.name, result, options.results)
    except OcrsmithError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    print(table(rows, COLUMNS))
    print(f"\n{path}")
    failures = verdict(rows)
    for failure in failures:
        print(f"Fail: {failure}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
