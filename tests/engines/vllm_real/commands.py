"""`ocrsmith`'s commands, run as a user would run them, and what two evaluations have in common."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ocrsmith.cli.main import main
from ocrsmith.evaluation.store import PREDICTIONS, load_figures, load_predictions

from .checkpoint import TOKENS, make_page

READING = ("--max-new-tokens", str(TOKENS), "--dtype", "float32", "--batch-size", "2")
APART_SECONDS = 1500.0


def command(*words: str) -> None:
    """Runs `ocrsmith` with these words; anything but exit code 0 fails the test."""
    code = main(words)
    assert code == 0, f"ocrsmith {' '.join(words)} ended with {code}"


def command_apart(*words: str, **environment: str) -> None:
    """As `command`, in a process of its own: all that it started must end with it."""
    begin = [sys.executable, "-m", "ocrsmith.cli.main"]
    done = subprocess.run([*begin, *words], env={**os.environ, **environment}, timeout=APART_SECONDS)
    assert done.returncode == 0, f"ocrsmith {' '.join(words)} ended with {done.returncode}"


def evaluate(out: Path, pages: Path, *options: str, run: Callable[..., None] = command) -> Path:
    """Runs `ocrsmith eval` over the pages. Returns its folder."""
    run("eval", "--data", str(pages), "--split", "train", "-o", str(out), *options)
    return out


def build(out: Path, texts: dict[tuple[int, int], str], splits: str) -> Path:
    """Runs `ocrsmith data build` on drawn pages of these sizes (width, height) with these texts."""
    source = out.with_name(f"{out.name}_source")
    source.mkdir()
    with (source / "pages.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["image", "text"])
        for number, ((width, height), text) in enumerate(texts.items()):
            (source / f"{number}.png").write_bytes(make_page(100 + number, width, height))
            rows.writerow([f"{number}.png", text])
    command("data", "build", str(source / "pages.csv"), "-o", str(out), "--splits", splits)
    return out


def assert_same_evaluation(there: Path, here: Path) -> None:
    """Two engines read the same on every page, and so have the same figures; only their times differ."""
    read = [{page.id: page for page in load_predictions(folder / PREDICTIONS)} for folder in (there, here)]
    assert read[0].keys() == read[1].keys()
    for name, expected in read[1].items():
        page = read[0][name]
        assert (page.prediction, page.finish_reason, page.error) == (
            expected.prediction,
            expected.finish_reason,
            None,
        )
        assert (page.tokens, page.token_ends) == (expected.tokens, expected.token_ends)
        assert page.token_logprobs == pytest.approx(expected.token_logprobs, abs=1e-3)
    assert len({page.prediction for page in read[1].values()}) == len(read[1]), (
        "the model tells the pages apart"
    )
    figures, wanted = (_figures(folder) for folder in (there, here))
    assert figures == wanted
    assert {"n", "cer", "exact_match", "loops", "failed"} <= figures.keys()


def _figures(folder: Path) -> dict[str, Any]:
    """What metrics.json says of the texts: no times, and no log-probabilities, which agree but to rounding."""
    figures = load_figures(folder)
    return {
        name: value for name, value in figures.items() if name not in ("seconds", "provenance", "confidence")
    }
