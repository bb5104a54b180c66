"""Ctrl-C in the commands that take a while: exit code 130, nothing half-written, and how to go on is said.

`train` and `data build` are tested with the other tests of training and datasets.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ocrsmith.cli.main import main

from ..training.conftest import digits, make_model, model_folder, processor  # noqa: F401

OCRSMITH = [sys.executable, "-m", "ocrsmith.cli.main"]


def interrupted(words: list[str | Path], begun: Callable[[], bool]) -> subprocess.CompletedProcess[str]:
    """Starts a command, sends SIGINT as soon as `begun` says so, and waits for its end."""
    process = subprocess.Popen(
        [*OCRSMITH, *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    until = time.monotonic() + 200
    while time.monotonic() < until and process.poll() is None and not begun():
        time.sleep(0.05)
    assert process.poll() is None, "it ended before it could be interrupted"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert err.rstrip().endswith("Interrupted.")
    assert "Traceback" not in err
    return subprocess.CompletedProcess(words, 130, out, err)


def source(folder: Path, lines: int) -> Path:
    folder.mkdir()
    samples = digits(20)
    for sample in samples:
        (folder / sample.image_path).write_bytes(sample.image)
    rows = [f"{samples[n % 20].image_path}\tline {n}\n" for n in range(lines)]
    (folder / "content.md").write_text("".join(rows))
    return folder / "content.md"


def test_eval_keeps_what_was_read_and_goes_on_there(model_folder: Path, tmp_path: Path) -> None:  # noqa: F811
    labels, out = source(tmp_path / "source", 200), tmp_path / "out"
    assert (
        main(["data", "build", str(labels), "-o", str(tmp_path / "data"), "--splits", "rest/0/150", "-q"]) == 0
    )
    words = ["eval", "--model", model_folder, "--data", tmp_path / "data", "-o", out, "--batch-size", "1"]
    words += ["--device", "cpu", "--max-new-tokens", "40"]
    journal = out / "journal.jsonl"
    done = interrupted(words, lambda: journal.is_file() and len(journal.read_text().splitlines()) > 3)
    assert "run the same command again" in done.stderr
    assert done.stdout == ""
    assert [path.name for path in out.iterdir()] == ["journal.jsonl"]
    before = journal.read_text().splitlines()
    assert f"{len(before) - 1} of 150 pages are kept in {out}" in done.stderr
    again = subprocess.run([*OCRSMITH, *map(str, words)], capture_output=True, text=True, check=True)
    assert "150 pages" in again.stdout
    assert {path.name for path in out.iterdir()} == {"predictions.parquet", "metrics.json", "report.html"}


@pytest.mark.timeout(400)
def test_quickstart_says_how_to_begin_again(tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = interrupted(["quickstart", "-o", out, "--json"], lambda: (out / "base" / "journal.jsonl").is_file())
    assert f"ocrsmith quickstart -o {out} --overwrite" in done.stderr
    assert json.loads(done.stdout)["error"]["exit_code"] == 130
    assert not (out / "summary.json").exists()
    assert not (out / "base" / "metrics.json").exists()
