"""Seconds and memory to merge an adapter: from file to file, and with PEFT in memory; verified on request.

python -m benchmarks.export --size 3b --device cuda
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

if __package__ in (None, ""):  # run as a file
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    sys.path.insert(1, str(Path(__file__).resolve().parents[1] / "src"))

import torch

from benchmarks.process_peak import run
from benchmarks.report import REPOSITORY, RESULTS, circumstances, settings_of, table, write_result
from benchmarks.workloads import (
    SIZES,
    WORKLOADS,
    balance_routers,
    draw,
    encode_file,
    make_batches,
    make_model,
    make_processor,
    text_of,
    to_device,
)
from ocrsmith.engines.decoding import DecodingSettings
from ocrsmith.evaluation.metrics import cer
from ocrsmith.export.verify import VerifiedPage, verify
from ocrsmith.model.lora import add_lora, load_adapter, merge_adapter, save_adapter
from ocrsmith.model.weights import load_model, save_model
from ocrsmith.settings.lora import LoraSettings

COLUMNS = ("how", "seconds", "peak GiB", "× PEFT seconds", "× PEFT memory")
WAYS = {"ours": "from file to file (ours)", "peft": "merge_and_unload in memory (PEFT)"}


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="benchmarks.export", description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--size", choices=SIZES, default="tiny", help="of the model; weights are random")
    add("--rank", type=int, default=16)
    add("--device", help="verify the merged model there, e.g. cuda; not verified without")
    add("--pages", type=int, default=4, help="pages to verify on")
    add("--tokens", type=int, default=64, help="longest answer while verifying")
    add("--name", default="export", help="of the result")
    add("--note", default="", help="what else one must know, such as that the machine was shared")
    add("--commit", help="of the code, where git cannot tell")
    add("--results", type=Path, default=RESULTS, help="folder of results")
    add("--worker", nargs=4, metavar=("WAY", "BASE", "ADAPTER", "OUT"), help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def work(way: str, base: str, adapter: Path, out: Path) -> None:
    """One merge, in a process of its own."""
    if way == "ours":
        from ocrsmith.export.merge import Merge

        Merge.plan(Path(base), adapter).write(out)
    else:
        model = load_adapter(load_model(base, dtype=torch.bfloat16), adapter)
        save_model(merge_adapter(model), out)


def prepare(options: argparse.Namespace, folder: Path) -> None:
    """Writes a random base in bfloat16, and an adapter on all projections that changes what it says."""
    device = torch.device(options.device or "cpu")
    model = make_model(options.size, dtype=torch.bfloat16, device=device)
    (batch,) = make_batches(options.size, WORKLOADS["L"], 2, 1)
    balance_routers(model, to_device(batch, device), torch.bfloat16)
    save_model(model, folder / "base")
    make_processor(options.size, WORKLOADS["L"]).save_pretrained(folder / "base")
    tuned = add_lora(model, LoraSettings(r=options.rank, alpha=options.rank))
    generator = torch.Generator(device).manual_seed(1)
    with torch.no_grad():
        for name, parameter in tuned.named_parameters():
            if "lora_B" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator, device=device) * 0.02)
    save_adapter(tuned, folder / "adapter", make_processor(options.size, WORKLOADS["L"]))


def measure(options: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """A row for each way; each in a fresh process, ours first and last."""
    rows: dict[str, dict[str, Any]] = {}
    for way in ("ours", "peft", "ours"):
        out = folder / way
        out.mkdir(exist_ok=True)
        places = [str(folder / "base"), str(folder / "adapter"), str(out)]
        command = [sys.executable, "-m", "benchmarks.export", "--worker", way, *places]
        done = run(command, cwd=REPOSITORY, log=folder / f"{way}.log")
        if done.code:
            raise SystemExit(f"{way} ended with {done.code}: {(folder / f'{way}.log').read_text()[-2000:]}")
        seconds = min(done.seconds, rows.get(way, {}).get("seconds", done.seconds))
        rows[way] = {"how": WAYS[way], "seconds": seconds, "peak GiB": done.peak_bytes / 2**30}
    for row in rows.values():
        row["× PEFT seconds"] = rows["peft"]["seconds"] / row["seconds"]
        row["× PEFT memory"] = rows["peft"]["peak GiB"] / row["peak GiB"]
    return list(rows.values())


def check(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Verification of what ours merged, as the command does it."""
    make_processor(options.size, WORKLOADS["L"]).save_pretrained(folder / "ours")
    pages = [
        VerifiedPage(
            str(seed), encode_file(draw(WORKLOADS["L"], seed), WORKLOADS["L"]), text_of(WORKLOADS["L"], seed)
        )
        for seed in range(options.pages)
    ]
    begun = time.perf_counter()
    found = verify(
        str(folder / "base"),
        folder / "adapter",
        folder / "ours",
        pages,
        cer,
        device=torch.device(options.device),
        dtype=torch.bfloat16 if options.device != "cpu" else torch.float32,
        decoding=DecodingSettings(max_new_tokens=options.tokens),
    )
    return {**found.to_json(), "problems": found.problems, "seconds": time.perf_counter() - begun}


def main(arguments: list[str] | None = None) -> int:
    """Measures, prints the table, writes the result."""
    options = parse(arguments)
    if options.worker:
        way, base, adapter, out = options.worker
        work(way, base, Path(adapter), Path(out))
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        prepare(options, folder)
        rows = measure(options, folder)
        verification = check(options, folder) if options.device else None
    command = ["python", "-m", "benchmarks.export", *(sys.argv[1:] if arguments is None else arguments)]
    settings = {name: value for name, value in settings_of(options).items() if name != "worker"}
    result = {
        "benchmark": "export",
        "how": "Wall-clock seconds and most resident memory of a process that merges, imports included; random "
        "weights in bfloat16, an adapter on all projections. The files come from the page cache. PEFT: the "
        "model and the adapter loaded in bfloat16, merge_and_unload, saved.",
        "settings": settings,
        "rows": rows,
        "verification": verification,
        "circumstances": circumstances(command, note=options.note, commit=options.commit),
    }
    path = write_result(options.name, result, options.results)
    print(table(rows, COLUMNS))
    if verification:
        print(verification)
    print(f"\n{path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
