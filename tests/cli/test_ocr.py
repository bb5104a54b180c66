"""`ocrsmith ocr`: files in, Markdown, text and JSON out; what fails is listed, what was read is kept."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ocrsmith.cli.main import main
from ocrsmith.cli.ocr import EngineName
from ocrsmith.engines import registry

from ..datasets.pdf.pdf_files import typed
from ..reading.conftest import LINES, StandIn, line_image, one_process, write_pdf, write_png, write_tiff  # noqa: F401

Said = pytest.CaptureFixture[str]


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    """Stands in for whatever engine is asked for."""
    stand_in = StandIn()
    monkeypatch.setattr(registry, "open_engine", lambda name, **options: stand_in)
    return stand_in


def ocr(*words: str | Path) -> int:
    return main(["ocr", *map(str, words)])


def test_the_options_name_every_engine_that_reads_images() -> None:
    assert {one.value for one in EngineName} | {"file"} >= set(registry.ENGINES)


def test_the_bundled_model_reads_a_folder(tmp_path: Path, capsys: Said) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    (folder / "deep").mkdir(parents=True)
    line_image("Total 1234").save(folder / "one.png")
    write_tiff(folder / "deep" / "three.tif", [line_image(line) for line in LINES])
    words = ["--model", "nano", "--device", "cpu", "--max-new-tokens", "40", "--format", "md,txt,json"]
    assert ocr(folder, "-o", out, *words, "--json") == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["documents"], summary["pages"], summary["failed"]) == (2, 4, [])
    assert len(summary["files"]) == 6
    assert (out / "one.md").read_text() == "Total 1234\n"
    assert (out / "one.txt").read_text() == "Total 1234\n"
    document = json.loads((out / "deep" / "three.json").read_text())
    assert [page["text"] for page in document["pages"]] == list(LINES)
    assert document["engine"]["processing"]["mode"] == "tiny"
    assert document["engine"]["loop_retries"]


def test_one_document_goes_to_stdout(engine: StandIn, tmp_path: Path, capsys: Said) -> None:
    page = write_png(tmp_path / "x.png")
    assert ocr(page) == 0
    assert capsys.readouterr().out == "width 100\n"
    assert ocr(page, "--json") == 0
    assert json.loads(capsys.readouterr().out)["pages"][0]["text"] == "width 100"
    assert ocr(page, "--format", "txt") == 0
    assert capsys.readouterr().out == "width 100\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.png"]


@pytest.mark.parametrize("kind", ["png", "pdf"])
def test_standard_input_is_read(
    kind: str, engine: StandIn, tmp_path: Path, capsys: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_png(tmp_path / "x.png") if kind == "png" else write_pdf(tmp_path / "x", ["a line"])
    stdin = io.TextIOWrapper(io.BytesIO(path.read_bytes()))
    monkeypatch.setattr(sys, "stdin", stdin)
    assert ocr("-") == 0
    assert capsys.readouterr().out == ("width 100\n" if kind == "png" else "width 600\n")


def test_a_searchable_pdf_goes_to_a_file_or_a_pipe(
    engine: StandIn, tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    page = write_png(tmp_path / "x.png")
    assert ocr(page, "--format", "pdf") == 0
    piped = capsysbinary.readouterr().out
    assert piped.startswith(b"%PDF-1.7\n")
    assert ocr(page, "--format", "pdf", "-o", tmp_path / "out") == 0
    said = capsysbinary.readouterr()
    assert b"text is placed on 1 page by" in said.err
    assert (tmp_path / "out" / "x.pdf").read_bytes() == piped
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    assert ocr(page, "--format", "pdf") == 2
    assert b"A terminal cannot show a PDF" in capsysbinary.readouterr().err


def test_tables_are_joined_where_asked(engine: StandIn, tmp_path: Path, capsys: Said) -> None:
    engine.answer = lambda image: {"text": f"<table><tr><td>{image.width}</td></tr></table>"}
    tiff = write_tiff(tmp_path / "x.tif", [line_image("x", 100 + n) for n in range(2)])
    assert ocr(tiff, "--join-tables", "--format", "txt") == 0
    table = "<table><tr><td>100</td></tr><tr><td>101</td></tr></table>"
    assert capsys.readouterr().out == f"{table}\n\f\n"


def test_pages_of_documents_with_several_can_be_chosen(engine: StandIn, tmp_path: Path, capsys: Said) -> None:
    pdf, out = write_pdf(tmp_path / "x.pdf", ["line"] * 4), tmp_path / "out"
    assert ocr(pdf, write_png(tmp_path / "y.png"), "--pages", "1-2,4,9", "--dpi", "72", "-o", out) == 1
    assert (out / "x.md").read_text().count("width") == 3
    assert "width 330" in (out / "x.md").read_text()
    said = capsys.readouterr()
    assert "x.pdf: It has 4 pages; there is no page 9." in said.err
    assert "4 pages of 2 documents read into" in said.out


def test_what_fails_is_listed_and_the_rest_is_read(engine: StandIn, tmp_path: Path, capsys: Said) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "secret.pdf").write_bytes(typed(password="x"))
    (tmp_path / "in" / "text.png").write_text("hello")
    write_png(tmp_path / "in" / "fine.png")
    (tmp_path / "in" / "notes.txt").write_text("not taken")
    assert ocr(tmp_path / "in", "-o", tmp_path / "out") == 1
    err = capsys.readouterr().err
    assert "2 could not be read" in err
    assert "secret.pdf: The PDF is encrypted" in err
    assert "text.png: The file holds text" in err
    assert "1 file left out" in err
    assert (tmp_path / "out" / "fine.md").is_file()
    assert ocr(tmp_path / "in", "-o", tmp_path / "out", "--json") == 1
    failed = json.loads(capsys.readouterr().out)["failed"]
    assert [(Path(item["source"]).name, item["page"]) for item in failed] == [
        ("secret.pdf", None),
        ("text.png", None),
    ]


def test_uncertain_words_are_marked_where_asked(engine: StandIn, tmp_path: Path, capsys: Said) -> None:
    engine.answer = lambda image: {"text": "the bridge", "token_ends": (4, 10), "token_logprobs": (-0.01, -1.0)}
    page = write_png(tmp_path / "x.png")
    assert ocr(page) == 0
    assert ocr(page, "--mark-below", "0.8") == 0
    assert ocr(page, "--mark-below", "0.2") == 0
    assert ocr(page, "--mark-below", "0.8", "--format", "txt") == 0
    assert capsys.readouterr().out == "the bridge\nthe <mark>bridge</mark>\nthe bridge\nthe ⟦bridge⟧\n"


def test_a_terminal_shows_uncertain_words_in_colour_and_obeys_no_text(
    engine: StandIn, tmp_path: Path, capsys: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "the \x1b[2Jbridge"
    engine.answer = lambda image: {"text": text, "token_ends": (4, 14), "token_logprobs": (-0.01, -0.5)}
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert ocr(write_png(tmp_path / "x.png")) == 0
    shown = capsys.readouterr().out
    assert "\x1b[2J" not in shown
    assert "the \x1b[33m\ufffd[2Jbridge\x1b[0m" in shown


def test_ctrl_c_says_what_is_kept(engine: StandIn, tmp_path: Path, capsys: Said) -> None:
    tiff, out = write_tiff(tmp_path / "x.tif", [line_image("x", 100 + n) for n in range(9)]), tmp_path / "out"

    def interrupted(requests: Any, *, progress: Any = None) -> Iterator[Any]:
        yield next(StandIn().read(requests))
        raise KeyboardInterrupt

    engine.read = interrupted  # type: ignore[method-assign]
    assert ocr(tiff, "-o", out) == 130
    err = capsys.readouterr().err
    assert f"1 of 9 pages are kept in {out}. To go on, run the same command again." in err
    assert [path.name for path in out.iterdir()] == [".ocrsmith"]
    del engine.read
    assert ocr(tiff, "-o", out) == 0
    assert len(engine.widths) == 8


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["x.png", "--pages", "3-1"], "names no pages"),
        (["x.png", "--pages", "2"], "can have several pages"),
        (["x.pdf", "--pages", "7"], "there is no page 7"),
        (["x.png", "--prompt", "nonsense"], "locate:TEXT"),
        (["x.png", "--prompt", "locate:"], "cannot be searched for"),
        (["x.png", "--format", "docx"], "no format 'docx'"),
        (["x.png", "--format", "md,json"], "cannot all go to stdout"),
        (["x.png", "--format", "md", "--json"], "cannot all go to stdout"),
        (["x.png", "x.pdf"], "2 documents cannot go to stdout"),
        (["x.png", "--mark-below", "7"], "no confidence"),
        (["x.png", "--calibration", "x.txt"], "calibration"),
        (["x.pdf", "--dpi", "1"], "no resolution"),
        (["x.png", "--pictures"], "no folder for pictures"),
        (["x.txt"], "holds text"),
        (["x.txt", "empty.png", "-o", "out"], "similar goes for 1 more"),
        (["secret.pdf"], "--password"),
        (["nowhere.png"], "no such file"),
        (["folder"], "nothing to read"),
        (["x.png", "-o", "x.txt"], "cannot be written"),
        (["x.png", "--engine", "abacus"], "abacus"),
        ([], "FILE"),
        (["-"], "Nothing comes in"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_use_is_explained_before_anything_is_read(
    words: list[str],
    problem: str,
    engine: StandIn,
    tmp_path: Path,
    capsys: Said,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO()))
    write_png(tmp_path / "x.png")
    (tmp_path / "x.txt").write_text("hello")
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    if "x.pdf" in words:
        write_pdf(tmp_path / "x.pdf")
    if "secret.pdf" in words:
        (tmp_path / "secret.pdf").write_bytes(typed(password="x"))
    assert ocr(*words) == 2
    said = capsys.readouterr()
    assert problem in said.err
    assert said.err.count("Error:") == 1
    assert engine.calls == []


def test_options_of_another_engine_are_refused(tmp_path: Path, capsys: Said) -> None:
    page = write_png(tmp_path / "x.png")
    assert ocr(page, "--model", "nano", "--psm", "7") == 2
    assert "psm" in capsys.readouterr().err
    assert ocr(page) == 2
    assert "model" in capsys.readouterr().err
