"""The quickstart's training and evaluation on a CPU, beside the plain transformers path, in one run.

    python -m benchmarks.cpu --threads 2 --rounds 3 --steps 4 --pages 32

The plain transformers path is what public packages give, with nano's weights and the quickstart's recipe:

- model: transformers' own `UnlimitedOcr` classes in float32, as they come (`sdpa`, `grouped_mm`);
- adapter: PEFT's LoRA on every linear layer of encoder, projector and decoder, `target_parameters` for the
  experts;
- training step: a right-padded batch of 8, images decoded in the step, the encoder run with gradients, logits
  for every token, gradients clipped, fused AdamW. No checkpointing, and no Trainer around it: a plain loop;
- evaluation: `generate` with its DynamicCache on left-padded batches of 16 (ours takes as many), greedy, the
  same loop control as a logits processor, no adapter (ours merges it), pages in the dataset's order, images
  encoded anew.

Ours are `ocrsmith train`, a step's time taken from its own log, and the native engine, both as the quickstart
calls them, freed memory kept as the commands do. Each has a process of its own with the same number of threads;
rounds take turns. "quickstart" is the whole mix: the recipe's steps and all pages that its evaluations read.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from contextlib import ExitStack
from importlib import resources
from pathlib import Path
from typing import Any

if __package__ in (None, ""):  # run as a file
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    sys.path.insert(1, str(Path(__file__).resolve().parents[1] / "src"))

from benchmarks.report import RESULTS, circumstances, settings_of, table, write_result
from benchmarks.worker import Worker
from ocrsmith.errors import OcrsmithError

ENGINES = ("ours", "transformers")
COLUMNS = ("part", "ours s", "transformers s", "×", "floor s")
EVALUATIONS = 2
"""Of the test pages in a quickstart: before and after training."""


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="benchmarks.cpu", description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--threads", type=int, default=2, help="of both engines")
    add("--rounds", type=int, default=3, help="turns")
    add("--steps", type=int, default=4, help="optimiser steps of each engine in a turn")
    add("--pages", type=int, default=32, help="pages that each engine reads in a turn")
    add("--name", default="cpu", help="of the result")
    add("--note", default="", help="what else one must know, such as that the machine was shared")
    add("--commit", help="of the code, where git cannot tell")
    add("--results", type=Path, default=RESULTS, help="folder of results")
    return parser.parse_args(arguments)


def build_data(folder: Path) -> None:
    """The quickstart's dataset."""
    from ocrsmith.datasets import BuildSettings, build_dataset

    with resources.as_file(resources.files("ocrsmith.nano") / "sample_archive") as archive:
        settings = BuildSettings(splits="70/10/20", group_by="stem-prefix:_")
        build_dataset([str(archive / "content.md")], folder, settings)


def measure(options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """What each engine's process told, round by round."""
    found: dict[str, dict[str, Any]] = {}
    with ExitStack() as stack:
        data = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="benchmark-"))) / "data"
        build_data(data)
        os.environ["OMP_NUM_THREADS"] = str(options.threads)  # the processes read it when they start
        common = {"data": str(data), "threads": options.threads, "pages": options.pages}
        workers: dict[str, Worker] = {}
        for engine in ENGINES:
            workers[engine] = Worker("benchmarks.cpu_worker", {**common, "engine": engine})
            stack.callback(workers[engine].close)
            found[engine] = {**workers[engine].ask(), "steps": [], "loss": [], "pages": []}
        for _ in range(options.rounds):
            for engine, worker in workers.items():
                _take_turn(worker, found[engine], options.steps)
        found["ours"]["gemm_flops"] = workers["ours"].ask({"do": "gemm"}).get("flops")
        found["ours"]["whole"] = whole_quickstart(data)
        for engine, worker in workers.items():
            found[engine]["failure"] = worker.failure
    return found


def _take_turn(worker: Worker, told: dict[str, Any], steps: int) -> None:
    trained = worker.ask({"do": "train", "steps": steps})
    told["steps"] += trained.get("seconds", [])
    told["loss"] += trained.get("loss", [])
    read = worker.ask({"do": "read"})
    if read:
        told["pages"].append(read["seconds"])
        told["answers"] = read["answers"]
        told["peak_gib"] = read["peak_gib"]


def whole_quickstart(data: Path) -> dict[str, int]:
    """How many steps and pages a quickstart has."""
    from benchmarks.cpu_worker import quickstart_settings
    from ocrsmith.datasets import open_dataset

    settings, dataset = quickstart_settings(data), open_dataset(data)
    validation = min(settings.eval_samples or 10**9, len(dataset.table("val")))
    evaluations = -(-settings.max_steps // (settings.eval_every or settings.max_steps))
    pages = EVALUATIONS * len(dataset.table("test")) + evaluations * validation
    return {"steps": settings.max_steps, "pages": pages}


def floor_of(gemm_flops: float) -> dict[str, float]:
    """Seconds of a step and of a page if the multiplications they cannot do without ran at GEMM's rate.

    A step of 8 lines of 110 tokens: forward, and backward to the inputs (frozen weights need no gradients),
    where attention takes twice its forward; of the adapters, added to the weights, the thin products alone. Of
    a page its encoding alone.
    """
    from ocrsmith.model.weights import load_model
    from ocrsmith.settings.lora import LoraSettings
    from ocrsmith.training.work import active_weights, view_operations

    config: Any = load_model("nano").config
    view = view_operations(config, config.sam_sizes.image_size)
    sam = config.sam_sizes
    positions = (sam.image_size // sam.patch_size) ** 2
    attention = 4.0 * positions**2 * sam.width * len(sam.global_attn_indexes)
    widths = 4 + 2 + 2 * (1 + sam.mlp_ratio)  # qkv, proj, lin1, lin2: in and out
    adapter = 2.0 * positions * sam.layers * LoraSettings().r * widths * sam.width
    decoder = 2.0 * 110 * active_weights(config.decoder_sizes)
    sample = 2 * view + attention + 2 * adapter + 2 * decoder
    return {"step": 8 * sample / gemm_flops, "page": view / gemm_flops}


def rows_of(found: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Training step, page, and the whole quickstart, ours beside transformers."""
    if not all(found[engine]["steps"] and found[engine]["pages"] for engine in ENGINES):
        return []
    whole = found["ours"]["whole"]
    floor = floor_of(found["ours"]["gemm_flops"])
    step = {engine: statistics.median(found[engine]["steps"]) for engine in ENGINES}
    page = {engine: statistics.median(found[engine]["pages"]) for engine in ENGINES}
    mix = {engine: whole["steps"] * step[engine] + whole["pages"] * page[engine] for engine in ENGINES}
    floors = (floor["step"], floor["page"], whole["steps"] * floor["step"] + whole["pages"] * floor["page"])
    names = ("training step", "page read", f"quickstart: {whole['steps']} steps, {whole['pages']} pages")
    return [
        {
            "part": name,
            "ours s": times["ours"],
            "transformers s": times["transformers"],
            "×": times["transformers"] / times["ours"],
            "floor s": least,
        }
        for name, times, least in zip(names, (step, page, mix), floors, strict=True)
    ]


def same_answers(found: dict[str, dict[str, Any]]) -> dict[str, int]:
    """How many pages both engines read alike."""
    ours, theirs = (found[engine].get("answers", {}) for engine in ENGINES)
    return {"pages": len(ours), "same": sum(theirs.get(name) == text for name, text in ours.items())}


def main(arguments: list[str] | None = None) -> int:
    """Measures, prints the table, writes the result. 1 when an engine failed."""
    options = parse(arguments)
    try:
        found = measure(options)
    except OcrsmithError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    rows, same = rows_of(found), same_answers(found)
    command = ["python", "-m", "benchmarks.cpu", *(sys.argv[1:] if arguments is None else arguments)]
    result = {
        "benchmark": "cpu",
        "how": "Medians of wall-clock seconds; a process an engine, rounds in turn; first steps left out. "
        "Floor: the multiplications alone at the rate of a matrix product measured in the same run.",
        "settings": settings_of(options),
        "rows": rows,
        "answers": same,
        "engines": {name: {k: v for k, v in told.items() if k != "answers"} for name, told in found.items()},
        "circumstances": circumstances(command, note=options.note, commit=options.commit),
    }
    path = write_result(options.name, result, options.results)
    print(f"nano, {options.threads} threads, float32, batches of 8 (training) and 16 (reading)\n")
    print(table(rows, COLUMNS))
    print(f"\n{same['same']} of {same['pages']} pages read alike")
    failed = {name: told["failure"] for name, told in found.items() if told["failure"]}
    for name, failure in failed.items():
        print(f"\n{name} failed: {failure}")
    print(f"\n{path}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
