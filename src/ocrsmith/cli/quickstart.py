"""`ocrsmith quickstart`: the main job on bundled pages, step by step as with the single commands."""

from __future__ import annotations

import json
import shutil
import sys
import time
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ocrsmith.cli import output
from ocrsmith.cli.compare.tables import print_comparison
from ocrsmith.cli.progress import PageBar
from ocrsmith.errors import OutputError, require
from ocrsmith.settings.files import write_text

if TYPE_CHECKING:
    from rich.console import Console

    from ocrsmith.datasets import Dataset
    from ocrsmith.evaluation import Comparison, Metrics

MAX_NEW_TOKENS = 64
"""The longest line of the archive has 43 characters; a token of nano is a character."""

PARTS = ("data", "base", "run", "tuned", "comparison", "summary.json")
"""What the command writes, and all that it may throw away."""


def quickstart(
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder to write.")] = Path("quickstart"),
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Throw away an earlier quickstart in the folder.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")] = False,
) -> None:
    """Run the whole story on bundled pages: dataset, baseline, fine-tuning, comparison.

    Offline, on a CPU, in minutes: the bundled nano model reads an archive of
    faded typescript badly, learns from 250 lines of it, and is measured on
    documents it has not seen. The same commands do it for your own pages and
    for the 3B model; they are printed at the end.
    """
    require("torch", extra="train", why="The quickstart")
    require("peft", extra="train", why="The quickstart")
    started = time.monotonic()
    _clear(out, overwrite=overwrite)
    try:
        base, tuned, comparison = _run(out)
    except KeyboardInterrupt:
        output.notes().print(
            f"What is finished is kept in {out}. To begin again: ocrsmith quickstart -o {out} --overwrite",
            markup=False,
            soft_wrap=True,
        )
        raise
    summary = {
        "base": base.to_json(),
        "tuned": tuned.to_json(),
        "relative_change": {"cer.mean": tuned.cer.mean / base.cer.mean - 1},
        "verdict": comparison.verdict,
        "seconds": round(time.monotonic() - started, 1),
        "peak_rss_mb": round(_peak_rss_mb(), 1),
    }
    write_text(out / "summary.json", json.dumps(summary, indent=2) + "\n")
    if as_json:
        output.print_json(summary)
    _say_what_next(out, summary, output.console())


def _run(out: Path) -> tuple[Metrics, Metrics, Comparison]:
    """The five steps; gives the figures before and after, and what changed."""
    remarks = output.notes()
    dataset = _build(out / "data", remarks)
    base = _evaluate(dataset, out / "base", None, "2 of 5  Baseline: how well does nano read it?", remarks)
    _train(dataset, out / "run", remarks)
    adapter = out / "run" / "adapter"
    tuned = _evaluate(dataset, out / "tuned", adapter, "4 of 5  The same pages with the adapter", remarks)
    return base, tuned, _compare(out, remarks)


def _clear(out: Path, *, overwrite: bool) -> None:
    """Makes room: refuses a folder with anything in it, or with --overwrite with anything of somebody else."""
    if out.exists() and not out.is_dir():
        raise OutputError(f"{out} is a file.", place="--out", mend="give a folder")
    found = sorted(path.name for path in out.iterdir()) if out.exists() else []
    foreign = [name for name in found if name not in PARTS]
    if foreign:
        raise OutputError(
            f"{out} holds other files ({', '.join(foreign[:3])}).", place="--out", mend="give an empty folder"
        )
    if found and not overwrite:
        raise OutputError(
            f"{out} holds an earlier quickstart.", place="--out", mend="give --overwrite, or another folder"
        )
    for name in found:
        path = out / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    out.mkdir(parents=True, exist_ok=True)


def _build(out: Path, console: Console) -> Dataset:
    from ocrsmith.datasets import BuildSettings, build_dataset, open_dataset

    console.print("\n[bold]1 of 5  Dataset[/]: 360 lines of an archive, split by document")
    with resources.as_file(resources.files("ocrsmith.nano") / "sample_archive") as folder:
        settings = BuildSettings(splits="rest/36/72", group_by="stem-prefix:_")
        summary = build_dataset([str(folder / "content.md")], out, settings)
    counts = ", ".join(f"{count} {split}" for split, count in summary.counts.items())
    left_out, documents = sum(summary.excluded.values()), sum(summary.groups.values())
    console.print(f"  {counts} lines of {documents} documents; {left_out} left out")
    return open_dataset(out)


def _evaluate(dataset: Dataset, out: Path, adapter: Path | None, title: str, console: Console) -> Metrics:
    from ocrsmith.engines.native import NativeEngine
    from ocrsmith.engines.retries import RetryLoops
    from ocrsmith.evaluation import evaluate
    from ocrsmith.evaluation.conclude import Conclusions
    from ocrsmith.model.host_memory import keep_freed_memory

    console.print(f"\n[bold]{title}[/]")
    keep_freed_memory()
    engine = NativeEngine.load("nano", adapter=adapter, max_new_tokens=MAX_NEW_TOKENS, device="cpu")
    conclusions = Conclusions(base=None if adapter is None else out.with_name("base"))
    with PageBar(then="Scoring") as bar:
        metrics = evaluate(RetryLoops(engine), dataset, "test", out, conclusions=conclusions, progress=bar)
    console.print(f"  {metrics.n} lines in {metrics.seconds:.0f} s: mean CER [bold]{metrics.cer.mean:.1%}[/]")
    return metrics


def _train(dataset: Dataset, out: Path, console: Console) -> None:
    from ocrsmith.cli.train import prepare_run, resolve_settings

    console.print("\n[bold]3 of 5  Fine-tuning with LoRA[/]")
    recipe = resources.files("ocrsmith.nano") / "quickstart.yaml"
    with resources.as_file(recipe) as file:
        run = prepare_run(resolve_settings({"data": str(dataset.path)}, config=file))
    run.explain()
    result = run.train(out)
    if result.interrupted:
        raise KeyboardInterrupt


def _compare(out: Path, console: Console) -> Comparison:
    from ocrsmith.evaluation import compare, save_comparison

    console.print("\n[bold]5 of 5  Comparison[/]: A is nano as it comes, B is nano with the adapter")
    comparison = compare(out / "base", out / "tuned")
    save_comparison(comparison, out / "comparison", names=("base", "tuned"))
    print_comparison(comparison, None)
    return comparison


def _peak_rss_mb() -> float:
    """Most memory this process has held, in MiB."""
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def _say_what_next(out: Path, summary: dict[str, Any], console: Console) -> None:
    change = summary["relative_change"]["cer.mean"]
    console.print(
        f"\n[bold]Mean CER {summary['base']['cer']['mean']:.1%} → {summary['tuned']['cer']['mean']:.1%} "
        f"({change:+.0%})[/] in {summary['seconds']:.0f} s, with at most {summary['peak_rss_mb']:,.0f} MB."
    )
    lines = [
        "",
        "Where everything is:",
        f"  {out}/comparison/comparison.html   before and after, page by page",
        f"  {out}/base/report.html, {out}/tuned/report.html",
        f"  {out}/run/adapter   the adapter, in PEFT's format",
        f"  {out}/data   the dataset; excluded.jsonl lists what was left out",
        "",
        "For pages of your own (a line `image path<tab>text` for each image):",
        "  ocrsmith data build pages/content.md -o data",
        "  ocrsmith eval --model nano --data data -o evals/base",
        "  ocrsmith train --model nano --data data -o runs/first",
        "  ocrsmith eval --model nano --adapter runs/first/adapter --data data -o evals/first",
        "  ocrsmith compare evals/base evals/first -o evals/comparison",
        "  ocrsmith ocr pages -o read --model nano --adapter runs/first/adapter",
        "",
        "The same for the 3B model on a GPU: --model deepseek-ai/DeepSeek-OCR (see `ocrsmith doctor`).",
    ]
    console.print("\n".join(lines), markup=False, soft_wrap=True)
