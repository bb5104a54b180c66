"""`ocrsmith compare` as a command: what it prints and writes, options, exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ocrsmith.cli import main as cli
from ocrsmith.evaluation import Evaluation, store
from ocrsmith.evaluation.store import PageResult

TEN = "abcdefghij"
FARSI = "پژوهش تازه"
LATIN = [TEN] * 8
MIXED = [TEN] * 12 + [FARSI] * 8


@pytest.fixture
def write(tmp_path: Path) -> Any:
    """Writes an evaluation: `write(name, errors for each page, texts)`; every page is a document."""

    def make(name: str, errors: list[int], texts: list[str] = LATIN) -> str:
        results = [
            PageResult(n, f"p{n}", f"g{n}", "", text, text[: len(text) - wrong], "stop")
            for n, (text, wrong) in enumerate(zip(texts, errors, strict=True))
        ]
        folder = tmp_path / name
        folder.mkdir(parents=True)
        provenance = {"dataset": {"content_hash": "sha256:same", "split": "test", "path": "/data/other"}}
        store.save(Evaluation.of(results, provenance), folder)
        return str(folder)

    return make


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs the command; gives exit code and what it printed, as a mapping with --json."""
    monkeypatch.setenv("COLUMNS", "120")

    def run(*words: str) -> tuple[int, Any]:
        code = cli.main(["compare", *words])
        out = capsys.readouterr()
        if "--json" in words:
            return code, json.loads(out.out)
        return code, out.out if code < 2 else out.err

    return run


def test_it_writes_json_and_html(write: Any, printed: Any, tmp_path: Path) -> None:
    a, b = write("base", [5], [TEN]), write("tuned", [0], [TEN])
    code, said = printed(a, b, "-o", str(tmp_path / "out"), "--json")
    assert code == 0
    assert said["became_exact"] == [{"id": "p0", "cer_a": 0.5, "cer_b": 0.0, "change": -0.5}]
    assert json.loads((tmp_path / "out" / "comparison.json").read_text()) == said
    assert "base" in (tmp_path / "out" / "comparison.html").read_text(encoding="utf-8")


def test_it_prints_figures_verdict_and_flips(write: Any, printed: Any) -> None:
    code, said = printed(write("a", [5] * 8), write("b", [0] * 8))
    assert code == 0
    assert "8 pages of 8 documents" in said
    assert "−100.0 %" in said
    assert "95 % interval −50.00 to −50.00 (relative −100.0 % to −100.0 %): B is better" in said
    assert "p = 0.0078" in said
    assert "chrF" in said
    assert "8 became exact" in said
    assert "Worst regressions" not in said


def test_worst_regressions_are_named_first(write: Any, printed: Any) -> None:
    _, said = printed(write("a", [1] * 8), write("b", [2, 9, 3, 8, 4, 5, 6, 0]))
    lines = said[said.index("Worst regressions") :].splitlines()[1:6]
    assert [line.split()[0] for line in lines] == ["p1", "p3", "p6", "p5", "p4"]
    assert lines[0].strip() == "p1  10.0 % → 90.0 %"


def test_a_hidden_regression_is_said_on_the_terminal_in_json_and_in_html(
    write: Any, printed: Any, tmp_path: Path
) -> None:
    a, b = write("a", [5] * 12 + [0] * 8, MIXED), write("b", [0] * 12 + [2] * 8, MIXED)
    sentence = "Improved overall, but worse on language fa: +20.0 points."
    _, said = printed(a, b, "-o", str(tmp_path / "out"))
    assert f"Warning: {sentence}" in said
    assert "language fa" in said
    assert printed(a, b, "--json")[1]["warnings"] == [sentence]
    assert sentence in (tmp_path / "out" / "comparison.html").read_text(encoding="utf-8")


def test_several(write: Any, printed: Any, tmp_path: Path) -> None:
    folders = [write("base", [5] * 8), write("one", [1] * 8), write("two", [6] * 8)]
    code, said = printed(*folders, "-o", str(tmp_path / "out"))
    assert code == 0
    assert "★ 10.00 %" in said
    assert "one: mean CER −40.00 points" in said
    assert "better" in said
    assert "(Holm, 2 comparisons)" in said
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "comparison-1.html",
        "comparison-2.html",
        "comparison.html",
        "comparison.json",
    ]
    assert printed(*folders, "--json")[1] == json.loads((tmp_path / "out" / "comparison.json").read_text())


def test_folders_of_one_name_go_by_their_paths(write: Any, printed: Any) -> None:
    folders = [write(f"{name}/eval", [5] * 8) for name in ("x", "y", "z")]
    assert printed(*folders, "--json")[1]["names"] == folders


def forgetting(*folders: str) -> list[str]:
    return [word for folder in folders for word in ("--forgetting", folder)]


@pytest.mark.parametrize(
    ("tuned", "tuned_general", "code"),
    [(1, 1, 0), (9, 1, 1), (1, 4, 1)],
    ids=["good", "worse", "forgotten"],
)
def test_exit_code_1_where_it_is_worse_or_has_forgotten(
    write: Any, printed: Any, tuned: int, tuned_general: int, code: int
) -> None:
    main = [write("base", [5] * 8), write("tuned", [tuned] * 8)]
    general = forgetting(write("base2", [1] * 8), write("tuned2", [tuned_general] * 8))
    assert printed(*main, *general)[0] == 0  # unless asked for, a comparison only tells
    assert printed(*main, *general, "--fail-if-worse")[0] == code


def test_forgetting_on_the_terminal(write: Any, printed: Any) -> None:
    main = [write("base", [5] * 8), write("tuned", [1] * 8)]
    general = forgetting(write("base2", [1] * 8), write("tuned2", [4] * 8))
    _, said = printed(*main, *general)
    assert "Other pages (other, test, 8): mean CER 10.00 % → 40.00 %, +30.00 points" in said
    assert "Forgotten: yes (the whole interval is above the 1 pp allowed)." in said
    _, said = printed(*main, *general, "--max-forgetting", "0.5")
    assert "Forgotten: no (the whole interval is below the 50 pp allowed)." in said


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ([], "Missing argument 'TUNED"),
        (["TUNED", "--max-forgetting", "2"], "Give a number from 0 to 1"),
        (["TUNED", "--forgetting", "TUNED"], "once for each evaluation, in the same order"),
        (["missing"], "No such evaluation folder"),
    ],
    ids=["one", "margin", "forgetting", "missing"],
)
def test_what_cannot_be_used_is_said(write: Any, printed: Any, words: list[str], named: str) -> None:
    base, tuned = write("base", [5] * 8), write("tuned", [1] * 8)
    code, said = printed(base, *[tuned if word == "TUNED" else word for word in words])
    assert code == 2
    assert named in said


def test_nothing_is_written_without_a_folder(write: Any, printed: Any, tmp_path: Path) -> None:
    a, b = write("a", [5] * 8), write("b", [1] * 8)
    before = sorted(path for path in tmp_path.rglob("*"))
    printed(a, b)
    assert sorted(path for path in tmp_path.rglob("*")) == before
