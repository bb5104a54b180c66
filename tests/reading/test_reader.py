"""Reading from Python: `ocrsmith.load(model).read(path)`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import ocrsmith
from ocrsmith.engines.confidence import Calibration, Temperature
from ocrsmith.engines.native import NativeEngine
from ocrsmith.errors import InputError, SettingsError
from ocrsmith.reading import Reader, reader
from ocrsmith.reading.prompts import choose_prompt
from ocrsmith.reading.read import Window
from ocrsmith.text import FREE_OCR, PROMPTS

from .conftest import LINES, StandIn, line_image, write_pdf, write_tiff


def test_the_bundled_model_reads_a_pdf_and_a_tiff(tmp_path: Path, nano: NativeEngine) -> None:
    document = Reader(nano).read(write_pdf(tmp_path / "x.pdf"))
    assert [page.text for page in document.pages] == list(LINES)
    assert document.text == "\f".join(LINES)
    assert document.markdown.startswith("<!-- page 1 -->\n\nTotal 1234\n\n<!-- page 2 -->")
    assert document.failed == ()
    first = document.pages[0]
    assert (first.number, first.width, first.height, first.dpi, first.mode) == (1, 600, 80, 144.0, "tiny")
    assert first.confidence is not None
    assert first.confidence > 0.9
    write_tiff(tmp_path / "x.tif", [line_image(line) for line in LINES])
    again = Reader(nano).read(tmp_path / "x.tif", pages="2-3")
    assert [page.text for page in again.pages] == list(LINES[1:])


def test_places_that_the_bundled_model_is_not_sure_of_are_those_it_gets_wrong(
    tmp_path: Path, nano: NativeEngine
) -> None:
    line_image("Total 1234 Ω≈ç√∫ fell").save(tmp_path / "x.png")
    (page,) = Reader(nano).read(tmp_path / "x.png").pages
    assert page.low_confidence
    assert all(page.text[span.start : span.end] == span.text for span in page.low_confidence)
    assert not any("1234" in span.text for span in page.low_confidence)


def test_pages_come_in_order_and_only_a_few_at_a_time(tmp_path: Path) -> None:
    engine = StandIn()  # gives the pages of a window backwards
    path = write_tiff(tmp_path / "x.tif", [line_image("x", 100 + n) for n in range(9)])
    pages = Reader(engine, window=Window(first=2, pages=2)).iter_pages(path)
    assert [next(pages).text, next(pages).text] == ["width 100", "width 101"]
    assert len(engine.widths) <= 4
    assert [page.width for page in pages] == list(range(102, 109))


def test_pages_that_fail_are_in_the_document(tmp_path: Path) -> None:
    engine = StandIn(lambda image: {"text": "", "finish_reason": "error", "error": "no luck"})
    document = Reader(engine).read(write_tiff(tmp_path / "x.tif", [line_image("x")]))
    assert [page.error for page in document.failed] == ["no luck"]
    assert document.markdown == "<!-- page 1: could not be read: no luck -->\n"


def test_what_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_text("hello")
    with pytest.raises(InputError, match="holds text"):
        Reader(StandIn()).read(tmp_path / "x.png")
    with pytest.raises(InputError, match="does not exist"):
        Reader(StandIn()).read(tmp_path / "nothing.png")
    with pytest.raises(InputError, match="no page 4"):
        Reader(StandIn()).read(write_pdf(tmp_path / "x.pdf"), pages="4")


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"prompt": "fre"}, "neither the name"),
        ({"prompt": "locate: "}, "cannot be searched"),
        ({"mark_below": 1.5}, "no confidence"),
        ({"dpi": 1}, "no resolution"),
        ({"engine": "abacus"}, "no engine"),
        ({"calibration": "nowhere.json"}, "no calibration"),
    ],
)
def test_wrong_options_show_before_a_model_is_loaded(
    options: dict[str, Any], problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(NativeEngine, "load", None)
    with pytest.raises((SettingsError, InputError), match=problem):
        ocrsmith.load("nano", **options)


def test_load_hands_on_model_adapter_and_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}

    def open_engine(name: str, **options: Any) -> StandIn:
        given.update(options, engine=name)
        return StandIn()

    monkeypatch.setattr(reader, "open_engine", open_engine)
    Calibration(None, Temperature(2.0, 0.0)).save(tmp_path / "calibration.json")
    opened = ocrsmith.load("m", "a", prompt="ground", calibration=tmp_path, mode="base")
    assert given == {"engine": "native", "model": "m", "adapter": Path("a"), "mode": "base"}
    assert opened.prompt == PROMPTS["ocr_image"]
    assert opened.bounds.calibration is not None


@pytest.mark.parametrize(
    ("given", "prompt"),
    [
        ("free", FREE_OCR),
        ("free_ocr", FREE_OCR),
        ("ground", PROMPTS["ocr_image"]),
        ("locate:the total", "<image>\nLocate <|ref|>the total<|/ref|> in the image."),
        ("<image>\nRead this.", "<image>\nRead this."),
    ],
)
def test_prompts_by_name_or_in_full(given: str, prompt: str) -> None:
    assert choose_prompt(given) == prompt


def test_importing_ocrsmith_is_light() -> None:
    code = "import sys, ocrsmith; print({'numpy', 'PIL', 'torch', 'pydantic'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
