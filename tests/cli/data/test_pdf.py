"""`ocrsmith data pdf`, from PDFs to a dataset: what is written, what is said, and what bad input gives."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from ocrsmith.cli.main import main
from ocrsmith.datasets import open_dataset
from ocrsmith.datasets.ledger import REASONS
from ocrsmith.datasets.pdf.trust import RULES
from ocrsmith.records import SPLITS

from ...datasets.pdf.pdf_files import PROSE, Document, Page, boxes, paragraph, typed

OCRSMITH = [sys.executable, "-m", "ocrsmith.cli.main"]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Four documents of two pages, one with a page that cannot be trusted, and a broken one."""
    folder = tmp_path / "source"
    folder.mkdir()
    for number in range(3):
        pages = [Page(paragraph(10 + 2 * number + page)) for page in range(2)]
        (folder / f"{number}.pdf").write_bytes(Document(pages).encode())
    mixed = [Page(paragraph(20)), Page(boxes([*range(1, 32)] * 3))]
    (folder / "mixed.pdf").write_bytes(Document(mixed).encode())
    (folder / "broken.pdf").write_bytes(b"%PDF-1.4 and no more")
    return folder


def test_a_dataset_of_pictures_and_markdown(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "data"
    assert main(["data", "pdf", str(source), "-o", str(out), "--dpi", "72", "--workers", "1", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["samples"] == 7
    assert said["excluded"] == {"unreadable": 1, "unmapped_text": 1}
    dataset = open_dataset(out)
    of_split = {split: list(dataset.iter_samples(split)) for split in SPLITS}
    groups = [group for samples in of_split.values() for group in {sample.group for sample in samples}]
    # Each once: the pages of a document lie on one side.
    assert sorted(groups) == ["0.pdf", "1.pdf", "2.pdf", "mixed.pdf"]
    everything = [sample for samples in of_split.values() for sample in samples]
    first = next(sample for sample in everything if sample.id == "0.pdf#page=1")
    assert Image.open(BytesIO(first.image)).size == (612, 792)
    assert " ".join(PROSE[:2]) in " ".join(first.text.split())
    assert first.meta["trust"] == 1.0


def test_the_summary_counts_what_was_left_out(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", "pdf", str(source), "-o", str(tmp_path / "data"), "--workers", "1"]) == 0
    out = capsys.readouterr().out
    assert "Left out: 2" in out
    assert "1  unmapped_text: " in out
    assert "mixed.pdf, line 2: unmapped_text: The page's text cannot be trusted (score 0.00" in out
    lines = (tmp_path / "data" / "excluded.jsonl").read_text().splitlines()
    assert [json.loads(line)["reason"] for line in lines] == ["unreadable", "unmapped_text"]


def test_every_reason_has_its_words() -> None:
    others = {"encrypted", "no_pages", "timed_out", "crashed", "out_of_memory", "outside", "unreadable"}
    assert {rule.reason for rule in RULES} | others <= set(REASONS)


def test_strict_leaves_nothing_out(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["data", "pdf", str(source), "-o", str(tmp_path / "data"), "--workers", "1", "--strict"]
    assert main(words) == 2
    assert "--strict" in capsys.readouterr().err
    assert not (tmp_path / "data").exists()


def test_a_single_locked_file_says_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "locked.pdf").write_bytes(typed(3, password="geheim"))
    words = ["data", "pdf", str(tmp_path / "locked.pdf"), "-o", str(tmp_path / "data"), "--workers", "1"]
    assert main(words) == 2
    err = capsys.readouterr().err
    assert "opens only with a password" in err
    assert "--password" in err
    # From the environment, no list of processes shows it.
    monkeypatch.setenv("OCRSMITH_PDF_PASSWORD", "geheim")
    assert main([*words, "--splits", "100/0/0"]) == 0
    assert "geheim" not in (tmp_path / "data" / "manifest.json").read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--dpi", "5"], "--dpi"),
        (["--pages", "5-2"], "--pages"),
        (["--trust", "7"], "--trust"),
        (["--splits", "1/2"], "--splits"),
    ],
)
def test_a_wrong_option_is_named_before_any_page_is_read(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert main(["data", "pdf", str(source), "-o", str(tmp_path / "data"), *words]) == 2
    assert message in capsys.readouterr().err


def test_data_build_takes_pdfs_too(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "build", str(source), "-o", str(tmp_path / "data"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["samples"] == 7


@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
def test_ctrl_c_kills_the_workers_and_leaves_no_dataset(tmp_path: Path) -> None:
    (tmp_path / "long.pdf").write_bytes(typed(400))
    words = ["data", "pdf", str(tmp_path / "long.pdf"), "-o", str(tmp_path / "data"), "--workers", "2"]
    process = subprocess.Popen([*OCRSMITH, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 100
    children: set[int] = set()
    while len(children) < 2 and time.monotonic() < until:
        children |= workers_of(process.pid)
        time.sleep(0.05)
    assert len(children) >= 2
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=100)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert not (tmp_path / "data").exists()
    assert not any(Path(f"/proc/{child}/cmdline").exists() and command(child) for child in children)


def workers_of(parent: int) -> set[int]:
    found = set()
    for task in Path(f"/proc/{parent}/task").glob("*/children"):
        try:
            found |= {int(child) for child in task.read_text().split()}
        except OSError:  # the thread has ended meanwhile
            continue
    return {child for child in found if "ocrsmith.datasets.pdf.worker" in command(child)}


def command(process: int) -> str:
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""
