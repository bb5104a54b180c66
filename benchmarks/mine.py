"""Does mining pay? Lines drawn for mined confusions against as many random ones, on a nano with a weakness.

python -m benchmarks.mine

Plants a weakness (some rare signs misread), evaluates on mixed lines in which it is rare, mines that, draws
lines with what was mined and as many without, trains on either with the same settings and seeds, and reads
lines of the weakness, and others, that nothing of this has seen. On a CPU; the encoder stays as it is, so that
every image is encoded once.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

if __package__ in (None, ""):  # run as a file
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    sys.path.insert(1, str(Path(__file__).resolve().parents[1] / "src"))

import numpy as np
import torch

from benchmarks.mine_data import WRONG, draw, is_weak, mislabel, texts_of, write_texts
from benchmarks.mine_figures import Reading, factor, rows_of
from benchmarks.report import RESULTS, circumstances, settings_of, table, write_result
from ocrsmith.cli.train import prepare_run, resolve_settings
from ocrsmith.datasets import Dataset
from ocrsmith.engines.base import PageRequest
from ocrsmith.engines.decoding import DecodingSettings
from ocrsmith.engines.native import NativeEngine, PageFeatures
from ocrsmith.evaluation import evaluate
from ocrsmith.evaluation.mine import Mined, mine
from ocrsmith.model.lora import load_adapter, merge_adapter
from ocrsmith.model.weights import load_model, load_processor, resolve_model, save_model

COLUMNS = (
    *("training lines", "CER of weak lines", "lowest", "highest", "weak signs misread", "CER of other lines"),
    "seeds",
)
TARGET = 1.5
"""The drop with mined lines in drops with random ones that mining is to reach."""
MAX_NEW_TOKENS = 48
RECIPE = {
    "batch_size": 8,
    "accumulation": 1,
    "schedule": "cosine",
    "workers": 0,
    "device": "cpu",
    "eval_samples": 4,
    "lora": {"alpha": 32, "targets": ["attention", "dense_mlp", "shared_experts", "routed_experts"]},
}


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="benchmarks.mine", description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--lines", type=int, default=100, help="lines that each arm trains on")
    add("--steps", type=int, default=30, help="optimiser steps of each arm, of 8 lines")
    add("--seeds", type=int, default=5, help="runs of each arm: other lines, other order")
    add("--rare", type=float, default=0.05, help="share of lines that have the weakness, where they are mixed")
    add("--val", type=int, default=300, help="mixed lines that are evaluated and mined")
    add("--test", type=int, default=100, help="lines of the weakness, and as many others, that are measured on")
    add("--plant-lines", type=int, default=150, help="lines that the weakness is planted with")
    add("--plant-steps", type=int, default=30, help="optimiser steps of planting")
    add("--threads", type=int, default=2, help="of torch")
    add("--name", default="mine-nano", help="of the result")
    add("--note", default="", help="what else one must know, such as that the machine was shared")
    add("--commit", help="of the code, where git cannot tell")
    add("--results", type=Path, default=RESULTS, help="folder of results")
    return parser.parse_args(arguments)


@dataclass
class Experiment:
    """The steps, in a folder of their own."""

    options: argparse.Namespace
    work: Path
    features: PageFeatures = field(default_factory=lambda: PageFeatures(2**30))
    """Of the encoder, which no step changes."""
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Adds up the seconds of a part of the work, and says that it is done."""
        started = time.monotonic()
        yield
        spent = time.monotonic() - started
        self.seconds[name] = self.seconds.get(name, 0.0) + spent
        print(f"{name}: {spent:.0f} s", file=sys.stderr, flush=True)

    def plant(self) -> Path:
        """A copy of nano that misreads the signs; gives its folder."""
        options = self.options
        with self.step("planting"):
            texts = write_texts(self.work / "planted.txt", 8 * options.plant_lines, 0.5, seed=1)
            draw(
                self.work / "planted-lines",
                texts,
                options.plant_lines + 4,
                101,
                label=mislabel,
                splits="rest/4/0",
            )
            adapter = self.train("nano", self.work / "planted-lines", options.plant_steps, 1, "planting")
            folder = self.work / "planted"
            shutil.copytree(resolve_model("nano"), folder)
            save_model(merge_adapter(load_adapter(load_model("nano", dtype=torch.float32), adapter)), folder)
        return folder

    def train(self, model: str, data: Path, steps: int, seed: int, name: str) -> Path:
        """Fine-tunes; gives the adapter of the last step."""
        values = {"max_steps": steps, "eval_every": steps, "seed": seed, "cache_dir": str(self.work / "cache")}
        run = prepare_run(resolve_settings({"model": model, "data": str(data), **RECIPE, **values}))
        result = run.train(self.work / f"run-{name}-{seed}")
        if result.interrupted:
            raise KeyboardInterrupt
        assert result.adapter is not None
        return result.adapter

    def engine(self, model: Path, adapter: Path | None = None) -> NativeEngine:
        """Reads with the planted model, with or without an adapter."""
        network: Any = load_model(str(model), dtype=torch.float32)
        if adapter is not None:
            network = merge_adapter(load_adapter(network, adapter))
        return NativeEngine(
            network,
            load_processor(str(model)),
            decoding=DecodingSettings(max_new_tokens=MAX_NEW_TOKENS),
            origin={
                "model": {"name": str(model)},
                "adapter": None if adapter is None else {"name": str(adapter)},
            },
            features=self.features,
        )

    def read(self, engine: NativeEngine, data: Dataset) -> Reading:
        """Reads all lines of a dataset."""
        samples = list(data.iter_samples("train"))
        requests = [PageRequest(one.id, one.image, data.prompt, len(one.text)) for one in samples]
        read = {prediction.id: prediction.text for prediction in engine.read(requests)}
        return Reading([one.text for one in samples], [read[one.id] for one in samples])

    def mine(self, planted: Path, texts: Path) -> Mined:
        """Evaluates the planted model on mixed lines, and mines that."""
        options = self.options
        with self.step("evaluating and mining"):
            mixed = draw(self.work / "mixed", texts, options.val + 1, 202, splits=f"1/{options.val}/0")
            evaluate(self.engine(planted), mixed, "val", self.work / "evaluation")
            return mine(self.work / "evaluation", self.work / "mined", count=50)


def measure(options: argparse.Namespace, work: Path) -> dict[str, Any]:
    """Everything; gives rows, factor and what was mined."""
    torch.set_num_threads(options.threads)
    experiment = Experiment(options, work)
    planted = experiment.plant()
    mined = experiment.mine(planted, write_texts(work / "mixed.txt", 8 * options.val, options.rare, seed=2))
    with experiment.step("reading test lines"):
        unseen = write_texts(work / "test.txt", 16 * options.test, 0.5, seed=3)
        weak = draw(work / "test-weak", unseen, options.test, 303, keep=is_weak)
        other = draw(work / "test-other", unseen, options.test, 304, keep=lambda text: not is_weak(text))
        engine = experiment.engine(planted)
        before = {"weak": experiment.read(engine, weak), "other": experiment.read(engine, other)}
    texts = write_texts(work / "texts.txt", 4000, options.rare, seed=4)
    after: dict[str, list[dict[str, Reading]]] = {"mined": [], "random": []}
    drawn: dict[str, list[int]] = {"mined": [], "random": []}
    for seed in range(options.seeds):
        for arm, runs in after.items():
            use = mined.out if arm == "mined" and not mined.empty else None
            data = work / f"{arm}-{seed}"
            with experiment.step(f"training on {arm} lines"):
                number = 1000 + 2 * seed + (arm == "mined")
                lines = draw(data, texts, options.lines + 4, number, mined=use, splits="rest/4/0")
                drawn[arm].append(sum(map(is_weak, texts_of(lines))))
                adapter = experiment.train(str(planted), data, options.steps, seed, arm)
            with experiment.step("reading test lines"):
                engine = experiment.engine(planted, adapter)
                runs.append({"weak": experiment.read(engine, weak), "other": experiment.read(engine, other)})
    return {
        "rows": rows_of(before, after, frozenset(WRONG)),
        "weak": _factor(before, after, "weak"),
        "other": _factor(before, after, "other"),
        "weak training lines": drawn,
        "mined": _told(mined),
        "seconds": {name: round(spent, 1) for name, spent in experiment.seconds.items()},
    }


def _factor(
    before: dict[str, Reading], after: dict[str, list[dict[str, Reading]]], name: str
) -> dict[str, Any]:
    arms = [np.array([run[name].cers() for run in after[arm]]) for arm in ("mined", "random")]
    return factor(before[name].cers(), *arms)


def _told(mined: Mined) -> dict[str, Any]:
    file = mined.out / "confusions.tsv"
    lines = file.read_text("utf-8").splitlines() if file.is_file() else []
    return {**mined.to_json(), "commonest": [line.split("\t") for line in lines[:20]]}


def main(arguments: list[str] | None = None) -> int:
    """Measures, prints the table, writes the result."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    options = parse(arguments)
    with tempfile.TemporaryDirectory(prefix="ocrsmith-mine-") as work:
        found = measure(options, Path(work))
    ratio = found["weak"]["factor"]["value"]
    mined, random = (found["weak"][f"drop {arm}"]["value"] for arm in ("mined", "random"))
    command = ["python", "-m", "benchmarks.mine", *(sys.argv[1:] if arguments is None else arguments)]
    result = {
        "benchmark": "mine",
        "how": f"nano was trained to read {', '.join(f'{a} as {b}' for a, b in WRONG.items())}, on lines that "
        "are mislabelled so; a share --rare of mixed lines has one of these signs. Both arms: as many lines "
        "from the same texts, font and look, the same recipe, steps and seeds; the mined one with "
        "--confusions and --chars as `ocrsmith mine` wrote them. Intervals: 95 %, seeds and test lines drawn "
        "anew. CER: means over lines.",
        "settings": settings_of(options),
        "target": TARGET,
        "reached": mined > 0 and mined >= TARGET * random,
        **found,
        "circumstances": circumstances(command, note=options.note, commit=options.commit),
    }
    path = write_result(options.name, result, options.results)
    print(table(found["rows"], COLUMNS))
    print(
        f"\nCER of weak lines falls {_said(found['weak'], 'drop mined')} with mined lines, "
        f"{_said(found['weak'], 'drop random')} with random ones: × {ratio and f'{ratio:.2f}'} "
        f"({found['weak']['factor']['ci95']})"
    )
    print(f"\n{path}")
    return 0


def _said(told: dict[str, Any], name: str) -> str:
    low, high = told[name]["ci95"]
    return f"{told[name]['value']:.2%} ({low:.2%} to {high:.2%})"


if __name__ == "__main__":
    sys.exit(main())
