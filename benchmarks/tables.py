"""Writes the tables of the documents anew from the results, and the plot.

    python -m benchmarks.tables            # after a measurement
    python -m benchmarks.tables --check    # 1 when a document is not current

A table stands between `<!-- table: NAME -->` and `<!-- end -->`. What was not measured is left out or said.
"""

from __future__ import annotations

import argparse
import re
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

if __package__ in (None, ""):  # run as a file
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    sys.path.insert(1, str(Path(__file__).resolve().parents[1] / "src"))

from benchmarks.plot import PLOT, draw_plot
from benchmarks.report import REPOSITORY, RESULTS, table
from benchmarks.results_store import PLAIN, Results, Row, label_of
from benchmarks.summary import summary
from benchmarks.targets import TARGETS
from ocrsmith.errors import OcrsmithError, SettingsError
from ocrsmith.settings.files import write_text

DOCUMENTS = ("docs/performance.md", "README.md", "README.zh-CN.md")
NOTHING = "*Not measured yet.*"
BLOCK = re.compile(r"(<!-- table: (\S+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)
CURVE_STEPS = (1, 10, 25, 50)


def render(text: str, results: Results, place: str = "") -> str:
    """The document with every table made anew.

    Raises:
        SettingsError: a table that there is not, or one that does not end.
    """

    def fill(match: re.Match[str]) -> str:
        name = match[2]
        if name not in TABLES:
            raise SettingsError(f"There is no table {name!r}.", place=place, mend=f"use {', '.join(TABLES)}")
        return f"{match[1]}{TABLES[name](results) or NOTHING}\n{match[4]}"

    if text.count("<!-- table: ") != len(BLOCK.findall(text)):
        raise SettingsError("A table does not end.", place=place, mend="put <!-- end --> after each")
    return BLOCK.sub(fill, text)


# --- the tables -----------------------------------------------------------------------------------------------


def _shown(rows: Sequence[Row], columns: Sequence[str]) -> str:
    return table(rows, columns) if rows else ""


def targets(results: Results) -> str:
    """Every figure of the contract."""
    rows = []
    for one in TARGETS:
        measured = "; ".join(one.find(results)) or "not measured yet"
        rows.append({"figure": one.figure, "must": one.must, "aim": one.aim or "–", "measured": measured})
    return table(rows, ("figure", "must", "aim", "measured"))


def training(results: Results) -> str:
    """Speed and memory of every engine."""
    columns = ("s/step", "samples/s", "× r1", "× r2", "peak GiB", "first step s", "loss")
    return _training(results, columns)


def parts(results: Results) -> str:
    """Where a step's time goes, in milliseconds."""
    names = ("load", "encode", "forward", "backward", "forward+backward", "optimizer", "host waits")
    return _training(results, (*(f"{name} ms" for name in names), "idle %"))


def _training(results: Results, columns: Sequence[str]) -> str:
    rows = [
        {"workload": workload, "engine": label, **{name: row.get(name) for name in columns}}
        for (workload, label), row in sorted(results.training().items())
        if any(row.get(name) is not None for name in columns)
        and row.get("settings", {}).get("seed", PLAIN["seed"]) == PLAIN["seed"]
    ]
    return _shown(rows, ("workload", "engine", *columns))


def curves(results: Results) -> str:
    """Losses of the same steps by different ways, beside the plain one's."""
    found: dict[tuple[str, str], list[float]] = {}
    for result in results.of("train", size="3b", device="cuda"):
        for measured in result.content["rows"]:
            told = result.content["engines"].get(measured["engine"], {})
            if told.get("curve"):
                found[result.settings["workload"], label_of(measured)] = told["curve"]
    rows = []
    for (workload, label), curve in sorted(found.items()):
        row: Row = {"workload": workload, "engine": label}
        row |= {f"loss {step}": curve[step - 1] for step in CURVE_STEPS if step <= len(curve)}
        if label != "ours" and (plain := found.get((workload, "ours"))):
            pairs = list(zip(curve, plain, strict=False))
            row["mean difference %"] = 100 * statistics.fmean(abs(a - b) / b for a, b in pairs)
        rows.append({name: round(v, 4) if isinstance(v, float) else v for name, v in row.items()})
    return _shown(rows, ("workload", "engine", *(f"loss {step}" for step in CURVE_STEPS), "mean difference %"))


def memory(results: Results) -> str:
    """Peaks beside what the memory model says."""
    setting = ("base", "workload", "optimizer", "checkpointing")
    rows = sorted(results.memory(), key=lambda row: tuple(row[name] for name in setting[:3]))
    return _shown(rows, (*setting, "measured GiB", "predicted GiB", "difference %", "reserved GiB"))


def decoding(results: Results) -> str:
    """Decoding, ours and transformers'."""
    columns = ("ms/token", "tokens/s", "pages/s", "× r2", "floor ms", "peak GiB")
    rows = [
        {"workload": key[0], "tokens": key[1], "engine": key[2], "adapter": key[3], "batch": key[4], **row}
        for key, row in sorted(results.decoding().items())
    ]
    return _shown(rows, ("workload", "tokens", "engine", "adapter", "batch", *columns))


def preprocessing(results: Results) -> str:
    """One core, from a file to a batch."""
    made = results.of("preprocess")
    columns = ("workload", "file", "paper", "ours ms", "device resize ms", "decode ms", "plain ms", "× plain")
    return _shown(made[-1].content["rows"], columns) if made else ""


def cpu(results: Results) -> str:
    """nano on a CPU beside transformers."""
    made = [result.content["rows"] for result in results.of("cpu") if result.content["rows"]]
    return _shown(made[-1], ("part", "ours s", "transformers s", "×", "floor s")) if made else ""


def conditions(results: Results) -> str:
    """What each result was measured with."""
    rows = []
    for result in sorted(results.all, key=lambda result: result.name):
        about = result.content.get("circumstances", {})
        machine, versions = about.get("machine", {}), about.get("versions", {})
        rows.append(
            {
                "result": f"[{result.name}](../benchmarks/results/{result.name}.json)",
                "made": result.created[:10],
                "commit": str(about.get("commit", ""))[:9] + ("+" if about.get("modified") else ""),
                "machine": machine.get("gpu") or f"{machine.get('cpu', 'CPU')}, {machine.get('cpus')} cores",
                "torch": versions.get("torch"),
                "transformers": versions.get("transformers"),
                "peft": versions.get("peft"),
                "command": f"`{about['command']}`" if about.get("command") else None,
            }
        )
    names = ("result", "made", "commit", "machine", "torch", "transformers", "peft", "command")
    return _shown(rows, names)


def plot(results: Results) -> str:
    """The picture, once there is one."""
    return f"![Seconds of a training step by part](assets/{PLOT.name})" if draw_plot(results) else ""


TABLES: dict[str, Callable[[Results], str]] = {
    "targets": targets,
    "training": training,
    "parts": parts,
    "curves": curves,
    "memory": memory,
    "decoding": decoding,
    "preprocessing": preprocessing,
    "cpu": cpu,
    "conditions": conditions,
    "plot": plot,
    "summary": lambda results: summary(results, "en"),
    "summary-zh": lambda results: summary(results, "zh"),
}


# --- the command ----------------------------------------------------------------------------------------------


def stale(results: Results, repository: Path = REPOSITORY) -> dict[Path, str]:
    """Files that are not as the results would have them, with what should be in them."""
    wanted: dict[Path, str] = {}
    for name in DOCUMENTS:
        path = repository / name
        if path.is_file():
            wanted[path] = render(path.read_text(encoding="utf-8"), results, place=str(path))
    if picture := draw_plot(results):
        wanted[repository / PLOT] = picture
    return {
        path: text
        for path, text in wanted.items()
        if not path.is_file() or path.read_text(encoding="utf-8") != text
    }


def main(arguments: list[str] | None = None) -> int:
    """Writes what is not current; with `--check` only says so."""
    parser = argparse.ArgumentParser(prog="benchmarks.tables", description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; 1 when a file is not current")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of results")
    options = parser.parse_args(arguments)
    try:
        files: dict[Path, Any] = stale(Results(options.results))
        for path, text in files.items():
            print(f"{'not current' if options.check else 'written'}: {path.relative_to(REPOSITORY)}")
            if not options.check:
                path.parent.mkdir(parents=True, exist_ok=True)
                write_text(path, text)
    except OcrsmithError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    return 1 if options.check and files else 0


if __name__ == "__main__":
    sys.exit(main())
