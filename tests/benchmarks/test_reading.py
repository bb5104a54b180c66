"""The benchmark of reading long PDFs: its input, its ways and its conclusions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pypdfium2
import pytest
from benchmarks.process_peak import Run

from benchmarks import reading
from ocrsmith.errors import SettingsError


def row(way: str, pages: int, peak: float) -> dict[str, Any]:
    return {"way": way, "pages": pages, "peak MB": peak}


def test_the_input_is_the_same_every_time_and_no_two_pages_are_alike(tmp_path: Path) -> None:
    first, second = (reading.write_pdf(tmp_path / name, 4) for name in ("a", "b"))
    assert first.read_bytes() == second.read_bytes()
    with pypdfium2.PdfDocument(first) as document:
        texts = [page.get_textpage().get_text_bounded().splitlines() for page in document]
        pictures = [len(list(page.get_objects(filter=[pypdfium2.raw.FPDF_PAGEOBJ_IMAGE]))) for page in document]
    assert texts == [reading.text_of(number) for number in range(4)]
    assert pictures == [0, 1, 0, 1]


def test_a_run_gives_a_row_and_leaves_nothing_behind(tmp_path: Path) -> None:
    words = ["--pages", "2", "--naive-pages", "0", "--formats", "md,pdf", "--commit", "x"]
    assert reading.main([*words, "--results", str(tmp_path), "--folder", str(tmp_path)]) == 0
    result = json.loads((tmp_path / "reading-memory-cpu.json").read_text())
    (one,) = result["rows"]
    assert (one["way"], one["pages"]) == ("ocrsmith", 2)
    assert one["peak MB"] >= one["main process MB"] * 0.9 > 0
    assert one["PDF MB"] > 0
    assert str(tmp_path) not in json.dumps(result)
    assert [path.name for path in tmp_path.iterdir()] == ["reading-memory-cpu.json"]


def test_the_naive_way_gives_every_page_its_answer(tmp_path: Path) -> None:
    pdf = reading.write_pdf(tmp_path / "x.pdf", 3)
    assert reading.do("naive", pdf, tmp_path / "out", reading.parse([])) == 0
    assert (tmp_path / "out" / "book.txt").read_text().split("\f") == ["\n".join(reading.text_of(0))] * 3
    assert int((tmp_path / "out" / "peak").read_text()) > 0


def test_the_growth_decides_and_pixels_are_counted() -> None:
    found = reading.conclude(
        [row("ocrsmith", 300, 500.0), row("ocrsmith", 3000, 590.0), row("naive", 10, 90.0)]
    )
    assert (found["grown_mb"], found["reached"]) == (90.0, True)
    assert found["naive_mb_for_most"] == pytest.approx(3000 * 1190.56 * 1683.78 * 3 / 1e6)
    assert not reading.conclude([row("ocrsmith", 300, 500.0), row("ocrsmith", 3000, 700.0)])["reached"]
    assert reading.conclude([row("ocrsmith", 300, 500.0)]) == {}


def test_a_run_that_fails_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "run", lambda command, **options: Run(1.0, 1, 1, "no memory"))
    with pytest.raises(SettingsError, match="2 pages failed: no memory"):
        reading.measure("ocrsmith", 2, tmp_path, reading.parse([]))
