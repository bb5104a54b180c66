"""`ocrsmith data check` as a command."""

from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image, ImageDraw, ImageFont

from ocrsmith.cli.main import main
from ocrsmith.datasets.schema import to_batch
from ocrsmith.records import PageSample

TEXTS = (
    "The ferry leaves at seven and does not wait.",
    "She folded the map along its oldest crease.",
    "Mr Lockwood of Oldham Cross",
    "Registered 12 May 1931",
    "The harbour dues are paid",
    "Nine boxes of receipts from Westgate",
)


def _line(text: str) -> bytes:
    font = ImageFont.load_default(30)
    image = Image.new("L", (round(font.getlength(text)) + 20, 56), 255)
    ImageDraw.Draw(image).text((10, 8), text, font=font, fill=0)
    stream = BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def _dataset(folder: Path, labels: tuple[str, ...] = TEXTS) -> Path:
    folder.mkdir()
    samples = [
        PageSample(f"line-{place}", _line(text), "", label)
        for place, (text, label) in enumerate(zip(TEXTS, labels, strict=True))
    ]
    pq.write_table(pa.Table.from_batches([to_batch(samples)]), folder / "train.parquet")
    return folder


def test_a_sound_set_is_summed_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "check", str(_dataset(tmp_path / "set")), "--strict"]) == 0
    said = capsys.readouterr().out
    assert "6 samples: train 6" in said
    assert "gundam" in said
    assert "Cheapest mode" in said
    assert "0 errors, 0 warnings" in said


def test_findings_come_with_samples_and_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = _dataset(tmp_path / "set", (TEXTS[0] + "\ufffd", "[bold]\x1b[31m p\u0430ge[/]", *TEXTS[2:]))
    assert main(["data", "check", str(folder)]) == 0
    said = capsys.readouterr().out
    assert "ERROR    Replacement characters" in said
    assert "line-0 (train)" in said
    assert "→ Read the source in its own encoding" in said
    assert "[bold]\\x1b[31m" in said  # neither markup nor orders to the terminal
    assert "\x1b" not in said
    assert "2 errors" in said


def test_strict_fails_on_errors_only(tmp_path: Path) -> None:
    broken = _dataset(tmp_path / "broken", (TEXTS[0] + "\ufffd", *TEXTS[1:]))
    doubtful = _dataset(tmp_path / "doubtful", (TEXTS[0] + " ", *TEXTS[1:]))
    assert main(["data", "check", str(broken), "--strict", "-q"]) == 1
    assert main(["data", "check", str(broken), "-q"]) == 0
    assert main(["data", "check", str(doubtful), "--strict", "-q"]) == 0


def test_json_and_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "report"
    assert main(["data", "check", str(_dataset(tmp_path / "set")), "--json", "-o", str(out)]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["samples"] == 6
    assert result["files"] == [str(out / "check.html"), str(out / "check.json")]
    written = json.loads((out / "check.json").read_text(encoding="utf-8"))
    assert written == {key: value for key, value in result.items() if key != "files"}
    assert (out / "check.html").read_text(encoding="utf-8").startswith("<!doctype html>")


def test_planted_wrong_labels_rank_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The bundled model reads six clean lines; two have the label of another line of about the same length."""
    labels = (TEXTS[1], *TEXTS[1:3], "Registered 17 June 1928", *TEXTS[4:])
    folder = _dataset(tmp_path / "set", labels)
    assert main(["data", "check", str(folder), "--model", "nano", "--json", "-o", str(tmp_path / "out")]) == 0
    result = json.loads(capsys.readouterr().out)
    errors = result["label_errors"]
    assert [error["id"] for error in errors] == ["line-0", "line-3"]
    assert errors[0]["prediction"] == TEXTS[0]
    assert errors[0]["confidence"] > 0.9
    assert result["length"]["exact"] is True
    page = (tmp_path / "out" / "check.html").read_text(encoding="utf-8")
    assert "Labels that the model disagrees with" in page


def test_with_no_read_the_model_only_counts_tokens(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = _dataset(tmp_path / "set")
    assert main(["data", "check", str(folder), "--model", "nano", "--no-read", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["label_errors"] is None
    assert result["length"]["exact"] is True


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["gone"], "There is no dataset here"),
        (["set", "--adapter", "x"], "An adapter needs its model"),
        (["set", "--limit", "0"], "--limit"),
        (["set", "-o", "set/train.parquet"], "not a folder"),
        ([], "DIR"),
    ],
)
def test_wrong_use_is_told(
    words: list[str],
    problem: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    _dataset(tmp_path / "set")
    assert main(["data", "check", *words]) == 2
    assert problem in capsys.readouterr().err
