"""`ocrsmith report`: every form, to a file and to stdout, and options that do not go together."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path

import pytest
from defusedxml import ElementTree
from PIL import Image

from ocrsmith.cli.main import main
from ocrsmith.settings.provenance import file_sha256


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An evaluation of three pages, of which one was read wrongly."""
    folder = tmp_path_factory.mktemp("report")
    for number in range(3):
        Image.new("RGB", (60, 20), (255, 255, 40 * number)).save(folder / f"{number}.png")
    (folder / "content.md").write_text("".join(f"{n}.png\ttext {n}\n" for n in range(3)), encoding="utf-8")
    build = ["data", "build", str(folder / "content.md"), "-o", str(folder / "data")]
    assert main([*build, "--splits", "rest/0/2"]) == 0
    texts = {f"{number}.png": "=text" if number == 1 else f"text {number}" for number in range(3)}
    lines = [json.dumps({"id": name, "prediction": text}) for name, text in texts.items()]
    (folder / "read.jsonl").write_text("\n".join(lines), encoding="utf-8")
    words = ["--engine", "file", "--predictions", str(folder / "read.jsonl"), "--data", str(folder / "data")]
    assert main(["eval", *words, "-o", str(folder / "eval")]) == 0
    return folder / "eval"


def test_every_text_form_goes_to_stdout(evaluated: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    said = {}
    for name in ("md", "json", "csv", "junit"):
        assert main(["report", str(evaluated), "--format", name]) == 0
        captured = capfdbinary.readouterr()
        assert captured.err == b""
        said[name] = captured.out.decode("utf-8")
    assert said["md"].startswith("## ")
    pages = json.loads(said["json"])["pages"]
    rows = list(csv.DictReader(io.StringIO(said["csv"], newline="")))
    assert [row["id"] for row in rows] == [page["id"] for page in pages]
    assert {row["prediction"] for row in rows} >= {"'=text"} or all(
        "=" not in row["prediction"] for row in rows
    )
    assert len(ElementTree.fromstring(said["junit"]).findall("testsuite/testcase")) == len(rows) == 2


def test_a_file_is_written_and_told(
    evaluated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "report.xml"
    words = ["report", str(evaluated), "--format", "junit", "--fail-above", "0.1", "-o", str(out), "--json"]
    assert main(words) == 0
    assert json.loads(capsys.readouterr().out) == {"format": "junit", "file": str(out), "pages": 2}
    assert ElementTree.fromstring(out.read_text(encoding="utf-8")).get("tests") == "2"


def test_html_is_made_again_in_its_place_with_the_pages(
    evaluated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (evaluated / "report.html").unlink()
    assert main(["report", str(evaluated)]) == 0
    page = (evaluated / "report.html").read_text(encoding="utf-8")
    assert "data:image/" in page
    assert main(["report", str(evaluated), "-o", str(tmp_path / "other.html")]) == 0
    assert (tmp_path / "other.html").read_text(encoding="utf-8") == page
    assert str(tmp_path / "other.html") in capsys.readouterr().err.replace("\n", "")


def test_before_and_after_come_back_while_the_base_is_there(
    evaluated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base, tuned = tmp_path / "base", tmp_path / "tuned"
    shutil.copytree(evaluated, base)
    shutil.copytree(evaluated, tuned)
    content = json.loads((tuned / "metrics.json").read_text(encoding="utf-8"))
    asked = {"path": str(base), "sha256": file_sha256(base / "metrics.json")}
    content["provenance"]["conclusions"] = {"base": asked}
    (tuned / "metrics.json").write_text(json.dumps(content), encoding="utf-8")
    assert main(["report", str(tuned), "-o", str(tmp_path / "with.html")]) == 0
    assert "Warning" not in capsys.readouterr().err
    shutil.rmtree(base)
    assert main(["report", str(tuned), "-o", str(tmp_path / "without.html")]) == 0
    assert "gone or has changed" in capsys.readouterr().err
    sizes = [(tmp_path / name).stat().st_size for name in ("with.html", "without.html")]
    assert sizes[0] > sizes[1]


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--format", "md", "--fail-above", "0.1"], "no tests that could fail"),
        (["--format", "junit", "--fail-above", "-1"], "The bound is -1"),
        (["--format", "junit", "--fail-above", "nan"], "The bound is nan"),
        (["--format", "csv", "--json"], "would go to stdout"),
        (["--format", "pdf"], "pdf"),
        (["--format", "csv", "-o", "."], "cannot be written"),
    ],
    ids=["not-junit", "below", "nan", "two-outputs", "unknown", "folder"],
)
def test_a_wrong_option_is_told(
    words: list[str], problem: str, evaluated: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(evaluated), *words]) == 2
    said = capsys.readouterr()
    assert problem in said.err + said.out
    assert "Traceback" not in said.err


def test_a_folder_without_an_evaluation_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(tmp_path), "--format", "csv"]) == 2
    assert "not an evaluation folder" in capsys.readouterr().err
