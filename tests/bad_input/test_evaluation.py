"""Bad input to `eval` and `compare`: one clear message, exit code 2, nothing half-written."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ocrsmith.cli import main as cli
from ocrsmith.engines.base import PageRequest
from ocrsmith.errors import DataError, OutputError
from ocrsmith.evaluation import Evaluation, evaluate, store
from ocrsmith.evaluation.store import PageResult
from ocrsmith.records import PageSample, Prediction, SplitName

PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 40


class OnePage:
    """A dataset with one sample."""

    content_hash = "sha256:one"
    prompt = "<image>\nFree OCR."

    def count(self, split: SplitName) -> int:
        return 1 if split == "test" else 0

    def iter_samples(self, split: SplitName) -> Iterator[PageSample]:
        yield PageSample(id="only", image=PNG, image_path="only.png", text="text")


class Parrot:
    """Answers "text" to everything."""

    name = "parrot"

    def describe(self) -> dict[str, Any]:
        return {"answer": "text"}

    def read(self, requests: Sequence[PageRequest], *, progress: Any = None) -> Iterator[Prediction]:
        for request in requests:
            yield Prediction(request.id, "text", "stop", seconds=0.1)


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    """A finished evaluation of two pages."""
    folder = tmp_path / "finished"
    folder.mkdir()
    results = [PageResult(n, f"p{n}", "", "", "abc", "abd", "stop") for n in range(2)]
    store.save(Evaluation.of(results, {}), folder)
    return folder


def complains(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Runs a command that has to end with exit code 2 and one message; returns it."""
    assert cli.main(words) == 2
    message = capsys.readouterr().err
    assert message.count("Error:") == 1
    assert "mend:" in message
    assert "Traceback" not in message
    return message


def test_a_dataset_with_one_sample_is_evaluated(tmp_path: Path) -> None:
    metrics = evaluate(Parrot(), OnePage(), "test", tmp_path)
    assert (metrics.n, metrics.cer.mean, metrics.cer.std, metrics.cer.p95) == (1, 0, 0, 0)
    assert metrics.cer.mean_ci95 == (0, 0)


def test_an_output_that_is_a_file(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_text("mine")
    with pytest.raises(OutputError, match="output is a file"):
        evaluate(Parrot(), OnePage(), "test", target)
    assert target.read_text() == "mine"


def test_an_output_below_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OutputError, match="Not a directory"):
        evaluate(Parrot(), OnePage(), "test", tmp_path / "file" / "out")


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_evaluation import OnePage, Parrot
from ocrsmith.errors import OutputError
from ocrsmith.evaluation import evaluate
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]),) * 2)  # a write beyond it fails, as on a full disk
try:
    evaluate(Parrot(), OnePage(), "test", Path(sys.argv[1]))
except OutputError as error:
    print(error)
"""


@pytest.mark.parametrize(("room", "left"), [(50, set()), (800, {"journal.jsonl"}), (16_000, None)])
def test_a_full_disk_leaves_no_half_file(tmp_path: Path, room: int, left: set[str] | None) -> None:
    words = [sys.executable, "-c", FULL_DISK, str(tmp_path), str(Path(__file__).parent), str(room)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert "The disk is full: File too large." in done.stdout
    assert str(tmp_path) in done.stdout
    names = {path.name for path in tmp_path.iterdir()}
    assert not [name for name in names if name.endswith(".part")]
    assert names - {"journal.jsonl"} == set() if left is not None else "metrics.json" in names
    assert evaluate(Parrot(), OnePage(), "test", tmp_path).n == 1  # with room again, it goes on


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b'{"format": 1, "settings": {}}\n{broken\n', "damaged"),
        (PNG + b"\n", "damaged"),
        (b'{"format": 99, "settings": {}}\n', "another version"),
        (b'["a list"]\n', "damaged"),
    ],
)
def test_a_damaged_journal(tmp_path: Path, content: bytes, problem: str) -> None:
    journal = tmp_path / store.JOURNAL
    journal.write_bytes(content)
    with pytest.raises(OutputError, match=problem) as caught:
        evaluate(Parrot(), OnePage(), "test", tmp_path)
    assert "--overwrite" in str(caught.value)
    assert journal.read_bytes() == content
    assert evaluate(Parrot(), OnePage(), "test", tmp_path, overwrite=True).n == 1


def test_a_journal_with_a_strange_page(tmp_path: Path) -> None:
    class Stopped(Parrot):
        def read(self, requests: Any, *, progress: Any = None) -> Iterator[Prediction]:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(Stopped(), OnePage(), "test", tmp_path)
    with (tmp_path / store.JOURNAL).open("a") as file:
        file.write('{"id": 7}\n')
    with pytest.raises(DataError, match="not a page's result"):
        evaluate(Parrot(), OnePage(), "test", tmp_path)


def test_comparing_what_is_no_evaluation(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    assert "No such evaluation folder" in complains(["compare", str(finished), str(tmp_path / "none")], capsys)
    assert "not an evaluation folder" in complains(["compare", str(tmp_path / "empty"), str(finished)], capsys)
    (tmp_path / "empty" / store.JOURNAL).write_text("{}\n")
    assert "not finished" in complains(["compare", str(tmp_path / "empty"), str(finished)], capsys)


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("predictions.parquet", b"", "empty (0 bytes)"),
        ("predictions.parquet", PNG, "cannot be read"),
        ("predictions.parquet", None, "cannot be read"),
        ("metrics.json", PNG, "cannot be read as an evaluation's figures"),
        ("metrics.json", b"[]", "cannot be read as an evaluation's figures"),
        ("metrics.json", b'{"n": 2, "cer": {}}', "The figure 'mean' is missing"),
    ],
)
def test_comparing_a_damaged_evaluation(
    finished: Path, capsys: pytest.CaptureFixture[str], name: str, content: bytes | None, problem: str
) -> None:
    if content is None:
        (finished / name).unlink()
    else:
        (finished / name).write_bytes(content)
    message = complains(["compare", str(finished), str(finished)], capsys)
    assert problem in message
    assert name in message


def test_predictions_of_another_program(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pq.write_table(pa.table({"id": ["p0"], "text": ["x"]}), finished / "predictions.parquet")
    message = complains(["compare", str(finished), str(finished)], capsys)
    assert "Columns are missing: group, image_path, reference, prediction" in message


def test_figures_and_predictions_of_two_evaluations(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figures = json.loads((finished / "metrics.json").read_text())
    (finished / "metrics.json").write_text(json.dumps({**figures, "n": 3}))
    message = complains(["compare", str(finished), str(finished)], capsys)
    assert "predictions.parquet has 2 pages, metrics.json speaks of 3" in message


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--split", "dev"], "--split"),
        (["--batch-size", "0"], "--batch-size"),
        (["--batch-size", "many"], "--batch-size"),
        (["--limit", "-1"], "--limit"),
        (["--max-new-tokens", "0"], "--max-new-tokens"),
        (["--mode", "huge"], "--mode"),
        (["--device", "tpu"], "--device"),
        (["--dtype", "int8"], "--dtype"),
        (["--adaptor", "x"], "--adaptor"),
    ],
)
def test_wrong_option_values(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], named: str
) -> None:
    out = tmp_path / "out"
    given = ["eval", "--model", "nano", "--data", str(tmp_path), "-o", str(out), *words]
    assert named in complains(given, capsys)
    assert not out.exists()


def test_a_missing_dataset_is_found_before_the_model_is_loaded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    words = ["eval", "--model", "no/such-model", "--data", str(tmp_path / "none"), "-o", str(out)]
    assert "There is no dataset here" in complains(words, capsys)
    assert not out.exists()


def test_a_model_that_does_not_exist(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = {"image": [{"bytes": PNG, "path": "p.png"}], "text": ["a"]}
    pq.write_table(pa.table(rows), tmp_path / "test-00000-of-00001.parquet")
    words = ["eval", "--model", "nanno", "--data", str(tmp_path), "-o", str(tmp_path / "out")]
    assert "No model 'nanno'" in complains(words, capsys)
    assert not (tmp_path / "out").exists()


def test_a_label_file_given_as_a_dataset(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "content.md").write_text("p.png\ttext\n")
    words = ["eval", "--model", "nano", "--data", str(tmp_path / "content.md"), "-o", str(tmp_path / "out")]
    message = complains(words, capsys)
    assert "This is a file, not a dataset." in message
    assert f"ocrsmith data build {tmp_path / 'content.md'} -o DIR" in message
