"""`ocrsmith data build` beside the widespread script, and at a scale that the script cannot reach.

    python -m benchmarks.data                      # 20,000 images, both
    python -m benchmarks.data --scale 200000       # ours alone, killed in the middle and gone on with

Both read the same content.md of generated lines and write Parquet files, each in a process of its own, started
anew for every round; wall-clock seconds count from the start of the process, imports included. Ours decodes and
checks every image, finds copies and near copies and keeps them on one side, writes ledger, manifest and card;
the script (`reference/widespread_script.py`) does none of it. All files were written just before, so that both
read them from the system's cache.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

if __package__ in (None, ""):  # run as a file
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    sys.path.insert(1, str(Path(__file__).resolve().parents[1] / "src"))

from benchmarks.line_images import write_source
from benchmarks.process_peak import Run, run
from benchmarks.report import REPOSITORY, RESULTS, circumstances, settings_of, table, write_result

ENGINES = ("ours", "script")
WORKERS = 2
"""Threads of ours that decode images."""
COLUMNS = ("images", "figure", "ours", "script", "×")
SCALE_COLUMNS = ("images", "run", "seconds", "images/s", "peak MB")


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="benchmarks.data", description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--images", type=int, default=20_000, help="lines that both make a dataset of")
    add("--rounds", type=int, default=1, help="turns of each")
    add(
        "--scale", type=int, metavar="N", help="instead: ours alone on N lines, whole, and killed in the middle"
    )
    add(
        "--together",
        action="store_true",
        help="with --scale: both builds at a time (many cores)",
    )
    add(
        "--folder",
        type=Path,
        help="where to write the images and datasets (else the system's temporary folder)",
    )
    add("--name", help="of the result (else data, or data-scale)")
    add("--note", default="", help="what else one must know, such as that the machine was shared")
    add("--commit", help="of the code, where git cannot tell")
    add("--results", type=Path, default=RESULTS, help="folder of results")
    return parser.parse_args(arguments)


def command_of(engine: str, content: Path, out: Path) -> list[str]:
    """What is run: the product's command, or the script."""
    if engine == "script":
        return [sys.executable, "-m", "benchmarks.reference.widespread_script", str(content), str(out)]
    words = ["data", "build", str(content), "-o", str(out)]
    return [sys.executable, "-m", "ocrsmith.cli.main", "-q", *words, "--workers", str(WORKERS)]


def start(engine: str, content: Path, out: Path, **options: Any) -> Run:
    """Runs an engine; `options` as for `run`."""
    return run(command_of(engine, content, out), cwd=REPOSITORY, log=out.with_suffix(".log"), **options)


def compare(content: Path, folder: Path, rounds: int) -> dict[str, list[dict[str, Any]]]:
    """Seconds, peak and rows of each engine, round by round, in turn."""
    found: dict[str, list[dict[str, Any]]] = {engine: [] for engine in ENGINES}
    for number in range(rounds):
        for engine in ENGINES:
            out = folder / f"{engine}-{number}"
            done = start(engine, content, out)
            told = {"seconds": done.seconds, "peak_bytes": done.peak_bytes, "code": done.code}
            files = [path for path in out.rglob("*.parquet") if path.is_file()]
            told |= {"rows": count_rows(files), "bytes": sum(path.stat().st_size for path in files)}
            found[engine].append(told | ({"errors": done.errors} if done.errors else {}))
            print(f"{engine}: {done.seconds:.1f} s, {done.peak_bytes / 1e6:,.0f} MB", file=sys.stderr)
    return found


def count_rows(files: list[Path]) -> int:
    """Rows of Parquet files."""
    import pyarrow.parquet as pq

    return sum(pq.ParquetFile(path).metadata.num_rows for path in files)


def rows_of(images: int, found: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Time and memory with their ratios; none if an engine failed or lost a row."""
    if any(told["code"] or told["rows"] != images for turns in found.values() for told in turns):
        return []
    rows = []
    for figure, key, unit in (("seconds", "seconds", 1.0), ("peak MB", "peak_bytes", 1e6)):
        values = {
            engine: statistics.median(told[key] / unit for told in turns) for engine, turns in found.items()
        }
        rows.append({"images": images, "figure": figure, **values, "×": values["script"] / values["ours"]})
    return rows


def at_scale(
    content: Path, folder: Path, images: int, *, together: bool
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """A whole build, and one that is killed with half of the samples staged and gone on with.

    Args:
        together: both at the same time, each on cores of its own.

    Returns:
        A row for each run, and what was found to be the same.
    """
    from ocrsmith.datasets.resume import work_folder
    from ocrsmith.datasets.staging import Staging

    cut = folder / "cut" / "data"
    cut.parent.mkdir()
    (folder / "whole").mkdir()

    def half() -> bool:
        return Staging.count(work_folder(cut)) >= images // 2

    with ThreadPoolExecutor(1) as beside:
        whole = beside.submit(start, "ours", content, folder / "whole" / "data")
        if not together:
            whole.result()
        killed = start("ours", content, cut, stop=half)
        staged = Staging.count(work_folder(cut))
        gone_on = start("ours", content, cut)
        runs = {"whole": whole.result(), "killed": killed, "gone on": gone_on}
    rows = [
        {
            "images": images,
            "run": name,
            "seconds": done.seconds,
            "images/s": (images - staged if name == "gone on" else images) / done.seconds
            if name != "killed"
            else None,
            "peak MB": done.peak_bytes / 1e6,
            "code": done.code,
            **({"errors": done.errors} if done.code > 0 else {}),
        }
        for name, done in runs.items()
    ]
    same = {"killed_by_signal": -runs["killed"].code, "staged_when_killed": staged}
    return rows, same | compare_datasets(content, folder / "whole" / "data", cut, images)


def compare_datasets(content: Path, whole: Path, cut: Path, images: int) -> dict[str, Any]:
    """Whether nothing was lost or doubled: ids, content hashes and the bytes of every file."""
    import pyarrow.parquet as pq

    if not (whole / "manifest.json").is_file() or not (cut / "manifest.json").is_file():
        return {"complete": False}
    wanted = {line.partition("\t")[0] for line in content.read_text(encoding="utf-8").splitlines()}
    ids = [
        name
        for path in sorted(cut.rglob("*.parquet"))
        for name in pq.read_table(path, columns=["id"])["id"].to_pylist()
    ]
    hashes = {json.loads((out / "manifest.json").read_text())["content_hash"] for out in (whole, cut)}
    files = sorted(path.relative_to(whole) for path in whole.rglob("*") if path.is_file())
    return {
        "complete": len(ids) == images,
        "doubled": len(ids) - len(set(ids)),
        "lost": len(wanted - set(ids)),
        "same_content_hash": len(hashes) == 1,
        "files": len(files),
        "files_with_the_same_bytes": sum(same_bytes(whole / name, cut / name) for name in files),
    }


def same_bytes(first: Path, second: Path) -> bool:
    """Compares two files, a block at a time."""
    if not second.is_file() or first.stat().st_size != second.stat().st_size:
        return False
    with first.open("rb") as one, second.open("rb") as other:
        while block := one.read(1 << 20):
            if block != other.read(1 << 20):
                return False
    return True


def is_whole(same: dict[str, Any]) -> bool:
    """Whether the build that was killed is the one that was not."""
    return bool(
        same["killed_by_signal"] == 9
        and same["complete"]
        and not same["doubled"]
        and not same["lost"]
        and same["same_content_hash"]
        and same["files_with_the_same_bytes"] == same["files"]
    )


def main(arguments: list[str] | None = None) -> int:
    """Measures, prints the table, writes the result. 1 when something failed or is not the same."""
    options = parse(arguments)
    images = options.scale or options.images
    with tempfile.TemporaryDirectory(prefix="benchmark-", dir=options.folder) as name:
        content = write_source(Path(name) / "source", images)
        result: dict[str, Any] = {"benchmark": "data-scale" if options.scale else "data"}
        result["how"] = __doc__.split("\n\n")[2].replace("\n", " ")
        if options.scale:
            result["rows"], result["same"] = at_scale(content, Path(name), images, together=options.together)
            good = is_whole(result["same"]) and all(row["code"] in (0, -9) for row in result["rows"])
        else:
            result["runs"] = compare(content, Path(name), options.rounds)
            result["rows"] = rows_of(images, result["runs"])
            good = bool(result["rows"])
    command = ["python", "-m", "benchmarks.data", *(sys.argv[1:] if arguments is None else arguments)]
    settings = {key: value for key, value in settings_of(options).items() if key != "folder"}
    result |= {"settings": settings | {"cpus": os.cpu_count()}}
    result["circumstances"] = circumstances(command, note=options.note, commit=options.commit)
    path = write_result(options.name or result["benchmark"], result, options.results)
    print(table(result["rows"], SCALE_COLUMNS if options.scale else COLUMNS))
    if not good:
        print(f"\nSomething failed or differs: {json.dumps(result.get('same') or result['runs'], indent=2)}")
    elif options.scale:
        print("\nKilled in the middle and gone on with: nothing lost, nothing doubled, every file the same.")
    print(f"\n{path}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
