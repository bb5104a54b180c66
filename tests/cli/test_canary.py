"""`ocrsmith canary`: status, report, review, correct and resume on a store that a server has filled."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ocrsmith.cli.main import main
from ocrsmith.serving.canary import open_store

from ..serving.canary.filling import fill


@pytest.fixture
def store(tmp_path: Path) -> str:
    place = str(tmp_path / "canary.db")
    fill(place, pages=12, base=lambda true: f"x{true}", candidate=str, correct=False)
    return place


def write_corrections(folder: Path) -> str:
    rows = [{"id": f"chatcmpl-{number}", "text": f"the true text {number}"} for number in range(12)]
    (folder / "c.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return str(folder / "c.jsonl")


def test_the_way_of_a_correction(store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["canary", "report", store]) == 0
    assert "Not yet known" in capsys.readouterr().out
    file = write_corrections(tmp_path)
    assert main(["canary", "report", store, "--corrections", file]) == 0
    assert "The candidate is better" in capsys.readouterr().out
    assert main(["canary", "correct", store, file]) == 0
    assert "12 pages corrected." in capsys.readouterr().out
    for name in ("report.html", "report.md"):
        assert main(["canary", "report", store, "-o", str(tmp_path / name)]) == 0
        assert "The candidate is better" in (tmp_path / name).read_text(encoding="utf-8")
    assert main(["canary", "report", store, "-o", str(tmp_path / "report.pdf")]) == 2
    assert main(["canary", "report", store, "--json"]) == 0
    capsys.readouterr()
    assert main(["canary", "report", store, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["verdict"]["verdict"] == "better"


def test_status_says_how_it_stands_and_resume_ends_a_rollback(
    store: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["canary", "resume", store]) == 0
    assert "Nothing was rolled back" in capsys.readouterr().out
    with open_store(store) as opened:
        opened.roll_back(1, "A", "B<b>", {"because": "loops > 0.01 (0.5)", "answers": 60.0})
    assert main(["canary", "status", store]) == 0
    told = capsys.readouterr().out
    assert "Rolled back at" in told
    assert "loops > 0.01 (0.5), over 60 answers" in told
    assert "Kept: 12 pages" in told
    assert main(["canary", "resume", store, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"resumed": True, "round": 2}
    assert main(["canary", "status", store, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rolled_back"] is None


def test_review(store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["canary", "review", store, "-o", str(tmp_path / "queue"), "--count", "5"]) == 0
    told = capsys.readouterr().out
    assert "5 pages: " in told
    assert f"ocrsmith canary correct {store} {tmp_path / 'queue'}" in told
    assert main(["canary", "correct", store, str(tmp_path / "queue")]) == 0
    captured = capsys.readouterr()
    assert "0 pages corrected." in captured.out
    assert "5 pages left out: no mark" in captured.err


def test_bad_input_is_explained(store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bad.jsonl").write_text('{"id": "chatcmpl-1", "text": "x"}\n{"id": "none", "text": "x"}\n')
    assert main(["canary", "correct", store, str(tmp_path / "bad.jsonl")]) == 2
    assert "line 2: 'none' is no request" in capsys.readouterr().err
    with open_store(store) as opened:
        assert opened.corrections() == {}, "nothing half-applied"
    for command in ("status", "report", "resume"):
        assert main(["canary", command, str(tmp_path / "none.db")]) == 2
        assert "There is no such store" in capsys.readouterr().err
    open_store(str(tmp_path / "new.db"), create=True).close()
    assert main(["canary", "status", str(tmp_path / "new.db")]) == 2
    assert "No canary was ever started" in capsys.readouterr().err
    assert main(["canary", "status", "postgresql://me:secret@127.0.0.1:1/d"]) == 2
    captured = capsys.readouterr()
    assert "postgresql://me:***@127.0.0.1:1/d" in captured.err
    assert "secret" not in captured.err + captured.out
